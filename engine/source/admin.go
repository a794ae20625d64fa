package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/sleep"
)

const (
	// rangeAttempts is how often in a row ReadRange may fail before it gives up.
	rangeAttempts = 8
	// groupAttempts is how often CommitGroupOffsets asks for a coordinator before it gives up.
	groupAttempts = 8
)

func sortIDs(ids []int32) { slices.Sort(ids) }

// open validates the configuration and returns a client that the caller closes.
func open(cfg Config, topic string) (*client, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka.%w", err)
	}
	return newClient(cfg, topic)
}

// Ping asks any of the brokers for the API versions: they are reachable, TLS and credentials are right.
func Ping(ctx context.Context, cfg Config) error {
	c, err := open(cfg, "")
	if err != nil {
		return err
	}
	defer c.close()
	_, err = c.api(ctx, 0, 0, 0)
	return err
}

// EnsureTopic creates a topic with the cluster's default replication unless it exists, and waits until its partitions
// have leaders. A topic that exists is left as it is, whatever its number of partitions.
func EnsureTopic(ctx context.Context, cfg Config, topic string, partitions int) error {
	c, err := open(cfg, topic)
	if err != nil {
		return err
	}
	defer c.close()
	m, err := c.metadata(ctx, topic)
	if err != nil {
		return fmt.Errorf("topic %s: %w", topic, err)
	}
	if m.code == codeUnknownTopicOrPartition {
		if err := c.createTopic(ctx, topic, partitions); err != nil {
			return fmt.Errorf("create topic %s: %w", topic, err)
		}
	}
	for failures := 1; ; failures++ {
		m, err := c.metadata(ctx, topic)
		if err == nil && m.code == codeNone && !slices.ContainsFunc(m.partitions, func(p partitionMeta) bool { return p.leader < 0 }) {
			return nil
		}
		if err == nil && m.code != codeNone && m.code != codeUnknownTopicOrPartition && m.code != int16(kafka.LeaderNotAvailable) {
			return m.check(topic, strings.Join(c.cfg.Brokers, ","))
		}
		if err := sleep.For(ctx, backoff(failures)); err != nil {
			return fmt.Errorf("topic %s: wait for its leaders: %w", topic, err)
		}
	}
}

func (c *client) createTopic(ctx context.Context, topic string, partitions int) error {
	kc := kafka.Client{Addr: c.addr, Timeout: c.cfg.RequestTimeout.D(), Transport: c.transport}
	res, err := kc.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: -1}}})
	if err != nil {
		return c.explain(-1, err)
	}
	if err := res.Errors[topic]; err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
		return err
	}
	return nil
}

// Bounds asks for the log's bounds of every partition of a topic.
func Bounds(ctx context.Context, cfg Config, topic string) (map[int32]engine.Position, error) {
	c, err := open(cfg, topic)
	if err != nil {
		return nil, err
	}
	defer c.close()
	m, err := c.metadata(ctx, topic)
	if err != nil {
		return nil, err
	}
	if err := m.check(topic, strings.Join(c.cfg.Brokers, ",")); err != nil {
		return nil, err
	}
	leaders := map[int32][]int32{}
	for _, p := range m.partitions {
		if p.leader < 0 {
			return nil, fmt.Errorf("topic %s partition %d has no leader at present", topic, p.id)
		}
		leaders[p.leader] = append(leaders[p.leader], p.id)
	}
	out := map[int32]engine.Position{}
	for leader, ids := range leaders {
		for _, q := range []struct {
			at        int64
			isolation int8
			set       func(*engine.Position, int64)
		}{
			{earliestOffset, readUncommitted, func(p *engine.Position, o int64) { p.LogStart = o }},
			{latestOffset, readCommitted, func(p *engine.Position, o int64) { p.LastStable = o }},
			{latestOffset, readUncommitted, func(p *engine.Position, o int64) { p.HighWatermark = o }},
		} {
			answers, err := c.listOffsets(ctx, leader, topic, ids, q.at, q.isolation)
			if err != nil {
				return nil, err
			}
			for _, a := range answers {
				if a.code != codeNone {
					return nil, fmt.Errorf("offsets of topic %s partition %d: %w", topic, a.partition, kafka.Error(a.code))
				}
				p := out[a.partition]
				q.set(&p, a.offset)
				out[a.partition] = p
			}
		}
	}
	return out, nil
}

// CommitGroupOffsets writes a vector as a consumer group's offsets, for lag monitors. Firn never reads them.
func CommitGroupOffsets(ctx context.Context, cfg Config, group, topic string, v offset.Vector) error {
	c, err := open(cfg, topic)
	if err != nil {
		return err
	}
	defer c.close()
	commits := make([]kafka.OffsetCommit, 0, len(v))
	for _, p := range v.Partitions() {
		commits = append(commits, kafka.OffsetCommit{Partition: int(p), Offset: v[p]})
	}
	for failures := 1; ; failures++ {
		err := c.commitGroup(ctx, group, topic, commits)
		if err == nil {
			return nil
		}
		if failures >= groupAttempts || !slices.ContainsFunc(coordinatorCodes, func(code kafka.Error) bool { return errors.Is(err, code) }) {
			return fmt.Errorf("commit offsets of group %s, topic %s: %w", group, topic, err)
		}
		if serr := sleep.For(ctx, backoff(failures)); serr != nil {
			return fmt.Errorf("commit offsets of group %s, topic %s: %w: %w", group, topic, serr, err)
		}
	}
}

// coordinatorCodes say that the group's coordinator is being found or made: a fresh cluster answers so to its first group.
var coordinatorCodes = []kafka.Error{kafka.GroupLoadInProgress, kafka.GroupCoordinatorNotAvailable, kafka.NotCoordinatorForGroup}

