package broker

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/firnlake/firn/internal/units"
)

var (
	// ErrDirInUse is wrapped by Start when another process has the directory.
	ErrDirInUse = errors.New("directory is in use")
	// ErrDiskLow is wrapped by Health, and told to producers, while the disk has less than Config.DiskReserve.
	ErrDiskLow = errors.New("disk is nearly full")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("embedded broker is closed")
)

const (
	// diskInterval is how often free space is looked at.
	diskInterval = 250 * time.Millisecond
	// recentWrite is how long ago a file may have been written for Close to sync it; older ones the kernel has written.
	recentWrite = time.Minute
	// syncBudget bounds that work, so that a slow disk does not hold up the end of the process.
	syncBudget = time.Second
	// largeLog is a log whose reading leaves memory behind that is worth giving back: after a crash kfake holds all of
	// it at once.
	largeLog = 32 << 20

	logDirName = "log"
	lockName   = "LOCK"
)

// Floor gives, per topic that has consumers, the first offset of each partition that they still need. A partition that
// is missing in a topic of it is needed as a whole; a topic that is missing has no consumer.
type Floor func() map[string]map[int32]int64

// Broker is a running embedded broker.
type Broker struct {
	cfg      Config
	log      *slog.Logger
	klog     *klog
	now      func() time.Time
	free     func(path string) (int64, error)
	dir      string // kfake's
	lock     *os.File
	listener *listener
	cluster  *kfake.Cluster

	floor     atomic.Pointer[Floor]
	diskLow   atomic.Bool
	refusing  atomic.Bool // refuse is armed
	freeBytes atomic.Int64
	refused   atomic.Int64 // produce requests
	logBytes  atomic.Int64
	heldBytes atomic.Int64
	trimmed   atomic.Int64 // bytes

	mu     sync.RWMutex // held for reading by what calls kfake, which hangs after its end
	closed bool
	stop   context.CancelFunc
	loops  sync.WaitGroup
}

// options are what tests put in place of the machine.
type options struct {
	now  func() time.Time
	free func(path string) (int64, error)
}

// Start takes the directory and the port, brings the log back and serves. ctx bounds the start only; end the broker
// with Close. Nothing is deleted before SetFloor.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Broker, error) {
	return start(ctx, cfg, log, options{now: time.Now, free: freeBytes})
}

func start(ctx context.Context, cfg Config, log *slog.Logger, opt options) (*Broker, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("broker.%w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{cfg: cfg, log: log, klog: newKlog(log, opt.now), now: opt.now, free: opt.free, dir: filepath.Join(cfg.Dir, logDirName)}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, fmt.Errorf("embedded broker: %w: name another directory with --data (or broker.dir)", err)
	}
	var err error
	if b.lock, err = lockDir(filepath.Join(cfg.Dir, lockName)); err != nil {
		return nil, fmt.Errorf("embedded broker: %s: %w: stop that process, or take another directory with --data (or broker.dir)", cfg.Dir, err)
	}
	if err := b.open(ctx); err != nil {
		return nil, errors.Join(err, b.lock.Close())
	}
	loopCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b.stop = cancel
	b.checkDisk()
	b.guards()
	if b.measure(); b.logBytes.Load() > largeLog {
		debug.FreeOSMemory()
	}
	b.every(loopCtx, diskInterval, b.checkDisk)
	b.every(loopCtx, cfg.RetentionInterval.D(), b.retain)
	return b, nil
}

