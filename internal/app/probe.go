package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/internal/generate"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/probe"
	"github.com/firnlake/firn/query"
	"github.com/firnlake/firn/query/flight"
)

// Probe writes marked events into the topic of a table and reads them back over Flight. Topic and Event of cfg are
// filled in; the marks are events of the demo's contract.
func (c *Client) Probe(ctx context.Context, name string, cfg probe.Config) (probe.Result, error) {
	cat, err := c.Catalog(ctx)
	if err != nil {
		return probe.Result{}, err
	}
	defer cat.Close()
	t, err := c.Table(ctx, cat, name, catalog.LoadRefs)
	if err != nil {
		return probe.Result{}, err
	}
	rec := ledger.Record{}
	if head := t.Metadata.CurrentSnapshot(); head != nil && head.Summary != nil {
		if rec, err = ledger.ParseSummary(head.Summary.Properties); err != nil && !errors.Is(err, ledger.ErrNoRecord) {
			return probe.Result{}, err
		}
	}
	var place int
	cfg.Topic, place = c.feedOf(t, rec).first()
	cfg.Event = generate.Mark
	if cfg.Topic == "" {
		return probe.Result{}, fmt.Errorf("%w: the topic of %s is not known: name the configuration with -c", ErrUsage, name)
	}
	if err := cfg.WithDefaults().Validate(); err != nil {
		return probe.Result{}, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	fc, err := c.Flight(ctx)
	if err != nil {
		return probe.Result{}, err
	}
	defer fc.Close()
	prod, err := source.NewProducer(c.cfg.Kafka, c.log)
	if err != nil {
		return probe.Result{}, err
	}
	res, err := probe.Run(ctx, cfg, marker{prod}, &reader{fc, t.Identifier, place}, nil)
	return res, errors.Join(err, prod.Close())
}

// marker implements probe.Producer.
type marker struct{ p *source.Producer }

func (m marker) ProduceOne(ctx context.Context, topic string, key, value []byte) (int32, int64, error) {
	return m.p.ProduceOne(ctx, topic, source.Message{Partition: -1, Key: key, Value: value, TimestampMs: time.Now().UnixMilli()})
}

// reader implements probe.Reader by a scan that is bounded to one offset.
type reader struct {
	c     *flight.Client
	table catalog.Identifier
	place int // of the topic, in the table
}

func (r *reader) Visible(ctx context.Context, level string, partition int32, at int64) (bool, error) {
	partition = ledger.Number(r.place, partition)
	res, err := r.c.Scan(ctx, query.ScanRequest{Table: r.table, Columns: []string{ledger.ColOffset},
		From: offset.Vector{partition: at}, To: offset.Vector{partition: at + 1}, Limit: 1}, query.Options{Level: query.Level(level)})
	if err != nil {
		return false, err
	}
	defer res.Release()
	var rows int64
	for res.Next(ctx) {
		rows += res.RecordBatch().NumRows()
	}
	return rows > 0, res.Err()
}
