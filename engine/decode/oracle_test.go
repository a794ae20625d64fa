package decode

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"pgregory.net/rapid"
)

// everyKind is a contract with a field of each kind, some of them nested.
const everyKind = `{"type":"object","properties":{
	"s":{"type":["string","null"]},"en":{"type":"string","enum":["a","b","ü"]},"len":{"type":"string","minLength":1,"maxLength":3},
	"i":{"type":["integer","null"],"format":"int32"},"l":{"type":"integer","minimum":-1000000000000000000},"n":{"type":["number","null"]},"b":{"type":["boolean","null"]},
	"ts":{"type":["string","null"],"format":"date-time"},"ms":{"type":"integer","format":"epoch-ms"},"d":{"type":"string","format":"date"},
	"t":{"type":"string","format":"time"},"u":{"type":"string","format":"uuid"},"dec":{"type":"number","format":"decimal","x-precision":20,"x-scale":4},
	"tdec":{"type":["string","null"],"format":"decimal","x-precision":5,"x-scale":2},"bin":{"type":"string","format":"byte"},
	"arr":{"type":"array","items":{"type":["integer","null"]}},
	"m":{"type":["object","null"],"additionalProperties":{"type":"array","items":{"type":"string"}}},
	"o":{"type":["object","null"],"required":["x"],"properties":{"x":{"type":"integer"},"y":{"type":["string","null"]},
		"list":{"type":"array","items":{"type":["object","null"],"additionalProperties":false,"properties":{"z":{"type":"number"}}}}}}}}`

// node is a JSON value as encoding/json's tokens give it, doubled keys included.
type node struct {
	kind  byte // { [ " 0 t n
	text  string
	truth bool
	keys  []string
	kids  []node
}

func readNode(dec *json.Decoder) (node, error) {
	tok, err := dec.Token()
	if err != nil {
		return node{}, err
	}
	switch v := tok.(type) {
	case json.Delim:
		n := node{kind: byte(v)}
		for dec.More() {
			if v == '{' {
				key, err := dec.Token()
				if err != nil {
					return n, err
				}
				n.keys = append(n.keys, key.(string))
			}
			kid, err := readNode(dec)
			if err != nil {
				return n, err
			}
			n.kids = append(n.kids, kid)
		}
		_, err := dec.Token()
		return n, err
	case string:
		return node{kind: '"', text: v}, nil
	case json.Number:
		return node{kind: '0', text: v.String()}, nil
	case bool:
		return node{kind: 't', truth: v}, nil
	}
	return node{kind: 'n'}, nil
}

func (n *node) depth() int {
	deepest := 0
	for i := range n.kids {
		deepest = max(deepest, n.kids[i].depth())
	}
	if n.kind == '{' || n.kind == '[' {
		return deepest + 1
	}
	return 0
}

// refused is the oracle's dead letter.
type refused struct{ reason, place string }

func (r *refused) under(token string) *refused {
	r.place = "/" + escapePointer(cut(token, maxPlaceName)) + r.place
	return r
}

var jsonKindOf = map[kind]byte{kindInt: '0', kindLong: '0', kindEpoch: '0', kindDouble: '0', kindBool: 't', kindStruct: '{', kindMap: '{', kindList: '['}

// reference says what a value of the contract's type is, in plain Go, or why it is refused. depth is the nesting around it.
func reference(t *valueType, n *node, depth int) (any, *refused) {
	want, ok := jsonKindOf[t.kind]
	switch {
	case t.kind == kindDecimal && !t.text:
		want = '0'
	case !ok:
		want = '"'
	}
	if n.kind != want {
		if n.kind == 'n' && t.nullable {
			return nil, nil
		}
		if depth+n.depth() > DefaultMaxDepth {
			return nil, &refused{ReasonTooDeep, ""}
		}
		return nil, &refused{ReasonWrongType, ""}
	}
	switch t.kind {
	case kindStruct:
		return referenceStruct(t, n, depth)
	case kindList:
		out := []any{}
		for i := range n.kids {
			v, bad := reference(t.elem, &n.kids[i], depth+1)
			if bad != nil {
				return nil, bad.under(strconv.Itoa(i))
			}
			out = append(out, v)
		}
		return out, nil
	case kindMap:
		out, seen := []any{}, map[string]bool{}
		for i := range n.kids {
			v, bad := reference(t.elem, &n.kids[i], depth+1)
			if bad != nil {
				return nil, bad.under(n.keys[i])
			}
			out = append(out, []any{n.keys[i], v})
		}
		for _, k := range n.keys {
			if seen[k] {
				return nil, (&refused{ReasonDuplicateKey, ""}).under(k)
			}
			seen[k] = true
		}
		return out, nil
	case kindBool:
		return n.truth, nil
	case kindInt, kindLong, kindEpoch, kindDouble:
		return referenceNumber(t, n.text)
	}
	return referenceText(t, n.text)
}

