package flight

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/query"
)

func TestQueryGivesRowsAndPins(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{}, nil)
	c := h.dial(ClientOptions{})
	asOf := time.Date(2026, 6, 4, 11, 1, 23, 456e6, time.UTC)
	o := query.Options{Level: query.LevelCommitted, AsOf: asOf, MinOffsets: map[string]offset.Vector{"analytics.user_events": {0: 5, 9: 1 << 40}}}
	res, err := c.Query(context.Background(), "select numbers", o)
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Pins(); len(got) != 1 || got[0].SnapshotID != 42 || !got[0].End.Equal(offset.Vector{0: 12, 3: 7}) || !got[0].AsOf.Equal(asOf) {
		t.Errorf("pins = %+v", got)
	}
	if n := count(t, res, err); n != 1000 {
		t.Errorf("%d rows, want 1000", n)
	}
	if got := h.eng.lastOptions(); got.Level != o.Level || !got.AsOf.Equal(asOf) || !reflect.DeepEqual(got.MinOffsets, o.MinOffsets) {
		t.Errorf("options = %+v, want %+v", got, o)
	}
	if d, q := h.eng.described.Load(), h.eng.queried.Load(); d != 0 || q != 1 {
		t.Errorf("planned %d times and ran %d times, want 0 and 1", d, q)
	}
}

func TestScanCarriesItsRequest(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{}, nil)
	c := h.dial(ClientOptions{})
	want := query.ScanRequest{
		Table: catalog.Identifier{"a.b", "c", `d"e`}, Columns: []string{"n", "s"}, SnapshotID: 7,
		From: offset.Vector{0: 1}, To: offset.Vector{0: 9}, Limit: 100,
	}
	res, err := c.Scan(context.Background(), want, query.Options{})
	if n := count(t, res, err); n != 1000 {
		t.Errorf("%d rows", n)
	}
	if !reflect.DeepEqual(h.eng.scan, want) {
		t.Errorf("scan = %+v, want %+v", h.eng.scan, want)
	}
	_, err = c.Scan(context.Background(), query.ScanRequest{Table: catalog.Identifier{"x", "absent"}}, query.Options{})
	if !errors.Is(err, catalog.ErrNoSuchTable) {
		t.Errorf("err = %v, want ErrNoSuchTable", err)
	}
}

func TestTablesKeepTheirNames(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{}, nil)
	c := h.dial(ClientOptions{})
	for _, with := range []bool{false, true} {
		got, err := c.Tables(context.Background(), with)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := h.eng.Tables(context.Background(), with)
		if len(got) != len(want) {
			t.Fatalf("%d tables", len(got))
		}
		for i := range got {
			if !reflect.DeepEqual(got[i].Identifier, want[i].Identifier) || (got[i].Schema != nil) != with || with && !got[i].Schema.Equal(numbersSchema) {
				t.Errorf("table %d = %+v", i, got[i])
			}
		}
	}
}
