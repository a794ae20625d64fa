package decode

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Action is what is done with an event that breaks a rule of its contract.
type Action string

// The actions. They are labels of metrics: never rename one.
const (
	ActionDeadLetter Action = "dead_letter"   // the event gives a dead letter instead of a row
	ActionNull       Action = "null"          // the value is left out of the row
	ActionFlag       Action = "keep_and_flag" // the row is kept as it is, and says in ledger.ColViolations what is wrong with it
)

// SetNull takes YAML's null, as in `on_violation: null`, for the action of that name.
func (a *Action) SetNull() { *a = ActionNull }

// Rules are what a pipeline demands of its events beside the types of their columns, in any format.
type Rules struct {
	OnViolation Action   `yaml:"on_violation" jsonschema:"enum=dead_letter,enum=null,enum=keep_and_flag" jsonschema_description:"What a broken rule does when the rule itself does not say; default dead_letter."`
	Rules       []Rule   `yaml:"rules" jsonschema_description:"Demands on columns."`
	Complete    []string `yaml:"complete" jsonschema_description:"Columns that an event must have to count as complete, beside those that are required."`
}

// Rule is what one column must keep. A value that is null breaks Required alone.
type Rule struct {
	Column      string   `yaml:"column" jsonschema:"required" jsonschema_description:"Dotted path of the column, such as key.user_id."`
	Required    bool     `yaml:"required" jsonschema_description:"The value must be there."`
	Min         string   `yaml:"min" jsonschema_description:"Least value of a number, a date or an instant (RFC 3339)."`
	Max         string   `yaml:"max" jsonschema_description:"Greatest value."`
	OneOf       []string `yaml:"one_of" jsonschema_description:"The values that a string or an integer may have."`
	Pattern     string   `yaml:"pattern" jsonschema_description:"Regular expression (RE2) that must be found in the string; ^…$ for the whole."`
	MinLength   *int     `yaml:"min_length" jsonschema_description:"Least number of characters of a string."`
	MaxLength   *int     `yaml:"max_length" jsonschema_description:"Greatest number of characters."`
	OnViolation Action   `yaml:"on_violation" jsonschema:"enum=dead_letter,enum=null,enum=keep_and_flag" jsonschema_description:"What is done with an event that breaks the rule: it becomes a dead letter, the value becomes null, or the row is kept and _contract_violations names the rule."`
}

// maxRules bounds the rules of one pipeline: each is looked at for each event, and is a label of a metric.
const maxRules = 1000

// rule is one demand on one column, ready but for the column.
type rule struct {
	path   []string
	typ    *valueType
	reason string
	action Action
	checks *checks // of one kind; nil for a value that must be there
	within bool    // the value must be there only where the struct around it is, as JSON Schema says
}

func (r *rule) column() string { return strings.Join(r.path, ".") }

// Validate names the first value that cannot be used, as far as the events are not needed for that.
func (r Rules) Validate() error {
	if err := r.OnViolation.check(); err != nil {
		return fmt.Errorf("on_violation: %w", err)
	}
	if len(r.Rules) > maxRules {
		return fmt.Errorf("rules: %d rules, at most %d", len(r.Rules), maxRules)
	}
	for i, one := range r.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		if one.Column == "" {
			return fmt.Errorf("%s.column: name the column, such as key.user_id", at)
		}
		if err := one.OnViolation.check(); err != nil {
			return fmt.Errorf("%s.on_violation: %w", at, err)
		}
		if !one.Required && one.Min == "" && one.Max == "" && len(one.OneOf) == 0 && one.Pattern == "" && one.MinLength == nil && one.MaxLength == nil {
			return fmt.Errorf("%s: column %s has no demand: set required, min, max, one_of, pattern, min_length or max_length", at, one.Column)
		}
	}
	return nil
}

func (a Action) check() error {
	switch a {
	case "", ActionDeadLetter, ActionNull, ActionFlag:
		return nil
	}
	return fmt.Errorf("%q is none of dead_letter, null, keep_and_flag", string(a))
}

// WithRules returns the contract with rules for its columns added. Errors wrap ErrContract and name the column.
func (c *Contract) WithRules(rs Rules) (*Contract, error) {
	if err := rs.Validate(); err != nil {
		return nil, fmt.Errorf("%w: contract.%w", ErrContract, err)
	}
	out := *c
	out.rules, out.complete = slices.Clone(c.rules), slices.Clone(c.complete)
	for i, r := range rs.Rules {
		if r.OnViolation == "" {
			r.OnViolation = rs.OnViolation
		}
		if err := out.addRule(r); err != nil {
			return nil, fmt.Errorf("%w: contract.rules[%d]: column %s of %s: %w", ErrContract, i, r.Column, c.Name, err)
		}
	}
	for i, path := range rs.Complete {
		if c.find(path) == nil {
			return nil, fmt.Errorf("%w: contract.complete[%d]: %s has no column %s%s", ErrContract, i, c.Name, path, c.hint(path))
		}
		out.complete = append(out.complete, strings.Split(path, "."))
	}
	return &out, nil
}

