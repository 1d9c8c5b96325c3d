package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/internal/natstest"
)

// waiting publishes records that wait for keys until it is stopped or the
// server is gone, and keeps the ids of those that were acknowledged.
type waiting struct {
	quit chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex
	acked []string
}

// waitingCourses is how many courses the records speak of.
const waitingCourses = 24

func publishWaiting(js jetstream.JetStream, name string) *waiting {
	w := &waiting{quit: make(chan struct{})}
	w.done.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-w.quit:
				return
			default:
			}
			var lines strings.Builder
			var ids []string
			for k := range 1 + i%7 {
				id := eventID(name, i, k)
				fmt.Fprintf(&lines, `{"id":%q,"tool":"Engage","topic":"quarantine","received":%q,"identifiers":{"course":["%d"]},"awaits":["course"],"event":{"id":%[1]q}}`+"\n",
					id, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), rand.IntN(waitingCourses))
				ids = append(ids, id)
			}
			header := nats.Header{"Caliper-Record": {"1"}, "Caliper-Events": {fmt.Sprint(len(ids))}, "Caliper-Bytes": {fmt.Sprint(lines.Len())}}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_, err := js.PublishMsg(ctx, &nats.Msg{Subject: "caliper.quarantine", Header: header, Data: []byte(lines.String())}, jetstream.WithRetryAttempts(0))
			cancel()
			if err != nil {
				return // the server is gone
			}
			w.mu.Lock()
			w.acked = append(w.acked, ids...)
			w.mu.Unlock()
		}
	})
	return w
}

// keysFile is a configuration whose rule demands the key of a course.
const keysFile = `
tools: {demo: {}}
rules:
  - name: launched
    when: {tool: demo, type: NavigationEvent}
    topic: enriched
    identifiers: [lti]
    keys: [course]
`

// launchedEvent is an event of a course.
func launchedEvent(id string, course any) string {
	return routingEvent(id, fmt.Sprintf(`,"federatedSession":{"messageParameters":{"custom_canvas_course_id":"%v"}}`, course))
}

// postWaiting is publishWaiting by way of the endpoint.
func (s *server) postWaiting(name string) *waiting {
	w := &waiting{quit: make(chan struct{})}
	for sender := range 4 {
		w.done.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-w.quit:
					return
				default:
				}
				var events, ids []string
				for k := range 1 + i%4 {
					id := eventID(name, sender, i, k)
					events, ids = append(events, launchedEvent(id, rand.IntN(waitingCourses))), append(ids, id)
				}
				a, err := s.tryPost(routingEnvelope("https://example.edu/sensors/1", events...))
				if err != nil {
					return // the process is gone
				}
				if a.status == 200 {
					w.mu.Lock()
					w.acked = append(w.acked, ids...)
					w.mu.Unlock()
				}
			}
		})
	}
	return w
}

func (w *waiting) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

func (w *waiting) end() []string {
	close(w.quit)
	w.done.Wait()
	return w.acked
}

// learn imports the keys of courses from first to last.
func (h *home) learn(tool string, first, last int) {
	h.t.Helper()
	table := "tool,kind,value,key\n"
	for i := first; i <= last; i++ {
		table += fmt.Sprintf("%s,course,%d,C%[2]d\n", tool, i)
	}
	if r := h.runWith(table, "keymap", "import", "-"); r.code != 0 {
		h.t.Fatalf("keymap import: exit %d, %s", r.code, r.stderr)
	}
}

