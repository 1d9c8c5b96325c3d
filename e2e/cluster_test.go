package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/internal/natstest"
)

// leaderOf is the name of the server that leads the stream of topic.
func leaderOf(t *testing.T, js jetstream.JetStream, topic string) string {
	t.Helper()
	leader := ""
	eventually(t, "the stream has a leader", func() bool {
		s, err := js.Stream(context.Background(), "caliper-"+topic)
		if err != nil {
			return false
		}
		leader = s.CachedInfo().Cluster.Leader
		return leader != ""
	})
	return leader
}

// Three servers with three copies: any one of them may die or stall, and without
// two the spool takes over. Nothing is refused and nothing is lost.
func TestAClusterWithASpool(t *testing.T) {
	t.Parallel()
	nodes := natstest.Cluster(t, 3, natsAuthorization())
	h := newHome(t, "CALIPER_NATS_URL="+withUser(nodes...), "CALIPER_REPLICAS=3", "CALIPER_SPOOL_DIR=spool", "CALIPER_NATS_SYNCED=on")
	s := h.serve()
	js := natstest.JetStream(t, withUser(nodes...))
	asked := 0
	level := func() string {
		asked++
		return s.stored(eventID("cluster", "level", asked)).header.Get("Caliper-Durability")
	}
	if got := level(); got != "replicated" {
		t.Errorf("Caliper-Durability: %q", got)
	}
	if a := s.get(s.admin + "/readyz"); a.status != 200 || !strings.Contains(a.body, "durability replicated, NATS synced") {
		t.Errorf("readyz: %d %s", a.status, a.body)
	}
	if s.metric("caliper_nats_synced") != 1 || s.metric(`caliper_durability{level="replicated"}`) != 1 {
		t.Error("metrics do not tell the level")
	}
	if out := h.must("topics", "list"); strings.Contains(out, "differs") {
		t.Errorf("topics list:\n%s", out)
	}

	node := func(name string) *natstest.Server {
		for _, n := range nodes {
			if n.Name() == name {
				return n
			}
		}
		t.Fatalf("there is no server %s", name)
		return nil
	}
	var acked []string
	for round, fault := range []struct {
		name       string
		begin, end func(leader *natstest.Server)
	}{
		{"the leader dies", (*natstest.Server).Kill, (*natstest.Server).Restart},
		{"the leader stalls", (*natstest.Server).Pause, (*natstest.Server).Continue},
	} {
		leader := node(leaderOf(t, js, "standard"))
		l := s.load(fmt.Sprint("cluster", round), 4)
		more(t, l)
		fault.begin(leader)
		more(t, l)
		// The others elect a leader, and the edge finds it, while one is away.
		eventually(t, fault.name+": the others take over", func() bool { return level() == "replicated" })
		more(t, l)
		fault.end(leader)
		more(t, l)
		acked = append(acked, l.end()...)
		if len(l.refusals) > 0 {
			t.Errorf("%s: refused: %s", fault.name, l.refusals[0])
		}
	}

	l := s.load("two", 4)
	more(t, l)
	nodes[0].Kill()
	nodes[1].Kill()
	eventually(t, "the spool takes over", func() bool { return level() == "spooled" })
	more(t, l)
	nodes[0].Restart()
	nodes[1].Restart()
	s.straight()
	eventually(t, "the cluster takes events again", func() bool { return level() == "replicated" })
	acked = append(acked, l.end()...)
	if len(l.refusals) > 0 {
		t.Errorf("two of three are away: refused: %s", l.refusals[0])
	}
	var read result
	eventually(t, "the topic can be read", func() bool { // not while the cluster has no leader of its own
		read = h.run("tail", "standard", "--no-follow")
		return read.code == 0
	})
	if lost := missing(recordIDs(t, read.stdout), acked); lost != "" {
		t.Error(lost)
	}
	s.stop()
}

// more waits until further events are acknowledged.
func more(t *testing.T, l *load) {
	t.Helper()
	before := l.count()
	eventually(t, "events are acknowledged", func() bool { return l.count() > before+100 })
}
