package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/objstore"
)

// document is a version of a table as others see it: the metadata file's bytes and where it lies.
type document struct {
	version  int64
	location string
	full     []byte // what the file holds
	refs     []byte // the same with only the snapshots that a ref or a statistics file names
}

// flights holds the materialisations that run, by table id: one for each at a time.
type flights struct {
	mu      sync.Mutex
	running map[int64]*flight
}

type flight struct {
	done chan struct{} // closed at the end; doc and err are set before
	doc  *document
	err  error
}

// expose returns the newest version of a table, at least version atLeast, with its metadata file written.
// Any number of callers share one materialisation.
func (s *Service) expose(ctx context.Context, tableID, atLeast int64) (*document, error) {
	for {
		if d, ok := s.exposed.Get(tableID); ok && d.version >= atLeast {
			return d, nil
		}
		s.flights.mu.Lock()
		f, ok := s.flights.running[tableID]
		if !ok {
			f = &flight{done: make(chan struct{})}
			s.flights.running[tableID] = f
			go s.fly(context.WithoutCancel(ctx), tableID, f)
		}
		s.flights.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: waiting for the metadata file: %w", catalog.ErrUnavailable, ctx.Err())
		}
		if f.err != nil {
			return nil, f.err
		}
		if f.doc.version >= atLeast {
			return f.doc, nil // else it had begun before the version that is wanted
		}
	}
}

// fly runs a materialisation to its end even when the caller that began it has gone: others wait for it.
func (s *Service) fly(ctx context.Context, tableID int64, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout.D())
	defer cancel()
	f.doc, f.err = s.materialize(ctx, tableID)
	if f.err != nil && !errors.Is(f.err, catalog.ErrNoSuchTable) {
		s.m.materializeFails.Inc()
	}
	s.flights.mu.Lock()
	delete(s.flights.running, tableID)
	s.flights.mu.Unlock()
	close(f.done)
}

// wait ends when no materialisation runs. Each is bounded by the request timeout.
func (f *flights) wait() {
	for {
		var one *flight
		f.mu.Lock()
		for _, fl := range f.running {
			one = fl
			break
		}
		f.mu.Unlock()
		if one == nil {
			return
		}
		<-one.done
	}
}

// materialize writes the metadata file of a table's newest version, if that has none yet.
func (s *Service) materialize(ctx context.Context, tableID int64) (*document, error) {
	st, err := s.store.LoadByID(ctx, tableID, sqlstore.Scope{AllSnapshots: true, FullLog: true, MetadataLog: maxMetadataLog})
	if err != nil {
		return nil, err
	}
	place, err := placeOf(st)
	if err != nil {
		return nil, err
	}
	place.trimMetadataLog(st, s.cfg.MetadataLog)
	d := &document{version: st.Version, full: compose(st)}
	if d.refs, err = refsDocument(st, d.full); err != nil {
		return nil, err
	}
	wrote := false
	if st.MaterializedVersion == st.Version {
		d.location = st.MaterializedLocation
	} else if d.location, wrote, err = s.writeMetadata(ctx, st, place, d.full); err != nil {
		return nil, err
	}
	if !wrote {
		d.full = s.asWritten(ctx, d.location, d.full)
	}
	s.exposed.PutUnless(tableID, int64(len(d.full)+len(d.refs)), d, func(have *document) bool { return have.version > d.version })
	return d, nil
}

// maxMetadataLog bounds what a table may ask for by write.metadata.previous-versions-max.
const maxMetadataLog = 1000

// tablePlace is what of a skeleton says where metadata files go, and how many are named.
type tablePlace struct {
	Location   string             `json:"location"`
	Properties iceberg.Properties `json:"properties"`
}

func placeOf(st *sqlstore.State) (p tablePlace, err error) {
	if err = json.Unmarshal(st.Skeleton, &p); err != nil {
		err = fmt.Errorf("table %s version %d in the catalog's database: %w", st.UUID, st.Version, err)
	}
	return p, err
}

// trimMetadataLog leaves the newest keep files, or as many as the table asks for.
func (p tablePlace) trimMetadataLog(st *sqlstore.State, keep int) {
	if v := p.Properties[propPrevious]; v != "" {
		if n, err := strconv.Atoi(v); err == nil { // a value that is no number is the writer's slip, not a reason to stop serving
			keep = min(max(n, 1), maxMetadataLog)
		}
	}
	if n := len(st.MetadataFiles); n > keep {
		st.MetadataFiles = st.MetadataFiles[n-keep:]
	}
}

// refsDocument is the answer for snapshots=refs.
func refsDocument(st *sqlstore.State, full []byte) ([]byte, error) {
	keep := map[int64]bool{}
	for _, r := range st.Refs {
		keep[r.SnapshotID] = true
	}
	ids, err := statisticsSnapshots(st.Skeleton)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		keep[id] = true
	}
	some := *st
	some.Snapshots = nil
	for _, sn := range st.Snapshots {
		if keep[sn.ID] {
			some.Snapshots = append(some.Snapshots, sn)
		}
	}
	if len(some.Snapshots) == len(st.Snapshots) {
		return full, nil
	}
	return compose(&some), nil
}

