package engine

import "time"

// firstTick is how long it is until the batch is cut for the first time.
func (c Config) firstTick(now time.Time) time.Duration {
	interval := c.CommitInterval.D()
	if c.Phase == 0 {
		return interval
	}
	d := (c.Phase.D() - time.Duration(now.UnixNano())%interval + interval) % interval
	if d == 0 {
		return interval
	}
	return d
}

// pace decides at a tick whether the batch being filled is cut. A live pipeline commits every interval. One that is behind
// gains nothing by it: its rows are late anyhow, and each commit makes a small file and a snapshot. So it lets the batch grow
// to its bound, or for CatchUpInterval. Used under the pipeline's lock.
type pace struct {
	opened time.Time // when the batch's first stretch came
	parts  map[int32]*stretches
}

// stretches is what the batch holds of one partition.
type stretches struct {
	have int64 // offsets
	left int64 // offsets that the log still had behind them when the last was fetched
}

// add notes that the batch took n offsets of a partition, behind which the log had left more.
func (p *pace) add(now time.Time, partition int32, n, left int64) {
	if p.parts == nil {
		p.opened, p.parts = now, map[int32]*stretches{}
	}
	s := p.parts[partition]
	if s == nil {
		s = &stretches{}
		p.parts[partition] = s
	}
	s.have, s.left = s.have+n, left
}

// grows reports that the batch may wait for the next tick: it will not be older than most by then, and every partition in it
// still has more than as much again to read, so none that is live waits for one that is behind.
func (p *pace) grows(now time.Time, tick, most time.Duration) bool {
	if p.parts == nil || now.Sub(p.opened)+tick > most {
		return false
	}
	for _, s := range p.parts {
		if s.left <= s.have {
			return false
		}
	}
	return true
}

// cut begins a new batch.
func (p *pace) cut() { p.parts = nil }
