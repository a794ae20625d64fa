package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// ErrUnsorted reports rows that were to be merged and are not in the order that their file tells.
var ErrUnsorted = errors.New("rows are not in their order")

// Source gives the batches of one sorted input.
type Source interface {
	// Next returns the next batch, which stays the source's and is valid until the call after it; io.EOF behind the last.
	Next() (arrow.RecordBatch, error)
}

// Merge gives fn the rows of all sources in the order of the keys. Each source has to be in that order by itself; one that is
// not ends the merge with ErrUnsorted, so that what fn was given is in order whatever happens. Batches share a schema; one is
// valid during the call. In memory is one batch of each source, up to three times.
func Merge(ctx context.Context, mem memory.Allocator, keys []SortKey, sources []Source, fn func(arrow.RecordBatch) error) error {
	m := &merge{mem: mem, keys: keys}
	for _, s := range sources {
		m.inputs = append(m.inputs, &mergeInput{src: s})
	}
	defer m.release()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.fill(); err != nil || len(m.inputs) == 0 {
			return err
		}
		if err := m.give(ctx, fn); err != nil {
			return err
		}
	}
}

type merge struct {
	mem    memory.Allocator
	keys   []SortKey
	inputs []*mergeInput // that are not at their end, in the order of the sources
}

// mergeInput is a source and its batch, of which the rows from from on are still to come.
type mergeInput struct {
	src   Source
	batch arrow.RecordBatch
	cols  sortColumns
	from  int32
}

func (in *mergeInput) last() int32 { return int32(in.batch.NumRows()) - 1 }

func (m *merge) release() {
	for _, in := range m.inputs {
		if in.batch != nil {
			in.batch.Release()
		}
	}
}

// fill gives each input rows, and drops those that have none any more.
func (m *merge) fill() error {
	var left []*mergeInput
	for i, in := range m.inputs {
		more, err := in.fill(m.keys)
		if err != nil {
			m.inputs = append(left, m.inputs[i:]...)
			return err
		}
		if more {
			left = append(left, in)
		}
	}
	m.inputs = left
	return nil
}

func (in *mergeInput) fill(keys []SortKey) (more bool, err error) {
	for in.batch == nil || in.from > in.last() {
		b, err := in.src.Next()
		if errors.Is(err, io.EOF) {
			if in.batch != nil {
				in.batch.Release()
				in.batch = nil
			}
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if b.NumRows() == 0 {
			continue
		}
		cols, err := newSortColumns(b, keys)
		if err != nil {
			return false, err
		}
		if in.batch != nil && in.cols.compare(in.last(), cols, 0) > 0 {
			return false, fmt.Errorf("%w: a batch begins before the end of the one in front of it", ErrUnsorted)
		}
		for i := range int32(b.NumRows()) - 1 {
			if cols.compare(i, cols, i+1) > 0 {
				return false, fmt.Errorf("%w: row %d of a batch of %d is behind the next", ErrUnsorted, i, b.NumRows())
			}
		}
		if in.batch != nil {
			in.batch.Release()
		}
		b.Retain()
		in.batch, in.cols, in.from = b, cols, 0
	}
	return true, nil
}

// give takes from every input the rows up to the first end of a batch: nothing that comes later is before them.
func (m *merge) give(ctx context.Context, fn func(arrow.RecordBatch) error) error {
	end := m.inputs[0]
	for _, in := range m.inputs[1:] {
		if in.cols.compare(in.last(), end.cols, end.last()) < 0 {
			end = in
		}
	}
	var parts []arrow.RecordBatch
	defer func() {
		for _, p := range parts {
			p.Release()
		}
	}()
	var runs []run
	n := int64(0)
	for _, in := range m.inputs {
		to := in.from + int32(sort.Search(int(in.last()+1-in.from), func(i int) bool {
			return in.cols.compare(in.from+int32(i), end.cols, end.last()) > 0
		}))
		if to > in.from {
			parts = append(parts, in.batch.NewSlice(int64(in.from), int64(to)))
			runs = append(runs, run{cols: in.cols, at: in.from, to: to, place: int32(n)})
			n += int64(to - in.from)
			in.from = to
		}
	}
	if len(parts) == 1 {
		return fn(parts[0])
	}
	if n > math.MaxInt32 {
		return fmt.Errorf("%w: %d rows, at most %d can be at a time", ErrSort, n, math.MaxInt32)
	}
	all, err := concat(parts, m.mem)
	if err != nil {
		return err
	}
	defer all.Release()
	order, moved := mergeRuns(runs, int(n))
	if !moved {
		return fn(all)
	}
	out, err := take(ctx, m.mem, all, order)
	if err != nil {
		return err
	}
	defer out.Release()
	return fn(out)
}

// run is sorted rows [at, to) of a batch, of which the first lies at place when the rows of all runs lie behind one another.
type run struct {
	cols          sortColumns
	at, to, place int32
}

// before holds the first rows of two runs against each other; of rows that are equal that of the earlier source comes first.
func (r *run) before(o *run) bool {
	c := r.cols.compare(r.at, o.cols, o.at)
	return c < 0 || c == 0 && r.place < o.place
}

// mergeRuns gives the places of all n rows in the order of the keys; moved is false when they lie in it already. It uses up
// the runs, of which none is empty.
func mergeRuns(runs []run, n int) (order []int32, moved bool) {
	order = make([]int32, 0, n)
	heap := make([]*run, len(runs)) // the run with the least first row is at the root
	for i := range runs {
		heap[i] = &runs[i]
	}
	for i := len(heap)/2 - 1; i >= 0; i-- {
		sink(heap, i)
	}
	for len(heap) > 0 {
		r := heap[0]
		moved = moved || int(r.place) != len(order)
		order = append(order, r.place)
		r.at, r.place = r.at+1, r.place+1
		if r.at == r.to {
			heap[0] = heap[len(heap)-1]
			heap = heap[:len(heap)-1]
		}
		sink(heap, 0)
	}
	return order, moved
}

// sink puts what stands at i below those of its children that come before it.
func sink(heap []*run, i int) {
	for {
		first := 2*i + 1
		if first >= len(heap) {
			return
		}
		if next := first + 1; next < len(heap) && heap[next].before(heap[first]) {
			first = next
		}
		if !heap[first].before(heap[i]) {
			return
		}
		heap[i], heap[first] = heap[first], heap[i]
		i = first
	}
}
