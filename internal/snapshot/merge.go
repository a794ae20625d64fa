package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/objstore"
)

// mergeReadAhead is how many manifests are fetched before their turn. A fetch is two requests, a merge has dozens of them.
const mergeReadAhead = 8

// ManifestError is a failure that lies with one manifest.
type ManifestError struct {
	Location string
	Err      error
}

func (e *ManifestError) Error() string { return fmt.Sprintf("manifest %s: %v", e.Location, e.Err) }
func (e *ManifestError) Unwrap() error { return e.Err }

// MergeManifests writes one manifest of data files that holds the live entries of others, in order, and returns it for the
// list of the snapshot to come. Every entry keeps what it is by: the ids and sequence numbers of the snapshot that added the
// file, and in format version 3 its first row id, which a manifest that is merged away can no longer tell. All must be
// of spec, whose columns the current schema must still have. What is in memory is one manifest's bytes at a time, those
// fetched ahead, and the encoded result.
func MergeManifests(ctx context.Context, wh *objstore.Warehouse, meta table.Metadata, spec iceberg.PartitionSpec, snapshotID int64, inputs []iceberg.ManifestFile) (m iceberg.ManifestFile, err error) {
	w, err := newManifestWriter(meta, spec, snapshotID, iceberg.ManifestContentData)
	if err != nil {
		return nil, err
	}
	var files, rows int64
	ahead := newPrefetch(ctx, wh, inputs)
	defer ahead.close()
	for i, in := range inputs {
		data, err := ahead.get(i)
		if err != nil {
			return nil, &ManifestError{in.FilePath(), err}
		}
		n, r, err := copyLive(in, data, spec.ID(), w)
		if err != nil {
			return nil, &ManifestError{in.FilePath(), err}
		}
		files, rows = files+n, rows+r
	}
	if w.files != [3]int32{iceberg.EntryStatusEXISTING: int32(files)} || w.rows != [3]int64{iceberg.EntryStatusEXISTING: rows} {
		return nil, fmt.Errorf("manifest: %d files of %d rows were written, %d of %d were read", w.files, w.rows, files, rows)
	}
	return w.put(ctx, wh)
}

// copyLive writes the live entries of one manifest into w and holds their number against what the list says of it.
func copyLive(in iceberg.ManifestFile, data []byte, spec int, w *manifestWriter) (files, rows int64, err error) {
	defer func() { err = damaged(in.FilePath(), recover(), err) }()
	if int(in.PartitionSpecID()) != spec || in.ManifestContent() != iceberg.ManifestContentData {
		return 0, 0, fmt.Errorf("it is of partition spec %d and holds %s, the merge is of data of spec %d", in.PartitionSpecID(), in.ManifestContent(), spec)
	}
	r, err := iceberg.NewManifestReader(in, bytes.NewReader(data))
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		e, err := r.ReadEntry()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if e.Status() == iceberg.EntryStatusDELETED {
			continue
		}
		df := e.DataFile()
		if df.Count() < 0 || df.FileSizeBytes() < 0 {
			return 0, 0, fmt.Errorf("%w: %s has %d rows in %d bytes", ErrCorrupt, df.FilePath(), df.Count(), df.FileSizeBytes())
		}
		seq := e.SequenceNum()
		if seq < 0 {
			return 0, 0, fmt.Errorf("%w: %s has no sequence number", ErrCorrupt, df.FilePath())
		}
		if err := w.add(iceberg.EntryStatusEXISTING, e.SnapshotID(), &seq, e.FileSequenceNum(), df); err != nil {
			return 0, 0, fmt.Errorf("entry %s: %w", df.FilePath(), err)
		}
		files, rows = files+1, rows+df.Count()
	}
	if want := int64(in.AddedDataFiles()) + int64(in.ExistingDataFiles()); files != want {
		return 0, 0, fmt.Errorf("%w: %d live entries, the list says %d", ErrCorrupt, files, want)
	}
	return files, rows, nil
}

// prefetch fetches manifests in order, mergeReadAhead of them before they are asked for.
type prefetch struct {
	wh      *objstore.Warehouse
	ctx     context.Context
	cancel  context.CancelFunc
	inputs  []iceberg.ManifestFile
	pending []chan fetched // of the ones that were begun, in order
	taken   int
}

type fetched struct {
	data []byte
	err  error
}

func newPrefetch(ctx context.Context, wh *objstore.Warehouse, inputs []iceberg.ManifestFile) *prefetch {
	ctx, cancel := context.WithCancel(ctx)
	return &prefetch{wh: wh, ctx: ctx, cancel: cancel, inputs: inputs}
}

// get returns the bytes of the i-th manifest; i goes up by one from call to call.
func (p *prefetch) get(i int) ([]byte, error) {
	for len(p.pending) < min(i+1+mergeReadAhead, len(p.inputs)) {
		ch, location := make(chan fetched, 1), p.inputs[len(p.pending)].FilePath()
		p.pending = append(p.pending, ch)
		go func() {
			data, err := fetch(p.ctx, p.wh, location, maxManifestBytes)
			ch <- fetched{data, err}
		}()
	}
	f := <-p.pending[i]
	p.pending[i], p.taken = nil, i+1
	return f.data, f.err
}

// close ends what is under way and not wanted any more, and waits for it.
func (p *prefetch) close() {
	p.cancel()
	for _, ch := range p.pending[p.taken:] {
		<-ch
	}
}
