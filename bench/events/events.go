package events

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/firnlake/firn/engine"
)

//go:embed user_event.json
var contract []byte

// Contract is the JSON schema of the events, and its file name.
func Contract() (raw []byte, name string) { return contract, "user_event.json" }

// Log is one partition's log from offset 0 on.
type Log struct {
	Fetches []*engine.Fetch
	Events  int
	Bytes   int64 // of payload
}

var (
	pages     = []string{"/home", "/search?q=winter+boots", "/product/8812", "/cart", "/checkout", "/account/orders", "/blog/snow-to-ice"}
	referrers = []string{"google", "bing", "newsletter", "direct", "partner-site"}
	kinds     = []string{"page_view", "page_view", "page_view", "click", "click", "purchase", "signup"}
	sources   = []string{"web-frontend", "ios-app", "android-app"}
)

// New gives a log of that many events, in stretches of batch events. The values of a stretch lie in one buffer, one after the
// other, as those of a fetched record batch do.
func New(seed int64, events, batch int) *Log {
	rnd := rand.New(rand.NewPCG(uint64(seed), 0x6669726e))
	in := &Log{Events: events}
	at := time.Date(2026, 6, 4, 11, 1, 23, 0, time.UTC)
	for from := 0; from < events; from += batch {
		n := min(batch, events-from)
		f := &engine.Fetch{Start: int64(from), End: int64(from + n), LeaderEpoch: 1}
		for i := range n {
			at = at.Add(time.Duration(rnd.IntN(1_000_000)))
			value := newEvent(rnd, at)
			in.Bytes += int64(len(value))
			f.Records = append(f.Records, engine.Record{Offset: int64(from + i), TimestampMs: at.UnixMilli(), Value: value})
		}
		Pack(f)
		in.Fetches = append(in.Fetches, f)
	}
	return in
}

// Pack moves the values of a stretch into one buffer.
func Pack(f *engine.Fetch) {
	size := 0
	for i := range f.Records {
		size += len(f.Records[i].Value)
	}
	buf := make([]byte, 0, size)
	for i := range f.Records {
		at := len(buf)
		buf = append(buf, f.Records[i].Value...)
		f.Records[i].Value = buf[at:len(buf):len(buf)]
	}
}

// newEvent writes an event of the demo's contract as most JSON libraries write it; 318 bytes on average.
func newEvent(rnd *rand.Rand, at time.Time) []byte {
	kind := pick(rnd, kinds)
	amount := "0"
	if kind == "purchase" {
		amount = strconv.FormatFloat(float64(rnd.IntN(30_000))/100, 'f', -1, 64)
	}
	return fmt.Appendf(nil, `{"schema_version":3,"event_id":"%016x","event_type":"%s","key":{"user_id":"u%d","session_id":"s%d"},`+
		`"payload":{"page":"%s","referrer":"%s","currency":"USD","amount":%s},`+
		`"metadata":{"event_timestamp":"%s","trace_id":"%016x","source":"%s"}}`,
		rnd.Uint64(), kind, rnd.IntN(100_000), rnd.IntN(1_000_000), pick(rnd, pages), pick(rnd, referrers), amount,
		at.Format("2006-01-02T15:04:05.000Z07:00"), rnd.Uint64(), pick(rnd, sources))
}

func pick(rnd *rand.Rand, list []string) string { return list[rnd.IntN(len(list))] }
