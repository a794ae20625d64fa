//go:build integration

package integration

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

const adminTimeout = 30 * time.Second

// admin gives an administration client of the producer's and the bound on what is done with it.
func (p *producer) admin() (context.Context, context.CancelFunc, *kadm.Client) {
	ctx, cancel := context.WithTimeout(p.t.Context(), adminTimeout)
	return ctx, cancel, kadm.NewClient(p.cl)
}

// makeTopic creates the producer's topic.
func (p *producer) makeTopic(partitions int32) {
	p.t.Helper()
	ctx, cancel, a := p.admin()
	defer cancel()
	res, err := a.CreateTopic(ctx, partitions, 1, nil, p.topic)
	if err != nil || res.Err != nil {
		p.t.Fatalf("create topic %s: %v, %v", p.topic, err, res.Err)
	}
}

// remakeTopic deletes the topic and creates it again: the same name, another id, an empty log.
func (p *producer) remakeTopic(partitions int32) {
	p.t.Helper()
	ctx, cancel, a := p.admin()
	defer cancel()
	if res, err := a.DeleteTopic(ctx, p.topic); err != nil || res.Err != nil {
		p.t.Fatalf("delete topic %s: %v, %v", p.topic, err, res.Err)
	}
	until(p.t, "the topic is gone", adminTimeout, func() (bool, string) {
		names, err := a.ListTopics(ctx)
		return err == nil && !slices.Contains(names.Names(), p.topic), "it is still listed"
	})
	p.makeTopic(partitions)
	p.cl.PurgeTopicsFromClient(p.topic) // it knows the topic by its id
}

// ends are the log's end offsets.
func (p *producer) ends() map[int32]int64 {
	p.t.Helper()
	ctx, cancel, a := p.admin()
	defer cancel()
	listed, err := a.ListEndOffsets(ctx, p.topic)
	if err != nil {
		p.t.Fatal(err)
	}
	out := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			p.t.Fatal(o.Err)
		}
		out[o.Partition] = o.Offset
	})
	return out
}

// deleteRecords does what retention does: what lies below the offsets is gone.
func (p *producer) deleteRecords(below map[int32]int64) {
	p.t.Helper()
	ctx, cancel, a := p.admin()
	defer cancel()
	offsets := kadm.Offsets{}
	for part, o := range below {
		offsets.Add(kadm.Offset{Topic: p.topic, Partition: part, At: o})
	}
	res, err := a.DeleteRecords(ctx, offsets)
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		p.t.Fatal(err)
	}
}
