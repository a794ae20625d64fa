package flight

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql/schema_ref"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/query"
)

// sqlClient is arrow-go's own client, as ADBC uses it.
func (h *harness) sqlClient(middleware ...flight.ClientMiddleware) *flightsql.Client {
	h.t.Helper()
	c, err := flightsql.NewClient(h.addr, nil, middleware, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		h.t.Fatal(err)
	}
	c.Alloc = h.mem
	h.t.Cleanup(func() { _ = c.Close() })
	return c
}

// fetch reads every endpoint of a flight and gives the values of each row.
func fetch(t *testing.T, c *flightsql.Client, info *flight.FlightInfo, err error, opts ...grpc.CallOption) (*arrow.Schema, [][]string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var (
		schema *arrow.Schema
		rows   [][]string
	)
	for _, e := range info.Endpoint {
		r, err := c.DoGet(context.Background(), e.Ticket, opts...)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Release()
		schema = r.Schema()
		for r.Next() {
			for i := range int(r.RecordBatch().NumRows()) {
				var row []string
				for _, col := range r.RecordBatch().Columns() {
					row = append(row, strings.Clone(col.ValueStr(i)))
				}
				rows = append(rows, row)
			}
		}
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	if got, err := flight.DeserializeSchema(info.Schema, memory.DefaultAllocator); err != nil || !got.Equal(schema) {
		t.Errorf("the flight said %v, the stream %v (%v)", got, schema, err)
	}
	return schema, rows
}

func TestStatement(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{}, nil)
	c := h.sqlClient()
	v, err := offset.Vector{0: 3}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(context.Background(), headerLevel, "committed", headerAsOf, "2026-06-04T11:01:23Z",
		headerMinOffsets, "analytics.user_events="+v, headerMinOffsets, `{"a.b":{"7":9}}`)
	info, err := c.Execute(ctx, "select numbers")
	for range 2 { // a ticket can be fetched twice, and carries the options of its call
		_, rows := fetch(t, c, info, err)
		if len(rows) != 1000 || rows[999][0] != "999" {
			t.Errorf("%d rows", len(rows))
		}
		o := h.eng.lastOptions()
		want := map[string]offset.Vector{"analytics.user_events": {0: 3}, "a.b": {7: 9}}
		if o.Level != query.LevelCommitted || !o.AsOf.Equal(time.Date(2026, 6, 4, 11, 1, 23, 0, time.UTC)) || !reflect.DeepEqual(o.MinOffsets, want) {
			t.Errorf("options %+v", o)
		}
	}
	if d, q := h.eng.described.Load(), h.eng.queried.Load(); d != 1 || q != 2 {
		t.Errorf("described %d times, ran %d times", d, q)
	}
	s, err := c.GetExecuteSchema(context.Background(), "select numbers")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := flight.DeserializeSchema(s.Schema, h.mem); err != nil || !got.Equal(numbersSchema) {
		t.Errorf("schema %v, %v", got, err)
	}
}

func TestPinsFollowAsATrailer(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{}, nil)
	c := h.sqlClient()
	info, err := c.Execute(context.Background(), "select numbers")
	var trailer metadata.MD
	fetch(t, c, info, err, grpc.Trailer(&trailer))
	pins, err := decodePins([]byte(lastOf(trailer, trailerPins)))
	if err != nil || len(pins) != 1 || pins[0].SnapshotID != 42 || !pins[0].Committed.Equal(offset.Vector{0: 10, 3: 7}) {
		t.Errorf("pins %v, %v", pins, err)
	}
}

// params is one batch of an integer and a text column.
func params(mem memory.Allocator, n []int64, s []string) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{{Name: "1", Type: arrow.PrimitiveTypes.Int64}, {Name: "2", Type: arrow.BinaryTypes.String}}, nil))
	defer b.Release()
	b.Field(0).(*array.Int64Builder).AppendValues(n, nil)
	b.Field(1).(*array.StringBuilder).AppendValues(s, nil)
	return b.NewRecordBatch()
}

