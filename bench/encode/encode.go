package encode

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/bench/events"
	"github.com/firnlake/firn/bench/report"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/internal/datafile"
)

type options struct {
	report.Options
	rows    []int
	seconds float64
}

// writer is one contestant: it writes a batch as one file.
type writer struct {
	name  string
	write func(to io.Writer, rows arrow.RecordBatch) error
}

// input is one size of file.
type input struct {
	schema *iceberg.Schema
	rows   []arrow.RecordBatch
	json   int64 // bytes of the events of all batches
}

// Main runs the benchmark with its command line and prints to stdout.
func Main(ctx context.Context, args []string, stdout io.Writer) error {
	var o options
	fs := flag.NewFlagSet("encode", flag.ContinueOnError)
	o.Register(fs)
	small := fs.Int("small", 2000, "rows of a file as one second gives them")
	large := fs.Int("large", 100_000, "rows of a large file")
	fs.Float64Var(&o.seconds, "seconds", 1, "CPU seconds of each measurement")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if o.rows = []int{*small, *large}; *small < 1 || *large < 1 || o.seconds <= 0 {
		return fmt.Errorf("-small %d, -large %d and -seconds %g must be positive", *small, *large, o.seconds)
	}
	if err := o.Validate(); err != nil {
		return err
	}
	rep := report.New("encode", stdout, o.JSON)
	rep.Set("seed", o.Seed)
	for _, rows := range o.rows {
		in, err := newInput(o.Seed, rows)
		if err != nil {
			return err
		}
		for _, codec := range []string{"zstd", "snappy"} {
			if err := contest(ctx, rep, in, rows, codec, o); err != nil {
				return fmt.Errorf("%d rows, %s: %w", rows, codec, err)
			}
		}
	}
	return rep.Close()
}

// filesOf is how many different files an input has, so that no writer meets the same values in each.
const filesOf = 5

func newInput(seed int64, rows int) (*input, error) {
	c, err := decode.LoadContract(events.Contract())
	if err != nil {
		return nil, err
	}
	in := &input{schema: c.IcebergSchema()}
	d, err := decode.NewJSON(c, in.schema, decode.Options{})
	if err != nil {
		return nil, err
	}
	log := events.New(seed, rows*filesOf, rows)
	in.json = log.Bytes
	for _, f := range log.Fetches {
		out, err := d.Decode(f)
		if err != nil {
			return nil, err
		}
		if len(out.Dead) > 0 {
			return nil, fmt.Errorf("event %d became a dead letter: %s", out.Dead[0].Offset, out.Dead[0].Message)
		}
		in.rows = append(in.rows, out.Rows)
	}
	return in, nil
}

func contestants(sc *iceberg.Schema, codec string) ([]writer, error) {
	o := datafile.DefaultWriteOptions()
	o.Codec = codec
	ag, err := newArrowGo(sc, codec)
	if err != nil {
		return nil, err
	}
	pg, err := newParquetGo(sc, codec)
	if err != nil {
		return nil, err
	}
	return []writer{
		{"firn", func(to io.Writer, rows arrow.RecordBatch) error {
			st, err := datafile.Write(to, sc, []arrow.RecordBatch{rows}, o)
			if err == nil && st.Rows != rows.NumRows() {
				return fmt.Errorf("statistics of %d rows for %d", st.Rows, rows.NumRows())
			}
			return err
		}},
		{"arrow-go", ag.write},
		{"parquet-go", pg.write},
	}, nil
}

