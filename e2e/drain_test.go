package e2e_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// wire is a sensor that speaks HTTP over a connection of its own, one request
// after the other, so that no client library hides a reset by trying again.
type wire struct {
	s        *server
	name     string
	gate     *sync.RWMutex // who locks it has all sensors stand still, each between two requests
	acked    []string
	busy     int          // requests that were answered 503: stored or not
	lost     string       // the id of a request that the server did not take any more
	count    atomic.Int64 // of answers
	answered time.Time    // when the end of the last answer was read
	sent     time.Time    // when the last request was
	fault    error
}

// drainIdle is how long a connection without a request stays open in a drain.
const drainIdle = 250 * time.Millisecond

// send posts until an answer says Connection: close.
func (w *wire) send() {
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.s.url, "http://"))
	if err != nil {
		w.fault = err
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * patience))
	in, last := bufio.NewReader(conn), false
	for n := 0; !last; n++ {
		w.gate.RLock()
		last, err = w.exchange(conn, in, n)
		w.gate.RUnlock()
		// A sensor that was stopped for so long after an answer finds its connection
		// ended. One that waited so long for its answer has not been idle.
		if n > 0 && errors.Is(err, errNotAnswered) && w.sent.Sub(w.answered) > drainIdle {
			w.lost = eventID(w.name, n)
			return
		}
		if err != nil {
			w.fault = fmt.Errorf("request %d: %w", n, err)
			return
		}
		w.count.Add(1)
	}
}

// errNotAnswered is the end of a connection in place of the first byte of an
// answer.
var errNotAnswered = errors.New("not answered")

// exchange posts one event and reads the answer; last says that it announced
// the end of the connection.
func (w *wire) exchange(conn net.Conn, in *bufio.Reader, n int) (last bool, err error) {
	id := eventID(w.name, n)
	body := envelope("", id)
	_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		w.s.token, len(body), body)
	w.sent = time.Now()
	if err == nil {
		_, err = in.Peek(1)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return false, fmt.Errorf("%w: %w", errNotAnswered, err)
	}
	if err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, err
	}
	w.answered = time.Now()
	switch {
	case resp.StatusCode == 200:
		w.acked = append(w.acked, id)
	case resp.StatusCode == 503:
		w.busy++
	default:
		return false, fmt.Errorf("answered %d %s", resp.StatusCode, text)
	}
	return resp.Close, nil
}

func TestTermUnderLoadBreaksNoConnection(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve()
	wires := make([]*wire, 16)
	var gate sync.RWMutex
	var senders sync.WaitGroup
	for i := range wires {
		wires[i] = &wire{s: s, name: fmt.Sprint("wire", i), gate: &gate}
		senders.Go(wires[i].send)
	}
	atWork := func(answers int64) {
		t.Helper()
		eventually(t, "the sensors are at work", func() bool {
			return !slices.ContainsFunc(wires, func(w *wire) bool { return w.count.Load() < answers })
		})
	}
	atWork(12)
	// Once it has ended, nobody can ask the process for its numbers: so they are
	// looked at now, and afterwards the sensors know what has to be there.
	gate.Lock()
	told := 0
	for _, w := range wires {
		told += len(w.acked)
	}
	s.settled()
	s.holds(told)
	gate.Unlock()
	atWork(24)
	s.stop()
	senders.Wait()

	var acked []string
	busy := 0
	for _, w := range wires {
		if w.fault != nil {
			t.Errorf("%s: %v", w.name, w.fault)
		}
		acked = append(acked, w.acked...)
		busy += w.busy
	}
	h.serve()
	stored := h.tail("standard")
	if lost := missing(stored, acked); lost != "" {
		t.Error(lost)
	}
	for _, w := range wires {
		if stored[w.lost] != 0 {
			t.Errorf("%s was not answered and is stored", w.lost)
		}
	}
	if n := len(stored); n < len(acked) || n > len(acked)+busy {
		t.Errorf("%d events are stored, %d were acknowledged and %d answered 503", n, len(acked), busy)
	}
}

func TestDrainDelay(t *testing.T) {
	t.Parallel()
	const delay = 8 * time.Second // of which the second that is looked at leaves most to a machine that stalls
	h := newHome(t, fmt.Sprint("CALIPER_DRAIN_DELAY=", delay))
	s := h.serve()
	if a := s.get(s.admin + "/readyz"); a.status != 200 {
		t.Fatalf("readyz before: %d %s", a.status, a.body)
	}
	if a := s.stored(eventID("delay", "before")); a.header.Get("Connection") == "close" {
		t.Error("Connection: close before the drain")
	}
	term := time.Now()
	s.signal(syscall.SIGTERM)
	within(t, delay/2, "readyz says 503", func() bool { return s.get(s.admin+"/readyz").status == 503 })
	for n := 0; time.Since(term) < time.Second; n++ {
		if a := s.stored(eventID("delay", n)); a.header.Get("Connection") != "close" {
			t.Fatal("an answer during the drain has no Connection: close")
		}
		if a := s.get(s.url + "/livez"); a.status != 200 {
			t.Fatalf("livez during the drain: %d", a.status)
		}
		time.Sleep(pollEvery)
	}
	if code := s.wait(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if took := time.Since(term); took < delay {
		t.Errorf("ended after %v, the delay is %v", took, delay)
	}
}

func TestTermWaitsForABodyUnderWay(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	body := envelope("", eventID("slow"))
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		s.token, len(body), body[:20])
	s.stored(eventID("slow", "other")) // by now the header has been read
	s.signal(syscall.SIGTERM)
	eventually(t, "the listener is closed", func() bool {
		c, err := net.Dial("tcp", conn.RemoteAddr().String())
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	io.WriteString(conn, body[20:])
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 200 || !resp.Close {
		t.Fatalf("answered %v, %v", resp, err)
	}
	if code := s.wait(); code != 0 {
		t.Errorf("exit %d", code)
	}
}
