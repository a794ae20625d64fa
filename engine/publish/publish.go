package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/deadletter"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/past"
	"github.com/firnlake/firn/internal/sleep"
	"github.com/firnlake/firn/internal/snapshot"
)

const (
	// maxChunkLetters and maxChunkBytes bound what is handed to the producer, and so what is in memory, at a time.
	maxChunkLetters = 1000
	maxChunkBytes   = 4 << 20
	// aloneBytes is the size from which a message is handed over by itself: it may be more than the topic takes.
	aloneBytes = 128 << 10
	// retryMin and retryMax bound the wait after a failure; it doubles.
	retryMin = 500 * time.Millisecond
	retryMax = 30 * time.Second
	// manifestCacheBytes bounds the encoded manifests that are kept from one look at the table to the next.
	manifestCacheBytes = 1 << 20
)

// ErrTooLarge is what a Producer's error wraps when the topic does not take a message of that size.
var ErrTooLarge = errors.New("the message is larger than the topic takes")

// Producer writes to the topic and returns when the brokers have all messages; after an error they may have some of them.
type Producer interface {
	Produce(ctx context.Context, msgs []Message) error
}

// Options is what a Publisher works with. Log and Metrics may be nil.
type Options struct {
	Pipeline  string
	Topic     string // of the dead letters
	Table     catalog.Identifier
	Catalog   catalog.Catalog
	Warehouse *objstore.Warehouse
	Producer  Producer
	Log       *slog.Logger
	Metrics   *Metrics
	Now       func() time.Time // nil: time.Now
}

// Status is how a Publisher does.
type Status struct {
	Topic     string    `json:"topic"`
	Published int64     `json:"published"`          // messages since it started
	Since     time.Time `json:"since,omitzero"`     // when the oldest dead letter that is not in the topic was committed; zero: all are
	Problem   string    `json:"problem,omitempty"`  // of the last attempt
	LeftOut   int64     `json:"left_out,omitempty"` // letters whose record the topic does not take
}

// Publisher is an engine.Publisher. Run does the work.
type Publisher struct {
	o      Options
	reader *snapshot.Reader
	kick   chan struct{}

	mu         sync.Mutex
	generation int
	to         offset.Vector // V
	under      offset.Vector // where the job under way, or the next, begins
	next       offset.Vector // and the letters that were committed since it began
	status     Status
}

var _ engine.Publisher = (*Publisher)(nil)

// New returns a publisher with nothing to do.
func New(o Options) *Publisher {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Log = o.Log.With("dead_letter_topic", o.Topic)
	return &Publisher{o: o, reader: snapshot.NewReader(o.Warehouse, manifestCacheBytes), kick: make(chan struct{}, 1),
		under: offset.Vector{}, next: offset.Vector{}, status: Status{Topic: o.Topic}}
}

// Resume implements engine.Publisher.
func (p *Publisher) Resume(unpublished, v offset.Vector) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generation++
	p.to, p.under, p.next = v.Clone(), offset.Vector{}, unpublished.Clone()
	p.status.Since, p.status.Problem = time.Time{}, ""
	p.wake()
}

// Committed implements engine.Publisher.
func (p *Publisher) Committed(dead, v offset.Vector) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = v.Clone()
	p.next.Lower(dead)
	p.wake()
}

// wake tells Run of what there is to do, under p.mu.
func (p *Publisher) wake() {
	if len(p.under)+len(p.next) == 0 {
		return
	}
	if p.status.Since.IsZero() {
		p.status.Since = p.o.Now()
	}
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// Unpublished is per partition the first dead letter below V that the brokers have not acknowledged, or a letter before it.
func (p *Publisher) Unpublished() offset.Vector {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.under.Clone()
	v.Lower(p.next)
	return v
}

// Status tells how it does.
func (p *Publisher) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// job is one stretch of letters on its way, over as many attempts as it takes.
type job struct {
	past.Rows
	generation int
	sent       map[part]int // letters from the beginning of each file that the brokers have
}

// part is a data file as its rows were when it was read: with more of them deleted, its letters are counted anew.
type part struct {
	path    string
	deleted uint64
}

// Run publishes until ctx ends. A failure is retried for ever and shows in Status; the pipeline does not wait for it.
func (p *Publisher) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		}
		for j := p.begin(); j != nil && ctx.Err() == nil; j = p.begin() {
			p.finish(ctx, j)
		}
	}
}

// begin takes what there is to do; nil: nothing.
func (p *Publisher) begin() *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.under.Lower(p.next)
	p.next = offset.Vector{}
	if len(p.under) == 0 {
		return nil
	}
	to := offset.Vector{} // of no other partition
	for id := range p.under {
		to[id] = p.to[id]
	}
	return &job{Rows: past.Rows{From: p.under.Clone(), To: to}, generation: p.generation, sent: map[part]int{}}
}

