package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/auth"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/past"
	"github.com/firnlake/firn/internal/snapshot"
)

// A table of a past time is metadata of its own: one snapshot, main at it, nothing else. Where the table still has the
// snapshot of that time, that is it ("as it stood then"). Otherwise it is made of today's files and of position deletes for the
// rows that came later ("as we read it today"). It lies in the table's location, in a directory of its own, so that what may read
// the table may read it; and it is made once for a state and a stretch of time, by whichever catalog is asked first: the
// name of the metadata file follows from both, and it is written last and only if it is absent.
//
// The rows that stay are in the table's own files, which a compaction may replace. So one that is made of today's files is
// made anew from then on that the table has left the snapshot that it was made on, and in any case after pastStretch.
const (
	pastDir = "as-of"
	// pastStretch is how long a table made of today's files is handed out: after it, what compaction and redrives did is in it.
	pastStretch = 5 * time.Minute
	// pastTimeout bounds the making of one; those who wait for it longer than a request may take ask again.
	pastTimeout = 5 * time.Minute
	// pastAtOnce bounds how many are made at the same time.
	pastAtOnce = 2
	// pastMarkers holds an object for each directory that is to be removed, named by the time from which on, and by a hash
	// of the principal whose share it takes.
	pastMarkers = reserved + "/" + pastDir
	// pastSweepEvery is how often they are looked through.
	pastSweepEvery = 5 * time.Minute
)

// Properties that say what a table of a past time is.
const (
	propAsOf         = "firn.as-of"             // when the commit was made that it shows
	propAsOfKind     = "firn.as-of.kind"        // past.Stood or past.ReadNow
	propAsOfTable    = "firn.as-of.table-uuid"  // of which table
	propAsOfSnapshot = "firn.as-of.snapshot-id" // its snapshot of that time, or the one whose files were cut
	propAsOfOffsets  = "firn.as-of.offsets"     // the first offset of each partition that is not in it
)

// pastDocument is a table of a past time as it is handed out.
type pastDocument struct {
	document
	tableID int64  // of the table
	root    string // its location
}

// pastMade is what a flight of pasts ends with.
type pastMade struct {
	document
	wrote bool
}

// pasts are the tables of a past time that are being made.
type pasts struct {
	ctx     context.Context // ends with the service
	cancel  context.CancelFunc
	flights singleflight.Group
	slots   chan struct{}
}

func newPasts() *pasts {
	ctx, cancel := context.WithCancel(context.Background())
	return &pasts{ctx: ctx, cancel: cancel, slots: make(chan struct{}, pastAtOnce)}
}

// close ends what is being made and waits for it.
func (p *pasts) close() {
	p.cancel()
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
}

// stateAt finds what a table was: the table as it is, with all that there is of it, and the state.
func (s *Service) stateAt(ctx context.Context, p *pastTable) (*lean, past.State, error) {
	if p.at.After(time.Now()) {
		return nil, past.State{}, fmt.Errorf("%w: %s is in the future", catalog.ErrInvalid, p.at.Format(time.RFC3339Nano))
	}
	if err := checkTableName(p.base); err != nil {
		return nil, past.State{}, err
	}
	st, err := s.store.Load(ctx, p.base, sqlstore.Scope{AllSnapshots: true, FullLog: true})
	if err != nil {
		return nil, past.State{}, err
	}
	l, err := newLean(st)
	if err != nil {
		return nil, past.State{}, err
	}
	state, err := past.At(ctx, p.base, l.meta, s, p.at)
	switch {
	case errors.Is(err, past.ErrTooEarly):
		err = fmt.Errorf("%w: %s had no commit yet at %s", catalog.ErrNoSuchTable, p.base, p.at.Format(time.RFC3339Nano))
	case errors.Is(err, past.ErrExpired), errors.Is(err, past.ErrNoLedger):
		err = fmt.Errorf("%w: %s as of %s: %w", catalog.ErrInvalid, p.base, p.at.Format(time.RFC3339Nano), err)
	}
	return l, state, err
}

// loadPast returns a table of a past time, with its files written.
func (s *Service) loadPast(ctx context.Context, p *pastTable) (*pastDocument, error) {
	began := time.Now()
	d, wrote, err := s.findPast(ctx, p)
	outcome := "found"
	switch {
	case errors.Is(err, catalog.ErrInvalid), errors.Is(err, catalog.ErrNoSuchTable):
		outcome = "refused"
	case err != nil:
		outcome = "failed"
	case wrote:
		outcome = "made"
	}
	s.m.asOfSeconds.WithLabelValues(outcome).Observe(time.Since(began).Seconds())
	return d, err
}

