//go:build cgo

package duck

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/query"
)

// everything has each type that a table may have.
func everything() *iceberg.Schema {
	p := iceberg.PrimitiveTypes
	pair := func(id int) *iceberg.StructType {
		return &iceberg.StructType{FieldList: []iceberg.NestedField{{ID: id, Name: "v", Type: p.Int32}, {ID: id + 1, Name: "w", Type: p.Int32}}}
	}
	return iceberg.NewSchema(3,
		iceberg.NestedField{ID: 1, Name: "b", Type: p.Bool}, iceberg.NestedField{ID: 2, Name: "i", Type: p.Int32},
		iceberg.NestedField{ID: 3, Name: "l", Type: p.Int64}, iceberg.NestedField{ID: 4, Name: "d", Type: p.Float64},
		iceberg.NestedField{ID: 5, Name: "f", Type: p.Float32}, iceberg.NestedField{ID: 6, Name: "s", Type: p.String},
		iceberg.NestedField{ID: 7, Name: "bin", Type: p.Binary}, iceberg.NestedField{ID: 8, Name: "fx", Type: iceberg.FixedTypeOf(4)},
		iceberg.NestedField{ID: 9, Name: "date", Type: p.Date}, iceberg.NestedField{ID: 10, Name: "time", Type: p.Time},
		iceberg.NestedField{ID: 11, Name: "ts", Type: p.TimestampTz}, iceberg.NestedField{ID: 12, Name: "plain", Type: p.Timestamp},
		iceberg.NestedField{ID: 13, Name: "uuid", Type: p.UUID}, iceberg.NestedField{ID: 14, Name: "dec", Type: iceberg.DecimalTypeOf(10, 2)},
		iceberg.NestedField{ID: 15, Name: "big", Type: iceberg.DecimalTypeOf(30, 3)},
		iceberg.NestedField{ID: 16, Name: "st", Type: &iceberg.StructType{FieldList: []iceberg.NestedField{{ID: 17, Name: "x", Type: p.Int32}, {ID: 18, Name: "y", Type: p.Time}}}},
		iceberg.NestedField{ID: 19, Name: "list", Type: &iceberg.ListType{ElementID: 20, Element: pair(40)}},
		iceberg.NestedField{ID: 21, Name: "map", Type: &iceberg.MapType{KeyID: 22, KeyType: p.String, ValueID: 23, ValueType: pair(50)}})
}

const everyValue = `[{"b":true,"i":1,"l":2,"d":0.5,"f":1.5,"s":"x","bin":"AAEC","fx":"AAECAw==","date":"2026-06-04","time":"11:01:23.000001",
	"ts":"2026-06-04T11:01:23.000001Z","plain":"2026-06-04T11:01:23.000001","uuid":"01234567-89ab-cdef-0123-456789abcdef","dec":"1.25","big":"-3.125",
	"st":{"x":1,"y":"01:00:00"},"list":[{"v":1,"w":2},null],"map":[{"key":"k","value":{"v":1,"w":2}},{"key":"n","value":null}]},{}]`

