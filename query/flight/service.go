package flight

import (
	"context"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	pb "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/query"
	"github.com/firnlake/firn/query/flight/ipccheck"
)

// service is the Flight service: it answers Firn's own commands, runs statements, checks what is put, and leaves
// the routing of the rest of Flight SQL to arrow-go.
type service struct {
	flight.BaseFlightServer
	s          *Server
	sql        flight.FlightServer
	statements *sqlService
}

// Handshake answers a user and password with the bearer token for the calls to come. The call itself was
// authenticated by tap, like every other.
func (v *service) Handshake(stream flight.FlightService_HandshakeServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	token := secretOf(lastOf(md, headerAuthorization))
	if token == "" || !v.s.auth.set {
		token = "anonymous" // clients want something to send back
	}
	if err := stream.SendHeader(metadata.Pairs(headerAuthorization, "Bearer "+token)); err != nil {
		return fmt.Errorf("flight: handshake: %w", err)
	}
	return nil
}

func (v *service) engine() (query.Engine, error) {
	if v.s.eng == nil {
		return nil, fmt.Errorf("%w: it hands out the newest rows of its tables to query processes; ask one of those", ErrNotServed)
	}
	return v.s.eng, nil
}

// descriptorCommand is the command in a descriptor, a path being the scan of a table; false for Flight SQL.
func descriptorCommand(d *flight.FlightDescriptor) (command, bool, error) {
	switch {
	case d.GetType() == flight.DescriptorPATH:
		table := strings.Join(d.GetPath(), ".")
		if len(d.GetPath()) > 1 {
			table = quoteIdentifier(catalog.Identifier(d.GetPath()))
		}
		return command{Firn: "scan", Table: table}, true, nil
	case isCommand(d.GetCmd()):
		c, err := parseCommand(d.GetCmd())
		return c, true, err
	}
	return command{}, false, nil
}

func (v *service) GetFlightInfo(ctx context.Context, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	c, ours, err := descriptorCommand(d)
	if err != nil {
		return nil, err
	}
	if !ours {
		if _, err := v.engine(); err != nil {
			return nil, err
		}
		return v.sql.GetFlightInfo(ctx, d)
	}
	schema, pins, err := v.describe(ctx, &c)
	if err != nil {
		return nil, err
	}
	ticket, err := c.encode()
	if err != nil {
		return nil, err
	}
	info := &flight.FlightInfo{
		Schema: v.s.schemaBytes(schema), FlightDescriptor: d, TotalRecords: -1, TotalBytes: -1,
		Endpoint: []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: ticket}}},
	}
	if pins != nil {
		info.AppMetadata = encodePins(pins, true)
	}
	return info, nil
}

func (v *service) GetSchema(ctx context.Context, d *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	c, ours, err := descriptorCommand(d)
	if err != nil {
		return nil, err
	}
	if !ours {
		if _, err := v.engine(); err != nil {
			return nil, err
		}
		return v.sql.GetSchema(ctx, d)
	}
	schema, _, err := v.describe(ctx, &c)
	if err != nil {
		return nil, err
	}
	return v.s.schemaResult(schema)
}

// describe finds the schema of a command and folds the headers of the call into it, for they must hold when its
// ticket is fetched.
func (v *service) describe(ctx context.Context, c *command) (*arrow.Schema, []query.Pin, error) {
	eng, err := v.engine()
	if err != nil {
		return nil, nil, err
	}
	o, err := v.options(ctx, *c)
	if err != nil {
		return nil, nil, err
	}
	c.wireOptions = toWire(o)
	switch c.Firn {
	case "watch":
		_, err := c.watch()
		return watchSchema, nil, err
	case "sql":
		if err := v.s.checkStatement(c.Query); err != nil {
			return nil, nil, err
		}
		schema, _, err := eng.Describe(ctx, c.Query, o)
		return schema, nil, err
	case "scan":
		r, err := c.scan()
		if err != nil {
			return nil, nil, err
		}
		res, err := eng.Scan(ctx, r, o) // plans and pins; no row is read before Next
		if err != nil {
			return nil, nil, err
		}
		defer res.Release()
		return res.Schema(), res.Pins(), nil
	}
	return nil, nil, fmt.Errorf("%w: no flight for the command %q: want scan, sql or watch", ErrBadRequest, clip(c.Firn, 32))
}

// options of a command: its own over the headers of the call.
func (v *service) options(ctx context.Context, c command) (query.Options, error) {
	o, err := headerOptions(ctx, query.Options{})
	if err != nil {
		return o, err
	}
	return c.apply(o)
}

func (v *service) DoGet(t *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	b := t.GetTicket()
	if isCommand(b) {
		c, err := parseCommand(b)
		if err != nil {
			return err
		}
		return v.get(c, stream)
	}
	if _, err := v.engine(); err != nil {
		return err
	}
	var (
		any       anypb.Any
		ticket    pb.TicketStatementQuery
		statement pb.CommandPreparedStatementQuery
	)
	if err := proto.Unmarshal(b, &any); err != nil {
		return fmt.Errorf("%w: it is neither Flight SQL nor a command", ErrBadTicket)
	}
	switch {
	case any.MessageIs(&ticket):
		if err := any.UnmarshalTo(&ticket); err != nil {
			return ErrBadTicket
		}
		return v.statements.runTicket(ticket.GetStatementHandle(), stream)
	case any.MessageIs(&statement):
		if err := any.UnmarshalTo(&statement); err != nil {
			return ErrBadTicket
		}
		return v.statements.runPrepared(statement.GetPreparedStatementHandle(), stream)
	}
	return v.sql.DoGet(t, stream)
}