// hint proposes the nearest column of the contract.
func (c *Contract) hint(path string) string {
	var known []string
	c.root.walk(nil, func(p []string, _ field) { known = append(known, strings.Join(p, ".")) })
	if n := nearest(path, known); n != "" {
		return fmt.Sprintf("; the nearest is %s", n)
	}
	return ""
}

// walk calls fn with each field that is reached through structs alone.
func (t *valueType) walk(path []string, fn func([]string, field)) {
	for _, f := range t.fields {
		p := append(slices.Clip(path), f.name)
		fn(p, f)
		f.typ.walk(p, fn)
	}
}

func (c *Contract) addRule(r Rule) error {
	var typ *valueType
	optional := false
	c.root.walk(nil, func(p []string, f field) {
		if strings.Join(p, ".") == r.Column {
			typ, optional = f.typ, f.typ.nullable || !f.required
		}
	})
	if typ == nil {
		return fmt.Errorf("there is no such column outside lists and maps%s", c.hint(r.Column))
	}
	if r.OnViolation == "" {
		r.OnViolation = ActionDeadLetter
	}
	switch {
	case r.OnViolation == ActionNull && !optional:
		return fmt.Errorf("on_violation: null needs an optional column, and the schema (#%s) requires it: make it optional there, or take dead_letter or keep_and_flag", typ.pointer)
	case r.OnViolation == ActionNull && r.Required:
		return fmt.Errorf("on_violation: null means nothing for required, the value is null already: take dead_letter or keep_and_flag")
	}
	all, err := r.checks(typ)
	if err != nil {
		return err
	}
	base := rule{path: strings.Split(r.Column, "."), typ: typ, action: r.OnViolation}
	if r.Required {
		one := base
		one.reason = ReasonMissingField
		c.rules = append(c.rules, one)
	}
	c.rules = append(c.rules, base.split(all)...)
	return nil
}

// checks reads the rule's bounds by the type of the column.
func (r *Rule) checks(t *valueType) (*checks, error) {
	c := &checks{maxLen: -1}
	for _, b := range []struct {
		text, key string
		lower     bool
	}{{r.Min, "min", true}, {r.Max, "max", false}} {
		if b.text == "" {
			continue
		}
		if err := c.limit(t, b.text, b.lower); err != nil {
			return nil, fmt.Errorf("%s: %w", b.key, err)
		}
		if c.rangeDescription != "" {
			c.rangeDescription += " and "
		}
		c.rangeDescription += map[bool]string{true: "at least ", false: "at most "}[b.lower] + b.text
	}
	if c.rangeEmpty() {
		return nil, fmt.Errorf("min and max: nothing is %s: change one of the bounds", c.rangeDescription)
	}
	for i, text := range r.OneOf {
		v := &tree{scalar: any(text)}
		if t.kind == kindInt || t.kind == kindLong {
			v.scalar = json.Number(text)
			if numberEnd(append([]byte(text), 0), 0) != len(text) {
				return nil, fmt.Errorf("one_of[%d]: %q is not a number", i, text)
			}
		} else if t.kind != kindString {
			return nil, fmt.Errorf("one_of: needs a string or an integer, this is %s", kindNames[t.kind])
		}
		if err := enumValue(v, t, c, ""); err != nil {
			return nil, fmt.Errorf("one_of[%d]: %q is not %s", i, text, kindNames[t.kind])
		}
		c.hasEnum = true
	}
	c.enumDescription = cut(strings.Join(r.OneOf, ", "), 200)
	return c, r.text(t, c)
}

// text reads what only strings may have.
func (r *Rule) text(t *valueType, c *checks) error {
	if (r.Pattern != "" || r.MinLength != nil || r.MaxLength != nil) && t.kind != kindString {
		return fmt.Errorf("pattern and lengths need a string, this is %s", kindNames[t.kind])
	}
	if r.Pattern != "" {
		var err error
		if c.pattern, err = regexp.Compile(r.Pattern); err != nil {
			return fmt.Errorf("pattern: %w; patterns are RE2 (no look-around, no back references)", err)
		}
	}
	if c.hasLen = r.MinLength != nil || r.MaxLength != nil; r.MinLength != nil {
		c.minLen = *r.MinLength
	}
	if r.MaxLength != nil {
		c.maxLen = *r.MaxLength
	}
	if c.minLen < 0 || c.maxLen < -1 || r.MaxLength != nil && c.maxLen < c.minLen {
		return fmt.Errorf("min_length and max_length: %d to %d is no range of lengths", c.minLen, c.maxLen)
	}
	return nil
}