func referenceStruct(t *valueType, n *node, depth int) (any, *refused) {
	out := make([]any, len(t.fields))
	seen := make([]bool, len(t.fields))
next:
	for i, key := range n.keys {
		for j, f := range t.fields {
			if f.name != key {
				continue
			}
			if seen[j] {
				return nil, (&refused{ReasonDuplicateKey, ""}).under(key)
			}
			v, bad := reference(f.typ, &n.kids[i], depth+1)
			if bad != nil {
				return nil, bad.under(key)
			}
			out[j], seen[j] = v, true
			continue next
		}
		if t.closed {
			return nil, (&refused{ReasonUnknownField, ""}).under(key)
		}
		if depth+1+n.kids[i].depth() > DefaultMaxDepth {
			return nil, (&refused{ReasonTooDeep, ""}).under(key)
		}
	}
	for j, f := range t.fields {
		if f.required && !seen[j] {
			return nil, (&refused{ReasonMissingField, ""}).under(f.name)
		}
	}
	return out, nil
}

// referenceNumber works on exact fractions. Exponents beyond any type's range are told apart by their text alone,
// because a fraction of a billion digits is no way to test.
func referenceNumber(t *valueType, text string) (any, *refused) {
	if t.kind == kindDouble {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, &refused{ReasonOutOfRange, ""}
		}
		return math.Float64bits(f), nil
	}
	r, huge, tiny := exact(text)
	switch {
	case huge:
		return nil, &refused{ReasonOutOfRange, ""}
	case tiny || !r.IsInt():
		return nil, &refused{ReasonWrongType, ""}
	case !r.Num().IsInt64():
		return nil, &refused{ReasonOutOfRange, ""}
	}
	v := r.Num().Int64()
	switch {
	case t.checks != nil && t.checks.minInt != nil && v < *t.checks.minInt,
		t.kind == kindInt && (v < math.MinInt32 || v > math.MaxInt32),
		t.kind == kindEpoch && (v < -62_167_219_200_000 || v > 253_402_300_799_999):
		return nil, &refused{ReasonOutOfRange, ""}
	}
	return v * max(t.epochUnit, 1), nil
}

func exact(text string) (r *big.Rat, huge, tiny bool) {
	mantissa, exp, _ := strings.Cut(strings.ToLower(text), "e")
	if !strings.ContainsAny(mantissa, "123456789") {
		return new(big.Rat), false, false
	}
	if e, err := strconv.Atoi(exp); exp != "" && (err != nil || e > 5000 || e < -5000) {
		return nil, exp[0] != '-', exp[0] == '-'
	}
	r, _ = new(big.Rat).SetString(text)
	return r, false, false
}