// findPast is loadPast. It tells whether the files had to be written, by this request or by one that it waited for.
func (s *Service) findPast(ctx context.Context, p *pastTable) (found *pastDocument, wrote bool, err error) {
	base, state, err := s.stateAt(ctx, p)
	if err != nil {
		return nil, false, err
	}
	root, err := cleanLocation(s.wh.URI, base.head.Location)
	if err != nil {
		return nil, false, err
	}
	made := &pastMaker{s: s, base: base, state: state, who: p.who, now: time.Now()}
	if err := made.name(); err != nil {
		return nil, false, err
	}
	for {
		m, err := s.flyPast(ctx, made)
		var many *tooManyError
		if errors.As(err, &many) && many.who != sharer(p.who) && ctx.Err() == nil { // of another who asked for the same first, and whose share this one does not take
			continue
		}
		if err != nil {
			return nil, false, err
		}
		return &pastDocument{m.document, base.head.ID, root}, m.wrote, nil
	}
}

// flyPast makes a table of a past time, or waits for the one who makes it already.
func (s *Service) flyPast(ctx context.Context, made *pastMaker) (pastMade, error) {
	key := strconv.FormatInt(made.base.head.ID, 10) + "/" + made.dir
	ch := s.pasts.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(s.pasts.ctx, pastTimeout)
		defer cancel()
		select {
		case s.pasts.slots <- struct{}{}:
			defer func() { <-s.pasts.slots }()
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: waiting for other tables of a past time: %w", catalog.ErrUnavailable, ctx.Err())
		}
		d, err := made.make(ctx)
		return pastMade{d, made.wrote}, err
	})
	select {
	case res := <-ch:
		if res.Err != nil {
			return pastMade{}, res.Err
		}
		return res.Val.(pastMade), nil
	case <-ctx.Done():
		return pastMade{}, fmt.Errorf("%w: the table is still being made; ask again: %w", catalog.ErrUnavailable, ctx.Err())
	}
}

// pastMaker makes one table of a past time.
type pastMaker struct {
	s     *Service
	base  *lean
	state past.State
	who   *auth.Principal // whose share it takes of as_of.max_tables
	now   time.Time

	uuid  uuid.UUID
	dir   string // location of its files
	ends  time.Time
	wrote bool // the files were not there
}

// name chooses the directory and the uuid. The uuid is that of the state, whenever it is made: engines that keep a table for
// a while hold it against the one before.
func (p *pastMaker) name() error {
	what, stretch := "snapshot 0", p.s.cfg.AsOf.Lifetime.D()
	switch {
	case p.state.Kind == past.ReadNow:
		code, err := p.state.Below.Encode()
		if err != nil {
			return err
		}
		what, stretch = "offsets "+code, pastStretch
	case p.state.Snapshot != nil:
		what = "snapshot " + strconv.FormatInt(p.state.Snapshot.SnapshotID, 10)
	}
	of, err := uuid.Parse(p.base.head.UUID)
	if err != nil {
		return fmt.Errorf("table uuid %q: %w", p.base.head.UUID, err)
	}
	p.uuid = uuid.NewSHA1(of, []byte(what))
	sum := sha256.Sum256([]byte(what))
	begins := p.now.Truncate(stretch)
	p.dir = fmt.Sprintf("%s/%s/%s-%s-%d", strings.TrimRight(p.base.head.Location, "/"), pastDir, p.state.Kind, hex.EncodeToString(sum[:8]), begins.UnixMilli())
	p.ends = begins.Add(stretch + p.s.cfg.AsOf.Lifetime.D())
	return nil
}

func (p *pastMaker) location() string { return fmt.Sprintf("%s/00000-%s.metadata.json", p.dir, p.uuid) }

// make returns the table, which another catalog or an earlier request may have made.
func (p *pastMaker) make(ctx context.Context) (document, error) {
	for {
		doc, meta, err := p.read(ctx)
		if errors.Is(err, objstore.ErrNotFound) {
			return p.write(ctx)
		}
		if err != nil || !p.stale(meta) {
			return doc, err
		}
		p.dir += "-" + strconv.FormatInt(p.currentID(), 10) // made on a snapshot whose files may be gone
	}
}

// read returns the table that lies there. Whoever has keys for the table's files can have written it: what is no metadata is
// not handed on.
func (p *pastMaker) read(ctx context.Context) (document, table.Metadata, error) {
	loc := p.location()
	doc, err := p.s.readMetadata(ctx, loc)
	if err != nil {
		return document{}, nil, err
	}
	meta, err := parse(doc)
	if err != nil {
		return document{}, nil, fmt.Errorf("metadata file %s: it is not the catalog's own: remove it, and it is made anew: %w", loc, err)
	}
	return document{location: loc, full: doc, refs: doc}, meta, nil
}