// get runs one of Firn's own commands.
func (v *service) get(c command, stream flight.FlightService_DoGetServer) error {
	if c.Firn == "tail" {
		return v.s.sendTail(c, stream)
	}
	eng, err := v.engine()
	if err != nil {
		return err
	}
	if c.Firn == "watch" {
		return v.s.sendWatch(eng, c, stream)
	}
	ctx := stream.Context()
	o, err := v.options(ctx, c)
	if err != nil {
		return err
	}
	release, err := v.s.acquire()
	if err != nil {
		return err
	}
	defer release()
	var res query.Result
	switch c.Firn {
	case "scan":
		r, perr := c.scan()
		if perr != nil {
			return perr
		}
		res, err = eng.Scan(ctx, r, o)
	case "sql":
		if err := v.s.checkStatement(c.Query); err != nil {
			return err
		}
		res, err = eng.Query(ctx, c.Query, nil, o)
	default:
		return fmt.Errorf("%w: command %q: want scan, sql, tail or watch", ErrBadRequest, clip(c.Firn, 32))
	}
	if err != nil {
		return err
	}
	return v.s.sendResult(stream, c.Firn, res, true)
}

// ListFlights lists the tables, each with the descriptor of its scan. The criteria {"firn":"tables"} leaves the
// schemas out, which cost a load of each table; with "schema":true, or without criteria, they are there.
func (v *service) ListFlights(criteria *flight.Criteria, stream flight.FlightService_ListFlightsServer) error {
	eng, err := v.engine()
	if err != nil {
		return err
	}
	withSchema := true
	if b := criteria.GetExpression(); len(b) > 0 {
		c, err := parseCommand(b)
		if err != nil || c.Firn != "tables" {
			return fmt.Errorf("%w: criteria: want {\"firn\":\"tables\"}", ErrBadRequest)
		}
		withSchema = c.Schema
	}
	tables, err := eng.Tables(stream.Context(), withSchema)
	if err != nil {
		return err
	}
	for _, t := range tables {
		ticket, err := command{Firn: "scan", Table: quoteIdentifier(t.Identifier)}.encode()
		if err != nil {
			return err
		}
		info := &flight.FlightInfo{
			FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: t.Identifier},
			Endpoint:         []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: ticket}}},
			TotalRecords:     -1, TotalBytes: -1,
		}
		if t.Schema != nil {
			info.Schema = flight.SerializeSchema(t.Schema, v.s.mem)
		}
		if err := stream.Send(info); err != nil {
			return err
		}
	}
	return nil
}

// DoPut takes bound parameters and nothing else.
func (v *service) DoPut(stream flight.FlightService_DoPutServer) error {
	if _, err := v.engine(); err != nil {
		return err
	}
	return v.sql.DoPut(&checkedPut{FlightService_DoPutServer: stream, check: ipccheck.NewStream(paramLimits())})
}

// checkedPut hands on messages that ipccheck has passed.
type checkedPut struct {
	flight.FlightService_DoPutServer
	check *ipccheck.Stream
	begun bool
}

func (p *checkedPut) Recv() (*flight.FlightData, error) {
	for {
		d, err := p.FlightService_DoPutServer.Recv()
		if err != nil {
			return nil, err
		}
		first := !p.begun
		if p.begun = true; first && d.GetFlightDescriptor() == nil {
			return nil, fmt.Errorf("%w: the first message of a put has no descriptor", ErrBadRequest)
		}
		if len(d.GetDataHeader()) > 0 {
			if err := p.check.Check(d.GetDataHeader(), d.GetDataBody()); err != nil {
				return nil, err
			}
			return d, nil
		}
		if len(d.GetDataBody()) > 0 {
			return nil, fmt.Errorf("%w: a body without a header", ipccheck.ErrDamaged)
		}
		if first { // a descriptor ahead of the schema
			return d, nil
		}
		// Application metadata alone: nothing that a statement could be bound to. arrow-go would panic on it.
	}
}

func (v *service) DoAction(a *flight.Action, stream flight.FlightService_DoActionServer) error {
	return v.sql.DoAction(a, stream)
}

func (v *service) ListActions(_ *flight.Empty, stream flight.FlightService_ListActionsServer) error {
	for _, a := range []*flight.ActionType{
		{Type: flightsql.CreatePreparedStatementActionType, Description: "Plan a statement: schema of its rows and of its parameters."},
		{Type: flightsql.ClosePreparedStatementActionType, Description: "Forget a prepared statement."},
		{Type: flight.SetSessionOptionsActionType, Description: "Set level or as_of for the calls that carry the cookie."},
		{Type: flight.GetSessionOptionsActionType, Description: "Tell the options of the session."},
		{Type: flight.CloseSessionActionType, Description: "Forget the options of the session."},
	} {
		if err := stream.Send(a); err != nil {
			return err
		}
	}
	return nil
}

var _ grpc.ServerStream = (*checkedPut)(nil)
