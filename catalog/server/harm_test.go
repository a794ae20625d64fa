package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

// TestNoCommitEndsATable: what one writer may say does not keep the others from reading the table, or from committing to it. The
// second catalog of the database remembers nothing of it.
func TestNoCommitEndsATable(t *testing.T) {
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"}
	writer, reader := startTwo(t, server.Config{Store: "sqlite://" + t.TempDir() + "/catalog.db", MaterializeInterval: hours}, wh)
	root := writer.makeTable(t, "t").Metadata.Location()
	now := time.Now().UnixMilli()
	snapshot := func(seq, at int64) string {
		return fmt.Sprintf(`{"action":"add-snapshot","snapshot":{"snapshot-id":1,"sequence-number":%d,"timestamp-ms":%d,"manifest-list":"%s/metadata/m.avro","summary":{"operation":"append"},"schema-id":0}},
			{"action":"set-snapshot-ref","ref-name":"main","type":"branch","snapshot-id":1}`, seq, at, root)
	}
	statistics := func(blob string) string {
		return snapshot(1, now) + fmt.Sprintf(`,{"action":"set-statistics","snapshot-id":1,"statistics":{"snapshot-id":1,"statistics-path":"%s/metadata/s.puffin","file-size-in-bytes":1,"file-footer-size-in-bytes":1,"blob-metadata":[%s]}}`, root, blob)
	}
	for what, updates := range map[string]string{
		"a sequence number below 0":        snapshot(-1, now),
		"the last sequence number":         snapshot(1<<63-1, now),
		"one that is far ahead":            snapshot(1_000_001, now),
		"all row ids":                      strings.Replace(snapshot(1, now), `"schema-id"`, `"first-row-id":0,"added-rows":9223372036854775807,"schema-id"`, 1),
		"a snapshot of next week":          snapshot(1, now+7*24*3600*1000),
		"one of the end of time":           snapshot(1, 1<<63-1),
		"one of before all time":           snapshot(1, -1<<63),
		"a statistics blob without a type": statistics(`{"snapshot-id":1,"sequence-number":1,"fields":[1]}`),
		"a null for a statistics blob":     statistics(`null`),
	} {
		t.Run(what, func(t *testing.T) {
			f := want[failure](t, writer.ask(t, "POST", "/v1/namespaces/ns/tables/t", `{"requirements":[],"updates":[`+updates+`]}`), 400)
			if f.Error.Message == "" {
				t.Error("it is refused without a word")
			}
			want[loaded](t, reader.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
			want[loaded](t, reader.ask(t, "POST", "/v1/namespaces/ns/tables/t", `{"requirements":[],"updates":[{"action":"set-properties","updates":{"a":"b"}}]}`), 200)
		})
	}
	// A clock that is a little fast is no harm, nor are numbers that were left out.
	want[loaded](t, writer.ask(t, "POST", "/v1/namespaces/ns/tables/t", `{"requirements":[],"updates":[`+snapshot(1_000_000, time.Now().Add(50*time.Second).UnixMilli())+`]}`), 200)
	want[loaded](t, reader.ask(t, "POST", "/v1/namespaces/ns/tables/t", `{"requirements":[],"updates":[{"action":"set-properties","updates":{"a":"c"}}]}`), 200)
}

// TestRoomForFiles: a location in which no storage could keep a file is refused before the table is made.
func TestRoomForFiles(t *testing.T) {
	f := disk(t)
	uri := f.makeTable(t, "t").Metadata.Location()
	uri = uri[:strings.LastIndexByte(uri, '/')]
	for _, loc := range []string{uri + "/" + strings.Repeat("x", 256), uri + strings.Repeat("/abcdefg", 100)} {
		for path, body := range map[string]string{
			"/v1/namespaces/ns/tables":   `{"name":"x","schema":` + schemaJSON + `,"location":"` + loc + `"}`,
			"/v1/namespaces/ns/tables/t": `{"requirements":[],"updates":[{"action":"set-location","location":"` + loc + `"}]}`,
			"/v1/namespaces/ns/views":    viewJSON("v", `,"location":"`+loc+`"`),
		} {
			if got := want[failure](t, f.ask(t, "POST", path, body), 400); !strings.Contains(got.Error.Message, "more than") {
				t.Errorf("%s: %s", path, got.Error.Message)
			}
		}
	}
}

// TestOneTableHoldsNothingUp: where the metadata file of one table cannot be written, the names of the others reach the
// warehouse all the same.
func TestOneTableHoldsNothingUp(t *testing.T) {
	dir := t.TempDir()
	wh, err := objstore.Open(t.Context(), "file://"+dir+"/warehouse", objstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = wh.Close() })
	f := start(t, server.Config{Store: "sqlite://" + dir + "/catalog.db", MaterializeInterval: units.Duration(100 * time.Millisecond)}, wh)
	f.makeTable(t, "t")
	inTheWay := filepath.Join(dir, "warehouse", "file")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(inTheWay) }) // before the server ends, which writes what is due
	want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/tables", `{"name":"stuck","schema":`+schemaJSON+`,"location":"`+f.wh.URI+`/file/x"}`), 500)
	f.makeTable(t, "late")
	newest := ""
	for range 100 {
		err := f.wh.List(t.Context(), "_firn/inventory", func(i objstore.Info) error { newest = i.Key; return nil })
		if err != nil {
			t.Fatal(err)
		}
		if doc, err := f.wh.Get(t.Context(), newest, 1<<20); err == nil && bytes.Contains(doc, []byte(`"late"`)) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("no inventory has the table, the newest is %q", newest)
}

