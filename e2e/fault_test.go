package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"caliperedge/internal/accounting"
	"caliperedge/internal/loopback"
)

// The tests named TestFault… break something under the program while sensors
// send, and let the ledger of loadtest say what became of each event. What each
// of them shows is in RELIABILITY.md. Without CALIPERTEST_FAULTS=all they are
// short, and those that cannot be are skipped.

var allFaults = os.Getenv("CALIPERTEST_FAULTS") == "all"

// rounds is how often a fault is made.
func rounds(short, all int) int {
	if allFaults {
		return all
	}
	return short
}

// needsAll skips a test that is too long for every day.
func needsAll(t *testing.T) {
	t.Helper()
	if !allFaults {
		t.Skip("make faults runs it")
	}
}

// seeded returns random numbers whose seed is printed, and can be given again
// in CALIPERTEST_SEED.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("CALIPERTEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("CALIPERTEST_SEED: %v", err)
		}
	}
	t.Logf("again with: CALIPERTEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// pause lets the load go on for a moment, so that a fault finds another one each
// time.
func pause(random *rand.Rand, most time.Duration) {
	time.Sleep(time.Duration(random.Int64N(int64(most))))
}

// newFaultHome is a home whose endpoint comes back to the same address, with
// the request timeout that users have.
func newFaultHome(t *testing.T, env ...string) *home {
	t.Helper()
	free, err := loopback.Free(2)
	if err != nil {
		t.Fatal(err)
	}
	base := []string{"CALIPER_LISTEN=" + free[0], "CALIPER_ADMIN_LISTEN=" + free[1], "CALIPER_REQUEST_TIMEOUT=5s"}
	return newHome(t, append(base, env...)...)
}

// loadtestBinary builds the load generator, once.
var loadtestBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(suite.dir, "loadtest")
	return path, goBuild(path, "caliperedge/loadtest")
})

// sensors are many senders with a ledger.
type sensors struct {
	*process
	report string
}

// sensors starts 16 connections that send 150 envelopes a second, of 1 to 50
// items of which some do not conform, until told to stop. When the endpoint is
// away they come back with what is overdue. Later arguments win.
func (h *home) sensors(s *server, args ...string) *sensors {
	h.t.Helper()
	binary, err := loadtestBinary()
	if err != nil {
		h.t.Fatal(err)
	}
	l := &sensors{report: filepath.Join(h.t.TempDir(), "report.json")}
	store := []string{"-data-dir", h.data("")}
	for _, v := range h.env {
		if url, ok := strings.CutPrefix(v, "CALIPER_NATS_URL="); ok {
			store = []string{"-nats-url", url}
		}
	}
	all := append([]string{"-url", s.url + "/", "-token", s.token, "-connections", "16", "-rate", "150",
		"-items", "1:70,5:20,50:10", "-distinct", "64", "-faulty", "0.05", "-gzip", "0.1", "-zstd", "0.1",
		"-warmup", "0", "-duration", "1h", "-ledger", "-max-errors", "1", "-json", l.report}, store...)
	l.process = launch(h.t, exec.Command(binary, append(all, args...)...))
	return l
}

// report is what of loadtest's is looked at here.
type report struct {
	Statuses map[string]int64 `json:"statuses"`
	Failures map[string]int64 `json:"failures"`
	Durable  int64            `json:"items_durable"`
	Verdict  []string         `json:"verdict"`
	Latency  struct {
		P99 float64 `json:"p99_ms"`
		Max float64 `json:"max_ms"`
	} `json:"latency"`
	Ledger *struct {
		Acknowledged  int64 `json:"acknowledged"`
		Refused       int64 `json:"refused"`
		Unclear       int64 `json:"unclear"`
		UnclearStored int64 `json:"unclear_stored"`
		Missing       events
		Repeated      events
	} `json:"ledger"`
}

// events are a finding of the ledger.
type events struct {
	Events int64 `json:"events"`
	Spans  []struct {
		First, Last uint64
		IDs         []string `json:"ids"`
	} `json:"spans"`
}

