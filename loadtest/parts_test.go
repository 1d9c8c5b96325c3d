package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

func TestEvenSchedule(t *testing.T) {
	const senders, rate = 7, 1000
	var all []time.Duration
	for i := range senders {
		s := newEven(i, senders, rate)
		for range 100 {
			due, held := s.next()
			if held {
				t.Fatal("held back")
			}
			all = append(all, due)
		}
	}
	slices.Sort(all)
	for i, due := range all {
		if want := time.Duration(i) * time.Millisecond; due < want-time.Microsecond || due > want+time.Microsecond {
			t.Fatalf("request %d is due at %v, want %v", i, due, want)
		}
	}
}

func TestReaderSchedule(t *testing.T) {
	cfg := &config{rate: 100, online: 30 * time.Second, offline: 10 * time.Second}
	r := newReader(rand.New(rand.NewPCG(1, 2)), 50, cfg) // two events a second
	const events = 100_000
	var last time.Duration
	held, bursts := 0, 0
	for range events {
		due, kept := r.next()
		if due < last {
			t.Fatalf("due at %v after %v", due, last)
		}
		if kept {
			held++
			if due != last {
				bursts++
			}
		}
		last = due
	}
	if got := events / last.Seconds(); math.Abs(got-2) > 0.05 {
		t.Errorf("%.3f events/s, want 2", got)
	}
	if share := float64(held) / events; math.Abs(share-0.25) > 0.03 {
		t.Errorf("%.3f of the events are held back, want a quarter, as long as readers are offline", share)
	}
	// 20 events on average come in 10 s, and of those breaks in which none comes there is no burst.
	if size := float64(held) / float64(bursts); math.Abs(size-21) > 2 {
		t.Errorf("%.1f events in a burst, want about 21", size)
	}
}

func TestRoutes(t *testing.T) {
	r := routes{topics: &topicBits{}}
	const standard, enriched, live = fate(1), fate(2), fate(4)
	f := func(body string, want ...fate) {
		t.Helper()
		if got := r.parse([]byte(body), len(want)); !got || !slices.Equal(r.each, want) {
			t.Errorf("%s: %v %v, want %v", body, got, r.each, want)
		}
	}
	f(`{"accepted":1,"rejected":1,"topics":{"standard":"standard:1"},"routes":["standard",null]}`, standard, refused)
	f(`{"routes":[null,null,"enriched"]}`, refused, refused, enriched)
	f(`{"routes":[["standard","live"],null,["standard"]],"duplicates":1}`, standard|live, refused, standard)
	for _, body := range []string{``, `{}`, `{"routes":[]}`, `{"routes":["standard"]}`, `{"routes":["standard",null,null]}`, `{"routes":["standard",nul`,
		`{"routes":["standard",`, `{"routes":[["standard",null`, `{"routes":[7,8]}`, `{"routes":[[],"standard"]}`, `{"routes":[["standard"`, `{"routes":["standard" null]`} {
		if r.parse([]byte(body), 2) {
			t.Errorf("%s: two routes %v", body, r.each)
		}
	}
	topics := func(body string, want fate) {
		t.Helper()
		if got := r.parseTopics([]byte(body)); got != want {
			t.Errorf("%s: topics %b, want %b", body, got, want)
		}
	}
	topics(`{"accepted":2,"rejected":0,"topics":{"standard":"standard:1,standard:2"}}`, standard)
	topics(`{"topics":{"live":"","enriched":"enriched:7"},"debug":true}`, enriched|live)
	for _, body := range []string{``, `{}`, `{"topics":{}}`, `{"topics":{"standard"}}`, `{"topics":{"standard":"stand`, `{"topics":{"standard":"standard:1",`} {
		topics(body, 0)
	}
	for i := range maxTopics - 3 {
		if got := r.topics.of(fmt.Append(nil, "t", i)); got != 8<<i {
			t.Errorf("topic %d has the bits %b", i+3, got)
		}
	}
	if r.topics.of([]byte("live")) != live || r.topics.full.Load() {
		t.Error("a topic has lost its bit")
	}
	if r.topics.of([]byte("too many")) != somewhere || !r.topics.full.Load() {
		t.Error("one topic too many is no matter")
	}
}

