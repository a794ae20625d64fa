package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// An index entry of kfake: version, low byte of the crc32c of the rest, leader epoch and a timestamp that is not read
// (both little-endian), flags with bit 0 for 'in a transaction'. One entry per batch of the segment beside it.
const (
	indexEntrySize    = 15
	indexEntryVersion = 1
)

// Places in the head of a record batch v2, as the Kafka protocol lays it out.
const (
	batchHead       = 61
	batchLengthAt   = 8
	batchEpochAt    = 12
	batchAttrsAt    = 21
	batchMaxTimeAt  = 35
	batchPrefix     = 12 // what the length does not count
	attrTransaction = 0x10
	attrControl     = 0x20
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// repairIndexes rewrites every index file that does not agree with its segment, and removes those without one. It
// returns how many it touched. The segments themselves are left to kfake, which checks each batch's crc.
func repairIndexes(logDir string) (int, error) {
	parts, err := readPartitions(logDir)
	if err != nil {
		return 0, err
	}
	touched := 0
	for _, p := range parts {
		known := map[int64]bool{}
		for _, s := range p.segments {
			known[s.base] = true
			changed, err := repairIndex(p.path, s.base)
			if err != nil {
				return touched, fmt.Errorf("index of %s: %w", filepath.Join(p.path, strconv.FormatInt(s.base, 10)+dataSuffix), err)
			}
			if changed {
				touched++
			}
		}
		n, err := removeOrphans(p.path, known)
		if err != nil {
			return touched, err
		}
		touched += n
	}
	return touched, nil
}

func repairIndex(dir string, base int64) (changed bool, err error) {
	name := filepath.Join(dir, strconv.FormatInt(base, 10))
	want, err := indexOf(name + dataSuffix)
	if err != nil {
		return false, err
	}
	have, err := os.ReadFile(name + indexSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if sameIndex(have, want) {
		return false, nil
	}
	tmp := name + indexSuffix + ".tmp" // kfake removes what is left of it
	if err := os.WriteFile(tmp, want, 0o644); err != nil {
		return false, err
	}
	return true, os.Rename(tmp, name+indexSuffix)
}

// sameIndex compares all but the timestamps, which say nothing once batches were deleted and which kfake computes anew.
func sameIndex(have, want []byte) bool {
	if len(have) != len(want) {
		return false
	}
	for i := 0; i < len(want); i += indexEntrySize {
		h, w := have[i:i+indexEntrySize], want[i:i+indexEntrySize]
		if h[0] != w[0] || h[1] != byte(crc32.Checksum(h[2:], crcTable)) || [4]byte(h[2:6]) != [4]byte(w[2:6]) || h[14] != w[14] {
			return false
		}
	}
	return true
}

// indexOf computes a segment's index from the heads of its batches. A batch that is cut off ends it.
func indexOf(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var out []byte
	var head [batchHead]byte
	for pos := int64(0); pos+batchHead <= info.Size(); {
		if _, err := f.ReadAt(head[:], pos); err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			return nil, err
		}
		size := batchPrefix + int64(binary.BigEndian.Uint32(head[batchLengthAt:]))
		if size < batchHead || pos+size > info.Size() {
			break
		}
		out = appendIndexEntry(out, head)
		pos += size
	}
	return out, nil
}

func appendIndexEntry(out []byte, head [batchHead]byte) []byte {
	var e [indexEntrySize]byte
	e[0] = indexEntryVersion
	binary.LittleEndian.PutUint32(e[2:], binary.BigEndian.Uint32(head[batchEpochAt:]))
	binary.LittleEndian.PutUint64(e[6:], binary.BigEndian.Uint64(head[batchMaxTimeAt:]))
	attrs := binary.BigEndian.Uint16(head[batchAttrsAt:])
	if attrs&attrTransaction != 0 && attrs&attrControl == 0 {
		e[14] = 1
	}
	e[1] = byte(crc32.Checksum(e[2:], crcTable))
	return append(out, e[:]...)
}

func removeOrphans(dir string, known map[int64]bool) (int, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, f := range files {
		base, ok := parseSegment(f.Name(), indexSuffix)
		if !ok || known[base] {
			continue
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
