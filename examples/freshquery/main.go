// Command freshquery asks a running Firn each second for the newest revenue, rows included that are not committed yet.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/firnlake/firn/query"
	"github.com/firnlake/firn/query/flight"
)

const revenue = `
SELECT count(*) AS purchases,
       coalesce(round(sum(payload.amount), 2), 0) AS revenue,
       max(_kafka_timestamp) AS newest
FROM analytics.user_events
WHERE event_type = 'purchase' AND _kafka_timestamp > now() - INTERVAL 1 MINUTE`

func main() {
	addr := flag.String("uri", "127.0.0.1:31337", "Flight SQL address")
	rounds := flag.Int("rounds", 0, "stop after so many answers; 0 for never")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "freshquery:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr string, rounds int) error {
	c, err := flight.Dial(ctx, addr, flight.ClientOptions{})
	if err != nil {
		return err
	}
	defer c.Close()
	for n := 0; rounds == 0 || n < rounds; n++ {
		if err := ask(ctx, c); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
	return nil
}

func ask(ctx context.Context, c *flight.Client) error {
	res, err := c.Query(ctx, revenue, query.Options{Level: query.LevelHot})
	if err != nil {
		return err
	}
	defer res.Release()
	for res.Next(ctx) {
		b := res.RecordBatch()
		for i := range int(b.NumRows()) {
			fmt.Printf("%s purchases, %s revenue in the last minute, the newest at %s\n",
				b.Column(0).ValueStr(i), b.Column(1).ValueStr(i), b.Column(2).ValueStr(i))
		}
	}
	return res.Err()
}