func (c *client) commitGroup(ctx context.Context, group, topic string, commits []kafka.OffsetCommit) error {
	kc := kafka.Client{Addr: c.addr, Timeout: c.cfg.RequestTimeout.D(), Transport: c.transport}
	res, err := kc.OffsetCommit(ctx, &kafka.OffsetCommitRequest{GroupID: group, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{topic: commits}})
	if err != nil {
		return c.explain(-1, err)
	}
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return fmt.Errorf("partition %d: %w", p.Partition, p.Error)
		}
	}
	return nil
}

// ReadRange reads offsets [from, to) of one partition and hands them to fn as contiguous stretches, which it releases
// after fn. It fails with engine.ErrRetentionGap or engine.ErrLogTruncated when Kafka does not hold the range, and gives
// up after several failures in a row.
func ReadRange(ctx context.Context, cfg Config, topic string, id int32, from, to int64, fn func(*engine.Fetch) error) error {
	c, err := open(cfg, topic)
	if err != nil {
		return err
	}
	defer c.close()
	r := &rangeReader{f: fetcher{c: c, topic: topic}, id: id, next: from, to: to, leader: -1, fn: fn}
	r.set.unzip, r.unzip.limit = &r.unzip, int(c.cfg.MaxBatchBytes)
	defer r.unzip.close()
	for failures := 0; r.next < r.to; {
		before := r.next
		err := r.step(ctx)
		if err == nil {
			failures = 0
			continue
		}
		if r.next > before {
			failures = 0
		}
		var own *callbackError
		if failures++; ctx.Err() != nil || isFinal(err) || errors.As(err, &own) || failures >= rangeAttempts {
			return fmt.Errorf("topic %s partition %d: read offsets [%d,%d): %w", topic, id, r.next, to, err)
		}
		r.leader = -1
		if err := sleep.For(ctx, backoff(failures)); err != nil {
			return err
		}
	}
	return nil
}

// callbackError is an error of the caller's function, which is not retried.
type callbackError struct{ error }

func (e *callbackError) Unwrap() error { return e.error }

type rangeReader struct {
	f        fetcher
	id       int32
	next, to int64
	leader   int32
	fn       func(*engine.Fetch) error
	set      recordSet
	unzip    decompressor
}

// step is one fetch, after finding the leader where needed.
func (r *rangeReader) step(ctx context.Context) error {
	c := r.f.c
	if r.leader < 0 {
		m, err := c.metadata(ctx, r.f.topic)
		if err != nil {
			return err
		}
		if err := m.check(r.f.topic, strings.Join(c.cfg.Brokers, ",")); err != nil {
			return err
		}
		i := slices.IndexFunc(m.partitions, func(p partitionMeta) bool { return p.id == r.id })
		if i < 0 || m.partitions[i].leader < 0 {
			return fmt.Errorf("topic %s partition %d has no leader at present", r.f.topic, r.id)
		}
		r.leader = m.partitions[i].leader
	}
	rep := newReply()
	ask := fetchAsk{partition: r.id, epoch: -1, offset: r.next, maxBytes: int32(c.cfg.FetchMaxBytes)}
	answers, buf, err := r.f.fetch(ctx, r.leader, []fetchAsk{ask}, c.cfg.FetchMaxWait.D(), rep.buf)
	if err != nil {
		return err
	}
	rep.buf = buf
	defer rep.release()
	if len(answers) != 1 || answers[0].partition != r.id {
		return fmt.Errorf("the answer is not about partition %d", r.id)
	}
	return r.read(ctx, &answers[0], rep)
}

func (r *rangeReader) read(ctx context.Context, a *fetchAnswer, rep *reply) error {
	switch a.code {
	case codeNone:
	case codeOffsetOutOfRange:
		first, err := r.f.c.listOne(ctx, r.leader, r.f.topic, r.id, earliestOffset, readUncommitted)
		if err != nil {
			return err
		}
		if first > r.next {
			return gap(r.id, r.next, first)
		}
		last, err := r.f.c.listOne(ctx, r.leader, r.f.topic, r.id, latestOffset, readUncommitted)
		if err != nil {
			return err
		}
		return truncated(r.id, r.next, first, last)
	default:
		return kafka.Error(a.code)
	}
	end := a.lastStable
	if end < 0 {
		end = a.highWatermark
	}
	if end < r.to {
		return fmt.Errorf("%w: readable records end at %d, before %d", engine.ErrLogTruncated, end, r.to)
	}
	before := r.next
	r.set.reset(a.records, r.next, r.to, a.aborted)
	if base, ok := r.set.firstBase(); a.logStart > r.next && (!ok || base > r.next) {
		return gap(r.id, r.next, a.logStart)
	}
	for more := true; more; {
		st := newStretch(r.id, rep)
		st.LogStart, st.LastStable = a.logStart, end
		var err error
		if more, err = r.set.fill(st); err == nil && st.End > st.Start {
			if err = r.fn(&st.Fetch); err != nil {
				err = &callbackError{err}
			} else {
				r.next = r.set.next
			}
		}
		empty := st.End == st.Start
		st.release()
		if err != nil {
			return err
		}
		if empty {
			break
		}
	}
	// The next batch may begin behind the range: the offsets up to it were compacted away.
	if base, ok := r.set.firstBase(); ok && base >= r.to && r.next < r.to {
		rest := &engine.Fetch{Partition: r.id, Start: r.next, End: r.to, LeaderEpoch: -1, LogStart: a.logStart, LastStable: end}
		if err := r.fn(rest); err != nil {
			return &callbackError{err}
		}
		r.next = r.to
	}
	if r.next == before {
		return fmt.Errorf("the broker gave nothing at offset %d, though readable records end at %d", r.next, end)
	}
	return nil
}
