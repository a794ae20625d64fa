package commit

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/firnlake/firn/catalog/client"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
)

// proxy answers for the catalog as things between a client and a server do.
type proxy struct {
	catalog http.Handler
	next    func() int // what becomes of a commit: 0 it passes, a status after its effect, -1 a cut connection after it
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what := 0
	if r.Method == http.MethodPost && p.next != nil {
		what = p.next()
	}
	if what == 0 {
		p.catalog.ServeHTTP(w, r)
		return
	}
	p.catalog.ServeHTTP(httptest.NewRecorder(), r)
	if what < 0 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(what)
}

// TestOverHTTP is the protocol from end to end: the committer, the REST client, a proxy that loses answers, the catalog.
func TestOverHTTP(t *testing.T) {
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	s, err := server.New(t.Context(), server.Config{Store: "sqlite::memory:"}, wh, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	p := &proxy{catalog: s.Handler()}
	srv := httptest.NewServer(p)
	defer srv.Close()
	cat, err := client.New(t.Context(), client.Config{URI: srv.URL}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()

	l := lakeIn(t, cat, wh, "hour(meta.at)")
	c := l.committer(cat)
	l.recover(c)
	var commits atomic.Int64
	answers := []int{0, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout, -1, http.StatusServiceUnavailable, http.StatusRequestTimeout, 499}
	at := int64(0)
	for i := range 2 * len(answers) {
		p.next = func() int {
			if commits.Add(1); commits.Load() > 1 {
				return 0
			}
			return answers[i%len(answers)]
		}
		commits.Store(0)
		k := allRows
		if i >= len(answers) {
			k = mixed // a transaction of two tables
		}
		b := l.batchOf(k, rng(0, at, at+7))
		at += 7
		_, err := c.Commit(t.Context(), b)
		for n := 0; err != nil && n < 5; n++ {
			if errors.Is(err, engine.ErrFenced) {
				t.Fatalf("answer %d: %v", answers[i%len(answers)], err)
			}
			_, err = c.Commit(t.Context(), b)
		}
		release(b)
		l.must(err)
	}
	p.next = nil
	l.rewrite(l.rows, false)
	l.rewrite(l.rows, false)
	l.expire(l.rows)
	v := offset.Vector{0: at}
	if st := l.recover(l.committer(cat)); !st.Offsets.Equal(v) || st.Epoch != 0 || st.Source != StepLedger {
		t.Errorf("recovered %+v", st)
	}
	kind := func(p int32, o int64) byte {
		if o < int64(7*len(answers)) {
			return 'r'
		}
		return mixed(p, o)
	}
	l.wantRows(l.rows, v, is(kind, 'r'))
	l.wantRows(l.dead, v, is(kind, 'd'))
	l.dropTag()
	l.expire(l.rows)
	l.rewrite(l.rows, false)
	if st, err := l.committer(cat).Recover(t.Context()); err == nil {
		t.Errorf("without a tag, and with two rewrites since, V is not known: %+v", st)
	}
}
