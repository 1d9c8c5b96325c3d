package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caliperedge/internal/natstest"
)

// The disk of the spool is filled by somebody else while the server is away: what
// cannot be stored is refused, and the spool comes back by itself, whether there is
// room again or the server is back first.
func TestAFullDiskUnderTheSpool(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	h := newHome(t, "CALIPER_NATS_URL="+withUser(n), "CALIPER_SPOOL_DIR=spool", "CALIPER_REQUEST_TIMEOUT=5s")
	spool := filepath.Join(h.dir, "spool")
	mountDisk(t, spool, "64")
	filler := filepath.Join(spool, "filler")
	s := h.serve()
	ready := func(status int, text string) {
		t.Helper()
		eventually(t, "readyz says "+text, func() bool {
			a := s.get(s.admin + "/readyz")
			return a.status == status && strings.Contains(a.body, text)
		})
	}
	var acked []string
	for round := range 2 {
		n.Kill()
		l := s.load([]string{"room", "server"}[round], 4)
		more(t, l)
		fillDisk(t, filler)
		ready(503, "not ready")
		s.post(envelope("", eventID("disk", round))).want(t, 503, "Events cannot be stored now.")
		if round == 0 {
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			ready(200, "spooled")
			more(t, l)
			n.Restart()
			ready(200, "durability stored\n")
		} else {
			n.Restart()
			ready(200, "durability stored\n") // the disk is still full
			more(t, l)
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
		}
		more(t, l)
		acked = append(acked, l.end()...)
	}
	s.stop()
	s = h.serve()
	ready(200, "durability stored\n")
	if lost := missing(h.tail("standard"), acked); lost != "" {
		t.Error(lost)
	}
	s.stop()
}
