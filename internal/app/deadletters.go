package app

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/engine/transform"
	"github.com/firnlake/firn/internal/deadletter"
	"github.com/firnlake/firn/internal/snapshot"
)

// maxListed bounds the letters that a listing holds in memory before it sorts and cuts them.
const maxListed = 200_000

// DeadLetterOptions choose dead letters of a table.
type DeadLetterOptions struct {
	deadletter.Filter
	All   bool // those that were redriven as well
	Limit int  // of a listing; 0: all, up to 200,000
}

// DeadLetterStat counts the letters of one reason at one place.
type DeadLetterStat struct {
	Reason   string    `json:"reason"`
	Place    string    `json:"place"`
	Letters  int64     `json:"letters"`
	Redriven int64     `json:"redriven"`
	First    time.Time `json:"first"` // Kafka time
	Last     time.Time `json:"last"`
	Example  string    `json:"example"` // message of the last
}

// scanLetters calls fn with the letters of a table's dead-letter table.
func (c *Client) scanLetters(ctx context.Context, name string, f *deadletter.Filter, payload bool, fn func(*deadletter.Letter) error) error {
	t, err := c.fedTable(ctx, name)
	if err != nil {
		return err
	}
	defer t.close()
	dead, err := t.cat.LoadTable(ctx, c.deadTable(t.Identifier), catalog.LoadRefs)
	if err != nil {
		return fmt.Errorf("dead letters of %s: %w", name, err)
	}
	head := dead.Metadata.CurrentSnapshot()
	if head == nil {
		return nil
	}
	files, err := snapshot.LiveFiles(ctx, t.wh, head, nil)
	if err != nil {
		return fmt.Errorf("dead letters of %s: %w", name, err)
	}
	return deadletter.Files(ctx, t.wh, files, deadletter.Columns(dead.Metadata.CurrentSchema(), payload), func(_ snapshot.File, l *deadletter.Letter) error {
		if !f.Match(l) {
			return nil
		}
		return fn(l)
	})
}

// deadTable is the dead-letter table of a table: as the configuration says, else by its name.
func (c *Client) deadTable(id catalog.Identifier) catalog.Identifier {
	if dead := c.deadLettersOf(id); dead != nil {
		return dead
	}
	return append(slices.Clone(id.Namespace()), id.Name()+"_dead")
}

// DeadLetters lists dead letters without their payload, the newest first.
func (c *Client) DeadLetters(ctx context.Context, name string, o DeadLetterOptions) ([]deadletter.Letter, error) {
	out := []deadletter.Letter{}
	err := c.scanLetters(ctx, name, &o.Filter, false, func(l *deadletter.Letter) error {
		if l.Redriven != 0 && !o.All {
			return nil
		}
		if len(out) == maxListed {
			return fmt.Errorf("%w: more than %d dead letters: narrow them by reason, partition or time, or see firn deadletters stats", ErrUsage, maxListed)
		}
		out = append(out, *l)
		return nil
	})
	slices.SortFunc(out, func(a, b deadletter.Letter) int {
		return cmp.Or(b.Ingested.Compare(a.Ingested), cmp.Compare(a.Partition, b.Partition), cmp.Compare(b.Offset, a.Offset))
	})
	if o.Limit > 0 && len(out) > o.Limit {
		out = out[:o.Limit]
	}
	return out, err
}

// DeadLetter returns one letter with its payload.
// line chooses one of a record with several events; 0 takes the first that is found.
func (c *Client) DeadLetter(ctx context.Context, name string, partition int32, offset int64, line int32) (*deadletter.Letter, error) {
	var out *deadletter.Letter
	err := c.scanLetters(ctx, name, &deadletter.Filter{Partitions: []int32{partition}, Offsets: []int64{offset}}, true, func(l *deadletter.Letter) error {
		if l.Line == line || (line == 0 && (out == nil || l.Line < out.Line)) {
			out = l
		}
		return nil
	})
	if err == nil && out == nil {
		err = fmt.Errorf("%w: %s has no dead letter of partition %d at offset %d: firn deadletters list %s", ErrUsage, name, partition, offset, name)
	}
	return out, err
}

