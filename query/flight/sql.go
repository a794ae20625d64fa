package flight

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	pb "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/firnlake/firn/query"
)

// maxParamRows bounds the rows of bound parameters; the statement runs once for each.
const maxParamRows = 1000

// sqlService is Flight SQL. Statements are planned when they are asked about (Describe) and run when their ticket is
// fetched; metadata is in metadata.go.
type sqlService struct {
	flightsql.BaseServer
	s    *Server
	info map[uint32]bool
}

func newSQLService(s *Server) (*sqlService, error) {
	v := &sqlService{s: s, info: map[uint32]bool{}}
	v.Alloc = s.mem
	for id, value := range sqlInfo(int64(s.cfg.MaxStatement)) {
		if err := v.RegisterSqlInfo(id, value); err != nil {
			return nil, fmt.Errorf("flight: SqlInfo: %w", err)
		}
		v.info[uint32(id)] = true
	}
	return v, nil
}

func (s *Server) checkStatement(sql string) error {
	if len(sql) > int(s.cfg.MaxStatement) {
		return fmt.Errorf("%w: a statement of %d bytes, at most %s (max_statement)", query.ErrLimit, len(sql), s.cfg.MaxStatement)
	}
	return nil
}

func noTransaction(id []byte) error {
	if len(id) > 0 {
		return fmt.Errorf("%w: there are no transactions here, every statement reads one pinned state", ErrBadRequest)
	}
	return nil
}

// describe plans a statement under the options of the call.
func (v *sqlService) describe(ctx context.Context, sql string) (result, params *arrow.Schema, o query.Options, err error) {
	if err = v.s.checkStatement(sql); err != nil {
		return nil, nil, o, err
	}
	if o, err = headerOptions(ctx, o); err != nil {
		return nil, nil, o, err
	}
	result, params, err = v.s.eng.Describe(ctx, sql, o)
	return result, params, o, err
}

func (v *sqlService) GetFlightInfoStatement(ctx context.Context, q flightsql.StatementQuery, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	if err := noTransaction(q.GetTransactionId()); err != nil {
		return nil, err
	}
	schema, _, o, err := v.describe(ctx, q.GetQuery())
	if err != nil {
		return nil, err
	}
	return v.flightInfo(d, schema, statement{Query: q.GetQuery(), Options: toWire(o)})
}

func (v *sqlService) GetSchemaStatement(ctx context.Context, q flightsql.StatementQuery, _ *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	schema, _, _, err := v.describe(ctx, q.GetQuery())
	if err != nil {
		return nil, err
	}
	return v.s.schemaResult(schema)
}

// schemaBytes serialises a schema; one that is not known yet is left out, and clients take that of the stream.
func (s *Server) schemaBytes(schema *arrow.Schema) []byte {
	if schema == nil {
		return nil
	}
	return flight.SerializeSchema(schema, s.mem)
}

func (s *Server) schemaResult(schema *arrow.Schema) (*flight.SchemaResult, error) {
	if schema == nil {
		return nil, fmt.Errorf("%w: the types of this statement's result depend on the parameters that are bound: cast them, as in ?::BIGINT, or read the schema from the stream", query.ErrInvalidSQL)
	}
	return &flight.SchemaResult{Schema: s.schemaBytes(schema)}, nil
}

// flightInfo is one endpoint whose ticket is the statement.
func (v *sqlService) flightInfo(d *flight.FlightDescriptor, schema *arrow.Schema, st statement) (*flight.FlightInfo, error) {
	expires := v.s.now().Add(v.s.cfg.HandleTTL.D())
	sealed, err := v.s.key.seal(st, expires)
	if err != nil {
		return nil, err
	}
	ticket, err := anyBytes(&pb.TicketStatementQuery{StatementHandle: sealed})
	if err != nil {
		return nil, err
	}
	return &flight.FlightInfo{
		Schema: v.s.schemaBytes(schema), FlightDescriptor: d, TotalRecords: -1, TotalBytes: -1,
		Endpoint: []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: ticket}, ExpirationTime: timestamppb.New(expires)}},
	}, nil
}

func anyBytes(m proto.Message) ([]byte, error) {
	a, err := anypb.New(m)
	if err != nil {
		return nil, fmt.Errorf("flight: encode a command: %w", err)
	}
	return proto.Marshal(a)
}

func (v *sqlService) CreatePreparedStatement(ctx context.Context, r flightsql.ActionCreatePreparedStatementRequest) (out flightsql.ActionCreatePreparedStatementResult, err error) {
	if v.s.eng == nil {
		return out, ErrNotServed
	}
	if err := noTransaction(r.GetTransactionId()); err != nil {
		return out, err
	}
	result, params, o, err := v.describe(ctx, r.GetQuery())
	if err != nil {
		return out, err
	}
	if params == nil { // JDBC takes a reply without the schema of the parameters for an old server's
		params = arrow.NewSchema(nil, nil)
	}
	id, err := v.s.stmts.add(prepared{query: r.GetQuery(), options: toWire(o), result: result, params: params})
	if err != nil {
		return out, err
	}
	update := false
	return flightsql.ActionCreatePreparedStatementResult{
		Handle: []byte(id), DatasetSchema: result, ParameterSchema: params, IsUpdate: &update,
	}, nil
}

