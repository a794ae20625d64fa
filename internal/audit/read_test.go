package audit

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/compress/gzip"
	"github.com/parquet-go/parquet-go/compress/lz4"
	"github.com/parquet-go/parquet-go/compress/snappy"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/firnlake/firn/internal/datafile"
)

// foreign is a file as another engine might write it, with checksums, by parquet-go.
func foreign(t testing.TB, rows int, codec compress.Codec, version int, column parquet.Node) []byte {
	t.Helper()
	ids := func(n parquet.Node, id int) parquet.Node { return parquet.FieldID(n, id) }
	sc := parquet.NewSchema("schema", parquet.Group{
		"a_text": ids(parquet.Optional(parquet.String()), 1), "b_partition": ids(parquet.Optional(parquet.Encoded(parquet.Int(32), &parquet.RLEDictionary)), 2),
		"c_offset": ids(column, 3)})
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[any](&buf, sc, parquet.Compression(codec), parquet.DataPageVersion(version), parquet.PageBufferSize(2000), parquet.DataPageStatistics(true))
	def := 0
	if column.Optional() {
		def = 1
	}
	for at := range rows {
		if _, err := w.WriteRows([]parquet.Row{{parquet.ByteArrayValue([]byte("text")).Level(0, 1, 0), parquet.Int32Value(int32(at%3)).Level(0, 1, 1),
			parquet.Int64Value(int64(at/3)).Level(0, def, 2)}}); err != nil {
			t.Fatal(err)
		}
		if at == rows/2 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

var ids = ledgerIDs{partition: 2, offset: 3}

func read(t testing.TB, data []byte, all bool) (*offsets, fileRows, error) {
	o := newOffsets()
	got, err := readLedger(t.Context(), bytes.NewReader(data), int64(len(data)), "some/file", ids, all, newRuns(found{rows: o.addRow}, nil))
	return o, got, err
}

// Files of every encoding, compression and page version that integers have are read.
func TestForeignFilesAreRead(t *testing.T) {
	const rows = 3000
	columns := map[string]parquet.Node{
		"plain": parquet.Int(64), "optional": parquet.Optional(parquet.Int(64)), "delta": parquet.Encoded(parquet.Optional(parquet.Int(64)), &parquet.DeltaBinaryPacked),
		"dictionary": parquet.Encoded(parquet.Int(64), &parquet.RLEDictionary), "split": parquet.Encoded(parquet.Int(64), &parquet.ByteStreamSplit),
	}
	for encoding, column := range columns {
		for codec, c := range map[string]compress.Codec{"none": &parquet.Uncompressed, "zstd": &zstd.Codec{}, "snappy": &snappy.Codec{}, "lz4": &lz4.Codec{}} {
			for version := 1; version <= 2; version++ {
				data := foreign(t, rows, c, version, column)
				o, got, err := read(t, data, false)
				if err != nil || got.arrow != (codec == "lz4") || got.rows != rows || got.unledgered != 0 || got.sums.Pages < 8 || got.sums.Verified != got.sums.Pages {
					t.Fatalf("%s %s v%d: %+v, %v", encoding, codec, version, got, err)
				}
				for p := range int32(3) {
					if !o.of[p].Equals(span(0, rows/3)) || o.rows[p] != rows/3 {
						t.Fatalf("%s %s v%d: partition %d holds %s", encoding, codec, version, p, spans(o.of[p]))
					}
				}
			}
		}
	}
	_, _, err := read(t, foreign(t, 10, &gzip.Codec{}, 1, parquet.Int(64)), false)
	if err == nil || !strings.Contains(err.Error(), "rewrite the file") {
		t.Errorf("gzip: %v", err)
	}
}

func TestAChecksumThatIsWrongIsFound(t *testing.T) {
	data := foreign(t, 300, &parquet.Uncompressed, 1, parquet.Int(64))
	text := bytes.Clone(data)
	text[bytes.Index(text, []byte("texttext"))+4+20] ^= 1 // in the values of the first column
	if _, _, err := read(t, text, false); err != nil {
		t.Errorf("the ledger columns are whole: %v", err)
	}
	if _, got, err := read(t, text, true); !errors.Is(err, datafile.ErrCorrupt) || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("%+v, %v", got, err)
	}
	if _, got, err := read(t, data, true); err != nil || got.sums.Pages != got.sums.Verified || got.sums.Pages < 6 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Mutants give rows or an error that names the file, never a panic, and never memory without bound.
func TestMutantsAreBounded(t *testing.T) {
	n := 4000
	if testing.Short() {
		n = 400
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	var seeds [][]byte
	for _, column := range []parquet.Node{parquet.Encoded(parquet.Optional(parquet.Int(64)), &parquet.DeltaBinaryPacked), parquet.Encoded(parquet.Int(64), &parquet.RLEDictionary)} {
		for _, c := range []compress.Codec{&parquet.Uncompressed, &zstd.Codec{}, &snappy.Codec{}} {
			seeds = append(seeds, foreign(t, 60, c, 1+len(seeds)%2, column))
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	var m runtime.MemStats
	for i := range n {
		data := bytes.Clone(seeds[i%len(seeds)])
		for range 1 + rnd.IntN(4) {
			data[rnd.IntN(len(data))] = byte(rnd.Uint32())
		}
		runtime.ReadMemStats(&m)
		before := m.TotalAlloc
		_, _, err := read(t, data, i%2 == 0)
		runtime.ReadMemStats(&m)
		if m.TotalAlloc-before > 64<<20 {
			t.Errorf("mutant %d took %d MB: %v", i, (m.TotalAlloc-before)>>20, err)
		}
		if err != nil && !strings.Contains(err.Error(), "some/file") {
			t.Errorf("the error does not name the file: %v", err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(foreign(f, 20, &zstd.Codec{}, 2, parquet.Encoded(parquet.Optional(parquet.Int(64)), &parquet.DeltaBinaryPacked)))
	f.Add(foreign(f, 20, &snappy.Codec{}, 1, parquet.Encoded(parquet.Int(64), &parquet.RLEDictionary)))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := readLedger(context.Background(), bytes.NewReader(data), int64(len(data)), "some/file", ids, true, newRuns(found{rows: func(int32, int64, int64, int32) {}}, nil))
		if err != nil && !strings.Contains(err.Error(), "some/file") {
			t.Errorf("the error does not name the file: %v", err)
		}
	})
}
