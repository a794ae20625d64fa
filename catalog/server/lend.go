package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"
	"golang.org/x/sync/singleflight"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/auth"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/internal/lru"
	"github.com/firnlake/firn/internal/objstore"
)

// maxLentKeys bounds the temporary keys that are remembered, to be given again while most of their time is left.
const maxLentKeys = 1000

// storage is what the catalog lends access to: an S3 with the catalog's own keys.
type storage interface {
	TemporaryKeys(context.Context, objstore.Scope) (objstore.Keys, error)
	Sign(*http.Request, *objstore.Keys)
	Bucket() string
	Prefix() string
	Region() string
}

// lender gives clients access to the files of one table at a time, without the catalog's own keys: temporary keys that a
// policy confines to the table's location, or signatures of single requests.
type lender struct {
	cfg   S3Properties
	store storage
	now   func() time.Time
	m     *metrics
	log   *slog.Logger

	keys    *lru.Cache[int64, *lentKeys] // by table id and level
	flights singleflight.Group
}

type lentKeys struct {
	objstore.Keys
	key   string // of the location that they are for
	until time.Time
}

// validateDelegation checks what the configuration says about lending.
func (p S3Properties) validateDelegation() error {
	switch d := p.KeyLifetime.D(); {
	case d != 0 && (d < objstore.MinKeyLifetime || d > objstore.MaxKeyLifetime):
		return fmt.Errorf("s3.key_lifetime: %s is not within %s to %s", d, objstore.MinKeyLifetime, objstore.MaxKeyLifetime)
	case p.VendStaticCredentials && (p.STS || p.RemoteSigning):
		return errors.New("s3.vend_static_credentials: it gives everybody keys to everything, and sts and remote_signing are there to avoid that: leave out one of them")
	case !p.STS && (p.STSEndpoint != "" || p.STSRoleARN != ""):
		return errors.New("s3.sts: it is off, and sts_endpoint and sts_role_arn are for it")
	}
	return nil
}

func newLender(cfg S3Properties, store objstore.Store, m *metrics, log *slog.Logger) (*lender, error) {
	if !cfg.STS && !cfg.RemoteSigning {
		return nil, nil
	}
	s, ok := store.(storage)
	if !ok {
		return nil, errors.New("catalog: s3.sts and s3.remote_signing need a warehouse on S3")
	}
	if !cfg.STS {
		log.Warn("remote signing without s3.sts signs with the storage keys of the catalog: it is safe on storage that refuses unsigned x-amz headers, as AWS does and MinIO does not")
	}
	return &lender{cfg: cfg, store: s, now: time.Now, m: m, log: log, keys: lru.New[int64, *lentKeys](maxLentKeys)}, nil
}

// mayWrite tells whether the sender may commit to the table, and so write its files.
func (r *request) mayWrite() bool {
	return r.past == nil && (r.who == nil || r.who.Rights.Table(r.id()) >= auth.Write)
}

func (r *request) mayRead() bool { return r.who == nil || r.who.Rights.Table(r.subject()) >= auth.Read }

// asked are the ways that a client can take.
func (r *request) asked() (vended, signed bool) {
	for _, line := range r.Header.Values(wire.AccessHeader) {
		for _, way := range strings.Split(line, ",") {
			switch strings.ToLower(strings.TrimSpace(way)) {
			case wire.AccessVended:
				vended = true
			case wire.AccessSigned:
				signed = true
			}
		}
	}
	return vended, signed
}

// placeToLend checks, before any access is given, that a location is in the warehouse and in nobody else's place, and returns
// its key. tableID is 0 for a table that is only staged.
func (s *Service) placeToLend(ctx context.Context, location string, tableID int64) (key string, err error) {
	clean, err := cleanLocation(s.wh.URI, location)
	if err != nil {
		return "", err
	}
	owner, err := s.store.LocationOwner(ctx, clean, tableID)
	if err == nil {
		return "", fmt.Errorf("%w: location %s overlaps that of %s: no access to it is given", catalog.ErrDenied, clean, owner)
	}
	if !errors.Is(err, catalog.ErrNoSuchTable) {
		return "", err
	}
	return keyOf(s.wh.URI, clean), nil
}

