package flight

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/firnlake/firn/query"
)

// A session is its options, and they live in the client's cookie: they say nothing that the headers could not, so
// they need neither a signature nor memory here.
const (
	sessionCookie    = "firn_options"
	optionLevel      = "level"
	optionAsOf       = "as_of"
	maxSessionCookie = 1 << 10 // bytes
)

// sessionOptions reads the cookie; what cannot be read is no session.
func sessionOptions(md metadata.MD) wireOptions {
	var w wireOptions
	for _, line := range md.Get("cookie") {
		cookies, err := http.ParseCookie(line)
		if err != nil {
			continue
		}
		for _, c := range cookies {
			b, err := base64.RawURLEncoding.DecodeString(c.Value)
			if c.Name != sessionCookie || err != nil || len(b) > maxSessionCookie {
				continue
			}
			var got wireOptions
			if json.Unmarshal(b, &got) == nil {
				w = wireOptions{Level: got.Level, AsOf: got.AsOf}
			}
		}
	}
	return w
}

func setSession(ctx context.Context, w wireOptions) error {
	c := http.Cookie{Name: sessionCookie, MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if w.Level != "" || w.AsOf != "" {
		b, err := json.Marshal(w)
		if err != nil {
			return fmt.Errorf("flight: session: %w", err)
		}
		c.Value, c.MaxAge = base64.RawURLEncoding.EncodeToString(b), 0
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs("set-cookie", c.String())); err != nil {
		return fmt.Errorf("flight: session: %w", err)
	}
	return nil
}

func incoming(ctx context.Context) metadata.MD {
	md, _ := metadata.FromIncomingContext(ctx)
	return md
}

func (v *sqlService) SetSessionOptions(ctx context.Context, r *flight.SetSessionOptionsRequest) (*flight.SetSessionOptionsResult, error) {
	w := sessionOptions(incoming(ctx))
	out := &flight.SetSessionOptionsResult{Errors: map[string]*flight.SetSessionOptionsResultError{}}
	for name, value := range r.GetSessionOptions() {
		next := w
		switch name {
		case optionLevel:
			next.Level = value.GetStringValue()
		case optionAsOf:
			next.AsOf = value.GetStringValue()
		default:
			out.Errors[name] = &flight.SetSessionOptionsResultError{Value: flight.SetSessionOptionsResultErrorInvalidName}
			continue
		}
		if _, err := next.apply(query.Options{}); err != nil {
			out.Errors[name] = &flight.SetSessionOptionsResultError{Value: flight.SetSessionOptionsResultErrorInvalidValue}
			continue
		}
		w = next
	}
	return out, setSession(ctx, w)
}

func (v *sqlService) GetSessionOptions(ctx context.Context, _ *flight.GetSessionOptionsRequest) (*flight.GetSessionOptionsResult, error) {
	w := sessionOptions(incoming(ctx))
	set := map[string]any{}
	if w.Level != "" {
		set[optionLevel] = w.Level
	}
	if w.AsOf != "" {
		set[optionAsOf] = w.AsOf
	}
	values, err := flight.NewSessionOptionValues(set)
	if err != nil {
		return nil, fmt.Errorf("flight: session: %w", err)
	}
	return &flight.GetSessionOptionsResult{SessionOptions: values}, nil
}

func (v *sqlService) CloseSession(ctx context.Context, _ *flight.CloseSessionRequest) (*flight.CloseSessionResult, error) {
	return &flight.CloseSessionResult{Status: flight.CloseSessionResultClosed}, setSession(ctx, wireOptions{})
}
