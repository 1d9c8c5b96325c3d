package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"caliperedge/pipeline"
	"caliperedge/pipeline/pipelinetest"
)

// drain starts Drain and returns its outcome.
func (s *served) drain(timeout time.Duration) chan error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	done := make(chan error, 1)
	go func() {
		defer cancel()
		done <- s.Drain(ctx)
	}()
	return done
}

// gate is a store that takes messages only once it is opened.
type gate struct {
	*pipelinetest.Memory
	opened  chan struct{}
	arrived atomic.Int64
}

func newGate(outcome error) *gate {
	g := &gate{Memory: pipelinetest.NewMemory(testTopics...), opened: make(chan struct{})}
	g.Before = func(context.Context, *pipeline.Message) error {
		g.arrived.Add(1)
		<-g.opened
		return outcome
	}
	return g
}

// TestDrainWaitsForAnswers drains while requests wait for the store: they get
// the answer that is true, with Connection: close.
func TestDrainWaitsForAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		outcome error
		status  int
		body    string
	}{
		"stored":     {nil, 200, `"accepted":1`},
		"not stored": {pipeline.ErrStoreFull, 503, "Store is full."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const clients = 8
			g := newGate(c.outcome)
			s := serve(t, serving{store: g.Memory})
			requests := s.metrics.GetOrCreateCounter(`caliper_events_received_total{tool="Engage"}`)
			var waiting []*client
			for i := range clients {
				conn := dial(t, s)
				conn.post(testToken, envelope(event(i)))
				waiting = append(waiting, conn)
			}
			poll(t, "the requests to arrive", func() bool { return requests.Get() == clients && g.arrived.Load() > 0 })
			drained := s.drain(30 * time.Second)
			poll(t, "the drain to begin", s.Draining)
			select {
			case err := <-drained:
				t.Fatalf("drained with requests in flight: %v", err)
			case <-time.After(2 * drainIdle):
			}
			waiting[0].SetReadDeadline(time.Now().Add(time.Millisecond))
			if b, err := waiting[0].r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("answered %q %v before the events were stored", b, err)
			}
			waiting[0].SetReadDeadline(time.Now().Add(30 * time.Second))
			close(g.opened)
			for i, conn := range waiting {
				a, err := conn.read(http.MethodPost)
				if err != nil {
					t.Fatalf("request %d: %v", i, err)
				}
				if a.StatusCode != c.status || !a.Close || !strings.Contains(a.body, c.body) {
					t.Errorf("request %d: %d, Connection: close %v, %s", i, a.StatusCode, a.Close, a.body)
				}
				if err := conn.ended(); err != nil {
					t.Errorf("end of connection %d: %v", i, err)
				}
				conn.Close()
			}
			if err := <-drained; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDrainKeepsItsTime has requests that outlast the context of Drain.
func TestDrainKeepsItsTime(t *testing.T) {
	t.Parallel()
	g := newGate(nil)
	s := serve(t, serving{store: g.Memory})
	c := dial(t, s)
	c.post(testToken, envelope(event(1)))
	poll(t, "the request to arrive", func() bool { return g.arrived.Load() > 0 })
	start := time.Now()
	err := <-s.drain(100 * time.Millisecond)
	if took := time.Since(start); took > 20*time.Second { // the request has 30 s
		t.Errorf("a drain of 100ms took %v", took)
	}
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 connections") {
		t.Errorf("drain: %v, want the context's error and what is still open", err)
	}
	close(g.opened)
	if a, err := c.read(http.MethodPost); err != nil || a.StatusCode != 200 || !a.Close {
		t.Errorf("the request that was left: %v %v", a, err)
	}
	c.Close()
	if err := <-s.drain(30 * time.Second); err != nil {
		t.Errorf("another drain: %v", err)
	}
}

