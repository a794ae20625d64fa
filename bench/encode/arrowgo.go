package encode

import (
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
)

// unique are the columns in which hardly a value comes twice. The peers are told of them, which in a product nobody
// could do for them: a dictionary of such a column is work for nothing. Firn's writer finds out by itself.
var unique = map[string]bool{"event_id": true, "key.user_id": true, "key.session_id": true, "metadata.trace_id": true,
	"metadata.event_timestamp": true, ledger.ColOffset: true}

// arrowGo writes with pqarrow, tuned as far as its options go.
type arrowGo struct {
	as    *arrow.Schema
	props *parquet.WriterProperties
}

func newArrowGo(sc *iceberg.Schema, codec string) (*arrowGo, error) {
	as, err := datafile.ArrowSchema(sc)
	if err != nil {
		return nil, err
	}
	props := []parquet.WriterProperty{
		parquet.WithVersion(parquet.V2_LATEST), parquet.WithDataPageVersion(parquet.DataPageV1),
		parquet.WithCompression(datafile.Codecs[codec]), parquet.WithCompressionLevel(1), parquet.WithDataPageSize(1 << 20), parquet.WithMaxRowGroupLength(1 << 20),
		parquet.WithDictionaryDefault(true), parquet.WithStats(true), parquet.WithMaxStatsSize(4096), parquet.WithRootName("schema"),
	}
	for path := range unique {
		props = append(props, parquet.WithDictionaryFor(path, false))
	}
	return &arrowGo{as, parquet.NewWriterProperties(props...)}, nil
}

func (a *arrowGo) write(to io.Writer, rows arrow.RecordBatch) error {
	w, err := pqarrow.NewFileWriter(a.as, to, a.props, pqarrow.DefaultWriterProps())
	if err != nil {
		return err
	}
	if err := w.WriteBuffered(rows); err != nil {
		return err
	}
	return w.Close()
}
