package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/units"
)

// TagRule keeps what main stood at at each multiple of Every (UTC) for as long as Keep.
type TagRule struct{ Every, Keep time.Duration }

// Calendar are the rules for the snapshots that stay readable when they leave the window. Nil: none.
type Calendar []TagRule

// Bounds of a calendar: the tags that it keeps are in every copy of the metadata.
const (
	minTagEvery     = time.Minute
	maxCalendarTags = 2000
)

// ParseCalendar reads rules of the form every/keep, separated by commas: "5m/24h,1h/7d,24h/90d"; "off" and "" are none.
func ParseCalendar(text string) (Calendar, error) {
	if text == "" || text == "off" {
		return nil, nil
	}
	var out Calendar
	tags := time.Duration(0)
	for rule := range strings.SplitSeq(text, ",") {
		every, keep, ok := strings.Cut(strings.TrimSpace(rule), "/")
		e, errE := units.ParseDuration(strings.TrimSpace(every))
		k, errK := units.ParseDuration(strings.TrimSpace(keep))
		switch {
		case !ok || errE != nil || errK != nil:
			return nil, fmt.Errorf("%q is not every/keep, as in 5m/24h: %w", rule, errors.Join(errE, errK))
		case e.D() < minTagEvery || e.D()%minTagEvery != 0:
			return nil, fmt.Errorf("%q: tags are at full minutes, not each %s", rule, every)
		case k < e:
			return nil, fmt.Errorf("%q: a tag would be gone before the next is due", rule)
		}
		out = append(out, TagRule{e.D(), k.D()})
		tags += k.D() / e.D()
	}
	if tags > maxCalendarTags {
		return nil, fmt.Errorf("%q keeps %d tags, at most %d: each is a snapshot that every client carries", text, tags, maxCalendarTags)
	}
	return out, nil
}

// CalendarTag is a tag to be set.
type CalendarTag struct {
	Name     string
	Snapshot int64
	MaxAge   time.Duration // of the snapshot: where a calendar's tag ends, other engines' expiry ends it too
}

// Due returns the tags that are to be set, the oldest first. A snapshot gets one when it has been followed, for the time
// at which it is kept longest: until then it is the head, and then the window keeps it for longer than it takes to look.
func (c Calendar) Due(now time.Time, snapshots []Snapshot, refs []Ref, log []LogEntry) []CalendarTag {
	if len(c) == 0 {
		return nil
	}
	at := make(map[int64]time.Time, len(snapshots))
	for _, s := range snapshots {
		at[s.ID] = s.At
	}
	until, taken := map[int64]time.Time{}, map[string]bool{}
	for _, ref := range refs {
		taken[ref.Name] = true
		if ledger.IsMark(ref.Name) && !ref.Branch && ref.MaxAge > 0 {
			if end := at[ref.Snapshot].Add(ref.MaxAge); end.After(until[ref.Snapshot]) {
				until[ref.Snapshot] = end
			}
		}
	}
	var out []CalendarTag
	for i := range len(log) - 1 {
		e := log[i]
		when, known := at[e.Snapshot]
		if !known {
			continue
		}
		mark, end := c.longest(e.At, log[i+1].At)
		name := ledger.MarkName(mark)
		if !end.After(now) || !end.After(until[e.Snapshot]) || taken[name] {
			continue
		}
		until[e.Snapshot], taken[name] = end, true
		out = append(out, CalendarTag{name, e.Snapshot, end.Sub(when)})
	}
	slices.SortStableFunc(out, func(a, b CalendarTag) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// longest is the multiple within [from, to) that is kept longest, and until when; zero times when there is none.
func (c Calendar) longest(from, to time.Time) (mark, until time.Time) {
	for _, r := range c {
		m := to.Add(-1).Truncate(r.Every)
		if end := m.Add(r.Keep); !m.Before(from) && end.After(until) {
			mark, until = m, end
		}
	}
	return mark, until
}
