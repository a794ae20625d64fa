package flight

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/tap"
)

const headerAuthorization = "authorization"

// authenticator knows the one token that opens the service; the zero value lets everybody in.
type authenticator struct {
	set  bool
	want [sha256.Size]byte // of the token, so that the comparison tells nothing of its length
}

func newAuthenticator(token string) authenticator {
	return authenticator{set: token != "", want: sha256.Sum256([]byte(token))}
}

// check takes "Bearer <token>", and "Basic <user:token>" because JDBC and PyArrow begin with a user and a password;
// the user is not looked at.
func (a authenticator) check(md metadata.MD) error {
	if !a.set {
		return nil
	}
	for _, v := range md.Get(headerAuthorization) {
		got := sha256.Sum256([]byte(secretOf(v)))
		if subtle.ConstantTimeCompare(got[:], a.want[:]) == 1 {
			return nil
		}
	}
	return ErrUnauthenticated
}

// secretOf is the token or password in an authorization header, "" when there is none.
func secretOf(header string) string {
	scheme, rest, _ := strings.Cut(header, " ")
	switch strings.ToLower(scheme) {
	case "bearer":
		return strings.TrimSpace(rest)
	case "basic":
		// arrow-go leaves the padding out, the others do not.
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(rest), "="))
		if err != nil {
			return ""
		}
		_, password, _ := strings.Cut(string(b), ":")
		return password
	}
	return ""
}

// tap runs on the headers of a call, before a message is read or decoded. It must not block.
func (s *Server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	if err := s.auth.check(info.Header); err != nil {
		s.metrics.refused(methodName(info.FullMethodName), codes.Unauthenticated)
		return ctx, toStatus(err)
	}
	return ctx, nil
}
