package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
)

// maxSigned bounds the parts of a request to sign: its URI in bytes, and its headers.
const (
	maxSignedURI     = 8 << 10
	maxSignedHeaders = 100
)

const payloadHeader = "X-Amz-Content-Sha256"

// amzHeaders are the headers of the storage's own that may be signed; amzPrefixes are families of them. Not among them
// is what names another object (x-amz-copy-source) or changes who may read one (x-amz-acl, x-amz-grant-*).
var (
	amzHeaders = []string{"x-amz-date", "x-amz-content-sha256", "x-amz-sdk-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-algorithm",
		"x-amz-trailer", "x-amz-decoded-content-length", "x-amz-storage-class", "x-amz-user-agent", "x-amz-te"}
	amzPrefixes = []string{"x-amz-checksum-", "x-amz-meta-"}
)

// objectQueries and listQueries are the query parameters of requests for an object and for a list of objects. Others ask for
// something else than its bytes: acl, policy, tagging, versions, select.
var (
	objectQueries = map[string][]string{
		http.MethodGet:    {"x-id", "partNumber", "uploadId", "max-parts", "part-number-marker"},
		http.MethodHead:   {"x-id", "partNumber"},
		http.MethodPut:    {"x-id", "partNumber", "uploadId"},
		http.MethodPost:   {"x-id", "uploads", "uploadId"},
		http.MethodDelete: {"x-id", "uploadId"},
	}
	listQueries = []string{"x-id", "list-type", "prefix", "delimiter", "max-keys", "continuation-token", "start-after", "marker", "encoding-type", "fetch-owner"}
)

// signable checks a request against what a table's reader or writer may do with the files below root, a key in the bucket
// with a slash at its end. It returns the request with the headers that are to be signed.
func (d *lender) signable(q wire.SignRequest, root string) (req *http.Request, write bool, err error) {
	refuse := func(format string, a ...any) (*http.Request, bool, error) {
		return nil, false, fmt.Errorf("%w: "+format, append([]any{catalog.ErrDenied}, a...)...)
	}
	u, err := url.Parse(q.URI)
	if err != nil || len(q.URI) > maxSignedURI || u.Opaque != "" || u.User != nil || strings.Contains(q.URI, "#") || len(q.Headers) > maxSignedHeaders {
		return nil, false, fmt.Errorf("%w: the uri to sign is none of the storage, or there are too many headers", catalog.ErrInvalid)
	}
	if q.Provider != "" && q.Provider != "s3" {
		return nil, false, fmt.Errorf("%w: provider %q: this catalog signs for s3", catalog.ErrInvalid, q.Provider)
	}
	if q.Region != d.store.Region() {
		return nil, false, fmt.Errorf("%w: region %q: the storage's is %q", catalog.ErrInvalid, q.Region, d.store.Region())
	}
	if _, ok := objectQueries[q.Method]; !ok {
		return refuse("method %q is not signed", q.Method)
	}
	key, ok := d.object(u)
	if !ok {
		return refuse("the request is for another place than the warehouse")
	}
	query, err := singleValues(u.RawQuery)
	if err != nil {
		return nil, false, err
	}
	write = q.Method != http.MethodGet && q.Method != http.MethodHead
	req = &http.Request{Method: q.Method, URL: u, Host: u.Host, Header: http.Header{}}
	switch _, multi := query["delete"]; {
	case key == "" && q.Method == http.MethodGet:
		if name, bad := other(query, listQueries); bad {
			return refuse("query parameter %q of a listing is not signed", name)
		}
		if !strings.HasPrefix(query["prefix"], root) {
			return refuse("a listing must have a prefix in the table's location, %s", root)
		}
	case key == "" && q.Method == http.MethodPost && multi && len(query) == 1:
		sum, err := deletes(q.Body, root)
		if err != nil {
			return nil, false, err
		}
		req.Header.Set(payloadHeader, sum) // so that this body is sent and no other
	case key == "":
		return refuse("%s of the bucket is not signed", q.Method)
	default:
		if name, bad := other(query, objectQueries[q.Method]); bad {
			return refuse("query parameter %q of %s is not signed", name, q.Method)
		}
		if q.Method == http.MethodPost && query["uploadId"] == "" && !hasKey(query, "uploads") {
			return refuse("POST is only signed for uploads in parts")
		}
		if !below(key, root) {
			return refuse("object %q is not in the table's location, %s", key, root)
		}
	}
	return req, write, signedHeaders(req.Header, q.Headers)
}