// TestSchemaThatParametersDecide is left out of what is said before the parameters are bound, and stands in the stream.
func TestSchemaThatParametersDecide(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{rows: 10, batch: 4}, nil)
	c := h.sqlClient()
	ctx := context.Background()
	st, err := c.Prepare(ctx, "select open ?")
	if err != nil {
		t.Fatal(err)
	}
	if st.DatasetSchema() != nil || st.ParameterSchema().NumFields() != 1 {
		t.Errorf("schemas %v and %v", st.DatasetSchema(), st.ParameterSchema())
	}
	if _, err := st.GetSchema(ctx); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "cast") {
		t.Errorf("schema: %v", err)
	}
	if _, err := c.GetExecuteSchema(ctx, "select open ?"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("schema: %v", err)
	}
	p := params(h.mem, []int64{7}, []string{"seven"})
	st.SetParameters(p)
	p.Release()
	info, err := st.Execute(ctx)
	if err != nil || len(info.Schema) != 0 {
		t.Fatalf("schema of %d bytes, %v", len(info.GetSchema()), err)
	}
	info.Schema = flight.SerializeSchema(numbersSchema, h.mem) // for fetch, which compares
	if _, rows := fetch(t, c, info, nil); len(rows) != 10 {
		t.Errorf("%d rows", len(rows))
	}
	if err := st.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestPreparedStatement(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{rows: 10, batch: 4}, nil)
	c := h.sqlClient()
	ctx := context.Background()
	st, err := c.Prepare(ctx, "select ? ?")
	if err != nil {
		t.Fatal(err)
	}
	if !st.DatasetSchema().Equal(numbersSchema) || st.ParameterSchema().NumFields() != 2 {
		t.Errorf("schemas %v and %v", st.DatasetSchema(), st.ParameterSchema())
	}
	p := params(h.mem, []int64{7}, []string{"seven"})
	st.SetParameters(p)
	p.Release()
	info, err := st.Execute(ctx)
	if _, rows := fetch(t, c, info, err); len(rows) != 10 {
		t.Errorf("%d rows", len(rows))
	}
	// Bound again, with two rows: the statement runs for each, and the results come as one.
	p = params(h.mem, []int64{8, 9}, []string{"eight", "nine"})
	st.SetParameters(p)
	p.Release()
	second, err := st.Execute(ctx)
	if _, rows := fetch(t, c, second, err); len(rows) != 20 {
		t.Errorf("%d rows", len(rows))
	}
	// The first ticket still stands for the first parameters.
	fetch(t, c, info, nil)
	if got := h.eng.allParams(); !slices.Equal(got, []string{"7,seven", "8,eight", "9,nine", "7,seven"}) {
		t.Errorf("parameters %q", got)
	}
	if d := h.eng.described.Load(); d != 1 {
		t.Errorf("planned %d times for the schema", d)
	}
	if err := st.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if n := h.srv.stmts.len(); n != 0 {
		t.Errorf("%d statements are still held", n)
	}
}

func TestAStatementWithoutParametersSaysSo(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{rows: 3, batch: 4}, nil)
	c := h.sqlClient()
	st, err := c.Prepare(context.Background(), "select numbers")
	if err != nil {
		t.Fatal(err)
	}
	if st.ParameterSchema() == nil || st.ParameterSchema().NumFields() != 0 {
		t.Errorf("parameter schema %v, want an empty one", st.ParameterSchema())
	}
	info, err := st.Execute(metadata.AppendToOutgoingContext(context.Background(), headerLevel, "committed"))
	if _, rows := fetch(t, c, info, err); len(rows) != 3 || h.eng.lastOptions().Level != query.LevelCommitted {
		t.Errorf("%d rows, options %+v", len(rows), h.eng.lastOptions())
	}
	if err := st.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := st.Execute(context.Background()); err == nil {
		t.Error("a closed statement ran")
	}
}