// lend puts access to the table's files into an answer, in a way that the client asked for and the catalog has. Where
// the storage gives no keys now the answer goes without: a client that has keys of its own must not stand still for it.
func (h *handler) lend(r *request, tableID int64, location string, out *wire.LoadTable) (lent bool, err error) {
	d := h.s.lends
	vended, signed := r.asked()
	if d == nil || !vended && !signed || !r.mayRead() {
		return false, nil
	}
	key, err := h.s.placeToLend(r.Context(), location, tableID)
	if err != nil {
		return false, err
	}
	if vended && d.cfg.STS {
		c, err := d.credential(r, tableID, key, location)
		if err == nil {
			out.Credentials = []wire.StorageCredential{c}
			for k, v := range c.Config { // clients of before 1.7 look there
				out.Config[k] = v
			}
			r.out.Header().Set("Cache-Control", "no-store")
			return true, nil
		}
		d.log.Warn("a table is loaded without the storage keys that its reader asked for", "table", r.id().String(), "error", err)
	}
	if !signed || !d.cfg.RemoteSigning || tableID == 0 { // a staged table has no name to sign under
		return false, nil
	}
	path := tablePath(r.id()) + "/sign"
	for k, v := range map[string]string{"s3.remote-signing-enabled": "true", "signer.endpoint": path,
		"s3.signer": "S3V4RestSigner", "s3.signer.endpoint": path, "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"} { // PyIceberg's other one cannot be told to ask
		out.Config[k] = v
	}
	return true, nil
}

// tablePath is a table's path below the catalog's URI.
func tablePath(id catalog.Identifier) string {
	return "v1/namespaces/" + wire.EncodeNamespace(id.Namespace()) + "/tables/" + wire.EncodeSegment(id.Name())
}

// staged answers with a table that a later commit makes. Keys to its place are lent where the catalog chose it. One that a client
// names is nobody's yet, and the next may name the same: keys to it are for those who may write what anybody has, since they gain
// nothing by them. Trino makes no table without.
func (h *handler) staged(r *request, m table.Metadata, chosen bool) (reply, error) {
	rep, err := h.loaded(r, m, nil)
	if err != nil || !chosen && !r.writesAll() {
		return rep, err
	}
	out := rep.body.(wire.LoadTable)
	_, err = h.lend(r, 0, m.Location(), &out)
	return ok(out), err
}

// credential lends temporary keys to a table's location.
func (d *lender) credential(r *request, tableID int64, key, location string) (wire.StorageCredential, error) {
	k, err := d.keysTo(r.Context(), tableID, key, r.mayWrite())
	if err != nil {
		return wire.StorageCredential{}, err
	}
	config := d.cfg.clientProperties()
	for name, v := range map[string]string{"s3.access-key-id": k.AccessKey.Reveal(), "s3.secret-access-key": k.SecretKey.Reveal(),
		"s3.session-token": k.SessionToken.Reveal(), "s3.session-token-expires-at-ms": strconv.FormatInt(k.Expires.UnixMilli(), 10)} {
		config[name] = v
	}
	if tableID != 0 {
		config["client.refresh-credentials-endpoint"] = tablePath(r.id()) + "/credentials"
	}
	return wire.StorageCredential{Prefix: strings.TrimRight(location, "/") + "/", Config: config}, nil
}

