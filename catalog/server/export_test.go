package server

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/firnlake/firn/catalog"
)

// SweepPasts is what the background loop does from time to time.
func (s *Server) SweepPasts(ctx context.Context, now time.Time) error {
	return s.service.sweepPasts(ctx, now)
}

// AsOfLoads is how many loads of tables of a past time had an outcome.
func (s *Server) AsOfLoads(outcome string) (uint64, error) {
	var m dto.Metric
	err := s.service.m.asOfSeconds.WithLabelValues(outcome).(prometheus.Metric).Write(&m)
	return m.GetHistogram().GetSampleCount(), err
}

// RegisterAs registers a table under a name that clients cannot give any more, as one that has it from before.
func (s *Server) RegisterAs(ctx context.Context, id catalog.Identifier, location string) error {
	m, err := s.service.readMetadata(ctx, location)
	if err != nil {
		return err
	}
	meta, err := parse(m)
	if err != nil {
		return err
	}
	change, l, err := newTable(id, meta, meta.Location())
	if err != nil {
		return err
	}
	_, err = s.service.insert(ctx, change, l)
	return err
}
