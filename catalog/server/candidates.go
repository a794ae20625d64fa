package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/objstore"
)

const (
	metadataSuffix = ".metadata.json"
	// keptCandidates is how many metadata files of a directory are looked into: the newest by number, and as many of
	// the newest by the time of the storage.
	keptCandidates = 8
)

// metadataFiles are the newest metadata files of one directory.
type metadataFiles struct {
	count int // all that are there
	files []objstore.Info
}

func (m *metadataFiles) add(i objstore.Info) {
	m.count++
	if m.files = append(m.files, i); len(m.files) >= 8*keptCandidates {
		m.trim()
	}
}

// trim keeps the newest by either order.
func (m *metadataFiles) trim() {
	keep := map[string]objstore.Info{}
	for _, order := range []func(a, b objstore.Info) int{
		func(a, b objstore.Info) int { return cmp.Compare(fileVersion(b.Key), fileVersion(a.Key)) },
		func(a, b objstore.Info) int { return b.Modified.Compare(a.Modified) },
	} {
		slices.SortStableFunc(m.files, order)
		for _, f := range m.files[:min(len(m.files), keptCandidates)] {
			keep[f.Key] = f
		}
	}
	m.files = slices.SortedFunc(maps.Values(keep), func(a, b objstore.Info) int {
		return cmp.Or(cmp.Compare(fileVersion(b.Key), fileVersion(a.Key)), strings.Compare(a.Key, b.Key))
	})
}

// fileVersion is the number that a metadata file's name begins with, as in 00012-<uuid>.metadata.json; 0 without one.
func fileVersion(name string) int64 {
	digits, _, _ := strings.Cut(path.Base(name), "-")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || n > maxFileVersion {
		return 0
	}
	return n
}

// maxFileVersion is a number that no table reaches.
const maxFileVersion = 1 << 40

// scanMetadata finds the metadata files of the warehouse, by the key of their directory.
func (s *Service) scanMetadata(ctx context.Context) (map[string]*metadataFiles, error) {
	dirs := map[string]*metadataFiles{}
	err := s.wh.List(ctx, "", func(i objstore.Info) error {
		if !strings.HasSuffix(i.Key, metadataSuffix) || strings.HasPrefix(i.Key, reserved+"/") || path.Base(path.Dir(path.Dir(i.Key))) == pastDir {
			return nil
		}
		dir := path.Dir(i.Key)
		if dirs[dir] == nil {
			dirs[dir] = &metadataFiles{}
		}
		dirs[dir].add(i)
		return nil
	})
	if err != nil {
		return nil, storageError("list the warehouse", err)
	}
	for _, d := range dirs {
		d.trim()
	}
	return dirs, nil
}

// candidate is a metadata file that could be a table's newest.
type candidate struct {
	key, location string
	version       int64
	meta          table.Metadata
	earlier       map[string]bool // keys of the files that its metadata-log names
	content       map[string]any  // without the metadata-log
}

// errAmbiguous: files contradict each other, and which counts is a person's to say.
var errAmbiguous = errors.New("which metadata file is the newest cannot be told")

// newest finds the newest valid metadata file of a table among files. Notes tell of the broken ones that were passed
// over. uuid, where it is known, is the table's.
func (s *Service) newest(ctx context.Context, files []objstore.Info, uuid string) (best *candidate, notes []string, err error) {
	var all []*candidate
	for _, f := range files {
		c, err := s.candidate(ctx, f.Key)
		switch {
		case errors.Is(err, catalog.ErrUnavailable):
			return nil, notes, err
		case err != nil:
			notes = append(notes, "passed over: "+err.Error())
		case uuid != "" && c.meta.TableUUID().String() != uuid:
			notes = append(notes, fmt.Sprintf("passed over: %s is of another table, %s", c.location, c.meta.TableUUID()))
		default:
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return nil, notes, fmt.Errorf("%w: no valid metadata file", catalog.ErrInvalid)
	}
	slices.SortStableFunc(all, func(a, b *candidate) int {
		return -cmp.Or(cmp.Compare(a.meta.LastUpdatedMillis(), b.meta.LastUpdatedMillis()),
			cmp.Compare(a.meta.LastSequenceNumber(), b.meta.LastSequenceNumber()), cmp.Compare(a.version, b.version))
	})
	best = all[0]
	for _, c := range all[1:] {
		if c.earlier[best.key] { // the clock had stepped back; what names a file came after it
			best = c
		}
	}
	for _, c := range all {
		if c != best && !best.after(c) {
			return nil, notes, fmt.Errorf("%w: %s (%s) and %s (%s): name the one that counts with --table", errAmbiguous, best.location, best, c.location, c)
		}
	}
	return best, notes, nil
}

// after tells whether c is certainly not older than o: it names o as an earlier file, or both counters say so, or the
// two are the same state.
func (c *candidate) after(o *candidate) bool {
	if c.earlier[o.key] {
		return true
	}
	if o.earlier[c.key] {
		return false
	}
	a, b := c.meta, o.meta
	if a.LastUpdatedMillis() < b.LastUpdatedMillis() || a.LastSequenceNumber() < b.LastSequenceNumber() {
		return false
	}
	if a.LastUpdatedMillis() > b.LastUpdatedMillis() || a.LastSequenceNumber() > b.LastSequenceNumber() {
		return true
	}
	return c.version > o.version && o.version > 0 || reflect.DeepEqual(c.content, o.content)
}

func (c *candidate) String() string {
	return fmt.Sprintf("of %s, sequence number %d", time.UnixMilli(c.meta.LastUpdatedMillis()).UTC().Format("2006-01-02T15:04:05.000Z"), c.meta.LastSequenceNumber())
}

// candidate reads a metadata file and makes sure that a table can be made of it.
func (s *Service) candidate(ctx context.Context, key string) (*candidate, error) {
	c := &candidate{key: key, location: s.wh.Location(key), version: fileVersion(key), earlier: map[string]bool{}}
	doc, err := s.readMetadata(ctx, c.location)
	if err != nil {
		return nil, err
	}
	bad := func(err error) (*candidate, error) {
		return nil, fmt.Errorf("metadata file %s: %w", c.location, err)
	}
	if c.meta, err = parse(doc); err != nil {
		return bad(err)
	}
	if err := checkNumbers(c.meta); err != nil { // it would pass for the newest
		return bad(err)
	}
	if err := json.Unmarshal(doc, &c.content); err != nil {
		return bad(fmt.Errorf("%w: %w", catalog.ErrInvalid, err))
	}
	delete(c.content, "metadata-log")
	for e := range c.meta.PreviousFiles() {
		if k, err := s.key(e.MetadataFile); err == nil {
			c.earlier[k] = true
		}
	}
	sn := c.meta.CurrentSnapshot()
	if sn == nil || sn.ManifestList == "" {
		return c, nil
	}
	k, err := s.key(sn.ManifestList)
	if err != nil {
		return bad(err)
	}
	if _, err := s.wh.Stat(ctx, k); err != nil {
		return bad(storageError("manifest list of its current snapshot", err))
	}
	return c, nil
}
