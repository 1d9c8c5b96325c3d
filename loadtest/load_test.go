package main

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestClosedLoop(t *testing.T) {
	t.Parallel()
	e := startEndpoint(t)
	code, r := loadtest(t, t.Context(), e.url, "-connections", "16", "-duration", "3s", "-warmup", "100ms", "-items", "1:60,10:30,100:10",
		"-ledger", "-data-dir", e.dataDir, "-pid", strconv.Itoa(os.Getpid()))
	if code != exitGood || len(r.Verdict) > 0 {
		t.Errorf("exit %d, %q", code, r.Verdict)
	}
	if r.Answered == 0 || len(r.Statuses) != 1 || r.Statuses["200"] != r.Answered || r.Durable != r.Items || r.Items <= r.Answered {
		t.Errorf("%d answers %v, %d of %d items durable", r.Answered, r.Statuses, r.Durable, r.Items)
	}
	if l := r.Latency; !(l.P50 > 0 && l.P50 <= l.P99 && l.P99 <= l.Max) || r.Generator.MicrosPerRequest <= 0 || len(r.Seconds) == 0 {
		t.Errorf("latency %v, cost %v, %d seconds", l, r.Generator, len(r.Seconds))
	}
	if p := r.Processes; len(p) != 1 || p[0].PID != os.Getpid() || p[0].MicrosPerRequest <= 0 || p[0].ProcessorSeconds <= 0 {
		t.Errorf("processes %+v", p)
	}
	for _, s := range r.Seconds {
		if len(s.Resident) != 1 || s.Resident[0] < 1 || s.Resident[0] > r.Processes[0].Memory.Peak {
			t.Errorf("after %.1f s resident %v MiB, at most %v", s.At, s.Resident, r.Processes[0].Memory.Peak)
		}
	}
	// The ledger has the warm-up too.
	if a := r.Ledger; a == nil || a.Acknowledged < r.Durable || a.Records != a.Acknowledged || a.Refused+a.Unclear+a.Repeated.Events != 0 {
		t.Errorf("ledger %+v", a)
	}
}

// TestEverythingSensorsDo has all sizes, encodings and faults in one run, on a schedule: as many requests as were due.
func TestEverythingSensorsDo(t *testing.T) {
	t.Parallel()
	e := startEndpoint(t)
	var mu sync.Mutex
	encodings := map[string]int{}
	url := startLiar(t, e.url, func(l *liar, n int64, w http.ResponseWriter, r *http.Request, body []byte) {
		mu.Lock()
		encodings[r.Header.Get("Content-Encoding")]++
		mu.Unlock()
		status, text := l.forward(r, body)
		reply(w, status, text)
	})
	code, r := loadtest(t, t.Context(), url, "-connections", "8", "-rate", "150", "-duration", "2s", "-warmup", "0s", "-kind", "mix",
		"-items", "1:50,5:50", "-faulty", "0.2", "-gzip", "0.3", "-zstd", "0.3", "-ledger", "-data-dir", e.dataDir)
	if code != exitGood {
		t.Errorf("exit %d, %q", code, r.Verdict)
	}
	if r.Answered != 300 || r.Unexpected != 0 || r.Statuses["200"] == 0 || r.Statuses["202"] == 0 || r.Statuses["400"] == 0 {
		t.Errorf("%d answers %v, %d unexpected, want 300 of 200, 202 and 400", r.Answered, r.Statuses, r.Unexpected)
	}
	if a := r.Ledger; a.Acknowledged != r.Durable || a.Acknowledged+a.Refused != r.Items || a.Refused == 0 || a.Records != a.Acknowledged {
		t.Errorf("%d of %d items durable, ledger %+v", r.Durable, r.Items, a)
	}
	for _, encoding := range []string{"", "gzip", "zstd"} {
		if n := encodings[encoding]; n < 50 || n > 180 {
			t.Errorf("%d of 300 requests have Content-Encoding %q", n, encoding)
		}
	}
}

