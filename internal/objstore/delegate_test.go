package objstore

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/units"
)

// storageAt is a store whose STS is h.
func storageAt(t *testing.T, prefix string, h http.HandlerFunc) *S3 {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	s, err := NewS3(S3Config{Options: Options{Endpoint: srv.URL, AccessKey: units.NewSecret("own-access"), SecretKey: units.NewSecret("canary-own-secret")}, Bucket: "lake", Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.transport.CloseIdleConnections)
	return s
}

const assumed = `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>A</AccessKeyId>
<SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken><Expiration>2026-11-25T12:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`

// TestPolicyNamesOnePrefix: what STS is asked for is the prefix with a slash, the level, and the time.
func TestPolicyNamesOnePrefix(t *testing.T) {
	var form map[string][]string
	s := storageAt(t, "ware", func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		form = r.PostForm
		_, _ = io.WriteString(w, assumed)
	})
	for _, tc := range []struct {
		prefix, want string
		write        bool
	}{
		{"t", `{"Statement":[{"Effect":"Allow","Action":["s3:GetObject"],"Resource":["arn:aws:s3:::lake/ware/t/*"]},` +
			`{"Effect":"Allow","Action":["s3:ListBucket"],"Resource":["arn:aws:s3:::lake"],"Condition":{"StringLike":{"s3:prefix":["ware/t/*"]}}}],"Version":"2012-10-17"}`, false},
		{`a/q"uote`, `{"Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject","s3:DeleteObject","s3:AbortMultipartUpload","s3:ListMultipartUploadParts"],"Resource":["arn:aws:s3:::lake/ware/a/q\"uote/*"]},` +
			`{"Effect":"Allow","Action":["s3:ListBucket"],"Resource":["arn:aws:s3:::lake"],"Condition":{"StringLike":{"s3:prefix":["ware/a/q\"uote/*"]}}}],"Version":"2012-10-17"}`, true},
	} {
		k, err := s.TemporaryKeys(t.Context(), Scope{Prefix: tc.prefix, Write: tc.write, Lifetime: time.Hour})
		if err != nil || k.AccessKey.Reveal() != "A" || k.SecretKey.Reveal() != "S" || k.SessionToken.Reveal() != "T" || k.Expires.IsZero() {
			t.Fatalf("%s: %+v, %v", tc.prefix, k, err)
		}
		if got := form["Policy"][0]; got != tc.want || form["DurationSeconds"][0] != "3600" || !json.Valid([]byte(got)) {
			t.Errorf("%s: asked for %v", tc.prefix, form)
		}
	}
}

// TestNoPolicyForPatterns: what would be a wildcard or a variable in a policy is asked for nowhere.
func TestNoPolicyForPatterns(t *testing.T) {
	s := storageAt(t, "", func(http.ResponseWriter, *http.Request) { t.Error("STS was asked") })
	for _, prefix := range []string{"", "*", "a*", "a/*/b", "a?", "${aws:username}", "a$", `a\b`, "a/", "/a", "a//b", "..", "a/../b", "a\x00b", "a\nb", strings.Repeat("x", 1000)} {
		if _, err := s.TemporaryKeys(t.Context(), Scope{Prefix: prefix, Lifetime: time.Hour}); !errors.Is(err, ErrNoScope) {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

// TestSTSThatFails: an answer that says no, one that is none, and none at all; no secret in the error.
func TestSTSThatFails(t *testing.T) {
	say := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); _, _ = io.WriteString(w, body) }
	}
	for what, tc := range map[string]struct {
		h    http.HandlerFunc
		want error
	}{
		"no":      {say(403, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`), ErrAccessDenied},
		"rubbish": {say(200, "rubbish"), ErrUnavailable},
		"broken":  {say(500, ""), ErrUnavailable},
	} {
		_, err := storageAt(t, "", tc.h).TemporaryKeys(t.Context(), Scope{Prefix: "t", Lifetime: time.Hour})
		if !errors.Is(err, tc.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", what, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	hold := make(chan struct{})
	defer close(hold)
	if _, err := storageAt(t, "", func(http.ResponseWriter, *http.Request) { <-hold }).TemporaryKeys(ctx, Scope{Prefix: "t", Lifetime: time.Hour}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that hangs: %v", err)
	}
}

// TestSign covers every header that the request has, with the keys of the session where there is one.
func TestSign(t *testing.T) {
	s := storageAt(t, "", func(http.ResponseWriter, *http.Request) { t.Error("signing sends nothing") })
	for _, keys := range []*Keys{nil, {AccessKey: units.NewSecret("A"), SecretKey: units.NewSecret("canary-session"), SessionToken: units.NewSecret("T")}} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "http://storage/lake/a%20b?partNumber=1", nil)
		req.Header.Set("X-Amz-Checksum-Crc32", "AAAAAA==")
		s.Sign(req, keys)
		got, id, signed := req.Header.Get("Authorization"), "own-access", "host;x-amz-checksum-crc32;x-amz-date"
		if keys != nil {
			id, signed = "A", signed+";x-amz-security-token"
		}
		if !strings.HasPrefix(got, "AWS4-HMAC-SHA256 Credential="+id+"/") || !strings.Contains(got, "SignedHeaders="+signed+",") || strings.Contains(got, "canary") {
			t.Errorf("signed as %s", got)
		}
	}
}
