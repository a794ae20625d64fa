package decode

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
)

// limits reads enum, const, ranges, lengths and pattern of a schema into v.checks.
func (p *contractParser) limits(t *tree, v *valueType, at string) error {
	c := &checks{maxLen: -1}
	if err := p.enum(t, v, c, at); err != nil {
		return err
	}
	if err := p.ranges(t, v, c, at); err != nil {
		return err
	}
	if err := p.lengths(t, v, c, at); err != nil {
		return err
	}
	if c.hasEnum && v.nullable {
		v.nullable = c.enumAllowsNull
	}
	if err := p.action(t, v, at); err != nil {
		return err
	}
	if c.hasEnum || c.hasLen || c.pattern != nil || c.rangeDescription != "" {
		v.checks = c
	}
	return nil
}

func (p *contractParser) enum(t *tree, v *valueType, c *checks, at string) error {
	list, where := t.get("enum"), at+"/enum"
	if k := t.get("const"); k != nil {
		if list != nil {
			return problemf(at+"/const", "const and enum together: keep one")
		}
		list, where = &tree{isArr: true, vals: []*tree{k}}, at+"/const"
	}
	if list == nil {
		return nil
	}
	if !list.isArr || len(list.vals) == 0 {
		return problemf(where, "must be a list of at least one value")
	}
	c.hasEnum = true
	for i, e := range list.vals {
		if e.isNull() {
			if !v.nullable {
				return problemf(where+"/"+strconv.Itoa(i), `null is listed and the type does not allow it: write "type": ["%s","null"]`, v.jsonKind())
			}
			c.enumAllowsNull = true
			continue
		}
		here := where
		if t.get("const") == nil {
			here += "/" + strconv.Itoa(i)
		}
		if err := enumValue(e, v, c, here); err != nil {
			return err
		}
		if len(c.enumDescription) < 200 {
			c.enumDescription += fmt.Sprintf(", %v", e.scalar)
		} else if i == len(list.vals)-1 {
			c.enumDescription += ", …"
		}
	}
	c.enumDescription = c.enumDescription[min(2, len(c.enumDescription)):]
	return nil
}

func enumValue(e *tree, v *valueType, c *checks, at string) error {
	ok := false
	switch v.kind {
	case kindString:
		var s string
		if s, ok = e.str(); ok {
			c.strings = append(c.strings, s)
		}
	case kindInt, kindLong:
		n, err := wholeNumber(e)
		if ok = err == nil; ok {
			c.ints = append(c.ints, n)
		}
	case kindDouble:
		n, err := floatNumber(e)
		if ok = err == nil; ok {
			c.doubles = append(c.doubles, n)
		}
	case kindBool:
		var b bool
		if b, ok = e.scalar.(bool); ok {
			c.bools = append(c.bools, b)
		}
	default:
		return problemf(at, "enum is supported for strings, integers, numbers and booleans, not for %s", kindNames[v.kind])
	}
	if !ok {
		return problemf(at, "is %s and the type is %s", e.describe(), v.jsonKind())
	}
	return nil
}

func wholeNumber(t *tree) (int64, error) {
	n, ok := t.scalar.(json.Number)
	if !ok {
		return 0, fmt.Errorf("not a number")
	}
	v, res := exactInt([]byte(n))
	if res != numOK {
		return 0, fmt.Errorf("not a whole number of 64 bits")
	}
	return v, nil
}

func floatNumber(t *tree) (float64, error) {
	n, ok := t.scalar.(json.Number)
	if !ok {
		return 0, fmt.Errorf("not a number")
	}
	return n.Float64()
}

// ranges reads the four bounds. Exclusive ones become inclusive ones of the neighbouring value of the type.
func (p *contractParser) ranges(t *tree, v *valueType, c *checks, at string) error {
	for _, key := range numberKeywords {
		b := t.get(key)
		if b == nil {
			continue
		}
		num, ok := b.scalar.(json.Number)
		if !ok {
			return problemf(at+"/"+key, "must be a number, this is %s", b.describe())
		}
		lower, exclusive := key == "minimum" || key == "exclusiveMinimum", key[0] == 'e'
		if err := c.bound(v, num, lower, exclusive, at+"/"+key); err != nil {
			return err
		}
		word := map[string]string{"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than", "exclusiveMaximum": "less than"}[key]
		if c.rangeDescription != "" {
			c.rangeDescription += " and "
		}
		c.rangeDescription += word + " " + num.String()
	}
	if c.rangeEmpty() {
		return problemf(at, "no number is %s: change one of the bounds", c.rangeDescription)
	}
	return nil
}

