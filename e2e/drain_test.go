package e2e_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// wire is a sensor that speaks HTTP over a connection of its own, one request
// after the other, so that no client library hides a reset by trying again.
type wire struct {
	s     *server
	name  string
	acked []string
	fault error
}

// send posts until an answer says Connection: close.
func (w *wire) send() {
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.s.url, "http://"))
	if err != nil {
		w.fault = err
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	in, last := bufio.NewReader(conn), false
	for n := 0; !last; n++ {
		if last, err = w.exchange(conn, in, n); err != nil {
			w.fault = fmt.Errorf("request %d: %w", n, err)
			return
		}
	}
}

// exchange posts one event and reads the answer; last says that it announced
// the end of the connection.
func (w *wire) exchange(conn net.Conn, in *bufio.Reader, n int) (last bool, err error) {
	id := eventID(w.name, n)
	body := envelope("", id)
	_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		w.s.token, len(body), body)
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
	switch {
	case resp.StatusCode == 200:
		w.acked = append(w.acked, id)
	case resp.StatusCode != 503:
		return false, fmt.Errorf("answered %d %s", resp.StatusCode, text)
	}
	return resp.Close, nil
}

func TestTermUnderLoadBreaksNoConnection(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve()
	wires := make([]*wire, 16)
	var senders sync.WaitGroup
	for i := range wires {
		wires[i] = &wire{s: s, name: fmt.Sprint("wire", i)}
		senders.Go(wires[i].send)
	}
	eventually(t, "the sensors are at work", func() bool {
		return s.metric(`caliper_requests_ended_total{tool="demo",as="stored"}`) > 200
	})
	s.stop()
	senders.Wait()

	var acked []string
	for _, w := range wires {
		if w.fault != nil {
			t.Errorf("%s: %v", w.name, w.fault)
		}
		acked = append(acked, w.acked...)
	}
	h.serve()
	if lost := missing(h.tail("standard"), acked); lost != "" {
		t.Error(lost)
	}
}

func TestDrainDelay(t *testing.T) {
	t.Parallel()
	h := newHome(t, "CALIPER_DRAIN_DELAY=2s")
	s := h.serve()
	if a := s.get(s.admin + "/readyz"); a.status != 200 {
		t.Fatalf("readyz before: %d %s", a.status, a.body)
	}
	if a := s.stored(eventID("delay", "before")); a.header.Get("Connection") == "close" {
		t.Error("Connection: close before the drain")
	}
	term := time.Now()
	s.signal(syscall.SIGTERM)
	within(t, time.Second, "readyz says 503", func() bool { return s.get(s.admin+"/readyz").status == 503 })
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
	if took := time.Since(term); took < 2*time.Second {
		t.Errorf("ended after %v, the delay is 2s", took)
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
