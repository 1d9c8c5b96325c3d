// Package bench measures the parts of caliper-edge, alone and together, with the envelopes of bench/corpus.
//
// Rows are named key=value, as benchstat reads them, and all of a benchmark have the same keys, but for faulty, which
// stands only where some items do not conform. Beside what Go reports, events/s counts items of data, faulty ones
// included, and stored/in is the part of the bytes of the bodies that the messages have in the store.
//
//	make bench                     all rows, several times over, into bench/out/bench.txt
//	make bench-compare BASE=main   the same benchmarks on another revision and on this one, in turns
//
// What to make of a row: the speed of light (store=instant) shows what our own code costs, and the difference to
// store=embedded what JetStream and the disk do. Absolute numbers of a machine that others use drift by a factor of two;
// ratios of rows that were taken in one run hold.
package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"caliperedge/bench/corpus"
	"caliperedge/pipeline"
	"caliperedge/pipeline/stream"
)

// encoding is the Content-Encoding of messages in a default installation.
const encoding = pipeline.DefaultEncoding

// loads are the shapes of envelopes that every benchmark is run with.
var loads = []load{
	{corpus.Engage, 1, 0}, {corpus.Engage, 10, 0}, {corpus.Engage, 100, 0}, {corpus.Engage, 1000, 0},
	{corpus.Mix, 1, 0}, {corpus.Mix, 10, 0}, {corpus.Mix, 100, 0}, {corpus.Mix, 1000, 0},
	{corpus.Mix, 10, 0.1}, {corpus.Mix, 100, 0.1},
}

// load is a shape of envelopes.
type load struct {
	kind   corpus.Kind
	items  int
	faulty float64
}

// String is the beginning of a row's name.
func (l load) String() string {
	name := fmt.Sprintf("kind=%v/items=%d", l.kind, l.items)
	if l.faulty > 0 {
		name += fmt.Sprintf("/faulty=%v", l.faulty)
	}
	return name
}

// envelopes returns a function that makes them when they are first asked for, and has the same ever after. There are so
// many that no two senders send the same: events that stand in a batch twice would make it look easy to compress.
func (l load) envelopes() func() []corpus.Envelope {
	return sync.OnceValue(func() []corpus.Envelope {
		g := corpus.New(l.kind, 1)
		out := make([]corpus.Envelope, concurrency(l.items)*perSender(l.items))
		for i := range out {
			out[i] = g.Envelope(l.items, l.faulty)
		}
		return out
	})
}

// meanBytes is the mean size of a body.
func meanBytes(envelopes []corpus.Envelope) int64 {
	sum := 0
	for i := range envelopes {
		sum += len(envelopes[i].Body)
	}
	return int64(sum / len(envelopes))
}

// reportEvents reports events/s for envelopes of so many items.
func reportEvents(b *testing.B, items int) {
	b.ReportMetric(float64(items)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// senders numbers everybody who sends, so that no id is used twice in a store.
type senders struct{ last atomic.Uint64 }

// sender is one who sends envelopes of its own, one after the other, with fresh ids.
type sender struct {
	number, n uint64
	envelopes []corpus.Envelope
	at        int
}

// add returns another sender with copies of some of the envelopes.
func (s *senders) add(envelopes []corpus.Envelope) *sender {
	out := &sender{number: s.last.Add(1)}
	n := perSender(envelopes[0].Items)
	for i := range n {
		e := envelopes[(int(out.number)*n+i)%len(envelopes)]
		e.Body = bytes.Clone(e.Body)
		out.envelopes = append(out.envelopes, e)
	}
	return out
}

// next is the envelope to send now. It is the sender's again when next is called.
func (s *sender) next() (*corpus.Envelope, int) {
	s.at = (s.at + 1) % len(s.envelopes)
	e := &s.envelopes[s.at]
	s.n = e.Stamp(s.number, s.n)
	return e, s.at
}

// concurrency is how many send at once: enough to keep the store busy, and no more than memory allows.
func concurrency(items int) int {
	if items >= 1000 {
		return 16
	}
	return 64
}

// perSender is how many different envelopes a sender has.
func perSender(items int) int { return max(1, 16/items) }

// parallel runs body in so many goroutines, rounded up to a multiple of the processors.
func parallel(b *testing.B, goroutines int, body func(*testing.PB)) {
	processors := runtime.GOMAXPROCS(0)
	b.SetParallelism((goroutines + processors - 1) / processors)
	b.ResetTimer()
	b.RunParallel(body)
	b.StopTimer()
}

// stores are where messages go.
var stores = []string{"instant", "embedded"}

var topics = []string{pipeline.TopicStandard, "enriched", "quarantine", pipeline.TopicEntities, "rejected"}

// counting is a pipeline.Publisher that counts what another one takes.
type counting struct {
	pipeline.Publisher
	bytes atomic.Int64
}

func (c *counting) Publish(ctx context.Context, m *pipeline.Message) (pipeline.Ack, error) {
	c.bytes.Add(int64(len(m.Body)))
	return c.Publisher.Publish(ctx, m)
}

// reportStored reports the part of the bytes sent since before that was stored.
func (c *counting) reportStored(b *testing.B, before, sent int64) {
	b.ReportMetric(float64(c.bytes.Load()-before)/float64(sent), "stored/in")
}

// instant is a store that acknowledges at once and keeps nothing.
type instant struct{ sequence atomic.Uint64 }

func (p *instant) Publish(context.Context, *pipeline.Message) (pipeline.Ack, error) {
	return pipeline.Ack{Sequence: p.sequence.Add(1), Level: pipeline.LevelFsync}, nil
}

func (p *instant) Probe(context.Context) error { return nil }

// openStore opens a store of that name, or the embedded one encrypted, which is closed at the end of the benchmark. empty makes room in it.
func openStore(b *testing.B, name string) (p *counting, empty func()) {
	b.Helper()
	if name == "instant" {
		return &counting{Publisher: &instant{}}, func() {}
	}
	key := ""
	if name == "encrypted" {
		key = "a key of the benchmarks, which is 32 or more"
	}
	layout := stream.Layout{Prefix: "bench"}
	for _, topic := range topics {
		layout.Topics = append(layout.Topics, stream.Topic{Name: topic, MaxAge: time.Hour, MaxBytes: 16 << 30})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	store, err := stream.OpenEmbedded(ctx, stream.EmbeddedConfig{Dir: b.TempDir(), Key: key, Layout: layout, Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Errorf("close of the store: %v", err)
		}
	})
	return &counting{Publisher: store}, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for _, topic := range topics {
			s, err := store.JetStream().Stream(ctx, layout.Stream(topic))
			if err == nil {
				err = s.Purge(ctx)
			}
			if err != nil {
				b.Errorf("purge of %s: %v", topic, err)
			}
		}
	}
}

// openPipeline returns a pipeline that ends with the benchmark.
func openPipeline(b *testing.B, p pipeline.Publisher, encoding string, more ...string) *pipeline.Pipeline {
	b.Helper()
	out, err := pipeline.New(pipeline.Config{Topics: append(slices.Clone(topics), more...), Encoding: encoding}, p, quiet())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := out.Drain(ctx); err != nil {
			b.Errorf("drain of the pipeline: %v", err)
		}
	})
	return out
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
