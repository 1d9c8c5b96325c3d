package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"caliperedge/internal/accounting"
	"caliperedge/pipeline"
	"caliperedge/pipeline/pipelinetest"
)

// numbers reads the metrics as a scrape would.
func (s *served) numbers(t testing.TB) accounting.Numbers {
	t.Helper()
	var b bytes.Buffer
	s.metrics.WritePrometheus(&b)
	n, err := accounting.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestNumbersAddUp sends requests of every fate by two tools: what came in is,
// for each tool, what was accepted, rejected, refused and asked in debug, both in
// events and in requests.
func TestNumbersAddUp(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	store := pipelinetest.NewMemory(testTopics...)
	store.Before = func(context.Context, *pipeline.Message) error {
		if full.Load() {
			return pipeline.ErrStoreFull
		}
		return nil
	}
	s := serve(t, serving{Config: Config{MaxBodyBytes: 16 << 10, RequestTimeout: 8 * time.Second}, store: store})
	answers := 0
	send := s.sender(t, &answers)
	wide := strings.Replace(envelope(events(20)...), "https://example.edu/sensors/1", strings.Repeat("s", 4000), 1)
	workload := func(token string) {
		send(token, envelope(event(1), event(2)), 200)
		send(token, envelope(event(1), badEvent(2), badEvent(3), entity(4)), 202)
		send(token, envelope(badEvent(2)), 400)
		send(token, envelope(event(1), event(2), event(3)), 200, "X-DEBUG: TRUE")
		send(token, envelope(event(1), badEvent(2)), 202, "X-DEBUG: TRUE")
		send(token, envelope(badEvent(2)), 400, "X-DEBUG: TRUE")
		send(token, `{"sensor":`, 415, "X-DEBUG: TRUE")
		send(token, `{"sensor":`, 415)
		send(token, `{}`, 400)
		send(token, `{"data":[`+event(1)+`,`+badEvent(2)+`]}`, 422)
		send(token, wide, 413)
		send(token, strings.Repeat(" ", 16<<10+1), 413)
		send(token, envelope(event(1)), 415, "Content-Encoding: br")
		full.Store(true)
		send(token, envelope(event(1), event(2), badEvent(3)), 503)
		full.Store(false)
		b := s.pipeline.Budget()
		if !b.Reserve(b.Limit()) {
			t.Fatal("the budget is in use")
		}
		send(token, envelope(event(1)), 503)
		b.Release(b.Limit())
	}
	workload(testToken)
	workload(testToken)
	workload(otherToken)
	send(unknownToken, envelope(event(1)), 401)
	send(testToken, envelope(event(9)), 200)

	s.checkNumbers(t, answers)
}

// checkNumbers knows what the workload comes to.
func (s *served) checkNumbers(t *testing.T, answers int) {
	t.Helper()
	n := s.numbers(t)
	if err := n.Check(); err != nil {
		t.Error(err)
	}
	get := func(format string, args ...any) float64 {
		t.Helper()
		name := fmt.Sprintf(format, args...)
		v, ok := n[name]
		if !ok {
			t.Errorf("no metric %s", name)
		}
		return v
	}
	for tool, times := range map[string]float64{testTool: 2, otherTool: 1} {
		event := func(what string) float64 { return get(`caliper_events_%s_total{tool=%q}`, what, tool) }
		ended := func(as string) float64 { return get(`caliper_requests_ended_total{tool=%q,as=%q}`, tool, as) }
		last := 0.0
		if tool == testTool {
			last = 1
		}
		for what, want := range map[string]float64{
			"received": times*(2+4+1+3+2+1+2+20+3) + last,
			"accepted": times*(2+2) + last,
			"rejected": times * (2 + 1 + 2 + 20 + 1),
			"refused":  times * 2,
			"debug":    times * (3 + 2 + 1),
		} {
			if got := event(what); got != want {
				t.Errorf("%s: %v events %s, want %v", tool, got, what, want)
			}
		}
		if in := get(`caliper_requests_total{tool=%q}`, tool); in != 15*times+last {
			t.Errorf("%s: %v requests, want %v", tool, in, 15*times+last)
		}
		for as, want := range map[string]float64{"stored": 2*times + last, "refused": 2 * times, "debug": 3 * times} {
			if got := ended(as); got != want {
				t.Errorf("%s: %v requests ended as %s, want %v", tool, got, as, want)
			}
		}
	}
	total := 0.0
	for name, v := range n {
		if strings.HasPrefix(name, "caliper_responses_total{") {
			total += v
		}
	}
	if total != float64(answers) || get(`caliper_responses_total{status="401"}`) != 1 || get(`caliper_responses_total{status="503"}`) != 6 {
		t.Errorf("%v answers counted, %d given", total, answers)
	}
	if got, want := get("caliper_events_rejected_by_reason_total{reason=%q}", "actor"), float64(3*(2+1+1+1+1+1)); got != want {
		t.Errorf("%v events without an actor, want %v", got, want)
	}
	if got := get("caliper_requests_refused_total{reason=%q}", "full"); got != 3 {
		t.Errorf("%v requests refused by a full store, want 3", got)
	}
	if stored := float64(len(s.records(t))); stored != get("caliper_events_accepted_total{tool=%q}", testTool)+get("caliper_events_accepted_total{tool=%q}", otherTool) {
		t.Errorf("%v records are stored, which is not the number of accepted events", stored)
	}
}

// sender returns a function that posts, checks the status and counts.
func (s *served) sender(t *testing.T, answers *int) func(token, body string, want int, extra ...string) {
	c := dial(t, s)
	return func(token, body string, want int, extra ...string) {
		t.Helper()
		*answers++
		if err := c.post(token, body, extra...); err != nil {
			t.Fatal(err)
		}
		a, err := c.read(http.MethodPost)
		if err != nil {
			t.Fatal(err)
		}
		if a.StatusCode != want {
			t.Fatalf("status %d, want %d: %s", a.StatusCode, want, a.body)
		}
		if a.Close {
			c = dial(t, s)
		}
	}
}

// TestTokenUse notes when a token was used, and only then.
func TestTokenUse(t *testing.T) {
	t.Parallel()
	known := newKnownTokens()
	s := serve(t, serving{tokens: known})
	send := s.sender(t, new(int))
	send(unknownToken, envelope(event(1)), 401)
	send(testToken, envelope(event(1)), 200)
	if used := known[testToken].LastUsed(); time.Since(used) > time.Minute {
		t.Errorf("a token in use was last used %v", used)
	}
	if used := known[otherToken].LastUsed(); !used.IsZero() {
		t.Errorf("a token not in use was last used %v", used)
	}
}

// TestAdmin asks the operators' server.
func TestAdmin(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{})
	dial(t, s).exchange(t, envelope(event(1)))
	var away atomic.Bool
	admin := NewAdmin(s.metrics, func() error {
		if away.Load() {
			return errors.New("store is away")
		}
		return nil
	}, func() string { return "fsync" })
	get := func(path, from string) (int, string) {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		admin.Handler.ServeHTTP(w, r)
		body, err := io.ReadAll(w.Result().Body)
		if err != nil {
			t.Fatal(err)
		}
		return w.Code, string(body)
	}
	const near, far = "127.0.0.1:40000", "192.0.2.7:40000"
	for _, c := range []struct {
		path, from string
		status     int
		body       string
		away       bool
	}{
		{"/livez", far, 200, "ok", false},
		{"/livez", far, 200, "ok", true},
		{"/readyz", far, 200, "fsync", false},
		{"/readyz", far, 503, "store is away", true},
		{"/metrics", far, 200, `caliper_events_accepted_total{tool="Engage"} 1`, false},
		{"/debug/pprof/cmdline", near, 200, "", false},
		{"/debug/pprof/cmdline", "[::1]:40000", 200, "", false},
		{"/debug/pprof/cmdline", far, 404, "", false},
		{"/debug/pprof/", far, 404, "", false},
		{"/debug/pprof/profile", far, 404, "", false},
		{"/", near, 404, "", false},
	} {
		away.Store(c.away)
		if status, body := get(c.path, c.from); status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s from %s: %d %.200s, want %d %s", c.path, c.from, status, body, c.status, c.body)
		}
	}
}

