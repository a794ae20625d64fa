package engine

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"
)

// addFresh notes rows that the open batch got, under the lock, and wakes the commit loop when there are enough to be encoded.
func (p *Pipeline) addFresh(rows arrow.RecordBatch) {
	if p.ahead == nil || rows == nil || rows.NumRows() == 0 {
		return
	}
	rows.Retain()
	p.fresh = append(p.fresh, rows)
	if p.freshN += rows.NumRows(); p.freshN < p.cfg.AheadRows {
		return
	}
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// encodeAhead has the rows encoded that came since the last time. The commit loop has nothing else to do then, and the reader
// goes on.
func (p *Pipeline) encodeAhead(ctx context.Context) {
	p.mu.Lock()
	rows := p.fresh
	p.fresh, p.freshN = nil, 0
	p.mu.Unlock()
	if len(rows) == 0 {
		return // they were cut with their batch
	}
	p.ahead.EncodeAhead(ctx, rows)
	for _, r := range rows {
		r.Release()
	}
}

// dropFresh forgets what was not encoded yet, under the lock: its batch was cut, and is committed with it, or dropped.
func (p *Pipeline) dropFresh() {
	for _, r := range p.fresh {
		r.Release()
	}
	p.fresh, p.freshN = nil, 0
}

// dropBatch gives up the open batch, under the lock.
func (p *Pipeline) dropBatch() {
	p.st.Batcher.Drop()
	p.dropFresh()
}
