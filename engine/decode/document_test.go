package decode

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"pgregory.net/rapid"
)

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
	case kindDate, kindTime:
		if t.coded {
			g.b.WriteString(pick(rapid.OneOf(intNumber, intNumber, anyNumber)))
			return
		}
		g.text(pick(textOf(t)))
	case kindDecimal:
		if t.coded {
			g.text(base64.StdEncoding.EncodeToString(rapid.SliceOfN(rapid.Byte(), 0, 18).Draw(g.t, "bytes")))
			return
		}
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