// rangeEmpty tells that the bounds leave no value: every event would be a dead letter.
func (c *checks) rangeEmpty() bool {
	return c.minInt != nil && c.maxInt != nil && *c.minInt > *c.maxInt ||
		c.minNum != nil && c.maxNum != nil && *c.minNum > *c.maxNum ||
		c.minDec != nil && c.maxDec != nil && c.maxDec.less(*c.minDec)
}

func (c *checks) bound(v *valueType, num json.Number, lower, exclusive bool, at string) error {
	switch v.kind {
	case kindInt, kindLong, kindEpoch:
		n, res := exactInt([]byte(num))
		if res != numOK {
			return problemf(at, "the bound of an integer must be a whole number of 64 bits")
		}
		switch {
		case exclusive && lower && n == math.MaxInt64, exclusive && !lower && n == math.MinInt64:
			return problemf(at, "no 64-bit integer lies beyond %d", n)
		case exclusive && lower:
			n++
		case exclusive:
			n--
		}
		if lower {
			c.minInt = tighter(c.minInt, n, func(a, b int64) bool { return a > b })
		} else {
			c.maxInt = tighter(c.maxInt, n, func(a, b int64) bool { return a < b })
		}
	case kindDouble, kindFloat:
		f, err := num.Float64()
		if err != nil {
			return problemf(at, "the bound does not fit a double")
		}
		if exclusive && lower {
			f = math.Nextafter(f, math.Inf(1))
		} else if exclusive {
			f = math.Nextafter(f, math.Inf(-1))
		}
		if lower {
			c.minNum = tighter(c.minNum, f, func(a, b float64) bool { return a > b })
		} else {
			c.maxNum = tighter(c.maxNum, f, func(a, b float64) bool { return a < b })
		}
	case kindDecimal:
		d, res := parseDecimal([]byte(num), 38, v.scale)
		if res != numOK {
			return problemf(at, "the bound must fit scale %d", v.scale)
		}
		if exclusive && lower {
			d = d.add(1)
		} else if exclusive {
			d = d.add(-1)
		}
		if lower {
			c.minDec = tighter(c.minDec, d, func(a, b dec128) bool { return b.less(a) })
		} else {
			c.maxDec = tighter(c.maxDec, d, func(a, b dec128) bool { return a.less(b) })
		}
	default:
		return problemf(at, "a bound needs an integer or a number, this is %s", kindNames[v.kind])
	}
	return nil
}

func tighter[T any](old *T, n T, tighterThan func(a, b T) bool) *T {
	if old != nil && !tighterThan(n, *old) {
		return old
	}
	return &n
}

func (p *contractParser) lengths(t *tree, v *valueType, c *checks, at string) error {
	for _, key := range []string{"minLength", "maxLength"} {
		b := t.get(key)
		if b == nil {
			continue
		}
		n, err := wholeNumber(b)
		if err != nil || n < 0 || n > math.MaxInt32 {
			return problemf(at+"/"+key, "must be a whole number, 0 or more")
		}
		if v.kind != kindString {
			return problemf(at+"/"+key, "lengths are supported for plain strings, this is %s", kindNames[v.kind])
		}
		if c.hasLen = true; key == "minLength" {
			c.minLen = int(n)
		} else {
			c.maxLen = int(n)
		}
	}
	if c.maxLen >= 0 && c.minLen > c.maxLen {
		return problemf(at+"/maxLength", "no string has %d to %d characters: change one of the bounds", c.minLen, c.maxLen)
	}
	pat := t.get("pattern")
	if pat == nil {
		return nil
	}
	expr, ok := pat.str()
	if !ok || v.kind != kindString {
		return problemf(at+"/pattern", "a pattern is a string beside a plain string type")
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return problemf(at+"/pattern", "%v; patterns are RE2 (no look-around, no back references)", err)
	}
	c.pattern = re
	return nil
}

func (c *checks) intOK(v int64) bool {
	return (c.minInt == nil || v >= *c.minInt) && (c.maxInt == nil || v <= *c.maxInt)
}

func (c *checks) numOK(v float64) bool {
	return (c.minNum == nil || v >= *c.minNum) && (c.maxNum == nil || v <= *c.maxNum)
}

func (c *checks) decOK(v dec128) bool {
	return (c.minDec == nil || !v.less(*c.minDec)) && (c.maxDec == nil || !c.maxDec.less(v))
}

func (c *checks) inEnum(s []byte) bool {
	for _, e := range c.strings {
		if string(s) == e {
			return true
		}
	}
	return false
}

func (c *checks) inEnumInt(v int64) bool   { return slices.Contains(c.ints, v) }
func (c *checks) inEnumNum(v float64) bool { return slices.Contains(c.doubles, v) }
func (c *checks) inEnumBool(v bool) bool   { return slices.Contains(c.bools, v) }
