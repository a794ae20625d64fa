package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
)

// maxPlaces bounds the files of one request that lie outside its table's own directories: each costs a query.
const maxPlaces = 1000

// propertyPlaces are the table properties that name places where writers put files.
var propertyPlaces = []string{propDataPath, propMetadataPath, "write.object-storage.path", "write.folder-storage.path"}

// Some clients take the settings of their file systems from a table's properties (PyIceberg does, under these names):
// where requests with a reader's keys go, which keys those are, and which code is loaded. Whoever may commit to a table
// must not decide that for those who read it.
var (
	foreignPrefixes = []string{"s3.", "s3a.", "client.", "gcs.", "adls.", "wasb.", "oss.", "hdfs.", "hf.", "fs.", "rest.", "header."}
	foreignKeys     = map[string]bool{"io-impl": true, "py-io-impl": true, "catalog-impl": true, "py-catalog-impl": true, "uri": true,
		"token": true, "credential": true, "warehouse": true, "signer": true, "write.location-provider.impl": true, "write.py-location-provider.impl": true}
)

func checkProperties(props map[string]string) error {
	for key := range props {
		low := strings.ToLower(key)
		bad := foreignKeys[low]
		for _, p := range foreignPrefixes {
			bad = bad || strings.HasPrefix(low, p)
		}
		if bad {
			return fmt.Errorf("%w: property %s: a table may not say how its readers reach the storage, or which code they load; remove-properties takes it away", catalog.ErrInvalid, key)
		}
	}
	return nil
}

// place is a file that metadata names.
type place struct{ what, location string }

// checkPlaces checks that files lie in the warehouse and in no other table's or view's place. root is the table's clean
// location; tableID is 0 for a table that does not exist yet. Files of the table's own directories cost no query.
func (s *Service) checkPlaces(ctx context.Context, m table.Metadata, root string, tableID int64, places []place) error {
	if len(places) == 0 {
		return nil
	}
	return s.checkPlacesIn(ctx, s.ownPlaces(m, root), tableID, places)
}

// ownPlaces are the directories of a table.
func (s *Service) ownPlaces(m table.Metadata, root string) []string {
	own := []string{root}
	for _, key := range propertyPlaces { // they were checked when they were set
		if v := m.Properties()[key]; v != "" {
			if p, err := cleanLocation(s.wh.URI, v); err == nil {
				own = append(own, p)
			}
		}
	}
	return own
}

// checkPlacesIn is checkPlaces for a table whose directories are known.
func (s *Service) checkPlacesIn(ctx context.Context, own []string, tableID int64, places []place) error {
	return s.checkIn(ctx, cleanLocation, own, tableID, places)
}

// checkFilesIn is checkPlacesIn for data files.
func (s *Service) checkFilesIn(ctx context.Context, own []string, tableID int64, files []place) error {
	return s.checkIn(ctx, cleanFile, own, tableID, files)
}

func (s *Service) checkIn(ctx context.Context, as func(warehouse, loc string) (string, error), own []string, tableID int64, places []place) error {
	asked := map[string]bool{}
	for _, p := range places {
		clean, err := as(s.wh.URI, p.location)
		if err != nil {
			return fmt.Errorf("%s: %w", p.what, err)
		}
		dir := clean[:strings.LastIndexByte(clean, '/')]
		if asked[dir] || inside(clean, own) {
			continue
		}
		if asked[dir] = true; len(asked) > maxPlaces {
			return fmt.Errorf("%w: the metadata names files in more than %d directories that are not the table's own", catalog.ErrInvalid, maxPlaces)
		}
		owner, err := s.store.LocationOwner(ctx, clean, tableID)
		if err == nil {
			return fmt.Errorf("%w: %s: %s lies in the place of %s", catalog.ErrInvalid, p.what, p.location, owner)
		}
		if !errors.Is(err, catalog.ErrNoSuchTable) {
			return err
		}
	}
	return nil
}

func inside(clean string, dirs []string) bool {
	for _, d := range dirs {
		if within(clean, d) {
			return true
		}
	}
	return false
}

// placesOf lists the files that a whole metadata document names: those of readers, and the log of earlier metadata
// files, which writers of some engines delete.
func placesOf(m table.Metadata) (places []place) {
	for _, sn := range m.Snapshots() {
		if sn.ManifestList != "" {
			places = append(places, place{fmt.Sprintf("snapshot %d: manifest list", sn.SnapshotID), sn.ManifestList})
		}
	}
	for f := range m.Statistics() {
		places = append(places, place{"statistics", f.StatisticsPath})
	}
	for f := range m.PartitionStatistics() {
		places = append(places, place{"partition statistics", f.StatisticsPath})
	}
	for f := range m.PreviousFiles() {
		places = append(places, place{"metadata log", f.MetadataFile})
	}
	return places
}
