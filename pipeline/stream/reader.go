package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline"
)

// tailPause is how long Tail waits for a message before it asks the server
// whether there is one at all; a test makes it long.
var tailPause = time.Second

// tailHeartbeat is how often the server tells a waiting Tail that it is there.
// Only a wait of more than two notices that the consumer, or the request for
// messages, was lost, and makes another.
const tailHeartbeat = 2 * time.Second

// Address says where a record is. It never changes, so that it can serve as key
// of an idempotent load.
type Address struct {
	// Stream and Sequence name the message.
	Stream   string
	Sequence uint64
	// Line is the record's line in it, from 1.
	Line int
}

// String returns stream:sequence:line.
func (a Address) String() string { return fmt.Sprintf("%s:%d:%d", a.Stream, a.Sequence, a.Line) }

// Decoder takes records out of messages. The zero value is ready to use; it
// keeps its buffers and must not be used concurrently.
type Decoder struct {
	zstd  *zstd.Decoder
	buf   []byte
	lines [][]byte
}

// Records returns the records of one message, without their line breaks, in the
// order of their lines. A message without the header Caliper-Record is not ours:
// it has no records and no error, and its reader acknowledges it. An unknown
// version, an encoding that does not unpack to exactly what the headers say, and
// sizes beyond the format's are errors.
//
// The records stay valid until the next call, and where the message is not
// compressed they point into data.
func (d *Decoder) Records(header nats.Header, data []byte) ([][]byte, error) {
	version := header.Get(pipeline.HeaderRecord)
	if version == "" {
		return nil, nil
	}
	if version != pipeline.RecordVersion {
		return nil, fmt.Errorf("stream: message of format version %q, only %s is known", version, pipeline.RecordVersion)
	}
	size, err := headerNumber(header, pipeline.HeaderBytes, pipeline.MaxBatchBytes)
	if err != nil {
		return nil, err
	}
	count, err := headerNumber(header, pipeline.HeaderEvents, pipeline.MaxBatchRecords)
	if err != nil {
		return nil, err
	}
	body, err := d.unpack(header.Get(pipeline.HeaderEncoding), data, size)
	if err != nil {
		return nil, err
	}
	if len(body) != size {
		return nil, fmt.Errorf("stream: message of %d bytes, its header says %d", len(body), size)
	}
	d.lines = d.lines[:0]
	for line := range bytes.Lines(body) {
		d.lines = append(d.lines, bytes.TrimSuffix(line, []byte("\n")))
	}
	if len(d.lines) != count {
		return nil, fmt.Errorf("stream: message of %d records, its header says %d", len(d.lines), count)
	}
	return d.lines, nil
}

func headerNumber(header nats.Header, name string, limit int) (int, error) {
	s := header.Get(name)
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > limit {
		return 0, fmt.Errorf("stream: header %s is %q, want a number up to %d", name, s, limit)
	}
	return n, nil
}

