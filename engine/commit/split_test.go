package commit

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// TestFanOut: a file for each partition value, with the value in the manifest, rows in the order of the ledger, and the
// same rows as without partitions.
func TestFanOut(t *testing.T) {
	for _, by := range [][]string{{"hour(meta.at)"}, {"day(meta.at)"}, {"bucket(3, user)"}, {"user", "month(meta.at)"}, {"truncate(5, user)"}, nil} {
		t.Run(fmt.Sprint(by), func(t *testing.T) {
			mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
			defer mem.AssertSize(t, 0)
			l := newLake(t, by...)
			l.mem = mem
			c := l.committer(l.cat)
			l.recover(c)
			b := l.batchOf(allRows, rng(1, 0, 60), rng(0, 0, 45))
			slices.Reverse(b.Rows) // as stretches arrive, in no order
			b.Ranges = []offset.Range{rng(0, 0, 45), rng(1, 0, 60)}
			got, err := c.Commit(t.Context(), b)
			release(b)
			l.must(err)
			v := offset.Vector{0: 45, 1: 60}
			l.wantRows(l.rows, v, func(int32, int64) bool { return true })
			files, err := snapshot.Files(t.Context(), l.wh, l.meta(l.rows).CurrentSnapshot(), nil)
			l.must(err)
			if len(files) != got.Files {
				t.Errorf("%d files, committed %+v", len(files), got)
			}
			want := map[string]int{"[hour(meta.at)]": 6, "[day(meta.at)]": 2, "[bucket(3, user)]": 3, "[user month(meta.at)]": 7, "[truncate(5, user)]": 1, "[]": 1}
			if len(files) != want[fmt.Sprint(by)] {
				t.Errorf("%d files, want %d", len(files), want[fmt.Sprint(by)])
			}
			scan, err := newLedgerScan(l.wh, l.meta(l.rows))
			l.must(err)
			seen := map[string]bool{}
			for _, f := range files {
				key := fmt.Sprint(f.Partition())
				if seen[key] || len(f.Partition()) != len(by) {
					t.Errorf("partition %s twice, or of other fields", key)
				}
				seen[key] = true
				last, lastP := int64(-1), int32(-1)
				l.must(scan.read(t.Context(), f, func(p int32, o int64) error {
					if p < lastP || p == lastP && o <= last {
						t.Errorf("row %d:%d after %d:%d", p, o, lastP, last)
					}
					if p != lastP {
						last = -1
					}
					lastP, last = p, o
					return nil
				}))
				if by != nil && by[0] == "hour(meta.at)" {
					if h, ok := f.Partition()[1000].(int32); !ok || int64(h) < 1_780_000_000/3600 {
						t.Errorf("hour %v", f.Partition())
					}
				}
			}
		})
	}
}

