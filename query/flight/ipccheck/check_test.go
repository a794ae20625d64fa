package ipccheck

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

func checkAll(ms []message, l Limits) error {
	s := NewStream(l)
	for _, m := range ms {
		if err := s.Check(m.header, m.body); err != nil {
			return err
		}
	}
	return nil
}

func strict() Limits {
	l := DefaultLimits()
	l.UTF8 = true
	return l
}

func TestSoundMessagesPass(t *testing.T) {
	for seed := range uint64(20) {
		if err := checkAll(messages(t, everyType(), seed, 0, 1, 7, 100), strict()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if err := checkAll(messages(t, arrow.NewSchema(nil, nil), 0), strict()); err != nil {
		t.Errorf("no columns: %v", err)
	}
}

// Slices of batches pass too: their writers rewrite offsets.
func TestSlicesPass(t *testing.T) {
	var out capture
	w := flight.NewRecordWriter(&out, ipc.WithSchema(everyType()))
	b := array.NewRecordBuilder(memory.DefaultAllocator, everyType())
	defer b.Release()
	for _, f := range b.Fields() {
		fill(f, newRand(3), 50)
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	for i := range int64(49) {
		s := rec.NewSlice(i, min(i+9, 50))
		if err := w.Write(s); err != nil {
			t.Fatal(err)
		}
		s.Release()
	}
	if err := checkAll(out, strict()); err != nil {
		t.Error(err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	one := func(dt arrow.DataType) []message {
		return messages(t, arrow.NewSchema([]arrow.Field{{Name: "c", Type: dt, Nullable: true}}, nil), 1, 4)
	}
	deep := arrow.PrimitiveTypes.Int8
	for range 40 {
		deep = arrow.ListOf(deep)
	}
	sound := messages(t, everyType(), 1, 3)
	for name, c := range map[string]struct {
		ms   []message
		want error
	}{
		"dictionary":     {one(&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}), ErrUnsupported},
		"run-end":        {one(arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int8)), ErrUnsupported},
		"view":           {one(arrow.BinaryTypes.StringView), ErrUnsupported},
		"union":          {one(arrow.SparseUnionOf([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int8}}, []arrow.UnionTypeCode{0})), ErrUnsupported},
		"too deep":       {one(deep), ErrTooLarge},
		"empty header":   {[]message{{nil, nil}}, ErrDamaged},
		"batch first":    {sound[1:], ErrDamaged},
		"schema twice":   {[]message{sound[0], sound[0]}, ErrDamaged},
		"body cut":       {[]message{sound[0], {sound[1].header, sound[1].body[:len(sound[1].body)-64]}}, ErrDamaged},
		"header cut":     {[]message{sound[0], {sound[1].header[:60], sound[1].body}}, ErrDamaged},
		"another schema": {[]message{messages(t, arrow.NewSchema([]arrow.Field{{Name: "c", Type: arrow.Null}}, nil), 1)[0], sound[1]}, ErrDamaged},
	} {
		if err := checkAll(c.ms, strict()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestCompressedBodiesAreRefused(t *testing.T) {
	var out capture
	w := flight.NewRecordWriter(&out, ipc.WithSchema(everyType()), ipc.WithZstd())
	b := array.NewRecordBuilder(memory.DefaultAllocator, everyType())
	defer b.Release()
	rec := b.NewRecordBatch()
	defer rec.Release()
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	if err := checkAll(out, strict()); !errors.Is(err, ErrUnsupported) {
		t.Errorf("err = %v", err)
	}
}

func TestTextMustBeUTF8WhenAsked(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	b.Field(0).(*array.StringBuilder).Append("\xc3")
	b.Field(0).(*array.StringBuilder).Append("\xa4") // the two together would be one character
	rec := b.NewRecordBatch()
	defer rec.Release()
	var out capture
	w := flight.NewRecordWriter(&out, ipc.WithSchema(schema))
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	if err := checkAll(out, strict()); !errors.Is(err, ErrDamaged) {
		t.Errorf("err = %v", err)
	}
	if err := checkAll(out, DefaultLimits()); err != nil {
		t.Errorf("err = %v", err)
	}
}

func TestLimits(t *testing.T) {
	ms := messages(t, everyType(), 1, 100)
	for name, change := range map[string]func(*Limits){
		"header": func(l *Limits) { l.MaxHeader = len(ms[0].header) - 1 },
		"fields": func(l *Limits) { l.MaxFields = everyType().NumFields() - 1 },
		"depth":  func(l *Limits) { l.MaxDepth = 1 },
		"rows":   func(l *Limits) { l.MaxRows = 99 },
	} {
		l := strict()
		change(&l)
		if err := checkAll(ms, l); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// killer is a schema message that says it has 2^31-1 fields; nothing but the count is wrong.
func killer(t fataler) []byte {
	h := messages(t, arrow.NewSchema([]arrow.Field{{Name: "c", Type: arrow.PrimitiveTypes.Int64}}, nil), 1)[0].header
	m, err := rootTable(h)
	if err != nil {
		t.Fatal(err)
	}
	schema, _, err := m.child(8)
	if err != nil {
		t.Fatal(err)
	}
	at, n, err := schema.vector(6, 4)
	if err != nil || n != 1 {
		t.Fatal(err, n)
	}
	binary.LittleEndian.PutUint32(h[at-4:], 1<<31-1)
	return h
}

func TestTheHugeFieldCountIsSeen(t *testing.T) {
	if err := NewStream(DefaultLimits()).Check(killer(t), nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("err = %v", err)
	}
}

func TestEncapsulated(t *testing.T) {
	sound := flight.SerializeSchema(everyType(), memory.DefaultAllocator)
	if err := Encapsulated(sound, strict()); err != nil {
		t.Error(err)
	}
	var whole bytes.Buffer
	w := ipc.NewWriter(&whole, ipc.WithSchema(everyType()))
	b := array.NewRecordBuilder(memory.DefaultAllocator, everyType())
	defer b.Release()
	for _, f := range b.Fields() {
		fill(f, newRand(9), 20)
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	if err := errors.Join(w.Write(rec), w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := Encapsulated(whole.Bytes(), strict()); err != nil {
		t.Error(err)
	}
	for n := range len(sound) - 8 { // without the end mark it is still whole
		if err := Encapsulated(sound[:n], strict()); err == nil {
			t.Fatalf("%d of %d bytes pass", n, len(sound))
		}
	}
	if err := Encapsulated(nil, strict()); !errors.Is(err, ErrDamaged) {
		t.Errorf("nothing: %v", err)
	}
}
