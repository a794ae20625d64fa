package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/objstore"
)

// A metadata file says everything of a table but its name: that is in the database alone. So the names are written
// into the warehouse as well, whenever they have changed. docs/format/inventory.md describes the file.
const (
	// reserved is the directory of the warehouse that is the catalog's own: nothing of a table lies there.
	reserved = "_firn"
	// inventoryDir holds the inventories, numbered.
	inventoryDir    = reserved + "/inventory"
	inventoryFormat = 1
	// maxInventory bounds an inventory, of which each table and view takes a few hundred bytes.
	maxInventory = 512 << 20
	// keptInventories is how many stay, so that one can go back behind a mistake.
	keptInventories = 100
	// maxInventoryTries bounds how often a number is looked for that no other catalog of this database took first.
	maxInventoryTries = 10
)

// inventoryFile is the content of an inventory.
type inventoryFile struct {
	Format     int                  `json:"format"`
	Namespaces []inventoryNamespace `json:"namespaces"`
	Tables     []inventoryTable     `json:"tables"`
	Views      []inventoryView      `json:"views"`
}

type inventoryNamespace struct {
	Name       []string          `json:"name"`
	Properties map[string]string `json:"properties,omitempty"`
}

// inventoryTable has no metadata file: the newest one in MetadataDir counts, and naming it here would make every
// materialisation write an inventory.
type inventoryTable struct {
	Name        []string `json:"name"`
	UUID        string   `json:"uuid"`
	Location    string   `json:"location"`
	MetadataDir string   `json:"metadata-dir,omitempty"` // absent before the first metadata file
}

// inventoryView names its metadata file: a newer one that lies beside it may be of a commit that never took effect.
type inventoryView struct {
	Name             []string `json:"name"`
	UUID             string   `json:"uuid"`
	MetadataLocation string   `json:"metadata-location"`
}

// inventories remembers what the warehouse has, so that a look at the database alone tells whether there is more to do.
type inventories struct {
	mu     sync.Mutex
	seen   bool              // digest is set
	digest [sha256.Size]byte // of the names that were dealt with last
	filled bool              // this process has seen a name in the database
}

func newInventory(inv sqlstore.Inventory) inventoryFile {
	f := inventoryFile{Format: inventoryFormat, Namespaces: []inventoryNamespace{}, Tables: []inventoryTable{}, Views: []inventoryView{}}
	for _, n := range inv.Namespaces {
		f.Namespaces = append(f.Namespaces, inventoryNamespace{n.Name, n.Properties})
	}
	for _, t := range inv.Tables {
		dir := ""
		if t.MetadataLocation != "" {
			dir = t.MetadataLocation[:strings.LastIndexByte(t.MetadataLocation, '/')]
		}
		f.Tables = append(f.Tables, inventoryTable{t.Name, t.UUID, t.Location, dir})
	}
	for _, v := range inv.Views {
		f.Views = append(f.Views, inventoryView{v.Name, v.UUID, v.MetadataLocation})
	}
	return f
}

// keepInventory writes the names into the warehouse when they have changed. At the end, last, it does not touch the
// storage for a database that never had a name.
func (s *Service) keepInventory(ctx context.Context, last bool) error {
	have, err := s.store.Inventory(ctx)
	if err != nil {
		return err
	}
	doc, err := json.Marshal(newInventory(have))
	if err != nil {
		return fmt.Errorf("encode the inventory: %w", err)
	}
	s.inv.mu.Lock()
	done := s.inv.seen && s.inv.digest == sha256.Sum256(doc) || last && !s.inv.filled && len(have.Namespaces) == 0
	s.inv.mu.Unlock()
	if done {
		return nil
	}
	_, _, err = s.writeInventory(ctx)
	return err
}