func TestBoundParametersAreBounded(t *testing.T) {
	h := start(t, Config{MaxBound: 4 << 10, MaxHandles: 2}, &fakeEngine{}, nil)
	c := h.sqlClient()
	ctx := context.Background()
	st, err := c.Prepare(ctx, "select ? ?")
	if err != nil {
		t.Fatal(err)
	}
	bind := func(n int, s string) error {
		p := params(h.mem, make([]int64, n), slices.Repeat([]string{s}, n))
		defer p.Release()
		st.SetParameters(p)
		_, err := st.Execute(ctx)
		return err
	}
	for name, err := range map[string]error{
		"rows":    bind(maxParamRows+1, ""),
		"bytes":   bind(1, strings.Repeat("x", maxInlineParams)),
		"in all":  bind(1, strings.Repeat("x", 8<<10)),
		"a third": func() error { _, _ = c.Prepare(ctx, "select 1"); _, err := c.Prepare(ctx, "select 2"); return err }(),
	} {
		if status.Code(err) != codes.ResourceExhausted || !errors.Is(fromStatus(err), query.ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := bind(1, "fits"); err != nil {
		t.Error(err)
	}
	if err := st.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestMetadata(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{}, nil)
	c := h.sqlClient()
	ctx := context.Background()
	str := func(s string) *string { return &s }

	info, err := c.GetTables(ctx, &flightsql.GetTablesOpts{IncludeSchema: true, DbSchemaFilterPattern: str("ANALYTICS"), TableNameFilterPattern: str("user\\_events%")})
	schema, rows := fetch(t, c, info, err)
	if !schema.Equal(schema_ref.TablesWithIncludedSchema) || len(rows) != 2 || rows[0][2] != "user_events" || rows[1][2] != "user_events_dead" || rows[0][0] != "(null)" {
		t.Errorf("tables %v %v", schema, rows)
	}
	for name, c2 := range map[string]struct {
		opts *flightsql.GetTablesOpts
		want int
	}{
		"all":           {&flightsql.GetTablesOpts{}, 3},
		"one character": {&flightsql.GetTablesOpts{TableNameFilterPattern: str("user_event_")}, 1},
		"a view":        {&flightsql.GetTablesOpts{TableTypes: []string{"VIEW"}}, 0},
		"tables":        {&flightsql.GetTablesOpts{TableTypes: []string{"VIEW", "TABLE"}}, 3},
		"a catalog":     {&flightsql.GetTablesOpts{Catalog: str("other")}, 0},
		"no catalog":    {&flightsql.GetTablesOpts{Catalog: str("")}, 3},
	} {
		info, err := c.GetTables(ctx, c2.opts)
		if _, rows := fetch(t, c, info, err); len(rows) != c2.want {
			t.Errorf("%s: %v", name, rows)
		}
	}
	info, err = c.GetDBSchemas(ctx, &flightsql.GetDBSchemasOpts{})
	if _, rows := fetch(t, c, info, err); fmt.Sprint(rows) != "[[(null) a.b.c] [(null) analytics]]" {
		t.Errorf("namespaces %v", rows)
	}
	info, err = c.GetTableTypes(ctx)
	if _, rows := fetch(t, c, info, err); fmt.Sprint(rows) != "[[TABLE]]" {
		t.Errorf("types %v", rows)
	}
	ref := flightsql.TableRef{Table: "user_events"}
	for name, get := range map[string]func() (*flight.FlightInfo, error){
		"catalogs":  func() (*flight.FlightInfo, error) { return c.GetCatalogs(ctx) },
		"primary":   func() (*flight.FlightInfo, error) { return c.GetPrimaryKeys(ctx, ref) },
		"exported":  func() (*flight.FlightInfo, error) { return c.GetExportedKeys(ctx, ref) },
		"imported":  func() (*flight.FlightInfo, error) { return c.GetImportedKeys(ctx, ref) },
		"cross":     func() (*flight.FlightInfo, error) { return c.GetCrossReference(ctx, ref, ref) },
		"xdbc type": func() (*flight.FlightInfo, error) { return c.GetXdbcTypeInfo(ctx, nil) },
	} {
		info, err := get()
		if _, rows := fetch(t, c, info, err); len(rows) != 0 {
			t.Errorf("%s: %v", name, rows)
		}
	}
}

func TestSqlInfo(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{}, nil)
	c := h.sqlClient()
	ctx := context.Background()
	info, err := c.GetSqlInfo(ctx, nil)
	if _, rows := fetch(t, c, info, err); len(rows) != len(sqlInfo(1)) {
		t.Errorf("%d facts, want %d", len(rows), len(sqlInfo(1)))
	}
	// One that is known and one that no server knows.
	info, err = c.GetSqlInfo(ctx, []flightsql.SqlInfo{flightsql.SqlInfoFlightSqlServerName, 99999})
	if _, rows := fetch(t, c, info, err); len(rows) != 1 || !strings.Contains(rows[0][1], "firn") {
		t.Errorf("facts %v", rows)
	}
	info, err = c.GetSqlInfo(ctx, []flightsql.SqlInfo{99999})
	if _, rows := fetch(t, c, info, err); len(rows) != 0 {
		t.Errorf("facts %v", rows)
	}
}

func TestSessionOptionsHoldForTheirCookie(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{rows: 1, batch: 1}, nil)
	c := h.sqlClient(flight.NewClientCookieMiddleware())
	ctx := context.Background()
	values, err := flight.NewSessionOptionValues(map[string]any{"level": "committed", "as_of": "yesterday", "catalog": "x"})
	if err != nil {
		t.Fatal(err)
	}
	// arrow-go's client loses the cookie of a streamed answer now and then: it takes the end of the call's context, which comes
	// with the end of the stream, for a cancellation. So the session is begun, and ended, until the client knows it.
	eventually(t, "the session's options", func() bool {
		res, err := c.SetSessionOptions(ctx, &flight.SetSessionOptionsRequest{SessionOptions: values})
		if err != nil {
			t.Fatal(err)
		}
		if e := res.Errors; len(e) != 2 || e["as_of"].Value != flight.SetSessionOptionsResultErrorInvalidValue || e["catalog"].Value != flight.SetSessionOptionsResultErrorInvalidName {
			t.Errorf("errors %v", e)
		}
		got, err := c.GetSessionOptions(ctx, &flight.GetSessionOptionsRequest{})
		return err == nil && len(got.SessionOptions) == 1 && got.SessionOptions["level"].GetStringValue() == "committed"
	})
	info, err := c.Execute(ctx, "select numbers")
	fetch(t, c, info, err)
	if o := h.eng.lastOptions(); o.Level != query.LevelCommitted {
		t.Errorf("options %+v", o)
	}
	// A header of the call is stronger.
	info, err = c.Execute(metadata.AppendToOutgoingContext(ctx, headerLevel, "hot"), "select numbers")
	fetch(t, c, info, err)
	if o := h.eng.lastOptions(); o.Level != query.LevelHot {
		t.Errorf("options %+v", o)
	}
	eventually(t, "no options after the session", func() bool {
		if closed, err := c.CloseSession(ctx, &flight.CloseSessionRequest{}); err != nil || closed.Status != flight.CloseSessionResultClosed {
			t.Errorf("close: %v, %v", closed, err)
		}
		info, err := c.Execute(ctx, "select numbers")
		fetch(t, c, info, err)
		return h.eng.lastOptions().Level == ""
	})
}

