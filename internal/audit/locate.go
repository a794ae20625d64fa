package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/snapshot"
)

const (
	// maxExamples is how many doubled offsets of a partition are looked for in the files.
	maxExamples = 5
	// maxFilesShown is how many files a problem names.
	maxFilesShown = 4
)

// locateDoubled says where doubled rows lie. Which file an offset came from is not kept while reading, so the files
// whose bounds allow it are read once more; that happens to broken tables alone.
func (a *auditor) locateDoubled(ctx context.Context, main table.Metadata, dead *catalog.Table) error {
	if len(a.rows.doubled) == 0 {
		return nil
	}
	wanted := map[int32]*roaring64.Bitmap{}
	for p, d := range a.rows.doubled {
		some := roaring64.New()
		for it := d.Iterator(); it.HasNext() && some.GetCardinality() < maxExamples; {
			some.Add(it.Next())
		}
		wanted[p] = some
	}
	where, err := a.filesWith(ctx, main, wanted)
	if err != nil {
		return err
	}
	for p, d := range a.rows.doubled {
		files := where[p]
		more := ""
		if len(files) > maxFilesShown {
			more, files = fmt.Sprintf(" (%d files have the first of them)", len(files)), files[:maxFilesShown]
		}
		a.report.problem(Problem{Kind: KindDoubled, Partition: &p, Count: int64(d.GetCardinality()), Offsets: spans(d), Files: files,
			Message: "offsets are there in more than one row" + more})
	}
	return nil
}

// filesWith returns the files that hold any of the wanted offsets, by partition.
func (a *auditor) filesWith(ctx context.Context, meta table.Metadata, wanted map[int32]*roaring64.Bitmap) (map[int32][]string, error) {
	ids, err := ledgerColumns(meta.CurrentSchema())
	if err != nil {
		return nil, err
	}
	files, err := snapshot.LiveFiles(ctx, a.wh, meta.CurrentSnapshot(), func(f iceberg.DataFile) bool { return mayHold(f, ids.offset, wanted) })
	if err != nil {
		return nil, err
	}
	out := map[int32][]string{}
	for _, f := range files {
		own := newOffsets()
		if _, err := readFile(ctx, a.wh, f, ids, false, found{rows: own.addRow}); err != nil && !errors.Is(err, errFault) {
			return nil, err
		}
		own.close()
		for p, w := range wanted {
			if b := own.of[p]; b != nil && b.Intersects(w) {
				out[p] = append(out[p], f.FilePath())
			}
		}
	}
	for p := range out {
		slices.Sort(out[p])
	}
	return out, nil
}

// mayHold prunes by the manifest's bounds of the offset column.
func mayHold(f iceberg.DataFile, offsetID int, wanted map[int32]*roaring64.Bitmap) bool {
	lo, up := f.LowerBoundValues()[offsetID], f.UpperBoundValues()[offsetID]
	if len(lo) != 8 || len(up) != 8 {
		return true
	}
	for _, w := range wanted {
		if w.Intersects(span(int64(binary.LittleEndian.Uint64(lo)), int64(binary.LittleEndian.Uint64(up))+1)) {
			return true
		}
	}
	return false
}
