package generate

import (
	_ "embed"
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// Contract is the JSON Schema of the demo's events, as the decoder takes it.
//
//go:embed user_event.json
var Contract []byte

// Header is a header of a Kafka record.
type Header struct {
	Key   string
	Value []byte
}

// Record is a Kafka record to be sent. TimestampMs is Unix milliseconds.
type Record struct {
	Partition   int32
	Key, Value  []byte
	Headers     []Header
	TimestampMs int64
}

// What the demo's shop looks like.
const (
	pageCount    = 200
	userSkew     = 1.05
	pageSkew     = 1.1
	sessionMean  = 14 // events
	sessionIdle  = 30 * time.Minute
	minLate      = 2 * time.Minute
	maxLate      = 6 * time.Hour
	schemaNumber = 3
)

var (
	eventTypes   = []string{"page_view", "click", "purchase", "signup"}
	eventWeights = []float64{78, 18, 3, 1}

	referrers       = []string{"google", "direct", "newsletter", "bing", "partner", "reddit", "mastodon"}
	referrerWeights = []float64{40, 30, 10, 7, 6, 4, 3}

	sources       = []string{"web-frontend", "ios-app", "android-app"}
	sourceWeights = []float64{65, 18, 17}

	currencies      = []string{"USD", "EUR", "GBP", "CHF"}
	currencyWeights = []float64{55, 30, 10, 5}
)

const purchase = 2 // in eventTypes

// user is what the generator remembers of one: the session that is going on.
type user struct {
	lastMs   int64  // of the latest event
	session  uint32 // how many there were
	left     uint16 // events until the session ends
	referrer uint8
	source   uint8
	currency uint8
}

// Generator makes events one after the other.
type Generator struct {
	cfg   Config
	rng   *rand.Rand
	users []user

	user, page, event, referrer, source, currency picker
	pages                                         []string

	arena   []byte   // keys, values and header values of the batch
	headers []Header // of the batch
	recs    []Record
	second  int64 // of stamp
	stamp   [len("2006-01-02T15:04:05.")]byte
}

// NewGenerator prepares for a Config that Validate accepts.
func NewGenerator(cfg Config) *Generator {
	cfg = cfg.WithDefaults()
	g := &Generator{
		cfg:      cfg,
		rng:      rand.New(rand.NewPCG(cfg.Seed, 0x6669726e)),
		users:    make([]user, cfg.Users),
		user:     newPicker(zipf(cfg.Users, userSkew)),
		page:     newPicker(zipf(pageCount, pageSkew)),
		event:    newPicker(eventWeights),
		referrer: newPicker(referrerWeights),
		source:   newPicker(sourceWeights),
		currency: newPicker(currencyWeights),
		pages:    pageNames(),
		second:   math.MinInt64,
	}
	return g
}

func pageNames() []string {
	names := []string{"/home", "/search", "/cart", "/login", "/checkout", "/account", "/help", "/about"}
	shelves := []string{"books", "music", "garden", "toys", "kitchen"}
	for i := len(names); i < pageCount; i++ {
		names = append(names, "/"+shelves[i%len(shelves)]+"/"+strconv.Itoa(1000+i))
	}
	return names
}

// Reset begins a batch: the records of the one before lose their bytes.
func (g *Generator) Reset() {
	g.arena, g.headers, g.recs = g.arena[:0], g.headers[:0], g.recs[:0]
}

// Batch is what was made since Reset.
func (g *Generator) Batch() []Record { return g.recs }

// Next makes the event of an instant and adds it to the batch. It tells whether the event is late or broken.
func (g *Generator) Next(at time.Time) (late bool, broken Broken) {
	ms := at.UnixMilli()
	eventMs := ms
	if late = g.chance(g.cfg.LateShare); late {
		eventMs -= g.lateness()
	}
	id := g.user.pick(g.rng)
	u := &g.users[id]
	g.visit(u, ms)

	start := len(g.arena)
	g.arena = strconv.AppendInt(append(g.arena, 'u'), int64(id), 10)
	key := g.slice(start)

	var trace [16]byte
	g.random(trace[:])
	start = len(g.arena)
	g.appendEvent(id, u, ms, eventMs, &trace)
	if g.chance(g.cfg.BrokenShare) {
		broken = Broken(1 + g.rng.IntN(int(lastBroken)))
		g.arena = g.breakValue(broken, start)
	}
	value := g.slice(start)
	if broken == Empty && g.rng.IntN(2) == 0 {
		value = nil // a tombstone
	}
	rec := Record{Partition: int32(id % g.cfg.Partitions), Key: key, Value: value, TimestampMs: ms}
	if g.chance(g.cfg.TracedShare) {
		g.headers = append(g.headers, Header{Key: "traceparent", Value: g.traceparent(&trace)})
		rec.Headers = g.headers[len(g.headers)-1 : len(g.headers) : len(g.headers)]
	}
	g.recs = append(g.recs, rec)
	return late, broken
}

// slice is the arena from start on. It stays valid when the arena moves: the old one is not written any more.
func (g *Generator) slice(start int) []byte { return g.arena[start:len(g.arena):len(g.arena)] }

func (g *Generator) chance(share float64) bool { return share > 0 && g.rng.Float64() < share }

// lateness is a time back in milliseconds, as often between 2 and 20 minutes as between 20 minutes and 3 hours.
func (g *Generator) lateness() int64 {
	lo, hi := math.Log(float64(minLate.Milliseconds())), math.Log(float64(maxLate.Milliseconds()))
	return int64(math.Exp(lo + g.rng.Float64()*(hi-lo)))
}

func (g *Generator) random(b []byte) {
	for i := 0; i < len(b); i += 8 {
		r := g.rng.Uint64()
		for j := i; j < min(i+8, len(b)); j++ {
			b[j] = byte(r)
			r >>= 8
		}
	}
}

// visit begins a new session for a user whose last one has ended.
func (g *Generator) visit(u *user, ms int64) {
	if u.left > 0 && ms-u.lastMs < sessionIdle.Milliseconds() {
		u.left--
		u.lastMs = ms
		return
	}
	if u.session == 0 {
		u.currency = uint8(g.currency.pick(g.rng))
	}
	u.session++
	u.lastMs = ms
	u.left = uint16(min(g.rng.ExpFloat64()*sessionMean, math.MaxUint16))
	u.referrer = uint8(g.referrer.pick(g.rng))
	u.source = uint8(g.source.pick(g.rng))
}

func (g *Generator) appendEvent(id int, u *user, ms, eventMs int64, trace *[16]byte) {
	kind := g.event.pick(g.rng)
	b := append(g.arena, `{"schema_version":`...)
	b = strconv.AppendInt(b, schemaNumber, 10)
	b = append(b, `,"event_id":"`...)
	b = g.appendEventID(b, ms)
	b = append(b, `","event_type":"`...)
	b = append(b, eventTypes[kind]...)
	b = append(b, `","key":{"user_id":"u`...)
	b = strconv.AppendInt(b, int64(id), 10)
	b = append(b, `","session_id":"s`...)
	b = strconv.AppendInt(b, int64(id), 10)
	b = append(b, '-')
	b = strconv.AppendUint(b, uint64(u.session), 10)
	b = append(b, `"},"payload":{"page":"`...)
	b = append(b, g.pages[g.page.pick(g.rng)]...)
	b = append(b, `","referrer":"`...)
	b = append(b, referrers[u.referrer]...)
	b = append(b, `","currency":"`...)
	b = append(b, currencies[u.currency]...)
	b = append(b, `","amount":`...)
	if kind == purchase {
		// Log-normal around 30, as baskets are.
		cents := int64(math.Exp(8+0.9*g.rng.NormFloat64())) + 1
		b = strconv.AppendInt(b, cents/100, 10)
		b = append(b, '.', byte('0'+cents/10%10), byte('0'+cents%10))
	} else {
		b = append(b, '0')
	}
	b = append(b, `},"metadata":{"event_timestamp":"`...)
	b = g.appendTime(b, eventMs)
	b = append(b, `","trace_id":"`...)
	b = appendHex(b, trace[:])
	b = append(b, `","source":"`...)
	b = append(b, sources[u.source]...)
	g.arena = append(b, `"}}`...)
}

// appendEventID writes a UUIDv7: milliseconds, version, random bits.
func (g *Generator) appendEventID(b []byte, ms int64) []byte {
	hi := uint64(ms)<<16 | 0x7000 | g.rng.Uint64()&0x0fff
	lo := g.rng.Uint64()&(1<<62-1) | 1<<63
	var id [16]byte
	for i := range 8 {
		id[i], id[8+i] = byte(hi>>(56-8*i)), byte(lo>>(56-8*i))
	}
	b = append(appendHex(b, id[:4]), '-')
	b = append(appendHex(b, id[4:6]), '-')
	b = append(appendHex(b, id[6:8]), '-')
	b = append(appendHex(b, id[8:10]), '-')
	return appendHex(b, id[10:])
}

// appendTime writes RFC 3339 with milliseconds. Most events are of the same second as the one before.
func (g *Generator) appendTime(b []byte, ms int64) []byte {
	sec := ms / 1000
	if sec != g.second {
		g.second = sec
		time.Unix(sec, 0).UTC().AppendFormat(g.stamp[:0], "2006-01-02T15:04:05.")
	}
	ms %= 1000
	return append(append(b, g.stamp[:]...), byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

// traceparent is the header of https://www.w3.org/TR/trace-context/, sampled.
func (g *Generator) traceparent(trace *[16]byte) []byte {
	var span [8]byte
	g.random(span[:])
	start := len(g.arena)
	b := append(g.arena, "00-"...)
	b = append(appendHex(b, trace[:]), '-')
	b = appendHex(b, span[:])
	g.arena = append(b, "-01"...)
	return g.slice(start)
}

func appendHex(b, raw []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range raw {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}
