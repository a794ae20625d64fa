package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
)

// freeKeys are the members whose own keys are anybody's: everything else in a metadata document has keys of the Iceberg spec.
var freeKeys = map[string]bool{"properties": true, "summary": true, "refs": true}

// checkKeys refuses a document that others read otherwise than this program does. Go takes "Location" for "location", other
// languages do not, and of a key that stands twice each takes the one it likes: what is checked would not be what is read. It is
// for documents that are handed out as they are; others are written anew.
func checkKeys(doc []byte) error {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if err := checkKeysIn(d, false); err != nil {
		return fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	return nil
}

// checkKeysIn reads one value. Its depth is bounded by the decoder that has read the document before.
func checkKeysIn(d *json.Decoder, free bool) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, isDelim := t.(json.Delim)
	if !isDelim {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		inner := false
		if open == '{' {
			t, err := d.Token()
			if err != nil {
				return err
			}
			key, _ := t.(string) // the decoder takes nothing else
			if seen[key] {
				return fmt.Errorf("the key %q stands there twice", key)
			}
			if !free && strings.ContainsFunc(key, func(r rune) bool { return r >= 0x80 || r >= 'A' && r <= 'Z' }) {
				return fmt.Errorf("the key %q is none of the Iceberg spec, and could be taken for one", key)
			}
			seen[key] = true
			inner = !free && freeKeys[key]
		}
		if err := checkKeysIn(d, inner); err != nil {
			return err
		}
	}
	_, err = d.Token() // the end of it
	return err
}

// errEmbedded is about manifests that a snapshot names without a list, as writers of format version 1 could.
func errEmbedded(snapshot int64) error {
	return fmt.Errorf("%w: snapshot %d names its manifests itself, without a manifest list, which no place is checked for: write it with a current engine", catalog.ErrInvalid, snapshot)
}

// checkLists refuses metadata with a snapshot that names manifests without a list.
func checkLists(m table.Metadata) error {
	for _, sn := range m.Snapshots() {
		if len(sn.ManifestLocations) > 0 {
			return errEmbedded(sn.SnapshotID)
		}
	}
	return nil
}
