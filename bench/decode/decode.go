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
	decoders, err := contestants()
	if err != nil {
		return err
	}
	if err := agree(decoders, in); err != nil {
		return err
	}
	rep := report.New("decode", stdout, o.JSON)
	rep.Set("seed", o.Seed)
	rep.Set("events", o.events)
	rep.Set("batch", o.batch)
	rep.Set("event_bytes", in.Bytes/int64(in.Events))
	if err := measureAll(ctx, rep, decoders, in, o); err != nil {
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
		{"firn", func(f *engine.Fetch) (arrow.RecordBatch, error) { return decodeFirn(ours, f) }},
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

func decodeFirn(d *firn.JSON, f *engine.Fetch) (arrow.RecordBatch, error) {
	out, err := d.Decode(f)
	if err != nil {
		return nil, err
	}
	if len(out.Dead) > 0 {
		return nil, fmt.Errorf("event %d became a dead letter: %s %s %s", out.Dead[0].Offset, out.Dead[0].Reason, out.Dead[0].Place, out.Dead[0].Message)
	}
	return out.Rows, nil
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

// measureAll takes the contestants in turn within each run, so that a slow minute of the machine meets all of them.
func measureAll(ctx context.Context, rep *report.Report, decoders []decoder, in *events.Log, o options) error {
	var speed, ratio, allocs report.Samples
	for range o.Runs {
		mb := map[string]float64{}
		for _, d := range decoders {
			m, perEvent, err := measure(ctx, d, in, o.seconds)
			if err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
			mb[d.name] = m
			speed.Add(d.name, m)
			allocs.Add(d.name, perEvent)
		}
		for _, peer := range decoders[1:] {
			ratio.Add(peer.name, mb[decoders[0].name]/mb[peer.name])
		}
	}
	for i, d := range decoders {
		var ref *report.Reference
		if i == 0 {
			ref = &report.Reference{Name: decoders[1].name, Value: speed.Figure(decoders[1].name).Median}
		}
		if err := rep.AddFigure("mb_per_cpu_second", "MB/s", labels("decoder", d.name), speed.Figure(d.name), ref); err != nil {
			return err
		}
	}
	for _, peer := range ratio.Names() {
		if err := rep.AddFigure("firn_over_peer", "x", labels("peer", peer), ratio.Figure(peer), nil); err != nil {
			return err
		}
	}
	for _, d := range decoders {
		if err := rep.AddFigure("allocs_per_event", "1", labels("decoder", d.name), allocs.Figure(d.name), nil); err != nil {
			return err
		}
	}
	return nil
}

func labels(name, value string) map[string]any { return map[string]any{"format": "json", name: value} }

// measure decodes the input round and round for so many CPU seconds.
func measure(ctx context.Context, d decoder, in *events.Log, seconds float64) (mbPerCPUSecond, allocsPerEvent float64, err error) {
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
		return 0, 0, err
	}
	runtime.ReadMemStats(&after)
	return use.PerCPUSecond(float64(bytes)) / 1e6, float64(after.Mallocs-before.Mallocs) / float64(rows), nil
}
