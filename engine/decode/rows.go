package decode

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// ErrFetch reports a Fetch that breaks the contract of engine.Source: nothing of it was decoded.
var ErrFetch = errors.New("fetched records cannot be decoded")

// Defaults of Options.
const (
	// DefaultMaxDepth is deeper than events are and far below what would let brackets alone fill the memory.
	DefaultMaxDepth = 64
	// DefaultMaxValueBytes is sixteen times what a Kafka broker takes by default.
	DefaultMaxValueBytes = 16 << 20
)

// maxFetchBytes bounds the payload bytes of one Fetch: a string column of one batch counts its bytes in an int32.
const maxFetchBytes = math.MaxInt32 - padding

// padding is how many NUL bytes follow the payload in the decoder's buffer. The walk reads whole words past the end; a
// NUL ends every token of JSON, so it never goes on there.
const padding = 64

var zeroPad [padding]byte

// Options of a decoder. The zero value takes every default.
type Options struct {
	// MaxDepth is how deep objects and arrays may nest, the event itself counted; deeper gives dead letters
	// (too_deep). 0 means DefaultMaxDepth.
	MaxDepth int
	// MaxValueBytes is the largest payload that is read; larger ones give dead letters (too_large). 0 means
	// DefaultMaxValueBytes.
	MaxValueBytes int
	// EventTime is the dotted path of the field that says when the event happened; empty takes the contract's.
	EventTime string
	// OnIncompatible is what becomes of events in a schema that the table cannot follow; empty: DeadLetter.
	OnIncompatible string
	// Mem gives the buffers of the batches; nil means Arrow's default, which is Go's heap.
	Mem memory.Allocator
	// Now is the clock for _ingested_at; nil means time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() (Options, error) {
	if o.MaxDepth < 0 || o.MaxValueBytes < 0 || o.MaxValueBytes > maxFetchBytes {
		return o, fmt.Errorf("decode options: max depth %d and max value bytes %d must be positive, the latter at most %d; leave them out for %d and %d",
			o.MaxDepth, o.MaxValueBytes, maxFetchBytes, DefaultMaxDepth, DefaultMaxValueBytes)
	}
	if o.MaxDepth == 0 {
		o.MaxDepth = DefaultMaxDepth
	}
	if o.MaxValueBytes == 0 {
		o.MaxValueBytes = DefaultMaxValueBytes
	}
	if o.Mem == nil {
		o.Mem = memory.DefaultAllocator
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

// rows is what the decoders of all formats share: the columns of one table, filled record by record, and the way from a
// Fetch to a batch and dead letters. A format adds read.
type rows struct {
	opt       Options
	schema    *arrow.Schema
	table     *iceberg.Schema // the table's, with the columns that the contract needs beside
	root      *column
	led       ledgerColumns
	eventTime *column // nil when the table has none
	extras    extraColumns
	rules     ruleSet
	ruled     bool // there are rules
	lines     bool // a record holds many events
	envelope  bool // an event is a change of a row; a record without a value is none

	ingestedAt int64 // of the rows of the present batch, microseconds

	// read reads one payload into the columns of the contract. On false failure says why, and the columns hold parts of a
	// row, which are taken back; or halt says why nothing can be decoded now, this payload included.
	read func(value []byte) bool
	halt error

	bytes   int64  // of the payloads of the present batch
	size    int    // of the present payload
	inside  string // JSON pointer to the part of the present payload that the row is made of
	partial bool   // and that part need not have what the contract requires
	failure failure
	unknown int64 // fields read over so far
}

func newRows(c *Contract, sc *iceberg.Schema, o Options) (rows, *objectPlan, error) {
	o, err := o.withDefaults()
	if err != nil {
		return rows{}, nil, err
	}
	c = c.onto(sc, o.OnIncompatible == NewColumn)
	sc, misfit := c.grow(sc)
	as, err := table.SchemaToArrowSchema(sc, nil, true, false)
	if err != nil {
		return rows{}, nil, fmt.Errorf("%w: the table's schema has no Arrow form: %w", ErrContract, err)
	}
	d := rows{opt: o, schema: as, table: sc, lines: c.lines, envelope: c.envelope}
	pl := planner{contract: c, alloc: o.Mem, maxDepth: o.MaxDepth}
	fields := sc.Fields()
	var event *objectPlan
	if d.root, event, err = pl.root(fields, as.Fields(), ledger.IsColumn); err != nil {
		return rows{}, nil, err
	}
	d.extras = pl.extras
	if misfit != nil { // the planner found nothing that it could say more of
		return rows{}, nil, misfit
	}
	if d.rules, err = newRuleSet(c, event, pl.flags); err != nil {
		return rows{}, nil, err
	}
	d.ruled = len(d.rules.rules) > 0
	if err := d.led.find(fields, d.root.kids, c.lines, c.topics); err != nil {
		return rows{}, nil, err
	}
	path := o.EventTime
	if path == "" {
		path = c.EventTime
	}
	if path != "" {
		if err := c.checkEventTime(path); err != nil {
			return rows{}, nil, err
		}
		if d.eventTime = event.column(path); d.eventTime == nil {
			d.eventTime = d.extras[extraTime]
		}
	}
	return d, event, nil
}

// ArrowSchema implements engine.Decoder.
func (d *rows) ArrowSchema() *arrow.Schema { return d.schema }

// IgnoredFields is how many fields that the contract does not name were read over since the decoder was made.
func (d *rows) IgnoredFields() int64 { return d.unknown }

// Decode implements engine.Decoder.
func (d *rows) Decode(f *engine.Fetch) (engine.Decoded, error) {
	out := engine.Decoded{
		Range:   offset.Range{Partition: f.Partition, Start: f.Start, End: f.End, LeaderEpoch: f.LeaderEpoch},
		LastRow: -1,
		Skipped: f.End - f.Start - int64(len(f.Records)),
	}
	var err error
	if out.Bytes, err = checkFetch(f); err != nil {
		return engine.Decoded{}, err
	}
	d.bytes = out.Bytes
	d.root.reserve(d.expect(f), int(out.Bytes))
	if d.records(f, &out); d.halt != nil {
		err, d.halt = d.halt, nil
		d.rules.take() // the same records come again
		d.root.drop()
		return engine.Decoded{}, err
	}
	out.TraceIDs = sampleTraceIDs(f.Records)
	out.Complete, out.Violations = d.rules.completeRows(d.led.offset.n), d.rules.take()
	out.Events = int64(d.led.offset.n + len(out.Dead))
	if d.root.n == 0 {
		d.root.drop()
		return out, nil
	}
	out.MaxEvent = d.maxEvent()
	if out.Rows, err = d.handOver(f); err != nil {
		d.root.drop()
		return engine.Decoded{}, fmt.Errorf("decode partition %d [%d,%d): %w", f.Partition, f.Start, f.End, err)
	}
	return out, nil
}

// checkFetch holds a Fetch to what engine.Source promises, because offsets that are not what they seem would break the
// ledger for good. It returns the payload bytes.
func checkFetch(f *engine.Fetch) (int64, error) {
	var size int64
	if f.Start < 0 || f.End < f.Start {
		return 0, fmt.Errorf("%w: partition %d: [%d,%d) is no stretch; this is a fault of the source, please report it", ErrFetch, f.Partition, f.Start, f.End)
	}
	next := f.Start
	for i := range f.Records {
		r := &f.Records[i]
		if second := r.Line > 0 && i > 0 && r.Offset == f.Records[i-1].Offset && r.Line > f.Records[i-1].Line; second {
			size += int64(len(r.Value))
			continue
		}
		if r.Offset < next || r.Offset >= f.End {
			return 0, fmt.Errorf("%w: partition %d: offset %d follows %d in a stretch [%d,%d); this is a fault of the source, please report it",
				ErrFetch, f.Partition, r.Offset, next-1, f.Start, f.End)
		}
		next = r.Offset + 1
		size += int64(len(r.Value))
	}
	if size > maxFetchBytes {
		return 0, fmt.Errorf("%w: partition %d [%d,%d) holds %d payload bytes, one batch takes %d: lower the fetch size",
			ErrFetch, f.Partition, f.Start, f.End, size, maxFetchBytes)
	}
	return size, nil
}

// records turns each record into rows of the columns and dead letters.
func (d *rows) records(f *engine.Fetch, out *engine.Decoded) {
	d.ingestedAt = clampMicros(d.opt.Now().UnixMicro())
	minKafka := int64(-1) // none yet, as a record says that it has none
	for i := range f.Records {
		r := &f.Records[i]
		if r.TimestampMs >= 0 && (r.TimestampMs < minKafka || minKafka < 0) {
			minKafka = r.TimestampMs
		}
		if d.envelope && r.Value == nil {
			out.Filtered = append(out.Filtered, r.Offset)
			continue
		}
		if d.lines && r.Line == 0 {
			d.eachLine(r, out)
		} else {
			d.event(r, r.Value, r.Line, out)
		}
		if d.halt != nil {
			return
		}
	}
	if minKafka >= 0 {
		out.MinKafka = time.UnixMicro(kafkaMicros(minKafka)).UTC()
	}
}

// event turns one event of a record into a row or a dead letter.
func (d *rows) event(r *engine.Record, value []byte, line int32, out *engine.Decoded) {
	if !d.read(value) {
		d.root.rollback(d.led.offset.n)
		if d.halt != nil {
			return
		}
		if !d.envelope || d.inside != "" { // what an envelope lacks is no column's
			d.rules.refused(d.failure, d.inside)
		}
		out.Dead = append(out.Dead, d.deadLetter(r, value, line))
		return
	}
	if d.ruled && !d.keeps() {
		out.Dead = append(out.Dead, d.deadLetter(r, value, line))
		return
	}
	d.led.offset.appendInt64(r.Offset)
	if d.led.index != nil {
		d.led.index.appendInt32(line - 1)
	}
	d.led.timestamp.appendInt64(kafkaMicros(r.TimestampMs))
	out.LastRow = r.Offset
}

// keeps holds the row that was just read against the rules of the contract; false when it is a dead letter.
func (d *rows) keeps() bool {
	row := d.led.offset.n
	r := d.rules.hold(row, d.partial)
	if r == nil {
		return true
	}
	d.failure = failure{reason: r.reason, place: d.inside + r.place(), message: cut(r.wanted(), maxMessage)}
	d.root.rollback(row)
	return false
}

// maxEvent is the greatest event time of the rows at hand; zero when none has one.
func (d *rows) maxEvent() time.Time {
	c := d.eventTime
	if c == nil || c.nulls == c.n {
		return time.Time{}
	}
	best := int64(math.MinInt64)
	for i := range c.n {
		if v := int64(load64(c.data, i*8)); v > best && (c.bits == nil || c.bits[i>>3]&(1<<(i&7)) != 0) {
			best = v
		}
	}
	return time.UnixMicro(best).UTC()
}

// handOver hands the columns over as one record batch; what is the same in every row is filled in here.
func (d *rows) handOver(f *engine.Fetch) (arrow.RecordBatch, error) {
	n := d.led.offset.n
	if d.led.topic != nil {
		d.led.topic.fillText(n, f.Topic)
	}
	d.led.partition.fillInt32(n, f.Partition)
	d.led.ingested.fillInt64(n, d.ingestedAt)
	cols := make([]arrow.Array, 0, len(d.root.kids))
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for _, k := range d.root.kids {
		data, err := k.array(n)
		if err != nil {
			return nil, err
		}
		cols = append(cols, array.MakeFromData(data))
		data.Release()
	}
	d.root.reset()
	return array.NewRecordBatch(d.schema, cols, int64(n)), nil
}

// ledgerColumns are the columns that every row has beside its event. offset is as long as the rows that are complete.
//
// index is nil unless a record may give many rows, topic unless several go to the table.
type ledgerColumns struct{ topic, partition, offset, index, timestamp, ingested *column }

func (l *ledgerColumns) find(fields []iceberg.NestedField, cols []*column, lines, topics bool) error {
	type wanted struct {
		name string
		typ  iceberg.Type
		col  **column
	}
	all := []wanted{
		{ledger.ColPartition, iceberg.PrimitiveTypes.Int32, &l.partition},
		{ledger.ColOffset, iceberg.PrimitiveTypes.Int64, &l.offset},
		{ledger.ColTimestamp, iceberg.PrimitiveTypes.TimestampTz, &l.timestamp},
		{ledger.ColIngestedAt, iceberg.PrimitiveTypes.TimestampTz, &l.ingested},
	}
	if lines {
		all = append(all, wanted{ledger.ColIndex, iceberg.PrimitiveTypes.Int32, &l.index})
	}
	if topics {
		all = append(all, wanted{ledger.ColTopic, iceberg.PrimitiveTypes.String, &l.topic})
	}
	for _, want := range all {
		for i, f := range fields {
			if f.Name != want.name {
				continue
			}
			if !f.Type.Equals(want.typ) {
				return fmt.Errorf("%w: the table's column %s is %s and must be %s: firn needs it to prove that no row is lost or doubled; restore its type",
					ErrContract, want.name, f.Type, want.typ)
			}
			*want.col = cols[i]
		}
		if *want.col == nil {
			return fmt.Errorf("%w: the table has no column %s %s: firn needs it to prove that no row is lost or doubled; add it",
				ErrContract, want.name, want.typ)
		}
	}
	return nil
}

// kafkaMicros is a Kafka timestamp as a timestamptz. Producers may write any 64 bits: what lies outside the years 0000
// to 9999 becomes the nearest instant within.
func kafkaMicros(ms int64) int64 {
	return min(max(ms, minMicros/1000), maxMicros/1000) * 1000
}

func clampMicros(us int64) int64 { return min(max(us, minMicros), maxMicros) }
