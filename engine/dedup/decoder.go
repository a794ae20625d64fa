package dedup

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// History reads back what the table has.
type History interface {
	// Resume stands on a position that was recovered.
	Resume(ctx context.Context, st engine.State) error
	// Read calls fn with the rows whose Kafka timestamp lies between from and to, in microseconds and both included, and may
	// call it with others: the id, the Kafka timestamp, partition and offset. top is a bound of all timestamps that the table has.
	Read(ctx context.Context, from, to int64, fn func(arrow.RecordBatch) error) (top int64, err error)
}

// Options of New.
type Options struct {
	Pipeline string // for logs and metrics
	Log      *slog.Logger
	Metrics  *Metrics
	Mem      memory.Allocator
	Now      func() time.Time
	Seed     uint64 // of the hash; 0: drawn
}

// Decoder gives the rows of a decoder without those of events that are rows already. It implements engine.Decoder and engine.Follower.
type Decoder struct {
	dec  engine.Decoder
	hist History
	cfg  Config
	opt  Options

	committed atomic.Pointer[offset.Vector]

	ctx    context.Context // of the generation: what is read from the table ends with it
	window *window
	isDead func(int32, int64) bool
	next   offset.Vector   // up to where the partitions were decoded
	clock  map[int32]int64 // greatest timestamp of each partition
	warned time.Time

	ids  []id
	want []int64
	runs [][2]int64
}

var (
	_ engine.Decoder  = (*Decoder)(nil)
	_ engine.Follower = (*Decoder)(nil)
)

const (
	// maxReads bounds how often one stretch may make the table be read. A stretch needs one, unless its timestamps leap; what is
	// beyond it is not read (docs/deduplication.md).
	maxReads = 16
	// warnEvery is how often it is said that a window does not fit.
	warnEvery = time.Minute
)

// New wraps the decoder of a table's rows. Resume comes before the first Decode.
func New(cfg Config, dec engine.Decoder, hist History, o Options) (*Decoder, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%w: dedup.%w", ErrConfig, err)
	}
	sc, err := datafile.SchemaOf(dec.ArrowSchema())
	if err != nil {
		return nil, err
	}
	if err := cfg.Check(sc); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Mem == nil {
		o.Mem = memory.DefaultAllocator
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	return &Decoder{dec: dec, hist: hist, cfg: cfg, opt: o}, nil
}

// ArrowSchema implements engine.Decoder.
func (d *Decoder) ArrowSchema() *arrow.Schema { return d.dec.ArrowSchema() }

// Resume implements engine.Follower.
func (d *Decoder) Resume(ctx context.Context, st engine.State) error {
	if err := d.hist.Resume(ctx, st); err != nil {
		return err
	}
	v := st.Offsets.Clone()
	d.committed.Store(&v)
	d.ctx, d.window, d.isDead, d.next, d.clock = ctx, newWindow(d.cfg), st.IsDead, st.Offsets.Clone(), map[int32]int64{}
	if d.next == nil {
		d.next = offset.Vector{}
	}
	return nil
}

// Committed implements engine.Follower.
func (d *Decoder) Committed(v offset.Vector) { d.committed.Store(&v) }

// Decode implements engine.Decoder.
func (d *Decoder) Decode(f *engine.Fetch) (engine.Decoded, error) {
	if d.window == nil {
		return engine.Decoded{}, fmt.Errorf("deduplicate partition %d [%d,%d): the position has to be recovered first; this is a fault of firn, please report it", f.Partition, f.Start, f.End)
	}
	o, err := d.dec.Decode(f)
	if err != nil {
		return o, err
	}
	if o.Rows != nil && o.Rows.NumRows() > 0 {
		if err = d.rows(f.Partition, &o); err != nil {
			o.Rows.Release()
			return engine.Decoded{}, fmt.Errorf("deduplicate partition %d [%d,%d): %w", f.Partition, f.Start, f.End, err)
		}
	}
	d.next[f.Partition] = f.End
	now := d.opt.Now()
	if n := d.window.tidy(now, *d.committed.Load()); n > 0 {
		d.forgot(n, now)
	}
	d.opt.Metrics.held(d.opt.Pipeline, d.window)
	return o, nil
}

func (d *Decoder) forgot(n int, now time.Time) {
	d.opt.Metrics.forgotten.WithLabelValues(d.opt.Pipeline).Add(float64(n))
	if now.Sub(d.warned) >= warnEvery {
		d.warned = now
		d.opt.Log.Warn("the ids of the deduplication window do not fit: the oldest are forgotten, and events with them become rows again; raise dedup.max_ids or shorten dedup.window",
			"pipeline", d.opt.Pipeline, "max_ids", d.cfg.MaxIDs, "window", d.cfg.Window.D(), "forgotten", n)
	}
}

// rows takes the duplicates out of the rows of a partition.
func (d *Decoder) rows(p int32, o *engine.Decoded) error {
	c, err := columnsOf(o.Rows, d.cfg.Column)
	if err != nil {
		return err
	}
	if d.ids, err = hashes(d.ids[:0], c.id, d.opt.Seed); err != nil {
		return err
	}
	d.window.turn++
	if err := d.remember(p, c); err != nil {
		return err
	}
	d.judge(p, c, o)
	if len(o.Duplicates) == 0 {
		return nil
	}
	next, err := datafile.TakeRuns(d.opt.Mem, o.Rows, d.runs)
	if err != nil {
		return fmt.Errorf("leave out %d of %d rows: %w", len(o.Duplicates), o.Rows.NumRows(), err)
	}
	o.Rows.Release()
	o.Rows, o.LastRow = next, -1
	if next != nil {
		o.LastRow = c.offset.Value(int(d.runs[len(d.runs)-1][1]) - 1)
	}
	return nil
}

