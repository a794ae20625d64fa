package transform

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
)

// Each method on each kind of column, against values that were computed elsewhere.
func TestMasks(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	key := secret(t, testKey)
	h, tok := Mask{Method: MethodHMAC, Key: key}, Mask{Method: MethodTokenise, Key: key, Length: 51}
	_, d := bound(t, mem, Config{Mask: map[string]Mask{"id": h, "email": h, "user.name": tok, "price": h, "at": h, "token": h, "raw": h, "born": h, "ratio": h,
		"ok": {Method: MethodRedact}, "tags": {Method: MethodRedact}, "user.ssn": {Method: MethodRedact, With: "-"}, "user.address": {Method: MethodRedact}, "labels": {Method: MethodRedact}}}, nil)
	o, err := d.Decode(fetchOf(`{"id":-12,"small":5,"price":"1.5","ratio":0.25,"ok":true,"at":"2026-06-04T11:01:23.5+02:00","born":"2026-06-04","email":"é@x",
		"token":"0197A0F0-0000-7000-8000-000000000000","raw":"AP8=","tags":["canary"],"labels":{"canary":"x"},"user":{"name":"é@x","ssn":"canary","address":{"city":"canary"}}}`, `{"id":1}`))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Rows.Release()
	mac := func(s string) string {
		m := hmac.New(sha256.New, []byte(testKey))
		m.Write([]byte(s))
		return hex.EncodeToString(m.Sum(nil))
	}
	first, second, _ := strings.Cut(show(t, o), "\n")
	for column, text := range map[string]string{"id": "-12", "price": "1.50", "ratio": "0.25", "at": "2026-06-04T09:01:23.5Z", "born": "2026-06-04", "email": "é@x",
		"token": "0197a0f0-0000-7000-8000-000000000000", "raw": "\x00\xff"} {
		if !strings.Contains(first, column+"="+mac(text)+" ") {
			t.Errorf("%s is not the HMAC of %q: %s", column, text, first)
		}
	}
	for _, part := range []string{"small=5 ", "ok=(null)", "tags=(null)", "labels=(null)", `"ssn":"-"`, `"address":null`} {
		if !strings.Contains(first, part) {
			t.Errorf("%s is not in %s", part, first)
		}
	}
	// HMAC-SHA256 of the domain and the value, five bits a character.
	sum, _ := hex.DecodeString(mac(tokenDomain + "é@x"))
	var bits, want string
	for _, b := range sum {
		for i := 7; i >= 0; i-- {
			bits += strconv.Itoa(int(b >> i & 1))
		}
	}
	for i := 0; i+5 <= len(bits); i += 5 {
		n := 0
		for _, c := range bits[i : i+5] {
			n = n*2 + int(c-'0')
		}
		want += alphabet[n : n+1]
	}
	if len(want) != 51 || !strings.Contains(first, `"name":"`+want+`"`) {
		t.Errorf("the token is not %s in %s", want, first)
	}
	if strings.Contains(first+second, "canary") || !strings.Contains(second, "email=(null)") || !strings.Contains(second, "user=(null)") {
		t.Errorf("rows\n%s\n%s", first, second)
	}
}

// What cannot work is an error when the configuration is read, and says what can.
func TestRefusals(t *testing.T) {
	con := loadContract(t)
	key := secret(t, testKey)
	redact := Mask{Method: MethodRedact}
	for want, c := range map[string]Config{
		"mask: ok: hmac of a boolean: of two values":                      {Mask: map[string]Mask{"ok": {Method: MethodHMAC, Key: key}}},
		"mask: tags: tokenise of a list<string>":                          {Mask: map[string]Mask{"tags": {Method: MethodTokenise, Key: key}}},
		"mask: id: truncate of a long: only strings":                      {Mask: map[string]Mask{"id": {Method: MethodTruncate, Length: 2}}},
		"mask: there is no column emial; did you mean email?":             {Mask: map[string]Mask{"emial": redact}},
		"mask: user.name lies inside of user":                             {Mask: map[string]Mask{"user.name": redact, "user": redact}},
		"mask: user.name is dropped":                                      {Drop: []string{"user"}, Mask: map[string]Mask{"user.name": redact}},
		"mask: email: key: it is shorter than 16 bytes":                   {Mask: map[string]Mask{"email": {Method: MethodHMAC, Key: secret(t, "short")}}},
		"mask: email: key: hmac needs one":                                {Mask: map[string]Mask{"email": {Method: MethodHMAC}}},
		"mask: email: length: a token has 8 to 51":                        {Mask: map[string]Mask{"email": {Method: MethodTokenise, Key: key, Length: 4}}},
		"mask: _kafka_offset is a column of the ledger":                   {Mask: map[string]Mask{"_kafka_offset": redact}},
		"mask: at: it is the event time":                                  {Mask: map[string]Mask{"at": redact}},
		"columns: email: it is masked":                                    {Mask: map[string]Mask{"email": redact}, Columns: map[string]string{"email": "lower(email)"}},
		"columns: u: character 1: user holds user.name":                   {Mask: map[string]Mask{"user.name": redact}, Columns: map[string]string{"u": "user"}},
		"columns: u: character 7: user is masked as a whole":              {Mask: map[string]Mask{"user": redact}, Columns: map[string]string{"u": "lower(user.name)"}},
		"columns: a: character 10: + takes no decimals":                   {Columns: map[string]string{"a": "(id + 1)+price"}},
		`columns: "a.b" is no name`:                                       {Columns: map[string]string{"a.b": "id"}},
		`columns: "_kafka_offset" is no name`:                             {Columns: map[string]string{"_kafka_offset": "id"}},
		"columns: n: character 1: it is null whatever the row is":         {Columns: map[string]string{"n": "null"}},
		"keep and drop together":                                          {Keep: []string{"id"}, Drop: []string{"email"}},
		"columns: ID differs from column id in upper and lower case only": {Columns: map[string]string{"ID": "small"}},
		"columns: a differs from column A in upper and lower case only":   {Columns: map[string]string{"a": "small", "A": "small"}},
		"no column is left":                                               {Drop: []string{"id", "small", "price", "ratio", "ok", "at", "born", "email", "token", "raw", "tags", "labels", "user"}},
		"dead_letter_key: encrypt needs one":                              {DeadLetters: LettersEncrypt},
		"dead_letter_key: dead_letters: redact takes none":                {DeadLetters: LettersRedact, DeadLetterKey: key},
		`dead_letters: "hide": take redact, encrypt or keep`:              {DeadLetters: "hide"},
		"drop: user.name is a string and has no fields":                   {Drop: []string{"user.name.first"}},
	} {
		_, err := New(c, con.IcebergSchema(), Options{EventTime: "at"})
		if err == nil || !errors.Is(err, ErrConfig) {
			t.Errorf("no error says %s: %v", want, err)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nshould say %s", err, want)
		}
	}
}