// What Describe promises is what Run gives, from cold files, from hot rows and from no row at all.
func TestDescribeIsWhatRuns(t *testing.T) {
	e, sc := engine(t), everything()
	r := rows(t, sc, everyValue)
	defer r.Release()
	const sql = "select * from t order by b nulls last"
	want, _, err := e.Describe(t.Context(), query.Statement{SQL: sql, Relations: []query.Relation{{Name: []string{"t"}, Schema: sc}}})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for name, rel := range map[string]query.Relation{
		"none": {}, "cold": {Files: []query.File{file(t, sc, true, r)}}, "hot": {Hot: []arrow.RecordBatch{r}},
	} {
		rel.Name, rel.Schema = []string{"t"}, sc
		s, err := e.Run(t.Context(), query.Statement{SQL: sql, Relations: []query.Relation{rel}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !s.Schema().Equal(want) {
			t.Errorf("%s gives\n%s\ndescribed as\n%s", name, s.Schema(), want)
		}
		s.Release()
		if name == "none" {
			continue
		}
		text, err := ask(t, e, query.Statement{SQL: sql, Relations: []query.Relation{rel}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		texts = append(texts, text)
	}
	if texts[0] != texts[1] {
		t.Errorf("hot and cold rows differ:\n%s\n%s", texts[0], texts[1])
	}
	var cells string
	for i := range int(r.NumCols()) {
		cells += "|" + r.Column(i).ValueStr(0)
	}
	if got := "|" + texts[0]; len(got) < len(cells) || got[:len(cells)] != cells {
		t.Errorf("got  %s\nwant %s", got, cells)
	}
}

// Fields inside lists and maps are found by id too: here their names are swapped, widened and joined by a new one.
func TestEvolvedElements(t *testing.T) {
	p := iceberg.PrimitiveTypes
	pair := func(id int) *iceberg.StructType {
		return &iceberg.StructType{FieldList: []iceberg.NestedField{{ID: id + 1, Name: "v", Type: p.Int64}, {ID: id, Name: "w", Type: p.Int32}, {ID: id + 2, Name: "z", Type: p.Int32}}}
	}
	now := iceberg.NewSchema(4,
		iceberg.NestedField{ID: 21, Name: "m", Type: &iceberg.MapType{KeyID: 22, KeyType: p.String, ValueID: 23, ValueType: pair(50)}},
		iceberg.NestedField{ID: 19, Name: "l", Type: &iceberg.ListType{ElementID: 20, Element: pair(40)}})
	r := rows(t, everything(), everyValue)
	defer r.Release()
	got, err := ask(t, engine(t), query.Statement{SQL: "select m, l from t", Relations: []query.Relation{{Name: []string{"t"}, Schema: now, Files: []query.File{file(t, everything(), true, r)}}}})
	want := `[{"key":"k","value":{"v":2,"w":1,"z":null}},{"key":"n","value":null}]|[{"v":2,"w":1,"z":null},null]` + "\n(null)|(null)"
	if err != nil || got != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

// DuckDB hands out nested vectors whose children are constant, sliced or shared.
func TestVectorsOfEveryForm(t *testing.T) {
	e := engine(t)
	for sql, want := range map[string]string{
		"select {'a': 'const', 'b': {'c': range % 2, 'd': 'k'}} from range(2)":                                                             `{"a":"const","b":{"c":0,"d":"k"}}` + "\n" + `{"a":"const","b":{"c":1,"d":"k"}}`,
		"select [range, 7, null] from range(2)":                                                                                            "[0,7,null]\n[1,7,null]",
		"select l[2:] from (select [range, range+1] l from range(3))":                                                                      "[1]\n[2]\n[3]",
		"select case when range%2=0 then {'a':range,'b':'x'} end from range(3)":                                                            `{"a":0,"b":"x"}` + "\n(null)\n" + `{"a":2,"b":"x"}`,
		"select l from (select [range,range+1] l, range r from range(4)) where r%2=1":                                                      "[1,2]\n[3,4]",
		"select a.l from (select [range, null] l, range r from range(5)) a join (select unnest([4,2,2]) r) b using (r) order by r":         "[2,null]\n[2,null]\n[4,null]",
		"select a.s from (select {'k': ['v' || range]} s, range r from range(5)) a join (select unnest([4,2,2]) r) b using (r) order by r": `{"k":["v2"]}` + "\n" + `{"k":["v2"]}` + "\n" + `{"k":["v4"]}`,
		"select map([range],[{'v': range}]) from range(2)":                                                                                 `[{"key":0,"value":{"v":0}}]` + "\n" + `[{"key":1,"value":{"v":1}}]`,
	} {
		if got, err := ask(t, e, query.Statement{SQL: sql}); err != nil || got != want {
			t.Errorf("%s\n got %s, %v\nwant %s", sql, got, err, want)
		}
	}
	// Over many chunks, against DuckDB's own text of the same values.
	got, err := ask(t, e, query.Statement{SQL: "select count(*) from (select {'n': range, 'l': [range::varchar, null]} s from range(50000)) where s.l[1]::bigint = s.n"})
	if err != nil || got != fmt.Sprint(50000) {
		t.Errorf("%s, %v", got, err)
	}
}