// TestViewsAreNotMadeOfTables: a view's metadata file that lies in a table's place is that table's, and would go with it.
func TestViewsAreNotMadeOfTables(t *testing.T) {
	f := memory(t)
	root := f.makeTable(t, "t").Metadata.Location()
	made := want[struct {
		Metadata json.RawMessage `json:"metadata"`
	}](t, f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("v", "")), 200)
	if err := f.Service().CreateNamespace(t.Context(), catalog.Identifier{"other"}, nil); err != nil {
		t.Fatal(err)
	}
	want[none](t, f.ask(t, "DELETE", "/v1/namespaces/ns/views/v", ""), 204) // its uuid is free again
	loc := root + "/metadata/v.metadata.json"
	key, err := f.wh.Key(loc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.wh.Put(t.Context(), key, bytes.NewReader(made.Metadata), objstore.IfAbsent); err != nil {
		t.Fatal(err)
	}
	got := want[failure](t, f.ask(t, "POST", "/v1/namespaces/other/register-view", `{"name":"w","metadata-location":"`+loc+`"}`), 400)
	if !strings.Contains(got.Error.Message, "overlaps that of table") {
		t.Error(got.Error.Message)
	}
}

// TestWhatEveryDatabaseKeeps: what one database would keep and the other refuse is refused by both, or left out of the history,
// which keeps no more of a commit than a vector has.
func TestWhatEveryDatabaseKeeps(t *testing.T) {
	f := memory(t)
	root := f.makeTable(t, "t").Metadata.Location()
	seq := 0
	commit := func(ref, offsets string) (int, string) {
		seq++
		summary, err := json.Marshal(map[string]string{"operation": "append", "firn.offsets": offsets})
		if err != nil {
			t.Fatal(err)
		}
		name, err := json.Marshal(ref)
		if err != nil {
			t.Fatal(err)
		}
		w := f.ask(t, "POST", "/v1/namespaces/ns/tables/t", fmt.Sprintf(`{"requirements":[],"updates":[
			{"action":"add-snapshot","snapshot":{"snapshot-id":%d,"sequence-number":%d,"timestamp-ms":%d,"manifest-list":"%s/metadata/m.avro","summary":%s,"schema-id":0}},
			{"action":"set-snapshot-ref","ref-name":%s,"type":"branch","snapshot-id":%d}]}`, seq, seq, time.Now().UnixMilli(), root, summary, name, seq))
		return w.Code, w.Body.String()
	}
	for _, ref := range []string{"", "a\x00b", strings.Repeat("x", 1025)} {
		if code, body := commit(ref, ""); code != 400 || !strings.Contains(body, "branch or tag") {
			t.Errorf("ref %.20q: HTTP %d %.200s", ref, code, body)
		}
	}
	for _, offsets := range []string{"\x00", strings.Repeat("x", 1<<20+1)} {
		if code, body := commit("main", offsets); code != 200 {
			t.Errorf("offsets %.20q: HTTP %d %.200s", offsets, code, body)
		}
		h := want[struct {
			Entries []struct{ Offsets string }
		}](t, f.ask(t, "GET", "/v1/firn/namespaces/ns/tables/t/history?limit=1", ""), 200)
		if len(h.Entries) != 1 || h.Entries[0].Offsets != "" {
			t.Errorf("offsets %.20q are in the history: %.200v", offsets, h)
		}
	}
}

// TestNumbersOfRegisteredTables: a metadata file with which the numbers have run out is not taken for a table, nor for the newest of one.
func TestNumbersOfRegisteredTables(t *testing.T) {
	f := memory(t)
	f.makeTable(t, "t")
	doc, register := leftOver(t, f, "tables", "register", `{"name":"gone","schema":`+schemaJSON+`}`)
	number := func(n int64) string {
		return strings.Replace(doc, `"last-sequence-number":0`, fmt.Sprintf(`"last-sequence-number":%d`, n), 1)
	}
	for _, n := range []int64{-1, 1<<62 + 1, 1<<63 - 1} {
		if code, message := register(number(n)); code != 400 || !strings.Contains(message, "last-sequence-number") {
			t.Errorf("%d: HTTP %d %s", n, code, message)
		}
	}
	if code, message := register(number(1 << 62)); code != 200 {
		t.Errorf("HTTP %d %s", code, message)
	}

	old := lasting(t)
	tab := old.grow(t, old.makeTable(t, "t"), 1)
	old.export(t)
	file := want[loaded](t, old.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
	key, err := old.wh.Key(strings.Replace(file.Location, "/00002-", "/00003-", 1))
	if err != nil {
		t.Fatal(err)
	}
	old.put(t, key, strings.Replace(string(file.Metadata), `"last-sequence-number":1`, `"last-sequence-number":9223372036854775807`, 1))
	back := old.afresh(t)
	back.restore(t, server.RestoreOptions{}, "namespace ns: restored", "table ns.t: restored")
	back.append(t, back.full(t, tab), 2)
}

// TestLongNames: an answer does not give back what was sent, however long it is.
func TestLongNames(t *testing.T) {
	f := memory(t)
	for method, path := range map[string]string{"GET": "/v1/" + strings.Repeat("é", 100_000), "POST": "/v1/namespaces/" + strings.Repeat("a%1F", 10_000) + "a/tables"} {
		w := f.ask(t, method, path, `{"name":"x","schema":`+schemaJSON+`}`)
		got := want[failure](t, w, w.Code)
		if w.Code/100 != 4 || len(got.Error.Message) > 4<<10 || !strings.Contains(got.Error.Message, "[…]") || !utf8.ValidString(got.Error.Message) {
			t.Errorf("%s: HTTP %d, %d bytes: %.300s", method, w.Code, len(got.Error.Message), got.Error.Message)
		}
	}
}
