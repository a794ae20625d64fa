package registry

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/firnlake/firn/internal/units"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a registry of fixed answers by path, each a status and a body.
type fake struct {
	mu      sync.Mutex
	answers map[string]string
	asked   map[string]int
	// meddle answers instead, when it says so.
	meddle func(w http.ResponseWriter, r *http.Request, nth int) bool
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[r.URL.Path]++
	if f.meddle != nil && f.meddle(w, r, f.asked[r.URL.Path]) {
		return
	}
	body, ok := f.answers[r.URL.EscapedPath()]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		body = `{"error_code":40403,"message":"Schema not found"}`
	}
	_, _ = w.Write([]byte(body))
}

func (f *fake) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[path]
}

func (f *fake) set(change func(f *fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func newFake() *fake { return &fake{answers: map[string]string{}, asked: map[string]int{}} }

// testTime is a clock that stands still, but for the pauses, which take no time.
type testTime struct {
	mu     sync.Mutex
	now    time.Time
	pauses []time.Duration
}

func (c *testTime) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *testTime) forward(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

func (c *testTime) pause(_ context.Context, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pauses = append(c.pauses, d)
	time.Sleep(time.Millisecond)
}

func clientOf(t *testing.T, f http.Handler, change func(*Config)) (*Client, *testTime, *bytes.Buffer) {
	t.Helper()
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	cfg := Config{URL: srv.URL + "/", Wait: units.Duration(10 * time.Second)}
	if change != nil {
		change(&cfg)
	}
	var log bytes.Buffer
	c, err := New(cfg, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	clock := &testTime{now: time.Unix(1_780_000_000, 0)}
	c.now, c.pause = clock.Now, clock.pause
	return c, clock, &log
}

// short is for a registry that does not come back.
func short(c *Config) { c.Wait = units.Duration(300 * time.Millisecond) }

func TestSchemasAreAskedForOnce(t *testing.T) {
	f := newFake()
	f.answers["/schemas/ids/7"] = `{"schema":"\"int\""}`
	f.answers["/schemas/ids/8"] = `{"schema":"x","schemaType":"PROTOBUF","id":99}`
	c, _, _ := clientOf(t, f, nil)
	for range 3 {
		s, err := c.ByID(t.Context(), 7)
		if err != nil || s.ID != 7 || s.Type != TypeAvro || s.Text != `"int"` || s.References != nil {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	if s, err := c.Schema(8); err != nil || s.ID != 8 || s.Type != TypeProtobuf {
		t.Fatalf("%+v, %v", s, err)
	}
	if n := f.count("/schemas/ids/7"); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestReferencesComeBeforeWhatRefersToThem(t *testing.T) {
	f := newFake()
	f.answers["/schemas/ids/1"] = `{"schema":"root","references":[{"name":"b","subject":"s/b","version":2},{"name":"a","subject":"s-a","version":1}]}`
	f.answers["/subjects/s%2Fb/versions/2"] = `{"schema":"B","references":[{"name":"a","subject":"s-a","version":1}]}`
	f.answers["/subjects/s-a/versions/1"] = `{"schema":"A","references":[{"name":"b","subject":"s/b","version":2}]}` // a ring ends, too
	f.answers["/subjects/top/versions/latest"] = `{"id":5,"schema":"root","references":[{"name":"a","subject":"s-a","version":1}]}`
	c, _, _ := clientOf(t, f, nil)
	s, err := c.ByID(t.Context(), 1)
	if err != nil || len(s.References) != 2 || s.References[0] != (Reference{"a", "A"}) || s.References[1] != (Reference{"b", "B"}) {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err = c.Latest(t.Context(), "top"); err != nil || s.ID != 5 || len(s.References) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := c.Latest(t.Context(), "none"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "subject none") {
		t.Errorf("no subject: %v", err)
	}
}

// An id that the registry does not know is unknown after several looks, for a while, and then is asked for again.
func TestUnknownIDs(t *testing.T) {
	f := newFake()
	c, clock, _ := clientOf(t, f, nil)
	for range 5 {
		if _, err := c.ByID(t.Context(), 7); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	if n := f.count("/schemas/ids/7"); n != notFoundLooks {
		t.Errorf("asked %d times", n)
	}
	if c.Health() != nil {
		t.Errorf("an answer is no trouble: %v", c.Health())
	}
	clock.forward(refusedFor)
	f.set(func(f *fake) { f.answers["/schemas/ids/7"] = `{"schema":"x"}` })
	if _, err := c.ByID(t.Context(), 7); err != nil {
		t.Errorf("known since: %v", err)
	}
	// A new id that a follower hears of late.
	f.set(func(f *fake) {
		f.answers["/schemas/ids/8"] = `{"schema":"x"}`
		f.meddle = func(w http.ResponseWriter, r *http.Request, nth int) bool {
			if r.URL.Path != "/schemas/ids/8" || nth >= notFoundLooks {
				return false
			}
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"error_code":40403}`))
			return true
		}
	})
	if _, err := c.ByID(t.Context(), 8); err != nil {
		t.Errorf("known at the last look: %v", err)
	}
	// Garbage is not worth several looks each.
	for id := 1000; id < 1000+3*patience; id++ {
		if _, err := c.ByID(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	if n := f.count("/schemas/ids/1001"); n != notFoundLooks {
		t.Errorf("one of the first was asked for %d times", n)
	}
	if n := f.count(fmt.Sprintf("/schemas/ids/%d", 1000+3*patience-1)); n != 1 {
		t.Errorf("the last was asked for %d times", n)
	}
}

// A registry that is down is asked again, shows as trouble, and decides nothing.
func TestARegistryThatIsDownDelays(t *testing.T) {
	f := newFake()
	f.answers["/schemas/ids/7"] = `{"schema":"x"}`
	down := func(answer func(http.ResponseWriter)) func(http.ResponseWriter, *http.Request, int) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ int) bool { answer(w); return true }
	}
	for name, answer := range map[string]func(http.ResponseWriter){
		"500":         func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"a proxy 404": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound); _, _ = w.Write([]byte("<html>")) },
		"429":         func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
		"a login": func(w http.ResponseWriter) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(http.StatusFound)
		},
		"html":       func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) },
		"broken off": func(w http.ResponseWriter) { w.Header().Set("Content-Length", "10"); _, _ = w.Write([]byte("{")) },
	} {
		c, clock, log := clientOf(t, f, short)
		f.set(func(f *fake) { f.meddle = down(answer) })
		_, err := c.ByID(t.Context(), 7)
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnusable) {
			t.Errorf("%s: %v", name, err)
		}
		if c.Health() == nil || len(clock.pauses) < 5 || clock.pauses[0] < retryMin/2 || clock.pauses[4] < retryMin*16/2 {
			t.Errorf("%s: health %v, pauses %v", name, c.Health(), clock.pauses)
		}
		f.set(func(f *fake) { f.meddle = nil })
		if _, err := c.ByID(t.Context(), 7); err != nil || c.Health() != nil {
			t.Errorf("%s, up again: %v, %v", name, err, c.Health())
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "answers again") {
			t.Errorf("%s: log\n%s", name, log)
		}
	}
}

// An answer of 404 once and silence afterwards is not enough to call a schema unknown.
func TestOneLookIsNotEnough(t *testing.T) {
	f := newFake()
	f.meddle = func(w http.ResponseWriter, _ *http.Request, nth int) bool {
		if nth > 1 {
			w.WriteHeader(http.StatusBadGateway)
		}
		return nth > 1
	}
	c, _, _ := clientOf(t, f, short)
	if _, err := c.ByID(t.Context(), 7); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

// Looks that do not fit into one wait go on in the next.
func TestLooksAreCountedOverWaits(t *testing.T) {
	c, _, _ := clientOf(t, newFake(), func(c *Config) { c.Wait = units.Duration(200 * time.Millisecond) })
	c.pause = func(ctx context.Context, _ time.Duration) { <-ctx.Done() }
	for i := 1; i <= notFoundLooks; i++ {
		_, err := c.ByID(t.Context(), 7)
		if want := i == notFoundLooks; errors.Is(err, ErrNotFound) != want || errors.Is(err, ErrUnavailable) == want {
			t.Errorf("look %d: %v", i, err)
		}
	}
}

func TestAnswersThatCannotBeUsed(t *testing.T) {
	refs := make([]string, maxRefs+1)
	for i := range refs {
		refs[i] = fmt.Sprintf(`{"name":"r%d","subject":"leaf","version":1}`, i)
	}
	f := newFake()
	f.answers["/schemas/ids/1"] = `{}`
	f.answers["/schemas/ids/2"] = `{"schema":"` + strings.Repeat("x", maxBodyBytes) + `"}`
	f.answers["/schemas/ids/3"] = `{"schema":"x","references":[` + strings.Join(refs, ",") + `]}`
	f.answers["/schemas/ids/4"] = `{"schema":"x","references":[{"name":"d0","subject":"deep0","version":1}]}`
	f.answers["/schemas/ids/5"] = `{"schema":"x","references":[{"name":"n","subject":"nowhere","version":1}]}`
	f.answers["/schemas/ids/6"] = `{"schema":"x","references":[{"name":"n","subject":"empty","version":1}]}`
	f.answers["/subjects/leaf/versions/1"] = `{"schema":"leaf"}`
	f.answers["/subjects/empty/versions/1"] = `{}`
	for i := range maxRefDepth + 5 {
		f.answers[fmt.Sprintf("/subjects/deep%d/versions/1", i)] = fmt.Sprintf(`{"schema":"x","references":[{"name":"d%d","subject":"deep%d","version":1}]}`, i+1, i+1)
	}
	c, _, _ := clientOf(t, f, func(c *Config) { c.Wait = units.Duration(5 * time.Second) })
	for id := 1; id <= 6; id++ {
		for range 2 {
			if _, err := c.ByID(t.Context(), id); !errors.Is(err, ErrUnusable) {
				t.Errorf("id %d: %v", id, err)
			}
		}
		if n := f.count(fmt.Sprintf("/schemas/ids/%d", id)); n != 1 {
			t.Errorf("id %d was asked for %d times", id, n)
		}
	}
}

func TestCredentials(t *testing.T) {
	const canary = "hunter2-canary"
	f := newFake()
	f.answers["/schemas/ids/7"] = `{"schema":"x"}`
	want := ""
	f.meddle = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		user, pass, _ := r.BasicAuth()
		if got := r.Header.Get("Authorization"); got == want || "basic "+user+":"+pass == want {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	for _, c := range []struct {
		want   string
		change func(*Config)
		ok     bool
	}{
		{"", nil, true},
		{"basic u:" + canary, func(c *Config) { c.Username, c.Password = "u", units.NewSecret(canary) }, true},
		{"Bearer " + canary, func(c *Config) { c.Token = units.NewSecret(canary) }, true},
		{"Bearer other", func(c *Config) { c.Token = units.NewSecret(canary) }, false},
	} {
		f.set(func(*fake) { want = c.want })
		cl, _, log := clientOf(t, f, func(cfg *Config) {
			if !c.ok {
				short(cfg)
			}
			if c.change != nil {
				c.change(cfg)
			}
		})
		_, err := cl.ByID(t.Context(), 7)
		if (err == nil) != c.ok || !c.ok && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", c.want, err)
		}
		if strings.Contains(fmt.Sprint(err, cl.cfg, log), canary) {
			t.Errorf("%s: the secret is in %v or\n%s", c.want, err, log)
		}
	}
}

// Credentials go to the registry alone: a redirect elsewhere is not followed.
func TestRedirectsElsewhereAreNotFollowed(t *testing.T) {
	reached := make(chan string, 10)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached <- r.Header.Get("Authorization") }))
	t.Cleanup(other.Close)
	c, _, _ := clientOf(t, http.RedirectHandler(other.URL, http.StatusFound), func(c *Config) { short(c); c.Token = units.NewSecret("x") })
	if _, err := c.ByID(t.Context(), 7); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if len(reached) > 0 {
		t.Errorf("the other server saw %q", <-reached)
	}
}

func TestTLS(t *testing.T) {
	f := newFake()
	f.answers["/schemas/ids/7"] = `{"schema":"x"}`
	srv := httptest.NewTLSServer(f)
	t.Cleanup(srv.Close)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, wait := range map[string]time.Duration{"": 300 * time.Millisecond, ca: time.Minute} {
		c, err := New(Config{URL: srv.URL, CAFile: file, Wait: units.Duration(wait)}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.ByID(t.Context(), 7); (err == nil) != (file != "") || err != nil && !errors.Is(err, ErrUnavailable) {
			t.Errorf("ca_file %q: %v", file, err)
		}
		c.Close()
	}
	for _, bad := range []Config{{URL: srv.URL, CAFile: "nowhere.pem"}, {URL: srv.URL, CertFile: ca, KeyFile: ca}, {}} {
		if _, err := New(bad, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if err := os.WriteFile(ca, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{URL: srv.URL, CAFile: ca}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("a file without certificates: %v", err)
	}
}

// Close ends what waits for a registry, so that a stop does not.
func TestCloseEndsWaiting(t *testing.T) {
	hang := make(chan struct{})
	c, _, _ := clientOf(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}), func(c *Config) { c.Wait, c.Timeout = units.Duration(time.Hour), units.Duration(time.Hour) })
	done := make(chan error, 1)
	go func() { _, err := c.Schema(7); done <- err }()
	time.Sleep(20 * time.Millisecond)
	c.Close()
	select {
	case err := <-done:
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits on")
	}
	close(hang)
}

func TestCachesAreBounded(t *testing.T) {
	f := newFake()
	f.meddle = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if strings.HasPrefix(r.URL.Path, "/schemas/ids/9") {
			return false // not known
		}
		_, _ = w.Write([]byte(`{"schema":"x"}`))
		return true
	}
	c, _, _ := clientOf(t, f, nil)
	for i := range maxCached + 10 {
		if _, err := c.ByID(t.Context(), 1_000_000+i); err != nil {
			t.Fatal(err)
		}
	}
	for i := range maxRefused + 10 {
		if _, err := c.ByID(t.Context(), 9_000_000+i); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	if len(c.byID) > maxCached || len(c.refused) > maxRefused {
		t.Errorf("%d schemas and %d refusals are kept", len(c.byID), len(c.refused))
	}
}

func TestConfigIsChecked(t *testing.T) {
	secret := units.NewSecret("s")
	for want, c := range map[string]Config{
		"url: it is missing":     {Username: "u"},
		"is not http://":         {URL: "registry:8081"},
		"never shown":            {URL: "http://u:hunter2@registry:8081"},
		"a query":                {URL: "http://registry?x=1"},
		"keep it, or username":   {URL: "http://r", Token: secret, Username: "u", Password: secret},
		"come together":          {URL: "http://r", Username: "u"},
		"cert_file and key_file": {URL: "http://r", CertFile: "c"},
		"durations cannot":       {URL: "http://r", Wait: -1},
		"":                       {},
	} {
		err := c.WithDefaults().Validate()
		if want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}
