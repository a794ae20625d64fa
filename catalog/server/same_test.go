package server_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
)

// TestCommitOfNothing: a commit without updates checks its requirements and leaves the table as it is, alone and beside others.
func TestCommitOfNothing(t *testing.T) {
	f := memory(t)
	made := f.append(t, f.makeTable(t, "t"), 1)
	other := f.makeTable(t, "u")
	before := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
	const path = "/v1/namespaces/ns/tables/t"
	nothing := func(snapshot int64) string {
		return fmt.Sprintf(`{"requirements":[{"type":"assert-ref-snapshot-id","ref":"main","snapshot-id":%d}],"updates":[]}`, snapshot)
	}
	same := func() {
		t.Helper()
		now, err := f.Service().LoadTable(t.Context(), made.Identifier, catalog.LoadAll)
		if err != nil || now.Version != made.Version {
			t.Errorf("it is at version %d, was at %d: %v", now.Version, made.Version, err)
		}
		if got := want[loaded](t, f.ask(t, "GET", path, ""), 200); got.Location != before.Location {
			t.Errorf("its metadata file was %s and is %s", before.Location, got.Location)
		}
	}
	key := []string{"Idempotency-Key", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"}
	for range 2 {
		if got := want[loaded](t, f.ask(t, "POST", path, nothing(1)), 200); got.Location != before.Location {
			t.Errorf("answered with %s, not %s", got.Location, before.Location)
		}
		want[loaded](t, f.ask(t, "POST", path, nothing(1), key...), 200)
		same()
	}
	want[failure](t, f.ask(t, "POST", path, nothing(2)), 409)
	change := func(snapshot int64) string {
		return `{"table-changes":[{"identifier":{"namespace":["ns"],"name":"t"},` + strings.TrimPrefix(nothing(snapshot), "{") +
			`,{"identifier":{"namespace":["ns"],"name":"u"},"requirements":[],"updates":[{"action":"set-properties","updates":{"a":"b"}}]}]}`
	}
	want[failure](t, f.ask(t, "POST", "/v1/transactions/commit", change(2)), 409)
	want[none](t, f.ask(t, "POST", "/v1/transactions/commit", change(1)), 204)
	same()
	if now, err := f.Service().LoadTable(t.Context(), other.Identifier, catalog.LoadAll); err != nil || now.Version != other.Version+1 || now.Metadata.Properties()["a"] != "b" {
		t.Errorf("the other table is at %+v, %v", now, err)
	}
	// What it took for the table still counts after it: the next commit goes on.
	f.append(t, made, 2)
	want[loaded](t, f.ask(t, "POST", path, nothing(1), key...), 200) // answered before
	want[failure](t, f.ask(t, "POST", path, nothing(1)), 409)
}

// TestNothingOfAnotherCatalog: what one catalog remembers does not answer for a table that another has changed.
func TestNothingOfAnotherCatalog(t *testing.T) {
	mine, theirs := startTwo(t, server.Config{Store: "sqlite://" + t.TempDir() + "/catalog.db", MaterializeInterval: hours},
		&objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
	made := mine.makeTable(t, "t")
	other := mine.makeTable(t, "u")
	was := int64(1)
	set := catalog.TableCommit{Identifier: other.Identifier, Updates: table.Updates{table.NewSetPropertiesUpdate(iceberg.Properties{"a": "b"})}}
	unmoved := catalog.TableCommit{Identifier: made.Identifier, Requirements: table.Requirements{table.AssertRefSnapshotID("main", nil)}}
	if _, err := mine.Service().CommitTable(t.Context(), unmoved); err != nil {
		t.Fatal(err)
	}
	theirs.append(t, made, was)
	if _, err := mine.Service().CommitTable(t.Context(), unmoved); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("a table that was written to: %v", err)
	}
	if err := mine.Service().CommitTransaction(t.Context(), []catalog.TableCommit{unmoved, set}); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("beside another: %v", err)
	}
	unmoved.Requirements = table.Requirements{table.AssertRefSnapshotID("main", &was)}
	if err := mine.Service().CommitTransaction(t.Context(), []catalog.TableCommit{unmoved, set}); err != nil {
		t.Error(err)
	}
}