func contest(ctx context.Context, rep *report.Report, in *input, rows int, codec string, o options) error {
	writers, err := contestants(in.schema, codec)
	if err != nil {
		return err
	}
	labels := func(w writer) map[string]any { return map[string]any{"writer": w.name, "rows": rows, "codec": codec} }
	sizes := map[string]float64{}
	for _, w := range writers {
		size, err := check(ctx, w, in)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		sizes[w.name] = float64(size) / 1e6
	}
	var speed, allocs, perFile report.Samples
	for range o.Runs {
		for _, w := range writers { // in turn, so that a slow minute of the machine meets all of them
			m, err := measure(ctx, w, in, o.seconds)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			speed.Add(w.name, m.mbPerCPUSecond)
			allocs.Add(w.name, m.allocsPerEvent)
			perFile.Add(w.name, m.msPerFile)
		}
	}
	ref := func(f func(string) float64, w writer) *report.Reference {
		if w.name != "firn" {
			return nil
		}
		return &report.Reference{Name: "arrow-go", Value: f("arrow-go")}
	}
	if err := checksumShare(rep, writers[0], in, perFile.Figure("firn").Median, labels(writers[0])); err != nil {
		return err
	}
	for _, w := range writers {
		err := errors.Join(
			rep.AddFigure("mb_per_cpu_second", "MB/s", labels(w), speed.Figure(w.name), ref(func(n string) float64 { return speed.Figure(n).Median }, w)),
			rep.AddFigure("cpu_ms_per_file", "ms", labels(w), perFile.Figure(w.name), ref(func(n string) float64 { return perFile.Figure(n).Median }, w)),
			rep.AddFigure("file_mb", "MB", labels(w), report.Of(sizes[w.name]), ref(func(n string) float64 { return sizes[n] }, w)),
			rep.AddFigure("allocs_per_event", "1", labels(w), allocs.Figure(w.name), ref(func(n string) float64 { return allocs.Figure(n).Median }, w)))
		if err != nil {
			return err
		}
	}
	return nil
}

// checksumShare is what the page checksums cost: the CPU of summing a file's bytes as part of that of writing it.
func checksumShare(rep *report.Report, w writer, in *input, msPerFile float64, labels map[string]any) error {
	var buf bytes.Buffer
	if err := w.write(&buf, in.rows[0]); err != nil {
		return err
	}
	var share []float64
	for range 3 {
		const rounds = 200
		var sum uint32
		use, err := report.Measure(func() error {
			for range rounds {
				sum ^= crc32.ChecksumIEEE(buf.Bytes())
			}
			return nil
		})
		if err != nil || sum != 0 { // an even number of equal sums
			return fmt.Errorf("checksums: %08x, %w", sum, errors.Join(err))
		}
		share = append(share, use.CPU.Seconds()*1e3/rounds/msPerFile*100)
	}
	return rep.AddFigure("checksum_percent", "%", labels, report.Of(share...), nil)
}

// check writes each batch, reads it back with arrow-go by field id, compares, and looks for what manifests need. It
// returns the mean size of a file.
func check(ctx context.Context, w writer, in *input) (size int, err error) {
	for _, rows := range in.rows {
		var buf bytes.Buffer
		if err := w.write(&buf, rows); err != nil {
			return 0, err
		}
		size += buf.Len()
		r, err := datafile.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()), w.name, datafile.ReadOptions{BatchRows: rows.NumRows()})
		if err != nil {
			return 0, err
		}
		var at int64
		err = r.Scan(ctx, in.schema, func(b arrow.RecordBatch) error {
			want := rows.NewSlice(at, at+b.NumRows())
			defer want.Release()
			at += b.NumRows()
			for i, c := range b.Columns() {
				if !array.Equal(c, want.Column(i)) {
					return fmt.Errorf("column %s differs from what was written", b.ColumnName(i))
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		if at != rows.NumRows() {
			return 0, fmt.Errorf("%d rows were read, %d written", at, rows.NumRows())
		}
	}
	return size / len(in.rows), nil
}

type figures struct{ mbPerCPUSecond, msPerFile, allocsPerEvent float64 }

// measure writes the batches round and round for so many CPU seconds.
func measure(ctx context.Context, w writer, in *input, seconds float64) (figures, error) {
	var before, after runtime.MemStats
	var files, rows int64
	var buf bytes.Buffer
	budget := time.Duration(seconds * float64(time.Second))
	runtime.GC()
	runtime.ReadMemStats(&before)
	use, err := report.Measure(func() error {
		for began := report.CPUTime(); report.CPUTime()-began < budget; {
			for _, b := range in.rows {
				if err := ctx.Err(); err != nil {
					return err
				}
				buf.Reset()
				if err := w.write(&buf, b); err != nil {
					return err
				}
				files++
				rows += b.NumRows()
			}
		}
		return nil
	})
	if err != nil {
		return figures{}, err
	}
	runtime.ReadMemStats(&after)
	json := float64(in.json) * float64(files) / float64(len(in.rows))
	return figures{use.PerCPUSecond(json) / 1e6, use.CPU.Seconds() * 1e3 / float64(files), float64(after.Mallocs-before.Mallocs) / float64(rows)}, nil
}