func TestJudge(t *testing.T) {
	both, half, none := []bool{false, false}, []bool{true, false}, []bool{true, true}
	f := func(ledger bool, status int, body string, want int, faulty []bool, durable int, expected bool, fates ...fate) {
		t.Helper()
		r := routes{topics: &topicBits{}}
		j := judge(&answer{status: status, body: []byte(body)}, want, faulty, &r, ledger)
		if got := []fate{j.of(0), j.of(1)}; !slices.Equal(got, fates) || j.durable != durable || j.expected != expected {
			t.Errorf("%d %s where %d is deserved: %+v, want %v", status, body, want, j, fates)
		}
	}
	f(false, 200, ``, 200, both, 2, true, somewhere, somewhere)
	f(false, 200, ``, 202, half, 2, false, somewhere, somewhere)
	f(true, 200, `{"accepted":2,"rejected":0,"topics":{"a":"a:1","b":"b:1"}}`, 200, both, 2, true, 3, 3)
	f(true, 200, `{"accepted":1,"rejected":0,"topics":{"a":"a:1","b":"b:1"}}`, 200, both, 2, false, 3, 3)
	f(true, 200, `{"accepted":2,"rejected":0,"topics":{"a":"a:1","b":"b:1"},"routes":["b",["b","a"]]}`, 200, both, 2, true, 1, 3)
	f(true, 200, `{"accepted":2,"rejected":0,"topics":{"a":"a:1"},"routes":["a"]}`, 200, both, 2, false, somewhere, somewhere)
	f(true, 200, `{"accepted":2,"rejected":0}`, 200, both, 2, false, somewhere, somewhere)
	f(false, 202, `{"routes":[null,"standard"]}`, 202, half, 1, true, refused, 1)
	f(false, 202, `{"routes":["standard",null]}`, 202, half, 1, false, 1, refused)
	f(true, 202, `{}`, 202, half, 0, false, unclear, unclear)
	f(true, 400, ``, 400, none, 0, true, refused, refused)
	f(true, 401, ``, 200, both, 0, false, refused, refused)
	f(true, 500, ``, 200, both, 0, false, unclear, unclear)
	f(true, 503, ``, 200, both, 0, false, unclear, unclear)
}

// scripted is a connection on which an answer arrives, in pieces as the reader has it.
type scripted struct {
	net.Conn
	io.Reader
}

func (s scripted) Read(b []byte) (int, error) { return s.Reader.Read(b) }

