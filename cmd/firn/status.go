package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
)

func newStatus(g *globals) *cobra.Command {
	t, o := &target{}, &output{}
	c := &cobra.Command{Use: "status", Short: "Say in one word per pipeline how it is, why, and what to do", Args: cobra.NoArgs,
		Long: "Exits 5 when a pipeline is neither ok nor catching up.",
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			s, err := cl.Status(c.Context())
			if err != nil {
				return err
			}
			err = o.print(c, s, func(w io.Writer) { printStatus(w, &s) })
			if ready, why := s.Ready(); !ready {
				return errors.Join(err, fmt.Errorf("%w: %s", app.ErrFailing, why))
			}
			return err
		}}
	t.register(c)
	o.register(c)
	return c
}

func printStatus(w io.Writer, s *app.Status) {
	row(w, "firn "+s.Version, "up since "+clock(s.Started))
	for _, a := range [][2]string{{"kafka", s.Addresses.Broker}, {"catalog", s.Addresses.Catalog}, {"flight", s.Addresses.Flight}, {"http", s.Addresses.HTTP}} {
		if a[1] != "" {
			row(w, a[0], a[1])
		}
	}
	if s.Waiting != "" {
		row(w, "waiting", s.Waiting)
	}
	for _, p := range s.Pipelines {
		row(w)
		row(w, p.Name, p.Verdict.State)
		if p.Verdict.Cause != "" {
			row(w, "  cause", p.Verdict.Cause)
		}
		if p.Verdict.Next != "" {
			row(w, "  next", p.Verdict.Next)
		}
		row(w, "  table", p.Table)
		row(w, "  events/s", fmt.Sprintf("%.0f", p.EventsPerSecond))
		row(w, "  rows", fmt.Sprintf("%d, %d dead letters, %d snapshots since it started", p.Rows, p.DeadLetters, p.Snapshots))
		if p.Events > 0 {
			row(w, "  complete", complete(p.CompleteEvents, p.Events))
		}
		if p.Filtered > 0 {
			row(w, "  filtered", fmt.Sprintf("%d records without a row: kept out by the transform's filter, another route's, or tombstones of an envelope", p.Filtered))
		}
		if p.Unrouted > 0 {
			row(w, "  unrouted", fmt.Sprintf("%d of them are taken by no route", p.Unrouted))
		}
		if p.Duplicates > 0 {
			row(w, "  duplicates", fmt.Sprintf("%d records whose event was a row already", p.Duplicates))
		}
		row(w, "  lag", fmt.Sprintf("%s records, %s", count(p.LagRecords), seconds(p.LagSeconds)))
		row(w, "  committed after", fmt.Sprintf("p50 %s, p95 %s", seconds(p.FreshP50), seconds(p.FreshP95)))
		row(w, "  last commit", clock(p.LastCommit))
		if len(p.SchemaIDs) > 0 {
			row(w, "  schema ids", strings.Trim(fmt.Sprint(p.SchemaIDs), "[]")+fmt.Sprintf(", into schema %d of the table", p.TableSchema))
		}
		if p.SchemaChanges > 0 {
			row(w, "  schema changes", fmt.Sprintf("%d; %s", p.SchemaChanges, p.LastSchemaChange))
		}
		if d := p.DeadTopic; d != nil {
			says := fmt.Sprintf("%d messages", d.Published)
			if d.Problem != "" {
				says += "; BEHIND since " + clock(d.Since) + ": " + d.Problem
			}
			row(w, "  dead letters to", d.Topic, says)
		}
		if p.Gaps > 0 {
			row(w, "  GAPS", fmt.Sprintf("%d, %d offsets were never read; %s", p.Gaps, p.GapOffsets, p.LastGap))
		}
	}
}

// complete prints the share of events that lack nothing, rounded down: what is not whole must not look so.
func complete(n, of int64) string {
	return fmt.Sprintf("%.3f %% of %d events lack nothing that the contract wants", math.Floor(1e5*float64(n)/float64(of))/1e3, of)
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

func newWhy(g *globals) *cobra.Command {
	t, o := &target{}, &output{}
	c := &cobra.Command{Use: "why TABLE", Short: "Walk the way of the data and name the first stage that does not move", Args: cobra.ExactArgs(1),
		Long:              "Exits 5 when a stage stands.",
		ValidArgsFunction: completeTable(g, t), RunE: func(c *cobra.Command, args []string) error {
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			why, err := cl.Why(c.Context(), args[0])
			if err != nil {
				return err
			}
			err = o.print(c, why, func(w io.Writer) {
				row(w, why.Table, why.Verdict.State)
				for _, s := range why.Stages {
					word := "moves"
					if !s.Moves {
						word = "STANDS"
					}
					row(w, "  "+s.Name, word, s.Says)
				}
				if why.Verdict.Next != "" {
					row(w, "next", why.Verdict.Next)
				}
			})
			if why.Stands != "" {
				return errors.Join(err, fmt.Errorf("%w: stage %s stands", app.ErrFailing, why.Stands))
			}
			return err
		}}
	t.register(c)
	o.register(c)
	return c
}
