package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"caliperedge/internal/natstest"
)

// spooledEvent posts an event and demands that the spool takes it.
func (s *server) spooledEvent(id string) {
	s.t.Helper()
	a := s.stored(id)
	if level := a.header.Get("Caliper-Durability"); level != "spooled" || !strings.Contains(a.body, `"topics":{"standard":""}`) {
		s.t.Errorf("Caliper-Durability %q, %s, want spooled and an empty receipt", level, a.body)
	}
}

// straight waits until events go to the server again.
func (s *server) straight() {
	s.t.Helper()
	eventually(s.t, "the spool is empty", func() bool { return !strings.Contains(s.get(s.admin+"/readyz").body, "spool") })
}

func TestASpoolTakesOver(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	h := newHome(t, "CALIPER_NATS_URL="+withUser(n), "CALIPER_SPOOL_DIR=spool")
	s := h.serve()
	var acked []string
	event := func(parts ...any) string {
		acked = append(acked, eventID(append([]any{"spool"}, parts...)...))
		return acked[len(acked)-1]
	}
	if level := s.stored(event("first")).header.Get("Caliper-Durability"); level != "stored" {
		t.Errorf("Caliper-Durability: %q", level)
	}

	n.Kill()
	for i := range 20 {
		s.spooledEvent(event("away", i))
	}
	if a := s.get(s.admin + "/readyz"); a.status != 200 || !strings.Contains(a.body, "durability spooled, the spool takes standard") {
		t.Errorf("readyz: %d %s", a.status, a.body)
	}
	for sample, least := range map[string]float64{
		`caliper_durability{level="spooled"}`: 1, `caliper_spooled_messages_total{topic="standard"}`: 20,
		`caliper_spool_messages{topic="standard"}`: 20, `caliper_spool_bytes{topic="standard"}`: 1000,
		`caliper_spool_limit_bytes`: 1 << 20,
	} {
		if got := s.metric(sample); got < least {
			t.Errorf("%s is %v, want at least %v", sample, got, least)
		}
	}
	eventually(t, "failures are counted", func() bool { return s.metric(`caliper_spool_forward_failures_total{topic="standard"}`) > 0 })
	if s.metric(`caliper_spool_oldest_age_seconds{topic="standard"}`) <= 0 {
		t.Error("the oldest message has no age")
	}

	// Neither a kill nor a start without the server loses anything.
	s.kill()
	start := time.Now()
	s = h.serve()
	if took := time.Since(start); took > 25*time.Second { // it does not wait the 30 s for the key map, which no rule asks
		t.Errorf("a start without the server took %v", took)
	}
	if a := s.get(s.admin + "/readyz"); a.status != 200 || !strings.Contains(a.body, "spooled") {
		t.Errorf("readyz after a start without the server: %d %s", a.status, a.body)
	}
	s.spooledEvent(event("started without"))

	n.Restart()
	s.straight()
	if level := s.stored(event("again")).header.Get("Caliper-Durability"); level != "stored" {
		t.Errorf("Caliper-Durability: %q", level)
	}
	found := h.tail("standard")
	if lost := missing(found, acked); lost != "" {
		t.Error(lost)
	}
	for id, times := range found {
		if times != 1 {
			t.Errorf("%s is stored %d times", id, times)
		}
	}
	if got := s.metric(`caliper_spool_forwarded_total{topic="standard"}`); got < 21 {
		t.Errorf("%v messages were forwarded, want 21", got)
	}
	s.stop()
}

// Nothing is refused while the server dies, stalls and comes back under load, and
// kill -9 of the edge in the middle of it loses nothing.
func TestASpoolUnderLoad(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	h := newHome(t, "CALIPER_NATS_URL="+withUser(n), "CALIPER_SPOOL_DIR=spool")
	s := h.serve()
	var acked []string
	for round, fault := range []struct {
		begin, end func()
	}{{n.Kill, n.Restart}, {n.Pause, n.Continue}, {n.Kill, n.Restart}} {
		l := s.load(fmt.Sprint("load", round), 8)
		more := func() {
			t.Helper()
			before := l.count()
			eventually(t, "events are acknowledged", func() bool { return l.count() > before+100 })
		}
		more()
		fault.begin()
		more()
		if round == 2 {
			s.kill()
			acked = append(acked, l.end()...)
			fault.end()
			s = h.serve()
			break
		}
		more()
		fault.end()
		s.straight() // under load
		more()
		acked = append(acked, l.end()...)
		if len(l.refusals) > 0 {
			t.Errorf("round %d: refused: %s", round, l.refusals[0])
		}
	}
	s.straight()
	if lost := missing(h.tail("standard"), acked); lost != "" {
		t.Error(lost)
	}
	s.stop()
}

// At SIGTERM what can be forwarded is, and what cannot stays for the next start.
func TestASpoolAtTheEnd(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	h := newHome(t, "CALIPER_NATS_URL="+withUser(n), "CALIPER_SPOOL_DIR=spool", "CALIPER_DRAIN_DELAY=2s")
	s := h.serve()
	s.stored(eventID("end", "straight"))
	n.Kill()
	s.spooledEvent(eventID("end", "stays"))
	start := time.Now()
	s.stop()
	if took := time.Since(start); took > 45*time.Second { // the drain may take 50
		t.Errorf("a drain without the server took %v", took)
	}
	if log := s.stderr.String(); !strings.Contains(log, "the next start forwards") {
		t.Error("the end did not tell that something is left")
	}
	s = h.serve()
	s.spooledEvent(eventID("end", "goes"))
	s.signal(syscall.SIGTERM)
	n.Restart()
	if code := s.wait(); code != 0 {
		t.Errorf("exit %d", code)
	}
	s = h.serve()
	s.straight()
	want := []string{eventID("end", "straight"), eventID("end", "stays"), eventID("end", "goes")}
	if lost := missing(h.tail("standard"), want); lost != "" {
		t.Error(lost)
	}
}

func TestSpoolFolders(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	h := newHome(t, "CALIPER_NATS_URL="+withUser(n))
	h.serve().stop() // makes data folder and token map
	h.env = append(h.env, "CALIPER_SPOOL_DIR="+filepath.Join(h.dir, "spool"))
	spool := filepath.Join(h.dir, "spool")
	fails := func(want string, args ...string) {
		t.Helper()
		if r := h.run(append([]string{"serve"}, args...)...); r.code == 0 || !strings.Contains(r.stderr, want) {
			t.Errorf("serve %v: exit %d, want an error with %q: %s", args, r.code, want, r.stderr)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fails("no such file or directory; serve --init creates")
	must(os.Mkdir(spool, 0o700))
	fails("is empty, is its volume mounted")
	must(os.WriteFile(filepath.Join(spool, "thesis.doc"), nil, 0o600))
	fails("holds something else")
	fails("holds something else", "--init")
	must(os.Remove(filepath.Join(spool, "thesis.doc")))
	h.serve().stop()
	h.serve().stop()
	if r := h.run("serve", "--prefix", "other"); r.code == 0 || !strings.Contains(r.stderr, `belongs to the prefix "caliper"`) {
		t.Errorf("a spool of another prefix: exit %d, %s", r.code, r.stderr)
	}
	must(os.Rename(filepath.Join(spool, "jetstream"), filepath.Join(h.dir, "gone")))
	fails("is gone")
	must(os.Rename(filepath.Join(h.dir, "gone"), filepath.Join(spool, "jetstream")))
	must(os.WriteFile(filepath.Join(spool, "spool.json"), []byte("{"), 0o600))
	fails("is damaged")
}
