package flight

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// unary and stream stand around every handler: a panic becomes an Internal error, an error of Firn a status, and
// both are counted.

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (resp any, err error) {
	defer s.ended(ctx, info.FullMethod, s.now(), &err)
	return h(ctx, req)
}

func (s *Server) stream(srv any, st grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
	defer s.ended(st.Context(), info.FullMethod, s.now(), &err)
	return h(srv, st)
}

// ended is deferred by the two; it sees the panic of the handler.
func (s *Server) ended(ctx context.Context, full string, began time.Time, err *error) {
	method := methodName(full)
	if p := recover(); p != nil {
		s.metrics.panics.Inc()
		// The value may quote the data that it stumbled on, so the log has its type and the stack alone.
		s.log.LogAttrs(ctx, slog.LevelError, "flight: panic in a call", slog.String("method", method), slog.String("panic_type", fmt.Sprintf("%T", p)), slog.String("stack", string(debug.Stack())))
		*err = status.Error(codes.Internal, "internal error: the server's log has the place")
	}
	if *err = toStatus(*err); *err != nil && ctx.Err() != nil && status.Code(*err) == codes.Internal {
		// What fails because the client went away is no fault of the server.
		*err = status.FromContextError(ctx.Err()).Err()
	}
	code := status.Code(*err)
	s.metrics.done(method, code, s.now().Sub(began))
	switch code {
	case codes.Internal, codes.DataLoss, codes.Unknown:
		s.log.LogAttrs(ctx, slog.LevelWarn, "flight: a call failed", slog.String("method", method), slog.String("code", code.String()), slog.String("error", (*err).Error()))
	}
}
