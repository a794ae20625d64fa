package snapshot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"

	"github.com/apache/iceberg-go"
	"github.com/twmb/avro/ocf"
)

// manifestList encodes the list of a snapshot's manifests. Those that were written for it take its sequence number; in format
// version 3 each manifest of data files that has no row ids yet takes them from firstRow on: the new ones, and after an upgrade
// all others once. The table's next row id is nextRow then; rows of files that have an id of their own are counted with the others,
// as in Iceberg's Java library, because a manifest does not say how many they are.
func manifestList(version int, snapshotID int64, parent *int64, seq, firstRow int64, manifests []iceberg.ManifestFile) (data []byte, nextRow int64, err error) {
	header, err := listHeader(version, snapshotID, parent, seq, firstRow)
	if err != nil {
		return nil, 0, err
	}
	c := newContainer(header)
	nextRow = firstRow
	for _, m := range manifests {
		row := m.FirstRowID()
		if version >= 3 && row == nil && m.ManifestContent() == iceberg.ManifestContentData {
			if m.ExistingRows() < 0 || m.AddedRows() < 0 {
				return nil, 0, fmt.Errorf("%s: how many rows it has is not known, so its rows cannot be numbered: rewrite the manifest before the upgrade to format version 3", m.FilePath())
			}
			first := nextRow
			row, nextRow = &first, nextRow+m.ExistingRows()+m.AddedRows()
		}
		if c.block, err = appendListed(c.block, version, snapshotID, seq, row, m); err != nil {
			return nil, 0, err
		}
		if err := c.wrote(); err != nil {
			return nil, 0, err
		}
	}
	data, err = c.close()
	return data, nextRow, err
}

// sequenceOf is the sequence number of a manifest and the least of its entries: those of the snapshot to come where it has none
// of its own yet.
func sequenceOf(m iceberg.ManifestFile, seq int64) (own, low int64) {
	if own = m.SequenceNum(); own < 0 {
		own = seq
	}
	if low = m.MinSequenceNum(); low < 0 {
		low = seq
	}
	return own, low
}

func listHeader(version int, snapshotID int64, parent *int64, seq, firstRow int64) ([]byte, error) {
	schema, err := listSchema(version)
	if err != nil {
		return nil, err
	}
	md := map[string]string{"format-version": strconv.Itoa(version), "snapshot-id": strconv.FormatInt(snapshotID, 10), "parent-snapshot-id": "null"}
	if parent != nil {
		md["parent-snapshot-id"] = strconv.FormatInt(*parent, 10)
	}
	if version >= 2 {
		md["sequence-number"] = strconv.FormatInt(seq, 10)
	}
	if version >= 3 {
		md["first-row-id"] = strconv.FormatInt(firstRow, 10)
	}
	return containerHeader(schema, md), nil
}

// appendListed encodes what a list says of m.
func appendListed(b []byte, version int, snapshotID, seq int64, row *int64, m iceberg.ManifestFile) ([]byte, error) {
	if m.Version() > version {
		return nil, fmt.Errorf("%s: a list of format version %d cannot hold a manifest of version %d", m.FilePath(), version, m.Version())
	}
	b = appendBytes(b, m.FilePath())
	b = binary.AppendVarint(b, m.Length())
	b = binary.AppendVarint(b, int64(m.PartitionSpecID()))
	if version >= 2 {
		if (m.SequenceNum() < 0 || m.MinSequenceNum() < 0) && m.SnapshotID() != snapshotID {
			return nil, fmt.Errorf("%s: it has no sequence number and was written for snapshot %d, not %d", m.FilePath(), m.SnapshotID(), snapshotID)
		}
		own, low := sequenceOf(m, seq)
		b = binary.AppendVarint(b, int64(m.ManifestContent()))
		b = binary.AppendVarint(b, own)
		b = binary.AppendVarint(b, low)
	}
	count := binary.AppendVarint
	if version == 1 { // where a number that is not known is null
		count = func(b []byte, n int64) []byte {
			if n < 0 {
				return append(b, 0)
			}
			return binary.AppendVarint(append(b, 2), n)
		}
	}
	b = binary.AppendVarint(b, m.SnapshotID())
	b = count(b, int64(m.AddedDataFiles()))
	b = count(b, int64(m.ExistingDataFiles()))
	b = count(b, int64(m.DeletedDataFiles()))
	b = appendSummaries(b, m.Partitions())
	b = count(b, m.AddedRows())
	b = count(b, m.ExistingRows())
	b = count(b, m.DeletedRows())
	if key := m.KeyMetadata(); key == nil {
		b = append(b, 0)
	} else {
		b = appendBytes(append(b, 2), key)
	}
	if version >= 3 {
		b = appendOptional(b, row, binary.AppendVarint)
	}
	return b, nil
}

func appendSummaries(b []byte, parts []iceberg.FieldSummary) []byte {
	if parts == nil {
		return append(b, 0)
	}
	b = append(b, 2)
	if len(parts) > 0 {
		b = binary.AppendVarint(b, int64(len(parts)))
	}
	for _, p := range parts {
		b = appendBool(b, p.ContainsNull)
		b = appendOptional(b, p.ContainsNaN, appendBool)
		b = appendOptional(b, p.LowerBound, appendBytes[[]byte])
		b = appendOptional(b, p.UpperBound, appendBytes[[]byte])
	}
	return append(b, 0)
}

// listSchema is the Avro schema of a list, as iceberg-go writes it.
func listSchema(version int) ([]byte, error) {
	if version < 1 || version > len(listSchemas) {
		return nil, fmt.Errorf("format version %d is none that lists are written in", version)
	}
	return listSchemas[version-1]()
}

var listSchemas = [...]func() ([]byte, error){readListSchema(1), readListSchema(2), readListSchema(3)}

func readListSchema(version int) func() ([]byte, error) {
	return sync.OnceValues(func() ([]byte, error) {
		var buf bytes.Buffer
		seq := int64(1)
		if err := iceberg.WriteManifestList(version, &buf, 1, nil, &seq, 0, nil); err != nil {
			return nil, err
		}
		r, err := ocf.NewReader(&buf)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return r.Metadata()["avro.schema"], nil
	})
}