func TestEngage(t *testing.T) {
	t.Parallel()
	e := startEndpoint(t)
	code, r := loadtest(t, t.Context(), e.url, "-engage", "-connections", "40", "-rate", "400", "-duration", "1500ms", "-warmup", "0s",
		"-online", "200ms", "-offline", "200ms", "-ledger", "-data-dir", e.dataDir)
	if code != exitGood || r.Items != r.Answered || r.Durable != r.Answered {
		t.Errorf("exit %d, %q, %d answers, %d items, %d durable", code, r.Verdict, r.Answered, r.Items, r.Durable)
	}
	if r.Answered < 300 || r.Held < 50 {
		t.Errorf("%d requests, %d of them held back: want about 500, and a good part held back", r.Answered, r.Held)
	}
}

// readers are the schedules of a run with the seed 1.
func readers(n int, length time.Duration, rate float64, online, offline time.Duration) (all [][]time.Duration, held int) {
	cfg := &config{rate: rate, online: online, offline: offline}
	for i := range n {
		r := newReader(rand.New(rand.NewPCG(1, uint64(i))), n, cfg)
		var dues []time.Duration
		for {
			due, kept := r.next()
			if due >= length {
				break
			}
			dues = append(dues, due)
			if kept {
				held++
			}
		}
		all = append(all, dues)
	}
	return all, held
}

