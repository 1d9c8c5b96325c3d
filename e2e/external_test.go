package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/internal/natstest"
)

// natsPassword is that of the user edge of external servers.
const natsPassword = "nats-" + secretMark

// natsAuthorization lets in nobody else.
func natsAuthorization() natstest.Options {
	return natstest.Options{Config: fmt.Sprintf("authorization { user: edge, password: %q }", secret(natsPassword, "a password"))}
}

// withUser puts the credential into each of the servers' URLs.
func withUser(servers ...*natstest.Server) string {
	var list []string
	for _, s := range servers {
		u := url.URL{Scheme: "nats", User: url.UserPassword("edge", natsPassword), Host: s.Addr()}
		list = append(list, u.String())
	}
	return strings.Join(list, ",")
}

// soon is how long an answer may take, as its sender sees it, that has to come
// after a timeout at the latest.
func soon(timeout time.Duration) time.Duration {
	if racing() {
		timeout += 3 * time.Second
	}
	return timeout + 2*time.Second
}

// An edge to which nobody sends says that its server is away, before it has to
// refuse an event.
func TestReadinessOfAnIdleEdge(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	s := newHome(t, "CALIPER_NATS_URL="+withUser(n)).serve()
	s.ready(200)
	n.Kill()
	s.ready(503)
	n.Restart()
	s.ready(200)
	s.stored(eventID("external", "idle"))
	s.stop()
}

func TestAnExternalStoreThatGoesAway(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	const timeout = 6 * time.Second
	h := newHome(t, "CALIPER_NATS_URL="+withUser(n), fmt.Sprint("CALIPER_REQUEST_TIMEOUT=", timeout))
	s := h.serve()
	var acked []string
	store := func(id string) {
		t.Helper()
		if level := s.stored(id).header.Get("Caliper-Durability"); level != "stored" {
			t.Errorf("Caliper-Durability: %q", level)
		}
		acked = append(acked, id)
	}
	store(eventID("external", "first"))
	if out := h.must("consumer", "add", "loader", "standard"); strings.Contains(out, "password") || !strings.Contains(out, "external") {
		t.Errorf("consumer add with an external server printed:\n%s", out)
	}

	for round := range 2 {
		n.Kill()
		a := s.post(envelope("", eventID("external", round, "lost")))
		a.want(t, 503, "Events cannot be stored now.")
		if a.took > soon(timeout) || a.header.Get("Retry-After") == "" {
			t.Errorf("refused after %v with a request timeout of %v, Retry-After %q", a.took, timeout, a.header.Get("Retry-After"))
		}
		eventually(t, "readyz says 503", func() bool { return s.get(s.admin+"/readyz").status == 503 })
		// Known to be away, it is refused at once.
		if a := s.post(envelope("", eventID("external", round, "known"))); a.status != 503 || a.took > 4*time.Second {
			t.Errorf("answered %d after %v", a.status, a.took)
		}
		s.post(envelope("", eventID("external", "debug")), "X-DEBUG", "TRUE").want(t, 200, "accepted_events")

		n.Restart()
		eventually(t, "readyz says 200 again", func() bool { return s.get(s.admin+"/readyz").status == 200 })
		store(eventID("external", round, "again"))
	}
	if lost := missing(h.tail("standard"), acked); lost != "" {
		t.Error(lost)
	}
	s.stop()

	n.Kill()
	if r := h.run("serve"); r.code == 0 || !strings.Contains(r.stderr, n.Addr()) {
		t.Errorf("a start without the external server: exit %d, %s", r.code, r.stderr)
	}
}

// Without a spool, a server that does not answer costs a deadline and no memory.
func TestAnUnreachableServerHoldsNoMemory(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	const timeout, budget = 5 * time.Second, 48 << 20
	h := newHome(t, "CALIPER_NATS_URL="+withUser(n), fmt.Sprint("CALIPER_REQUEST_TIMEOUT=", timeout), fmt.Sprint("CALIPER_BUDGET_BYTES=", budget))
	s := h.serve()
	s.stored(eventID("memory", "before"))
	before := s.standingBytes()
	n.Pause()
	defer n.Continue()
	body := func(i, k int) string { return envelope(strings.Repeat("x", 900_000), eventID("memory", i, k)) }
	var senders sync.WaitGroup
	for i := range 48 { // more than the budget has room for
		senders.Go(func() {
			for k := range 4 {
				a, err := s.tryPost(body(i, k))
				if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
					continue // who stalls for half a second in a body that was refused is let go
				}
				// Before its body is read a request may wait for room, for a quarter of the
				// timeout.
				if err != nil || a.status != 503 || a.took > soon(timeout+timeout/4) {
					t.Errorf("answered %d %s after %v, %v", a.status, a.body, a.took, err)
				}
			}
		})
	}
	senders.Wait()
	if used := s.metric("caliper_budget_used_bytes"); used != 0 {
		t.Errorf("%v bytes of the budget are still in use", used)
	}
	grown := s.peakBytes() - before
	t.Logf("%d MiB more memory than the %d before", grown>>20, before>>20)
	if grown > budget && !racing() { // the detector takes several times what the program does
		t.Errorf("the process took up to %d MiB more than before, with a budget of %d", grown>>20, budget>>20)
	}
	n.Continue()
	eventually(t, "readyz says 200 again", func() bool { return s.get(s.admin+"/readyz").status == 200 })
	s.stored(eventID("memory", "after"))
	s.addsUp()
}

