//go:build integration || interop

package interop

import (
	"errors"
	"maps"
	"testing"
	"time"
)

const (
	// pace of the producer: eventsPerTick each tick.
	eventsPerTick = 10
	tick          = 50 * time.Millisecond
	// backlog is what is written while Firn is down.
	backlog = 60
)

// act is what the other engine does to the table.
type act struct {
	verb    string
	args    map[string]any
	effect  func(*producer) // on what is expected of the table; with the producer paused
	rewinds bool            // the table is set back, so Firn reads again in the next epoch
	settle  int             // commits of Firn that are to lie between what came before and the act
}

// answer is what a driver tells of an act.
type answer struct {
	Tries    int
	Snapshot int64
	To, Was  int64 // of a rollback
	Where    string
}

// does has the other engine act, while Firn commits or while it is down, and Firn go on.
func (l *lake) does(a act, down bool) answer {
	l.t.Helper()
	began := time.Now()
	when := "while firn writes"
	if l.commits(max(a.settle, 1)); down {
		when = "while firn is down"
		l.ingestRole.kill()
		if err := l.prod.write(backlog); err != nil {
			l.t.Fatal(err)
		}
	}
	_, before, err := l.tag()
	if err != nil {
		l.t.Fatal(err)
	}
	var got answer
	if err := l.patiently(a, &got); err != nil {
		l.t.Fatal(err)
	}
	took := time.Since(began)
	if a.effect != nil {
		l.prod.mu.Lock()
		a.effect(l.prod)
		l.prod.mu.Unlock()
	}
	if down {
		l.ingest()
	}
	l.commits(1)
	l.settled(l.engine.name + " " + a.verb + " " + when)
	_, after, err := l.tag()
	want := before.Epoch
	if a.rewinds {
		want++
	}
	if err != nil || after.Epoch != want {
		l.t.Fatalf("%s %s: epoch %d, then %d (%v); %d was expected", a.verb, when, before.Epoch, after.Epoch, err, want)
	}
	l.t.Logf("%s %v %s: done in %s at try %d, all rows once %s later", a.verb, a.args, when, took.Round(time.Millisecond), got.Tries, (time.Since(began) - took).Round(time.Millisecond))
	return got
}

// patiently has the other engine act. Where it always comes too late, because it takes longer than Firn from one commit to the
// next (a statement that rewrites files, on a slow machine), the events pause, and with them Firn's commits, so that it gets its turn.
func (l *lake) patiently(a act, got *answer) error {
	err := l.engine.ask(a.verb, a.args, got)
	if !errors.Is(err, errLost) {
		return err
	}
	l.t.Logf("%s: %s lost every time; the events pause", a.verb, l.engine.name)
	l.prod.mu.Lock()
	defer l.prod.mu.Unlock()
	return l.engine.ask(a.verb, a.args, got)
}

// started is a lake on local disk with the engine at it, Firn committing and events coming.
func started(t *testing.T, interval time.Duration, engine func(t *testing.T, uri string) *driver) *lake {
	t.Helper()
	return startedOn(newLake(t, interval), engine)
}

func startedOn(l *lake, engine func(t *testing.T, uri string) *driver) *lake {
	t := l.t
	t.Helper()
	l.ingest()
	l.engine = engine(t, l.uri)
	l.prod.run(eventsPerTick, tick)
	l.commits(3)
	return l
}

func args(kv ...any) map[string]any {
	out := map[string]any{}
	for i := 0; i < len(kv); i += 2 {
		out[kv[i].(string)] = kv[i+1]
	}
	return out
}

// removes is an act that deletes the rows of a stretch of offsets and adds n of its own.
func removes(verb string, partition int32, first, end, n int64, more map[string]any) act {
	a := args("partition", partition, "first", first, "end", end)
	maps.Copy(a, more)
	return act{verb: verb, args: a, effect: func(p *producer) {
		p.removed(partition, first, end)
		p.own += n
	}}
}

// adds is an act that adds n rows of its own.
func adds(verb string, n int64, more map[string]any) act {
	a := args("n", n)
	maps.Copy(a, more)
	return act{verb: verb, args: a, effect: func(p *producer) { p.own += n }}
}
