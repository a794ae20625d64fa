package server_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
)

const (
	// crowd is how many committers there are at once; the tests with servers have a thousand.
	crowd = 100
	// crowdPause is the first pause of a committer that lost, as Iceberg's clients have it (commit.retry.min-wait-ms); it
	// doubles up to crowdPauseMax, which theirs have at a minute.
	crowdPause    = 100 * time.Millisecond
	crowdPauseMax = 10 * time.Second
)

// TestCrowdOnOneTable: many committers append to one table at the same time, each on the head that it has seen, while
// others load it. Each commit lands once, and nobody starves.
func TestCrowdOnOneTable(t *testing.T) { crowdOnOne(t, crowd, onDisk(t)) }

func crowdOnOne(t *testing.T, crowd int, fs ...*fixture) {
	t.Helper()
	given, tab := newHanded(fs[0].wh), fs[0].makeTable(t, "t")
	began, tries := time.Now(), make([]int, crowd)
	var wg, readers sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			rnd, pause, c := rand.New(rand.NewPCG(1, uint64(i))), crowdPause, fs[i%len(fs)].Service()
			for now := tab; ; tries[i]++ {
				_, err := c.CommitTable(t.Context(), catalogtest.Append(now, int64(1+i), nil))
				if err == nil {
					return
				}
				if !errors.Is(err, catalog.ErrConflict) && !errors.Is(err, catalog.ErrUnavailable) { // surely not made
					t.Errorf("committer %d: %v", i, err)
					return
				}
				time.Sleep(pause/2 + time.Duration(rnd.Int64N(int64(pause))))
				pause = min(2*pause, crowdPauseMax)
				if now, err = c.LoadTable(t.Context(), tab.Identifier, catalog.LoadRefs); err != nil {
					t.Errorf("committer %d: %v", i, err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	readers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
			if w := given.saw(t, fs[i%len(fs)].ask(t, "GET", "/v1/namespaces/ns/tables/t?snapshots=all", "")); w.Code != 200 {
				t.Errorf("a load beside: HTTP %d: %s", w.Code, w.Body)
			}
		}
	})
	wg.Wait()
	took := time.Since(began)
	close(done)
	readers.Wait()
	for _, f := range fs {
		got := f.full(t, tab)
		if n := len(got.Metadata.Snapshots()); n != crowd || got.Version != int64(crowd)+1 {
			t.Errorf("%d snapshots at version %d, %d commits were made", n, got.Version, crowd)
		}
		given.saw(t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""))
	}
	given.check(t, fs[0].wh)
	slices.Sort(tries)
	t.Logf("%d committers in %s: %d tries more than needed at the median, %d at most; %d locations were handed out beside", crowd,
		took.Round(10*time.Millisecond), tries[crowd/2], tries[crowd-1], len(given.at))
}

// TestCrowdOfTables: many committers, each on a table of its own, all at the same time.
func TestCrowdOfTables(t *testing.T) { crowdOfTables(t, crowd, onDisk(t)) }

func crowdOfTables(t *testing.T, crowd int, fs ...*fixture) {
	t.Helper()
	given := newHanded(fs[0].wh)
	fs[0].makeTable(t, "first")
	began := time.Now()
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			id := catalog.Identifier{"ns", fmt.Sprint("t", i)}
			now, err := fs[i%len(fs)].Service().CreateTable(t.Context(), id, catalog.CreateTable{Schema: catalogtest.Schema()})
			if err == nil { // at another process, where there are several
				now, err = fs[(i+1)%len(fs)].Service().CommitTable(t.Context(), catalogtest.Append(now, 1, nil))
			}
			if err != nil {
				t.Errorf("table %d: %v", i, err)
			} else if now.Version != 2 || now.Metadata.CurrentSnapshot().SnapshotID != 1 {
				t.Errorf("table %d stands at version %d", i, now.Version)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	for i := 0; i < crowd; i += 49 {
		want[loaded](t, given.saw(t, fs[i%len(fs)].ask(t, "GET", fmt.Sprintf("/v1/namespaces/ns/tables/t%d", i), "")), 200)
	}
	given.check(t, fs[0].wh)
	t.Logf("%d tables made and committed to in %s", crowd, took.Round(10*time.Millisecond))
}