// stale tells whether the table has left the snapshot whose files were cut.
func (p *pastMaker) stale(m table.Metadata) bool {
	if p.state.Kind != past.ReadNow {
		return false
	}
	made, err := strconv.ParseInt(m.Properties()[propAsOfSnapshot], 10, 64)
	if err != nil || made == p.currentID() {
		return false
	}
	return p.base.meta.SnapshotByID(made) == nil
}

func (p *pastMaker) currentID() int64 {
	if id := currentID(p.base.meta); id != nil {
		return *id
	}
	return 0
}

// write makes the table: the marker that has it removed, its files, and its metadata file at last.
func (p *pastMaker) write(ctx context.Context) (document, error) {
	p.wrote = true
	if err := p.mark(ctx); err != nil {
		return document{}, err
	}
	st, err := p.compose(ctx)
	if err != nil {
		return document{}, err
	}
	doc, loc := compose(st), p.location()
	if _, err := parse(doc); err != nil { // nobody would be able to read it
		return document{}, fmt.Errorf("metadata of a past time: %w", err)
	}
	key, err := p.s.key(loc)
	if err != nil {
		return document{}, err
	}
	switch _, err := p.s.wh.Put(ctx, key, bytes.NewReader(doc), objstore.IfAbsent); {
	case errors.Is(err, objstore.ErrExists): // another catalog was first, and its files count
		theirs, _, err := p.read(ctx)
		return theirs, err
	case err != nil:
		return document{}, storageError("write metadata file "+loc, err)
	}
	return document{location: loc, full: doc, refs: doc}, nil
}

// compose returns the rows of the table.
func (p *pastMaker) compose(ctx context.Context) (*sqlstore.State, error) {
	snap, seq, rowID := p.state.Snapshot, p.base.head.LastSequenceNumber, p.base.head.NextRowID
	props := map[string]string{propAsOf: p.state.Entry.At.UTC().Format("2006-01-02T15:04:05.000Z"), propAsOfKind: string(p.state.Kind), propAsOfTable: p.base.head.UUID}
	if snap != nil {
		props[propAsOfSnapshot] = strconv.FormatInt(snap.SnapshotID, 10)
		if snap.Summary != nil {
			if v, err := offset.DecodeVector(snap.Summary.Properties[offsetsKey]); err == nil { // else a snapshot of somebody else's
				props[propAsOfOffsets] = v.String()
			}
		}
	}
	if p.state.Kind == past.ReadNow {
		made, err := p.cut(ctx)
		if err != nil {
			return nil, err
		}
		snap, seq = made, made.SequenceNumber
		if made.FirstRowID != nil {
			rowID = *made.FirstRowID + *made.AddedRows
		}
		props[propAsOfSnapshot], props[propAsOfOffsets] = strconv.FormatInt(p.currentID(), 10), p.state.Below.String()
	}
	skeleton, err := p.skeleton(props)
	if err != nil {
		return nil, err
	}
	st := &sqlstore.State{Head: p.base.head, Skeleton: skeleton}
	st.LastSequenceNumber, st.NextRowID = seq, rowID
	if snap == nil {
		return st, nil
	}
	row, err := snapshotRow(snap)
	if err != nil {
		return nil, err
	}
	st.Snapshots = []sqlstore.Snapshot{row}
	st.Refs = []sqlstore.Ref{{Name: table.MainBranch, SnapshotID: snap.SnapshotID, Body: fmt.Appendf(nil, `{"snapshot-id":%d,"type":"branch"}`, snap.SnapshotID)}}
	st.Log = []sqlstore.LogEntry{{AtMS: snap.TimestampMs, SnapshotID: snap.SnapshotID}}
	st.LastUpdatedMS = max(st.LastUpdatedMS, snap.TimestampMs)
	return st, nil
}

// cut makes the snapshot of today's files.
func (p *pastMaker) cut(ctx context.Context) (*table.Snapshot, error) {
	read := snapshot.NewReader(&p.s.wh, 0)
	head, err := snapshot.LoadHead(ctx, read, pastMetadata{p.base.meta, p.dir}, table.MainBranch)
	if err == nil {
		c := past.Cutter{Warehouse: &p.s.wh, Read: read, MaxRows: p.s.cfg.AsOf.MaxRows, Mem: memory.DefaultAllocator}
		var made table.Snapshot
		if made, err = c.Cut(ctx, head, p.state.Below, p.now); err == nil {
			return &made, nil
		}
	}
	switch {
	case errors.Is(err, past.ErrTooLarge):
		err = fmt.Errorf("%w: %w: raise catalog.as_of.max_rows, or ask Firn's own SQL, which makes no files for it", catalog.ErrInvalid, err)
	case errors.Is(err, snapshot.ErrDeleteFiles), errors.Is(err, past.ErrNoLedger):
		err = fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	case errors.Is(err, objstore.ErrUnavailable), errors.Is(err, objstore.ErrNotFound): // a compaction took the files in between
		err = fmt.Errorf("%w: %w", catalog.ErrUnavailable, err)
	}
	return nil, err
}

