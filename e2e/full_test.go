package e2e_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// operator connects with the program's own credential, as somebody with the
// tools of NATS would.
func (h *home) operator() jetstream.JetStream {
	h.t.Helper()
	text, err := os.ReadFile(h.data("nats.json"))
	if err != nil {
		h.t.Fatal(err)
	}
	var access struct{ URL, User, Password string }
	if err := json.Unmarshal(text, &access); err != nil {
		h.t.Fatal(err)
	}
	return natsClient(h.t, access.URL, nats.UserInfo(access.User, secret(access.Password, "the program's password")))
}

func natsClient(t *testing.T, url string, opts ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, append(opts, nats.Timeout(patience), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// fill posts until the store is full and returns the ids that were taken.
func (s *server) fill(name string) []string {
	s.t.Helper()
	pad := strings.Repeat("x", 100_000)
	var acked []string
	for n := 0; ; n++ {
		id := eventID("full", name, n)
		a := s.post(envelope(pad, id))
		if a.status == 200 {
			acked = append(acked, id)
			if n == 1000 {
				s.t.Fatal("100 MB fit into a store of 4 MiB")
			}
			continue
		}
		a.want(s.t, 503, `"message":"Store is full."`)
		if a.header.Get("Retry-After") == "" || a.took > 10*time.Second { // it did not wait for the 20 s of a request
			s.t.Errorf("refused after %v, Retry-After %q", a.took, a.header.Get("Retry-After"))
		}
		return acked
	}
}

func TestAFullStore(t *testing.T) {
	t.Parallel()
	h := newHome(t, "CALIPER_STORE_BYTES=4MiB", "CALIPER_CONTENT_ENCODING=none")
	s := h.serve()
	acked := s.fill("first")
	if len(acked) < 10 {
		t.Errorf("full after %d events of 100 kB in 2 MiB", len(acked))
	}

	// It says so again and again, stays readable, and is ready: what is full is
	// one topic, and no other edge could do better.
	s.post(envelope(strings.Repeat("x", 100_000), eventID("full", "again"))).want(t, 503, "Store is full.")
	if lost := missing(h.tail("standard"), acked); lost != "" {
		t.Error(lost)
	}
	if a := s.get(s.admin + "/readyz"); a.status != 200 {
		t.Errorf("readyz of a full store: %d %s", a.status, a.body)
	}
	s.post(envelope("", eventID("full", "debug")), "X-DEBUG", "TRUE").want(t, 200, "accepted_events")

	// An operator makes room, and posts are taken at once.
	stream, err := h.operator().Stream(context.Background(), "caliper-standard")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(context.Background(), jetstream.WithPurgeKeep(2)); err != nil {
		t.Fatal(err)
	}
	s.stored(eventID("full", "after purge"))

	// Or raises the limit, while the program runs.
	acked = s.fill("second")
	h.env = append(h.env, "CALIPER_STORE_BYTES=16MiB")
	if out := h.must("topics", "apply", "--yes"); !strings.Contains(out, "byte limit is") || !strings.Contains(out, "applied") {
		t.Errorf("topics apply said:\n%s", out)
	}
	s.stored(eventID("full", "after apply"))
	if lost := missing(h.tail("standard"), append(acked, eventID("full", "after apply"))); lost != "" {
		t.Error(lost)
	}
	if s.cmd.ProcessState != nil {
		t.Error("the program was restarted")
	}
}

// A full quarantine refuses what would wait there, with all of its envelope, and
// nothing else; what was acknowledged moves when its keys are known, and makes room.
func TestAFullQuarantine(t *testing.T) {
	t.Parallel()
	h := newHome(t, "CALIPER_STORE_BYTES=8MiB", "CALIPER_CONTENT_ENCODING=none")
	h.write("edge.yaml", keysFile)
	s := h.serve("--config", "edge.yaml")
	waits := func(n int) string {
		return strings.Replace(launchedEvent(eventID("waits", n), 63), `"type":"NavigationEvent"`, `"type":"NavigationEvent","name":"`+strings.Repeat("x", 50_000)+`"`, 1)
	}
	post := func(events ...string) answer {
		t.Helper()
		return s.post(routingEnvelope("https://example.edu/sensors/1", events...))
	}
	var acked []string
	for n := 0; ; n++ {
		a := post(waits(n))
		if a.status != 200 {
			a.want(t, 503, `"message":"Store is full."`)
			if a.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			break
		}
		acked = append(acked, eventID("waits", n))
		if n == 100 {
			t.Fatal("5 MB fit into a tenth of 8 MiB")
		}
	}
	if len(acked) < 5 {
		t.Errorf("full after %d events", len(acked))
	}
	// Of this one no rule says anything.
	other := strings.NewReplacer("NavigationEvent", "ViewEvent", "NavigatedTo", "Viewed").Replace(routingEvent(eventID("other"), ""))
	post(waits(1000), other).want(t, 503, `"message":"Store is full."`)
	post(other).want(t, 200, `"topics":{"standard":`)
	if a := s.get(s.admin + "/readyz"); a.status != 200 {
		t.Errorf("readyz: %d %s", a.status, a.body)
	}

	h.learn("demo", 63, 63)
	leftQuarantine(t, h.operator())
	h.arrived(acked)
	post(waits(1001)).want(t, 200, `"topics":{"enriched":`)
	s.stop()
}
