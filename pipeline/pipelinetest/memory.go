package pipelinetest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"caliperedge/pipeline"
)

// maxBodyBytes is the largest body a real store takes: 1 MiB less room for the
// headers.
const maxBodyBytes = pipeline.MaxMessageBytes - pipeline.HeaderRoomBytes

// Memory is a pipeline.Publisher that stores in memory. It remembers every ID
// for ever. The exported fields are set before the first call and not changed
// afterwards; all methods may be called concurrently.
type Memory struct {
	// Topics is the limit of the sum of the bodies of each topic.
	Topics map[string]int64
	// Level is that of every Ack. Empty means fsync.
	Level pipeline.Level
	// Before, where set, is called at the start of each Publish, without a lock
	// held. An error becomes that of Publish and nothing is stored.
	Before func(ctx context.Context, m *pipeline.Message) error
	// After, where set, is called when m is stored and not yet acknowledged. An
	// error becomes that of Publish: the message is stored and the caller does
	// not know.
	After func(ctx context.Context, m *pipeline.Message) error
	// OnProbe, where set, is Probe.
	OnProbe func(ctx context.Context) error

	mu     sync.Mutex
	topics map[string]*memoryTopic
}

type memoryTopic struct {
	bytes    int64
	messages []pipeline.Message
	ids      map[string]uint64
}

// NewMemory returns an empty Memory with topics, each limited to 1 GiB.
func NewMemory(topics ...string) *Memory {
	m := &Memory{Topics: make(map[string]int64, len(topics))}
	for _, t := range topics {
		m.Topics[t] = 1 << 30
	}
	return m
}

// Publish implements pipeline.Publisher.
func (p *Memory) Publish(ctx context.Context, m *pipeline.Message) (pipeline.Ack, error) {
	if p.Before != nil {
		if err := p.Before(ctx, m); err != nil {
			return pipeline.Ack{}, err
		}
	}
	if _, ok := p.Topics[m.Topic]; !ok {
		return pipeline.Ack{}, fmt.Errorf("%w: there is no topic %q", pipeline.ErrRefused, m.Topic)
	}
	if len(m.Body) > maxBodyBytes {
		return pipeline.Ack{}, fmt.Errorf("%w: body of %d bytes, want at most %d", pipeline.ErrRefused, len(m.Body), maxBodyBytes)
	}
	if err := ctx.Err(); err != nil {
		return pipeline.Ack{}, err
	}
	ack, err := p.store(m)
	if err == nil && p.After != nil {
		err = p.After(ctx, m)
	}
	if err != nil {
		return pipeline.Ack{}, err
	}
	return ack, nil
}

func (p *Memory) store(m *pipeline.Message) (pipeline.Ack, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.topics == nil {
		p.topics = make(map[string]*memoryTopic)
	}
	t := p.topics[m.Topic]
	if t == nil {
		t = &memoryTopic{ids: make(map[string]uint64)}
		p.topics[m.Topic] = t
	}
	level := p.Level
	if level == "" {
		level = pipeline.LevelFsync
	}
	if seq, ok := t.ids[m.ID]; ok {
		return pipeline.Ack{Sequence: seq, Duplicate: true, Level: level}, nil
	}
	if t.bytes+int64(len(m.Body)) > p.Topics[m.Topic] {
		return pipeline.Ack{}, fmt.Errorf("%w: topic %s", pipeline.ErrStoreFull, m.Topic)
	}
	kept := *m
	kept.Body = bytes.Clone(m.Body)
	t.bytes += int64(len(kept.Body))
	t.messages = append(t.messages, kept)
	seq := uint64(len(t.messages))
	t.ids[m.ID] = seq
	return pipeline.Ack{Sequence: seq, Level: level}, nil
}

// Probe implements pipeline.Publisher.
func (p *Memory) Probe(ctx context.Context) error {
	if p.OnProbe != nil {
		return p.OnProbe(ctx)
	}
	return ctx.Err()
}

// Messages returns the messages of topic in order; that of sequence n is at n-1.
// Their bodies are shared with the store and must not be changed.
func (p *Memory) Messages(topic string) []pipeline.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.topics[topic]; t != nil {
		return slices.Clone(t.messages)
	}
	return nil
}

// Purge empties all topics and makes room. IDs are forgotten, and sequences
// begin at 1 again.
func (p *Memory) Purge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.topics, func(string, *memoryTopic) bool { return true })
}
