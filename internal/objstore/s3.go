package objstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	s3DialTimeout     = 5 * time.Second
	s3HeaderTimeout   = 30 * time.Second // from request written to first byte of the answer
	s3MaxIdlePerHost  = 32
	s3MultipartBytes  = 16 << 20 // objects above it go up in parts of this size
	defaultS3Region   = "us-east-1"
	defaultS3Endpoint = "https://s3.amazonaws.com"
)

// S3Config names a bucket and the prefix in it that the store's keys are relative to.
type S3Config struct {
	Options
	Bucket, Prefix string
}

// S3 is a Store on MinIO or any S3 with conditional PUT. Requests are not retried inside: the caller knows
// whether a second try is safe.
type S3 struct {
	client    *minio.Client
	transport *http.Transport
	keys      Options
	bucket    string
	prefix    string // "" or with a trailing slash
	endpoint  string
	region    string
}

// NewS3 prepares a client; nothing is sent.
func NewS3(cfg S3Config) (*S3, error) {
	endpoint := cfg.Endpoint
	if endpoint == "" {
		endpoint = defaultS3Endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("storage endpoint %q is not understood: write http://host:port or https://host", cfg.Endpoint)
	}
	region := cfg.Region
	if region == "" {
		region = defaultS3Region
	}
	creds := credentials.NewStaticV4(cfg.AccessKey.Reveal(), cfg.SecretKey.Reveal(), "")
	if cfg.AccessKey.IsZero() {
		creds = credentials.NewStatic("", "", "", credentials.SignatureAnonymous)
	}
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: s3DialTimeout}).DialContext,
		ResponseHeaderTimeout: s3HeaderTimeout, TLSHandshakeTimeout: s3DialTimeout,
		MaxIdleConnsPerHost: s3MaxIdlePerHost, IdleConnTimeout: time.Minute, DisableCompression: true, ForceAttemptHTTP2: true,
	}
	client, err := minio.New(u.Host, &minio.Options{Creds: creds, Secure: u.Scheme == "https", Region: region, MaxRetries: 1, Transport: transport})
	if err != nil {
		return nil, fmt.Errorf("storage endpoint %s: %w", endpoint, err)
	}
	prefix := strings.Trim(cfg.Prefix, "/")
	if prefix != "" {
		prefix += "/"
	}
	return &S3{client: client, transport: transport, keys: cfg.Options, bucket: cfg.Bucket, prefix: prefix, endpoint: endpoint, region: region}, nil
}

// Check tells whether the bucket is there and the keys may use it.
func (s *S3) Check(ctx context.Context) error {
	ok, err := s.client.BucketExists(ctx, s.bucket)
	if err != nil {
		return s.wrap("check", "", err)
	}
	if !ok {
		return fmt.Errorf("storage %s: %w: %q: make it, for example with mc mb", s.endpoint, ErrNoBucket, s.bucket)
	}
	return nil
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, key string, body io.ReadSeeker, mode PutMode) (Info, error) {
	if err := begin(ctx, "put", key); err != nil {
		return Info{}, err
	}
	size, err := remaining(body)
	if err != nil {
		return Info{}, fmt.Errorf("put %s: size of the body: %w", key, err)
	}
	opts := minio.PutObjectOptions{ContentType: "application/octet-stream", PartSize: s3MultipartBytes}
	if mode == IfAbsent {
		opts.SetMatchETagExcept("*")
		opts.DisableMultipart = true // the condition holds for one request
	}
	up, err := s.client.PutObject(ctx, s.bucket, s.prefix+key, body, size, opts)
	if err != nil {
		err = s.wrap("put", key, err)
		if !isDefinite(err) {
			err = fmt.Errorf("%w: %w", ErrUnknownResult, err)
		}
		return Info{}, err
	}
	return Info{Key: key, Size: up.Size, Modified: time.Now()}, nil
}

// isDefinite tells of errors after which nothing was written.
func isDefinite(err error) bool {
	for _, e := range []error{ErrExists, ErrAccessDenied, ErrNoBucket, ErrFull, errNotSent} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func remaining(body io.Seeker) (int64, error) {
	at, err := body.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	end, err := body.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	_, err = body.Seek(at, io.SeekStart)
	return end - at, err
}

// Get implements Store.
func (s *S3) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	if err := begin(ctx, "get", key); err != nil {
		return nil, err
	}
	body, info, _, err := s.core().GetObject(ctx, s.bucket, s.prefix+key, minio.GetObjectOptions{})
	if err != nil {
		return nil, s.wrap("get", key, err)
	}
	defer body.Close()
	if err := checkSize(key, info.Size, limit); err != nil {
		return nil, err
	}
	data := make([]byte, info.Size)
	if _, err := io.ReadFull(body, data); err != nil {
		return nil, s.wrap("get", key, err)
	}
	return data, nil
}

func (s *S3) core() minio.Core { return minio.Core{Client: s.client} }