// DeadLetterStats counts dead letters by reason and place, the most frequent first.
func (c *Client) DeadLetterStats(ctx context.Context, name string, f deadletter.Filter) ([]DeadLetterStat, error) {
	by := map[[2]string]*DeadLetterStat{}
	err := c.scanLetters(ctx, name, &f, false, func(l *deadletter.Letter) error {
		key := [2]string{l.Reason, l.Place}
		s := by[key]
		if s == nil {
			s = &DeadLetterStat{Reason: l.Reason, Place: l.Place, First: l.Timestamp}
			by[key] = s
		}
		s.Letters++
		if l.Redriven != 0 {
			s.Redriven++
		}
		if l.Timestamp.Before(s.First) {
			s.First = l.Timestamp
		}
		if !l.Timestamp.Before(s.Last) {
			s.Last, s.Example = l.Timestamp, l.Message
		}
		return nil
	})
	out := make([]DeadLetterStat, 0, len(by))
	for _, s := range by {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b DeadLetterStat) int {
		return cmp.Or(cmp.Compare(b.Letters, a.Letters), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Place, b.Place))
	})
	return out, err
}

// RedriveOptions are the choices of firn deadletters redrive.
type RedriveOptions struct {
	deadletter.Filter
	Again  bool
	DryRun bool
}

// RedriveReport is what a redrive did, or would do.
type RedriveReport struct {
	Table     string         `json:"table"`
	Chosen    int            `json:"chosen"`
	Rows      int            `json:"rows"`
	Present   int            `json:"present"` // their rows were there before
	Still     map[string]int `json:"still_dead,omitempty"`
	Sealed    string         `json:"sealed,omitempty"` // why the first that was redacted or encrypted could not be opened
	Ahead     int            `json:"ahead"`            // the pipeline stands before them
	More      bool           `json:"more,omitempty"`
	Snapshots []int64        `json:"snapshot_ids,omitempty"`
}

// Redrive sends chosen dead letters through the decoder again, with the contract as it is now, and takes what is valid into
// the table. It commits in parts, each exactly once; what is left when it fails is redriven by the next call.
func (c *Client) Redrive(ctx context.Context, name string, o RedriveOptions) (*RedriveReport, error) {
	t, err := c.fedTable(ctx, name)
	if err != nil {
		return nil, err
	}
	defer t.close()
	r := &RedriveReport{Table: t.Identifier.String(), Still: map[string]int{}}
	rows, end, err := c.rowMaker(ctx, t.Identifier, &r.Sealed)
	if err != nil {
		return nil, err
	}
	defer end()
	for {
		got, err := commit.Redrive(ctx, t.cat, t.wh, t.Identifier, c.deadTable(t.Identifier), t.pipeline, commit.RedriveOptions{Filter: o.Filter, Again: o.Again, DryRun: o.DryRun}, rows)
		if err != nil {
			return r, err
		}
		r.Chosen, r.Rows, r.Present, r.Ahead, r.More = r.Chosen+got.Chosen, r.Rows+got.Rows, r.Present+got.Present, got.Ahead, got.More
		for reason, n := range got.Still {
			r.Still[reason] += n
		}
		if got.SnapshotID != 0 {
			r.Snapshots = append(r.Snapshots, got.SnapshotID)
		}
		// A part in which nothing could be redriven would be chosen again.
		if !got.More || o.DryRun || got.DeadSnapshotID == 0 {
			return r, nil
		}
	}
}