// Of several things that cannot work it is always the same one that is named.
func TestRefusalsAreStable(t *testing.T) {
	con := loadContract(t)
	redact := Mask{Method: MethodRedact}
	for want, c := range map[string]Config{
		"drop: there is no column emial":      {Drop: []string{"emial"}, Mask: map[string]Mask{"emial": redact, "usr": redact}},
		"mask: user.name lies inside of user": {Mask: map[string]Mask{"user": redact, "user.name": redact, "user.ssn": redact}},
	} {
		for range 20 {
			if _, err := New(c, con.IcebergSchema(), Options{}); err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("%v\nshould say %s", err, want)
			}
		}
	}
}

// A table that is there already may have more columns, wider ones and another order; what does not fit names both types.
func TestBind(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	con := loadContract(t)
	c := Config{Drop: []string{"raw", "user.ssn"}, Columns: map[string]string{"n": "small", "id": "cast(id as string)"}}
	p, err := New(c, con.IcebergSchema(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	have := p.Schema().Fields()
	var wider []iceberg.NestedField
	for i := len(have) - 1; i >= 0; i-- {
		f := have[i]
		switch f.Name {
		case "small", "n":
			f.Type = iceberg.PrimitiveTypes.Int64
		case "price":
			f.Type = iceberg.DecimalTypeOf(20, 2)
		}
		wider = append(wider, f)
	}
	wider = append(wider, iceberg.NestedField{ID: 900, Name: "raw", Type: iceberg.PrimitiveTypes.Binary}, iceberg.NestedField{ID: 901, Name: "later", Type: iceberg.PrimitiveTypes.String})
	_, d := bound(t, mem, c, iceberg.NewSchema(0, wider...))
	o, err := d.Decode(fetchOf(`{"id":1,"small":7,"price":"2.5","raw":"AA==","user":{"name":"n","ssn":"canary"}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Rows.Release()
	for _, part := range []string{"n=7 ", "small=7 ", "price=2.5", "raw=(null)", "later=(null)", "id=1 ", `user={"name":"n","address":null}`} {
		if got := show(t, o); !strings.Contains(strings.ReplaceAll(got, `{"address":null,"name":"n"}`, `{"name":"n","address":null}`), part) {
			t.Errorf("%s is not in %s", part, got)
		}
	}
	for want, change := range map[string]func([]iceberg.NestedField) []iceberg.NestedField{
		"column id is a long in the table and a string in the events": func(fs []iceberg.NestedField) []iceberg.NestedField {
			for i := range fs {
				if fs[i].Name == "id" {
					fs[i].Type = iceberg.PrimitiveTypes.Int64
				}
			}
			return fs
		},
		"column n is required in the table": func(fs []iceberg.NestedField) []iceberg.NestedField {
			for i := range fs {
				fs[i].Required = fs[i].Name == "n"
			}
			return fs
		},
		"column user is a string in the table and a struct in the events": func(fs []iceberg.NestedField) []iceberg.NestedField {
			for i := range fs {
				if fs[i].Name == "user" {
					fs[i].Type = iceberg.PrimitiveTypes.String
				}
			}
			return fs
		},
	} {
		_, err := p.Bind(iceberg.NewSchema(0, change(p.Schema().Fields())...))
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nshould say %s", err, want)
		}
	}
}
