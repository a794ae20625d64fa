package decode

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/firnlake/firn/engine"
)

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
	r.place = "/" + engine.EscapePointer(cut(token, maxPlaceName)) + r.place
	return r
}

var jsonKindOf = map[kind]byte{kindInt: '0', kindLong: '0', kindEpoch: '0', kindDouble: '0', kindBool: 't', kindStruct: '{', kindMap: '{', kindList: '['}

// reference says what a value of the contract's type is, in plain Go, or why it is refused. depth is the nesting around it.
func reference(t *valueType, n *node, depth int) (any, *refused) {
	want, ok := jsonKindOf[t.kind]
	if !t.text && (t.kind == kindDecimal || t.coded) {
		want, ok = '0', true
	}
	if !ok {
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
	case kindDate, kindTime:
		if t.coded {
			return referenceNumber(t, n.text)
		}
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
	if t.nanos {
		v = new(big.Int).Div(r.Num(), big.NewInt(1000)).Int64() // rounds down
	}
	day := int64(86_400_000_000) / max(t.epochUnit, 1)
	switch {
	case t.checks != nil && t.checks.minInt != nil && v < *t.checks.minInt,
		t.kind == kindInt && (v < math.MinInt32 || v > math.MaxInt32),
		t.kind == kindDate && (v < -719_528 || v > 2_932_896), t.kind == kindTime && (v < 0 || v >= day),
		t.kind == kindEpoch && !t.nanos && (v < -62_167_219_200_000 || v > 253_402_300_799_999):
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
		if t.coded {
			raw, err := base64.StdEncoding.Strict().DecodeString(s)
			if err != nil || strings.ContainsAny(s, "\r\n") || len(raw) == 0 {
				return nil, malformed
			}
			x := new(big.Int).SetBytes(raw)
			if raw[0] >= 0x80 {
				x.Sub(x, new(big.Int).Lsh(big.NewInt(1), uint(8*len(raw))))
			}
			if new(big.Int).Abs(x).Cmp(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.precision)), nil)) >= 0 {
				return nil, &refused{ReasonOutOfRange, ""}
			}
			return x.String(), nil
		}
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
