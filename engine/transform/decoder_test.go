package transform

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/units"
)

// contract has a column of every kind.
const contract = `{"type":"object","additionalProperties":false,"properties":{
	"id":{"type":"integer"}, "small":{"type":["integer","null"],"format":"int32"}, "price":{"type":["string","null"],"format":"decimal","x-precision":10,"x-scale":2},
	"ratio":{"type":["number","null"]}, "ok":{"type":["boolean","null"]}, "at":{"type":["string","null"],"format":"date-time"}, "born":{"type":["string","null"],"format":"date"},
	"email":{"type":["string","null"]}, "token":{"type":["string","null"],"format":"uuid"}, "raw":{"type":["string","null"],"contentEncoding":"base64"},
	"tags":{"type":["array","null"],"items":{"type":"string"}}, "labels":{"type":["object","null"],"additionalProperties":{"type":"string"}},
	"user":{"type":["object","null"],"properties":{"name":{"type":["string","null"]},"ssn":{"type":["string","null"]},
		"address":{"type":["object","null"],"properties":{"city":{"type":["string","null"]},"street":{"type":["string","null"]}}}}}},
	"required":["id"]}`

func secret(t testing.TB, s string) units.Secret {
	t.Helper()
	var k units.Secret
	if err := k.UnmarshalText([]byte(s)); err != nil {
		t.Fatal(err)
	}
	return k
}

const testKey = "0123456789abcdef0123456789abcdef"

var loadOnce = sync.OnceValues(func() (*decode.Contract, error) { return decode.LoadContract([]byte(contract), "test.json") })

func loadContract(t testing.TB) *decode.Contract {
	t.Helper()
	c, err := loadOnce()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func bound(t testing.TB, mem memory.Allocator, c Config, have *iceberg.Schema) (*Plan, *Decoder) {
	t.Helper()
	con := loadContract(t)
	p, err := New(c, con.IcebergSchema(), Options{EventTime: con.EventTime})
	if err != nil {
		t.Fatal(err)
	}
	if have == nil {
		have = p.Schema()
	}
	b, err := p.Bind(have)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := decode.NewJSON(con, b.DecoderSchema(), decode.Options{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	d, err := b.Wrap(dec, decode.NewLetter, mem)
	if err != nil {
		t.Fatal(err)
	}
	return p, d
}

func fetchOf(values ...string) *engine.Fetch {
	f := &engine.Fetch{Partition: 3, Start: 100, End: 100 + int64(len(values)), LeaderEpoch: 1, FetchedAt: time.Unix(1, 0)}
	for i, v := range values {
		f.Records = append(f.Records, engine.Record{Offset: 100 + int64(i), TimestampMs: 1_700_000_000_000, Key: []byte("key" + v), Value: []byte(v)})
	}
	return f
}

// show prints the rows without the ledger, column by column.
func show(t testing.TB, d engine.Decoded) string {
	t.Helper()
	if d.Rows == nil {
		return ""
	}
	var b strings.Builder
	for i := range int(d.Rows.NumRows()) {
		for c, f := range d.Rows.Schema().Fields() {
			if !ledger.IsOwn(f.Name) {
				fmt.Fprintf(&b, "%s=%s ", f.Name, d.Rows.Column(c).ValueStr(i))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestDecode(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	_, d := bound(t, mem, Config{Keep: []string{"id", "email", "user.name", "user.address.street", "tags", "price"}, Filter: "id > 1 and user.address.city <> 'Rome'",
		Columns: map[string]string{"city": "upper(user.address.city)", "half": "100 / small", "tags": "tags", "mail": "email"},
		Mask: map[string]Mask{"email": {Method: MethodTokenise, Key: secret(t, testKey), KeyID: "k1"}, "user.name": {Method: MethodRedact},
			"user.address.street": {Method: MethodTruncate, Length: 2}}}, nil)
	o, err := d.Decode(fetchOf(
		`{"id":1,"user":{"address":{"city":"Oslo"}}}`,
		`{"id":2,"email":"a@b.c","small":7,"tags":["x","y"],"price":"12.50","user":{"name":"Ann","ssn":"1","address":{"city":"Oslo","street":"Åsgata 1"}}}`,
		`{"id":3,"user":{"address":{"city":"Rome"}}}`,
		`{"id":4,"user":{"address":{}}}`,
		`{"id":5,"small":0,"user":{"address":{"city":"Oslo"}}}`,
		`{"id":6,"email":"a@b.c","user":{"address":{"city":"Bonn"}}}`,
		`{"id":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Rows.Release()
	t.Log(show(t, o), d.ArrowSchema())
	if fmt.Sprint(o.Filtered) != "[100 102 103]" || o.LastRow != 105 || len(o.Dead) != 2 || o.Dead[0].Offset != 104 || o.Dead[1].Offset != 106 {
		t.Errorf("filtered %v, last %d, dead %+v", o.Filtered, o.LastRow, o.Dead)
	}
}

// A column of every type passes, is computed and is redacted, on rows that were chosen here and there.
func TestEveryType(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	event := func(id int) string {
		return fmt.Sprintf(`{"id":%d,"small":5,"price":"1.50","ratio":0.25,"ok":true,"at":"2026-06-04T09:01:23Z","born":"2026-06-04","email":"a@b.c",
			"token":"0197a0f0-0000-7000-8000-000000000000","raw":"AP8=","tags":["x"],"labels":{"k":"v"},"user":{"name":"Ann","ssn":"1","address":{"city":"Oslo"}}}`, id)
	}
	for _, masked := range []bool{false, true} {
		c := Config{Filter: "id % 2 = 1", Columns: map[string]string{}, Mask: map[string]Mask{}}
		for name, typ := range map[string]string{"small": "int", "price": "decimal(10,2)", "ratio": "double", "ok": "boolean", "at": "timestamptz", "born": "date", "email": "string",
			"token": "uuid", "raw": "", "tags": "", "labels": "", "user": ""} {
			if masked {
				c.Mask[name] = Mask{Method: MethodRedact}
				continue
			}
			c.Columns[name+"2"] = name
			if typ != "" {
				c.Columns[name+"3"] = "cast(" + name + " as " + typ + ")"
			}
		}
		if !masked {
			c.Columns["t1"], c.Columns["t2"], c.Columns["t3"] = "cast('09:01:23' as time)", "cast(at as timestamp)", "cast(ratio as float)"
			c.Columns["t4"] = "cast(email = 'a@b.c' and token = '0197a0f0-0000-7000-8000-000000000000' as string)"
		}
		_, d := bound(t, mem, c, nil)
		o, err := d.Decode(fetchOf(event(1), event(2), event(3), event(4)))
		if err != nil {
			t.Fatal(err)
		}
		text := show(t, o)
		o.Rows.Release()
		first, second, _ := strings.Cut(text, "\n")
		if strings.Replace(second, "id=3", "id=1", 1) != first+"\n" {
			t.Fatalf("masked %v: rows\n%s", masked, text)
		}
		if want := map[bool]int{false: 0, true: 11}[masked]; strings.Count(first, "(null)") != want {
			t.Errorf("masked %v: not %d nulls in %s", masked, want, first)
		}
	}
}