// open begins kfake on the directory and the port.
func (b *Broker) open(ctx context.Context) error {
	l, err := listen(ctx, b.cfg, b.log)
	if err != nil {
		return err
	}
	repaired, err := repairIndexes(b.dir)
	if err != nil {
		return errors.Join(fmt.Errorf("embedded broker: %s: %w", b.dir, err), l.Close())
	}
	if repaired > 0 {
		b.log.Info("index files rewritten from their segments", "files", repaired)
	}
	id, err := newClusterID()
	if err != nil {
		return errors.Join(err, l.Close())
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ListenFn(l.serveOn),
		kfake.ClusterID(id), // of a new directory; an old one has its own
		kfake.DataDir(b.dir),
		kfake.WithLogger(b.klog),
		kfake.BrokerConfigs(map[string]string{
			"log.segment.bytes": strconv.FormatInt(int64(b.cfg.SegmentBytes), 10),
			"log.retention.ms":  "-1", // see doc.go
		}),
	}
	if b.cfg.SyncWrites {
		opts = append(opts, kfake.SyncWrites())
	}
	began := b.now()
	b.cluster, err = kfake.NewCluster(opts...)
	if err != nil {
		return errors.Join(fmt.Errorf("embedded broker: %s: %w: move the directory away to begin with an empty log", b.dir, err), ignoreClosed(l.Close()))
	}
	b.listener = l
	b.log.Info("embedded broker", "addr", b.Addr(), "dir", b.dir, "seconds", b.now().Sub(began).Seconds())
	return nil
}

// newClusterID is in the form of Kafka's: 16 random bytes in URL-safe base64.
func newClusterID() (string, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(id[:]), nil
}

// Addr is the host:port that clients connect to.
func (b *Broker) Addr() string { return b.listener.Addr().String() }

// SetFloor says what retention must keep; until then it keeps everything. f is called every Config.RetentionInterval.
func (b *Broker) SetFloor(f Floor) { b.floor.Store(&f) }

// Health is nil, or says why producers are refused.
func (b *Broker) Health() error {
	if !b.diskLow.Load() {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrDiskLow, b.diskMessage())
}

func (b *Broker) diskMessage() string {
	return fmt.Sprintf("%s free, %s kept in reserve, at %s: free some space or lower broker.disk_reserve",
		units.Bytes(b.freeBytes.Load()), b.cfg.DiskReserve, b.dir)
}

// EnsureTopic makes a topic when it is missing. One that is there keeps its partitions, whatever their number.
func (b *Broker) EnsureTopic(ctx context.Context, topic string, partitions int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if partitions < 1 || partitions > maxPartitions {
		return fmt.Errorf("topic %s: %d partitions are not within 1 to %d", topic, partitions, maxPartitions)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return ErrClosed
	}
	if b.cluster.TopicInfo(topic) == nil {
		if err := b.Health(); err != nil {
			return fmt.Errorf("make topic %s: %w", topic, err)
		}
		if err := CheckTopicName(topic); err != nil {
			return err
		}
		err := b.cluster.CreateTopic(topic, int32(partitions), nil)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("make topic %s: %w", topic, err)
		}
	}
	return b.checkTopicSaved(topic)
}

// CheckTopicName holds Kafka's rule for the name of a topic, which kfake does not.
func CheckTopicName(topic string) error {
	legal := topic != "" && topic != "." && topic != ".." && len(topic) <= 249
	for _, r := range topic {
		legal = legal && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	}
	if !legal {
		return fmt.Errorf("topic %q: a name has 1 to 249 letters, digits, dots, underscores and hyphens, and is neither . nor .. by itself", topic)
	}
	return nil
}

// checkTopicSaved reads the topic back: kfake only logs when it cannot save one, and would then forget it, id and all.
func (b *Broker) checkTopicSaved(topic string) error {
	raw, err := os.ReadFile(filepath.Join(b.dir, "topics.json"))
	if err != nil {
		return fmt.Errorf("topic %s is not saved: %w", topic, err)
	}
	var saved struct {
		Topics []struct {
			Name string `json:"name"`
		} `json:"topics"`
	}
	if err := json.Unmarshal(raw, &saved); err != nil {
		return fmt.Errorf("topic %s is not saved: topics.json: %w", topic, err)
	}
	for _, t := range saved.Topics {
		if t.Name == topic {
			return nil
		}
	}
	return fmt.Errorf("topic %s is not saved in %s: the disk may be full", topic, b.dir)
}