// arrived demands that each of ids is in enriched, and that one which is there
// twice has equal origin. It returns how many are doubled.
func (h *home) arrived(ids []string) (doubled int) {
	h.t.Helper()
	origins := map[string]string{}
	for line := range strings.Lines(h.must("tail", "enriched", "--no-follow")) {
		var r struct {
			ID, Origin string
			Keys       map[string]string
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Keys["course"] == "" {
			h.t.Fatalf("%v: %s", err, line)
		}
		if r.Origin == "" {
			r.Origin = "none: it went there at once"
		}
		if origin, again := origins[r.ID]; again {
			doubled++
			if origin != r.Origin {
				h.t.Errorf("%s is there with origins %s and %s", r.ID, origin, r.Origin)
			}
		}
		origins[r.ID] = r.Origin
	}
	lost := 0
	for _, id := range ids {
		if origins[id] == "" {
			lost++
		}
	}
	if lost > 0 {
		h.t.Errorf("%d of %d records are lost", lost, len(ids))
	}
	return doubled
}

// messages is how many messages a stream has.
func messages(t *testing.T, js jetstream.JetStream, stream string) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// leftQuarantine waits until nothing is left there. What was in the hands of a
// mover that was killed comes again after half a minute on an external server.
func leftQuarantine(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	within(t, 3*patience, "quarantine is empty", func() bool { return messages(t, js, "caliper-quarantine") == 0 })
}

// TestKeysOfEvents follows events from their post to where their keys lead them.
func TestKeysOfEvents(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("edge.yaml", keysFile)
	s := h.serve("--config", "edge.yaml")
	post := func(id string, course int, topic string) {
		t.Helper()
		a := s.post(routingEnvelope("https://example.edu/sensors/1", launchedEvent(eventID(id), course)))
		a.want(t, 200, `"topics":{"`+topic+`":"`+topic+`:`)
	}
	// The debug answer names the topic that would take the event, and stores nothing.
	explained := func(topic, adds string) {
		t.Helper()
		a := s.post(routingEnvelope("https://example.edu/sensors/1", launchedEvent(eventID("debugged"), 63)), "X-DEBUG", "TRUE")
		a.want(t, 200, `"topics":{"`+topic+`":""},"rule":"launched","adds":{"identifiers":{"course":["63"]},`+adds+`}`)
	}
	explained("quarantine", `"awaits":["course"]`)
	post("first", 63, "quarantine")
	post("stranger", 64, "quarantine")
	if r := h.runWith("tool,kind,value,key\ndemo,course,63,CRS-63\n", "keymap", "import", "-"); r.code != 0 {
		t.Fatal(r.stderr)
	}
	read := func(topic string) map[string]string {
		found := map[string]string{}
		for line := range strings.Lines(h.must("tail", topic, "--no-follow")) {
			var r struct {
				ID, Topic, Origin string
				Keys              map[string]string
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			found[r.ID] = fmt.Sprint(r.Topic, " ", r.Keys, " ", r.Origin)
		}
		return found
	}
	eventually(t, "the event moves", func() bool { return len(read("enriched")) == 1 })
	explained("enriched", `"keys":{"course":"CRS-63"}`)
	s.stop()

	// With the keys in the store a start knows them before it serves.
	s = h.serve("--config", "edge.yaml", "--quarantine-age", "1s")
	post("second", 63, "enriched")
	eventually(t, "the stranger moves", func() bool { return len(read("standard")) == 1 })
	want := fmt.Sprint(map[string]string{
		eventID("first"):  "enriched map[course:CRS-63] caliper-quarantine:1:1",
		eventID("second"): "enriched map[course:CRS-63] "})
	if got := fmt.Sprint(read("enriched")); got != want {
		t.Errorf("enriched has %s\nwant %s", got, want)
	}
	for _, topic := range []string{"standard", "enriched", "quarantine", "entities", "rejected"} {
		if strings.Contains(h.must("tail", topic, "--no-follow"), eventID("debugged")) {
			t.Errorf("%s has the event of a debug request", topic)
		}
	}
	if got := read("standard")[eventID("stranger")]; got != "standard map[] caliper-quarantine:2:1" {
		t.Errorf("standard has %s", got)
	}
	if n := messages(t, h.operator(), "caliper-quarantine"); n != 0 {
		t.Errorf("%d messages are left in quarantine", n)
	}
	// A key that comes too late reaches the event by a replay.
	h.learn("demo", 64, 64)
	h.must("replay", "standard", "--yes", "--config", "edge.yaml")
	if got := read("enriched")[eventID("stranger")]; got != "enriched map[course:C64] caliper-standard:1:1" {
		t.Errorf("replayed with its key the stranger is %q", got)
	}
	s.stop()
	if r := h.run("serve", "--config", "edge.yaml", "--quarantine-age", "800h"); r.code == 0 || !strings.Contains(r.stderr, "max_age of the topic quarantine") {
		t.Errorf("an age beyond the topic's: exit %d, %s", r.code, r.stderr)
	}
	h.write("edge.yaml", keysFile+"topics:\n  quarantine: {max_age: 1h}\n")
	line := strings.Count(keysFile, "\n") + 2
	if r := h.run("serve", "--config", "edge.yaml"); r.code == 0 || !strings.Contains(r.stderr, fmt.Sprintf("edge.yaml:%d: topic quarantine: quarantine-age 24h0m0s", line)) {
		t.Errorf("a topic's age below that of its records: exit %d, %s, want line %d in it", r.code, r.stderr, line)
	}
}

// TestQuarantineSurvivesKills kills an edge, store and all, in the midst of
// moving. It is back in seconds, well within the duplicate window, so no record
// may be doubled.
func TestQuarantineSurvivesKills(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("edge.yaml", keysFile)
	var acked []string
	for round := range 7 {
		s := h.serve("--config", "edge.yaml")
		js := h.operator()
		w := s.postWaiting(fmt.Sprint("round", round))
		eventually(t, "events are stored", func() bool { return w.count() > 50 })
		before := messages(t, js, "caliper-enriched")
		h.learn("demo", 3*round, 3*round+2)
		eventually(t, "events are enriched", func() bool { return messages(t, js, "caliper-enriched") > before })
		time.Sleep(time.Second + rand.N(2*time.Second)) // so that the kill hits the mover, at another moment each time
		s.signal(syscall.SIGKILL)
		s.wait()
		acked = append(acked, w.end()...)
	}
	s := h.serve("--config", "edge.yaml")
	h.learn("demo", 0, waitingCourses-1)
	leftQuarantine(t, h.operator())
	if doubled := h.arrived(acked); doubled > 0 {
		t.Errorf("%d records are doubled", doubled)
	}
	moved := s.metric(`caliper_quarantine_moved_total{topic="enriched"}`)
	t.Logf("%d events; the last start moved %v", len(acked), moved)
	if moved == 0 || s.metric("caliper_quarantine_waiting_records") != 0 || s.metric("caliper_keymap_rows") != waitingCourses || s.metric("caliper_keymap_loaded") != 1 {
		t.Error("the metrics of key map and quarantine are wrong")
	}
	s.stop()
}

// TestQuarantineOfTwoEdges has two edges on one server, of which one is killed
// again and again. That takes far less than the duplicate window, so no record
// may be doubled.
func TestQuarantineOfTwoEdges(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	one, two := newHome(t, "CALIPER_NATS_URL="+withUser(n)), newHome(t, "CALIPER_NATS_URL="+withUser(n))
	s := one.serve()
	js := natstest.JetStream(t, withUser(n))
	w := publishWaiting(js, "first")
	eventually(t, "records are stored", func() bool { return w.count() > 100 })
	acked := w.end()
	s.stop()
	first, second := one.serve(), two.serve() // both find records that wait
	w = publishWaiting(js, "more")
	for round := range 5 {
		before := messages(t, js, "caliper-enriched")
		one.learn("Engage", 3*round, 3*round+2)
		eventually(t, "records move", func() bool { return messages(t, js, "caliper-enriched") > before })
		time.Sleep(rand.N(300 * time.Millisecond))
		second.signal(syscall.SIGKILL)
		second.wait()
		second = two.serve()
		if w.count() > 20_000 {
			break // the machine is fast
		}
	}
	acked = append(acked, w.end()...)
	one.learn("Engage", 0, waitingCourses-1)
	leftQuarantine(t, js)
	if doubled := one.arrived(acked); doubled > 0 {
		t.Errorf("%d records are doubled", doubled)
	}
	t.Logf("%d records, moved by the first edge %v, by the second's last start %v", len(acked),
		first.metric(`caliper_quarantine_moved_total{topic="enriched"}`), second.metric(`caliper_quarantine_moved_total{topic="enriched"}`))
	second.stop()
	first.stop()
}