// ended stops the sensors, has the topics read back and returns the report. The
// store has to be within reach.
func (l *sensors) ended() *report {
	l.t.Helper()
	l.signal(syscall.SIGTERM)
	code := l.wait()
	text, err := os.ReadFile(l.report)
	r := new(report)
	if err == nil {
		err = json.Unmarshal(text, r)
	}
	if err != nil || r.Ledger == nil {
		l.t.Fatalf("the ledger could not be made, exit %d: %v %v\n%s", code, err, r.Verdict, l.stderr.String())
	}
	l.t.Logf("answers %v, without an answer %v; %d acknowledged, %d missing, %d unclear of which %d stored, %d repeated", r.Statuses, r.Failures,
		r.Ledger.Acknowledged, r.Ledger.Missing.Events, r.Ledger.Unclear, r.Ledger.UnclearStored, r.Ledger.Repeated.Events)
	return r
}

// proved is ended, with what holds after every fault: each acknowledged event is
// stored, none that was refused is, and none is there twice.
func (l *sensors) proved() *report {
	l.t.Helper()
	r := l.ended()
	if len(r.Verdict) > 0 {
		l.t.Errorf("the ledger says: %s\n%s", strings.Join(r.Verdict, "; "), l.stdout.String())
	}
	if r.Ledger.Repeated.Events > 0 {
		l.t.Errorf("%d events are stored twice, such as %s", r.Ledger.Repeated.Events, r.Ledger.Repeated.Spans[0].IDs[0])
	}
	if r.Ledger.Acknowledged == 0 {
		l.t.Error("no event was acknowledged: nothing is shown")
	}
	return r
}

// accepted is how many events the endpoint has accepted since its start.
func (s *server) accepted() float64 { return s.metric(`caliper_events_accepted_total{tool="demo"}`) }

// flows waits until so many more events are accepted.
func (s *server) flows(events float64) {
	s.t.Helper()
	before := s.accepted()
	eventually(s.t, fmt.Sprintf("%v more events are accepted", events), func() bool { return s.accepted() >= before+events })
}

// addsUp returns the numbers of the process, which have to add up: no request is
// being answered now.
func (s *server) addsUp() accounting.Numbers {
	s.t.Helper()
	n := s.numbers()
	if err := n.Check(); err != nil {
		s.t.Error(err)
	}
	return n
}

// settled is addsUp once the last request is answered. Nobody may send meanwhile.
func (s *server) settled() accounting.Numbers {
	s.t.Helper()
	for end := time.Now().Add(patience); s.numbers().Check() != nil && time.Now().Before(end); time.Sleep(pollEvery) {
	}
	return s.addsUp()
}

// settledUnder is settled for a process that the sensors are not done with: they
// stand still for so long.
func (s *server) settledUnder(load *sensors) accounting.Numbers {
	s.t.Helper()
	load.signal(syscall.SIGSTOP)
	defer load.signal(syscall.SIGCONT)
	return s.settled()
}

// holds demands that the numbers of a process, the only one that its store has
// had beside those with the earlier numbers, add up and agree with so many events
// in the store.
func (s *server) holds(events int, earlier ...accounting.Numbers) {
	s.t.Helper()
	sum := s.addsUp()
	for _, n := range earlier {
		for sample, v := range n {
			sum[sample] += v
		}
	}
	if err := sum.CheckFound("demo", events); err != nil {
		s.t.Error(err)
	}
}

// accounts is holds of what the ledger found. So many events were accepted beside
// those of the sensors.
func (s *server) accounts(r *report, others int, earlier ...accounting.Numbers) {
	s.t.Helper()
	found := r.Ledger.Acknowledged - r.Ledger.Missing.Events + r.Ledger.UnclearStored
	s.holds(int(found)+others, earlier...)
}

// livedThrough ends the load on a process that was there all the time, and the
// process: every request was answered, and its numbers agree with the ledger as
// in accounts.
func (s *server) livedThrough(load *sensors, others int) {
	s.t.Helper()
	r := load.proved()
	if len(r.Failures) > 0 {
		s.t.Errorf("requests without an answer: %v", r.Failures)
	}
	s.accounts(r, others)
	s.stop()
}

// ready waits for what /readyz says.
func (s *server) ready(status int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("readyz says %d", status), func() bool { return s.get(s.admin+"/readyz").status == status })
}
