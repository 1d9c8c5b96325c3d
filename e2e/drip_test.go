package e2e_test

import (
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

// TestDrips: half of 10,000 connections drip headers, the other half bodies. A
// good sensor is served meanwhile, the memory is bounded, and when their time is
// up all of them are told so and let go.
func TestDrips(t *testing.T) {
	if racing() {
		t.Skip("10,000 connections take too long under the race detector")
	}
	needsFiles(t, drips+1000)
	h := newHome(t, "CALIPER_BODY_TIMEOUT=25s")
	s := h.serve()
	s.stored(eventID("before"))
	before := resident(t, s.cmd.Process.Pid)

	address := strings.TrimPrefix(s.url, "http://")
	header := "POST / HTTP/1.1\r\nHost: e\r\nX-Drip: "
	body := "POST / HTTP/1.1\r\nHost: e\r\nAuthorization: Bearer " + s.token + "\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n{"
	conns := make([]net.Conn, drips)
	for i := range conns {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * patience))
		first := header
		if i%2 == 1 {
			first = body
		}
		if _, err := io.WriteString(c, first); err != nil {
			t.Fatal(err)
		}
		conns[i] = c
	}
	var most int
	for range 3 { // a byte each, and a look
		for _, c := range conns {
			io.WriteString(c, "x") // one whose time is up already may be closed
		}
		most = max(most, resident(t, s.cmd.Process.Pid))
		a := s.stored(eventID("meanwhile"))
		t.Logf("a good sensor waited for %v", a.took)
	}
	each := (most - before) / drips
	t.Logf("%d connections cost %d bytes each", drips, each)
	if each > dripBytes {
		t.Errorf("each connection costs %d bytes, want at most %d", each, dripBytes)
	}

	var readers sync.WaitGroup
	var mu sync.Mutex
	got := make(map[string]int)
	for _, c := range conns {
		readers.Go(func() {
			back, err := io.ReadAll(c)
			status, _, _ := strings.Cut(string(back), "\r\n")
			if err != nil && !errors.Is(err, syscall.ECONNRESET) { // it wrote on after the end
				status += err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			got[status]++
		})
	}
	readers.Wait()
	if got["HTTP/1.1 408 Request Timeout"] != drips {
		t.Errorf("the connections ended with %v, want a 408 for each", got)
	}
	if n := s.metric(fmt.Sprintf(`caliper_responses_total{status="%d"}`, http.StatusRequestTimeout)); n != drips {
		t.Errorf("%v time-outs are counted, want %d", n, drips)
	}
	s.stored(eventID("after"))
	s.stop()
}