// writeMetadata writes one metadata file under a name that nobody else chooses and records it. Where another
// process was first for this version, its file is the one that counts, and this one stays unnamed.
func (s *Service) writeMetadata(ctx context.Context, st *sqlstore.State, p tablePlace, doc []byte) (counts string, ours bool, err error) {
	loc, err := s.putMetadata(ctx, metadataDir(p.Location, p.Properties), st.Version, doc)
	if err != nil {
		return "", false, err
	}
	crash.At(ctx, crash.CatalogMetadataWritten)
	counts, err = s.store.Materialized(ctx, st.ID, sqlstore.MetadataFile{Version: st.Version, AtMS: st.LastUpdatedMS, Location: loc})
	if err == nil {
		crash.At(ctx, crash.CatalogMetadataNamed)
	}
	return counts, counts == loc, err
}

// asWritten is what a metadata file that this process has not written holds. It may differ from what the rows give
// now in its log of earlier files: another process may have been slow with one of those and named it only later. Where
// the file cannot be read, or is larger than max_metadata, the rows are as good an answer as there is.
func (s *Service) asWritten(ctx context.Context, loc string, rows []byte) []byte {
	doc, err := s.readMetadata(ctx, loc)
	if err == nil && json.Valid(doc) {
		return doc
	}
	s.log.Warn("a metadata file cannot be read; it is answered from the database", "location", loc, "error", err)
	return rows
}

// putMetadata writes a metadata file under a new name in dir and returns where it is.
func (s *Service) putMetadata(ctx context.Context, dir string, version int64, doc []byte) (string, error) {
	loc := fmt.Sprintf("%s/%05d-%s.metadata.json", dir, version, uuid.New())
	key, err := s.key(loc)
	if err != nil {
		return "", err
	}
	if _, err := s.wh.Put(ctx, key, bytes.NewReader(doc), objstore.IfAbsent); err != nil {
		return "", storageError("write metadata file "+loc, err)
	}
	s.m.materialized.Inc()
	s.m.materializedSize.Add(float64(len(doc)))
	return loc, nil
}

// storageError gives an object store's error its place among the catalog's: storage that fails is
// unavailable, what the storage refuses for good is invalid.
func storageError(what string, err error) error {
	switch {
	case errors.Is(err, objstore.ErrNotFound), errors.Is(err, objstore.ErrBadKey), errors.Is(err, objstore.ErrOutsideRoot):
		return fmt.Errorf("%w: %s: %w", catalog.ErrInvalid, what, err)
	}
	return fmt.Errorf("%w: %s: %w", catalog.ErrUnavailable, what, err)
}

// chore is one part of what a catalog does in the background. None waits for another: a table that cannot be written must
// not keep the names of the others out of the warehouse.
type chore struct {
	what    string
	every   time.Duration // 0: each time
	run     func(context.Context) error
	done    time.Time // when it last succeeded
	failing bool
}

func (s *Service) chores() []*chore {
	return []*chore{
		{what: "metadata files cannot be written; commits go on, readers of other engines wait", run: s.MaterializeAll},
		{what: "the inventory cannot be written; a lost database would lose the newest names",
			run: func(ctx context.Context) error { return s.keepInventory(ctx, false) }},
		{what: "old receipts cannot be deleted", run: s.pruneReceipts},
		{what: "old tables of a past time cannot be deleted", every: pastSweepEvery,
			run: func(ctx context.Context) error { return s.sweepPasts(ctx, time.Now()) }},
		{what: "old history cannot be deleted", every: historyPruneEvery, run: s.pruneHistories},
	}
}

// backgroundLoop writes metadata files in an interval, so that a lost database loses seconds at most, and does the other chores.
func (s *Service) backgroundLoop(ctx context.Context) {
	defer s.done.Done()
	tick := time.NewTicker(s.cfg.MaterializeInterval.D())
	defer tick.Stop()
	chores := s.chores()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, c := range chores {
			if c.every != 0 && time.Since(c.done) <= c.every {
				continue
			}
			err := c.run(ctx)
			if ctx.Err() != nil { // what the end cut short is done by Close
				return
			}
			// There is no caller to return it to; it is counted, and said once until it has passed.
			if err != nil && !c.failing {
				s.log.Error(c.what, "error", err)
			}
			if err == nil {
				c.done = time.Now()
				if c.failing {
					s.log.Info("this has passed: " + c.what)
				}
			}
			c.failing = err != nil
		}
	}
}

// MaterializeAll writes the metadata file of every table that has newer commits than its file, and joins the errors.
func (s *Service) MaterializeAll(ctx context.Context) error {
	due, err := s.store.Unmaterialized(ctx)
	if err != nil {
		return fmt.Errorf("materialize: %w", err)
	}
	var errs []error
	for _, t := range due {
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		if _, err := s.expose(ctx, t.ID, t.Version); err != nil && !errors.Is(err, catalog.ErrNoSuchTable) {
			errs = append(errs, fmt.Errorf("materialize table %d: %w", t.ID, err))
		}
	}
	return errors.Join(errs...)
}
