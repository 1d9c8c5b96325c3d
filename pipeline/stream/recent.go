package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// minChunk and maxChunk bound how many messages Recent reads at a time, and
	// chunkRecords is how many records it means to get.
	minChunk, maxChunk = 8, 4096
	chunkRecords       = 50_000
	// chunkBytes bounds what is under way to us.
	chunkBytes = 16 << 20
)

// backward reads a topic from its end to its beginning.
type backward struct {
	topic   string
	first   uint64    // message of the stream
	last    uint64    // that was not read yet
	reached time.Time // all that was stored later has been read
	chunk   uint64
}

// Recent calls each for the records of the topics, roughly the newest first,
// until it has read all that were stored since a time, each returns false, or
// ctx ends. It returns the time since when it has read them all, and an error
// where it was kept from going on; the end of ctx is none. The record belongs to
// Recent again when each returns.
func (p *Publisher) Recent(ctx context.Context, topics []string, since time.Time,
	each func(topic string, sequence uint64, stored time.Time, record []byte) bool) (time.Time, error) {
	js := p.JetStream()
	if js == nil {
		return time.Now(), errNotOpen
	}
	var all []*backward
	for _, topic := range topics {
		s, err := js.Stream(ctx, p.layout.Stream(topic))
		if err != nil {
			return time.Now(), fmt.Errorf("stream: read back %s: %w", topic, err)
		}
		st := s.CachedInfo().State
		all = append(all, &backward{topic: topic, first: st.FirstSeq, last: st.LastSeq, reached: st.LastTime, chunk: minChunk})
	}
	for {
		var next *backward // whose unread messages are the newest
		for _, b := range all {
			if b.last >= b.first && b.last > 0 && b.reached.After(since) && (next == nil || b.reached.After(next.reached)) {
				next = b
			}
		}
		if next == nil {
			return since, nil
		}
		reached := next.reached
		more, err := p.readChunk(ctx, js, next, each)
		if err != nil && ctx.Err() == nil {
			return reached, err
		}
		if !more || ctx.Err() != nil {
			return reached, nil
		}
	}
}

// readChunk reads the last messages of b that were not read yet. It reports
// false where each has.
func (p *Publisher) readChunk(ctx context.Context, js jetstream.JetStream, b *backward,
	each func(topic string, sequence uint64, stored time.Time, record []byte) bool) (more bool, err error) {
	stream := p.layout.Stream(b.topic)
	from := b.first
	if b.last-b.first >= b.chunk {
		from = b.last - b.chunk + 1
	}
	cons, err := js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from})
	if err != nil {
		return false, fmt.Errorf("stream: read back %s: %w", stream, err)
	}
	defer deleteOrdered(js, stream, cons)
	if cons.CachedInfo().NumPending == 0 { // of what was deleted nothing is to be waited for
		b.last, b.chunk = from-1, min(4*b.chunk, maxChunk)
		return true, nil
	}
	msgs, err := cons.Messages(jetstream.PullMaxBytes(chunkBytes))
	if err != nil {
		return false, fmt.Errorf("stream: read back %s: %w", stream, err)
	}
	defer msgs.Stop()
	defer context.AfterFunc(ctx, msgs.Stop)()
	decoder := Decoder{}
	records, seen, more := uint64(0), from-1, true
	for {
		m, err := msgs.Next(jetstream.NextMaxWait(tailPause))
		if err == nats.ErrTimeout {
			info, asked := cons.Info(ctx)
			if asked == nil && info.NumPending == 0 && info.Delivered.Stream <= seen {
				break // deleted meanwhile
			}
			if err = asked; err == nil {
				continue
			}
		}
		if err != nil {
			return false, fmt.Errorf("stream: read back %s: %w", stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return false, fmt.Errorf("stream: read back %s: %w", stream, err)
		}
		if meta.Sequence.Stream > b.last {
			break
		}
		if seen < from { // the earliest
			b.reached = meta.Timestamp
		}
		seen = meta.Sequence.Stream
		lines, err := decoder.Records(m.Headers(), m.Data())
		if err != nil {
			return false, fmt.Errorf("%s:%d: %w", stream, meta.Sequence.Stream, err)
		}
		for _, line := range lines {
			more = each(b.topic, meta.Sequence.Stream, meta.Timestamp, line) && more
		}
		records += uint64(len(lines))
		if meta.Sequence.Stream == b.last || meta.NumPending == 0 {
			break
		}
	}
	b.chunk = min(max(b.chunk*chunkRecords/max(records, 1), minChunk), 4*b.chunk, maxChunk)
	b.last = from - 1
	return more, nil
}
