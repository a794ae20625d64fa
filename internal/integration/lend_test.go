//go:build integration

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/firnlake/firn/catalog/auth"
	catalogserver "github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

const (
	lendWriter = "writer-0123456789abcdef"
	lendReader = "reader-0123456789abcdef"
)

// lending is a catalog on MinIO that lends access to its tables' files to a writer and a reader of namespace lend.
type lending struct {
	t           *testing.T
	uri, bucket string
	minio       *server
}

func newLending(t *testing.T, bucket string, s3 catalogserver.S3Properties) *lending {
	s := sharedServer(t, "minio")
	s.makeBucket(t, bucket)
	o := s.objstore(t)
	wh, err := objstore.Open(t.Context(), "s3://"+bucket+"/ware house", o) // a space: keys are encoded wherever they are signed
	if err != nil {
		t.Fatal(err)
	}
	s3.Endpoint, s3.Region, s3.PathStyle = o.Endpoint, o.Region, true
	l := &lending{t: t, bucket: bucket, minio: s}
	l.uri = serveCatalog(t, wh, catalogserver.Config{S3: s3, Auth: auth.Config{
		Tokens: []auth.Token{{Name: "writer", Token: units.NewSecret(lendWriter), Roles: []string{"writer"}}, {Name: "reader", Token: units.NewSecret(lendReader), Roles: []string{"reader"}}},
		Roles: []auth.Role{{Name: "writer", Grants: []auth.Grant{{Allow: auth.Manage, Below: []string{"lend"}}}},
			{Name: "reader", Grants: []auth.Grant{{Allow: auth.Read, Below: []string{"lend"}}}}}}})
	l.ask(lendWriter, "POST", "/v1/namespaces", "", `{"namespace":["lend"]}`, nil)
	return l
}

// ask sends a request and decodes what it is answered; a status above 299 fails the test unless status takes it.
func (l *lending) ask(token, method, path, way, body string, into any, statuses ...*int) {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), method, l.uri+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if way != "" {
		req.Header.Set("X-Iceberg-Access-Delegation", way)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	if len(statuses) > 0 {
		*statuses[0] = res.StatusCode
	} else if res.StatusCode > 299 {
		l.t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, raw)
	}
	if into != nil {
		if err := json.Unmarshal(raw, into); err != nil {
			l.t.Fatalf("%s %s: %v in %s", method, path, err, raw)
		}
	}
}

// loaded is what a test reads of a table.
type loaded struct {
	Location    string `json:"metadata-location"`
	Credentials []struct {
		Prefix string
		Config map[string]string
	} `json:"storage-credentials"`
	Config map[string]string
}

func (l *lending) table(name string) (out loaded) {
	l.t.Helper()
	l.ask(lendWriter, "POST", "/v1/namespaces/lend/tables", "vended-credentials",
		fmt.Sprintf(`{"name":%q,"schema":{"type":"struct","schema-id":0,"fields":[{"id":1,"name":"id","type":"long","required":false}]}}`, name), &out)
	return out
}

// key is the key of a location in the bucket.
func (l *lending) key(location string) string {
	return strings.TrimPrefix(location, "s3://"+l.bucket+"/")
}

