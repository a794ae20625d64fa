//go:build integration

package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// manyTopicsFrom is the number of kills from which on a run is one of make faults.
const manyTopicsFrom = 200

// TestManyTopics: a table of one topic becomes one of three, one of which does not exist yet, while firn ingest is killed. Each record of
// each topic is there once. Then one topic is made again: it alone is not read any more. It takes its time, so it is a part of make faults.
func TestManyTopics(t *testing.T) {
	if *kills < manyTopicsFrom {
		t.Skip("make faults runs it")
	}
	const records = 1000
	r := newRig(t, "many")
	producers := []*producer{r.prod}
	write := func() {
		for _, p := range producers {
			if err := p.write(records); err != nil {
				t.Fatal(err)
			}
		}
	}
	proved := func(what string) {
		var rows, dead int64
		for _, p := range producers {
			n, d := p.visible()
			rows, dead = rows+n, dead+d
		}
		r.untilCommitted(rows, time.Minute)
		until(t, what+": the dead letters", time.Minute, func() (bool, string) {
			_, n, err := r.head(t.Context(), table+"_dead")
			return err == nil && n == dead, fmt.Sprint(n, " of ", dead, ", ", err)
		})
		r.proved(what, rows, dead)
	}
	w := r.ingest(way{interval: rigInterval})
	w.start(t)
	write()
	proved("one topic")
	w.kill()

	raw, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.config, []byte(strings.Replace(string(raw), "topic: many,", "topics: [many-late, many-more, many],", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	producers = append(producers, newProducer(t, r.kafka.addr(), "many-more"))
	w = r.ingest(way{interval: rigInterval})
	w.start(t)
	write()
	for range 3 {
		r.untilCommit(r.headID(), 30*time.Second)
		w.kill()
		write()
		w.start(t)
	}
	proved("two topics, and kills")
	w.untilState(t, 30*time.Second, "degraded")
	if _, cause, err := w.verdict(t.Context()); err != nil || !strings.Contains(cause, "topic many-late is not read") {
		t.Errorf("the cause is %q, %v", cause, err)
	}
	producers = append(producers, newProducer(t, r.kafka.addr(), "many-late"))
	write()
	proved("three topics")
	w.untilState(t, 30*time.Second, "ok")

	_, before, err := r.head(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	more, others := producers[1], []*producer{producers[0], producers[2]}
	more.remakeTopic(rigPartitions)
	w.untilState(t, 45*time.Second, "degraded")
	for _, p := range others {
		was, _ := p.visible()
		if err := p.write(records); err != nil {
			t.Fatal(err)
		}
		now, _ := p.visible()
		before += now - was
	}
	if err := more.write(records); err != nil {
		t.Fatal(err)
	}
	r.untilCommitted(before, time.Minute)
	if _, cause, err := w.verdict(t.Context()); err != nil || !strings.Contains(cause, "topic many-more is not read") {
		t.Errorf("the cause is %q, %v", cause, err)
	}
	if _, rows, err := r.head(t.Context(), table); err != nil || rows != before {
		t.Errorf("%d rows, %v; want %d: those of the topic that was made again are none of the table's", rows, err, before)
	}
	if res := r.client("offsets", table); res.code != 0 || !strings.Contains(res.stdout, "(many-late/0)") || !strings.Contains(res.stdout, "topic") {
		t.Errorf("firn offsets:\n%s%s", res.stdout, res.err)
	}
}

// headID is the pipeline's newest snapshot of the table.
func (r *rig) headID() int64 {
	r.t.Helper()
	id, _, err := r.head(r.t.Context(), table)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}
