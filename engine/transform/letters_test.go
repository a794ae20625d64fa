package transform

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/firnlake/firn/engine"
)

func sealed(t *testing.T, c Config) (*Plan, engine.DeadLetter) {
	t.Helper()
	p, d := bound(t, nil, c, nil)
	f := fetchOf(`{"id":"canary-7731"}`)
	f.Records[0].HeaderBytes, f.Records[0].HeaderCount = []byte("\x02h\x10canary-9"), 1
	o, err := d.Decode(f)
	if err != nil || len(o.Dead) != 1 {
		t.Fatalf("%+v, %v", o, err)
	}
	return p, o.Dead[0]
}

func TestSealedLetters(t *testing.T) {
	mask := map[string]Mask{"email": {Method: MethodRedact}}
	for policy, c := range map[string]Config{LettersRedact: {Mask: mask}, LettersEncrypt: {Mask: mask, DeadLetterKey: secret(t, testKey)},
		LettersKeep: {Mask: mask, DeadLetters: LettersKeep}} {
		p, l := sealed(t, c)
		all := fmt.Sprintf("%q %q %v %s %s", l.Key, l.Value, l.Headers, l.Place, l.Message)
		if strings.Contains(all, "canary") != (policy == LettersKeep) {
			t.Errorf("%s: %s", policy, all)
		}
		if l.Reason != "wrong_type" || l.Place != "/id" || l.Offset != 100 {
			t.Errorf("%s: %+v", policy, l)
		}
		r, err := p.Open(3, 100, Record{Key: l.Key, Value: l.Value})
		switch policy {
		case LettersRedact:
			if !errors.Is(err, ErrSealed) || WhyClosed(err) != ReasonRedacted {
				t.Errorf("a redacted letter opens: %v", err)
			}
		default:
			if err != nil || string(r.Value) != `{"id":"canary-7731"}` || string(r.Key) != `key{"id":"canary-7731"}` {
				t.Errorf("%s: %q %q, %v", policy, r.Key, r.Value, err)
			}
		}
		if policy == LettersEncrypt {
			if string(r.Headers["h"]) != "canary-9" {
				t.Errorf("headers %q", r.Headers)
			}
			refusesToOpen(t, p, c, l)
		}
	}
}

// refusesToOpen tries a sealed letter at another place, damaged, with another key and without one.
func refusesToOpen(t *testing.T, p *Plan, c Config, l engine.DeadLetter) {
	t.Helper()
	c.DeadLetterKey = secret(t, "another key of more than 16 bytes")
	other, err := New(c, loadContract(t).IcebergSchema(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(l.Value)
	damaged[len(damaged)-1] ^= 1
	for what, open := range map[string]func() (Record, error){
		"elsewhere":   func() (Record, error) { return p.Open(3, 101, Record{Value: l.Value}) },
		"damaged":     func() (Record, error) { return p.Open(3, 100, Record{Value: damaged}) },
		"cut":         func() (Record, error) { return p.Open(3, 100, Record{Value: l.Value[:30]}) },
		"another key": func() (Record, error) { return other.Open(3, 100, Record{Value: l.Value}) },
		"no key":      func() (Record, error) { return (*Plan)(nil).Open(3, 100, Record{Value: l.Value}) },
	} {
		if r, err := open(); !errors.Is(err, ErrSealed) || WhyClosed(err) != ReasonSealed {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
}

// What a place names and the contract does not is data.
func TestPlacesOfSealedLetters(t *testing.T) {
	s := &sealer{known: loadContract(t).IcebergSchema().Fields()}
	for in, want := range map[string]string{"": "", "/user/address/city": "/user/address/city", "/labels/canary": "/labels/*", "/tags/12": "/tags/12",
		"/canary": "/*", "/user/canary/x": "/user/*/*", "/email": "/email", "/email/canary": "/email/*", "/tags/canary": "/tags/*",
		"/after/email": "/after/email", "/payload/before/user/name": "/payload/before/user/name", "/payload/after/canary": "/payload/after/*", "/op": "/op",
		"/payload/source/canary": "/payload/source/*", "/after/after": "/after/after", "/after/after/after/canary": "/after/after/*/*"} {
		if got := s.place(in); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
}

// A sealed letter names the computed column that failed: it is the configuration's.
func TestPlaceOfSealedFailure(t *testing.T) {
	_, d := bound(t, nil, Config{Columns: map[string]string{"born_in": "cast(email as int)"}, Mask: map[string]Mask{"email": {Method: MethodRedact}}}, nil)
	o, err := d.Decode(fetchOf(`{"id":1,"email":"canary"}`))
	if err != nil || len(o.Dead) != 1 {
		t.Fatalf("%+v, %v", o, err)
	}
	if l := o.Dead[0]; l.Place != "/born_in" || strings.Contains(l.Message+string(l.Value), "canary") {
		t.Errorf("%+v", l)
	}
}

func TestMessagesOfSealedLetters(t *testing.T) {
	for in, want := range map[string]string{
		"found 'M' where a value was expected (byte 12)":                           "found … where a value was expected (byte 12)",
		"found byte 0x07 where ',' was expected (byte 3)":                          "found byte … where … was expected (byte 3)",
		"5 seconds and -7 nanoseconds are no valid timestamp (byte 2)":             "… seconds and … nanoseconds are no valid timestamp (byte 2)",
		"string where the contract wants integer (byte 6)":                         "string where the contract wants integer (byte 6)",
		"the string has 19 characters, the contract allows 2 to 12 (byte 3)":       "the string has … characters, the contract allows 2 to 12 (byte 3)",
		"the string does not match ^[A-Z]{2}$ (byte 3)":                            "the string does not match ^[A-Z]{2}$ (byte 3)",
		"more than 1000 events cannot be read; of the first: found '7' (byte 1)":   "more than … events cannot be read; of the first: found … (byte 1)",
		"schema id 12: field n: #/fields/1/type: written as long, wanted as int":   "schema id 12: field n: #/fields/1/type: written as long, wanted as int",
		"byte 0xff is not UTF-8 here (byte 9)":                                     "byte … is not UTF-8 here (byte 9)",
		"no schema of the pipeline has the fingerprint 00ff11223344aabb: (byte 2)": "no schema of the pipeline has the fingerprint …: (byte 2)",
	} {
		if got := withoutBytes(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(packRecord([]byte("k"), nil, []engine.Header{{Key: "a", Value: []byte("b")}, {Key: ""}}))
	f.Add([]byte{0, 0, 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := unpackRecord(b)
		if err != nil {
			return
		}
		var h []engine.Header
		for _, k := range sortedKeys(r.Headers) {
			h = append(h, engine.Header{Key: k, Value: r.Headers[k]})
		}
		again, err := unpackRecord(packRecord(r.Key, r.Value, h))
		if err != nil || fmt.Sprintf("%q", again) != fmt.Sprintf("%q", r) {
			t.Errorf("%q, then %q, %v", r, again, err)
		}
	})
}
