package transform

import (
	"errors"
	"strings"
	"testing"
)

// Each error names the place and what stands there, or what is there instead.
func TestErrorsNameThePlace(t *testing.T) {
	con := loadContract(t)
	for src, want := range map[string]string{
		"id >":                               "character 5: a value is missing, the end stands here",
		"id = 'a":                            "character 6: the quote ' is never closed",
		"id # 1":                             "character 4: '#' means nothing here",
		"id = 1 1":                           `character 8: "1" follows the end of the expression`,
		"user.nam is null":                   `character 1: user has no field "nam"; did you mean name?`,
		"emial = 'x'":                        "character 1: there is no column emial; did you mean email?",
		"email.domain = 'x'":                 "character 1: email is a string and has no fields: there is no email.domain",
		"email > 3":                          "character 7: string and long cannot be compared: cast one of them",
		"é and id":                           "character 1: there is no column é",
		"'é' = email and id":                 "character 17: and takes a boolean, this is a long",
		"at > '2026-13-01T00:00:00Z'":        "character 6: '2026-13-01T00:00:00Z' is no timestamptz, such as 2026-06-04T11:01:23Z",
		"lower(id) = 'a'":                    "character 7: lower takes a string here, this is a long",
		"lowr(email) = 'a'":                  "character 1: there is no function lowr; did you mean lower?",
		"substr(email) = 'a'":                "character 1: substr takes 2 to 3 arguments, these are 1",
		"email like name":                    "character 12: the pattern of like has to be a string",
		"cast(email as txt) = 'a'":           `character 15: "txt" is no type`,
		"cast(tags as string) = ''":          "character 1: a list<string> cannot be cast to string",
		"extract('hours', at) = 1":           "character 9: extract takes one of these units in quotes: day,",
		"price + 1 > 3":                      "character 1: + takes no decimals",
		"tags = tags":                        "list<string> values cannot be compared with =",
		"case when id then 1 end = 1":        "character 11: when takes a boolean, this is a long",
		"if(ok, 1, 'a') = 1":                 "character 11: this is a string beside a long: cast one of them",
		"id":                                 "character 1: a filter takes a boolean, this is a long",
		"id between 1":                       "character 13: and is missing, the end stands here",
		"not":                                "character 4: a value is missing, the end stands here",
		"select = 1":                         "character 1: there is no column select",
		"and = 1":                            `character 1: a value is missing, "and" stands here`,
		strings.Repeat("(", 200) + "id":      "the expression nests deeper than 100",
		strings.Repeat("ok or ", 600) + "ok": "the expression has more than 500 parts",
	} {
		_, err := New(Config{Filter: src}, con.IcebergSchema(), Options{})
		if err == nil || !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngives %v\nand should say %s", src, err, want)
		}
	}
}

// Operators bind as in SQL.
func TestPrecedence(t *testing.T) {
	for src, want := range map[string]string{
		"a or b and not c = 1":           "(or a (and b (not (= c 1))))",
		"a + b * -c - d || e":            "(- (+ a (* b (neg c))) (|| d e))",
		"a is not null and b":            "(and (not (is null a)) b)",
		"a not in (1, -2) or b":          "(or (not (in a 1 -2)) b)",
		"x between 1 and 2 and y":        "(and (and (>= x 1) (<= x 2)) y)",
		"x not like 'a%' = true":         "(= (not (like x 'a%')) true)",
		`case a when 1 then "b c".d end`: "(case (= a 1) b c.d null)",
		"Cast(a AS decimal(10, 2))":      "(cast:decimal(10,2) a null)",
	} {
		e, err := parse(src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if got := printed(e); got != want {
			t.Errorf("%s is read as %s, want %s", src, got, want)
		}
	}
}

func printed(e *expr) string {
	switch e.op {
	case opNull:
		return "null"
	case opString:
		return "'" + e.text + "'"
	case opColumn, opNumber, opBool:
		return e.text
	}
	s := "(" + e.op
	switch e.op {
	case opCast, opTry:
		s += ":" + e.text
	case opCall:
		s = "(" + e.text
	}
	for _, a := range e.args {
		s += " " + printed(a)
	}
	return s + ")"
}

// FuzzParse looks for expressions that are not refused and not evaluated either. What is accepted is evaluated.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"id > 1 and user.name like 'a%'", "case when ok then 1.5 else ratio end", "cast(email as decimal(10,2))", `"id" || 'x'`,
		"extract(hour from at) in (1, 2)", "date_trunc('week', at)", "substr(email, -1, 3)", "-9223372036854775808 / -1", "coalesce(null, price)", "try_cast(raw as uuid)"} {
		f.Add(s)
	}
	con := loadContract(f)
	f.Fuzz(func(t *testing.T, src string) {
		c := Config{Keep: []string{"id"}, Columns: map[string]string{"v": src}}
		if _, err := New(c, con.IcebergSchema(), Options{}); err != nil {
			if !errors.Is(err, ErrConfig) {
				t.Errorf("%q: %v", src, err)
			}
			return
		}
		_, d := bound(t, nil, c, nil)
		o, err := d.Decode(fetchOf(`{"id":1,"small":0,"ratio":0.5,"email":"é1","at":"2026-01-01T00:00:00Z","user":{"name":"x"},"tags":["a"]}`, `{"id":-9223372036854775808}`))
		if err != nil {
			t.Fatalf("%q: %v", src, err)
		}
		n := len(o.Dead)
		if o.Rows != nil {
			n += int(o.Rows.NumRows())
			o.Rows.Release()
		}
		if n != 2 {
			t.Errorf("%q: 2 records gave %d outcomes", src, n)
		}
	})
}