// signedHeaders copies the headers that a signature must cover. Others travel unsigned: they change nothing that
// the signature is about, and proxies and libraries rewrite them.
func signedHeaders(out http.Header, in map[string][]string) error {
	for name, values := range in {
		low := strings.ToLower(name)
		amz := strings.HasPrefix(low, "x-amz-")
		if !amz && low != "content-md5" {
			if strings.HasPrefix(low, "x-minio-") {
				return fmt.Errorf("%w: header %s is not signed", catalog.ErrDenied, name)
			}
			continue
		}
		known := !amz || slices.Contains(amzHeaders, low)
		for _, p := range amzPrefixes {
			known = known || strings.HasPrefix(low, p)
		}
		if !known || len(values) != 1 || strings.ContainsAny(values[0], "\r\n\x00") {
			return fmt.Errorf("%w: header %s is not signed", catalog.ErrDenied, name)
		}
		canonical := http.CanonicalHeaderKey(name)
		if _, twice := out[canonical]; twice && (canonical != payloadHeader || out.Get(canonical) != values[0]) {
			return fmt.Errorf("%w: header %s contradicts the body, or stands there twice", catalog.ErrInvalid, name)
		}
		out[canonical] = []string{values[0]}
	}
	switch sum := out.Get(payloadHeader); sum {
	case "":
		out.Set(payloadHeader, "UNSIGNED-PAYLOAD")
	case "UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
	default:
		if raw, err := hex.DecodeString(sum); err != nil || len(raw) != sha256.Size {
			return fmt.Errorf("%w: %s %q: take the hash of the body, or UNSIGNED-PAYLOAD", catalog.ErrInvalid, payloadHeader, sum)
		}
	}
	return nil
}

// object finds the key of a request to the bucket, by path or by host name; empty is the bucket itself.
func (d *lender) object(u *url.URL) (key string, ok bool) {
	hosts := []string{"s3.amazonaws.com", "s3." + d.store.Region() + ".amazonaws.com"}
	scheme := "https"
	if d.cfg.Endpoint != "" {
		e, err := url.Parse(d.cfg.Endpoint)
		if err != nil {
			return "", false
		}
		hosts, scheme = []string{hostOf(e)}, e.Scheme
	}
	if u.Scheme != scheme {
		return "", false
	}
	path := strings.TrimPrefix(u.Path, "/")
	for _, h := range hosts {
		switch hostOf(u) {
		case h:
			bucket, key, _ := strings.Cut(path, "/")
			return key, bucket == d.store.Bucket()
		case d.store.Bucket() + "." + h:
			return path, true
		}
	}
	return "", false
}

// hostOf is the host in lower case, without the port that goes without saying.
func hostOf(u *url.URL) string {
	h := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		return strings.TrimSuffix(h, ":443")
	}
	return strings.TrimSuffix(h, ":80")
}

// below tells whether a key lies below root, for storage and proxies that take dots and slashes for directories too.
func below(key, root string) bool {
	if !strings.HasPrefix(key, root) || strings.ContainsFunc(key, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\\' }) {
		return false
	}
	for _, p := range strings.Split(key, "/") {
		if p == "" || p == "." || p == ".." {
			return false
		}
	}
	return true
}

func singleValues(raw string) (map[string]string, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: the query to sign cannot be read", catalog.ErrInvalid)
	}
	out := make(map[string]string, len(q))
	for k, v := range q {
		if len(v) != 1 {
			return nil, fmt.Errorf("%w: query parameter %q stands there %d times", catalog.ErrInvalid, k, len(v))
		}
		out[k] = v[0]
	}
	return out, nil
}

func hasKey(m map[string]string, key string) bool { _, ok := m[key]; return ok }

// other finds a parameter that is not among those allowed.
func other(query map[string]string, allowed []string) (string, bool) {
	for k := range query {
		if !slices.Contains(allowed, k) {
			return k, true
		}
	}
	return "", false
}

// deletes checks the body of a request that deletes many objects, and returns its hash.
func deletes(body, root string) (sum string, err error) {
	var doc struct {
		XMLName xml.Name `xml:"Delete"`
		Objects []struct {
			Keys []string `xml:"Key"`
		} `xml:"Object"`
	}
	if body == "" {
		return "", fmt.Errorf("%w: a request that deletes many objects is signed with its body only", catalog.ErrInvalid)
	}
	if err := xml.Unmarshal([]byte(body), &doc); err != nil {
		return "", fmt.Errorf("%w: the body to sign is no list of objects to delete", catalog.ErrInvalid)
	}
	if len(doc.Objects) == 0 {
		return "", fmt.Errorf("%w: the body to sign names no object", catalog.ErrInvalid)
	}
	for _, o := range doc.Objects {
		if len(o.Keys) != 1 || !below(o.Keys[0], root) {
			return "", fmt.Errorf("%w: the body names an object that is not in the table's location, %s", catalog.ErrDenied, root)
		}
	}
	h := sha256.Sum256([]byte(body))
	return hex.EncodeToString(h[:]), nil
}

// header finds a header of a map that a client wrote in letters of its own.
func header(m map[string][]string, name string) []string {
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}