func (l *lending) client(config map[string]string) *minio.Client {
	l.t.Helper()
	c, err := minio.New(l.minio.addr(), &minio.Options{Region: "us-east-1",
		Creds: credentials.NewStaticV4(config["s3.access-key-id"], config["s3.secret-access-key"], config["s3.session-token"])})
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// TestLentKeys: keys that come with a table are for its files and for no others, and for reading when their holder may read.
func TestLentKeys(t *testing.T) {
	l := newLending(t, "lent-keys", catalogserver.S3Properties{STS: true})
	mine, other := l.table("mine"), l.table("other")
	var forReader loaded
	l.ask(lendReader, "GET", "/v1/namespaces/lend/tables/mine", "vended-credentials", "", &forReader)
	var fresh loaded
	l.ask(lendReader, "GET", "/v1/namespaces/lend/tables/mine/credentials", "", "", &fresh)
	none := loaded{}
	l.ask(lendReader, "GET", "/v1/namespaces/lend/tables/mine", "", "", &none)
	if len(none.Credentials) != 0 || none.Config["s3.secret-access-key"] != "" {
		t.Error("keys for one who did not ask")
	}
	root := l.key(strings.TrimSuffix(mine.Credentials[0].Prefix, "/"))
	for who, c := range map[string]struct {
		config map[string]string
		write  bool
	}{"writer": {mine.Credentials[0].Config, true}, "reader": {forReader.Credentials[0].Config, false}, "reader, fresh keys": {fresh.Credentials[0].Config, false}} {
		mc := l.client(c.config)
		read := func(key string) error {
			o, err := mc.GetObject(t.Context(), l.bucket, key, minio.GetObjectOptions{})
			if err == nil {
				_, err = io.ReadAll(o)
			}
			return err
		}
		list := func(prefix string) (err error) {
			for o := range mc.ListObjects(t.Context(), l.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
				err = o.Err
			}
			return err
		}
		put := func(key string) error {
			_, err := mc.PutObject(t.Context(), l.bucket, key, bytes.NewReader([]byte("x")), 1, minio.PutObjectOptions{})
			return err
		}
		copied := func(to, from string) error {
			_, err := mc.CopyObject(t.Context(), minio.CopyDestOptions{Bucket: l.bucket, Object: to}, minio.CopySrcOptions{Bucket: l.bucket, Object: from})
			return err
		}
		for _, tc := range []struct {
			what string
			err  error
			may  bool
		}{
			{"read its metadata", read(l.key(mine.Location)), true},
			{"list its files", list(root + "/"), true},
			{"write its files", put(root + "/data/a"), c.write},
			{"copy in its files", copied(root+"/data/b", l.key(mine.Location)), c.write},
			{"delete its files", mc.RemoveObject(t.Context(), l.bucket, root+"/data/a", minio.RemoveObjectOptions{}), c.write},
			{"read another's", read(l.key(other.Location)), false},
			{"copy another's", copied(root+"/data/c", l.key(other.Location)), false},
			{"write another's", put(l.key(other.Location)), false},
			{"write beside", put(root + "x/a"), false},
			{"write the catalog's own", put("ware house/_firn/inventory/999999999999.json"), false},
			{"list what begins like it", list(root), false},
			{"list all", list(""), false},
			{"see the bucket's policy", func() error { _, err := mc.GetBucketPolicy(t.Context(), l.bucket); return err }(), false},
			{"make a bucket", mc.MakeBucket(t.Context(), "lent-more", minio.MakeBucketOptions{}), false},
		} {
			denied := minio.ToErrorResponse(tc.err).Code == minio.AccessDenied
			if tc.may && tc.err != nil || !tc.may && !denied {
				t.Errorf("%s may %s: %v, got %v", who, tc.what, tc.may, tc.err)
			}
		}
	}
	ms := units.NewSecret(mine.Credentials[0].Config["s3.session-token"])
	if ms.IsZero() || mine.Credentials[0].Config["client.refresh-credentials-endpoint"] != "v1/namespaces/lend/tables/mine/credentials" {
		t.Errorf("no session, or nowhere to get another: %v", mine.Credentials[0].Prefix)
	}
}

// TestSignedRequests: requests that the catalog has signed are answered by MinIO, and a signature is good for nothing that
// was not asked for, not even by headers that travel beside it.
func TestSignedRequests(t *testing.T) {
	l := newLending(t, "signed", catalogserver.S3Properties{STS: true, RemoteSigning: true})
	mine, other := l.table("mine"), l.table("other")
	base := "http://" + l.minio.addr() + "/" + l.bucket + "/"
	escape := strings.NewReplacer(" ", "%20").Replace
	root := escape(strings.TrimPrefix(strings.TrimSuffix(mine.Credentials[0].Prefix, "/"), "s3://"+l.bucket+"/"))
	send := func(token, method, uri, body string, more ...string) (signed, stored int) {
		t.Helper()
		var s struct{ Headers map[string][]string }
		raw, err := json.Marshal(map[string]any{"region": "us-east-1", "method": method, "uri": uri, "headers": map[string][]string{}})
		if err != nil {
			t.Fatal(err)
		}
		l.ask(token, "POST", "/v1/namespaces/lend/tables/mine/sign", "", string(raw), &s, &signed)
		if signed != 200 {
			return signed, 0
		}
		req, err := http.NewRequestWithContext(t.Context(), method, uri, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range s.Headers {
			req.Header[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			req.Header.Set(more[i], more[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return signed, res.StatusCode
	}
	theirs := escape(l.key(other.Location))
	for _, tc := range []struct {
		who, token, method, uri string
		signed, stored          int
		more                    []string
	}{
		{"reader", lendReader, "GET", base + escape(l.key(mine.Location)), 200, 200, nil},
		{"reader", lendReader, "HEAD", base + escape(l.key(mine.Location)), 200, 200, nil},
		{"reader", lendReader, "GET", base + "?list-type=2&prefix=" + strings.ReplaceAll(root, "%20", "+") + "%2F", 200, 200, nil},
		{"reader", lendReader, "PUT", base + root + "/data/a", 403, 0, nil},
		{"reader", lendReader, "DELETE", base + root + "/data/a", 403, 0, nil},
		{"writer", lendWriter, "PUT", base + root + "/data/a%20b=%252F", 200, 200, nil},
		{"writer", lendWriter, "PUT", base + root + "/data/stolen", 200, 403, []string{"X-Amz-Copy-Source", "/" + l.bucket + "/" + theirs}},
		{"writer", lendWriter, "DELETE", base + root + "/data/a%20b=%252F", 200, 204, nil},
		{"writer", lendWriter, "GET", base + theirs, 403, 0, nil},
		{"writer", lendWriter, "PUT", base + theirs, 403, 0, nil},
		{"writer", lendWriter, "GET", base + root + "/../" + theirs[strings.IndexByte(theirs, '/')+1:], 403, 0, nil},
	} {
		if signed, stored := send(tc.token, tc.method, tc.uri, "", tc.more...); signed != tc.signed || stored != tc.stored {
			t.Errorf("%s: %s %s: signed %d, answered %d; want %d, %d", tc.who, tc.method, tc.uri, signed, stored, tc.signed, tc.stored)
		}
	}
}

// TestPyIcebergOnLentAccess: PyIceberg creates, appends, deletes and scans with nothing but what the catalog lends, by keys
// and by signatures, and one who may read writes no file.
func TestPyIcebergOnLentAccess(t *testing.T) {
	t.Setenv("WRITER", lendWriter)
	t.Setenv("READER", lendReader)
	for name, s3 := range map[string]catalogserver.S3Properties{"lent-both": {STS: true, RemoteSigning: true}, "lent-signed": {RemoteSigning: true}} {
		t.Run(name, func(t *testing.T) {
			s3.KeyLifetime = units.Duration(15 * time.Minute)
			l := newLending(t, name, s3)
			ways := []string{"remote-signing"}
			if s3.STS {
				ways = append(ways, "vended-credentials")
			}
			if out := pythonRun(t, "lend.py", append([]string{l.uri}, ways...)...); !strings.HasSuffix(out, "ok\n") {
				t.Error(out)
			}
		})
	}
}
