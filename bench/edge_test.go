package bench

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"caliperedge/bench/corpus"
	"caliperedge/edge"
	"caliperedge/edge/tokenmap"

	"github.com/valyala/fasthttp"
)

// BenchmarkEdge measures whole exchanges over loopback sockets: what a request costs with everything that belongs to it,
// the client in the same process included.
func BenchmarkEdge(b *testing.B) {
	for _, l := range loads {
		envelopes := l.envelopes()
		for _, store := range stores {
			n := concurrency(l.items)
			b.Run(fmt.Sprintf("%v/conns=%d/store=%s", l, n, store), func(b *testing.B) {
				benchmarkEdge(b, envelopes(), store, n)
			})
		}
	}
}

func benchmarkEdge(b *testing.B, envelopes []corpus.Envelope, store string, connections int) {
	publisher, empty := openStore(b, store)
	defer empty()
	c := serve(b, publisher)
	c.client.MaxConns = 2 * connections
	var all senders
	b.SetBytes(meanBytes(envelopes))
	b.ReportAllocs()
	before := publisher.bytes.Load()
	parallel(b, connections, func(pb *testing.PB) {
		s := all.add(envelopes)
		request, answer := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		c.prepare(request)
		for pb.Next() {
			e, _ := s.next()
			request.SetBodyRaw(e.Body)
			if err := c.client.Do(request, answer); err != nil {
				b.Error(err)
				return
			}
			if got := answer.StatusCode(); got != e.Status {
				b.Errorf("status %d, want %d: %s", got, e.Status, answer.Body())
				return
			}
		}
		fasthttp.ReleaseRequest(request)
		fasthttp.ReleaseResponse(answer)
	})
	reportEvents(b, envelopes[0].Items)
	publisher.reportStored(b, before, int64(b.N)*meanBytes(envelopes))
	c.client.CloseIdleConnections()
}

// client sends to a served endpoint.
type client struct {
	client fasthttp.HostClient
	token  string
}

// serve runs an endpoint with a token map of its own on a free port until the end of the benchmark.
func serve(b *testing.B, publisher *counting) *client {
	b.Helper()
	dir := b.TempDir()
	file := tokenmap.File{Path: filepath.Join(dir, "tokens.yaml.age"), KeyPath: filepath.Join(dir, "tokens.key")}
	token, err := file.Add("bench")
	if err != nil {
		b.Fatal(err)
	}
	tokens, err := tokenmap.Watch(file, quiet())
	if err != nil {
		b.Fatal(err)
	}
	e, err := edge.New(edge.Config{}, tokens, openPipeline(b, publisher, encoding), quiet())
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- e.Serve(ln, nil) }()
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := e.Drain(ctx); err != nil {
			b.Errorf("drain: %v", err)
		}
		if err := <-ended; err != nil {
			b.Errorf("serve: %v", err)
		}
		if err := tokens.Close(); err != nil {
			b.Errorf("close of the tokens: %v", err)
		}
	})
	c := &client{token: token}
	c.client.Addr = ln.Addr().String()
	c.client.ReadTimeout, c.client.WriteTimeout = 20*time.Second, 20*time.Second
	c.awaitAnswer(b)
	return c
}

// awaitAnswer returns when the endpoint serves.
func (c *client) awaitAnswer(b *testing.B) {
	request, answer := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(answer)
	c.prepare(request)
	request.Header.SetMethod(fasthttp.MethodGet)
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err = c.client.Do(request, answer); err == nil && answer.StatusCode() == fasthttp.StatusOK {
			return
		}
	}
	b.Fatalf("no answer from the endpoint: %v, status %d", err, answer.StatusCode())
}

func (c *client) prepare(r *fasthttp.Request) {
	r.Header.SetMethod(fasthttp.MethodPost)
	r.SetRequestURI("http://" + c.client.Addr + "/")
	r.Header.SetContentType("application/json")
	r.Header.Set(fasthttp.HeaderAuthorization, "Bearer "+c.token)
}
