package decode

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"go.uber.org/goleak"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testNow is the clock of every test.
var testNow = time.Date(2026, 6, 4, 12, 0, 0, 0, time.UTC)

// event is the demo's event as README and issue show it.
const event = `{"schema_version":3,"event_id":"e-1","event_type":"page_view","key":{"user_id":"u123","session_id":"s456"},` +
	`"payload":{"page":"/home","referrer":"google","currency":"USD","amount":0},` +
	`"metadata":{"event_timestamp":"2026-06-04T11:01:23.456Z","trace_id":"abcd-1234","source":"web-frontend"}}`

func demoContract(tb testing.TB) *Contract {
	tb.Helper()
	raw, err := os.ReadFile("testdata/user_event.json")
	if err != nil {
		tb.Fatal(err)
	}
	return contractOf(tb, string(raw))
}

func contractOf(tb testing.TB, raw string) *Contract {
	tb.Helper()
	c, err := LoadContract([]byte(raw), "test.json")
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// oneField is a contract with the single field v of the given schema, which is not required.
func oneField(tb testing.TB, schema string) *Contract {
	tb.Helper()
	return contractOf(tb, `{"type":"object","properties":{"v":`+schema+`}}`)
}

func decoderOf(tb testing.TB, c *Contract, o Options) *JSON {
	tb.Helper()
	if o.Now == nil {
		o.Now = func() time.Time { return testNow }
	}
	d, err := NewJSON(c, c.IcebergSchema(), o)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// checked gives an allocator that must be empty when the test ends.
func checked(t *testing.T) memory.Allocator {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	return mem
}

// fetchOf makes a stretch of partition 2 from offset 100 on, one record a payload, a second apart.
func fetchOf(payloads ...string) *engine.Fetch {
	f := &engine.Fetch{Partition: 2, Start: 100, End: 100 + int64(len(payloads)), LeaderEpoch: 7}
	for i, p := range payloads {
		f.Records = append(f.Records, engine.Record{Offset: 100 + int64(i), TimestampMs: 1_780_000_000_000 + int64(i)*1000, Value: []byte(p)})
	}
	return f
}

func mustDecode(tb testing.TB, d engine.Decoder, payloads ...string) engine.Decoded {
	tb.Helper()
	out, err := d.Decode(fetchOf(payloads...))
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// rowsJSON renders the columns of the contract row by row as arrow-go writes them, without the ledger's.
func rowsJSON(tb testing.TB, b arrow.RecordBatch) []string {
	tb.Helper()
	if b == nil {
		return nil
	}
	raw, err := b.MarshalJSON()
	if err != nil {
		tb.Fatal(err)
	}
	var rows []map[string]json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&rows); err != nil {
		tb.Fatal(err)
	}
	out := make([]string, len(rows))
	for i, r := range rows {
		var parts []string
		for _, f := range b.Schema().Fields() {
			if !ledger.IsColumn(f.Name) {
				parts = append(parts, fmt.Sprintf("%s=%s", f.Name, r[f.Name]))
			}
		}
		out[i] = strings.Join(parts, " ")
	}
	return out
}

// soundRow holds what was decoded of one event: one dead letter, or whole arrays, which the caller releases.
func soundRow(t *testing.T, out engine.Decoded) bool {
	t.Helper()
	if out.Rows == nil {
		if len(out.Dead) != 1 {
			t.Fatalf("%d dead letters", len(out.Dead))
		}
		return false
	}
	if err := validate(out.Rows); err != nil {
		out.Rows.Release()
		t.Fatal(err)
	}
	return true
}

// one decodes a single payload of a single field v and gives its stored value, or "reason place".
func one(t *testing.T, d engine.Decoder, payload string) string {
	t.Helper()
	out := mustDecode(t, d, payload)
	if out.Rows == nil {
		if len(out.Dead) != 1 {
			t.Fatalf("%s: neither row nor dead letter", payload)
		}
		return out.Dead[0].Reason + " " + out.Dead[0].Place
	}
	defer out.Rows.Release()
	if out.Rows.NumRows() != 1 || len(out.Dead) != 0 {
		t.Fatalf("%s: %d rows and %d dead letters", payload, out.Rows.NumRows(), len(out.Dead))
	}
	return strings.TrimPrefix(rowsJSON(t, out.Rows)[0], "v=")
}