// Open implements Store.
func (s *S3) Open(ctx context.Context, key string) (Object, error) {
	info, err := s.Stat(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return &s3Object{store: s, ctx: context.WithoutCancel(ctx), key: key, size: info.Size}, nil
}

// s3Object reads ranges, a request each.
type s3Object struct {
	store *S3
	ctx   context.Context
	key   string
	size  int64
}

func (o *s3Object) Size() int64  { return o.size }
func (o *s3Object) Close() error { return nil }

// ReadAt implements io.ReaderAt.
func (o *s3Object) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= o.size {
		return 0, io.EOF
	}
	want := min(int64(len(p)), o.size-off)
	if want == 0 {
		return 0, nil
	}
	var opts minio.GetObjectOptions
	if err := opts.SetRange(off, off+want-1); err != nil {
		return 0, fmt.Errorf("read %s: %w", o.key, err)
	}
	body, _, _, err := o.store.core().GetObject(o.ctx, o.store.bucket, o.store.prefix+o.key, opts)
	if err != nil {
		return 0, o.store.wrap("read", o.key, err)
	}
	defer body.Close()
	n, err := io.ReadFull(body, p[:want])
	if err != nil {
		return n, o.store.wrap("read", o.key, err)
	}
	if want < int64(len(p)) {
		return n, io.EOF
	}
	return n, nil
}

// Stat implements Store.
func (s *S3) Stat(ctx context.Context, key string) (Info, error) {
	if err := begin(ctx, "stat", key); err != nil {
		return Info{}, err
	}
	o, err := s.client.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, s.wrap("stat", key, err)
	}
	return Info{Key: key, Size: o.Size, Modified: o.LastModified}, nil
}

// List implements Store.
func (s *S3) List(ctx context.Context, prefix string, fn func(Info) error) error {
	if err := checkPrefix(prefix); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	full := s.prefix
	if p := strings.TrimSuffix(prefix, "/"); p != "" {
		full += p + "/"
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing's goroutine when fn stops early
	for o := range s.client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: full, Recursive: true}) {
		if o.Err != nil {
			return s.wrap("list", prefix, o.Err)
		}
		key := strings.TrimPrefix(o.Key, s.prefix)
		if checkKey(key) != nil {
			continue // somebody else's, such as a folder marker
		}
		if err := fn(Info{Key: key, Size: o.Size, Modified: o.LastModified}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, keys ...string) error {
	for _, k := range keys {
		if err := begin(ctx, "delete", k); err != nil {
			return err
		}
	}
	objects := make(chan minio.ObjectInfo)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(objects)
		for _, k := range keys {
			select {
			case objects <- minio.ObjectInfo{Key: s.prefix + k}:
			case <-ctx.Done():
				return
			}
		}
	}()
	var errs []error
	for e := range s.client.RemoveObjects(ctx, s.bucket, objects, minio.RemoveObjectsOptions{}) {
		if e.Err != nil {
			errs = append(errs, s.wrap("delete", strings.TrimPrefix(e.ObjectName, s.prefix), e.Err))
		}
	}
	return errors.Join(errs...)
}

// errNotSent marks requests that never reached the server.
var errNotSent = errors.New("not sent")

// wrap classifies what the client reports.
func (s *S3) wrap(op, key string, err error) error {
	where := fmt.Sprintf("%s %s (storage %s, bucket %s)", op, key, s.endpoint, s.bucket)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", where, err)
	}
	var op2 *net.OpError
	if errors.As(err, &op2) && op2.Op == "dial" {
		return fmt.Errorf("%s: %w: %w: %w", where, ErrUnavailable, errNotSent, err)
	}
	r := minio.ToErrorResponse(err)
	switch r.Code {
	case minio.NoSuchKey:
		return fmt.Errorf("%s: %w", where, ErrNotFound)
	case minio.NoSuchBucket:
		return fmt.Errorf("%s: %w: make it, for example with mc mb", where, ErrNoBucket)
	case minio.PreconditionFailed, "ConditionalRequestConflict":
		return fmt.Errorf("%s: %w", where, ErrExists)
	case minio.AccessDenied, "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed":
		return fmt.Errorf("%s: %w: %s: check storage.access_key, storage.secret_key and the bucket's policy", where, ErrAccessDenied, r.Code)
	case "XMinioStorageFull", "InsufficientStorage", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded":
		return fmt.Errorf("%s: %w", where, ErrFull)
	}
	switch r.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%s: %w", where, ErrNotFound)
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Errorf("%s: %w: %s: check storage.access_key and storage.secret_key", where, ErrAccessDenied, r.Code)
	case http.StatusPreconditionFailed:
		return fmt.Errorf("%s: %w", where, ErrExists)
	case http.StatusInsufficientStorage:
		return fmt.Errorf("%s: %w", where, ErrFull)
	}
	return fmt.Errorf("%s: %w: %w", where, ErrUnavailable, err)
}