// TestPartitionValues holds the values against Iceberg's transforms, nulls and negative times included.
func TestPartitionValues(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	sc := testSchema()
	as, err := datafile.ArrowSchema(sc)
	if err != nil {
		t.Fatal(err)
	}
	b := array.NewRecordBuilder(mem, as)
	defer b.Release()
	type row struct {
		user *string
		at   *int64 // microseconds
		null bool   // of the struct
	}
	str, num := func(s string) *string { return &s }, func(n int64) *int64 { return &n }
	rows := []row{{str("ångström"), num(0), false}, {nil, num(-1), false}, {str(""), nil, false}, {str("x"), nil, true}, {str("ångström"), num(1), false}}
	for i, r := range rows {
		if r.user == nil {
			b.Field(0).AppendNull()
		} else {
			b.Field(0).(*array.StringBuilder).Append(*r.user)
		}
		st := b.Field(1).(*array.StructBuilder)
		switch {
		case r.null:
			st.AppendNull() // and its children
		case r.at == nil:
			st.Append(true)
			st.FieldBuilder(0).AppendNull()
		default:
			st.Append(true)
			st.FieldBuilder(0).(*array.TimestampBuilder).Append(arrow.Timestamp(*r.at))
		}
		b.Field(2).(*array.Int32Builder).Append(0)
		b.Field(3).(*array.Int64Builder).Append(int64(i))
		b.Field(4).AppendNull()
		b.Field(5).AppendNull()
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	spec, err := partitionSpec(sc, []string{"day(meta.at)", "truncate(3, user)"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSplitter(mem, *spec, sc, as)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := s.split(t.Context(), []arrow.RecordBatch{rec})
	if err != nil {
		t.Fatal(err)
	}
	defer releaseGroups(groups)
	var got []string
	for _, g := range groups {
		n := int64(0)
		for _, r := range g.rows {
			n += r.NumRows()
		}
		got = append(got, fmt.Sprintf("%v/%v:%d", g.values[1000], g.values[1001], n))
	}
	want := []string{fmt.Sprintf("%v/ång:2", iceberg.Date(0)), fmt.Sprintf("%v/<nil>:1", iceberg.Date(-1)), "<nil>/:1", "<nil>/x:1"}
	if !slices.Equal(got, want) {
		t.Errorf("groups %q, want %q", got, want)
	}
}

// TestTooManyPartitions: a batch that would make more files than the bound says which property to change.
func TestTooManyPartitions(t *testing.T) {
	l := newLake(t)
	as, err := datafile.ArrowSchema(testSchema())
	l.must(err)
	spec, err := partitionSpec(testSchema(), []string{ledgerOffset})
	l.must(err)
	s, err := newSplitter(l.mem, *spec, testSchema(), as)
	l.must(err)
	offsets := make([]int64, maxFiles+1)
	for i := range offsets {
		offsets[i] = int64(i)
	}
	r := l.rowsOf(0, offsets...)
	defer r.Release()
	if _, err := s.split(t.Context(), []arrow.RecordBatch{r}); err == nil {
		t.Error("more files than the bound")
	} else {
		isErr(t, err, ErrTable)
	}
}

const ledgerOffset = "_kafka_offset"

// TestSchemaChangedBesides: another engine adds a column while the pipeline runs; its rows go on in the schema they are in.
func TestSchemaChangedBesides(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	l.commit(c, rng(0, 0, 3))
	before := l.batchOf(allRows, rng(0, 3, 6))
	defer release(before)
	l.widen()
	l.recover(c)
	_, err := c.Commit(t.Context(), before)
	l.must(err)
	after := l.batchOf(allRows, rng(0, 6, 9))
	defer release(after)
	_, err = c.Commit(t.Context(), after)
	l.must(err)
	l.wantRows(l.rows, offset.Vector{0: 9}, func(int32, int64) bool { return true })

	bad := l.batchOf(allRows, rng(0, 9, 10))
	defer release(bad)
	fields, cols := slices.Clone(bad.Rows[0].Schema().Fields()), slices.Clone(bad.Rows[0].Columns())
	fields[0].Type, cols[0] = cols[3].DataType(), cols[3] // the user as a number
	odd := array.NewRecordBatch(arrow.NewSchema(fields, nil), cols, 1)
	bad.Rows[0].Release()
	bad.Rows[0] = odd
	_, err = c.Commit(t.Context(), bad)
	isErr(t, err, engine.ErrIncompatibleSchema)
	if !strings.Contains(err.Error(), "column user is a string in the table and a long in the events") || !strings.Contains(err.Error(), "start the pipeline again") {
		t.Error(err)
	}
}

// widen adds a column, as ALTER TABLE does.
func (l *lake) widen() {
	l.Helper()
	meta := l.meta(l.rows)
	wider := iceberg.NewSchema(1, append(slices.Clone(meta.CurrentSchema().Fields()),
		iceberg.NestedField{ID: meta.LastColumnID() + 1, Name: "more", Type: iceberg.PrimitiveTypes.String})...)
	l.update(l.rows, table.NewAddSchemaUpdate(wider), table.NewSetCurrentSchemaUpdate(-1))
	var err error
	l.as, err = datafile.ArrowSchema(wider)
	l.must(err)
}