// rowMaker decodes letters as the configuration's pipeline of the table would; end gives back what it holds.
func (c *Client) rowMaker(ctx context.Context, id catalog.Identifier, sealed *string) (_ commit.RowMaker, end func(), err error) {
	pl := demoPipeline()
	at := slices.IndexFunc(c.cfg.Pipelines, func(p Pipeline) bool { rows, _ := p.tables(); return rows.String() == id.String() })
	switch {
	case at >= 0:
		pl = c.cfg.Pipelines[at]
	case pl.Table != id.String():
		return nil, nil, fmt.Errorf("%w: the contract of %s is not known: name the configuration with -c", ErrUsage, id)
	}
	f, err := c.cfg.newFormat(pl, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	contract, err := f.contractNow(ctx)
	if err != nil {
		f.close()
		return nil, nil, err
	}
	return func(sc *iceberg.Schema, letters []deadletter.Letter) ([]arrow.RecordBatch, []engine.Dead, error) {
		return decodeLetters(f, contract, sc, letters, sealed)
	}, f.close, nil
}

// maxDecoded bounds the records that are decoded at once.
const maxDecoded = 10_000

// decodeLetters reads letters, which are sorted by partition and offset, as records of their partitions.
func decodeLetters(f *format, contract *decode.Contract, sc *iceberg.Schema, letters []deadletter.Letter, sealed *string) (rows []arrow.RecordBatch, still []engine.Dead, err error) {
	policy := decode.DeadLetter // a letter that stays one stops no redrive
	if f.cfg.OnIncompatible == decode.NewColumn {
		policy = decode.NewColumn
	}
	dec, err := f.decoder(contract, sc, policy)
	if err != nil {
		return nil, nil, err
	}
	plan, err := f.transform(contract)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			for _, r := range rows {
				r.Release()
			}
			rows = nil
		}
	}()
	letters, still = opened(plan, letters, sealed)
	for len(letters) > 0 {
		n := 1
		// A whole record with many events goes by itself: it becomes rows only when all of its lines do.
		alone := func(l *deadletter.Letter) bool { return contract.Lines() && l.Line == 0 }
		for !alone(&letters[0]) && n < len(letters) && n < maxDecoded && letters[n].Partition == letters[0].Partition && !alone(&letters[n]) {
			n++
		}
		p := letters[0].Partition
		fetch := &engine.Fetch{Partition: p, Topic: letters[0].Topic, Start: letters[0].Offset, End: letters[n-1].Offset + 1, LeaderEpoch: -1, FetchedAt: time.Now()}
		for _, l := range letters[:n] {
			fetch.Records = append(fetch.Records, engine.Record{Offset: l.Offset, Line: l.Line, TimestampMs: l.Timestamp.UnixMilli(), Key: l.Key, Value: l.Value})
		}
		d, err := dec.Decode(fetch)
		if err != nil {
			return rows, nil, fmt.Errorf("decode dead letters of partition %d: %w", p, err)
		}
		if alone(&letters[0]) && len(d.Dead) > 0 {
			if d.Rows != nil {
				d.Rows.Release()
			}
			d.Rows, d.Dead = nil, d.Dead[:1]
		}
		if d.Rows != nil {
			rows = append(rows, d.Rows)
		}
		for _, l := range d.Dead {
			still = append(still, engine.Dead{Partition: p, DeadLetter: l})
		}
		for _, o := range d.Filtered { // it was accounted for as a dead letter, and stays one
			still = append(still, engine.Dead{Partition: p, DeadLetter: engine.DeadLetter{Reason: reasonFiltered, Offset: o}})
		}
		letters = letters[n:]
	}
	return rows, still, nil
}

// reasonFiltered is of letters that the filter keeps out by now.
const reasonFiltered = "filtered"

// opened gives letters the records that they were sealed with. Those that cannot be opened are dead still, and sealed is why.
func opened(plan *transform.Plan, letters []deadletter.Letter, sealed *string) (open []deadletter.Letter, still []engine.Dead) {
	for _, l := range letters {
		r, err := plan.Open(l.Partition, l.Offset, transform.Record{Key: l.Key, Value: l.Value, Headers: l.Headers})
		if err != nil {
			if *sealed == "" {
				*sealed = err.Error()
			}
			still = append(still, engine.Dead{Partition: l.Partition, DeadLetter: engine.DeadLetter{Reason: transform.WhyClosed(err), Offset: l.Offset}})
			continue
		}
		l.Key, l.Value, l.Headers = r.Key, r.Value, r.Headers
		open = append(open, l)
	}
	return open, still
}