// unpack never takes more memory than size, which is bounded, whatever data
// claims to unpack to.
func (d *Decoder) unpack(encoding string, data []byte, size int) ([]byte, error) {
	switch encoding {
	case pipeline.EncodingNone:
		return data, nil
	case pipeline.EncodingSnappy:
		if n, err := s2.DecodedLen(data); err != nil || n != size {
			return nil, fmt.Errorf("stream: snappy message unpacks to %d bytes, its header says %d", n, size)
		}
		b, err := s2.Decode(d.room(size), data)
		if err != nil {
			return nil, fmt.Errorf("stream: unpack snappy message: %w", err)
		}
		return b, nil
	case pipeline.EncodingZstd:
		var frame zstd.Header
		if err := frame.Decode(data); err != nil || !frame.HasFCS || frame.FrameContentSize != uint64(size) {
			return nil, fmt.Errorf("stream: zstd message has no content size or another than the %d of its header", size)
		}
		if d.zstd == nil {
			// Without a concurrency of 1 it would start goroutines that nobody ends.
			z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(pipeline.MaxBatchBytes))
			if err != nil {
				return nil, fmt.Errorf("stream: %w", err)
			}
			d.zstd = z
		}
		b, err := d.zstd.DecodeAll(data, d.room(size)[:0])
		if err != nil {
			return nil, fmt.Errorf("stream: unpack zstd message: %w", err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("stream: message has unknown encoding %q", encoding)
}

// room returns the buffer with length size.
func (d *Decoder) room(size int) []byte {
	if cap(d.buf) < size {
		d.buf = make([]byte, size)
	}
	return d.buf[:size]
}

// TailOptions say what of a topic to read.
type TailOptions struct {
	// Since is "start" (or empty) for everything, "now" for what is stored from
	// now on, or a duration such as "90m" for what was stored within it.
	Since string
	// From, where it is set, stands in place of Since: what was stored since.
	From time.Time
	// Follow waits for further messages until ctx is done. Otherwise Tail ends
	// with the message that was the last one when it began.
	Follow bool
}

// Tail calls each for the records of a topic, in the order in which their
// messages were stored, until the end, an error of each, which it returns, or
// the end of ctx, which it returns as nil when following. A message that cannot
// be decoded ends it with an error that has the message's address. It leaves no
// consumer behind and survives a restart of the server. The record belongs to
// Tail again when each returns.
func Tail(ctx context.Context, js jetstream.JetStream, layout Layout, topic string, opts TailOptions,
	each func(record []byte, at Address) error) error {
	cfg, err := tailFrom(opts.Since, time.Now())
	if err != nil {
		return err
	}
	if !opts.From.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &opts.From
	}
	var decoder Decoder
	err = scan(ctx, js, layout.Stream(topic), cfg, opts.Follow, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		at := Address{Stream: meta.Stream, Sequence: meta.Sequence.Stream}
		lines, err := decoder.Records(m.Headers(), m.Data())
		if err != nil {
			return fmt.Errorf("%s:%d: %w", at.Stream, at.Sequence, err)
		}
		for i, line := range lines {
			at.Line = i + 1
			if err := each(line, at); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

// ErrStop ends a Tail without an error where each returns it.
var ErrStop = errors.New("stream: stop")

// scan calls each for the messages of a stream, as Tail does for records.
func scan(ctx context.Context, js jetstream.JetStream, name string, cfg jetstream.OrderedConsumerConfig, follow bool,
	each func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	s, err := askStream(ctx, js, name)
	if err != nil {
		return fmt.Errorf("stream: tail stream %s: %w", name, err)
	}
	last := s.CachedInfo().State.LastSeq
	if !follow && cfg.DeliverPolicy == jetstream.DeliverNewPolicy {
		return nil
	}
	var cons jetstream.Consumer
	err = ask(ctx, js, name, func(ctx context.Context) error {
		var err error
		cons, err = js.OrderedConsumer(ctx, name, cfg)
		return err
	})
	if err != nil {
		return fmt.Errorf("stream: tail stream %s: %w", name, err)
	}
	defer deleteOrdered(js, name, cons)
	if !follow && (last == 0 || cons.CachedInfo().NumPending == 0) {
		return nil // a last of 0 would be no end
	}
	msgs, err := cons.Messages(jetstream.PullHeartbeat(tailHeartbeat))
	if err != nil {
		return fmt.Errorf("stream: tail stream %s: %w", name, err)
	}
	defer msgs.Stop()
	// The iterator does not look at ctx while it makes a new consumer.
	defer context.AfterFunc(ctx, msgs.Stop)()
	t := tail{stream: name, source: s, cons: cons, msgs: msgs, each: each}
	if !follow {
		t.last = last
	}
	err = t.run(ctx)
	if follow && ctx.Err() != nil {
		return nil
	}
	return err
}

func tailFrom(since string, now time.Time) (jetstream.OrderedConsumerConfig, error) {
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy}
	switch since {
	case "", "start":
	case "now":
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	default:
		d, err := time.ParseDuration(since)
		if err != nil || d < 0 {
			return cfg, fmt.Errorf("stream: since %q, want start, now or a duration such as 90m", since)
		}
		start := now.Add(-d)
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &start
	}
	return cfg, nil
}

// deleteOrdered removes the consumer behind an ordered consumer; where it fails
// the server does after five minutes.
func deleteOrdered(js jetstream.JetStream, stream string, cons jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = js.DeleteConsumer(ctx, stream, cons.CachedInfo().Name)
}

// tail is one scan under way.
type tail struct {
	stream string
	source jetstream.Stream
	cons   jetstream.Consumer
	msgs   jetstream.MessagesContext
	each   func(jetstream.Msg, *jetstream.MsgMetadata) error
	last   uint64 // sequence of the last message wanted, 0 for no end

	consumer string // which the last message came from
	arrived  uint64 // how many it had sent by then
}

func (t *tail) run(ctx context.Context) error {
	pause := tailPause
	for {
		var wait []jetstream.NextOpt
		if t.last > 0 {
			wait = []jetstream.NextOpt{jetstream.NextMaxWait(pause)}
		}
		m, err := t.msgs.Next(wait...)
		pause = tailPause
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, nats.ErrTimeout):
			if t.ended(ctx) {
				return nil
			}
			pause = 3 * tailHeartbeat
			continue
		case err != nil:
			return fmt.Errorf("stream: tail stream %s: %w", t.stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("stream: tail stream %s: %w", t.stream, err)
		}
		t.consumer, t.arrived = meta.Consumer, meta.Sequence.Consumer
		seen := meta.Sequence.Stream
		if t.last > 0 && seen > t.last {
			return nil
		}
		if err := t.each(m, meta); err != nil {
			return err
		}
		if t.last > 0 && (seen == t.last || meta.NumPending == 0) {
			return nil
		}
	}
}

// ended asks whether there is nothing more to come. Where it gets no answer it
// cannot tell.
func (t *tail) ended(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askAttempt)
	defer cancel()
	info, err := t.cons.Info(ctx)
	if err != nil {
		return false
	}
	if info.Name != t.consumer { // it was lost, and made anew
		t.consumer, t.arrived = info.Name, 0
	}
	// What is under way to us is delivered.
	return info.Delivered.Consumer <= t.arrived && (info.NumPending == 0 || t.gone(ctx))
}

// gone tells whether the stream has nothing left up to the last message wanted:
// by its age, or because records have moved.
func (t *tail) gone(ctx context.Context) bool {
	info, err := t.source.Info(ctx)
	return err == nil && (info.State.Msgs == 0 || info.State.FirstSeq > t.last)
}
