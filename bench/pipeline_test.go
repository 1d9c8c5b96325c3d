package bench

import (
	"fmt"
	"testing"
	"time"

	"caliperedge/bench/corpus"
	"caliperedge/pipeline"
	"caliperedge/validate"
)

// BenchmarkPipeline measures Route, Submit and Wait of parsed envelopes. A single sender (senders=1) pays for a batch
// with each of its envelopes: that is the latency of an idle endpoint.
func BenchmarkPipeline(b *testing.B) {
	for _, l := range loads {
		envelopes := l.envelopes()
		for _, store := range stores {
			for _, n := range sendersOf(l) {
				b.Run(fmt.Sprintf("%v/senders=%d/store=%s", l, n, store), func(b *testing.B) {
					benchmarkPipeline(b, envelopes(), store, encoding, n)
				})
			}
		}
	}
}

func sendersOf(l load) []int {
	if l.items == 1 {
		return []int{1, concurrency(1)}
	}
	return []int{concurrency(l.items)}
}

// BenchmarkEncoding is BenchmarkPipeline with each encoding that messages can have.
func BenchmarkEncoding(b *testing.B) {
	for _, l := range []load{{corpus.Engage, 1, 0}, {corpus.Engage, 100, 0}, {corpus.Mix, 1, 0}, {corpus.Mix, 100, 0}} {
		envelopes := l.envelopes()
		for _, name := range []string{"none", pipeline.EncodingSnappy, pipeline.EncodingZstd} {
			encoding, err := pipeline.ParseEncoding(name)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%v/encoding=%s", l, name), func(b *testing.B) {
				benchmarkPipeline(b, envelopes(), "embedded", encoding, concurrency(l.items))
			})
		}
	}
}

// BenchmarkAtRest is BenchmarkPipeline on the embedded store, plain and encrypted.
func BenchmarkAtRest(b *testing.B) {
	for _, l := range []load{{corpus.Engage, 1, 0}, {corpus.Engage, 100, 0}} {
		envelopes := l.envelopes()
		for _, store := range []string{"embedded", "encrypted"} {
			b.Run(fmt.Sprintf("%v/store=%s", l, store), func(b *testing.B) {
				benchmarkPipeline(b, envelopes(), store, encoding, concurrency(l.items))
			})
		}
	}
}

// BenchmarkTopics measures what topics cost that take nothing of an envelope: Route and Release of one event.
func BenchmarkTopics(b *testing.B) {
	l := load{corpus.Engage, 1, 0}
	envelopes := l.envelopes()()
	for _, n := range []int{5, 16, 64} {
		b.Run(fmt.Sprintf("%v/topics=%d", l, n), func(b *testing.B) {
			var more []string
			for i := len(topics); i < n; i++ {
				more = append(more, fmt.Sprintf("topic-%d", i))
			}
			p := openPipeline(b, &instant{}, encoding, more...)
			env, err := validate.Parse(envelopes[0].Body, validate.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer env.Release()
			now := time.Now()
			b.SetBytes(int64(len(envelopes[0].Body)))
			b.ReportAllocs()
			for b.Loop() {
				r, err := p.Route(env, "bench", now)
				if err != nil {
					b.Fatal(err)
				}
				r.Release()
			}
			reportEvents(b, l.items)
		})
	}
}

func benchmarkPipeline(b *testing.B, envelopes []corpus.Envelope, store, encoding string, goroutines int) {
	publisher, empty := openStore(b, store)
	defer empty()
	p := openPipeline(b, publisher, encoding)
	var all senders
	b.SetBytes(meanBytes(envelopes))
	b.ReportAllocs()
	before := publisher.bytes.Load()
	if goroutines == 1 {
		s := newSubmitter(b, p, all.add(envelopes))
		for b.Loop() {
			s.submit()
		}
		s.release()
	} else {
		parallel(b, goroutines, func(pb *testing.PB) {
			s := newSubmitter(b, p, all.add(envelopes))
			for pb.Next() {
				s.submit()
			}
			s.release()
		})
	}
	reportEvents(b, envelopes[0].Items)
	publisher.reportStored(b, before, int64(b.N)*meanBytes(envelopes))
}

// submitter is a sender whose envelopes were parsed beforehand. What a parsed envelope gives out are views into its body,
// so that ids written there are those that are stored.
type submitter struct {
	*sender
	b      *testing.B
	p      *pipeline.Pipeline
	parsed []*validate.Envelope
}

func newSubmitter(b *testing.B, p *pipeline.Pipeline, s *sender) *submitter {
	out := &submitter{sender: s, b: b, p: p}
	for i := range s.envelopes {
		e, err := validate.Parse(s.envelopes[i].Body, validate.Options{})
		if err != nil {
			b.Error(err)
			continue
		}
		out.parsed = append(out.parsed, e)
	}
	return out
}

func (s *submitter) submit() {
	_, i := s.next()
	now := time.Now()
	r, err := s.p.Route(s.parsed[i], "bench", now)
	if err != nil {
		s.b.Error(err)
		return
	}
	if err = s.p.Submit(r, now.Add(5*time.Second)); err == nil {
		err = r.Wait()
	}
	if err != nil {
		s.b.Error(err)
	}
	r.Release()
}

func (s *submitter) release() {
	for _, e := range s.parsed {
		e.Release()
	}
}
