package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"caliperedge/pipeline"
	"caliperedge/pipeline/pipelinetest"
)

// rejectedRecord is what tests look at of a record in the topic rejected.
type rejectedRecord struct {
	ID      *string         `json:"id"`
	Tool    string          `json:"tool"`
	Sensor  *string         `json:"sensor"`
	Reasons []Detail        `json:"reasons"`
	Event   json.RawMessage `json:"event"`
	Raw     []byte          `json:"raw"`
}

func (s *served) rejectedRecords(t *testing.T) (all []rejectedRecord) {
	t.Helper()
	for _, m := range s.store.Messages(pipeline.TopicRejected) {
		for line := range bytes.Lines(m.Body) {
			var r rejectedRecord
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			all = append(all, r)
		}
	}
	return all
}

func always(string) bool { return true }

// What is kept of a request are its bytes, with the reasons that a debug request
// would have got.
func TestRejectedIsKept(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{Config: Config{KeepRejected: always, MaxBodyBytes: 1 << 20}})
	c := dial(t, s)
	noVersion := strings.Replace(envelope(event(1), badEvent(2)), testVersion, "none", 1)
	many := envelope(strings.Repeat("1,", 10_000) + "1")
	for _, x := range []struct {
		body   string
		status int
		codes  []string // of each record, its reasons
		kept   []string
	}{
		{envelope(event(1), badEvent(2), `7`), 202, []string{"actor", "id @context actor type/action eventTime"}, []string{badEvent(2), `7`}},
		{envelope(badEvent(2)), 400, []string{"actor"}, []string{badEvent(2)}},
		{noVersion, 422, []string{"dataVersion", "dataVersion actor"}, []string{event(1), badEvent(2)}},
		{envelope(), 400, []string{"data"}, []string{envelope()}},
		{`{"a":1}`, 400, []string{"sensor sendTime dataVersion data"}, []string{`{"a":1}`}},
		{many, 413, []string{"items"}, []string{many}},
		{"\xef\xbb\xbf{}", 415, []string{"bom"}, []string{"\xef\xbb\xbf{}"}},
		{"", 415, []string{"empty"}, []string{""}},
	} {
		s.store.Purge()
		if a := c.exchange(t, x.body); a.StatusCode != x.status || !strings.Contains(a.body, `"rejected":"rejected:1"`) {
			t.Errorf("%.80q: %d %s, want %d", x.body, a.StatusCode, a.body, x.status)
		}
		records := s.rejectedRecords(t)
		if len(records) != len(x.kept) {
			t.Errorf("%.80q: %d records, want %d", x.body, len(records), len(x.kept))
			continue
		}
		for i, r := range records {
			var codes []string
			for _, d := range r.Reasons {
				codes = append(codes, d.Code)
			}
			if got := strings.Join(codes, " "); got != x.codes[i] || r.Tool != testTool {
				t.Errorf("%.80q: record of %s with reasons %s, want %s", x.body, r.Tool, got, x.codes[i])
			}
			if got := string(r.Event) + string(r.Raw); got != x.kept[i] {
				t.Errorf("%.80q: kept is %.200q, want %.200q", x.body, got, x.kept[i])
			}
		}
		if x.status == 202 {
			if p := records[0].Reasons[0].Pointer; p == nil || *p != "/data/1/actor" || records[0].Sensor == nil || *records[0].ID != eventID(2) {
				t.Errorf("pointer %v, sensor %v, id %v", p, records[0].Sensor, *records[0].ID)
			}
		}
	}
}

