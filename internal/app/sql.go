package app

import (
	"context"

	"github.com/firnlake/firn/internal/sqlshell"
	"github.com/firnlake/firn/query"
	"github.com/firnlake/firn/query/flight"
)

// SQLSession is a connection that the shell runs statements on. It implements sqlshell.Session.
type SQLSession struct {
	c *flight.Client
	o query.Options
}

// SQL connects to the Flight SQL service; o holds for every statement.
func (c *Client) SQL(ctx context.Context, o query.Options) (*SQLSession, error) {
	fc, err := c.Flight(ctx)
	if err != nil {
		return nil, err
	}
	return &SQLSession{fc, o}, nil
}

// Query implements sqlshell.Session.
func (s *SQLSession) Query(ctx context.Context, sql string) (sqlshell.Rows, error) {
	return s.c.Query(ctx, sql, s.o)
}

// Tables implements sqlshell.Session.
func (s *SQLSession) Tables(ctx context.Context, withSchema bool) ([]sqlshell.Table, error) {
	infos, err := s.c.Tables(ctx, withSchema)
	if err != nil {
		return nil, err
	}
	out := make([]sqlshell.Table, len(infos))
	for i, t := range infos {
		out[i] = sqlshell.Table{Name: t.Identifier.String(), Schema: t.Schema}
	}
	return out, nil
}

// Close ends the connection.
func (s *SQLSession) Close() error { return s.c.Close() }