// TestUnclearIsCounted has the store fail in several ways: what may be stored
// without an acknowledgement is counted as unclear, and only that.
func TestUnclearIsCounted(t *testing.T) {
	t.Parallel()
	store := pipelinetest.NewMemory(testTopics...)
	var full, broken atomic.Bool
	store.Before = func(_ context.Context, m *pipeline.Message) error {
		if full.Load() && m.Topic == pipeline.TopicEntities {
			return pipeline.ErrStoreFull
		}
		return nil
	}
	store.After = func(context.Context, *pipeline.Message) error {
		if broken.Load() {
			panic("stored, and nobody is told")
		}
		return nil
	}
	s := serve(t, serving{store: store})
	send := s.sender(t, new(int))
	unclear := func(want float64) {
		t.Helper()
		n := s.numbers(t)
		if err := errors.Join(n.Check(), n.CheckFound(testTool, len(s.records(t)))); err != nil {
			t.Error(err)
		}
		if got := n.Events(testTool, "unclear"); got != want {
			t.Errorf("%v events unclear, want %v", got, want)
		}
	}
	full.Store(true)
	send(testToken, envelope(entity(1), badEvent(2)), 503)
	unclear(0)
	send(testToken, envelope(entity(1), event(2), badEvent(3)), 503) // the event is stored
	unclear(2)
	full.Store(false)
	broken.Store(true)
	send(testToken, envelope(event(3), event(4)), 503)
	unclear(4)
	broken.Store(false)
	poll(t, "the pipeline to be ready again", func() bool { return s.pipeline.Ready() == nil })
	send(testToken, envelope(event(5)), 200)
	unclear(4)
}
