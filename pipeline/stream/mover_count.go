package stream

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline"
)

// otherMessage is one that waits and is not in this mover's hands: in those of
// another, or of one that was killed, or it is to be tried again.
type otherMessage struct {
	records int
	stored  time.Time
}

// count counts what waits outside of the mover's hands until ctx ends.
func (m *Mover) count(ctx context.Context, js jetstream.JetStream, cons jetstream.Consumer) {
	ticker := time.NewTicker(moverCount)
	defer ticker.Stop()
	for {
		m.countOnce(ctx, js, cons)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// countOnce is one look, at the headers of the topic's messages where the
// consumer has others than those in hand. What fails is left for the next.
func (m *Mover) countOnce(ctx context.Context, js jetstream.JetStream, cons jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(ctx, moverTimeout)
	defer cancel()
	m.mu.Lock()
	m.taken = make(map[uint64]bool)
	m.mu.Unlock()
	others, err := m.listOthers(ctx, js, cons)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		for seq := range m.held {
			delete(others, seq)
		}
		for seq := range m.taken { // and may be gone by now
			delete(others, seq)
		}
		m.others = others
	}
	m.taken = nil
}

// listOthers returns the messages of the topic, or none where all that wait are
// in hand.
func (m *Mover) listOthers(ctx context.Context, js jetstream.JetStream, cons jetstream.Consumer) (map[uint64]otherMessage, error) {
	info, err := cons.Info(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	inHand := len(m.held)
	m.mu.Unlock()
	if int(info.NumPending)+info.NumAckPending == inHand {
		return nil, nil
	}
	others := make(map[uint64]otherMessage)
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, HeadersOnly: true}
	err = scan(ctx, js, m.p.layout.Stream(topicQuarantine), cfg, false, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		if records, err := headerNumber(msg.Headers(), pipeline.HeaderEvents, pipeline.MaxBatchRecords); err == nil {
			others[meta.Sequence.Stream] = otherMessage{records, meta.Timestamp}
		} // else it is none of ours, and is not moved
		return nil
	})
	return others, err
}

// earlier is the earlier of two times, of which the zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
