package flight

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql/schema_ref"

	"github.com/firnlake/firn/query"
)

// tableType is the one type of table there is.
const tableType = "TABLE"

// sqlInfo is what drivers ask about the server and its dialect, DuckDB's.
func sqlInfo(maxStatement int64) map[flightsql.SqlInfo]any {
	return map[flightsql.SqlInfo]any{
		flightsql.SqlInfoFlightSqlServerName:         "firn",
		flightsql.SqlInfoFlightSqlServerVersion:      version(),
		flightsql.SqlInfoFlightSqlServerArrowVersion: arrow.PkgVersion,
		flightsql.SqlInfoFlightSqlServerReadOnly:     true,
		flightsql.SqlInfoFlightSqlServerSql:          true,
		flightsql.SqlInfoFlightSqlServerSubstrait:    false,
		flightsql.SqlInfoFlightSqlServerTransaction:  int32(flightsql.SqlTransactionNone),
		flightsql.SqlInfoFlightSqlServerCancel:       false,
		flightsql.SqlInfoDDLCatalog:                  false,
		flightsql.SqlInfoDDLSchema:                   false,
		flightsql.SqlInfoDDLTable:                    false,
		flightsql.SqlInfoIdentifierCase:              int64(0), // SQL_CASE_SENSITIVITY_UNKNOWN: kept as written, compared without case
		flightsql.SqlInfoIdentifierQuoteChar:         `"`,
		flightsql.SqlInfoQuotedIdentifierCase:        int64(0),
		flightsql.SqlInfoAllTablesAreASelectable:     true,
		flightsql.SqlInfoNullOrdering:                int64(2), // SQL_NULLS_SORTED_AT_END
		flightsql.SqlInfoSearchStringEscape:          `\`,
		flightsql.SqlInfoSchemaTerm:                  "namespace",
		flightsql.SqlInfoMaxStatementLen:             maxStatement,
	}
}

// listing is a FlightInfo whose ticket is the command itself.
func (v *sqlService) listing(d *flight.FlightDescriptor, schema *arrow.Schema) (*flight.FlightInfo, error) {
	return &flight.FlightInfo{
		Schema: flight.SerializeSchema(schema, v.s.mem), FlightDescriptor: d, TotalRecords: -1, TotalBytes: -1,
		Endpoint: []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: d.GetCmd()}}},
	}, nil
}

// one is a stream of the record batch that fill builds. arrow-go releases it.
func (v *sqlService) one(schema *arrow.Schema, fill func(*array.RecordBuilder)) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	b := array.NewRecordBuilder(v.s.mem, schema)
	defer b.Release()
	fill(b)
	ch := make(chan flight.StreamChunk, 1)
	ch <- flight.StreamChunk{Data: b.NewRecordBatch()}
	close(ch)
	return schema, ch, nil
}

func nothing(*array.RecordBuilder) {}

// GetSqlInfo: ids that are not known here are left out, where arrow-go would fail the call; drivers of newer
// versions ask for more than any server knows.
func (v *sqlService) DoGetSqlInfo(ctx context.Context, c flightsql.GetSqlInfo) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	known := knownInfo{}
	for _, id := range c.GetInfo() {
		if v.info[id] {
			known = append(known, id)
		}
	}
	if len(known) == 0 && len(c.GetInfo()) > 0 {
		return v.one(schema_ref.SqlInfo, nothing)
	}
	return v.BaseServer.DoGetSqlInfo(ctx, known)
}

type knownInfo []uint32

func (k knownInfo) GetInfo() []uint32 { return k }

// There are no catalogs, as with an Iceberg REST catalog: a name is namespace.table.

func (v *sqlService) GetFlightInfoCatalogs(_ context.Context, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return v.listing(d, schema_ref.Catalogs)
}

func (v *sqlService) DoGetCatalogs(context.Context) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return v.one(schema_ref.Catalogs, nothing)
}

func (v *sqlService) GetFlightInfoSchemas(_ context.Context, _ flightsql.GetDBSchemas, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return v.listing(d, schema_ref.DBSchemas)
}

func (v *sqlService) DoGetDBSchemas(ctx context.Context, c flightsql.GetDBSchemas) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	tables, err := v.tables(ctx, false, c.GetCatalog(), c.GetDBSchemaFilterPattern(), nil, nil)
	if err != nil {
		return nil, nil, err
	}
	return v.one(schema_ref.DBSchemas, func(b *array.RecordBuilder) {
		last := ""
		for _, t := range tables {
			ns := t.Identifier.Namespace().String()
			if ns == last && b.Field(1).Len() > 0 {
				continue
			}
			last = ns
			b.Field(0).AppendNull()
			b.Field(1).(*array.StringBuilder).Append(ns)
		}
	})
}

func (v *sqlService) GetFlightInfoTables(_ context.Context, c flightsql.GetTables, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	if c.GetIncludeSchema() {
		return v.listing(d, schema_ref.TablesWithIncludedSchema)
	}
	return v.listing(d, schema_ref.Tables)
}

func (v *sqlService) DoGetTables(ctx context.Context, c flightsql.GetTables) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	tables, err := v.tables(ctx, c.GetIncludeSchema(), c.GetCatalog(), c.GetDBSchemaFilterPattern(), c.GetTableNameFilterPattern(), c.GetTableTypes())
	if err != nil {
		return nil, nil, err
	}
	schema := schema_ref.Tables
	if c.GetIncludeSchema() {
		schema = schema_ref.TablesWithIncludedSchema
	}
	return v.one(schema, func(b *array.RecordBuilder) {
		for _, t := range tables {
			b.Field(0).AppendNull()
			b.Field(1).(*array.StringBuilder).Append(t.Identifier.Namespace().String())
			b.Field(2).(*array.StringBuilder).Append(t.Identifier.Name())
			b.Field(3).(*array.StringBuilder).Append(tableType)
			if c.GetIncludeSchema() {
				s := t.Schema
				if s == nil {
					s = arrow.NewSchema(nil, nil)
				}
				b.Field(4).(*array.BinaryBuilder).Append(flight.SerializeSchema(s, v.s.mem))
			}
		}
	})
}

// tables lists by SQL patterns, in order of namespace and name. A nil pattern or catalog takes everything.
func (v *sqlService) tables(ctx context.Context, withSchema bool, catalog, namespace, name *string, types []string) ([]query.TableInfo, error) {
	if catalog != nil && *catalog != "" || len(types) > 0 && !slices.ContainsFunc(types, func(t string) bool { return strings.EqualFold(t, tableType) }) {
		return nil, nil
	}
	all, err := v.s.eng.Tables(ctx, withSchema)
	if err != nil {
		return nil, err
	}
	inNamespace, named := likePattern(namespace), likePattern(name)
	var out []query.TableInfo
	for _, t := range all {
		if inNamespace(t.Identifier.Namespace().String()) && named(t.Identifier.Name()) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b query.TableInfo) int {
		return cmp.Or(cmp.Compare(a.Identifier.Namespace().String(), b.Identifier.Namespace().String()), cmp.Compare(a.Identifier.Name(), b.Identifier.Name()))
	})
	return out, nil
}

// likePattern compiles a LIKE pattern: % any text, _ one character, \ takes the next as it is. Case does not count.
func likePattern(p *string) func(string) bool {
	if p == nil || *p == "" || *p == "%" {
		return func(string) bool { return true }
	}
	var re strings.Builder
	re.WriteString(`(?is)\A`)
	escaped := false
	for _, r := range *p {
		switch {
		case escaped:
			re.WriteString(regexp.QuoteMeta(string(r)))
			escaped = false
		case r == '\\':
			escaped = true
		case r == '%':
			re.WriteString(`.*`)
		case r == '_':
			re.WriteString(`.`)
		default:
			re.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	re.WriteString(`\z`)
	compiled, err := regexp.Compile(re.String())
	if err != nil { // a pattern too large for the compiler matches nothing
		return func(string) bool { return false }
	}
	return compiled.MatchString
}

func (v *sqlService) GetFlightInfoTableTypes(_ context.Context, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return v.listing(d, schema_ref.TableTypes)
}

func (v *sqlService) DoGetTableTypes(context.Context) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return v.one(schema_ref.TableTypes, func(b *array.RecordBuilder) { b.Field(0).(*array.StringBuilder).Append(tableType) })
}

// Keys: Iceberg tables have none, and drivers want to be told so.

func (v *sqlService) GetFlightInfoPrimaryKeys(_ context.Context, _ flightsql.TableRef, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return v.listing(d, schema_ref.PrimaryKeys)
}

func (v *sqlService) DoGetPrimaryKeys(context.Context, flightsql.TableRef) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return v.one(schema_ref.PrimaryKeys, nothing)
}

func (v *sqlService) GetFlightInfoExportedKeys(_ context.Context, _ flightsql.TableRef, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return v.listing(d, schema_ref.ExportedKeys)
}

func (v *sqlService) DoGetExportedKeys(context.Context, flightsql.TableRef) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return v.one(schema_ref.ExportedKeys, nothing)
}

func (v *sqlService) GetFlightInfoImportedKeys(_ context.Context, _ flightsql.TableRef, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return v.listing(d, schema_ref.ImportedKeys)
}

func (v *sqlService) DoGetImportedKeys(context.Context, flightsql.TableRef) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return v.one(schema_ref.ImportedKeys, nothing)
}

func (v *sqlService) GetFlightInfoCrossReference(_ context.Context, _ flightsql.CrossTableRef, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return v.listing(d, schema_ref.CrossReference)
}

func (v *sqlService) DoGetCrossReference(context.Context, flightsql.CrossTableRef) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return v.one(schema_ref.CrossReference, nothing)
}

func (v *sqlService) GetFlightInfoXdbcTypeInfo(_ context.Context, _ flightsql.GetXdbcTypeInfo, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return v.listing(d, schema_ref.XdbcTypeInfo)
}

func (v *sqlService) DoGetXdbcTypeInfo(context.Context, flightsql.GetXdbcTypeInfo) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return v.one(schema_ref.XdbcTypeInfo, nothing)
}
