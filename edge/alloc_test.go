package edge

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"caliperedge/pipeline"

	"github.com/valyala/fasthttp"
)

// instant is a store that acknowledges at once and keeps nothing.
type instant struct{ sequence atomic.Uint64 }

func (p *instant) Publish(context.Context, *pipeline.Message) (pipeline.Ack, error) {
	return pipeline.Ack{Sequence: p.sequence.Add(1), Level: pipeline.LevelFsync}, nil
}

func (p *instant) Probe(context.Context) error { return nil }

// inMemory is a request that can be handled again and again.
type inMemory struct {
	fasthttp.RequestCtx
	body   []byte
	stream bytes.Reader
}

func newInMemory(body string, header ...string) *inMemory {
	r := &inMemory{body: []byte(body)}
	h := &r.Request.Header
	h.SetMethod(fasthttp.MethodPost)
	h.SetRequestURI("/")
	h.SetHost("edge.example")
	h.SetContentType("application/json")
	h.Set("Authorization", "Bearer "+testToken)
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return r
}

// windowed is the default: duplicates are looked for. The window is as small as
// to be full before the tests begin.
var windowed = pipeline.Config{DuplicateIDs: 10_000, DuplicateAge: time.Hour}

// renew gives every event of r another id, so that it is no duplicate.
func (r *inMemory) renew() {
	const prefix = "urn:uuid:00000000-0000-4000-8"
	for rest := r.body; ; {
		i := bytes.Index(rest, []byte(prefix))
		if i < 0 {
			return
		}
		rest = rest[i+len(prefix):]
		renewals++
		for j, n := len("000-000000000000")-1, renewals; n > 0; n /= 10 {
			rest[j] = '0' + byte(n%10)
			j--
		}
	}
}

var renewals = 1000

func (r *inMemory) handle(e *Endpoint) int {
	r.stream.Reset(r.body)
	r.Request.SetBodyStream(&r.stream, len(r.body))
	r.Response.Reset()
	e.handle(&r.RequestCtx)
	return r.Response.StatusCode()
}

// TestAllocations holds the memory that a request costs, from the header to the
// answer, the worker that stores it included. A budget is what was measured:
// lower it with a gain, raise it with a reason. All of these are the worker's,
// once for a batch: a context with its timer, a message and its ID.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := build(t, serving{publisher: &instant{}, pipeline: windowed})
	warm := newInMemory(envelope(events(100)...))
	for range 300 {
		warm.renew()
		warm.handle(s.Endpoint)
	}
	for _, c := range []struct {
		name   string
		r      *inMemory
		status int
		budget float64
	}{
		{"1 event", newInMemory(envelope(event(1))), 200, 7},
		{"100 events", newInMemory(envelope(events(100)...)), 200, 7},
		{"1 of 2 events", newInMemory(envelope(event(1), badEvent(2))), 202, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := testing.AllocsPerRun(300, func() {
				c.r.renew()
				if status := c.r.handle(s.Endpoint); status != c.status {
					t.Fatalf("status %d, want %d: %s", status, c.status, c.r.Response.Body())
				}
			})
			if got > c.budget {
				t.Errorf("%v allocations for a request, budget is %v", got, c.budget)
			}
		})
	}
}

// TestAllocationsOfDuplicates: what is known costs nothing but its look.
func TestAllocationsOfDuplicates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := build(t, serving{publisher: &instant{}, pipeline: windowed})
	for _, n := range []int{1, 100} {
		r := newInMemory(envelope(events(n)...))
		r.handle(s.Endpoint)
		if got := testing.AllocsPerRun(300, func() {
			if status := r.handle(s.Endpoint); status != 200 {
				t.Fatalf("status %d: %s", status, r.Response.Body())
			}
		}); got > 0 {
			t.Errorf("%v allocations for %d duplicates", got, n)
		}
	}
}

func BenchmarkReceive(b *testing.B) {
	for _, n := range []int{1, 100} {
		for _, ids := range []int{0, 2_000_000} {
			b.Run(fmt.Sprintf("events=%d/window=%d", n, ids), func(b *testing.B) {
				s := build(b, serving{publisher: &instant{}, pipeline: pipeline.Config{DuplicateIDs: ids, DuplicateAge: time.Hour}})
				r := newInMemory(envelope(events(n)...))
				b.SetBytes(int64(len(r.body)))
				b.ReportAllocs()
				for b.Loop() {
					r.renew()
					if status := r.handle(s.Endpoint); status != 200 {
						b.Fatalf("status %d", status)
					}
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
