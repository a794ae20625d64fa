package ledger

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/firnlake/firn/internal/offset"
)

// The versions of the record. ParseSummary reads up to the last.
const (
	recordVersion = 1
	// topicsVersion is written where there are Topics: a reader that does not know of them would take the partitions' numbers
	// for Kafka's, so it has to refuse the record.
	topicsVersion = 2
)

// ErrBadRecord reports firn keys in a summary that cannot be read: damage, or a newer Firn.
var ErrBadRecord = errors.New("firn record cannot be read")

// Summary returns the record as summary properties of a snapshot.
func (r Record) Summary() (map[string]string, error) {
	offsets, err := r.Offsets.Encode()
	if err != nil {
		return nil, fmt.Errorf("firn record: %w", err)
	}
	ranges, err := offset.EncodeRanges(r.Ranges, r.Offsets)
	if err != nil {
		return nil, fmt.Errorf("firn record: %w", err)
	}
	last, err := offset.EncodeLastRows(r.LastRow, r.Offsets)
	if err != nil {
		return nil, fmt.Errorf("firn record: %w", err)
	}
	m := map[string]string{
		KeyVersion: strconv.Itoa(recordVersion), KeyKind: string(r.Kind), KeyPipeline: r.Pipeline, KeyBatchID: r.BatchID,
		KeyEpoch: strconv.FormatInt(r.Epoch, 10), KeyClusterID: r.ClusterID, KeyTopicID: r.TopicID,
		KeyRange: ranges, KeyOffsets: offsets, KeyLastRow: last, KeyPrev: strconv.FormatInt(r.Prev, 10),
	}
	if !r.Watermark.IsZero() {
		m[KeyWatermark] = r.Watermark.UTC().Format(time.RFC3339Nano)
	}
	for key, set := range map[string]map[int32]Filtered{KeyFiltered: r.Filtered, KeyDuplicates: r.Duplicates} {
		text, err := encodeFiltered(set, r.Offsets)
		if err != nil {
			return nil, fmt.Errorf("firn record: %s: %w", key, err)
		}
		if text != "" {
			m[key] = text
		}
	}
	if len(r.Unpublished) > 0 {
		if m[KeyUnpublished], err = offset.EncodeLastRows(r.Unpublished, r.Offsets); err != nil {
			return nil, fmt.Errorf("firn record: %s: %w", KeyUnpublished, err)
		}
	}
	if len(r.Topics) > 0 {
		m[KeyVersion] = strconv.Itoa(topicsVersion)
		if m[KeyTopics], err = r.Topics.encode(); err != nil {
			return nil, fmt.Errorf("firn record: %s: %w", KeyTopics, err)
		}
	}
	if r.TraceID != "" {
		m[KeyTraceID] = r.TraceID
	}
	return m, nil
}

// ParseSummary is the inverse of Summary; other properties are ignored. Without firn keys it gives ErrNoRecord.
func ParseSummary(props map[string]string) (Record, error) {
	v, ok := props[KeyVersion]
	if !ok {
		return Record{}, ErrNoRecord
	}
	bad := func(key string, err error) (Record, error) {
		return Record{}, fmt.Errorf("%w: %s = %q: %w", ErrBadRecord, key, props[key], err)
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > topicsVersion {
		return bad(KeyVersion, fmt.Errorf("this firn reads version %d and older; upgrade it", topicsVersion))
	}
	r := Record{Version: n, Kind: Kind(props[KeyKind]), Pipeline: props[KeyPipeline], BatchID: props[KeyBatchID],
		ClusterID: props[KeyClusterID], TopicID: props[KeyTopicID], TraceID: props[KeyTraceID]}
	if r.Epoch, err = strconv.ParseInt(props[KeyEpoch], 10, 64); err != nil {
		return bad(KeyEpoch, err)
	}
	if r.Prev, err = strconv.ParseInt(props[KeyPrev], 10, 64); err != nil {
		return bad(KeyPrev, err)
	}
	if r.Offsets, err = offset.DecodeVector(props[KeyOffsets]); err != nil {
		return bad(KeyOffsets, err)
	}
	if r.Ranges, err = offset.DecodeRanges(props[KeyRange], r.Offsets); err != nil {
		return bad(KeyRange, err)
	}
	if r.LastRow, err = offset.DecodeLastRows(props[KeyLastRow], r.Offsets); err != nil {
		return bad(KeyLastRow, err)
	}
	if r.Filtered, err = decodeFiltered(props[KeyFiltered], r.Offsets); err != nil {
		return bad(KeyFiltered, err)
	}
	if r.Duplicates, err = decodeFiltered(props[KeyDuplicates], r.Offsets); err != nil {
		return bad(KeyDuplicates, err)
	}
	if u := props[KeyUnpublished]; u != "" {
		if r.Unpublished, err = offset.DecodeLastRows(u, r.Offsets); err != nil {
			return bad(KeyUnpublished, err)
		}
	}
	if r.Topics, err = topicsOf(props, n); err != nil {
		return bad(KeyTopics, err)
	}
	if w := props[KeyWatermark]; w != "" {
		if r.Watermark, err = time.Parse(time.RFC3339Nano, w); err != nil {
			return bad(KeyWatermark, err)
		}
	}
	return r, nil
}

// topicsOf reads the topics of a record of version n, which has them if and only if it is the version that has.
func topicsOf(props map[string]string, n int) (Topics, error) {
	text, ok := props[KeyTopics]
	switch {
	case ok != (n == topicsVersion):
		return nil, fmt.Errorf("records of version %d alone have it", topicsVersion)
	case !ok:
		return nil, nil
	}
	return decodeTopics(text)
}
