package decode

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/bench/events"
	"github.com/firnlake/firn/bench/report"
	"github.com/firnlake/firn/engine"
	firn "github.com/firnlake/firn/engine/decode"
)

// payloadColumns is how many columns of the table come from the payload; the ledger's follow.
const payloadColumns = 6

type options struct {
	report.Options
	events, batch int
	seconds       float64
}

func (o *options) validate() error {
	if err := o.Validate(); err != nil {
		return err
	}
	if o.events < 1 || o.batch < 1 || o.seconds <= 0 {
		return fmt.Errorf("-events %d, -batch %d and -seconds %g must be positive", o.events, o.batch, o.seconds)
	}
	return nil
}

// decoder is one contestant: it turns a stretch into a record batch.
type decoder struct {
	name   string
	decode func(*engine.Fetch) (arrow.RecordBatch, error)
}

// contest is one format's log and who decodes it, Firn first.
type contest struct {
	format   string
	in       *events.Log
	decoders []decoder
}

// Main runs the benchmark with its command line and prints to stdout.
func Main(ctx context.Context, args []string, stdout io.Writer) error {
	var o options
	fs := flag.NewFlagSet("decode", flag.ContinueOnError)
	o.Register(fs)
	fs.IntVar(&o.events, "events", 100_000, "distinct events in the input")
	fs.IntVar(&o.batch, "batch", 2000, "events of one fetch, which give one record batch")
	fs.Float64Var(&o.seconds, "seconds", 1, "CPU seconds of each measurement")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if err := o.validate(); err != nil {
		return err
	}
	in := events.New(o.Seed, o.events, o.batch)
	contests, err := allContests(in)
	if err != nil {
		return err
	}
	rep := report.New("decode", stdout, o.JSON)
	rep.Set("seed", o.Seed)
	rep.Set("events", o.events)
	rep.Set("batch", o.batch)
	for _, c := range contests {
		rep.Set(c.format+"_event_bytes", c.in.Bytes/int64(c.in.Events))
	}
	if err := measureAll(ctx, rep, contests, o); err != nil {
		return err
	}
	return rep.Close()
}

func contestants() ([]decoder, error) {
	c, err := firn.LoadContract(events.Contract())
	if err != nil {
		return nil, err
	}
	sc := c.IcebergSchema()
	ours, err := firn.NewJSON(c, sc, firn.Options{})
	if err != nil {
		return nil, err
	}
	payload := arrow.NewSchema(ours.ArrowSchema().Fields()[:payloadColumns], nil)
	return []decoder{
		firnDecoder(ours),
		{"fastjson", newFastJSON(payload).decode},
		{"arrow-go", newArrowGo(payload).decode},
	}, checkColumns(sc)
}

func checkColumns(sc *iceberg.Schema) error {
	if n := sc.NumFields(); n != payloadColumns+4 {
		return fmt.Errorf("the contract has %d columns, %d and the ledger's 4 were expected", n, payloadColumns)
	}
	return nil
}

func firnDecoder(d engine.Decoder) decoder {
	return decoder{"firn", func(f *engine.Fetch) (arrow.RecordBatch, error) { return decodeFirn(d, f) }}
}

func decodeFirn(d engine.Decoder, f *engine.Fetch) (arrow.RecordBatch, error) {
	out, err := d.Decode(f)
	if err != nil {
		return nil, err
	}
	if len(out.Dead) > 0 {
		return nil, fmt.Errorf("event %d became a dead letter: %s %s %s", out.Dead[0].Offset, out.Dead[0].Reason, out.Dead[0].Place, out.Dead[0].Message)
	}
	return out.Rows, nil
}

// allContests are the formats, whose contestants agree, and whose events are the same.
func allContests(in *events.Log) ([]contest, error) {
	decoders, err := contestants()
	if err != nil {
		return nil, err
	}
	contests := []contest{{"json", in, decoders}}
	for _, make := range []func(*events.Log) (contest, error){avroContest, protobufContest} {
		c, err := make(in)
		if err != nil {
			return nil, err
		}
		contests = append(contests, c)
	}
	for _, c := range contests {
		if err := agree(c.decoders, c.in); err != nil {
			return nil, fmt.Errorf("%s: %w", c.format, err)
		}
		if err := sameRows(contests[0], c); err != nil {
			return nil, fmt.Errorf("%s against %s: %w", c.format, contests[0].format, err)
		}
	}
	return contests, nil
}

// sameRows holds what Firn decodes from one format against another.
func sameRows(a, b contest) error {
	for i := range a.in.Fetches {
		x, err := a.decoders[0].decode(a.in.Fetches[i])
		if err != nil {
			return err
		}
		y, err := b.decoders[0].decode(b.in.Fetches[i])
		if err == nil {
			err = equalColumns(x, y)
			y.Release()
		}
		if x.Release(); err != nil {
			return err
		}
	}
	return nil
}

