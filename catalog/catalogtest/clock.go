package catalogtest

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
)

// Clocked is a catalog that lives in a test's time: the one below stamps commits with the machine's and refuses
// snapshots of the future.
type Clocked struct {
	catalog.Catalog
	now func() time.Time

	mu sync.Mutex
	at map[int64]int64 // snapshot → its timestamp in the test's time
}

// NewClocked shows cat in the time that now gives.
func NewClocked(cat catalog.Catalog, now func() time.Time) *Clocked {
	return &Clocked{Catalog: cat, now: now, at: map[int64]int64{}}
}

// Made says that a snapshot which went past c is of now.
func (c *Clocked) Made(snapshot int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at[snapshot] = c.now().UnixMilli()
}

// LoadTable gives the table with its snapshots at the times of the test.
func (c *Clocked) LoadTable(ctx context.Context, id catalog.Identifier, how catalog.Load) (*catalog.Table, error) {
	t, err := c.Catalog.LoadTable(ctx, id, how)
	if err != nil {
		return nil, err
	}
	out := *t
	out.Metadata, err = c.translate(t.Metadata)
	return &out, err
}

func (c *Clocked) translate(meta table.Metadata) (table.Metadata, error) {
	raw, err := json.Marshal(meta)
	if err != nil {
		return nil, err
	}
	doc := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // snapshot ids are larger than a float holds
	if err := d.Decode(&doc); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.now().UnixMilli()
	for _, member := range []string{"snapshots", "snapshot-log"} {
		list, _ := doc[member].([]any)
		for _, e := range list {
			e := e.(map[string]any)
			id, err := e["snapshot-id"].(json.Number).Int64()
			if err != nil {
				return nil, err
			}
			if at, ok := c.at[id]; ok {
				e["timestamp-ms"] = at
				last = max(last, at)
			}
		}
	}
	doc["last-updated-ms"] = last
	doc["metadata-log"] = []any{} // its times are the machine's
	if raw, err = json.Marshal(doc); err != nil {
		return nil, err
	}
	return table.ParseMetadataBytes(raw)
}

// CommitTable notes the times of new snapshots and passes them on as the machine's.
func (c *Clocked) CommitTable(ctx context.Context, tc catalog.TableCommit) (*catalog.Table, error) {
	var updates table.Updates
	for _, u := range tc.Updates {
		if u.Action() != table.UpdateAddSnapshot {
			updates = append(updates, u)
			continue
		}
		raw, err := json.Marshal(u)
		if err != nil {
			return nil, err
		}
		var v struct {
			Snapshot table.Snapshot `json:"snapshot"`
		}
		if err := json.Unmarshal(raw, &v); err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.at[v.Snapshot.SnapshotID] = v.Snapshot.TimestampMs
		c.mu.Unlock()
		v.Snapshot.TimestampMs = time.Now().UnixMilli()
		updates = append(updates, table.NewAddSnapshotUpdate(&v.Snapshot))
	}
	tc.Updates = updates
	return c.Catalog.CommitTable(ctx, tc)
}
