package crash

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// Point is the name of a place.
type Point string

// The places, in the order in which a batch comes by them.
const (
	BatchCut         Point = "batch-cut"         // the second is over, nothing of it is written
	FilesEncoded     Point = "files-encoded"     // Parquet in memory, nothing on storage
	FileUploaded     Point = "file-uploaded"     // one file of perhaps several is on storage
	FilesUploaded    Point = "files-uploaded"    // all are
	ManifestsWritten Point = "manifests-written" // and the manifests that list them
	BeforeCommit     Point = "before-commit"     // the manifest list is there, the request is not sent
	BetweenCommits   Point = "between-commits"   // dead letters are committed, rows are not (catalogs without transactions)
	AfterCommit      Point = "after-commit"      // the catalog has answered, the writer does not know it yet
	Committed        Point = "committed"         // the writer knows, the tail does not
)

// The places of the catalog's server and of the compactor.
const (
	CatalogBeforeCommit    Point = "catalog-before-commit"    // a commit was found good, the database does not have it
	CatalogAfterCommit     Point = "catalog-after-commit"     // the database has it, nobody was told
	CatalogMetadataWritten Point = "catalog-metadata-written" // a metadata file is on storage, the database does not name it
	CatalogMetadataNamed   Point = "catalog-metadata-named"   // the database names it, nobody was told
	CatalogViewWritten     Point = "catalog-view-written"     // a view's metadata file is on storage, the database does not name it
	CatalogViewCommitted   Point = "catalog-view-committed"   // the database names it, nobody was told
	CatalogInventory       Point = "catalog-inventory"        // an inventory is on storage, older ones are there

	CompactStored       Point = "compact-stored"        // merged files are on storage, no manifest lists them
	CompactBeforeCommit Point = "compact-before-commit" // manifests and list are there, the request is not sent
	CompactAfterCommit  Point = "compact-after-commit"  // the catalog has answered, the compactor does not know it yet
	CompactExpired      Point = "compact-expired"       // snapshots are gone from the metadata, their files are there
)

// Points returns the places that a batch comes by.
func Points() []Point {
	return []Point{BatchCut, FilesEncoded, FileUploaded, FilesUploaded, ManifestsWritten, BeforeCommit, BetweenCommits, AfterCommit, Committed}
}

// CatalogPoints returns the places of the catalog's server by which commits to tables come.
func CatalogPoints() []Point {
	return []Point{CatalogBeforeCommit, CatalogAfterCommit, CatalogMetadataWritten, CatalogMetadataNamed}
}

// CatalogOtherPoints returns its places by which only views and changes of names come.
func CatalogOtherPoints() []Point {
	return []Point{CatalogViewWritten, CatalogViewCommitted, CatalogInventory}
}

// CompactionPoints returns the places of the compactor.
func CompactionPoints() []Point {
	return []Point{CompactStored, CompactBeforeCommit, CompactAfterCommit, CompactExpired}
}

// Env is the variable that names the place at which the process ends.
const Env = "FIRN_CRASH_AT"

type target struct {
	point Point
	left  atomic.Int64
}

var armed atomic.Pointer[target]

// ArmFromEnv reads Env. The program calls it once at its start; without the variable it does nothing.
func ArmFromEnv() error {
	v := os.Getenv(Env)
	if v == "" {
		return nil
	}
	name, count, found := strings.Cut(v, ":")
	n := int64(1)
	if found {
		var err error
		if n, err = strconv.ParseInt(count, 10, 64); err != nil || n < 1 {
			return fmt.Errorf("%s=%s: what follows the colon must be a number from 1 on", Env, v)
		}
	}
	if all := slices.Concat(Points(), CatalogPoints(), CatalogOtherPoints(), CompactionPoints()); !slices.Contains(all, Point(name)) {
		return fmt.Errorf("%s=%s: no such place; there are %v", Env, v, all)
	}
	t := &target{point: Point(name)}
	t.left.Store(n)
	armed.Store(t)
	return nil
}

type hookKey struct{}

// With returns a context in which At calls hook. The hook makes what a crash would: it cuts the writer off from
// everything and ends its context.
func With(ctx context.Context, hook func(Point)) context.Context {
	return context.WithValue(ctx, hookKey{}, hook)
}

// At says that the program is at a place.
func At(ctx context.Context, p Point) {
	if t := armed.Load(); t != nil && t.point == p && t.left.Add(-1) == 0 {
		end()
	}
	if hook, ok := ctx.Value(hookKey{}).(func(Point)); ok {
		hook(p)
	}
}
