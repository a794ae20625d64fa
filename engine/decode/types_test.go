package decode

import (
	"strings"
	"testing"
)

// Each type: what is stored for a payload's value, or the reason of the dead letter. The contract's only field is v.
func TestTypes(t *testing.T) {
	for _, c := range []struct {
		schema string
		cases  []string // "value => stored" or "value => !reason"
	}{
		{`{"type":"string"}`, []string{
			`"" => ""`, `"plain" => "plain"`, `"äöü 雪 🏔" => "äöü 雪 🏔"`, `"\"\\\/\b\f\n\r\t" => "\"\\/\u0008\u000c\n\r\t"`,
			`"\u00e4\u96EA\ud83c\udfd4" => "ä雪🏔"`, `"\u0000" => "\u0000"`, `"\ufffd" => "�"`, `"` + strings.Repeat("long ", 3000) + `" => "` + strings.Repeat("long ", 3000) + `"`,
			`"eight888" => "eight888"`, `"seven77" => "seven77"`, `"nine99999" => "nine99999"`,
			`"\ud800" => !invalid_utf8`, `"\udc00\ud800" => !invalid_utf8`, `"\ud83cx" => !invalid_utf8`, "\"\xff\" => !invalid_utf8", "\"\xed\xa0\x80\" => !invalid_utf8",
			`"\x" => !invalid_json`, `"\u12g4" => !invalid_json`, "\"\n\" => !invalid_json", `"open => !invalid_json`, "\"\x00\" => !invalid_json",
			`1 => !wrong_type`, `null => !wrong_type`, `nul => !invalid_json`, `true => !wrong_type`, `{} => !wrong_type`, `["a"] => !wrong_type`, `[1, => !invalid_json`}},
		{`{"type":["string","null"],"minLength":2,"maxLength":3,"pattern":"^[a-zä]+$"}`, []string{
			`null => null`, `"ab" => "ab"`, `"äää" => "äää"`, `"a" => !out_of_range`, `"abcd" => !out_of_range`, `"AB" => !pattern_mismatch`}},
		{`{"type":"string","enum":["a","b\n"]}`, []string{`"a" => "a"`, `"b\n" => "b\n"`, `"\u0061" => "a"`, `"c" => !not_in_enum`, `"" => !not_in_enum`}},
		{`{"type":"integer"}`, []string{
			`0 => 0`, `-0 => 0`, `7 => 7`, `-12 => -12`, `9223372036854775807 => 9223372036854775807`, `-9223372036854775808 => -9223372036854775808`,
			`3.0 => 3`, `3e0 => 3`, `12E+2 => 1200`, `1200e-2 => 12`, `0.00e99999999999 => 0`, `123456789012345678 => 123456789012345678`, `1.5e1 => 15`,
			`9223372036854775808 => !out_of_range`, `-9223372036854775809 => !out_of_range`, `1e19 => !out_of_range`, `1e999999999999 => !out_of_range`,
			`99999999999999999999999 => !out_of_range`, `3.5 => !wrong_type`, `1e-1 => !wrong_type`, `"3" => !wrong_type`,
			`03 => !invalid_json`, `+3 => !invalid_json`, `3. => !invalid_json`, `.3 => !invalid_json`, `3e => !invalid_json`, `- => !invalid_json`, `-- => !invalid_json`, `0x1 => !invalid_json`, `NaN => !invalid_json`}},
		{`{"type":"integer","format":"int32"}`, []string{`2147483647 => 2147483647`, `-2147483648 => -2147483648`, `2147483648 => !out_of_range`, `-2147483649 => !out_of_range`}},
		{`{"type":"integer","minimum":-1,"exclusiveMaximum":10}`, []string{`-1 => -1`, `9 => 9`, `10 => !out_of_range`, `-2 => !out_of_range`}},
		{`{"type":"integer","enum":[1,3.0]}`, []string{`3 => 3`, `1e0 => 1`, `2 => !not_in_enum`}},
		{`{"type":"integer","const":4}`, []string{`4 => 4`, `5 => !not_in_enum`}},
		{`{"type":"number"}`, []string{
			`0 => 0`, `1.5 => 1.5`, `-2.25e2 => -225`, `0.1 => 0.1`, `123456789.123456789 => 123456789.12345679`, `9007199254740993 => 9007199254740992`,
			`1e308 => 1e+308`, `1e-400 => 0`, `4.9e-324 => 5e-324`, `1e309 => !out_of_range`, `-1e999 => !out_of_range`, `Infinity => !invalid_json`, `1.e1 => !invalid_json`, `01.5 => !invalid_json`, `"1" => !wrong_type`}},
		{`{"type":"number","exclusiveMinimum":0,"maximum":1,"enum":[0.5,1,2]}`, []string{`0.5 => 0.5`, `1.0 => 1`, `0 => !out_of_range`, `2 => !out_of_range`, `0.25 => !not_in_enum`}},
		{`{"type":"boolean"}`, []string{`true => true`, `false => false`, `null => !wrong_type`, `tru => !invalid_json`, `True => !invalid_json`, `truex => !invalid_json`, `0 => !wrong_type`}},
		{`{"type":["boolean","null"],"enum":[true,null]}`, []string{`true => true`, `null => null`, `false => !not_in_enum`}},
		{`{"type":"string","format":"date-time"}`, []string{
			`"2026-06-04T11:01:23.456Z" => "2026-06-04T11:01:23.456Z"`, `"2026-06-04t11:01:23z" => "2026-06-04T11:01:23Z"`, `"2026-06-04T13:01:23+02:00" => "2026-06-04T11:01:23Z"`,
			`"2026-06-04T00:30:00-01:00" => "2026-06-04T01:30:00Z"`, `"1969-12-31T23:59:59.999999Z" => "1969-12-31T23:59:59.999999Z"`, `"2024-02-29T00:00:00.123456789Z" => "2024-02-29T00:00:00.123456Z"`,
			`"\u0032026-06-04T11:01:23Z" => "2026-06-04T11:01:23Z"`, `"0000-01-01T00:00:00Z" => "0000-01-01T00:00:00Z"`, `"9999-12-31T23:59:59.999999Z" => "9999-12-31T23:59:59.999999Z"`,
			`"2026-06-04T11:01:23" => !invalid_format`, `"2026-06-04 11:01:23Z" => !invalid_format`, `"2026-02-30T00:00:00Z" => !invalid_format`, `"2023-02-29T00:00:00Z" => !invalid_format`,
			`"2026-06-04T24:00:00Z" => !invalid_format`, `"2026-06-04T11:60:00Z" => !invalid_format`, `"2026-06-04T11:01:60Z" => !invalid_format`, `"2026-06-04T11:01:23.Z" => !invalid_format`,
			`"2026-13-04T11:01:23Z" => !invalid_format`, `"2026-06-04T11:01:23+24:00" => !invalid_format`, `"2026-06-04T11:01:23Zx" => !invalid_format`, `"" => !invalid_format`, `"2026" => !invalid_format`,
			`"0000-01-01T00:00:00+01:00" => !invalid_format`, `"9999-12-31T23:59:59-01:00" => !invalid_format`,
			`1717498883456 => !wrong_type`, "\"" + strings.Repeat("\x00", 10) + "T11:01:23Z\" => !invalid_json", `"2026-06-04T11:01:23Z => !invalid_json`, `"\ud800" => !invalid_utf8`}},
		{`{"type":"integer","format":"epoch-ms"}`, []string{`0 => "1970-01-01T00:00:00Z"`, `1780570883456 => "2026-06-04T11:01:23.456Z"`, `-1 => "1969-12-31T23:59:59.999Z"`, `1780570883456000 => !out_of_range`}},
		{`{"type":"integer","format":"epoch-s"}`, []string{`1780570883 => "2026-06-04T11:01:23Z"`, `1780570883456 => !out_of_range`, `9223372036854775807 => !out_of_range`}},
		{`{"type":"integer","format":"epoch-us","minimum":1}`, []string{`1780570883456789 => "2026-06-04T11:01:23.456789Z"`, `0 => !out_of_range`}},
		{`{"type":"integer","format":"epoch-ns"}`, []string{`1780570883456789123 => "2026-06-04T11:01:23.456789Z"`, `-1 => "1969-12-31T23:59:59.999999Z"`, `-1000 => "1969-12-31T23:59:59.999999Z"`, `9223372036854775807 => "2262-04-11T23:47:16.854775Z"`, `"1" => !wrong_type`}},
		{`{"type":"integer","format":"epoch-days"}`, []string{`0 => "1970-01-01"`, `16753 => "2015-11-14"`, `-719528 => "0000-01-01"`, `2932896 => "9999-12-31"`, `2932897 => !out_of_range`, `1e3 => "1972-09-27"`, `0.5 => !wrong_type`, `1780570883456 => !out_of_range`, `99999999999999999999 => !out_of_range`, `"2026-06-04" => !wrong_type`, `null => !wrong_type`, `- => !invalid_json`, `01 => !invalid_json`}},
		{`{"type":["integer","null"],"format":"time-ms"}`, []string{`39683456 => "11:01:23.456"`, `0 => "00:00:00"`, `86399999 => "23:59:59.999"`, `86400000 => !out_of_range`, `-1 => !out_of_range`, `null => null`, `"11:01:23" => !wrong_type`}},
		{`{"type":"integer","format":"time-us"}`, []string{`39683456789 => "11:01:23.456789"`, `86400000000 => !out_of_range`}},
		{`{"type":"integer","format":"time-ns"}`, []string{`39683456789123 => "11:01:23.456789"`, `86399999999999 => "23:59:59.999999"`, `86400000000000 => !out_of_range`, `-1 => !out_of_range`}},
		{`{"type":"string","format":"decimal","contentEncoding":"base64","x-precision":5,"x-scale":2}`, []string{
			`"F4w=" => "60.28"`, `"6HQ=" => "-60.28"`, `"AYw=" => "3.96"`, `"AA==" => "0"`, `"AAAAAAAAAAAAAAAAAAAAAAAAAYw=" => "3.96"`, `"AYag" => !out_of_range`, `"" => !invalid_format`, `"AYw" => !invalid_format`, `"12.5" => !invalid_format`, `12.5 => !wrong_type`, `null => !wrong_type`, `"\ud800" => !invalid_utf8`}},
		{`{"type":["string","null"],"format":"decimal","contentEncoding":"base64","x-precision":38,"x-scale":0}`, []string{`null => null`, `"SztMqFqGxHoJiiI//////w==" => "99999999999999999999999999999999999999"`, `"SztMqFqGxHoJiiJAAAAAAA==" => !out_of_range`, `"tMSzV6V5O4X2dd3AAAAAAQ==" => "-99999999999999999999999999999999999999"`, `"tMSzV6V5O4X2dd3AAAAAAA==" => !out_of_range`, `"fw==" => "127"`, `"/w==" => "-1"`}},
		{`{"type":"string","format":"date"}`, []string{`"2026-06-04" => "2026-06-04"`, `"1970-01-01" => "1970-01-01"`, `"0000-03-01" => "0000-03-01"`, `"2026-6-4" => !invalid_format`, `"2026-06-04T" => !invalid_format`, `"2026-06-31" => !invalid_format`, `"" => !invalid_format`}},
		{`{"type":"string","format":"time"}`, []string{`"11:01:23" => "11:01:23"`, `"11:01:23.5Z" => "11:01:23.5"`, `"11:01:23+00:00" => "11:01:23"`, `"11:01:23+01:00" => !invalid_format`, `"25:01:23" => !invalid_format`, `"11:01" => !invalid_format`}},
		{`{"type":"string","format":"uuid"}`, []string{`"6ba7b810-9dad-11D1-80b4-00c04fd430c8" => "6ba7b810-9dad-11d1-80b4-00c04fd430c8"`, `"6ba7b8109dad11d180b400c04fd430c8" => !invalid_format`, `"6ba7b810-9dad-11d1-80b4-00c04fd430cg" => !invalid_format`, `"" => !invalid_format`}},
		{`{"type":"number","format":"decimal","x-precision":6,"x-scale":2}`, []string{
			`1 => "1"`, `-12.34 => "-12.34"`, `9999.99 => "9999.99"`, `0.010 => "0.01"`, `1e3 => "1000"`, `120e-1 => "12"`, `10000 => !out_of_range`, `0.001 => !out_of_range`, `"1" => !wrong_type`, `1.. => !invalid_json`}},
		{`{"type":"string","format":"decimal","x-precision":38,"x-scale":0}`, []string{
			`"99999999999999999999999999999999999999" => "99999999999999999999999999999999999999"`, `"-1" => "-1"`, `"100000000000000000000000000000000000000" => !out_of_range`, `"1,0" => !invalid_format`, `"" => !invalid_format`, `" 1" => !invalid_format`, `1 => !wrong_type`}},
		{`{"type":"number","format":"decimal","x-precision":4,"x-scale":1,"minimum":-1.5,"exclusiveMaximum":2}`, []string{`-1.5 => "-1.5"`, `1.9 => "1.9"`, `2 => !out_of_range`, `-1.6 => !out_of_range`}},
		{`{"type":"string","format":"byte"}`, []string{`"" => ""`, `"AAEC" => "AAEC"`, `"/w==" => "/w=="`, `"_w==" => !invalid_format`, `"/w=" => !invalid_format`, `"/x==" => !invalid_format`, `"AA\nEC" => !invalid_format`}},
		{`{"type":"array","items":{"type":["integer","null"]}}`, []string{`[] => []`, `[1,null, 3 ] => [1,null,3]`, `[1,] => !invalid_json`, `[1 => !invalid_json`, `[,1] => !invalid_json`, `{} => !wrong_type`, `["a"] => !wrong_type /v/0`, `[1,[2]] => !wrong_type /v/1`}},
		{`{"type":"array","items":{"type":"array","items":{"type":"string"}}}`, []string{`[[],["a","b"],[]] => [[],["a","b"],[]]`, `[[1]] => !wrong_type /v/0/0`}},
		{`{"type":"array","items":{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a"]}}`, []string{
			`[{"a":1},{"b":"x","a":2}] => [{"a":1,"b":null},{"a":2,"b":"x"}]`, `[{"a":1},{"b":"x"}] => !missing_field /v/1/a`, `[{"a":1,"a":2}] => !duplicate_key /v/0/a`}},
		{`{"type":"object","additionalProperties":{"type":["integer","null"]}}`, []string{
			`{} => []`, `{"x":1,"y":null} => [{"key":"x","value":1},{"key":"y","value":null}]`, `{"x":1,"\u0078":2} => !duplicate_key /v/x`, `{"x":"a"} => !wrong_type /v/x`, `{"a/b~":"a"} => !wrong_type /v/a~1b~0`,
			`{"x":1,} => !invalid_json`, `{x:1} => !invalid_json`, `{"x" 1} => !invalid_json`, `{"\ud800":1} => !invalid_utf8`, `[] => !wrong_type`}},
		{`{"type":["object","null"],"properties":{"s":{"type":"object","properties":{"i":{"type":"integer"}}}}}`, []string{
			`null => null`, `{} => {"s":null}`, `{"s":{}} => {"s":{"i":null}}`, `{"s":{"i":4}} => {"s":{"i":4}}`, `{"s":null} => !wrong_type /v/s`, `{"s":{"i":"a"}} => !wrong_type /v/s/i`}},
		{`{"type":"object","additionalProperties":false,"properties":{"a":{"type":"integer"}}}`, []string{`{"a":1} => {"a":1}`, `{"a":1,"b":2} => !unknown_field /v/b`}},
	} {
		t.Run(c.schema, func(t *testing.T) {
			d := decoderOf(t, oneField(t, c.schema), Options{Mem: checked(t)})
			for _, text := range c.cases {
				value, want, _ := strings.Cut(text, " => ")
				if reason, dead := strings.CutPrefix(want, "!"); dead {
					want = reason
					if !strings.Contains(want, " ") && want != ReasonInvalidJSON {
						want += " /v"
					}
				}
				got := one(t, d, `{"v":`+value+`}`)
				if strings.HasPrefix(got, ReasonInvalidJSON+" ") && want == ReasonInvalidJSON {
					continue // the place of broken JSON is where the walk stood
				}
				if got != want {
					t.Errorf("%.80s: %.200s, want %.200s", value, got, want)
				}
			}
		})
	}
}