func TestReceive(t *testing.T) {
	long := strings.Repeat("x", 5*answerBytes)
	f := func(text string, status int, body string, closes bool, want error) {
		t.Helper()
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(text), "by bytes": iotest.OneByteReader(strings.NewReader(text)),
			"with the end": iotest.DataErrReader(strings.NewReader(text))} {
			w := wire{conn: scripted{Reader: r}}
			a, err := w.receive()
			if !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%s, %.60q: %v, want %v", name, text, err, want)
			}
			if want == nil && (a.status != status || string(a.body) != body || a.closes != closes) {
				t.Errorf("%s, %.60q: %d %.60q %v", name, text, a.status, a.body, a.closes)
			}
		}
	}
	f("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, "{}", false, nil)
	f("HTTP/1.1 202 Accepted\r\nServer: x\r\ncontent-length:  2 \r\nConnection: close\r\n\r\n{}", 202, "{}", true, nil)
	f("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", 200, "", true, nil)
	f("HTTP/1.1 200 OK\r\nContent-Length: 5120\r\n\r\n"+long, 200, long, false, nil)
	f("", 0, "", false, io.EOF)
	f("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", 0, "", false, io.ErrUnexpectedEOF)
	f("HTTP/1.1 200", 0, "", false, io.ErrUnexpectedEOF)
	f("HTTP/1.1 200 OK\r\n\r\n", 0, "", false, errMalformed)
	f("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 0, "", false, errMalformed)
	f("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", 0, "", false, errMalformed)
	f("HTTP/1.1 100 Continue\r\n\r\n", 0, "", false, errMalformed)
	f("HTTP/1.1 600 What\r\nContent-Length: 0\r\n\r\n", 0, "", false, errMalformed)
	f("NATS/1.0 200 OK and more\r\n\r\n", 0, "", false, errMalformed)
}

// TestShelf takes more parcels than there are: each is somebody's own.
func TestShelf(t *testing.T) {
	cfg, err := parseFlags([]string{"-token", testToken, "-distinct", "20"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMix(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	var out []*parcel
	bodies, texts := map[*byte]bool{}, map[string]bool{}
	for range 100 {
		p := m.take(random)
		out = append(out, p)
		bodies[&p.env.Body[0]] = true
		texts[string(p.wire)] = true
		if !strings.HasSuffix(string(p.wire), "\r\n\r\n"+string(p.env.Body)) || &p.wire[len(p.wire)-1] != &p.env.Body[len(p.env.Body)-1] {
			t.Fatal("the body is not the end of the request")
		}
	}
	if len(bodies) != 100 || len(texts) != 20 {
		t.Errorf("%d parcels with %d texts, want 100 with 20", len(bodies), len(texts))
	}
	for _, p := range out {
		p.shelf.put(p)
	}
	again := map[*parcel]bool{}
	for range 100 {
		again[m.take(random)] = true
	}
	if len(again) != 100 {
		t.Errorf("%d of 100 parcels come again", len(again))
	}
}

// TestPageNeedsNothing: the report has no reference to anything outside of it.
func TestPageNeedsNothing(t *testing.T) {
	r := &Result{Target: "http://127.0.0.1:8080/", Loop: "open", WindowSeconds: 4, Verdict: []string{"<b>bad</b>"}}
	for i := range 3 {
		r.Seconds = append(r.Seconds, Second{At: float64(i + 1), Requests: 20_000, Errors: float64(i), P50: 1, P99: 5, Max: 9})
	}
	r.Seconds = append(r.Seconds, Second{At: 4})
	r.Latency.Curve = []CurvePoint{{0, 0.1}, {50, 1}, {99, 5}, {100, 9}}
	page, err := r.html()
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	if refs := regexp.MustCompile(`(?i)(src|href|action|data|srcset)\s*=|url\(|@import|<(script|link|iframe|object|base)`).FindAllString(text, -1); refs != nil {
		t.Errorf("references: %q", refs)
	}
	for _, want := range []string{"prefers-color-scheme: dark", "<path", "Latency by percentile", "99.9", "20k", "&lt;b&gt;bad"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, not := range []string{"NaN", "Inf", "%!", "ZgotmplZ", "<b>bad"} {
		if strings.Contains(text, not) {
			t.Errorf("%s in the page", not)
		}
	}
	if n := strings.Count(text, "<svg"); n != 4 {
		t.Errorf("%d charts, want 4", n)
	}
	// Nothing measured draws too.
	if _, err := (&Result{}).html(); err != nil {
		t.Error(err)
	}
}

func TestProcessorTimes(t *testing.T) {
	before := processorTime()
	got, err := processorTimes([]int{os.Getpid()})
	after := processorTime()
	if err != nil || len(got) != 1 || got[0] < before-2*tick || got[0] > after+2*tick {
		t.Errorf("%v, %v, want between %v and %v", got, err, before, after)
	}
	if _, err := processorTimes([]int{os.Getpid(), 1 << 30}); err == nil {
		t.Error("no error for a process that is not there")
	}
}

func TestMemory(t *testing.T) {
	got, err := residentMiB([]int{os.Getpid()})
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	block, err := syscall.Mmap(-1, 0, 64<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(block)
	for i := range block {
		block[i] = 1
	}
	after, err := residentMiB([]int{os.Getpid()})
	if err != nil || after[0] < got[0]+32 || after[0] > got[0]+512 {
		t.Errorf("%v MiB before and %v with 64 MiB more, %v", got, after, err)
	}
	if _, err := residentMiB([]int{1 << 30}); err == nil {
		t.Error("no error for a process that is not there")
	}
	r := &Result{}
	for _, mib := range []float64{10, 20, 90, 40, 50, 60, 70, 80} {
		r.Seconds = append(r.Seconds, Second{Resident: []float64{1, mib}})
	}
	if got, want := r.memory(1), (Memory{FirstQuarter: 15, Last: 80, Peak: 90}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestNotWhatWasAsked: up to one request in a hundred may be late, in an open loop.
func TestNotWhatWasAsked(t *testing.T) {
	for _, test := range []struct {
		loop   string
		behind int64
		want   int
	}{{"open", 10, 0}, {"open", 11, 1}, {"closed", 500, 0}} {
		tally := newTally()
		tally.statuses[200], tally.failures[failLost], tally.unsent, tally.behind = 900, 50, 50, test.behind
		r := &Result{Loop: test.loop}
		r.note(tally)
		if len(r.Notes) != test.want {
			t.Errorf("%d of 1000 late in the %s loop: %q", test.behind, test.loop, r.Notes)
		}
	}
}
