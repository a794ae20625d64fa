// Command bench runs Firn's benchmarks, one by name:
//
//	go run ./bench NAME [flags]
//
// Without a name it lists them; NAME -h shows a benchmark's flags. Each checks its own result and exits with 1 when it
// is wrong. What the figures mean stands in the doc.go of each.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"text/tabwriter"

	"github.com/firnlake/firn/bench/commit"
	"github.com/firnlake/firn/bench/decode"
	"github.com/firnlake/firn/bench/encode"
	"github.com/firnlake/firn/bench/fetch"
	"github.com/firnlake/firn/bench/freshness"
	"github.com/firnlake/firn/bench/ingest"
	"github.com/firnlake/firn/bench/tables"
)

type bench struct {
	name, what string
	run        func(ctx context.Context, args []string, stdout io.Writer) error
}

var benches = []bench{
	{"commit", "one append as the history grows, Firn's catalog beside a metadata.json each commit", commit.Main},
	{"decode", "JSON events to Arrow, beside fastjson and arrow-go", decode.Main},
	{"encode", "Arrow to Parquet, internal/datafile beside arrow-go and parquet-go", encode.Main},
	{"fetch", "reading a Kafka topic, engine/source beside kafka-go's Reader and franz-go", fetch.Main},
	{"freshness", "from an event to the answer that holds it, by the program itself under load", freshness.Main},
	{"ingest", "the engine as a whole, beside what decoding and encoding alone reach", ingest.Main},
	{"tables", "many tables in one process: how even their commits are, and what they take", tables.Main},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		list(stdout)
		return 0
	}
	for _, b := range benches {
		if b.name != args[0] {
			continue
		}
		if err := b.run(ctx, args[1:], stdout); err != nil {
			fmt.Fprintf(stderr, "bench %s: %v\n", b.name, err)
			return 1
		}
		return 0
	}
	fmt.Fprintf(stderr, "bench: there is no benchmark %q; these are:\n", args[0])
	list(stderr)
	return 2
}

func list(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, b := range benches {
		fmt.Fprintf(t, "%s\t%s\n", b.name, b.what)
	}
	_ = t.Flush()
}
