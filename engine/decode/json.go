package decode

import (
	"errors"
	"fmt"
	"hash/maphash"
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

// Options of a JSON decoder. The zero value takes every default.
type Options struct {
	// MaxDepth is how deep objects and arrays may nest, the event itself counted; deeper gives dead letters
	// (too_deep). 0 means DefaultMaxDepth.
	MaxDepth int
	// MaxValueBytes is the largest payload that is read; larger ones give dead letters (too_large). 0 means
	// DefaultMaxValueBytes.
	MaxValueBytes int
	// EventTime is the dotted path of the field that says when the event happened; empty takes the contract's.
	EventTime string
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

// JSON decodes JSON events of one contract into rows of one table schema. It implements engine.Decoder.
type JSON struct {
	opt       Options
	schema    *arrow.Schema
	root      *column
	event     *objectPlan
	led       ledgerColumns
	eventTime *column // nil when the table has none

	// State of the walk over the present payload.
	buf     []byte // the payload and its padding
	size    int    // of the payload
	failure failure
	tmp     []byte // the last string that had escapes
	open    []byte // brackets open in a skipped value
	keys    keySet
	day     dayCache

	unknown int64 // fields read over so far
}

var _ engine.Decoder = (*JSON)(nil)

// NewJSON joins a contract with the current schema of the table that its events go to, ledger columns included. Columns
// that the contract does not have are null in every row. Errors wrap ErrContract and name the column.
func NewJSON(c *Contract, sc *iceberg.Schema, o Options) (*JSON, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	as, err := table.SchemaToArrowSchema(sc, nil, true, false)
	if err != nil {
		return nil, fmt.Errorf("%w: the table's schema has no Arrow form: %w", ErrContract, err)
	}
	d := &JSON{opt: o, schema: as, keys: keySet{seed: maphash.MakeSeed()}, day: newDayCache()}
	pl := planner{contract: c, alloc: o.Mem, maxDepth: o.MaxDepth}
	fields := sc.Fields()
	if d.root, d.event, err = pl.root(fields, as.Fields(), isLedger); err != nil {
		return nil, err
	}
	if err := d.led.find(fields, d.root.kids); err != nil {
		return nil, err
	}
	path := o.EventTime
	if path == "" {
		path = c.EventTime
	}
	if path != "" {
		if err := c.checkEventTime(path); err != nil {
			return nil, err
		}
		d.eventTime = d.event.column(path)
	}
	return d, nil
}

// ArrowSchema implements engine.Decoder.
func (d *JSON) ArrowSchema() *arrow.Schema { return d.schema }

// IgnoredFields is how many fields that the contract does not name were read over since the decoder was made.
func (d *JSON) IgnoredFields() int64 { return d.unknown }

// Decode implements engine.Decoder.
func (d *JSON) Decode(f *engine.Fetch) (engine.Decoded, error) {
	out := engine.Decoded{
		Range:   offset.Range{Partition: f.Partition, Start: f.Start, End: f.End, LeaderEpoch: f.LeaderEpoch},
		LastRow: -1,
		Skipped: f.End - f.Start - int64(len(f.Records)),
	}
	var err error
	if out.Bytes, err = checkFetch(f); err != nil {
		return engine.Decoded{}, err
	}
	d.root.reserve(len(f.Records), int(out.Bytes))
	d.records(f, &out)
	out.TraceIDs = sampleTraceIDs(f.Records)
	if d.root.n == 0 {
		d.root.drop()
		return out, nil
	}
	out.MaxEvent = d.maxEvent()
	if out.Rows, err = d.batch(); err != nil {
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

// records turns each record into a row of the columns or a dead letter.
func (d *JSON) records(f *engine.Fetch, out *engine.Decoded) {
	ingested := clampMicros(d.opt.Now().UnixMicro())
	minKafka := int64(-1) // none yet, as a record says that it has none
	for i := range f.Records {
		r := &f.Records[i]
		if r.TimestampMs >= 0 && (r.TimestampMs < minKafka || minKafka < 0) {
			minKafka = r.TimestampMs
		}
		if !d.payload(r.Value) {
			d.root.rollback(d.led.partition.n)
			out.Dead = append(out.Dead, d.deadLetter(r))
			continue
		}
		d.led.partition.appendInt32(f.Partition)
		d.led.offset.appendInt64(r.Offset)
		d.led.timestamp.appendInt64(kafkaMicros(r.TimestampMs))
		d.led.ingested.appendInt64(ingested)
		out.LastRow = r.Offset
	}
	if minKafka >= 0 {
		out.MinKafka = time.UnixMicro(kafkaMicros(minKafka)).UTC()
	}
}

// payload reads one event into the columns of the contract. On false d.failure says why, and the columns hold parts of
// a row that the caller takes back.
func (d *JSON) payload(value []byte) bool {
	d.size = len(value)
	d.failure = failure{}
	switch {
	case len(value) == 0:
		d.fail(ReasonEmptyValue, 0, "the record has no value")
		return false
	case len(value) > d.opt.MaxValueBytes:
		d.fail(ReasonTooLarge, 0, "the value has %d bytes, at most %d are read", len(value), d.opt.MaxValueBytes)
		return false
	}
	d.buf = append(append(d.buf[:0], value...), zeroPad[:]...)
	b := d.buf
	p := space(b, 0)
	if b[p] != '{' {
		return d.noObject(b, p)
	}
	if p = d.object(d.event, b, p+1); p < 0 {
		return false
	}
	if b[p] <= ' ' {
		p = space(b, p)
	}
	if p != d.size {
		d.fail(ReasonInvalidJSON, p, "found %s after the end of the event", describeByte(b[p]))
		return false
	}
	return true
}

// noObject tells an event that is another JSON value from one that is no JSON at all.
func (d *JSON) noObject(b []byte, p int) bool {
	end := d.skip(b, p, 0)
	if end < 0 {
		return false
	}
	if end = space(b, end); end != d.size {
		d.fail(ReasonInvalidJSON, end, "found %s after the end of the event", describeByte(b[end]))
		return false
	}
	d.fail(ReasonWrongType, p, "%s where the contract wants object", typeOfByte(b[p]))
	return false
}

// maxEvent is the greatest event time of the rows at hand; zero when none has one.
func (d *JSON) maxEvent() time.Time {
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

// batch hands the columns over as one record batch.
func (d *JSON) batch() (arrow.RecordBatch, error) {
	rows := d.led.partition.n
	cols := make([]arrow.Array, 0, len(d.root.kids))
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for _, k := range d.root.kids {
		data, err := k.array(rows)
		if err != nil {
			return nil, err
		}
		cols = append(cols, array.MakeFromData(data))
		data.Release()
	}
	d.root.reset()
	return array.NewRecordBatch(d.schema, cols, int64(rows)), nil
}

// ledgerColumns are the columns that every row has beside its event. They are as long as the rows that are complete.
type ledgerColumns struct{ partition, offset, timestamp, ingested *column }

func isLedger(name string) bool {
	switch name {
	case ledger.ColPartition, ledger.ColOffset, ledger.ColTimestamp, ledger.ColIngestedAt:
		return true
	}
	return false
}

func (l *ledgerColumns) find(fields []iceberg.NestedField, cols []*column) error {
	for _, want := range []struct {
		name string
		typ  iceberg.Type
		col  **column
	}{
		{ledger.ColPartition, iceberg.PrimitiveTypes.Int32, &l.partition},
		{ledger.ColOffset, iceberg.PrimitiveTypes.Int64, &l.offset},
		{ledger.ColTimestamp, iceberg.PrimitiveTypes.TimestampTz, &l.timestamp},
		{ledger.ColIngestedAt, iceberg.PrimitiveTypes.TimestampTz, &l.ingested},
	} {
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
