package commit

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
)

func TestPartitionBy(t *testing.T) {
	sc := testSchema()
	for _, c := range []struct {
		in   []string
		want string // names and transforms; or what the error says
		bad  bool
	}{
		{nil, "", false},
		{[]string{"day(meta.at)"}, "meta_at_day=day(3)", false},
		{[]string{"Hour( meta.at )"}, "meta_at_hour=hour(3)", false},
		{[]string{"month(_kafka_timestamp)"}, "_kafka_timestamp_month=month(6)", false},
		{[]string{"year(meta.at)"}, "meta_at_year=year(3)", false},
		{[]string{"user"}, "user=identity(1)", false},
		{[]string{"identity(meta.at)"}, "meta_at_value=identity(3)", false},
		{[]string{"bucket(16, user)", "truncate(4,user)"}, "user_bucket_16=bucket[16](1) user_trunc_4=truncate[4](1)", false},
		{[]string{"dya(meta.at)"}, "did you mean day?", true},
		{[]string{"day(meta.att)"}, "did you mean meta.at?", true},
		{[]string{"usr"}, "did you mean user?", true},
		{[]string{"day(user)"}, "column user is a string, which day does not take", true},
		{[]string{"day(meta.at"}, "not closed", true},
		{[]string{"bucket(user)"}, "takes a number", true},
		{[]string{"bucket(0, user)"}, "takes a number", true},
		{[]string{"bucket(1.5, user)"}, "takes a number", true},
		{[]string{"truncate(99999999999, user)"}, "takes a number", true},
		{[]string{"meta"}, "no single value", true},
		{[]string{""}, "no column", true},
		{[]string{"user", "user"}, "duplicate partition name", true},
		{[]string{"day(meta.at)", "hour(meta.at)"}, "redundant", true},
	} {
		spec, err := partitionSpec(sc, c.in)
		if c.bad {
			if !errors.Is(err, ErrPartition) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q: %v, want %q", c.in, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		var got []string
		for _, f := range spec.Fields() {
			got = append(got, f.Name+"="+f.Transform.String()+"("+string(rune('0'+f.SourceID()))+")")
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q gives %s, want %s", c.in, s, c.want)
		}
	}
}

// TestPartitionByDecimals: a manifest can be written of every spec that is taken.
func TestPartitionByDecimals(t *testing.T) {
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "net", Type: iceberg.DecimalTypeOf(10, 2)}, iceberg.NestedField{ID: 2, Name: "gross", Type: iceberg.DecimalTypeOf(12, 2)})
	for by, want := range map[string]bool{"net": true, "truncate(10,net)": true, "net bucket(4,gross)": true, "bucket(4,net) bucket(4,gross)": true,
		"net gross": false, "net truncate(10,net)": false} {
		spec, err := partitionSpec(sc, strings.Fields(by))
		if (err == nil) != want || !want && !strings.Contains(err.Error(), "both decimals") {
			t.Errorf("%s: %v", by, err)
		}
		if spec == nil {
			continue
		}
		if _, err := iceberg.NewManifestWriter(2, io.Discard, *spec, sc, 1); err != nil {
			t.Errorf("%s: %v", by, err)
		}
	}
}

func with(sc *iceberg.Schema, change func([]iceberg.NestedField) []iceberg.NestedField) *iceberg.Schema {
	return iceberg.NewSchema(0, change(slices.Clone(sc.Fields()))...)
}

func TestEnsureTable(t *testing.T) {
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	cat := openCatalog(t, wh)
	id := catalog.Identifier{"outer", "inner", "events"}
	made, err := EnsureTable(t.Context(), cat, id, testSchema(), []string{"day(meta.at)"}, map[string]string{"firn.pipeline": "events"})
	if err != nil {
		t.Fatal(err)
	}
	p := made.Metadata.Properties()
	if made.Metadata.Version() != 2 || p["firn.pipeline"] != "events" || p["write.parquet.compression-codec"] != "zstd" || p["history.expire.min-snapshots-to-keep"] == "" {
		t.Errorf("format %d, properties %v", made.Metadata.Version(), p)
	}
	if spec := made.Metadata.PartitionSpec(); spec.NumFields() != 1 || spec.Field(0).Name != "meta_at_day" {
		t.Errorf("spec %s", spec)
	}
	// A second time nothing changes; what a user has set stays; what the caller asks for is set.
	_, err = cat.CommitTable(t.Context(), catalog.TableCommit{Identifier: id,
		Updates: table.Updates{table.NewSetPropertiesUpdate(iceberg.Properties{"history.expire.min-snapshots-to-keep": "7", "own": "x"})}})
	if err != nil {
		t.Fatal(err)
	}
	again, err := EnsureTable(t.Context(), cat, id, testSchema(), nil, map[string]string{"firn.pipeline": "other"})
	if err != nil {
		t.Fatal(err)
	}
	p = again.Metadata.Properties()
	if again.Metadata.TableUUID() != made.Metadata.TableUUID() || p["history.expire.min-snapshots-to-keep"] != "7" || p["own"] != "x" || p["firn.pipeline"] != "other" {
		t.Errorf("properties %v", p)
	}
	third, err := EnsureTable(t.Context(), cat, id, testSchema(), nil, map[string]string{"firn.pipeline": "other"})
	if err != nil || third.Version != again.Version {
		t.Errorf("nothing had to change, and version %d became %d, %v", again.Version, third.Version, err)
	}
}

