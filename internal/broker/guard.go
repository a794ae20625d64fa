package broker

import (
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// readCommitted is the isolation level of a fetch that leaves out aborted records.
const readCommitted = 1

// control is kfake's form of a function that may answer a request in its place.
type control = func(kmsg.Request) (resp kmsg.Response, err error, handled bool)

// guard lets fn see every request of an api. kfake remembers for each control the last request of every connection that
// there ever was; a control that is replaced with each request remembers one.
func (b *Broker) guard(key kmsg.Key, fn control) {
	var armed control
	armed = func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.cluster.DropControl()
		b.cluster.ControlKey(int16(key), armed)
		return fn(req)
	}
	b.cluster.ControlKey(int16(key), armed)
}

// guards stands between clients and what kfake does badly.
func (b *Broker) guards() {
	b.guard(kmsg.CreateTopics, b.guardCreateTopics)
	b.guard(kmsg.CreatePartitions, b.guardCreatePartitions)
	b.guard(kmsg.DeleteRecords, b.guardDeleteRecords)
	b.guard(kmsg.Fetch, guardFetch)
}

// refuseProduce makes kfake ask refuse from now on, until the disk has room. At other times nothing stands in the way of
// a record: a control function is a point at which Close may come between a record and its acknowledgement.
func (b *Broker) refuseProduce() {
	if b.refusing.CompareAndSwap(false, true) {
		b.cluster.ControlKey(int16(kmsg.Produce), b.refuse)
	}
}

// refuse answers a produce request with an error that clients retry.
func (b *Broker) refuse(kreq kmsg.Request) (kmsg.Response, error, bool) {
	b.cluster.DropControl()
	req, ok := kreq.(*kmsg.ProduceRequest)
	if !ok || !b.diskLow.Load() {
		b.refusing.Store(false) // checkDisk sees to it that it is true again if the disk is low again
		return nil, nil, false
	}
	b.cluster.ControlKey(int16(kmsg.Produce), b.refuse)
	b.refused.Add(1)
	msg := b.diskMessage()
	if req.Acks == 0 {
		return nil, fmt.Errorf("%w: %s", ErrDiskLow, msg), true // no answer can be given; the connection ends
	}
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = req.Version
	for _, t := range req.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.BaseOffset = p.Partition, kerr.KafkaStorageError.Code, -1
			if req.Version >= 8 {
				rp.ErrorMessage = kmsg.StringPtr(msg)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil, true
}

// guardCreateTopics refuses topics that kfake would hold in memory only, because the disk is full, and more partitions
// than this process should hold.
func (b *Broker) guardCreateTopics(kreq kmsg.Request) (kmsg.Response, error, bool) {
	req, ok := kreq.(*kmsg.CreateTopicsRequest)
	if !ok {
		return nil, nil, false
	}
	code, msg := int16(0), ""
	for _, t := range req.Topics {
		if t.NumPartitions > maxPartitions || len(t.ReplicaAssignment) > maxPartitions {
			code, msg = kerr.InvalidPartitions.Code, fmt.Sprintf("the embedded broker takes at most %d partitions in a topic", maxPartitions)
		}
	}
	if b.diskLow.Load() {
		code, msg = kerr.KafkaStorageError.Code, b.diskMessage()
	}
	if code == 0 {
		return nil, nil, false
	}
	resp := kmsg.NewPtrCreateTopicsResponse()
	resp.Version = req.Version
	for _, t := range req.Topics {
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic, rt.ErrorCode, rt.ErrorMessage = t.Topic, code, kmsg.StringPtr(msg)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil, true
}

func (b *Broker) guardCreatePartitions(kreq kmsg.Request) (kmsg.Response, error, bool) {
	req, ok := kreq.(*kmsg.CreatePartitionsRequest)
	if !ok {
		return nil, nil, false
	}
	many := false
	for _, t := range req.Topics {
		many = many || t.Count > maxPartitions
	}
	if !many {
		return nil, nil, false
	}
	resp := kmsg.NewPtrCreatePartitionsResponse()
	resp.Version = req.Version
	for _, t := range req.Topics {
		rt := kmsg.NewCreatePartitionsResponseTopic()
		rt.Topic, rt.ErrorCode = t.Topic, kerr.InvalidPartitions.Code
		rt.ErrorMessage = kmsg.StringPtr(fmt.Sprintf("the embedded broker takes at most %d partitions in a topic", maxPartitions))
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil, true
}

// guardDeleteRecords keeps the last record of a partition: without one its offsets would begin at 0 again.
func (b *Broker) guardDeleteRecords(kreq kmsg.Request) (kmsg.Response, error, bool) {
	req, ok := kreq.(*kmsg.DeleteRecordsRequest)
	if !ok {
		return nil, nil, false
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			info := b.cluster.PartitionInfo(t.Topic, p.Partition)
			if info == nil || info.HighWatermark == info.LogStartOffset {
				continue // an error or nothing to delete, which kfake says
			}
			if p.Offset == -1 || p.Offset == info.HighWatermark {
				p.Offset = info.HighWatermark - 1
			}
		}
	}
	return nil, nil, false
}

// guardFetch keeps kfake from ending a read_committed answer by its size as a whole: the partition where it does so comes
// without its aborted transactions, whose records the client then takes for committed ones. The bound is shared out to the
// partitions instead. Where an answer ends within a partition its transactions are named.
func guardFetch(kreq kmsg.Request) (kmsg.Response, error, bool) {
	req, ok := kreq.(*kmsg.FetchRequest)
	if !ok || req.IsolationLevel != readCommitted {
		return nil, nil, false
	}
	n := int32(0)
	for i := range req.Topics {
		n += int32(len(req.Topics[i].Partitions))
	}
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			p := &req.Topics[i].Partitions[j]
			p.PartitionMaxBytes = min(p.PartitionMaxBytes, max(req.MaxBytes/n, 1))
		}
	}
	req.MaxBytes = math.MaxInt32
	return nil, nil, false
}
