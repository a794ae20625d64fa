package app

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/firnlake/firn/internal/logging"
)

const (
	liveInterval  = time.Second     // on a terminal: one line, rewritten
	plainInterval = 5 * time.Second // elsewhere: one line after the other
)

// Welcome prints where everything is and three commands to try.
func (p *Process) Welcome(w io.Writer) {
	a := p.Addresses()
	table := "TABLE"
	if len(p.cfg.Pipelines) > 0 {
		table = p.cfg.Pipelines[0].Table
	}
	fmt.Fprintf(w, "Firn %s is up.\n\n", p.opt.Version)
	for _, l := range [][2]string{{"Kafka", a.Broker}, {"catalog", prefixed("http://", a.Catalog)}, {"Flight SQL", prefixed("grpc://", a.Flight)},
		{"status", prefixed("http://", a.HTTP)}, {"warehouse", p.cfg.Warehouse}} {
		if l[1] != "" {
			fmt.Fprintf(w, "  %-11s %s\n", l[0], l[1])
		}
	}
	at := ""
	if abs := p.cfg.Data; p.opt.Broker && !isDefaultData(abs) {
		at = " --data " + abs
	}
	fmt.Fprintf(w, `
Try:
  firn sql%[2]s 'select count(*), max(_ingested_at) from %[1]s'
  firn why%[2]s %[1]s
  firn audit%[2]s %[1]s --kafka

`, table, at)
}

func prefixed(scheme, addr string) string {
	if addr == "" {
		return ""
	}
	return scheme + addr
}

// Live prints how the process is until Stop: on a terminal one line that is rewritten each second, elsewhere a plain
// line every five.
func (p *Process) Live(w io.Writer) {
	interval, head, tail := plainInterval, "", "\n"
	if logging.IsTerminal(w) {
		interval, head, tail = liveInterval, "\r\x1b[K", ""
	}
	p.background("live line", func(ctx context.Context) error {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				if tail == "" {
					fmt.Fprintln(w)
				}
				return nil
			case <-tick.C:
				fmt.Fprint(w, head+p.Status().line()+tail)
			}
		}
	})
}

// line is the status in one line.
func (s Status) line() string {
	if s.Waiting != "" {
		return s.Waiting
	}
	var files int64
	for _, t := range s.Tables {
		files += int64(t.LiveFiles)
	}
	size := ""
	if len(s.Tables) > 0 { // the compactor has not looked before
		size = "  " + plural(files, "file")
	}
	var events, p50, p95 float64
	var snapshots, lag int64
	word := Verdict{State: StateOK}
	for _, p := range s.Pipelines {
		events += p.EventsPerSecond
		snapshots += p.Snapshots
		lag += max(p.LagRecords, 0)
		p50, p95 = max(p50, p.FreshP50), max(p95, p.FreshP95)
		if p.Verdict.State != StateOK && word.State == StateOK {
			word = p.Verdict
		}
	}
	l := fmt.Sprintf("%s  %s  %6.0f events/s  %s  lag %d  committed after p50 %.2fs p95 %.2fs%s",
		s.Now.Format(time.TimeOnly), word.State, events, plural(snapshots, "snapshot"), lag, p50, p95, size)
	if word.Cause != "" {
		l += "  " + word.Cause
	}
	return l
}