// every runs fn at an interval until Close.
func (b *Broker) every(ctx context.Context, interval time.Duration, fn func()) {
	b.loops.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				fn()
			}
		}
	})
}

// checkDisk decides whether producers are refused. Once they are, a quarter more than the reserve must be free again.
func (b *Broker) checkDisk() {
	free, err := b.free(b.dir)
	if err != nil {
		b.log.Warn("free disk space is unknown", "dir", b.dir, "err", err)
		return
	}
	b.freeBytes.Store(free)
	reserve := int64(b.cfg.DiskReserve)
	was := b.diskLow.Load()
	low := free < reserve || was && free < reserve+reserve/4
	b.diskLow.Store(low)
	if low {
		b.refuseProduce()
	}
	if low == was {
		return
	}
	if low {
		b.log.Error("disk is nearly full: producers are refused", "dir", b.dir, "free_bytes", free, "reserve_bytes", reserve)
	} else {
		b.log.Info("disk has room again: producers are served", "dir", b.dir, "free_bytes", free)
	}
}

// retain cuts the log. Trouble is logged: the next round tries again.
func (b *Broker) retain() {
	parts := b.measure()
	floor := b.floor.Load()
	if floor == nil {
		return
	}
	// The floor is read before the ends: both only grow, and a floor above the end would be no floor.
	needed := (*floor)()
	var states []partitionState
	for _, p := range parts {
		info := b.cluster.PartitionInfo(p.topic, p.id)
		if info == nil {
			continue // the topic is being deleted
		}
		st := partitionState{topic: p.topic, id: p.id, end: info.HighWatermark, floor: noFloor, segments: p.segments}
		if offsets, ok := needed[p.topic]; ok {
			st.floor = max(0, offsets[p.id])
		}
		states = append(states, st)
	}
	trims, held := plan(states, b.now(), int64(b.cfg.RetentionBytes), b.cfg.RetentionTime.D())
	b.heldBytes.Store(held)
	for _, t := range trims {
		if err := b.cluster.DeleteRecords(t.topic, t.id, t.below); err != nil && !errors.Is(err, kerr.OffsetOutOfRange) {
			b.log.Warn("log not cut", "topic", t.topic, "partition", t.id, "below", t.below, "err", err)
			continue
		}
		b.trimmed.Add(t.bytes)
		b.logBytes.Add(-t.bytes)
	}
}

// measure reads the log's size from disk.
func (b *Broker) measure() []partitionDir {
	parts, err := readPartitions(b.dir)
	if err != nil {
		b.log.Warn("size of the log is unknown", "dir", b.dir, "err", err)
		return nil
	}
	var total int64
	for _, p := range parts {
		for _, s := range p.segments {
			total += s.bytes
		}
	}
	b.logBytes.Store(total)
	return parts
}

// Close ends all connections, saves the state, syncs the log to disk and gives the directory back. Only the first call
// does something.
func (b *Broker) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	b.stop()
	b.loops.Wait()
	b.klog.collect()
	b.cluster.Close()
	errs := b.klog.collected()
	errs = append(errs, ignoreClosed(b.listener.Close()), b.sync(), b.lock.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("embedded broker: %s: %w", b.dir, err)
	}
	return nil
}

// sync writes to disk what the kernel may not have written yet, as far as syncBudget goes.
func (b *Broker) sync() error {
	since := b.now().Add(-recentWrite)
	var paths []string
	for _, p := range b.measure() {
		for _, s := range slices.Backward(p.segments) {
			if s.modified.Before(since) {
				break
			}
			name := filepath.Join(p.path, strconv.FormatInt(s.base, 10))
			paths = append(paths, name+dataSuffix, name+indexSuffix)
		}
	}
	var errs []error
	began := b.now()
	for i, path := range paths {
		if b.now().Sub(began) > syncBudget {
			b.log.Info("the rest of the log is left to the kernel to write", "files", len(paths)-i)
			break
		}
		errs = append(errs, syncFile(path))
	}
	return errors.Join(errs...)
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
