package past

import (
	"strings"
	"time"
)

// mark stands between a table's name and a time in a name that needs no quotes.
const mark = "__at_"

// ParseName splits the name of a table as of a time:
//
//	events__at_20261124T120007Z    events__at_20261124T120007_250Z    no engine needs quotes; Trino has no other
//	events@2026-11-24T12:00:07Z    events@2026-11-24T13:00:07.25+01:00
//
// Letters may be small: Trino makes them so. What is finer than a millisecond is cut off.
func ParseName(name string) (base string, at time.Time, ok bool) {
	if i := strings.LastIndexByte(name, '@'); i > 0 {
		if at, err := time.Parse(time.RFC3339Nano, strings.ToUpper(name[i+1:])); err == nil {
			return name[:i], at.UTC().Truncate(time.Millisecond), true
		}
	}
	if i := lastMark(name); i > 0 {
		text := strings.ToUpper(name[i+len(mark):])
		// Go reads a fraction after a point only, and then without being told.
		if n := len("20060102T150405"); len(text) == n+len("_000Z") && text[n] == '_' {
			text = text[:n] + "." + text[n+1:]
		}
		at, err := time.Parse("20060102T150405Z", text)
		if err == nil && !strings.Contains(name[i+len(mark):], ".") {
			return name[:i], at, true
		}
	}
	return "", time.Time{}, false
}

// Name is the name of a table as of a time that ParseName reads and that no engine needs quotes for.
func Name(base string, at time.Time) string {
	at = at.UTC()
	text := at.Format("20060102T150405")
	if ms := at.Format(".000"); ms != ".000" {
		text += "_" + ms[1:]
	}
	return base + mark + text + "Z"
}

// lastMark is strings.LastIndex of mark in letters of any size.
func lastMark(name string) int {
	for i := len(name) - len(mark); i >= 0; i-- {
		if strings.EqualFold(name[i:i+len(mark)], mark) {
			return i
		}
	}
	return -1
}
