package broker

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kfake's layout below the log directory: partitions/<topic, path-escaped>-<partition>/<first offset>.dat and .idx.
const (
	partitionsDir = "partitions"
	dataSuffix    = ".dat"
	indexSuffix   = ".idx"
)

// segment is one file of a partition's log.
type segment struct {
	base     int64 // first offset
	bytes    int64 // data and index
	modified time.Time
}

// partitionDir is a partition as it lies on disk.
type partitionDir struct {
	topic    string
	id       int32
	path     string
	segments []segment // ascending; the last one is being written
}

// readPartitions lists every partition's segments. Files that come or go meanwhile are no error.
func readPartitions(logDir string) ([]partitionDir, error) {
	root := filepath.Join(logDir, partitionsDir)
	dirs, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []partitionDir
	for _, d := range dirs {
		topic, id, ok := parsePartitionDir(d.Name())
		if !ok || !d.IsDir() {
			continue
		}
		p := partitionDir{topic: topic, id: id, path: filepath.Join(root, d.Name())}
		if p.segments, err = readSegments(p.path); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func parsePartitionDir(name string) (topic string, id int32, ok bool) {
	i := strings.LastIndexByte(name, '-')
	if i < 1 {
		return "", 0, false
	}
	n, err := strconv.ParseInt(name[i+1:], 10, 32)
	if err != nil || n < 0 {
		return "", 0, false
	}
	topic, err = url.PathUnescape(name[:i])
	return topic, int32(n), err == nil
}

// parseSegment reads the first offset out of a segment's file name.
func parseSegment(name, suffix string) (base int64, ok bool) {
	digits, found := strings.CutSuffix(name, suffix)
	if !found {
		return 0, false
	}
	base, err := strconv.ParseInt(digits, 10, 64)
	return base, err == nil && base >= 0
}

func readSegments(dir string) ([]segment, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []segment
	index := map[int64]int64{}
	for _, f := range files {
		data, isData := parseSegment(f.Name(), dataSuffix)
		idx, isIndex := parseSegment(f.Name(), indexSuffix)
		if !isData && !isIndex {
			continue
		}
		info, err := f.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if isIndex {
			index[idx] = info.Size()
			continue
		}
		out = append(out, segment{base: data, bytes: info.Size(), modified: info.ModTime()})
	}
	for i := range out {
		out[i].bytes += index[out[i].base]
	}
	slices.SortFunc(out, func(a, b segment) int { return int(min(max(a.base-b.base, -1), 1)) })
	return out, nil
}