// TestDrainClosesWaitingConnections ends connections between requests, and those
// on which none has come yet, without a reset and without an answer. They do not
// wait for their own time, which is longer than the drain may take.
func TestDrainClosesWaitingConnections(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{Config: Config{HeaderTimeout: time.Hour, IdleTimeout: time.Hour}})
	var idle, fresh []*client
	for i := range 6 {
		c := dial(t, s)
		c.exchange(t, envelope(event(i)))
		idle = append(idle, c)
		fresh = append(fresh, dial(t, s))
	}
	poll(t, "the connections to be accepted", func() bool { return s.server.GetOpenConnectionsCount() == 12 })
	drained := s.drain(30 * time.Second)
	for i := range idle {
		if err := idle[i].ended(); err != nil {
			t.Errorf("end of idle connection %d: %v", i, err)
		}
		if err := fresh[i].ended(); err != nil {
			t.Errorf("end of fresh connection %d: %v", i, err)
		}
		idle[i].Close()
		fresh[i].Close()
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", s.addr); err == nil {
		c.Close()
		t.Error("a connection was taken after the drain")
	}
}

// TestDrainAnswersWhatWasSentBefore sends requests at the moment in which the
// drain begins, whole and in parts.
func TestDrainAnswersWhatWasSentBefore(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{})
	const clients = 30
	var conns []*client
	for i := range clients {
		c := dial(t, s)
		if i%2 == 0 { // the others are fresh
			c.exchange(t, envelope(event(i)))
		}
		conns = append(conns, c)
	}
	body := envelope(event(1))
	text := request(testToken, body)
	for _, c := range conns {
		part := len(text)
		if c == conns[0] || c == conns[1] {
			part -= len(body) / 2
		}
		io.WriteString(c, text[:part])
	}
	drained := s.drain(30 * time.Second)
	poll(t, "the drain to begin", s.Draining)
	time.Sleep(2 * drainIdle) // longer than a connection without a request may wait
	for i, c := range conns {
		if i < 2 {
			io.WriteString(c, text[len(text)-len(body)/2:])
		}
		a, err := c.read(http.MethodPost)
		if err != nil {
			t.Errorf("request %d: %v", i, err)
			continue
		}
		// Those that were faster than the drain have not been told of it.
		if a.StatusCode != 200 || i < 2 && !a.Close {
			t.Errorf("request %d: %d, Connection: close %v", i, a.StatusCode, a.Close)
		}
		if err := c.ended(); err != nil {
			t.Errorf("end of connection %d: %v", i, err)
		}
		c.Close()
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// TestDrainWithoutConnections returns only when none can come any more.
func TestDrainWithoutConnections(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{})
	if err := <-s.drain(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", s.addr); err == nil {
		c.Close()
		t.Error("a connection was taken after the drain")
	}
}

// TestDrainServesTheAcceptQueue has connections, with their requests, wait in
// the kernel when the drain begins.
func TestDrainServesTheAcceptQueue(t *testing.T) {
	t.Parallel()
	s := build(t, serving{Config: Config{HeaderTimeout: time.Hour}}) // the silent ones must not wait for it
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	silent := []*client{dial(t, s)} // and send nothing
	var conns []*client
	for i := range 40 {
		c := dial(t, s)
		if err := c.post(testToken, envelope(event(i))); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	silent = append(silent, dial(t, s))
	ended := make(chan error, 1)
	s.StartDrain()
	go func() { ended <- s.Serve(ln, nil) }()
	poll(t, "the endpoint to serve", func() bool { return s.listener.Load() != nil })
	drained := s.drain(30 * time.Second)
	for i, c := range conns {
		a, err := c.read(http.MethodPost)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if a.StatusCode != 200 || !a.Close {
			t.Errorf("request %d: %d, Connection: close %v", i, a.StatusCode, a.Close)
		}
		c.Close()
	}
	for _, c := range silent {
		if err := c.ended(); err != nil {
			t.Errorf("end of a silent connection: %v", err)
		}
		c.Close()
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("serve: %v", err)
	}
	if n := len(s.records(t)); n != len(conns) {
		t.Errorf("%d records, want %d", n, len(conns))
	}
}

// TestConnectionAcceptedWhileDraining does not wait for a first request as long
// as it would while serving.
func TestConnectionAcceptedWhileDraining(t *testing.T) {
	t.Parallel()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	l := newListener(ln, time.Minute, slog.New(slog.DiscardHandler))
	l.drain()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read %d bytes, %v; want io.EOF", n, err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it waited %v for a request", took)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); err != io.EOF {
		t.Errorf("accept when the queue is empty: %v, want io.EOF", err)
	}
}

