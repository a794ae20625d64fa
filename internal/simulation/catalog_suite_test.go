package simulation

import (
	"runtime/debug"
	"testing"

	"go.uber.org/goleak"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/internal/objstore"
)

// gcPercent makes garbage collection a small part of a schedule; what is alive is a few megabytes.
const gcPercent = 800

func TestMain(m *testing.M) {
	debug.SetGCPercent(gcPercent)
	goleak.VerifyTestMain(m)
}

// TestModelIsACatalog holds the model against what every catalog of the project passes.
func TestModelIsACatalog(t *testing.T) {
	for name, f := range map[string]catalogtest.Features{
		"Full":  {Transactions: true, History: true, Kept: true, Nested: true, Versions: true, Lean: true},
		"Plain": {Nested: true, Versions: true, Lean: true},
	} {
		t.Run(name, func(t *testing.T) {
			catalogtest.Run(t, func(*testing.T) catalog.Catalog {
				m := newModel(&objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"})
				m.noTx, m.noHistory = !f.Transactions, !f.History
				return m
			}, f)
		})
	}
}
