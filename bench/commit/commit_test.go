package commit

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
)

// A small run: both tables come out right and each figure is printed.
func TestMainPrintsEachHistory(t *testing.T) {
	var out bytes.Buffer
	if err := Main(context.Background(), []string{"-json", "-history", "0,30", "-commits", "3"}, &out); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var m struct {
			Metric    string         `json:"metric"`
			Value     float64        `json:"value"`
			Labels    map[string]any `json:"labels"`
			Reference *struct {
				Value float64 `json:"value"`
			} `json:"reference"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if m.Labels["history"] == nil || (m.Metric == "median_ms" && (m.Reference == nil || m.Reference.Value <= 0 || m.Value <= 0)) {
			t.Errorf("figure %s", line)
		}
		seen[m.Metric]++
	}
	for _, name := range []string{"median_ms", "p99_ms", "bytes_written", "db_bytes_per_commit", "metadata_mb", "live_manifests"} {
		if seen[name] != 2 {
			t.Errorf("%d figures of %s", seen[name], name)
		}
	}
}

type wrong struct{ snapshots, rows int }

func (wrong) append(context.Context) error { return nil }
func (w wrong) verify(context.Context) (int, int64, int64, error) {
	return w.snapshots, int64(w.rows), 1, nil
}

// A table that lost a commit or a row is no figure.
func TestAWrongTableIsRefused(t *testing.T) {
	for _, c := range []struct {
		w  wrong
		ok bool
	}{{wrong{5, 5 * rowsOfFile}, true}, {wrong{4, 5 * rowsOfFile}, false}, {wrong{5, 5*rowsOfFile - 1}, false}} {
		if _, err := check(t.Context(), c.w, 5); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.w, err)
		}
	}
}

func TestMainRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{{"-runs", "1"}, {"-history", "-1"}, {"-history", "1,x"}, {"-commits", "0"}, {"-reference", "0"}, {"-tables", "0"}, {"-tables", "3,"}, {"-seconds", "0"}, {"-nope"}} {
		if err := Main(context.Background(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

// A long history in the database, a short one in the metadata.
func TestRowsPrintEachHistory(t *testing.T) {
	var out bytes.Buffer
	if err := Main(context.Background(), []string{"-json", "-rows", "10,1200", "-commits", "2"}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"history":10,`, `"filled":144,"history":1200,`, `"name":"shortest history"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in %s", want, out.String())
		}
	}
}

// A short day: what must stay bounded is printed, the catalog's memory apart from the rest, and the table comes out right
// beside the compactor.
func TestDayPrintsWhatStaysBounded(t *testing.T) {
	t.Setenv("FIRN_TOOLS", "")
	var out bytes.Buffer
	if err := Main(context.Background(), []string{"-json", "-day", "70"}, &out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"metadata_mb_max", "live_manifests_max", "db_bytes_per_commit", "catalog_max_rss_mb", "committer_compactor_max_rss_mb", "catalog_cpu_ms_per_commit", "refs_load_ms", "manifest_merges"} {
		if !strings.Contains(out.String(), `"metric":"`+name+`"`) {
			t.Errorf("no figure of %s in %s", name, out.String())
		}
	}
}