// pastMetadata is a table's metadata whose files go to a directory.
type pastMetadata struct {
	table.Metadata
	dir string
}

func (m pastMetadata) Properties() iceberg.Properties {
	props := iceberg.Properties{}
	maps.Copy(props, m.Metadata.Properties())
	props[propMetadataPath] = m.dir
	return props
}

// skeleton is the base's with the state's schema, and without what the new table does not have.
func (p *pastMaker) skeleton(props map[string]string) ([]byte, error) {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(p.base.skeleton, &doc); err != nil {
		return nil, err
	}
	own := map[string]string{}
	if err := json.Unmarshal(doc["properties"], &own); err != nil {
		return nil, err
	}
	for k, v := range props {
		if v != "" {
			own[k] = v
		}
	}
	delete(doc, "statistics")
	delete(doc, "partition-statistics")
	for k, v := range map[string]any{"properties": own, "table-uuid": p.uuid.String(), "current-schema-id": p.state.Schema.ID} {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		doc[k] = raw
	}
	return json.Marshal(doc)
}

// maxMarker bounds the bytes of a marker.
const maxMarker = 64 << 10

// pastMarker is the content of a marker.
type pastMarker struct {
	Location string `json:"location"`
}

// mark leaves what has the directory removed later, so that nothing is written that nobody would remove.
func (p *pastMaker) mark(ctx context.Context) error {
	n, own, mine := 0, 0, ""
	if who := sharer(p.who); who != "" {
		sum := sha256.Sum256([]byte(who))
		mine = "-" + hex.EncodeToString(sum[:8])
	}
	err := p.s.wh.List(ctx, pastMarkers, func(i objstore.Info) error {
		n++
		if mine != "" && strings.HasSuffix(i.Key, mine+".json") {
			own++
		}
		return nil
	})
	if err != nil {
		return storageError("list "+pastMarkers, err)
	}
	if n >= p.s.cfg.AsOf.MaxTables {
		return fmt.Errorf("%w: %d tables of a past time are kept already; the oldest go within %s; raise catalog.as_of.max_tables for more", catalog.ErrUnavailable, n, p.s.cfg.AsOf.Lifetime.D())
	}
	if most := shareOf(p.s.cfg.AsOf.MaxTables); mine != "" && own >= most {
		return tooMuch(shareWait, sharer(p.who), "as_of.max_tables", "too many tables of a past time: %s has had %d made that are still kept, which is all that one principal may have of %d; the oldest go within %s",
			p.who.Name, own, p.s.cfg.AsOf.MaxTables, p.s.cfg.AsOf.Lifetime.D())
	}
	body, err := json.Marshal(pastMarker{p.dir})
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(p.dir))
	name := fmt.Sprintf("%s/%013d-%s%s.json", pastMarkers, p.ends.UnixMilli(), hex.EncodeToString(sum[:12]), mine)
	if _, err := p.s.wh.Put(ctx, name, bytes.NewReader(body), objstore.Overwrite); err != nil {
		return storageError("write "+name, err)
	}
	return nil
}

// sweepPasts removes the tables of a past time whose time has come.
func (s *Service) sweepPasts(ctx context.Context, now time.Time) error {
	var due []string
	err := s.wh.List(ctx, pastMarkers, func(i objstore.Info) error {
		ms, _, _ := strings.Cut(path.Base(i.Key), "-")
		if ends, err := strconv.ParseInt(ms, 10, 64); err == nil && ends <= now.UnixMilli() && len(due) < deleteBatch {
			due = append(due, i.Key)
		}
		return nil
	})
	if err != nil {
		return storageError("list "+pastMarkers, err)
	}
	var errs []error
	for _, marker := range due {
		if err := s.removePast(ctx, marker); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", marker, err))
		}
	}
	return errors.Join(errs...)
}

// removePast removes the directory that a marker names, and the marker.
func (s *Service) removePast(ctx context.Context, marker string) error {
	body, err := s.wh.Get(ctx, marker, maxMarker)
	if errors.Is(err, objstore.ErrNotFound) { // another catalog was first
		return nil
	}
	if err != nil {
		return storageError("read marker", err)
	}
	var m pastMarker
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	if path.Base(path.Dir(m.Location)) != pastDir {
		return fmt.Errorf("%w: %s is no directory of a table of a past time", catalog.ErrInvalid, m.Location)
	}
	if err := s.purge(ctx, m.Location); err != nil {
		return err
	}
	if err := s.wh.Delete(ctx, marker); err != nil {
		return storageError("delete marker", err)
	}
	return nil
}
