package compaction

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/snapshot"
)

// The pause between two attempts is drawn from [0, conflictPause) when the head moved: short, because the next commit of
// ingest is a second away. Trouble of the catalog takes longer to pass.
const (
	conflictPause    = 10 * time.Millisecond
	unavailablePause = 500 * time.Millisecond
)

// outcome is what an attempt to commit came to.
type outcome int

const (
	outcomeRefused outcome = iota // for good: nothing was changed and a retry cannot help
	outcomeMoved                  // nothing was changed; the head is another
	outcomeLater                  // nothing was changed; the catalog cannot now
	outcomeUnknown                // it may have happened, or may still
)

func outcomeOf(ctx context.Context, err error) outcome {
	switch {
	case ctx.Err() != nil || errors.Is(err, catalog.ErrUnknownOutcome):
		return outcomeUnknown
	case errors.Is(err, catalog.ErrConflict):
		return outcomeMoved
	case errors.Is(err, catalog.ErrUnavailable):
		return outcomeLater
	case errors.Is(err, catalog.ErrInvalid), errors.Is(err, catalog.ErrDenied), errors.Is(err, catalog.ErrUnsupported), errors.Is(err, catalog.ErrNoSuchTable):
		return outcomeRefused
	default:
		return outcomeUnknown
	}
}

// commit makes the rewrite the head of main. It is tried on every new head while inputs are live, at most maxAttempts
// times, with the same snapshot id, which a catalog takes once: whatever becomes of a request that got no answer or was
// sent twice, rows cannot be replaced twice.
func (p *pending) commit(ctx context.Context, head snapshot.Head) error {
	c := p.c
	began := c.now()
	defer func() { c.m.commitSeconds.Observe(c.now().Sub(began).Seconds()) }()
	for try := 1; ; try++ {
		s, err := p.build(ctx, head)
		if err != nil {
			return p.giveUp(ctx, err)
		}
		crash.At(ctx, crash.CompactBeforeCommit)
		_, err = c.cat.CommitTable(ctx, catalog.TableCommit{Identifier: p.ts.id,
			Requirements: table.Requirements{table.AssertTableUUID(p.ts.uuid), table.AssertRefSnapshotID(table.MainBranch, head.ID())},
			Updates:      head.Updates(s, table.MainBranch, snapshot.Retention{})})
		crash.At(ctx, crash.CompactAfterCommit)
		if err == nil {
			p.committed()
			p.clean(ctx, s.ManifestList)
			return nil
		}
		pause := time.Duration(c.rnd(int64(conflictPause)))
		switch outcomeOf(ctx, err) {
		case outcomeRefused:
			return p.giveUp(ctx, err)
		case outcomeMoved:
			p.report.Conflicts++
			c.m.conflicts.Inc()
			err = fmt.Errorf("%w: %w", ErrContended, err)
		case outcomeLater:
			pause += unavailablePause
		case outcomeUnknown:
			p.unsure = true
			if there, look := p.look(ctx); look != nil {
				return errors.Join(err, look)
			} else if there {
				p.committed()
				return nil
			}
		}
		if try == maxAttempts {
			return p.giveUp(ctx, fmt.Errorf("after %d attempts: %w", try, err))
		}
		if c.pause(ctx, pause) != nil {
			return p.giveUp(ctx, err)
		}
		if head, err = p.reload(ctx); err != nil {
			return p.giveUp(ctx, err)
		}
	}
}

// reload reads the head anew.
func (p *pending) reload(ctx context.Context) (snapshot.Head, error) {
	t, err := p.c.cat.LoadTable(ctx, p.ts.id, catalog.LoadRefs)
	if err != nil {
		return snapshot.Head{}, err
	}
	if t.Metadata.TableUUID() != p.ts.uuid {
		return snapshot.Head{}, errGone
	}
	head, err := p.c.loadHead(ctx, p.ts, t.Metadata)
	if err == nil && head.Snapshot == nil {
		err = fmt.Errorf("%w: main has no snapshot any more", snapshot.ErrMoved)
	}
	return head, err
}

// look tells whether the table knows the snapshot.
func (p *pending) look(ctx context.Context) (there bool, err error) {
	for try := 1; ; try++ {
		t, err := p.c.cat.LoadTable(ctx, p.ts.id, catalog.LoadAll)
		if err == nil {
			return t.Metadata.TableUUID() == p.ts.uuid && t.Metadata.SnapshotByID(p.id) != nil, nil
		}
		if try == maxLooks || errors.Is(err, catalog.ErrNoSuchTable) || p.c.pause(ctx, time.Duration(try)*unavailablePause) != nil {
			return false, fmt.Errorf("whether the rewrite was committed cannot be told; its files stay: %w", err)
		}
	}
}

// giveUp ends the rewrite after err. A refusal can be the second answer to a request that was sent twice, so the table
// itself is asked before this rewrite's files are deleted.
func (p *pending) giveUp(ctx context.Context, err error) error {
	there, look := p.look(ctx)
	if look != nil {
		return errors.Join(err, look)
	}
	if there {
		p.committed()
		return nil
	}
	for _, d := range p.done {
		p.report.Jobs[d.at].Error = err.Error()
	}
	p.gone, p.done, p.new = append(p.gone, p.done...), nil, nil
	p.clean(ctx, "")
	return err
}

// committed books the rewrite.
func (p *pending) committed() {
	r, m := p.report, p.c.m
	r.SnapshotID, r.ManifestsMerged = p.id, len(p.drop)
	for _, d := range p.done {
		r.Jobs[d.at].Committed = true
		m.filesIn.Add(float64(len(d.inputs)))
		m.filesOut.Inc()
		m.bytesIn.Add(float64(d.bytes))
		m.bytesOut.Add(float64(d.output.FileSizeBytes()))
		m.rows.Add(float64(d.rows))
	}
	m.manifests.Add(float64(len(p.drop)))
	m.merges.Add(float64(p.merged))
	m.commits.Inc()
}

// clean deletes what this rewrite stored and what the table, after clear answers only, does not use: outputs that were
// given up, and manifests and lists but those in use. What cannot be deleted is left to the sweep.
func (p *pending) clean(ctx context.Context, list string) {
	if p.unsure {
		return
	}
	used := map[string]bool{list: true}
	for _, m := range p.new {
		used[m.FilePath()] = true
	}
	var keys []string
	add := func(location string) {
		if k, err := p.c.wh.Key(location); err == nil && !used[location] {
			keys = append(keys, k)
		}
	}
	for _, d := range p.gone {
		add(d.output.FilePath())
	}
	for _, location := range p.written {
		add(location)
	}
	if len(keys) == 0 {
		return
	}
	if err := p.c.wh.Delete(ctx, keys...); err != nil {
		p.c.log.Debug("files of a rewrite are left to the sweep", "table", p.ts.id.String(), "error", err)
	}
}
