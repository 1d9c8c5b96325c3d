package e2e_test

import (
	"os"
	"testing"
	"time"
)

func TestFaultKill(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	h := newFaultHome(t)
	s := h.serve()
	load := h.sensors(s)
	for range rounds(4, 40) {
		s.flows(200)
		pause(random, 300*time.Millisecond)
		s.kill()
		s = h.serve()
	}
	s.flows(200)
	load.proved()
	s.addsUp()
	s.stop()
}

// Nothing that was sent on an open connection is lost in a drain: every request
// is answered, and what is stored is what was acknowledged.
func TestFaultTerm(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	h := newFaultHome(t)
	s := h.serve()
	load := h.sensors(s, "-connections", "8") // each sends every 53 ms, so that none is idle for the 250 ms of a drain
	for range rounds(2, 20) {
		s.flows(200)
		pause(random, 300*time.Millisecond)
		s.stop()
		s = h.serve()
	}
	s.flows(200)
	r := load.proved()
	if r.Ledger.UnclearStored > 0 {
		t.Errorf("%d events are stored of which no sensor was told", r.Ledger.UnclearStored)
	}
	delete(r.Failures, "no connection") // between an end and the next start nobody listens
	if len(r.Failures) > 0 {
		t.Errorf("requests without an answer: %v", r.Failures)
	}
	s.addsUp()
	s.stop()
}

// A map that changes under load: a token that stays in it is never refused,
// whatever happens to the file.
func TestFaultTokenMap(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t)
	s := h.serve()
	path := h.data("tokens.yaml.age")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	load := h.sensors(s)
	for range rounds(1, 5) {
		for _, bad := range [][]byte{nil, []byte("no age file"), good[:len(good)/2]} {
			failures := s.metric("caliper_token_map_failures_total")
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the bad map is noticed", func() bool { return s.metric("caliper_token_map_failures_total") > failures })
			s.flows(200)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		s.flows(200)
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		tokens := s.metric("caliper_tokens")
		h.must("token", "add", "another")
		eventually(t, "the new map is taken up", func() bool { return s.metric("caliper_tokens") == tokens+1 })
		s.flows(200)
		if good, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	r := load.proved()
	if r.Statuses["401"] > 0 || len(r.Failures) > 0 {
		t.Errorf("answers %v, without an answer %v: the token was in every good map", r.Statuses, r.Failures)
	}
	s.accounts(r, 0)
	s.stop()
}