// keysTo returns keys to a directory, those of before while more than half of their time is left.
func (d *lender) keysTo(ctx context.Context, tableID int64, key string, write bool) (objstore.Keys, error) {
	id := tableID << 1
	if write {
		id |= 1
	}
	if have, ok := d.keys.Get(id); ok && tableID != 0 && have.key == key && d.now().Before(have.until) {
		d.m.lent.WithLabelValues("keys", "given").Inc()
		return have.Keys, nil
	}
	name := fmt.Sprintf("%t %s", write, key)
	// Those who wait share one request; it is bounded by itself, so the first of them may leave.
	ch := d.flights.DoChan(name, func() (any, error) {
		began := d.now()
		k, err := d.store.TemporaryKeys(context.WithoutCancel(ctx), objstore.Scope{Prefix: key, Write: write, Lifetime: d.cfg.KeyLifetime.D(),
			Endpoint: d.cfg.STSEndpoint, RoleARN: d.cfg.STSRoleARN})
		if err == nil && tableID != 0 {
			d.keys.Put(id, 1, &lentKeys{k, key, began.Add(k.Expires.Sub(began) / 2)})
		}
		return k, err
	})
	select {
	case res := <-ch:
		switch {
		case errors.Is(res.Err, objstore.ErrNoScope):
			d.m.lent.WithLabelValues("keys", "refused").Inc()
			return objstore.Keys{}, fmt.Errorf("%w: %w", catalog.ErrInvalid, res.Err)
		case res.Err != nil:
			d.m.lent.WithLabelValues("keys", "failed").Inc()
			return objstore.Keys{}, fmt.Errorf("%w: %w", catalog.ErrUnavailable, res.Err)
		}
		d.m.lent.WithLabelValues("keys", "given").Inc()
		return res.Val.(objstore.Keys), nil
	case <-ctx.Done():
		return objstore.Keys{}, fmt.Errorf("%w: waiting for storage keys: %w", catalog.ErrUnavailable, ctx.Err())
	}
}

// loadCredentials gives fresh keys to one who reads or writes for longer than keys are valid.
func (h *handler) loadCredentials(r *request) (reply, error) {
	d := h.s.lends
	if d == nil || !d.cfg.STS {
		return reply{}, fmt.Errorf("%w: this catalog lends no storage keys: set catalog.s3.sts", errNoEndpoint)
	}
	l, err := h.s.current(r.Context(), r.subject())
	if err != nil {
		return reply{}, fmt.Errorf("load credentials: %w", err)
	}
	key, err := h.s.placeToLend(r.Context(), l.meta.Location(), l.head.ID)
	if err != nil {
		return reply{}, fmt.Errorf("load credentials: %w", err)
	}
	c, err := d.credential(r, l.head.ID, key, l.meta.Location())
	if err != nil {
		return reply{}, fmt.Errorf("load credentials: %w", err)
	}
	r.out.Header().Set("Cache-Control", "no-store")
	return ok(wire.Credentials{Credentials: []wire.StorageCredential{c}}), nil
}

// sign signs a request that a client wants to send to the storage, when it concerns nothing but the table's files.
func (h *handler) sign(r *request) (reply, error) {
	d := h.s.lends
	if d == nil || !d.cfg.RemoteSigning {
		return reply{}, fmt.Errorf("%w: this catalog signs no requests: set catalog.s3.remote_signing", errNoEndpoint)
	}
	var q wire.SignRequest
	if err := h.decode(r, &q); err != nil {
		return reply{}, err
	}
	l, err := h.s.current(r.Context(), r.subject())
	if err != nil {
		return reply{}, fmt.Errorf("sign: %w", err)
	}
	key, err := h.s.placeToLend(r.Context(), l.meta.Location(), l.head.ID)
	if err != nil {
		return reply{}, fmt.Errorf("sign: %w", err)
	}
	req, write, err := d.signable(q, d.store.Prefix()+key+"/")
	if err == nil && write && !r.mayWrite() {
		err = r.forbidden("write table", r.id().String())
	}
	if err != nil {
		d.m.lent.WithLabelValues("signature", "refused").Inc()
		r.denied = r.denied || errors.Is(err, catalog.ErrDenied)
		return reply{}, fmt.Errorf("sign: %w", err)
	}
	var keys *objstore.Keys // the catalog's own
	if d.cfg.STS {          // what the signature does not cover, the policy of the session does
		k, err := d.keysTo(r.Context(), l.head.ID, key, write)
		if err != nil {
			return reply{}, fmt.Errorf("sign: %w", err)
		}
		keys = &k
	}
	given := slices.Collect(maps.Keys(req.Header))
	d.store.Sign(req, keys)
	d.m.lent.WithLabelValues("signature", "given").Inc()
	out := wire.SignedRequest{URI: q.URI, Headers: map[string][]string{}}
	for k, v := range req.Header {
		// What the client has already it does not get again: some add headers rather than set them.
		if sent := header(q.Headers, k); !slices.Contains(given, k) || !slices.Equal(sent, v) {
			out.Headers[k] = v
		}
	}
	r.out.Header().Set("Cache-Control", "no-store")
	return ok(out), nil
}
