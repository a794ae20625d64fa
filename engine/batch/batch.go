package batch

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/arrowmem"
	"github.com/firnlake/firn/internal/offset"
)

// maxTraceIDs bounds the producer traces that a batch's span links to (OpenTelemetry caps links at 128).
const maxTraceIDs = 100

// Config bounds one batch.
type Config struct {
	MaxRows  int64 // rows; the batch is cut early when it holds as many
	MaxBytes int64 // Arrow bytes; likewise
}

// DefaultConfig gives the bounds of a batch during catch-up: few, large files.
func DefaultConfig() Config { return Config{MaxRows: 1_000_000, MaxBytes: 96 << 20} }

// Builder implements engine.Batcher. Not safe for concurrent use.
type Builder struct {
	cfg    Config
	now    func() time.Time
	open   map[int32]offset.Range
	batch  engine.Batch
	bytes  int64
	filled bool
}

// New returns an empty builder; now tells the time that a batch is opened at.
func New(cfg Config, now func() time.Time) *Builder {
	b := &Builder{cfg: cfg, now: now}
	b.reset()
	return b
}

func (b *Builder) reset() {
	b.open = make(map[int32]offset.Range, len(b.open))
	b.batch = engine.Batch{LastRow: offset.Vector{}}
	b.bytes, b.filled = 0, false
}

// Add implements engine.Batcher. A stretch that does not continue its partition's range is refused, and its rows
// stay with the caller.
func (b *Builder) Add(partition int32, d engine.Decoded) error {
	r := d.Range
	if r.Partition != partition {
		return fmt.Errorf("stretch of partition %d was handed over as partition %d", r.Partition, partition)
	}
	if at, ok := b.open[partition]; ok {
		if at.End != r.Start {
			return fmt.Errorf("%w: partition %d stands at %d, stretch is [%d,%d)", offset.ErrNotContiguous, partition, at.End, r.Start, r.End)
		}
		r.Start = at.Start
	}
	if !b.filled {
		b.batch.Opened, b.filled = b.now(), true
	}
	b.open[partition] = r
	b.addRows(partition, d)
	for _, dl := range d.Dead {
		b.batch.Dead = append(b.batch.Dead, engine.Dead{Partition: partition, DeadLetter: dl})
		b.bytes += int64(len(dl.Key) + len(dl.Value))
	}
	if len(d.Filtered) > 0 {
		b.batch.Filtered = append(b.batch.Filtered, engine.Filtered{Partition: partition, Offsets: d.Filtered})
		b.bytes += int64(8 * len(d.Filtered))
	}
	if len(d.Duplicates) > 0 {
		b.batch.Duplicates = append(b.batch.Duplicates, engine.Filtered{Partition: partition, Offsets: d.Duplicates})
		b.bytes += int64(8 * len(d.Duplicates))
	}
	b.batch.Bytes += d.Bytes
	if d.MaxEvent.After(b.batch.MaxEvent) {
		b.batch.MaxEvent = d.MaxEvent
	}
	if !d.MinKafka.IsZero() && (b.batch.MinKafka.IsZero() || d.MinKafka.Before(b.batch.MinKafka)) {
		b.batch.MinKafka = d.MinKafka
	}
	if room := maxTraceIDs - len(b.batch.TraceIDs); room > 0 {
		b.batch.TraceIDs = append(b.batch.TraceIDs, d.TraceIDs[:min(room, len(d.TraceIDs))]...)
	}
	return nil
}

func (b *Builder) addRows(partition int32, d engine.Decoded) {
	if d.Rows == nil {
		return
	}
	if d.Rows.NumRows() == 0 {
		d.Rows.Release()
		return
	}
	b.batch.Rows = append(b.batch.Rows, d.Rows)
	b.batch.RowCount += d.Rows.NumRows()
	b.batch.LastRow[partition] = d.LastRow
	b.bytes += arrowmem.Bytes(d.Rows)
}

// Bytes implements engine.Batcher.
func (b *Builder) Bytes() int64 { return b.bytes }

// Empty implements engine.Batcher.
func (b *Builder) Empty() bool { return !b.filled }

// Full implements engine.Batcher.
func (b *Builder) Full() bool { return b.batch.RowCount >= b.cfg.MaxRows || b.bytes >= b.cfg.MaxBytes }

// Cut implements engine.Batcher.
func (b *Builder) Cut() (*engine.Batch, error) {
	if !b.filled {
		return nil, nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("batch id: %w", err)
	}
	ranges := make([]offset.Range, 0, len(b.open))
	for _, r := range b.open {
		ranges = append(ranges, r)
	}
	if ranges, err = offset.Merge(ranges); err != nil {
		return nil, err
	}
	out := b.batch
	out.ID, out.Ranges = id.String(), ranges
	b.reset()
	return &out, nil
}

// Drop implements engine.Batcher.
func (b *Builder) Drop() {
	for _, r := range b.batch.Rows {
		r.Release()
	}
	b.reset()
}