// finish carries a job through, unless the pipeline starts over meanwhile.
func (p *Publisher) finish(ctx context.Context, j *job) {
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		err := p.publish(ctx, j)
		if ctx.Err() != nil || !p.attempted(j, err) {
			return
		}
		p.o.Log.Warn("dead letters could not be published, trying again; ingest goes on", "error", err, "wait", wait)
		_ = sleep.For(ctx, wait)
	}
}

// attempted notes how an attempt at a job ended, and whether there is to be another.
func (p *Publisher) attempted(j *job, err error) (again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j.generation != p.generation {
		return false
	}
	p.status.Problem = ""
	if err != nil {
		p.o.Metrics.failures.WithLabelValues(p.o.Pipeline).Inc()
		p.status.Problem = err.Error()
		p.o.Metrics.behind.WithLabelValues(p.o.Pipeline).Set(p.o.Now().Sub(p.status.Since).Seconds())
		return true
	}
	p.under, p.status.Since = offset.Vector{}, time.Time{}
	if len(p.next) > 0 {
		p.status.Since = p.o.Now()
	}
	p.o.Metrics.behind.WithLabelValues(p.o.Pipeline).Set(0)
	return false
}

// current tells whether the pipeline still stands where the job was begun.
func (p *Publisher) current(j *job) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return j.generation == p.generation
}

// errOver ends a job that the pipeline has started over from.
var errOver = errors.New("the pipeline has started over")

// publish reads the job's letters from the table's head and sends those that were not sent yet, the files in the order in
// which they came.
func (p *Publisher) publish(ctx context.Context, j *job) error {
	t, err := p.o.Catalog.LoadTable(ctx, p.o.Table, catalog.LoadRefs)
	if err != nil {
		return fmt.Errorf("table %s: %w", p.o.Table, err)
	}
	head := t.Metadata.CurrentSnapshot()
	if head == nil {
		return nil // somebody has emptied the table
	}
	sc := t.Metadata.CurrentSchema()
	partition, offs, _ := past.LedgerColumns(sc)
	files, err := p.reader.LiveFiles(ctx, head, func(f iceberg.DataFile) bool { return j.MayHold(past.BoundsOf(f, partition, offs)) })
	if err != nil {
		return fmt.Errorf("table %s: %w", p.o.Table, err)
	}
	slices.SortStableFunc(files, func(a, b snapshot.File) int { return cmp.Compare(a.SequenceNumber, b.SequenceNumber) })
	want := deadletter.Columns(sc, true)
	for _, f := range files {
		if err := p.file(ctx, j, f, want); err != nil {
			return fmt.Errorf("table %s: %w", p.o.Table, err)
		}
	}
	return nil
}

// file sends the job's letters of one file in chunks.
func (p *Publisher) file(ctx context.Context, j *job, f snapshot.File, want *iceberg.Schema) error {
	at := part{path: f.FilePath()}
	if f.Deleted != nil {
		at.deleted = f.Deleted.GetCardinality()
	}
	var chunk []deadletter.Letter
	size, n := 0, 0
	flush := func() error {
		if len(chunk) > 0 {
			if !p.current(j) {
				return errOver
			}
			if err := p.send(ctx, chunk); err != nil {
				return err
			}
		}
		j.sent[at] = n
		chunk, size = chunk[:0], 0
		return nil
	}
	done := j.sent[at]
	err := deadletter.Files(ctx, p.o.Warehouse, []snapshot.File{f}, want, func(_ snapshot.File, l *deadletter.Letter) error {
		if n < done || !j.Holds(l.Partition, l.Offset) {
			n++
			return nil
		}
		bytes := sizeOf(l)
		if bytes >= aloneBytes || size+bytes > maxChunkBytes || len(chunk) == maxChunkLetters {
			if err := flush(); err != nil {
				return err
			}
		}
		n++
		chunk, size = append(chunk, *l), size+bytes
		if bytes >= aloneBytes {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// send hands letters to the producer; where the topic does not take one of them, it gets what the message says beside the record.
func (p *Publisher) send(ctx context.Context, letters []deadletter.Letter) error {
	msgs := make([]Message, len(letters))
	for i := range letters {
		msgs[i] = messageOf(p.o.Pipeline, &letters[i])
	}
	err := p.o.Producer.Produce(ctx, msgs)
	switch {
	case err == nil:
		p.sent(len(letters), 0)
		return nil
	case !errors.Is(err, ErrTooLarge):
		return err
	case len(letters) > 1:
		half := len(letters) / 2
		if err := p.send(ctx, letters[:half]); err != nil {
			return err
		}
		return p.send(ctx, letters[half:])
	}
	if err := p.o.Producer.Produce(ctx, []Message{withoutValue(p.o.Pipeline, &letters[0])}); err != nil {
		return err
	}
	p.sent(1, 1)
	return nil
}

func (p *Publisher) sent(n, leftOut int) {
	p.o.Metrics.published.WithLabelValues(p.o.Pipeline).Add(float64(n))
	p.o.Metrics.leftOut.WithLabelValues(p.o.Pipeline).Add(float64(leftOut))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Published += int64(n)
	p.status.LeftOut += int64(leftOut)
}