// limit reads one bound. What is an instant or a day is held against the number that the column stores.
func (c *checks) limit(t *valueType, text string, lower bool) error {
	layouts := map[kind]string{kindTimestamp: time.RFC3339Nano, kindEpoch: time.RFC3339Nano, kindLocal: "2006-01-02T15:04:05.999999999", kindDate: time.DateOnly}
	if layout, ok := layouts[t.kind]; ok {
		at, err := time.Parse(layout, text)
		if err != nil {
			return fmt.Errorf("%q is not written as %s", text, layout)
		}
		n := at.UnixMicro()
		if t.kind == kindDate {
			n = at.Unix() / 86400
		}
		if lower {
			c.minInt = &n
		} else {
			c.maxInt = &n
		}
		return nil
	}
	if numberEnd(append([]byte(text), 0), 0) != len(text) {
		return fmt.Errorf("%q is not a number", text)
	}
	if err := c.bound(t, json.Number(text), lower, false, ""); err != nil {
		return fmt.Errorf("%q: %s", text, strings.TrimPrefix(err.Error(), "#: "))
	}
	return nil
}

// split makes a rule of each kind of demand, so that each is counted and named by itself.
func (r *rule) split(c *checks) []rule {
	if c == nil {
		return nil
	}
	var out []rule
	add := func(reason string, one checks) {
		next := *r
		next.reason, next.checks = reason, &one
		out = append(out, next)
	}
	if c.rangeDescription != "" {
		add(ReasonOutOfRange, checks{minInt: c.minInt, maxInt: c.maxInt, minNum: c.minNum, maxNum: c.maxNum, minDec: c.minDec, maxDec: c.maxDec, rangeDescription: c.rangeDescription})
	}
	if c.hasEnum {
		add(ReasonNotInEnum, checks{hasEnum: true, strings: c.strings, ints: c.ints, doubles: c.doubles, bools: c.bools, enumDescription: c.enumDescription})
	}
	if c.hasLen {
		add(ReasonOutOfRange, checks{hasLen: true, minLen: c.minLen, maxLen: c.maxLen})
	}
	if c.pattern != nil {
		add(ReasonNoMatch, checks{pattern: c.pattern})
	}
	return out
}

// keywordAction is the keyword of a JSON Schema that says what breaking the others beside it does.
const keywordAction = "x-on-violation"

// action reads x-on-violation.
func (p *contractParser) action(t *tree, v *valueType, at string) error {
	k := t.get(keywordAction)
	if k == nil {
		return nil
	}
	s, ok := k.str()
	if k.isNull() {
		s, ok = string(ActionNull), true
	}
	if a := Action(s); !ok || s == "" || a.check() != nil {
		return problemf(at+"/"+keywordAction, "take one of dead_letter, null, keep_and_flag")
	}
	if v.action = Action(s); v.action == ActionDeadLetter {
		v.action = ""
	}
	return nil
}

// soften takes the demands of schemas with x-on-violation from the reading of values, which can only refuse, and makes
// rules of them.
func (c *Contract) soften() error {
	var bad error
	c.root.soften(nil, c, &bad)
	if bad != nil {
		return fmt.Errorf("%w: %s%w", ErrContract, c.Name, bad)
	}
	return nil
}

func (t *valueType) soften(path []string, c *Contract, bad *error) {
	if t.elem != nil && *bad == nil {
		if at := t.elem.hasAction(); at != "" {
			*bad = problemf(at+"/"+keywordAction, "only for columns outside lists and maps, whose values have no place of their own")
		}
	}
	for i := range t.fields {
		f := &t.fields[i]
		p := append(slices.Clip(path), f.name)
		f.typ.soften(p, c, bad)
		if f.typ.action == "" {
			continue
		}
		if f.typ.action == ActionNull && f.required {
			*bad = problemf(f.typ.pointer+"/"+keywordAction, "the field is required and so cannot become null: take it out of required, or take keep_and_flag")
		}
		r := rule{path: p, typ: f.typ, action: f.typ.action}
		if f.required {
			one := r
			one.reason, one.within = ReasonMissingField, true
			c.rules, f.required = append(c.rules, one), false
		}
		c.rules = append(c.rules, r.split(f.typ.checks.stored(f.typ))...)
		f.typ.checks = nil
	}
}

// hasAction returns the pointer of the first schema at or below t with an action.
func (t *valueType) hasAction() string {
	if t.action != "" {
		return t.pointer
	}
	for _, f := range t.fields {
		if at := f.typ.hasAction(); at != "" {
			return at
		}
	}
	if t.elem != nil {
		return t.elem.hasAction()
	}
	return ""
}

// stored brings bounds in the unit of an epoch to microseconds, which the column holds. A bound beyond every instant
// stays what it is: none is beyond it.
func (c *checks) stored(t *valueType) *checks {
	if c == nil || t.kind != kindEpoch {
		return c
	}
	out := *c
	scale := func(n *int64) *int64 {
		if n == nil {
			return nil
		}
		v := *n
		if t.nanos {
			v = floorMicros(v) // as values are cut down
		}
		v = min(max(v, minMicros/t.epochUnit-1), maxMicros/t.epochUnit+1) * t.epochUnit
		return &v
	}
	out.minInt, out.maxInt = scale(c.minInt), scale(c.maxInt)
	return &out
}

// flags tells whether rows may say what is wrong with them.
func (c *Contract) flags() bool {
	return slices.ContainsFunc(c.rules, func(r rule) bool { return r.action == ActionFlag })
}