var (
	refTimestamp = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d+))?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$`)
	refTime      = regexp.MustCompile(`^((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d+))?([Zz]|[+-]00:00)?$`)
	refUUID      = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

func micros6(digits string) int64 {
	v, _ := strconv.ParseInt((digits + "000000")[:6], 10, 64)
	return v
}

func referenceText(t *valueType, s string) (any, *refused) {
	malformed := &refused{ReasonInvalidFormat, ""}
	switch t.kind {
	case kindTimestamp:
		m := refTimestamp.FindStringSubmatch(s)
		if m == nil {
			return nil, malformed
		}
		at, err := time.Parse(time.RFC3339, m[1]+"T"+m[2]+strings.ToUpper(m[4]))
		if us := at.UnixMicro() + micros6(m[3]); err == nil && us >= minMicros && us <= maxMicros {
			return us, nil
		}
		return nil, malformed
	case kindDate:
		if at, err := time.Parse(time.DateOnly, s); err == nil && len(s) == 10 {
			return at.Unix() / 86400, nil
		}
		return nil, malformed
	case kindTime:
		m := refTime.FindStringSubmatch(s)
		if m == nil {
			return nil, malformed
		}
		at, _ := time.Parse(time.TimeOnly, m[1])
		return int64(at.Hour()*3600+at.Minute()*60+at.Second())*1_000_000 + micros6(m[2]), nil
	case kindUUID:
		if !refUUID.MatchString(s) {
			return nil, malformed
		}
		id, _ := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
		return id, nil
	case kindBinary:
		raw, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil || strings.ContainsAny(s, "\r\n") {
			return nil, malformed
		}
		return raw, nil
	case kindDecimal:
		if t.text && (s == "" || strings.TrimSpace(s) != s || !json.Valid([]byte(s)) || (s[0] != '-' && s[0]-'0' > 9)) {
			return nil, malformed
		}
		return referenceDecimal(t, s)
	}
	if c := t.checks; c != nil {
		if n := utf8.RuneCountInString(s); c.hasLen && (n < c.minLen || (c.maxLen >= 0 && n > c.maxLen)) {
			return nil, &refused{ReasonOutOfRange, ""}
		}
		if c.hasEnum && !c.inEnum([]byte(s)) {
			return nil, &refused{ReasonNotInEnum, ""}
		}
	}
	return s, nil
}

func referenceDecimal(t *valueType, s string) (any, *refused) {
	r, huge, tiny := exact(s)
	if huge || tiny {
		return nil, &refused{ReasonOutOfRange, ""}
	}
	pow := func(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }
	r.Mul(r, new(big.Rat).SetInt(pow(t.scale)))
	if !r.IsInt() || new(big.Int).Abs(r.Num()).Cmp(pow(t.precision)) >= 0 {
		return nil, &refused{ReasonOutOfRange, ""}
	}
	return r.Num().String(), nil
}

// stored reads an Arrow value back as the same plain Go.
func stored(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.String:
		return a.Value(i)
	case *array.Int32:
		return int64(a.Value(i))
	case *array.Int64:
		return a.Value(i)
	case *array.Float64:
		return math.Float64bits(a.Value(i))
	case *array.Boolean:
		return a.Value(i)
	case *array.Timestamp:
		return int64(a.Value(i))
	case *array.Date32:
		return int64(a.Value(i))
	case *array.Time64:
		return int64(a.Value(i))
	case *extensions.UUIDArray:
		id := a.Value(i)
		return id[:]
	case *array.Decimal128:
		return a.Value(i).BigInt().String()
	case *array.Binary:
		return append([]byte{}, a.Value(i)...)
	case *array.Map:
		from, to := a.ValueOffsets(i)
		out := []any{}
		for j := int(from); j < int(to); j++ {
			out = append(out, []any{stored(a.Keys(), j), stored(a.Items(), j)})
		}
		return out
	case *array.List:
		from, to := a.ValueOffsets(i)
		out := []any{}
		for j := int(from); j < int(to); j++ {
			out = append(out, stored(a.ListValues(), j))
		}
		return out
	case *array.Struct:
		out := make([]any, a.NumField())
		for j := range out {
			out[j] = stored(a.Field(j), i)
		}
		return out
	}
	return fmt.Sprintf("unexpected array %T", a)
}

func equalPlain(a, b any) bool { return reflect.DeepEqual(a, b) }

var loneEscape = regexp.MustCompile(`(?i)\\ud[89a-f]`)

// against compares what the decoder made of one payload with encoding/json and the reference.
func against(c *Contract, d *JSON, payload []byte) error {
	f := fetchOf(string(payload))
	out, err := d.Decode(f)
	if err != nil {
		return err
	}
	if out.Rows != nil {
		defer out.Rows.Release()
		if err := validate(out.Rows); err != nil {
			return err
		}
	}
	if n := len(out.Dead); (out.Rows != nil) == (n > 0) || n > 1 {
		return fmt.Errorf("row: %v, dead letters: %d", out.Rows != nil, n)
	}
	if len(out.Dead) == 1 {
		l := out.Dead[0]
		if !utf8.ValidString(l.Place) || !utf8.ValidString(l.Message) {
			return fmt.Errorf("place %q or message %q is not UTF-8", l.Place, l.Message)
		}
		if !bytes.Equal(l.Value, payload) {
			return fmt.Errorf("the dead letter's value is %q", l.Value)
		}
	}
	sound := json.Valid(payload) && utf8.Valid(payload)
	if !sound {
		if out.Rows != nil {
			return fmt.Errorf("taken, and encoding/json refuses it or it is not UTF-8")
		}
		return nil
	}
	if out.Rows == nil && out.Dead[0].Reason == ReasonInvalidJSON {
		return fmt.Errorf("refused as %+v, and encoding/json takes it", out.Dead[0])
	}
	if loneEscape.Match(payload) {
		return nil // encoding/json does not tell a lone surrogate from U+FFFD
	}
	return compare(c, payload, out.Rows, func() refused { return refused{out.Dead[0].Reason, out.Dead[0].Place} })
}

func compare(c *Contract, payload []byte, rows arrow.RecordBatch, dead func() refused) error {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	n, err := readNode(dec)
	if err != nil {
		return err
	}
	want, bad := reference(c.root, &n, 0)
	if rows == nil {
		if got := dead(); bad == nil || got != *bad {
			return fmt.Errorf("refused as %+v, the reference says %+v", got, bad)
		}
		return nil
	}
	if bad != nil {
		return fmt.Errorf("taken, the reference refuses it as %+v", *bad)
	}
	got := make([]any, len(c.root.fields))
	for i := range got {
		got[i] = stored(rows.Column(i), 0)
	}
	if !equalPlain(got, want) {
		return fmt.Errorf("stored %v, the reference says %v", got, want)
	}
	return nil
}

// document generates an event of a contract as text: mostly fitting values, keys in any order, some doubled or foreign,
// whitespace and escapes anywhere.
type document struct {
	t *rapid.T
	b bytes.Buffer
}

func (g *document) chance(percent int, what string) bool {
	return rapid.IntRange(0, 99).Draw(g.t, what) < percent
}

func (g *document) space() {
	if g.chance(10, "space") {
		g.b.WriteString(rapid.SampledFrom([]string{" ", "\n", "\t \r\n", "    "}).Draw(g.t, "blanks"))
	}
}

func (g *document) text(s string) {
	g.b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			g.b.WriteString(`\` + string(r))
		case r < ' ' || (r < 0xffff && g.chance(5, "escape")):
			fmt.Fprintf(&g.b, `\u%04x`, r)
		default:
			g.b.WriteRune(r)
		}
	}
	g.b.WriteByte('"')
}

var (
	anyText   = rapid.StringOf(rapid.OneOf(rapid.RuneFrom([]rune(`abcäß雪🏔"\/ `)), rapid.RuneFrom([]rune{0, 7, '\n', 0x7f, 0x2028, 0xfffd, 0x10ffff})))
	anyNumber = rapid.StringMatching(`-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,4})?`)
	intNumber = rapid.OneOf(rapid.StringMatching(`-?(0|[1-9][0-9]{0,8})`), rapid.StringMatching(`-?[1-9][0-9]{8,19}(\.0{1,3}|[eE][0-2])?`))
	foreign   = rapid.SampledFrom([]string{`null`, `true`, `1`, `"x"`, `[]`, `{}`, `[1,{"a":[null]}]`, `{"k":{"l":"m"}}`,
		strings.Repeat("[", 63) + strings.Repeat("]", 63), strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70)})
)

