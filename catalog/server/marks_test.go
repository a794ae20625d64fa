package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/snapshot"
)

// TestMarksAreNotCarried: what Firn loads and gets back with each commit holds no marks; everybody else sees them, and a
// commit that is about one meets it as it is.
func TestMarksAreNotCarried(t *testing.T) {
	f := memory(t)
	ctx, cat := t.Context(), f.Service()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	id := catalog.Identifier{"ns", "t"}
	ok(cat.CreateNamespace(ctx, id.Namespace(), nil))
	tb, err := cat.CreateTable(ctx, id, catalog.CreateTable{Schema: iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64})})
	ok(err)
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	mark := func(i int) string { return ledger.MarkName(at.Add(time.Duration(i) * 5 * time.Minute)) }
	commit := func(reqs table.Requirements, updates ...table.Update) error {
		after, err := cat.CommitTable(ctx, catalog.TableCommit{Identifier: id, Requirements: reqs, Updates: updates})
		if err == nil {
			for name := range after.Metadata.Refs() {
				if ledger.IsMark(name) {
					t.Errorf("an answer carries %s", name)
				}
			}
		}
		return err
	}
	for i := range int64(6) {
		tb, err = cat.CommitTable(ctx, catalogtest.Append(tb, i+1, nil))
		ok(err)
		if i < 4 {
			ok(commit(table.Requirements{table.AssertRefSnapshotID(mark(int(i)), nil)}, snapshot.SetTag(mark(int(i)), i+1, 24*time.Hour)))
		}
	}
	marks := func(how catalog.Load) (n int) {
		t.Helper()
		tb, err := cat.LoadTable(ctx, id, how)
		ok(err)
		for name, ref := range tb.Metadata.Refs() {
			if ledger.IsMark(name) {
				n++
			}
			if tb.Metadata.SnapshotByID(ref.SnapshotID) == nil {
				t.Errorf("the snapshot of %s is not there", name)
			}
		}
		return n
	}
	check := func(what string, want int) {
		t.Helper()
		if lean, all := marks(catalog.LoadRefs), marks(catalog.LoadAll); lean != 0 || all != want {
			t.Errorf("%s: %d marks in lean metadata, %d in all; want 0 and %d", what, lean, all, want)
		}
	}
	check("as they were set", 4)

	two := int64(2)
	if err := commit(table.Requirements{table.AssertRefSnapshotID(mark(1), nil)}, snapshot.SetTag(mark(1), 3, 0)); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("a mark that is there was set as a new one: %v", err)
	}
	ok(commit(table.Requirements{table.AssertRefSnapshotID(mark(1), &two)}, table.NewRemoveSnapshotRefUpdate(mark(1))))
	ok(commit(nil, table.NewRemoveSnapshotRefUpdate(mark(1)))) // not there any more, which is no error
	check("one was removed", 3)

	ok(commit(nil, table.NewRemoveSnapshotsUpdate([]int64{3}, false)))
	check("a snapshot was removed with its mark", 2)
	tb, err = cat.LoadTable(ctx, id, catalog.LoadRefs)
	ok(err)
	_, err = cat.CommitTable(ctx, catalogtest.Append(tb, 7, nil))
	ok(err)
	check("after an append", 2)

	// Other engines, who load by refs too.
	srv := httptest.NewServer(f.Handler())
	defer srv.Close()
	res, err := http.Get(srv.URL + "/v1/namespaces/ns/tables/t?snapshots=refs")
	ok(err)
	body, err := io.ReadAll(res.Body)
	ok(errors.Join(err, res.Body.Close()))
	var doc struct {
		Metadata struct {
			Refs      map[string]json.RawMessage `json:"refs"`
			Snapshots []json.RawMessage          `json:"snapshots"`
		} `json:"metadata"`
	}
	ok(json.Unmarshal(body, &doc))
	if len(doc.Metadata.Refs) != 3 || len(doc.Metadata.Snapshots) != 3 || !strings.Contains(string(body), mark(3)) {
		t.Errorf("others see refs %s and %d snapshots", fmt.Sprint(doc.Metadata.Refs), len(doc.Metadata.Snapshots))
	}
}

// TestMarksAreNotSent: the answer to a commit is as long with hundreds of marks as with none.
func TestMarksAreNotSent(t *testing.T) {
	f := memory(t)
	ctx, cat := t.Context(), f.Service()
	id := catalog.Identifier{"ns", "t"}
	if err := cat.CreateNamespace(ctx, id.Namespace(), nil); err != nil {
		t.Fatal(err)
	}
	tb, err := cat.CreateTable(ctx, id, catalog.CreateTable{Schema: iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64})})
	if err != nil {
		t.Fatal(err)
	}
	c := f.dial(t)
	append1 := func(n int64) int {
		if tb, err = c.CommitTable(ctx, catalogtest.Append(tb, n, nil)); err != nil {
			t.Fatal(err)
		}
		doc, err := json.Marshal(tb.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		return len(doc)
	}
	before := append1(1)
	at := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	var tags table.Updates
	for i := range 300 {
		tags = append(tags, snapshot.SetTag(ledger.MarkName(at.Add(time.Duration(i)*5*time.Minute)), 1, 24*time.Hour))
	}
	if _, err := cat.CommitTable(ctx, catalog.TableCommit{Identifier: id, Updates: tags}); err != nil {
		t.Fatal(err)
	}
	if after := append1(2); after > 2*before {
		t.Errorf("the answer has %d bytes of metadata, it had %d", after, before)
	}
}