// remember sees to it that the slices near the rows are known, and reads those that are not from the table. A row that is more than a
// window older than another one before it in its partition reads nothing: producers' clocks are not to decide how much is read.
func (d *Decoder) remember(p int32, c columns) error {
	w, span := d.window, d.cfg.Window.D().Microseconds()
	clock, known := d.clock[p]
	last, any := int64(0), false
	d.want = d.want[:0]
	for i := range d.ids {
		at := c.time(i)
		if d.skips(p, c, i) || known && at < clock-span {
			continue
		}
		if !known || at > clock {
			clock, known = at, true
		}
		if s := w.of(at); !any || s != last {
			last, any = s, true
			for j := s - slicesInWindow; j <= s+slicesInWindow; j++ {
				d.want = append(d.want, j)
			}
		}
	}
	if !known {
		return nil
	}
	d.clock[p] = clock
	for n, run := range w.missing(d.want) {
		if n < maxReads {
			if err := d.read(run[0], run[1]); err != nil {
				return err
			}
		}
		if n >= maxReads {
			d.opt.Metrics.unread.WithLabelValues(d.opt.Pipeline).Inc()
		}
		for i := run[0]; i <= run[1]; i++ {
			w.at(i).read = true
		}
	}
	return nil
}

// read takes in what the table has of the slices from first to last.
func (d *Decoder) read(first, last int64) error {
	w := d.window
	from, to := w.bounds(first, last)
	var hs []id
	top, err := d.hist.Read(d.ctx, from, to, func(b arrow.RecordBatch) (err error) {
		c, err := columnsOf(b, d.cfg.Column)
		if err != nil {
			return err
		}
		if hs, err = hashes(hs[:0], c.id, d.opt.Seed); err != nil {
			return err
		}
		for i, h := range hs {
			p, o := c.partition.Value(i), c.offset.Value(i)
			s := w.of(c.time(i))
			if end, ours := d.next[p]; h == (id{}) || s < first || s > last || !ours || o >= end || c.partition.IsNull(i) || c.offset.IsNull(i) {
				continue
			}
			w.add(w.at(s), h)
		}
		d.opt.Metrics.loads.WithLabelValues(d.opt.Pipeline).Add(float64(len(hs)))
		return nil
	})
	if err != nil {
		return err
	}
	w.top, w.known = max(w.top, top), true
	return nil
}

// skips tells rows that have no part in it: those without an id, and those that are dead letters already.
func (d *Decoder) skips(p int32, c columns, i int) bool {
	return d.ids[i] == (id{}) || d.isDead != nil && d.isDead(p, c.offset.Value(i))
}

// judge finds the rows that stay, as runs, and the offsets of the others.
func (d *Decoder) judge(p int32, c columns, o *engine.Decoded) {
	w, now := d.window, d.opt.Now()
	var room [2*slicesInWindow + 1]*slice
	var near []*slice
	var own *slice
	last, any, from := int64(0), false, 0
	d.runs = d.runs[:0]
	for i, h := range d.ids {
		if d.skips(p, c, i) {
			continue
		}
		if at := w.of(c.time(i)); !any || at != last {
			own = w.at(at)
			near, last, any = w.near(at, now, &room), at, true
		}
		if !there(near, h) {
			w.add(own, h)
			own.ends(p, c.offset.Value(i)+1)
			continue
		}
		o.Duplicates = append(o.Duplicates, c.offset.Value(i))
		if i > from {
			d.runs = append(d.runs, [2]int64{int64(from), int64(i)})
		}
		from = i + 1
	}
	if n := len(d.ids); n > from {
		d.runs = append(d.runs, [2]int64{int64(from), int64(n)})
	}
}

func there(near []*slice, h id) bool {
	for _, s := range near {
		if s.ids.has(h) {
			return true
		}
	}
	return false
}

// columns are those of a batch that count here.
type columns struct {
	id        arrow.Array
	at        *array.Timestamp
	partition *array.Int32
	offset    *array.Int64
}

func (c columns) time(i int) int64 {
	if c.at.IsNull(i) {
		return 0
	}
	return int64(c.at.Value(i))
}

func columnsOf(b arrow.RecordBatch, name string) (c columns, err error) {
	for i, f := range b.Schema().Fields() {
		switch f.Name {
		case name:
			c.id = b.Column(i)
		case ledger.ColTimestamp:
			c.at, _ = b.Column(i).(*array.Timestamp)
		case ledger.ColPartition:
			c.partition, _ = b.Column(i).(*array.Int32)
		case ledger.ColOffset:
			c.offset, _ = b.Column(i).(*array.Int64)
		}
	}
	if c.id == nil || c.at == nil || c.partition == nil || c.offset == nil {
		return c, fmt.Errorf("%w: rows without the column %s, or those of the ledger", ErrConfig, name)
	}
	return c, nil
}