// Many keys of a map: the hash path of the check for doubled ones.
func TestMapsWithManyKeys(t *testing.T) {
	d := decoderOf(t, oneField(t, `{"type":"object","additionalProperties":{"type":"integer"}}`), Options{Mem: checked(t)})
	var b strings.Builder
	for i := range 1000 {
		b.WriteString(`"key-` + itoa(i) + `":1,`)
	}
	body := b.String()
	if got := one(t, d, `{"v":{`+body+`"last":1}}`); strings.Count(got, `"key"`) != 1001 {
		t.Errorf("got %.100s", got)
	}
	if got := one(t, d, `{"v":{`+body+`"key-500":1}}`); got != "duplicate_key /v/key-500" {
		t.Errorf("got %.100s", got)
	}
}

func TestWholePayloads(t *testing.T) {
	deep := strings.Repeat("[", 62) + strings.Repeat("]", 62)
	d := decoderOf(t, contractOf(t, `{"type":"object","properties":{"v":{"type":"integer"},"a longer name than eight bytes":{"type":"integer"},
		"twelve bytes":{"type":"integer"},"sixteen bytes 16":{"type":"integer"},"q\"uo\\te<&>\u2028ü":{"type":"integer"}}}`), Options{Mem: checked(t), MaxValueBytes: 1000})
	const nulls = " a longer name than eight bytes=null twelve bytes=null sixteen bytes 16=null q\"uo\\te<&>\u2028ü=null"
	for payload, want := range map[string]string{
		``:                       "empty_value ",
		` `:                      "invalid_json ",
		`x`:                      "invalid_json ",
		"\ufeff{}":               "invalid_json ",
		`[1]`:                    "wrong_type ",
		`"text"`:                 "wrong_type ",
		`null`:                   "wrong_type ",
		`1 2`:                    "invalid_json ",
		`{}`:                     "null" + nulls,
		" \t\r\n{ \n} ":          "null" + nulls,
		`{ "v" : 1 , "x":[{}]}`:  "1" + nulls,
		`{"v":1}}`:               "invalid_json ",
		`{"v":1}{"v":1}`:         "invalid_json ",
		"{\"v\":1}\x00":          "invalid_json ",
		`{"v":1`:                 "invalid_json ",
		`{"v":1,`:                "invalid_json ",
		`{"v":1,}`:               "invalid_json ",
		`{"v"`:                   "invalid_json ",
		`{"v":`:                  "invalid_json /v",
		`{"v" 1}`:                "invalid_json ",
		`{,}`:                    "invalid_json ",
		`{"v":1 "x":2}`:          "invalid_json ",
		`{"v":1,"v":1}`:          "duplicate_key /v",
		`{"x":1,"x":2}`:          "null" + nulls,
		`{"\u0076":4}`:           "4" + nulls,
		`{"V":4}`:                "null" + nulls,
		`{"x":"\ud800"}`:         "null" + nulls,
		`{"\udfff":1}`:           "null" + nulls,
		"{\"x\":\"\xc3\x28\"}":   "invalid_utf8 /x",
		"{\"\xff\":1}":           "invalid_utf8 ",
		`{"x":{"y":tru}}`:        "invalid_json /x",
		`{"x":{"y":1,"z"}}`:      "invalid_json /x",
		`{"x":[1,{"a":1,}]}`:     "invalid_json /x",
		`{"x":-}`:                "invalid_json /x",
		`{"x":"\u12"}`:           "invalid_json /x",
		`{"x":` + deep + `}`:     "null" + nulls,
		`{"x":[[` + deep + `]]}`: "too_deep /x",
		`{"x":"` + strings.Repeat("y", 1000) + `"}`:                     "too_large ",
		`{"twelve bytes":1,"sixteen bytes 16":2,"v":3}`:                 "3 a longer name than eight bytes=null twelve bytes=1 sixteen bytes 16=2 q\"uo\\te<&>\u2028ü=null",
		`{"twelve bytez":1,"sixteen bytes_16":2,"v":3}`:                 "3" + nulls,
		`{"a longer name than eight bytes":7}`:                          "null a longer name than eight bytes=7 twelve bytes=null sixteen bytes 16=null q\"uo\\te<&>\u2028ü=null",
		"{\"q\\\"uo\\\\te<&>\u2028ü\":8,\"v\":1}":                       "1 a longer name than eight bytes=null twelve bytes=null sixteen bytes 16=null q\"uo\\te<&>\u2028ü=8",
		`{"q\u0022uo\\te<\u0026>\u2028\u00fc":8}`:                       "null a longer name than eight bytes=null twelve bytes=null sixteen bytes 16=null q\"uo\\te<&>\u2028ü=8",
		"{\"q\\\"uo\\\\te<&>\u2028ü\":8,\"q\\\"uo\\\\te<&>\u2028ü\":8}": "duplicate_key /q\"uo\\te<&>\u2028ü",
	} {
		if got := one(t, d, payload); got != want {
			t.Errorf("%.60q: %s, want %s", payload, got, want)
		}
	}
}