// Checks 4 to 7, 13 and 14 keep nothing: what they refuse may come again as it
// is.
func TestWhatIsNotKept(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{Config: Config{KeepRejected: func(tool string) bool { return tool == testTool }, MaxBodyBytes: 16 << 10}})
	send := s.sender(t, new(int))
	wide := strings.Replace(envelope(append(events(20), badEvent(1))...), "https://example.edu/sensors/1", strings.Repeat("s", 4000), 1)
	send(testToken, wide, 413)
	send(testToken, strings.Repeat(" ", 16<<10+1), 413)
	send(testToken, envelope(badEvent(1)), 415, "Content-Encoding: br")
	send(testToken, envelope(badEvent(1)), 400, "X-DEBUG: yes")
	send(testToken, `{`, 415, "X-DEBUG: yes")
	send(unknownToken, envelope(badEvent(1)), 401)
	send(otherToken, envelope(badEvent(1), event(1)), 202) // for which it is switched off
	send(otherToken, envelope(badEvent(1)), 400)
	send(otherToken, `{`, 415)
	if records := s.rejectedRecords(t); len(records) > 0 {
		t.Errorf("%d records are kept, such as %+v", len(records), records[0])
	}
	send(testToken, envelope(badEvent(1)), 400)
	if records := s.rejectedRecords(t); len(records) != 1 {
		t.Errorf("%d records are kept, want 1", len(records))
	}
}

// A topic that is full or does not answer changes no status and no other topic,
// and the answer comes in time; what is not kept is counted.
func TestRejectedCannotBeKept(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"full", "stalled"} {
		var broken atomic.Bool
		store := pipelinetest.NewMemory(testTopics...)
		store.Before = func(ctx context.Context, m *pipeline.Message) error {
			switch {
			case m.Topic != pipeline.TopicRejected || !broken.Load():
				return nil
			case how == "full":
				return pipeline.ErrStoreFull
			}
			<-ctx.Done()
			return ctx.Err()
		}
		s := serve(t, serving{Config: Config{KeepRejected: always}, store: store})
		c := dial(t, s)
		exchange := func(want string, status int, items ...string) {
			t.Helper()
			start := time.Now()
			if a := c.exchange(t, envelope(items...)); a.StatusCode != status || !strings.Contains(a.body, want) || strings.Contains(a.body, "rejected:") != !broken.Load() {
				t.Errorf("%s: %d %s, want %d %s", how, a.StatusCode, a.body, status, want)
			}
			if took := time.Since(start); took > s.cfg.RequestTimeout {
				t.Errorf("%s: answered after %v", how, took)
			}
		}
		exchange(`"accepted":1,"rejected":1`, 202, event(1), badEvent(2))
		broken.Store(true)
		exchange(`"accepted":1,"rejected":1`, 202, event(3), badEvent(4))
		exchange(`No event in the Caliper envelope is conformant.`, 400, badEvent(5), badEvent(6))
		exchangeGood := c.exchange(t, envelope(event(7)))
		if exchangeGood.StatusCode != 200 {
			t.Errorf("%s: a clean envelope got %d %s", how, exchangeGood.StatusCode, exchangeGood.body)
		}
		if err := s.pipeline.Ready(); err != nil {
			t.Errorf("%s: Ready says %v", how, err)
		}
		n := s.numbers(t)
		for name, want := range map[string]float64{
			"caliper_rejected_kept_total": 1, "caliper_rejected_not_kept_total": 3,
			"caliper_events_rejected_total": 4, "caliper_events_accepted_total": 3, "caliper_events_received_total": 7,
		} {
			if got := n[fmt.Sprintf("%s{tool=%q}", name, testTool)]; got != want {
				t.Errorf("%s: %s is %v, want %v", how, name, got, want)
			}
		}
	}
}

// Events that are not stored are refused whatever becomes of the others.
func TestRejectedBesideAFullStore(t *testing.T) {
	t.Parallel()
	store := pipelinetest.NewMemory(testTopics...)
	store.Before = func(_ context.Context, m *pipeline.Message) error {
		if m.Topic == pipeline.TopicStandard {
			return pipeline.ErrStoreFull
		}
		return nil
	}
	s := serve(t, serving{Config: Config{KeepRejected: always}, store: store})
	a := dial(t, s).exchange(t, envelope(event(1), badEvent(2)))
	if want := `{"error":"Service Unavailable","message":"Store is full.","topics":{"rejected":"rejected:1"}}`; a.StatusCode != 503 || a.body != want {
		t.Errorf("%d %s, want 503 %s", a.StatusCode, a.body, want)
	}
}