func (v *sqlService) ClosePreparedStatement(_ context.Context, r flightsql.ActionClosePreparedStatementRequest) error {
	v.s.stmts.drop(string(r.GetPreparedStatementHandle()))
	return nil
}

// statementOf is what the prepared statement stands for at this moment: its text, its options under the headers of
// this call, and the parameters bound last.
func (v *sqlService) statementOf(ctx context.Context, handle []byte) (statement, *arrow.Schema, error) {
	p, err := v.s.stmts.get(string(handle))
	if err != nil {
		return statement{}, nil, err
	}
	o, err := p.options.apply(query.Options{})
	if err != nil {
		return statement{}, nil, err
	}
	if o, err = headerOptions(ctx, o); err != nil {
		return statement{}, nil, err
	}
	return statement{Query: p.query, Options: toWire(o), Params: p.bound}, p.result, nil
}

func (v *sqlService) GetFlightInfoPreparedStatement(ctx context.Context, c flightsql.PreparedStatementQuery, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	st, schema, err := v.statementOf(ctx, c.GetPreparedStatementHandle())
	if err != nil {
		return nil, err
	}
	return v.flightInfo(d, schema, st)
}

func (v *sqlService) GetSchemaPreparedStatement(_ context.Context, c flightsql.PreparedStatementQuery, _ *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	p, err := v.s.stmts.get(string(c.GetPreparedStatementHandle()))
	if err != nil {
		return nil, err
	}
	return v.s.schemaResult(p.result)
}

// DoPutPreparedStatementQuery binds parameters. The messages have passed ipccheck.
func (v *sqlService) DoPutPreparedStatementQuery(_ context.Context, c flightsql.PreparedStatementQuery, r flight.MessageReader, _ flight.MetadataWriter) ([]byte, error) {
	handle := c.GetPreparedStatementHandle()
	if _, err := v.s.stmts.get(string(handle)); err != nil {
		return nil, err
	}
	var batches []arrow.RecordBatch
	defer func() { releaseAll(batches) }()
	var rows, bytes int64
	for r.Next() {
		b := r.RecordBatch()
		if rows += b.NumRows(); rows > maxParamRows {
			return nil, fmt.Errorf("%w: more than %d rows of bound parameters", query.ErrLimit, maxParamRows)
		}
		if bytes += batchBytes(b); bytes > maxInlineParams {
			return nil, fmt.Errorf("%w: bound parameters of more than %d bytes", query.ErrLimit, maxInlineParams)
		}
		if b.NumRows() > 0 {
			b.Retain()
			batches = append(batches, b)
		}
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%w: bound parameters: %w", ErrBadRequest, err)
	}
	params, err := encodeParams(batches, v.s.mem)
	if err != nil {
		return nil, err
	}
	return handle, v.s.stmts.bind(string(handle), params)
}

// runTicket runs the statement that a ticket is.
func (v *sqlService) runTicket(b []byte, stream flight.FlightService_DoGetServer) error {
	st, err := v.s.key.open(b, v.s.now())
	if err != nil {
		return err
	}
	return v.run(st, stream)
}

// runPrepared serves clients that make a prepared statement's ticket themselves.
func (v *sqlService) runPrepared(handle []byte, stream flight.FlightService_DoGetServer) error {
	st, _, err := v.statementOf(stream.Context(), handle)
	if err != nil {
		return err
	}
	return v.run(st, stream)
}

// run executes st, once for each row of its parameters, and sends the rows as one stream.
func (v *sqlService) run(st statement, stream flight.FlightService_DoGetServer) error {
	o, err := st.options()
	if err != nil {
		return err
	}
	params, err := decodeParams(st.Params, v.s.mem)
	if err != nil {
		return err
	}
	defer releaseAll(params)
	release, err := v.s.acquire()
	if err != nil {
		return err
	}
	defer release()
	ctx := stream.Context()
	switch rows := paramRows(params); len(rows) {
	case 0:
		res, err := v.s.eng.Query(ctx, st.Query, nil, o)
		if err != nil {
			return err
		}
		return v.s.sendResult(stream, "sql", res, false)
	default:
		defer releaseAll(rows)
		res, err := newRepeated(ctx, rows, func(ctx context.Context, row arrow.RecordBatch) (query.Result, error) {
			return v.s.eng.Query(ctx, st.Query, row, o)
		})
		if err != nil {
			return err
		}
		return v.s.sendResult(stream, "sql", res, false)
	}
}

// paramRows cuts batches into single rows; the caller releases them.
func paramRows(batches []arrow.RecordBatch) []arrow.RecordBatch {
	var rows []arrow.RecordBatch
	for _, b := range batches {
		for i := range b.NumRows() {
			rows = append(rows, b.NewSlice(i, i+1))
		}
	}
	return rows
}

// Everything that would change something is refused in the words of the engine.

func (v *sqlService) DoPutCommandStatementUpdate(context.Context, flightsql.StatementUpdate) (int64, error) {
	return 0, query.ErrNotSelect
}

func (v *sqlService) DoPutPreparedStatementUpdate(context.Context, flightsql.PreparedStatementUpdate, flight.MessageReader) (int64, error) {
	return 0, query.ErrNotSelect
}

func (v *sqlService) DoPutCommandStatementIngest(context.Context, flightsql.StatementIngest, flight.MessageReader) (int64, error) {
	return 0, query.ErrNotSelect
}

// version is the module's version as the build knows it.
func version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "devel"
}