func (g *document) value(t *valueType) {
	g.space()
	defer g.space()
	if g.chance(2, "foreign value") {
		g.b.WriteString(foreign.Draw(g.t, "value"))
		return
	}
	if t.nullable && g.chance(15, "null") {
		g.b.WriteString("null")
		return
	}
	pick := func(g2 *rapid.Generator[string]) string { return g2.Draw(g.t, "value") }
	switch t.kind {
	case kindStruct:
		g.object(t)
	case kindList:
		g.b.WriteByte('[')
		for i := range rapid.IntRange(0, 4).Draw(g.t, "elements") {
			if i > 0 {
				g.b.WriteByte(',')
			}
			g.value(t.elem)
		}
		g.space()
		g.b.WriteByte(']')
	case kindMap:
		g.b.WriteByte('{')
		for i := range rapid.IntRange(0, 20).Draw(g.t, "members") {
			if i > 0 {
				g.b.WriteByte(',')
			}
			g.text("k" + strconv.Itoa(rapid.IntRange(0, 200).Draw(g.t, "key")))
			g.b.WriteByte(':')
			g.value(t.elem)
		}
		g.b.WriteByte('}')
	case kindBool:
		g.b.WriteString(pick(rapid.SampledFrom([]string{"true", "false"})))
	case kindInt, kindLong, kindEpoch:
		g.b.WriteString(pick(rapid.OneOf(intNumber, intNumber, anyNumber)))
	case kindDouble:
		g.b.WriteString(pick(anyNumber))
	case kindDecimal:
		if s := pick(rapid.OneOf(rapid.StringMatching(`-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,2})?`), anyNumber)); t.text {
			g.text(s)
		} else {
			g.b.WriteString(s)
		}
	default:
		g.text(pick(textOf(t)))
	}
}

