package e2e_test

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// drips is how many connections send a byte now and then and never finish.
	drips = 10_000
	// dripBytes is the most memory that each may cost the endpoint: its buffers,
	// its stack, and twice that for the garbage collector.
	dripBytes = 64 << 10
)

// resident is the memory of a process.
func resident(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmRSS in %s", status)
	}
	kilobytes, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

// drip is a connection that sends something at its start and then a byte each
// second, until it is answered or closed.
type drip struct {
	net.Conn
	begun time.Time
	took  time.Duration // until the first byte came back, or the end
	got   string        // the status line
	done  atomic.Bool
}

// listen waits for the answer and reads to the end.
func (d *drip) listen() {
	in := bufio.NewReader(d)
	_, err := in.Peek(1)
	d.took = time.Since(d.begun)
	d.done.Store(true)
	back, more := io.ReadAll(in)
	d.got, _, _ = strings.Cut(string(back), "\r\n")
	if err = cmp.Or(err, more); errors.Is(err, os.ErrDeadlineExceeded) {
		d.got += "(still open)"
	} else if err != nil && err != io.EOF && !errors.Is(err, syscall.ECONNRESET) { // a byte may have crossed the answer
		d.got += err.Error()
	}
}

// TestDrips: half of 10,000 connections drip headers, the other half bodies. A
// good sensor is served meanwhile, the memory is bounded, and when their time is
// up, which no further byte puts off, all of them are told so and let go.
func TestDrips(t *testing.T) {
	if racing() {
		t.Skip("10,000 connections take too long under the race detector")
	}
	needsFiles(t, drips+1000)
	const (
		headerTime = 10 * time.Second // cannot be set
		bodyTime   = 12 * time.Second
		slack      = 5 * time.Second // for 10,000 answers on a busy machine
		goodTime   = 2 * time.Second // of a good sensor, which is answered in milliseconds
	)
	h := newHome(t, fmt.Sprint("CALIPER_BODY_TIMEOUT=", bodyTime))
	s := h.serve()
	s.stored(eventID("before"))
	before := resident(t, s.cmd.Process.Pid)

	address := strings.TrimPrefix(s.url, "http://")
	header := "POST / HTTP/1.1\r\nHost: e\r\nX-Drip: "
	body := "POST / HTTP/1.1\r\nHost: e\r\nAuthorization: Bearer " + s.token + "\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n{"
	conns := make([]*drip, drips)
	var readers sync.WaitGroup
	for i := range conns {
		begun := time.Now()
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer c.Close()
		c.SetDeadline(begun.Add(bodyTime + 2*slack))
		first := header
		if i%2 == 1 {
			first = body
		}
		if _, err := io.WriteString(c, first); err != nil {
			t.Fatal(err)
		}
		conns[i] = &drip{Conn: c, begun: begun}
		readers.Go(conns[i].listen)
	}
	over := make(chan struct{})
	go func() {
		readers.Wait()
		close(over)
	}()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	var most int
	for open := true; open; {
		for _, c := range conns {
			if !c.done.Load() {
				io.WriteString(c, "x") // one that is just being closed may not take it
			}
		}
		most = max(most, resident(t, s.cmd.Process.Pid))
		if a := s.stored(eventID("meanwhile")); a.took > goodTime {
			t.Errorf("a good sensor waited for %v", a.took)
		}
		select {
		case <-second.C:
		case <-over:
			open = false
		}
	}
	each := (most - before) / drips
	t.Logf("%d connections cost %d bytes each", drips, each)
	if each > dripBytes {
		t.Errorf("each connection costs %d bytes, want at most %d", each, dripBytes)
	}

	got := make(map[string]int)
	for half, want := range []time.Duration{headerTime, bodyTime} {
		least, longest := patience, time.Duration(0)
		for i := half; i < drips; i += 2 {
			got[conns[i].got]++
			least, longest = min(least, conns[i].took), max(longest, conns[i].took)
		}
		what := []string{"headers", "bodies"}[half]
		t.Logf("%s were ended after %v to %v", what, least, longest)
		if least < want || longest > want+slack {
			t.Errorf("%s were ended after %v to %v, want %v and at most %v more", what, least, longest, want, slack)
		}
	}
	if got["HTTP/1.1 408 Request Timeout"] != drips {
		t.Errorf("the connections ended with %v, want a 408 for each", got)
	}
	if n := s.metric(fmt.Sprintf(`caliper_responses_total{status="%d"}`, http.StatusRequestTimeout)); n != drips {
		t.Errorf("%v time-outs are counted, want %d", n, drips)
	}
	s.stored(eventID("after"))
	s.addsUp()
	s.stop()
}
