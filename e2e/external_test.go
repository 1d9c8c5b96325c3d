package e2e_test

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// natsServer is an external nats-server with a store that stays.
type natsServer struct {
	*process
	binary, store, addr string
	args                []string // more of them
}

func newNATSServer(t *testing.T) *natsServer {
	t.Helper()
	binary, err := natsBinary()
	if err != nil {
		t.Fatal(err)
	}
	n := &natsServer{binary: binary, store: t.TempDir()}
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a port that stays the same over restarts
	if err != nil {
		t.Fatal(err)
	}
	n.addr = ln.Addr().String()
	ln.Close()
	n.start(t)
	return n
}

func (n *natsServer) start(t *testing.T) {
	t.Helper()
	host, port, _ := net.SplitHostPort(n.addr)
	launched := func() {
		args := append([]string{"-a", host, "-p", port, "-js", "-sd", n.store, "--user", "edge", "--pass", secret("nats-"+secretMark, "a password")}, n.args...)
		n.process = launch(t, exec.Command(n.binary, args...))
	}
	launched()
	eventually(t, "nats-server is ready", func() bool {
		select {
		case <-n.ended: // for a moment the port can be that of somebody's outgoing connection
			launched()
		default:
		}
		return strings.Contains(n.stderr.String(), "Server is ready")
	})
}

func TestAnExternalStoreThatGoesAway(t *testing.T) {
	t.Parallel()
	n := newNATSServer(t)
	h := newHome(t, "CALIPER_NATS_URL=nats://edge:nats-"+secretMark+"@"+n.addr, "CALIPER_REQUEST_TIMEOUT=6s")
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
		n.kill()
		a := s.post(envelope("", eventID("external", round, "lost")))
		a.want(t, 503, "Events cannot be stored now.")
		if a.took > 20*time.Second || a.header.Get("Retry-After") == "" {
			t.Errorf("refused after %v with a request timeout of 6s, Retry-After %q", a.took, a.header.Get("Retry-After"))
		}
		eventually(t, "readyz says 503", func() bool { return s.get(s.admin+"/readyz").status == 503 })
		// Known to be away, it is refused at once.
		if a := s.post(envelope("", eventID("external", round, "known"))); a.status != 503 || a.took > 4*time.Second {
			t.Errorf("answered %d after %v", a.status, a.took)
		}
		s.post(envelope("", eventID("external", "debug")), "X-DEBUG", "TRUE").want(t, 200, "accepted_events")

		n.start(t)
		eventually(t, "readyz says 200 again", func() bool { return s.get(s.admin+"/readyz").status == 200 })
		store(eventID("external", round, "again"))
	}
	if lost := missing(h.tail("standard"), acked); lost != "" {
		t.Error(lost)
	}
	s.stop()

	n.kill()
	if r := h.run("serve"); r.code == 0 || !strings.Contains(r.stderr, n.addr) {
		t.Errorf("a start without the external server: exit %d, %s", r.code, r.stderr)
	}
}
