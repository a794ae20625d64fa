package deadletter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// ColRedriven is the column of the mark: the id of the snapshot that took the letter in as a row; null for the others. The
// first redrive adds it to the table.
const ColRedriven = "redriven_snapshot"

// Columns that tables of earlier versions may lack, until the pipeline starts again.
const (
	ColSchemaID = "schema_id"
	ColTraceID  = "trace_id"
)

// Letter is one dead letter.
type Letter struct {
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	Line      int32             `json:"line,omitempty"` // of a record with several events the one that failed, from 1 on; Value is that line
	Timestamp time.Time         `json:"timestamp"`      // of the Kafka record
	Ingested  time.Time         `json:"ingested_at"`
	Reason    string            `json:"reason"`
	Place     string            `json:"place"`
	Message   string            `json:"message"`
	Topic     string            `json:"topic"`
	SchemaID  *int64            `json:"schema_id,omitempty"` // of the registry, that the record names
	TraceID   string            `json:"trace_id,omitempty"`  // of the record's traceparent header, 32 hex digits
	Redriven  int64             `json:"redriven_snapshot,omitempty"`
	Key       []byte            `json:"key,omitempty"`   // with payload alone
	Value     []byte            `json:"value,omitempty"` // nil for a tombstone
	Headers   map[string][]byte `json:"headers,omitempty"`
}

// Filter chooses letters; what is empty chooses all.
type Filter struct {
	Reasons      []string
	Partitions   []int32
	Offsets      []int64   // in any of the partitions
	Since, Until time.Time // of the Kafka record: [Since, Until)
}

// Match tells whether the filter chooses the letter.
func (f *Filter) Match(l *Letter) bool {
	return (len(f.Reasons) == 0 || slices.Contains(f.Reasons, l.Reason)) && (len(f.Partitions) == 0 || slices.Contains(f.Partitions, l.Partition)) &&
		(len(f.Offsets) == 0 || slices.Contains(f.Offsets, l.Offset)) && (f.Since.IsZero() || !l.Timestamp.Before(f.Since)) && (f.Until.IsZero() || l.Timestamp.Before(f.Until))
}

// Columns is the part of a dead-letter table's schema that Files reads. Payload asks for key, value and headers as well.
func Columns(sc *iceberg.Schema, payload bool) *iceberg.Schema {
	names := []string{"reason", "place", "message", "topic", ColSchemaID, ColTraceID, ColRedriven, ledger.ColPartition, ledger.ColOffset, ledger.ColIndex, ledger.ColTimestamp, ledger.ColIngestedAt}
	if payload {
		names = append(names, "raw_key", "raw_value", "headers")
	}
	var out []iceberg.NestedField
	for _, f := range sc.Fields() {
		if slices.Contains(names, f.Name) {
			f.Required = false
			out = append(out, f)
		}
	}
	return iceberg.NewSchema(0, out...)
}

// scan calls fn with the letters of one file, in file order. A letter's bytes are its own.
func scan(ctx context.Context, store objstore.Store, key string, want *iceberg.Schema, deleted *roaring64.Bitmap, fn func(*Letter) error) error {
	r, err := datafile.Open(ctx, store, key, datafile.ReadOptions{Mem: memory.DefaultAllocator, Deleted: deleted})
	if err != nil {
		return err
	}
	return errors.Join(r.Scan(ctx, want, func(b arrow.RecordBatch) error {
		for i := range int(b.NumRows()) {
			l, ok := At(b, i)
			if !ok {
				continue // a row of another engine's, not of Kafka
			}
			if err := fn(l); err != nil {
				return err
			}
		}
		return nil
	}), r.Close())
}

// Files calls fn with the letters of all files of a snapshot that were listed; deleted rows are left out.
func Files(ctx context.Context, wh *objstore.Warehouse, files []snapshot.File, want *iceberg.Schema, fn func(snapshot.File, *Letter) error) error {
	for _, f := range files {
		key, err := wh.Key(f.FilePath())
		if err != nil {
			return err
		}
		if err := scan(ctx, wh.Store, key, want, f.Deleted, func(l *Letter) error { return fn(f, l) }); err != nil {
			return fmt.Errorf("dead letters: %w", err)
		}
	}
	return nil
}

// At reads row i; ok is false without its place in Kafka.
func At(b arrow.RecordBatch, i int) (*Letter, bool) {
	l := &Letter{Partition: -1, Offset: -1}
	for c, f := range b.Schema().Fields() {
		a := b.Column(c)
		if a.IsNull(i) {
			continue
		}
		switch a := a.(type) {
		case *array.String:
			l.text(f.Name, a.Value(i))
		case *array.Int32:
			switch f.Name {
			case ledger.ColPartition:
				l.Partition = a.Value(i)
			case ledger.ColIndex:
				l.Line = a.Value(i) + 1
			}
		case *array.Int64:
			switch f.Name {
			case ledger.ColOffset:
				l.Offset = a.Value(i)
			case ColRedriven:
				l.Redriven = a.Value(i)
			case ColSchemaID:
				id := a.Value(i)
				l.SchemaID = &id
			}
		case *array.Timestamp:
			at := time.UnixMicro(int64(a.Value(i))).UTC()
			switch f.Name {
			case ledger.ColTimestamp:
				l.Timestamp = at
			case ledger.ColIngestedAt:
				l.Ingested = at
			}
		case *array.Binary:
			v := append([]byte{}, a.Value(i)...)
			switch f.Name {
			case "raw_key":
				l.Key = v
			case "raw_value":
				l.Value = v
			}
		case *array.Map:
			l.Headers = headers(a, i)
		}
	}
	return l, l.Partition >= 0 && l.Offset >= 0
}

func (l *Letter) text(name, v string) {
	switch name {
	case "reason":
		l.Reason = v
	case "place":
		l.Place = v
	case "message":
		l.Message = v
	case "topic":
		l.Topic = v
	case ColTraceID:
		l.TraceID = v
	}
}

func headers(a *array.Map, i int) map[string][]byte {
	keys, kok := a.Keys().(*array.String)
	items, vok := a.Items().(*array.Binary)
	if !kok || !vok {
		return nil
	}
	from, to := a.ValueOffsets(i)
	out := map[string][]byte{}
	for j := int(from); j < int(to); j++ {
		var v []byte
		if items.IsValid(j) {
			v = append([]byte{}, items.Value(j)...)
		}
		out[keys.Value(j)] = v
	}
	return out
}