// writeInventory writes the names into the warehouse if they are not what its newest inventory has. It returns the
// location of that one; empty where there is none, because nothing was ever named.
func (s *Service) writeInventory(ctx context.Context) (location string, wrote bool, err error) {
	s.inv.mu.Lock()
	defer s.inv.mu.Unlock()
	for range maxInventoryTries {
		// The list comes first: what is read of the database after it is at least as new as every inventory in it.
		all, err := s.listInventories(ctx)
		if err != nil {
			return "", false, err
		}
		newest := int64(0)
		if len(all) > 0 {
			newest = all[len(all)-1]
		}
		have, err := s.store.Inventory(ctx)
		if err != nil {
			return "", false, err
		}
		doc, err := json.Marshal(newInventory(have))
		if err != nil {
			return "", false, fmt.Errorf("encode the inventory: %w", err)
		}
		settled := func() { s.inv.seen, s.inv.digest = true, sha256.Sum256(doc) }
		s.inv.filled = s.inv.filled || len(have.Namespaces) > 0
		if !s.inv.filled { // a database that is new must not hide the inventory of the one that was lost
			settled()
			s.warnOfInventory(ctx, newest)
			return "", false, nil
		}
		if newest > 0 {
			if was, err := s.wh.Get(ctx, inventoryKey(newest), maxInventory); err == nil && bytes.Equal(was, doc) {
				settled()
				return s.wh.Location(inventoryKey(newest)), false, nil
			}
		}
		_, err = s.wh.Put(ctx, inventoryKey(newest+1), bytes.NewReader(doc), objstore.IfAbsent)
		switch {
		case err == nil:
			settled()
			crash.At(ctx, crash.CatalogInventory)
			return s.wh.Location(inventoryKey(newest + 1)), true, s.pruneInventories(ctx, all)
		case !errors.Is(err, objstore.ErrExists): // else another catalog of this database took the number
			return "", false, storageError("write inventory "+inventoryKey(newest+1), err)
		}
	}
	return "", false, fmt.Errorf("%w: inventory: %d numbers were taken by other catalogs of this warehouse", catalog.ErrUnavailable, maxInventoryTries)
}

// listInventories returns the numbers that are there, ascending.
func (s *Service) listInventories(ctx context.Context) (out []int64, err error) {
	err = s.wh.List(ctx, inventoryDir, func(i objstore.Info) error {
		if n, ok := inventoryNumber(i.Key); ok {
			out = append(out, n)
		}
		return nil
	})
	if err != nil {
		return nil, storageError("list inventories", err)
	}
	return out, nil
}

// pruneInventories deletes the oldest of those that were there before the last one was written.
func (s *Service) pruneInventories(ctx context.Context, all []int64) error {
	var old []string
	for len(all) >= keptInventories {
		old, all = append(old, inventoryKey(all[0])), all[1:]
	}
	if len(old) == 0 {
		return nil
	}
	if err := s.wh.Delete(ctx, old...); err != nil {
		return storageError("delete old inventories", err)
	}
	return nil
}

// warnOfInventory says that the warehouse knows names and the database none.
func (s *Service) warnOfInventory(ctx context.Context, newest int64) {
	if newest == 0 {
		return
	}
	f, err := s.readInventory(ctx, inventoryKey(newest))
	if err == nil && len(f.Tables)+len(f.Views) > 0 {
		s.log.Warn("the catalog's database is empty, but the warehouse has tables of another one: firn catalog restore brings them back",
			"tables", len(f.Tables), "views", len(f.Views), "inventory", s.wh.Location(inventoryKey(newest)))
	}
}

// readInventory reads one by its key.
func (s *Service) readInventory(ctx context.Context, key string) (*inventoryFile, error) {
	doc, err := s.wh.Get(ctx, key, maxInventory)
	if err != nil {
		return nil, storageError("inventory "+key, err)
	}
	f := &inventoryFile{}
	if err := json.Unmarshal(doc, f); err != nil {
		return nil, fmt.Errorf("%w: inventory %s: %w", catalog.ErrInvalid, key, err)
	}
	if f.Format != inventoryFormat {
		return nil, fmt.Errorf("%w: inventory %s has format %d, this program reads %d: use a newer one", catalog.ErrInvalid, key, f.Format, inventoryFormat)
	}
	return f, nil
}

func inventoryKey(n int64) string { return fmt.Sprintf("%s/%012d.json", inventoryDir, n) }

// inventoryNumber is the inverse of inventoryKey.
func inventoryNumber(key string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSuffix(path.Base(key), ".json"), 10, 64)
	return n, err == nil && n > 0 && inventoryKey(n) == key
}