// standingBytes is peakBytes once what stands ready for the first load is there,
// which comes some tenths of a second after the start.
func (s *server) standingBytes() (peak int64) {
	s.t.Helper()
	eventually(s.t, "the memory for the first load is there", func() bool {
		last := peak
		time.Sleep(time.Second)
		peak = s.peakBytes()
		return peak-last < 1<<20 // a little may always come
	})
	return peak
}

// peakBytes is the most memory that the process has had.
func (s *server) peakBytes() int64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	var kilobytes int64
	if _, err := fmt.Sscanf(between(string(text), "VmHWM:", "kB"), "%d", &kilobytes); err != nil {
		s.t.Fatal(err)
	}
	return kilobytes << 10
}

func TestStreamsThatAreOnlyVerified(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	js := natstest.JetStream(t, withUser(n))
	h := newHome(t, "CALIPER_NATS_URL="+withUser(n), "CALIPER_STREAMS=verify")
	fails := func(want ...string) {
		t.Helper()
		r := h.run("serve", "--init")
		for _, w := range want {
			if r.code == 0 || !strings.Contains(r.stderr, w) {
				t.Errorf("exit %d, want an error with %q: %s", r.code, w, r.stderr)
			}
		}
	}
	fails("stream caliper-standard is missing", "stream caliper-rejected is missing")
	if names := streamNames(t, js); len(names) > 0 {
		t.Errorf("verify has created %q", names)
	}

	create := newHome(t, "CALIPER_NATS_URL="+withUser(n)).serve()
	create.stored(eventID("verify", "created"))
	create.stop()
	s := h.serve()
	s.stored(eventID("verify", "verified"))
	s.stop()

	change := func(topic string, how func(c *jetstream.StreamConfig)) {
		t.Helper()
		str, err := js.Stream(context.Background(), "caliper-"+topic)
		if err != nil {
			t.Fatal(err)
		}
		c := str.CachedInfo().Config
		how(&c)
		if err := js.DeleteStream(context.Background(), c.Name); err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateStream(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	change("entities", func(c *jetstream.StreamConfig) { c.Subjects = []string{"elsewhere.entities"} })
	fails("stream caliper-entities: subjects is elsewhere.entities, want caliper.entities caliper.entities.>")
	change("entities", func(c *jetstream.StreamConfig) { c.Subjects = []string{"caliper.entities"} })
	standard := jetstream.StreamConfig{Name: "caliper-standard", Subjects: []string{"caliper.standard"}, MaxAge: time.Hour}
	recreate := func(c jetstream.StreamConfig) {
		t.Helper()
		_ = js.DeleteStream(context.Background(), c.Name)
		if _, err := js.CreateStream(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	recreate(standard) // discards its oldest
	fails("stream caliper-standard: discard is DiscardOld, want DiscardNew")
	standard.Discard = jetstream.DiscardNew
	memory := standard
	memory.Storage = jetstream.MemoryStorage
	recreate(memory)
	fails("stream caliper-standard: storage is Memory, want File")
	queue := standard
	queue.Retention = jetstream.WorkQueuePolicy
	recreate(queue)
	fails("stream caliper-standard: retention is WorkQueue, want Limits")
	recreate(standard)
	s = h.serve()
	if log := s.stderr.String(); !strings.Contains(log, "stream caliper-standard: maximum age is 1h0m0s") {
		t.Error("the start did not tell of a difference that breaks nothing")
	}
	if log := s.stderr.String(); strings.Contains(log, "topics apply") {
		t.Error("the start spoke of topics apply, which is refused")
	}
	s.stored(eventID("verify", "again"))
	if r := h.run("topics", "apply", "--yes"); r.code == 0 || !strings.Contains(r.stderr, "verify") {
		t.Errorf("topics apply of streams that are only verified: exit %d, %s", r.code, r.stderr)
	}
	s.stop()

	// Where records wait in quarantine, they must be able to leave it.
	change("quarantine", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })
	h.serve().stop() // nothing goes there
	h.write("edge.yaml", keysFile)
	h.env = append(h.env, "CALIPER_CONFIG=edge.yaml")
	fails("stream caliper-quarantine: maximum age is 1h0m0s, want more than the 24h0m0s of quarantine-age")
	change("quarantine", func(c *jetstream.StreamConfig) { c.MaxAge, c.DenyDelete = 720*time.Hour, true })
	fails("stream caliper-quarantine: deny_delete is true, want false")
}

func streamNames(t *testing.T, js jetstream.JetStream) []string {
	t.Helper()
	var names []string
	lister := js.StreamNames(context.Background())
	for name := range lister.Name() {
		names = append(names, name)
	}
	if err := lister.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}