// TestEngageResendsNothing: what was answered 503, or not at all in time, is not sent again, as the readers of Engage do.
func TestEngageResendsNothing(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	times := map[string]int{}
	url := startLiar(t, "", func(l *liar, n int64, w http.ResponseWriter, r *http.Request, body []byte) {
		mu.Lock()
		times[firstID(body)]++
		mu.Unlock()
		switch {
		case n%20 == 10:
			<-r.Context().Done() // until the reader gives up
		case n%5 == 0:
			reply(w, 503, []byte(`{}`))
		default:
			reply(w, 200, []byte(`{}`))
		}
	})
	code, r := loadtest(t, t.Context(), url, "-engage", "-connections", "4", "-rate", "100", "-duration", "1500ms", "-warmup", "0s",
		"-online", "200ms", "-offline", "200ms", "-timeout", "300ms")
	if code != exitBad || r.Statuses["503"] == 0 || r.Failures["timeout"] == 0 {
		t.Fatalf("exit %d, %v, failures %v: want some 503 and some timeouts", code, r.Statuses, r.Failures)
	}
	due := 0
	all, _ := readers(4, 1500*time.Millisecond, 100, 200*time.Millisecond, 200*time.Millisecond)
	for _, dues := range all {
		due += len(dues)
	}
	if sent := int(r.Answered + r.Failures["timeout"]); sent != len(times) || sent+int(r.Unsent+r.Failures["no connection"]) != due {
		t.Errorf("%d requests with %d ids, %d never sent; %d were due", sent, len(times), r.Unsent, due)
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
}

// TestEngageReturns: nothing of what happens while a reader is offline comes before the return, and then it comes at once.
func TestEngageReturns(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var came []time.Time
	url := startLiar(t, "", func(l *liar, n int64, w http.ResponseWriter, r *http.Request, body []byte) {
		mu.Lock()
		came = append(came, time.Now())
		mu.Unlock()
		reply(w, 200, []byte(`{}`))
	})
	began := time.Now() // the schedule begins later
	_, r := loadtest(t, t.Context(), url, "-engage", "-connections", "1", "-rate", "60", "-duration", "3s", "-warmup", "0s",
		"-online", "300ms", "-offline", "500ms")
	all, held := readers(1, 3*time.Second, 60, 300*time.Millisecond, 500*time.Millisecond)
	dues := all[0]
	if len(came) != len(dues) || r.Held != int64(held) {
		t.Fatalf("%d requests came, %d of them held back, want %d and %d", len(came), r.Held, len(dues), held)
	}
	bursts, quick := 0, 0
	for i := 1; i < len(dues); {
		if early := dues[i] - came[i].Sub(began); early > 0 {
			t.Errorf("request %d came %v before the return", i, early)
		}
		end := i + 1
		for end < len(dues) && dues[end] == dues[i] {
			end++
		}
		if gap := dues[i] - dues[i-1]; end-i >= 5 {
			bursts++
			if came[end-1].Sub(came[i]) < gap/4 {
				quick++
			}
		}
		i = end
	}
	// A busy machine may draw one of them out.
	if bursts == 0 || quick == 0 {
		t.Errorf("%d bursts of 5 or more were due, %d came as such", bursts, quick)
	}
}

// stalling answers everything with 200, but for a while at one moment, counted from the first request, nothing.
func stalling(t *testing.T, after, length time.Duration) string {
	start := sync.OnceValue(time.Now)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if since := time.Since(start()); since > after && since < after+length {
			time.Sleep(after + length - since)
		}
		w.Write([]byte(`{"accepted":1,"rejected":0,"topics":{"standard":"standard:1"}}`))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestNoCoordinatedOmission: a stall of 300 ms concerns a fifth of what is due in 1.5 s, however few connections there
// are to feel it.
func TestNoCoordinatedOmission(t *testing.T) {
	t.Parallel()
	url := stalling(t, 600*time.Millisecond, 300*time.Millisecond)
	code, r := loadtest(t, t.Context(), url, "-connections", "2", "-rate", "200", "-duration", "1500ms", "-warmup", "0s")
	if code != exitGood || r.Answered != 300 {
		t.Errorf("exit %d, %d answers, want 300", code, r.Answered)
	}
	if r.Latency.P99 < 200 || r.Behind < 20 {
		t.Errorf("p99 %v ms and %d requests behind hide the stall", r.Latency.P99, r.Behind)
	}
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "not what was asked") {
		t.Errorf("notes %q: nothing is said of the requests that were late", r.Notes)
	}
	if r.Latency.P99 < 2*r.Service.P90 {
		t.Errorf("p99 %v ms is that of the service, whose p90 is %v ms", r.Latency.P99, r.Service.P90)
	}
}

// TestOverload: what could not be sent is counted, and counts as late.
func TestOverload(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then the server notices that the sensor has gone
		<-r.Context().Done()
	}))
	defer s.Close()
	code, r := loadtest(t, t.Context(), s.URL, "-connections", "1", "-rate", "100", "-duration", "500ms", "-warmup", "0s", "-timeout", "300ms")
	// A busy machine may also fail to connect in the time.
	timeouts, unconnected := r.Failures["timeout"], r.Failures["no connection"]
	if code != exitBad || r.Answered != 0 || timeouts == 0 || r.Unsent == 0 || timeouts+unconnected+r.Unsent != 50 || r.ErrorShare != 1 {
		t.Errorf("exit %d, %d answers, failures %v, %d unsent, error share %v", code, r.Answered, r.Failures, r.Unsent, r.ErrorShare)
	}
	if r.Behind < r.Unsent || r.Behind > 50 {
		t.Errorf("%d requests were late, %d of 50 were never sent", r.Behind, r.Unsent)
	}
	if r.Latency.P50 < 100 {
		t.Errorf("p50 is %v ms, though nothing was answered", r.Latency.P50)
	}
}

func TestReconnects(t *testing.T) {
	t.Parallel()
	e := startEndpoint(t)
	url := startLiar(t, e.url, func(l *liar, n int64, w http.ResponseWriter, r *http.Request, body []byte) {
		status, text := l.forward(r, body)
		switch n {
		case 5:
			w.Header().Set("Connection", "close")
		case 10:
			panic(http.ErrAbortHandler) // closes the connection
		}
		reply(w, status, text)
	})
	args := []string{"-connections", "1", "-rate", "50", "-duration", "1s", "-warmup", "0s", "-ledger", "-data-dir", e.dataDir}
	code, r := loadtest(t, t.Context(), url, append(args, "-max-errors", "0.05")...)
	if code != exitGood || r.Answered != 49 || r.Closed != 1 || r.Failures["connection lost"] != 1 || r.ErrorShare != 0.02 {
		t.Errorf("exit %d, %d answers, %d closed, failures %v, error share %v", code, r.Answered, r.Closed, r.Failures, r.ErrorShare)
	}
	if a := r.Ledger; a.Acknowledged != 49 || a.Unclear != 1 || a.UnclearStored != 1 {
		t.Errorf("ledger %+v", a)
	}
}