func textOf(t *valueType) *rapid.Generator[string] {
	switch t.kind {
	case kindTimestamp:
		return rapid.StringMatching(`[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-][01][0-9]:[0-5][0-9])`)
	case kindDate:
		return rapid.StringMatching(`[0-9]{4}-[01][0-9]-[0-3][0-9]`)
	case kindTime:
		return rapid.StringMatching(`[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|\+00:00|\+01:00)?`)
	case kindUUID:
		return rapid.StringMatching(`[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9A-Fg]{12}`)
	case kindBinary:
		return rapid.StringMatching(`([A-Za-z0-9+/]{4}){0,5}([AQgw]{2}==)?`)
	}
	if t.checks != nil && t.checks.hasEnum {
		return rapid.SampledFrom([]string{"a", "b", "ü", "c"})
	}
	return anyText
}

func (g *document) object(t *valueType) {
	g.b.WriteByte('{')
	order := rapid.Permutation(t.fields).Draw(g.t, "order")
	if g.chance(50, "in order") {
		order = t.fields
	}
	n := 0
	member := func(key string, value func()) {
		if n++; n > 1 {
			g.b.WriteByte(',')
		}
		g.space()
		g.text(key)
		g.space()
		g.b.WriteByte(':')
		value()
	}
	for _, f := range order {
		if g.chance(8, "foreign key") {
			member(anyText.Draw(g.t, "key"), func() { g.b.WriteString(foreign.Draw(g.t, "value")) })
		}
		if g.chance(10, "absent") {
			continue
		}
		member(f.name, func() { g.value(f.typ) })
		if g.chance(1, "doubled") {
			member(f.name, func() { g.value(f.typ) })
		}
	}
	g.space()
	g.b.WriteByte('}')
}

// Documents of a contract with every kind, held against encoding/json and a plain reference, value by value and reason by reason.
func TestAgainstEncodingJSON(t *testing.T) {
	c := contractOf(t, everyKind)
	d := decoderOf(t, c, Options{Mem: checked(t)})
	rapid.Check(t, func(rt *rapid.T) {
		g := &document{t: rt}
		g.value(c.root)
		if err := against(c, d, g.b.Bytes()); err != nil {
			rt.Fatalf("%s\n%v", g.b.Bytes(), err)
		}
	})
}

// Any bytes: no panic, taken only if encoding/json takes them, and then with the same values.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{``, `{}`, event, `{"s":"\u00e4\ud83c\udfd4","i":-0,"n":1e-7,"ts":"2026-06-04T11:01:23.456+02:00","arr":[1,null],"m":{"k":["v"]},"o":{"x":1,"list":[{"z":1.5},null]}}`,
		`{"t":"11:01:23","u":"6ba7b810-9dad-11d1-80b4-00c04fd430c8","dec":1.25,"tdec":"1.2","bin":"AAEC","d":"2026-06-04","ms":1780570883456,"b":true,"en":"ü","len":"abc"}`,
		`{"x":[{"y":[1.5e3,"\n",false]}],"l":9223372036854775808}`, "{\"s\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	c := contractOf(f, everyKind)
	d := decoderOf(f, c, Options{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if err := against(c, d, payload); err != nil {
			t.Fatalf("%q\n%v", payload, err)
		}
	})
}

// Numbers alone, many of them: the fast paths against the exact ones.
func TestNumbersAgainstStrconv(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := anyNumber.Draw(rt, "number")
		b := append([]byte(text), zeroPad[:]...)
		if end := numberEnd(b, 0); end != len(text) {
			rt.Fatalf("%s ends at %d", text, end)
		}
		want, err := strconv.ParseFloat(text, 64)
		got, end, res := parseDouble(b, 0)
		if (err != nil) != (res == numTooBig) || (err == nil && (math.Float64bits(got) != math.Float64bits(want) || end != len(text))) {
			rt.Fatalf("%s: %v %v %v, strconv says %v %v", text, got, end, res, want, err)
		}
	})
}
