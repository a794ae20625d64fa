package transform

import (
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// vec is the values of one expression for the rows of a batch. The slice of the type's kind and null are as long as the batch;
// only the rows that were selected are meant.
type vec struct {
	null []bool
	i    []int64
	f    []float64
	b    []bool
	s    []string // texts and bytes; they alias the batch or the arena
	d    []decimal128.Num
}

// node is an expression that was checked. eval fills the rows of sel and may be called again for others; what it returns is
// the node's own until the next batch. A row that fails is null.
type node interface {
	typ() valueType
	eval(x *exec, sel []int32) *vec
}

// base is what nodes share.
type base struct {
	t   valueType
	out vec
}

func (b *base) typ() valueType { return b.t }

// room makes the node's own vector as long as the batch.
func (b *base) room(x *exec) *vec {
	v := &b.out
	v.null = sized(v.null, x.n)
	switch {
	case b.t.kind == kindBool:
		v.b = sized(v.b, x.n)
	case b.t.onInts():
		v.i = sized(v.i, x.n)
	case b.t.floating():
		v.f = sized(v.f, x.n)
	case b.t.kind == kindDecimal:
		v.d = sized(v.d, x.n)
	case b.t.onBytes():
		v.s = sized(v.s, x.n)
	}
	return v
}

func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}

// fault is why a row failed, without any of its values. One belongs to each place of an expression that can fail.
type fault struct {
	column string // the computed column; empty for the filter
	msg    string
}

// exec is one batch under evaluation.
type exec struct {
	n      int
	batch  arrow.RecordBatch
	serial uint64 // of the batch: what was loaded for an older one is outdated
	all    []int32
	failed []*fault // by row; nil where nothing failed
	nFail  int
	arena  []byte // texts made here, until the next batch
	spare  [][]int32
}

func (x *exec) begin(b arrow.RecordBatch) {
	x.n, x.batch = int(b.NumRows()), b
	x.serial++
	old := len(x.all)
	if old < x.n {
		x.all = append(x.all, make([]int32, x.n-old)...)
		for i := old; i < x.n; i++ {
			x.all[i] = int32(i)
		}
	}
	x.failed = sized(x.failed, x.n)
	clear(x.failed)
	x.nFail, x.arena = 0, x.arena[:0]
}

// end forgets the batch.
func (x *exec) end() { x.batch = nil }

func (x *exec) fail(row int32, f *fault) {
	if x.failed[row] == nil {
		x.failed[row] = f
		x.nFail++
	}
}

// rows lends a list for a selection; give hands it back.
func (x *exec) rows() []int32 {
	if n := len(x.spare); n > 0 {
		s := x.spare[n-1]
		x.spare = x.spare[:n-1]
		return s[:0]
	}
	return make([]int32, 0, x.n)
}

func (x *exec) give(s []int32) { x.spare = append(x.spare, s) }

// text is the end of the arena from a position on. The arena may move; what was cut from it before stays valid.
func (x *exec) text(from int) string {
	if from == len(x.arena) {
		return ""
	}
	return unsafe.String(&x.arena[from], len(x.arena)-from)
}

// bytesOf is a view of bytes that nobody changes while the batch lasts.
func bytesOf(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}
