package flight

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
)

// TailOptions of a TailClient.
type TailOptions struct {
	ClientOptions
	// Timeout bounds one cut, all processes together; default 2s. A query without an answer by then sees committed rows.
	Timeout time.Duration
	// Retry is how long a process that could not be reached is left alone, so that its absence does not slow every
	// query down; default 1s.
	Retry time.Duration
	// MaxBytes bounds the rows of one cut in memory; default 1GiB.
	MaxBytes units.Bytes
	// Now is the clock; default time.Now.
	Now func() time.Time
	// Log hears when a process goes away and when it is back; nil is silent.
	Log *slog.Logger
}

// TailHealth is what the client knows of one ingest process.
type TailHealth struct {
	Addr  string
	OK    bool      // its last answer was one; true before the first
	Since time.Time // of this state; zero before the first call
	Error string    // of the last failure while not OK
}

// TailClient is a query.TailSource over ingest processes elsewhere. Each may own some partitions of a table.
// Safe for concurrent use.
type TailClient struct {
	o     TailOptions
	peers []*peer
}

var _ query.TailSource = (*TailClient)(nil)

// peer is one ingest process.
type peer struct {
	client *Client

	mu     sync.Mutex
	health TailHealth
	until  time.Time // not asked before
}

// NewTailClient does not connect; the first cut does. addrs are as with Dial.
func NewTailClient(addrs []string, o TailOptions) (*TailClient, error) {
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	if o.Retry == 0 {
		o.Retry = time.Second
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &TailClient{o: o}
	for _, a := range addrs {
		c, err := newClient(a, o.ClientOptions)
		if err != nil {
			return nil, errors.Join(err, t.Close())
		}
		t.peers = append(t.peers, &peer{client: c, health: TailHealth{Addr: a, OK: true}})
	}
	return t, nil
}

// Close ends the connections.
func (t *TailClient) Close() error {
	var errs []error
	for _, p := range t.peers {
		errs = append(errs, p.client.Close())
	}
	return errors.Join(errs...)
}

// Health tells the state of each process, in the order of the addresses.
func (t *TailClient) Health() []TailHealth {
	out := make([]TailHealth, len(t.peers))
	for i, p := range t.peers {
		p.mu.Lock()
		out[i] = p.health
		p.mu.Unlock()
	}
	return out
}

// Cut asks every process at once and joins what they own. A process that cannot be reached counts as one without a
// tail: its partitions are read up to the committed offsets, which End says. hot.ErrExpired of one is the answer,
// for a newer snapshot gives all of them.
func (t *TailClient) Cut(ctx context.Context, table catalog.Identifier, from offset.Vector, epoch int64) (*hot.Cut, error) {
	bounded, cancel := context.WithTimeout(ctx, t.o.Timeout)
	defer cancel()
	type answer struct {
		cut *hot.Cut
		err error
	}
	answers := make(chan answer, len(t.peers))
	for _, p := range t.peers {
		go func() {
			cut, err := t.ask(bounded, p, table, from, epoch)
			answers <- answer{cut, err}
		}()
	}
	var (
		cuts    []*hot.Cut
		errs    []error
		expired error
	)
	for range t.peers {
		a := <-answers
		switch {
		case a.err == nil:
			cuts = append(cuts, a.cut)
		case errors.Is(a.err, hot.ErrExpired) || errors.Is(a.err, query.ErrLimit):
			expired = a.err
		default:
			errs = append(errs, a.err)
		}
	}
	if err := ctx.Err(); err != nil {
		expired = err
	}
	if expired != nil {
		releaseCuts(cuts)
		return nil, expired
	}
	if len(cuts) == 0 {
		return nil, noCut(table, errs)
	}
	return joinCuts(from, epoch, cuts)
}

// noCut is why there is none: another epoch when anybody said so, otherwise that nobody has the table's tail.
func noCut(table catalog.Identifier, errs []error) error {
	var why []string
	for _, err := range errs {
		if errors.Is(err, hot.ErrFenced) {
			return err
		}
		if !errors.Is(err, hot.ErrNoTail) {
			why = append(why, err.Error())
		}
	}
	if len(why) > 0 {
		return fmt.Errorf("%w: %s: %s", hot.ErrNoTail, table, strings.Join(why, "; "))
	}
	return fmt.Errorf("%w: %s", hot.ErrNoTail, table)
}

// ask is one process' answer, and keeps the book on its health.
func (t *TailClient) ask(ctx context.Context, p *peer, table catalog.Identifier, from offset.Vector, epoch int64) (*hot.Cut, error) {
	now := t.o.Now()
	p.mu.Lock()
	waiting, last := now.Before(p.until), p.health.Error
	p.mu.Unlock()
	if waiting {
		return nil, fmt.Errorf("%s: not asked again yet after: %s", p.client.addr, last)
	}
	cut, err := p.client.cut(ctx, table, from, epoch, int64(t.o.MaxBytes))
	switch {
	case err == nil, errors.Is(err, hot.ErrNoTail), errors.Is(err, hot.ErrExpired), errors.Is(err, hot.ErrFenced), errors.Is(err, query.ErrLimit):
		t.note(p, nil)
	case errors.Is(err, context.Canceled):
	default:
		t.note(p, err)
	}
	return cut, err
}

// note records an answer or its absence, and logs when that is a change.
func (t *TailClient) note(p *peer, err error) {
	now := t.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.health
	p.health.OK, p.health.Error, p.until = err == nil, "", time.Time{}
	if err != nil {
		p.health.Error, p.until = err.Error(), now.Add(t.o.Retry)
	}
	if before.OK != p.health.OK || before.Since.IsZero() {
		p.health.Since = now
	}
	switch {
	case before.OK && err != nil:
		t.o.Log.Warn("flight: an ingest process cannot be reached, queries see committed rows of its partitions", "addr", p.client.addr, "error", err.Error())
	case !before.OK && err == nil:
		t.o.Log.Info("flight: an ingest process answers again", "addr", p.client.addr, "away", now.Sub(before.Since).String())
	}
}

// cut fetches all rows of a tail. The cut owns them.
func (c *Client) cut(ctx context.Context, table catalog.Identifier, from offset.Vector, epoch, maxBytes int64) (*hot.Cut, error) {
	cmd, err := command{Firn: "tail", Table: quoteIdentifier(table), From: vector(from), Epoch: epoch}.encode()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	res, err := c.open(ctx, cancel, cmd)
	if err != nil {
		cancel()
		return nil, c.failed("tail", err)
	}
	defer res.Release()
	var head cutAnswer
	if err := strictJSON(res.first, &head); err != nil {
		return nil, fmt.Errorf("%w: tail: %s: %w", ErrBadRequest, c.addr, err)
	}
	if err := head.check(from, epoch); err != nil {
		return nil, fmt.Errorf("%w: tail: %s: %w", ErrBadRequest, c.addr, err)
	}
	rows, err := res.drain(ctx, maxBytes)
	if err != nil {
		return nil, err
	}
	return hot.NewCut(rows, from.Clone(), offset.Vector(head.End), head.Epoch, func() { releaseAll(rows) }), nil
}

// check holds the answer against the question: a cut that starts elsewhere would double rows or leave some out.
func (a cutAnswer) check(from offset.Vector, epoch int64) error {
	if a.Epoch != epoch {
		return fmt.Errorf("epoch %d was asked, %d came", epoch, a.Epoch)
	}
	if !offset.Vector(a.From).Equal(from) {
		return errors.New("the rows start at other offsets than asked")
	}
	for p, at := range from {
		if end, ok := a.End[p]; !ok || end < at {
			return fmt.Errorf("partition %d ends at %d before its start %d", p, end, at)
		}
	}
	return nil
}

func releaseCuts(cuts []*hot.Cut) {
	for _, c := range cuts {
		c.Release()
	}
}

// joinCuts takes each partition from the one cut that is furthest in it. A process answers the asked offsets for
// partitions that it does not own, so the furthest is the owner; two that both claim a partition never mix.
func joinCuts(from offset.Vector, epoch int64, cuts []*hot.Cut) (*hot.Cut, error) {
	if len(cuts) == 1 {
		return cuts[0], nil
	}
	end, owner := offset.Vector{}, map[int32]int{}
	for i, c := range cuts {
		for p, at := range c.End {
			if best, ok := end[p]; !ok || at > best {
				end[p], owner[p] = at, i
			}
		}
	}
	var rows []arrow.RecordBatch
	for i, c := range cuts {
		for _, r := range c.Rows {
			p, err := partitionOf(r)
			if err != nil {
				releaseCuts(cuts)
				return nil, err
			}
			if owner[p] == i {
				rows = append(rows, r)
			}
		}
	}
	return hot.NewCut(rows, from.Clone(), end, epoch, func() { releaseCuts(cuts) }), nil
}

// partitionOf is the partition of a batch of a tail, whose rows are all of one.
func partitionOf(r arrow.RecordBatch) (int32, error) {
	i := r.Schema().FieldIndices(ledger.ColPartition)
	if len(i) == 1 && r.NumRows() > 0 {
		if c, ok := r.Column(i[0]).(*array.Int32); ok && c.IsValid(0) {
			return c.Value(0), nil
		}
	}
	return 0, fmt.Errorf("%w: rows of a tail without %s", ErrBadRequest, ledger.ColPartition)
}