// agree holds every contestant's columns against the first one's, over the whole input.
func agree(decoders []decoder, in *events.Log) error {
	for _, f := range in.Fetches {
		var first arrow.RecordBatch
		for i, d := range decoders {
			rows, err := d.decode(f)
			if err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
			if i == 0 {
				first = rows
				continue
			}
			err = equalColumns(first, rows)
			rows.Release()
			if err != nil {
				return fmt.Errorf("%s against %s: %w", d.name, decoders[0].name, err)
			}
		}
		first.Release()
	}
	return nil
}

func equalColumns(a, b arrow.RecordBatch) error {
	if a.NumRows() != b.NumRows() {
		return fmt.Errorf("%d rows, %d were expected", b.NumRows(), a.NumRows())
	}
	for i := range payloadColumns {
		if !array.Equal(a.Column(i), b.Column(i)) {
			return fmt.Errorf("column %s differs", a.ColumnName(i))
		}
	}
	return nil
}

// measured is the figures of one format's contestants.
type measured struct{ speed, events, allocs, overPeer, overJSON report.Samples }

// measureAll takes the contestants in turn within each run, so that a slow minute of the machine meets all of them.
func measureAll(ctx context.Context, rep *report.Report, contests []contest, o options) error {
	all := make([]measured, len(contests))
	for range o.Runs {
		json := 0.0 // Firn's events of this run
		for i, c := range contests {
			m, rate := &all[i], map[string]float64{}
			for _, d := range c.decoders {
				mb, perSecond, perEvent, err := measure(ctx, d, c.in, o.seconds)
				if err != nil {
					return fmt.Errorf("%s %s: %w", c.format, d.name, err)
				}
				rate[d.name] = perSecond
				m.speed.Add(d.name, mb)
				m.events.Add(d.name, perSecond)
				m.allocs.Add(d.name, perEvent)
			}
			ours := rate[c.decoders[0].name]
			for _, peer := range c.decoders[1:] {
				m.overPeer.Add(peer.name, ours/rate[peer.name])
			}
			if i == 0 {
				json = ours
				continue
			}
			m.overJSON.Add("firn", ours/json)
		}
	}
	for i, c := range contests {
		if err := all[i].report(rep, c); err != nil {
			return err
		}
	}
	return nil
}

func (m *measured) report(rep *report.Report, c contest) error {
	add := func(metric, unit, label, name string, s *report.Samples, ref *report.Reference) error {
		return rep.AddFigure(metric, unit, map[string]any{"format": c.format, label: name}, s.Figure(name), ref)
	}
	for i, d := range c.decoders {
		var ref *report.Reference
		if peer := c.decoders[1].name; i == 0 {
			ref = &report.Reference{Name: peer, Value: m.speed.Figure(peer).Median}
		}
		if err := add("mb_per_cpu_second", "MB/s", "decoder", d.name, &m.speed, ref); err != nil {
			return err
		}
	}
	for _, d := range c.decoders {
		if err := errors.Join(add("events_per_cpu_second", "1/s", "decoder", d.name, &m.events, nil),
			add("allocs_per_event", "1", "decoder", d.name, &m.allocs, nil)); err != nil {
			return err
		}
	}
	for _, peer := range m.overPeer.Names() {
		if err := add("firn_over_peer", "x", "peer", peer, &m.overPeer, nil); err != nil {
			return err
		}
	}
	for _, name := range m.overJSON.Names() {
		if err := add("events_over_json", "x", "decoder", name, &m.overJSON, nil); err != nil {
			return err
		}
	}
	return nil
}

// measure decodes the input round and round for so many CPU seconds.
func measure(ctx context.Context, d decoder, in *events.Log, seconds float64) (mb, perCPUSecond, allocsPerEvent float64, err error) {
	var before, after runtime.MemStats
	var rows, bytes int64
	budget := time.Duration(seconds * float64(time.Second))
	runtime.GC()
	runtime.ReadMemStats(&before)
	use, err := report.Measure(func() error {
		for began := report.CPUTime(); report.CPUTime()-began < budget; {
			for _, f := range in.Fetches {
				if err := ctx.Err(); err != nil {
					return err
				}
				b, err := d.decode(f)
				if err != nil {
					return err
				}
				if b.NumRows() != int64(len(f.Records)) {
					return fmt.Errorf("%d rows of %d events", b.NumRows(), len(f.Records))
				}
				rows += b.NumRows()
				b.Release()
			}
			bytes += in.Bytes
		}
		return nil
	})
	if err != nil {
		return 0, 0, 0, err
	}
	runtime.ReadMemStats(&after)
	return use.PerCPUSecond(float64(bytes)) / 1e6, use.PerCPUSecond(float64(rows)), float64(after.Mallocs-before.Mallocs) / float64(rows), nil
}