func TestWhatChangesIsRefused(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{}, nil)
	c := h.sqlClient()
	ctx := context.Background()
	_, err := c.ExecuteUpdate(ctx, "delete from t")
	if status.Code(err) != codes.InvalidArgument || !errors.Is(fromStatus(err), query.ErrNotSelect) {
		t.Errorf("update: %v", err)
	}
	if _, err := c.BeginTransaction(ctx); status.Code(err) != codes.Unimplemented {
		t.Errorf("transaction: %v", err)
	}
}

func TestPlainFlight(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{}, nil)
	c := h.sqlClient().Client
	ctx := metadata.AppendToOutgoingContext(context.Background(), headerLevel, "committed")
	for name, d := range map[string]*flight.FlightDescriptor{
		"path":    {Type: flight.DescriptorPATH, Path: []string{"a.b", "c", `d"e`}},
		"one":     {Type: flight.DescriptorPATH, Path: []string{`"a.b".c."d""e"`}},
		"command": {Type: flight.DescriptorCMD, Cmd: []byte(`{"firn":"scan","table":"\"a.b\".c.\"d\"\"e\"","from":{"0":5},"limit":3}`)},
	} {
		info, err := c.GetFlightInfo(ctx, d)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if pins, err := decodePins(info.AppMetadata); err != nil || len(pins) != 1 {
			t.Errorf("%s: pins %v, %v", name, pins, err)
		}
		stream, err := c.DoGet(context.Background(), info.Endpoint[0].Ticket)
		if err != nil {
			t.Fatal(err)
		}
		r, err := flight.NewRecordReader(stream)
		if err != nil {
			t.Fatal(err)
		}
		n := int64(0)
		for r.Next() {
			n += r.RecordBatch().NumRows()
		}
		if r.Err() != nil || n != 1000 {
			t.Errorf("%s: %d rows, %v", name, n, r.Err())
		}
		r.Release()
		if got := h.eng.scan.Table; !reflect.DeepEqual([]string(got), []string{"a.b", "c", `d"e`}) || h.eng.lastOptions().Level != query.LevelCommitted {
			t.Errorf("%s: table %q, options %+v", name, got, h.eng.lastOptions())
		}
		if name == "command" && (h.eng.scan.Limit != 3 || !h.eng.scan.From.Equal(offset.Vector{0: 5})) {
			t.Errorf("scan %+v", h.eng.scan)
		}
	}
}