func TestEnsureTableChecks(t *testing.T) {
	p := iceberg.PrimitiveTypes
	without := func(name string) *iceberg.Schema {
		return with(testSchema(), func(fs []iceberg.NestedField) []iceberg.NestedField {
			return slices.DeleteFunc(fs, func(f iceberg.NestedField) bool { return f.Name == name })
		})
	}
	retype := func(name string, to iceberg.Type, required bool) *iceberg.Schema {
		return with(testSchema(), func(fs []iceberg.NestedField) []iceberg.NestedField {
			for i := range fs {
				if fs[i].Name == name {
					fs[i].Type, fs[i].Required = to, required
				}
			}
			return fs
		})
	}
	more := func(f iceberg.NestedField) *iceberg.Schema {
		return with(testSchema(), func(fs []iceberg.NestedField) []iceberg.NestedField { return append(fs, f) })
	}
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	cat := openCatalog(t, wh)
	ns := catalog.Identifier{"checks"}
	if err := cat.CreateNamespace(t.Context(), ns, nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		have *iceberg.Schema
		want *iceberg.Schema
		says string // empty: fits
	}{
		"same":                 {testSchema(), testSchema(), ""},
		"more_columns":         {more(iceberg.NestedField{ID: 20, Name: "own", Type: p.String}), testSchema(), ""},
		"no_offset":            {without(ledger.ColOffset), testSchema(), "no column _kafka_offset long"},
		"offset_is_int":        {retype(ledger.ColOffset, p.Int32, false), testSchema(), "_kafka_offset is a int and must be a long"},
		"missing_column":       {without("user"), testSchema(), ""},
		"other_type":           {retype("user", p.Int64, false), testSchema(), "column user is a long in the table and a string in the events"},
		"not_a_struct":         {retype("meta", p.String, false), testSchema(), "column meta is a string"},
		"required_elsewhere":   {more(iceberg.NestedField{ID: 20, Name: "own", Type: p.String, Required: true}), testSchema(), "column own is required in the table"},
		"required_of_contract": {retype("user", p.String, true), testSchema(), "column user is required in the table"},
		"widened":              {more(iceberg.NestedField{ID: 20, Name: "n", Type: p.Int64}), more(iceberg.NestedField{ID: 20, Name: "n", Type: p.Int32}), ""},
		"wider":                {more(iceberg.NestedField{ID: 20, Name: "n", Type: p.Int32}), more(iceberg.NestedField{ID: 20, Name: "n", Type: p.Int64}), ""},
		"other_number":         {more(iceberg.NestedField{ID: 20, Name: "n", Type: p.Int32}), more(iceberg.NestedField{ID: 20, Name: "n", Type: p.Float64}), "column n is a int"},
		"nested_missing":       {retype("meta", &iceberg.StructType{FieldList: []iceberg.NestedField{{ID: 30, Name: "att", Type: p.TimestampTz}}}, false), testSchema(), ""},
		"nested_case": {retype("meta", &iceberg.StructType{FieldList: []iceberg.NestedField{{ID: 30, Name: "At", Type: p.TimestampTz}}}, false), testSchema(),
			"column meta.at differs from column meta.At in upper and lower case only"},
	} {
		id := append(slices.Clone(ns), name)
		if _, err := cat.CreateTable(t.Context(), id, catalog.CreateTable{Schema: c.have}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err := EnsureTable(t.Context(), cat, id, c.want, nil, nil)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.says != "" && (!errors.Is(err, ErrTable) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "checks."+name)):
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	if got := must(cat.LoadTable(t.Context(), catalog.Identifier{"checks", "missing_column"}, catalog.LoadRefs)).Metadata.CurrentSchema(); got.ID != 0 {
		t.Error("the table has grown without a row that needs it")
	}
	if _, err := EnsureOwnTable(t.Context(), cat, catalog.Identifier{"checks", "missing_column"}, testSchema(), nil); !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), "add user string there") {
		t.Errorf("a table of firn's own without a column: %v", err)
	}
	for range 2 {
		grown, err := EnsureOwnTable(t.Context(), cat, catalog.Identifier{"checks", "missing_column"}, testSchema(), nil, "user", "nothing")
		if err != nil || grown.Metadata.CurrentSchema().ID != 1 || grown.Metadata.CurrentSchema().NumFields() != testSchema().NumFields() {
			t.Errorf("a table of firn's own that is given a column: %v, %v", grown, err)
		}
	}
	if _, err := EnsureTable(t.Context(), cat, catalog.Identifier{"checks", "new"}, without(ledger.ColOffset), nil, nil); !errors.Is(err, ErrTable) {
		t.Errorf("a contract without the ledger: %v", err)
	}
}