// The order of keys is predicted from the events before; every order gives the same row.
func TestKeysInAnyOrder(t *testing.T) {
	d := decoderOf(t, contractOf(t, `{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"},"c":{"type":"integer"}},"required":["b"]}`), Options{Mem: checked(t)})
	for range 3 {
		for _, payload := range []string{`{"a":1,"b":2,"c":3}`, `{"c":3,"b":2,"a":1}`, `{"b":2,"x":0,"a":1,"c":3}`, `{"c":3,"a":1,"y":{},"b":2}`, `{"x":9,"a":1,"c":3,"b":2,"z":9}`} {
			if got := one(t, d, payload); got != "a=1 b=2 c=3" {
				t.Errorf("%s: %s", payload, got)
			}
		}
		if got := one(t, d, `{"c":3,"a":1}`); got != "missing_field /b" {
			t.Error(got)
		}
	}
}

// A record that fails half-way leaves nothing behind in any column, however deep it stood.
func TestHalfRowsAreTakenBack(t *testing.T) {
	d := decoderOf(t, contractOf(t, `{"type":"object","properties":{
		"i":{"type":["integer","null"]},"s":{"type":["string","null"]},"b":{"type":["boolean","null"]},
		"l":{"type":"array","items":{"type":"object","properties":{"x":{"type":["string","null"]},"y":{"type":"array","items":{"type":"integer"}}}}},
		"m":{"type":"object","additionalProperties":{"type":["string","null"]}},
		"o":{"type":["object","null"],"properties":{"p":{"type":["string","null"]},"q":{"type":"string","format":"byte"}}},
		"end":{"type":"integer"}}}`), Options{Mem: checked(t)})
	good := []string{
		`{"i":1,"s":"one","b":true,"l":[{"x":"a","y":[1,2]},{"x":null}],"m":{"k":"v","n":null},"o":{"p":"p","q":"AAEC"},"end":1}`,
		`{"i":null,"s":null,"b":null,"o":null}`,
		`{}`,
		`{"i":4,"s":"four","l":[],"m":{},"o":{"p":null,"q":""},"end":4}`,
	}
	var bad []string
	for _, g := range good[:1] {
		for _, broken := range []string{`"end":"x"`, `"end":`, `"end":1,"end":2`} {
			bad = append(bad, strings.Replace(g, `"end":1`, broken, 1))
		}
		for _, cut := range []string{`"x":null`, `[1,2]`, `"n":null`, `"AAEC"`, `true`} {
			bad = append(bad, strings.Replace(g, cut, "!", 1), g[:strings.Index(g, cut)])
		}
	}
	bad = append(bad, `{"i":null,"s":null,"b":null,"o":null,"l":1}`)
	clean := mustDecode(t, d, good...)
	want := rowsJSON(t, clean.Rows)
	clean.Rows.Release()
	var mixed []string
	for i, b := range bad {
		mixed = append(mixed, b, good[i%len(good)], b)
	}
	out := mustDecode(t, d, mixed...)
	defer out.Rows.Release()
	if err := validate(out.Rows); err != nil {
		t.Fatal(err)
	}
	if len(out.Dead) != 2*len(bad) {
		t.Errorf("%d dead letters of %d bad records", len(out.Dead), 2*len(bad))
	}
	for i, row := range rowsJSON(t, out.Rows) {
		if row != want[i%len(good)] {
			t.Errorf("row %d\n  is  %s\nwant %s", i, row, want[i%len(good)])
		}
	}
}