// TestErrorsMakeTheVerdict: the same answer is good or bad by how many there are of it.
func TestErrorsMakeTheVerdict(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, `{"error":"Service Unavailable","message":"Store is full."}`, http.StatusServiceUnavailable)
	}))
	defer s.Close()
	for limit, want := range map[string]int{"0": exitBad, "0.99": exitBad, "1": exitGood} {
		code, r := loadtest(t, t.Context(), s.URL, "-connections", "1", "-duration", "500ms", "-warmup", "0s", "-max-errors", limit)
		if code != want || r.Statuses["503"] != r.Answered || r.Unexpected != r.Answered || r.Durable != 0 {
			t.Errorf("-max-errors %s: exit %d, want %d; %v", limit, code, want, r.Statuses)
		}
	}
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	e := startEndpoint(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	url := startLiar(t, e.url, func(l *liar, n int64, w http.ResponseWriter, r *http.Request, body []byte) {
		if n == 50 {
			cancel()
		}
		status, text := l.forward(r, body)
		reply(w, status, text)
	})
	code, r := loadtest(t, ctx, url, "-connections", "4", "-rate", "100", "-duration", "10m", "-warmup", "0s", "-ledger", "-data-dir", e.dataDir)
	if code != exitGood || r.WindowSeconds > 60 || r.Answered == 0 || r.Unsent != 0 || r.Ledger.Acknowledged != r.Answered {
		t.Errorf("exit %d after %v s, %d answers, %d unsent, ledger %+v", code, r.WindowSeconds, r.Answered, r.Unsent, r.Ledger)
	}
}

// TestUsage: who reads the ledger's findings is told what they leave out and what they leave alone.
func TestUsage(t *testing.T) {
	var stderr strings.Builder
	if code := run(t.Context(), []string{"-help"}, io.Discard, &stderr); code != exitGood {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"100,000", "stored twice", "exit status", "at least once"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("no %q in the usage", want)
		}
	}
}

func TestFlags(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		var stderr strings.Builder
		code := run(t.Context(), append([]string{"-token", testToken}, args...), &stderr, &stderr)
		if code != exitFailed || !strings.Contains(stderr.String(), want) {
			t.Errorf("%q: exit %d, want %d and %q in %s", args, code, exitFailed, want, stderr.String())
		}
		if strings.Contains(stderr.String(), testToken) {
			t.Errorf("%q: the token is printed", args)
		}
	}
	f("-allow-remote", "-url", "http://192.0.2.1/")
	f("-allow-remote", "-url", "http://example.edu:8080/")
	f("want http://", "-url", "https://127.0.0.1/")
	f("-url", "-url", "127.0.0.1:8080")
	f("-token", "-token", "")
	f("-connections 0", "-connections", "0")
	f("-connections 15001", "-connections", "15001")
	f("-engage needs a -rate", "-engage")
	f("leave -kind mix away", "-engage", "-rate", "1", "-kind", "mix")
	f("-topics rejected", "-topics", "standard,rejected")
	f("leave -items away", "-engage", "-rate", "1", "-items", "10")
	f(`"0:5"`, "-items", "1:80,0:5")
	f(`"x"`, "-items", "x")
	f(`"10001"`, "-items", "10001")
	f(`"1:0"`, "-items", "1:0")
	f("gzip + zstd", "-gzip", "0.6", "-zstd", "0.6")
	f("-faulty", "-faulty", "-1")
	f("want engage or mix", "-kind", "x")
	f("unexpected argument", "stray")
	f("data folder", "-ledger", "-data-dir", t.TempDir())
	f("no connection to the endpoint", "-url", "http://127.0.0.1:1/")
}