// TestEnsureTogether: several processes find no table and create it at once; all of them get the one table.
func TestEnsureTogether(t *testing.T) {
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	cat := openCatalog(t, wh)
	id := catalog.Identifier{"together", "events"}
	const n = 8
	tables, errs := make([]*catalog.Table, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			tables[i], errs[i] = EnsureTable(context.Background(), cat, id, testSchema(), []string{"day(meta.at)"}, map[string]string{"firn.pipeline": "events"})
		})
	}
	wg.Wait()
	for i := range n {
		if errs[i] != nil || tables[i].Metadata.TableUUID() != tables[0].Metadata.TableUUID() || tables[i].Metadata.Properties()["firn.pipeline"] != "events" {
			t.Errorf("process %d: %v", i, errs[i])
		}
	}
}

// TestEnsureLostAnswers: an answer lost at creation, or while properties are set, is no failure.
func TestEnsureLostAnswers(t *testing.T) {
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	cat := &forgetful{Catalog: openCatalog(t, wh)}
	made, err := EnsureTable(t.Context(), cat, catalog.Identifier{"ns", "events"}, testSchema(), nil, nil)
	if err != nil || made == nil {
		t.Fatal(err)
	}
	f := &flaky{Catalog: cat, next: only(0, lostAfter)}
	made, err = EnsureTable(t.Context(), f, catalog.Identifier{"ns", "events"}, testSchema(), nil, map[string]string{"a": "b"})
	if err != nil || made.Metadata.Properties()["a"] != "b" {
		t.Fatalf("%v", err)
	}
}

// forgetful makes tables and does not answer.
type forgetful struct{ catalog.Catalog }

func (f *forgetful) CreateTable(ctx context.Context, id catalog.Identifier, req catalog.CreateTable) (*catalog.Table, error) {
	if _, err := f.Catalog.CreateTable(ctx, id, req); err != nil {
		return nil, err
	}
	return nil, catalog.ErrUnknownOutcome
}

func TestConfig(t *testing.T) {
	l := newLake(t)
	good := l.committer(l.cat).cfg
	for name, change := range map[string]func(*Config){
		"no pipeline":     func(c *Config) { c.Pipeline = "" },
		"blank":           func(c *Config) { c.Pipeline = "a b" },
		"no namespace":    func(c *Config) { c.Table = catalog.Identifier{"t"} },
		"one table":       func(c *Config) { c.DeadTable = c.Table },
		"no topic":        func(c *Config) { c.Topic = nil },
		"lateness":        func(c *Config) { c.Lateness = -1 },
		"uploads":         func(c *Config) { c.MaxUploads = 65 },
		"codec":           func(c *Config) { c.Write.Codec = "brotli" },
		"row group":       func(c *Config) { c.Write.RowGroupRows = -1 },
		"offset interval": func(c *Config) { c.OffsetsInterval = -1 },
	} {
		bad := good
		change(&bad)
		if _, err := New(bad, l.cat, l.wh, l.encodeDead, nil, nil); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if c, err := New(good, l.cat, l.wh, l.encodeDead, nil, nil); err != nil || c.cfg.MaxUploads != 4 {
		t.Errorf("%v", err)
	}
	if _, err := New(good, l.cat, l.wh, nil, nil, nil); err == nil {
		t.Error("no encoder of dead letters")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
