package past

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseName(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for name, want := range map[string]struct {
		base string
		at   time.Time
	}{
		"events__at_20261124T120007Z":           {"events", at("2026-11-24T12:00:07Z")},
		"Events__AT_20261124t120007z":           {"Events", at("2026-11-24T12:00:07Z")},
		"events__at_20261124T120007_250Z":       {"events", at("2026-11-24T12:00:07.25Z")},
		"a__at_b__at_20261124T120007Z":          {"a__at_b", at("2026-11-24T12:00:07Z")},
		"events@2026-11-24T12:00:07Z":           {"events", at("2026-11-24T12:00:07Z")},
		"events@2026-11-24t12:00:07.25z":        {"events", at("2026-11-24T12:00:07.25Z")},
		"events@2026-11-24T13:00:07.2509+01:00": {"events", at("2026-11-24T12:00:07.25Z")},
		"e@x@2026-11-24T12:00:07Z":              {"e@x", at("2026-11-24T12:00:07Z")},
		"ä" + "__at_20240229T235959_999Z":       {"ä", at("2024-02-29T23:59:59.999Z")},
		"__at___at_20261124T120007Z":            {"__at_", at("2026-11-24T12:00:07Z")},
		"a b__at_20261124T120007Z":              {"a b", at("2026-11-24T12:00:07Z")},
	} {
		base, got, ok := ParseName(name)
		if !ok || base != want.base || !got.Equal(want.at) {
			t.Errorf("%s is %q at %s (%t), want %q at %s", name, base, got, ok, want.base, want.at)
		}
	}
	for _, name := range []string{"", "events", "@2026-11-24T12:00:07Z", "__at_20261124T120007Z", "events@", "events@2026-11-24", "events@2026-11-24T12:00:07", "events@yesterday",
		"events__at_", "events__at_20261124", "events__at_20261124T120007", "events__at_20261324T120007Z", "events__at_20261124T120007.250Z", "events__at_20261124T120007_25Z",
		"events__at_20261124T120007Z2", "events@2026-11-24T12:00:07Z@v2", "someone@example.org", "events__at_home"} {
		if base, at, ok := ParseName(name); ok {
			t.Errorf("%q is %q at %s", name, base, at)
		}
	}
}

// TestNameRoundTrip: what Name makes of any table and millisecond is read as those.
func TestNameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.StringN(1, 20, -1).Filter(func(s string) bool { return s != "" }).Draw(t, "base")
		at := time.UnixMilli(rapid.Int64Range(0, 4102444800000).Draw(t, "ms"))
		got, when, ok := ParseName(Name(base, at))
		if !ok || got != base || !when.Equal(at) {
			t.Fatalf("%q at %s is %q at %s (%t)", base, at, got, when, ok)
		}
	})
}
