package flight

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/query"
)

// A watch has a queue of a few commits, so that a burst goes out in few batches. When it is full the catalog is held back,
// which keeps no queue either: a reader that was slow is told what it missed from the history, and one that is further
// behind than the catalog tells of is told so, and ends.
const (
	// watchQueue is how many commits wait for a slow reader, and how many rows a batch has at most.
	watchQueue = 256
	// watchBeat is how long a stream is silent before an empty batch says that it lives.
	watchBeat = 15 * time.Second
	// watchTaken bounds the wait for a reader that takes nothing.
	watchTaken = time.Minute
)

// watchSchema is the rows of a watch. All but table and version are null where a commit did not move the table's head.
var watchSchema = arrow.NewSchema([]arrow.Field{
	{Name: "table", Type: arrow.BinaryTypes.String},
	{Name: "version", Type: arrow.PrimitiveTypes.Int64},
	{Name: "snapshot_id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "committed_at", Type: &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}, Nullable: true},
	{Name: "operation", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "added_rows", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "total_rows", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "offsets", Type: arrow.MapOf(arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64), Nullable: true},
}, nil)

func (c command) watch() (query.WatchRequest, error) {
	id, err := c.table()
	switch {
	case err != nil:
		return query.WatchRequest{}, err
	case c.After < 0 || c.AfterSnapshot < 0:
		return query.WatchRequest{}, fmt.Errorf("%w: after %d, after_snapshot %d: neither can be negative", ErrBadRequest, c.After, c.AfterSnapshot)
	case c.After != 0 && c.AfterSnapshot != 0:
		return query.WatchRequest{}, fmt.Errorf("%w: after and after_snapshot: leave out one of them", ErrBadRequest)
	}
	return query.WatchRequest{Table: id, After: c.After, AfterSnapshot: c.AfterSnapshot}, nil
}

// sendWatch streams the commits of a table until the reader goes, the watch cannot go on, or the server stops.
func (s *Server) sendWatch(eng query.Engine, c command, stream flight.FlightService_DoGetServer) error {
	r, err := c.watch()
	if err != nil {
		return err
	}
	select {
	case s.watchers <- struct{}{}:
		s.metrics.watches.Inc()
		defer func() { s.metrics.watches.Dec(); <-s.watchers }()
	default:
		return fmt.Errorf("%w: %d watches are running (max_watches): try again, or poll", query.ErrLimit, s.cfg.MaxWatches)
	}
	ctx, cancel := context.WithCancel(stream.Context())
	commits, ended := make(chan query.Commit, watchQueue), make(chan error, 1)
	go func() {
		ended <- eng.Watch(ctx, r, func(c query.Commit) error {
			select {
			case commits <- c:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		close(ended)
	}()
	defer func() {
		cancel()
		for range ended { //nolint:revive // until it is closed: the engine tells nothing after the call has ended
		}
	}()
	w := &watchWriter{s: s, name: quoteIdentifier(r.Table),
		w: flight.NewRecordWriter(&sender{stream: stream, metrics: s.metrics, kind: "watch"}, ipc.WithSchema(watchSchema), ipc.WithAllocator(s.mem))}
	return s.forward(ctx, w, commits, ended)
}

// forward writes commits until something ends.
func (s *Server) forward(ctx context.Context, w *watchWriter, commits <-chan query.Commit, ended <-chan error) error {
	if err := w.send(nil); err != nil { // the schema, and a batch without rows: the watch runs
		return err
	}
	beat := time.NewTicker(watchBeat)
	defer beat.Stop()
	for {
		var rows []query.Commit
		select {
		case c := <-commits:
			rows = waiting(commits, c)
		case <-beat.C:
		case err := <-ended:
			if rows = waiting(commits); len(rows) > 0 {
				err = errors.Join(w.send(rows), err)
			}
			return err
		case <-s.closing:
			return fmt.Errorf("%w: the server stops: watch again, after the version that you saw last", ErrUnavailable)
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := w.send(rows); err != nil {
			return err
		}
		beat.Reset(watchBeat)
	}
}

// waiting takes what is in the queue now.
func waiting(commits <-chan query.Commit, rows ...query.Commit) []query.Commit {
	for len(rows) < watchQueue {
		select {
		case c := <-commits:
			rows = append(rows, c)
		default:
			return rows
		}
	}
	return rows
}

// watchWriter writes commits as record batches.
type watchWriter struct {
	s    *Server
	name string
	w    *flight.Writer
}

// send writes commits, in batches of at most MaxBatch. It returns when the reader's window has taken them, or has not within
// the time for that: then nothing may be written any more, and the end of the call ends what is still being written.
func (w *watchWriter) send(rows []query.Commit) error {
	b, err := watchBatch(w.s.mem, w.name, rows)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	w.s.sends.Go(func() {
		defer b.Release()
		sent <- w.s.sendBatch(w.w, "watch", b)
	})
	late := time.NewTimer(w.s.taken)
	defer late.Stop()
	select {
	case err := <-sent:
		return err
	case <-late.C:
		return fmt.Errorf("%w within %s: watch again, after the version that you saw last", ErrSlowReader, w.s.taken)
	}
}

func watchBatch(mem memory.Allocator, name string, rows []query.Commit) (arrow.RecordBatch, error) {
	b := array.NewRecordBuilder(mem, watchSchema)
	defer b.Release()
	for _, c := range rows {
		b.Field(0).(*array.StringBuilder).Append(name)
		b.Field(1).(*array.Int64Builder).Append(c.Version)
		if !c.Head {
			for _, f := range b.Fields()[2:] {
				f.AppendNull()
			}
			continue
		}
		b.Field(2).(*array.Int64Builder).Append(c.SnapshotID)
		b.Field(3).(*array.TimestampBuilder).Append(arrow.Timestamp(c.At.UnixMilli()))
		if c.Operation == "" {
			b.Field(4).AppendNull()
		} else {
			b.Field(4).(*array.StringBuilder).Append(c.Operation)
		}
		for i, n := range []int64{c.AddedRows, c.TotalRows} {
			if n < 0 {
				b.Field(5 + i).AppendNull()
			} else {
				b.Field(5 + i).(*array.Int64Builder).Append(n)
			}
		}
		if err := appendOffsets(b.Field(7).(*array.MapBuilder), c.Offsets); err != nil {
			return nil, fmt.Errorf("version %d of %s: %w", c.Version, name, err)
		}
	}
	return b.NewRecordBatch(), nil
}

// appendOffsets appends a vector as the catalog keeps it: null where the commit carried none.
func appendOffsets(b *array.MapBuilder, coded string) error {
	if coded == "" {
		b.AppendNull()
		return nil
	}
	v, err := offset.DecodeVector(coded)
	if err != nil {
		return err
	}
	b.Append(true)
	for _, p := range v.Partitions() {
		b.KeyBuilder().(*array.Int32Builder).Append(p)
		b.ItemBuilder().(*array.Int64Builder).Append(v[p])
	}
	return nil
}

const (
	// rewatchMin and rewatchMax bound the pause before a client's watch begins anew; it doubles while nothing is heard.
	rewatchMin = 50 * time.Millisecond
	rewatchMax = 5 * time.Second
)

// Watch calls each, one after the other, for every commit to a table. When the server goes away it begins again by itself,
// behind the last commit that it told of; before the first one, that is at After or AfterSnapshot, and without them at now.
// It returns when ctx ends, when each gives an error, and with the error of the server when the watch cannot go on: catalog.ErrWatchEnded, catalog.ErrNoSuchTable, query.ErrLimit, ErrSlowReader.
func (c *Client) Watch(ctx context.Context, r query.WatchRequest, each func(query.Commit) error) error {
	pause := rewatchMin
	for {
		last := r.After
		var own error
		err := c.watchOnce(ctx, r, func(e query.Commit) error {
			if own = each(e); own == nil {
				r.After, r.AfterSnapshot = e.Version, 0
			}
			return own
		})
		switch {
		case own != nil:
			return own
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.Is(err, ErrUnavailable) && !errors.Is(err, catalog.ErrUnavailable):
			return err
		}
		if r.After != last {
			pause = rewatchMin
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, rewatchMax)
	}
}

// watchOnce reads one stream to its end.
func (c *Client) watchOnce(ctx context.Context, r query.WatchRequest, each func(query.Commit) error) error {
	ticket, err := command{Firn: "watch", Table: quoteIdentifier(r.Table), After: r.After, AfterSnapshot: r.AfterSnapshot}.encode()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res, err := c.open(ctx, cancel, ticket)
	if err != nil {
		return c.failed("watch", err)
	}
	defer res.Release()
	if !res.Schema().Equal(watchSchema) {
		return fmt.Errorf("%w: %s answers a watch with other columns: is it a newer Firn?", ErrBadRequest, c.addr)
	}
	for res.Next(ctx) {
		b := res.RecordBatch()
		for i := range int(b.NumRows()) {
			e, err := watchRow(b, i)
			if err != nil {
				return fmt.Errorf("watch: %s: %w", c.addr, err)
			}
			if err := each(e); err != nil {
				return err
			}
		}
	}
	return res.Err()
}

// watchRow is the inverse of watchBatch.
func watchRow(b arrow.RecordBatch, i int) (query.Commit, error) {
	c := query.Commit{AddedRows: -1, TotalRows: -1}
	number := func(col int, into *int64) {
		if a := b.Column(col).(*array.Int64); a.IsValid(i) {
			*into = a.Value(i)
		}
	}
	number(1, &c.Version)
	if c.Head = b.Column(2).IsValid(i); !c.Head {
		return c, nil
	}
	number(2, &c.SnapshotID)
	number(5, &c.AddedRows)
	number(6, &c.TotalRows)
	if a := b.Column(3).(*array.Timestamp); a.IsValid(i) {
		c.At = time.UnixMilli(int64(a.Value(i))).UTC()
	}
	if a := b.Column(4).(*array.String); a.IsValid(i) {
		c.Operation = a.Value(i)
	}
	m := b.Column(7).(*array.Map)
	if m.IsNull(i) {
		return c, nil
	}
	keys, items := m.Keys().(*array.Int32), m.Items().(*array.Int64)
	from, to := m.ValueOffsets(i)
	v := make(offset.Vector, to-from)
	for j := int(from); j < int(to); j++ {
		if keys.Value(j) < 0 || items.Value(j) < 0 || items.Value(j) == math.MaxInt64 {
			return c, fmt.Errorf("%w: offset %d of partition %d", ErrBadRequest, items.Value(j), keys.Value(j))
		}
		v[keys.Value(j)] = items.Value(j)
	}
	var err error
	c.Offsets, err = v.Encode()
	return c, err
}
