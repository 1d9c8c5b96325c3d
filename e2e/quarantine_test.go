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
func (h *home) learn(first, last int) {
	h.t.Helper()
	table := "tool,kind,value,key\n"
	for i := first; i <= last; i++ {
		table += fmt.Sprintf("Engage,course,%d,C%[1]d\n", i)
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
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Origin == "" || r.Keys["course"] == "" {
			h.t.Fatalf("%v: %s", err, line)
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
// mover that was killed comes again after half a minute.
func leftQuarantine(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	within(t, 3*patience, "quarantine is empty", func() bool { return messages(t, js, "caliper-quarantine") == 0 })
}

func TestQuarantineSurvivesKills(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	var acked []string
	for round := range 7 {
		s := h.serve()
		js := h.operator()
		w := publishWaiting(js, fmt.Sprint("round", round))
		eventually(t, "records are stored", func() bool { return w.count() > 50 })
		h.learn(3*round, 3*round+2)
		if round > 0 { // by then records wait at the start, so that they are moved
			before := messages(t, js, "caliper-enriched")
			eventually(t, "records move", func() bool { return messages(t, js, "caliper-enriched") > before })
		}
		time.Sleep(rand.N(300 * time.Millisecond)) // so that the kill hits another moment each time
		s.signal(syscall.SIGKILL)
		s.wait()
		acked = append(acked, w.end()...)
	}
	s := h.serve()
	h.learn(0, waitingCourses-1)
	leftQuarantine(t, h.operator())
	doubled := h.arrived(acked)
	t.Logf("%d records, %d of them doubled", len(acked), doubled)
	if v := s.metric("caliper_quarantine_waiting_records"); v != 0 {
		t.Errorf("%v records wait by the metrics", v)
	}
	if s.metric("caliper_keymap_rows") != waitingCourses || s.metric("caliper_keymap_loaded") != 1 {
		t.Error("the metrics of the key map are wrong")
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
		one.learn(3*round, 3*round+2)
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
	one.learn(0, waitingCourses-1)
	leftQuarantine(t, js)
	if doubled := one.arrived(acked); doubled > 0 {
		t.Errorf("%d records are doubled", doubled)
	}
	t.Logf("%d records, moved by the first edge %v, by the second's last start %v", len(acked),
		first.metric(`caliper_quarantine_moved_total{topic="enriched"}`), second.metric(`caliper_quarantine_moved_total{topic="enriched"}`))
	second.stop()
	first.stop()
}
