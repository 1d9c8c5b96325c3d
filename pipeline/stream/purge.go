package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline"
)

// Purge is what is to be deleted of a topic: its oldest messages, as a whole.
type Purge struct {
	// Topic is the topic's name and Stream that of its stream.
	Topic, Stream string
	// Messages, Records and Bytes count what is to go; Bytes are those of
	// messages as stored, without headers.
	Messages, Records, Bytes uint64
	// Keep is the sequence of the first message that stays.
	Keep uint64
	// Unread names the durable consumers that have not acknowledged all of it.
	Unread []string
}

// PlanPurge finds what of a topic was received before a time: all messages up
// to the first with a record received at that time or later. It deletes nothing.
// It reads the headers of what is to go, and the records of messages that were
// stored later than before and may hold older ones.
func PlanPurge(ctx context.Context, js jetstream.JetStream, layout Layout, topic string, before time.Time) (Purge, error) {
	p := Purge{Topic: topic, Stream: layout.Stream(topic)}
	older := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, HeadersOnly: true}
	err := scan(ctx, js, p.Stream, older, false, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		if !meta.Timestamp.Before(before) {
			return ErrStop
		}
		return p.add(m, meta, m.Headers().Get(nats.MsgSize))
	})
	if err != nil && !errors.Is(err, ErrStop) {
		return p, err
	}
	// A message is stored after its records were received, by hours where they
	// were moved or waited elsewhere.
	var decoder Decoder
	later := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &before}
	err = scan(ctx, js, p.Stream, later, false, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		lines, err := decoder.Records(m.Headers(), m.Data())
		if err != nil {
			return fmt.Errorf("%s:%d: %w", p.Stream, meta.Sequence.Stream, err)
		}
		if len(lines) == 0 { // not ours
			return ErrStop
		}
		for _, line := range lines {
			var record struct {
				Received time.Time `json:"received"`
			}
			if err := json.Unmarshal(line, &record); err != nil {
				return fmt.Errorf("%s:%d: %w", p.Stream, meta.Sequence.Stream, err)
			}
			if !record.Received.Before(before) {
				return ErrStop
			}
		}
		return p.add(m, meta, strconv.Itoa(len(m.Data())))
	})
	if err != nil && !errors.Is(err, ErrStop) {
		return p, err
	}
	return p, p.findUnread(ctx, js)
}

// add counts a message that is to go.
func (p *Purge) add(m jetstream.Msg, meta *jetstream.MsgMetadata, bytes string) error {
	n, err := strconv.ParseUint(bytes, 10, 64)
	if err != nil {
		return fmt.Errorf("%s:%d: size %q", p.Stream, meta.Sequence.Stream, bytes)
	}
	p.Messages++
	p.Bytes += n
	p.Keep = meta.Sequence.Stream + 1
	if m.Headers().Get(pipeline.HeaderRecord) != "" {
		records, err := headerNumber(m.Headers(), pipeline.HeaderEvents, pipeline.MaxBatchRecords)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", p.Stream, meta.Sequence.Stream, err)
		}
		p.Records += uint64(records)
	}
	return nil
}

func (p *Purge) findUnread(ctx context.Context, js jetstream.JetStream) error {
	if p.Messages == 0 {
		return nil
	}
	s, err := js.Stream(ctx, p.Stream)
	if err != nil {
		return fmt.Errorf("stream: ask for stream %s: %w", p.Stream, err)
	}
	list := s.ListConsumers(ctx)
	for c := range list.Info() {
		if c.Config.Durable != "" && c.AckFloor.Stream+1 < p.Keep {
			p.Unread = append(p.Unread, c.Config.Durable)
		}
	}
	if list.Err() != nil {
		return fmt.Errorf("stream: consumers of stream %s: %w", p.Stream, list.Err())
	}
	return nil
}

// purgeMakesRoom is how many bytes of messages make room for the notes about them
// as they go: they fill two blocks, and blocks that go as a whole go first.
const purgeMakesRoom = 16 << 20

// Do deletes what was planned. What was stored since stays. dir is the data folder
// of an embedded server, empty for an external one. Where its disk has no room
// for the server's notes about what is gone, on which nats-server 2.15.2 waits for
// itself for ever (compactLocked), so little that it makes no room is an error.
func (p Purge) Do(ctx context.Context, js jetstream.JetStream, dir string) error {
	if p.Messages == 0 {
		return nil
	}
	if err := p.do(ctx, js, dir); err != nil {
		return fmt.Errorf("stream: purge stream %s: %w", p.Stream, err)
	}
	return nil
}

func (p Purge) do(ctx context.Context, js jetstream.JetStream, dir string) error {
	s, err := js.Stream(ctx, p.Stream)
	if err != nil {
		return err
	}
	if dir != "" {
		if full := room(dir); full != nil {
			if p.Bytes < purgeMakesRoom {
				return fmt.Errorf("%w for notes about what is gone: make room there, or delete %d bytes or more of the topic at once", full, purgeMakesRoom)
			}
			// To delete all of a stream the server first begins another file.
			if err := s.Purge(ctx, jetstream.WithPurgeSequence(p.Keep-1)); err != nil {
				return err
			}
		}
	}
	return s.Purge(ctx, jetstream.WithPurgeSequence(p.Keep))
}