// TestDrainUnderLoad drains while sensors post over connections that they keep.
// None of them may see a reset; an end of file before the answer on a connection
// that was used before means that the request was not taken, as every client
// knows, and then nothing of it may be stored.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	const sensors = 16
	s := serve(t, serving{})
	var answered, notTaken sync.Map // ids
	var started sync.WaitGroup
	started.Add(sensors)
	var wg sync.WaitGroup
	for sensor := range sensors {
		c := dial(t, s)
		wg.Go(func() {
			draw := rand.New(rand.NewPCG(uint64(sensor), 1))
			for i := 0; ; i++ {
				id := sensor*1_000_000 + i
				taken, last, err := postUnlessEnded(c, envelope(event(id)))
				switch {
				case err != nil:
					t.Errorf("sensor %d, request %d: %v", sensor, i, err)
					last = true
				case taken:
					answered.Store(eventID(id), true)
				default:
					notTaken.Store(eventID(id), true)
				}
				if i == 5 {
					started.Done()
				}
				if last {
					c.Close()
					return
				}
				if sensor%2 == 0 { // the other half posts without a pause
					time.Sleep(time.Duration(draw.IntN(400)) * time.Millisecond)
				}
			}
		})
	}
	started.Wait()
	if err := <-s.drain(time.Minute); err != nil {
		t.Error(err)
	}
	wg.Wait()
	stored := map[string]int{}
	for _, r := range s.records(t) {
		stored[r.ID]++
	}
	n, left := 0, 0
	answered.Range(func(id, _ any) bool {
		n++
		if stored[id.(string)] != 1 {
			t.Errorf("%s was answered 200 and is stored %d times", id, stored[id.(string)])
		}
		return true
	})
	notTaken.Range(func(id, _ any) bool {
		left++
		if stored[id.(string)] != 0 {
			t.Errorf("%s was not answered and is stored", id)
		}
		return true
	})
	if n != len(stored) {
		t.Errorf("%d answered, %d stored", n, len(stored))
	}
	t.Logf("%d answered, %d not taken", n, left)
}

// postUnlessEnded posts over a connection that is kept. taken tells whether the
// request was answered; last, whether the connection is at its end.
func postUnlessEnded(c *client, body string) (taken, last bool, err error) {
	// Like every client, look first whether the server has ended it.
	looked := time.Now()
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	switch _, err := c.r.Peek(1); {
	case errors.Is(err, io.EOF):
		return false, true, nil
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return false, true, fmt.Errorf("while idle: %w", err)
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	err = c.post(testToken, body)
	// The server ended it after the look and lingers only so long for a client
	// that was stopped in between.
	late := time.Since(looked) > lingerIdle
	if err != nil {
		if late && errors.Is(err, syscall.EPIPE) {
			return false, true, nil
		}
		return false, true, fmt.Errorf("write: %w", err)
	}
	if _, err := c.r.Peek(1); errors.Is(err, io.EOF) || late && errors.Is(err, syscall.ECONNRESET) {
		return false, true, nil
	}
	a, err := c.read(http.MethodPost)
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return false, true, fmt.Errorf("reset before the answer: %w", err)
	case err != nil:
		return false, true, err
	case a.StatusCode != 200:
		return false, true, fmt.Errorf("status %d: %s", a.StatusCode, a.body)
	}
	if a.Close {
		return true, true, c.ended()
	}
	return true, false, nil
}
