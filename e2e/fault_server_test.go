package e2e_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// external makes a home that uses the servers.
func externalHome(t *testing.T, addrs []string, env ...string) *home {
	urls := make([]string, len(addrs))
	for i, a := range addrs {
		urls[i] = "nats://edge:nats-" + secretMark + "@" + a
	}
	return newFaultHome(t, append([]string{"CALIPER_NATS_URL=" + strings.Join(urls, ",")}, env...)...)
}

func TestFaultServerKilled(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	n := newNATSServer(t)
	h := externalHome(t, []string{n.addr})
	s := h.serve()
	load := h.sensors(s)
	for range rounds(2, 15) {
		s.flows(200)
		pause(random, 300*time.Millisecond)
		n.kill()
		s.ready(503)
		pause(random, time.Second)
		n.start(t)
		s.ready(200)
	}
	s.flows(200)
	s.accounts(load.proved(), 0)
	s.stop()
}

// A server that is stopped and goes on holds what it was sent. What it stores
// then was answered with 503, and is there at most once.
func TestFaultServerStopped(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	n := newNATSServer(t)
	h := externalHome(t, []string{n.addr})
	s := h.serve()
	load := h.sensors(s)
	for range rounds(1, 10) {
		s.flows(200)
		pause(random, 300*time.Millisecond)
		n.signal(syscall.SIGSTOP)
		s.ready(503)
		a := s.post(envelope("", eventID("stopped")))
		a.want(t, 503, "Events cannot be stored now.")
		n.signal(syscall.SIGCONT)
		s.ready(200)
	}
	s.flows(200)
	r := load.proved()
	if len(r.Failures) > 0 {
		t.Errorf("requests without an answer: %v", r.Failures)
	}
	s.accounts(r, 0)
	s.stop()
}

// cluster starts three nats-servers that are one.
func cluster(t *testing.T) []*natsServer {
	t.Helper()
	binary, err := natsBinary()
	if err != nil {
		t.Fatal(err)
	}
	routes := make([]string, 3)
	for i := range routes {
		routes[i] = freeAddr(t)
	}
	nodes := make([]*natsServer, 3)
	for i := range nodes {
		nodes[i] = &natsServer{binary: binary, store: t.TempDir(), addr: freeAddr(t)}
		nodes[i].args = []string{"--name", fmt.Sprint("n", i), "--cluster_name", "three", "--cluster", "nats://" + routes[i],
			"--routes", "nats://" + strings.Join(routes, ",nats://")}
	}
	for _, n := range nodes {
		n.start(t)
	}
	return nodes
}

func addrs(nodes []*natsServer) []string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.addr)
	}
	return all
}

// clusterHome is the home of an endpoint on three nodes, which is started once
// they have found a leader.
func clusterHome(t *testing.T, nodes []*natsServer) (*home, *server) {
	t.Helper()
	h := externalHome(t, addrs(nodes)[:1], "CALIPER_REPLICAS=3")
	if err := os.Mkdir(h.data(""), 0o700); err != nil {
		t.Fatal(err)
	}
	var last result
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("topics apply: exit %d: %s", last.code, last.stderr)
		}
	})
	eventually(t, "the cluster takes streams", func() bool {
		last = h.run("topics", "apply", "--yes")
		return last.code == 0
	})
	s := h.serve()
	if level := s.stored(eventID("cluster")).header.Get("Caliper-Durability"); level != "replicated" {
		t.Errorf("Caliper-Durability: %q", level)
	}
	return h, s
}

// One of three is lost: after an election of a second or so all goes on.
func TestFaultOneNodeLost(t *testing.T) {
	t.Parallel()
	needsAll(t)
	nodes := cluster(t)
	h, s := clusterHome(t, nodes)
	load := h.sensors(s)
	for round := range 9 {
		n := nodes[round%3]
		s.flows(200)
		n.kill()
		s.flows(200)
		n.start(t)
	}
	s.accounts(load.proved(), 1)
	s.stop()
}

// Two of three are lost: nothing can be stored, and nothing is acknowledged,
// until one of them is back.
func TestFaultTwoNodesLost(t *testing.T) {
	t.Parallel()
	nodes := cluster(t)
	h, s := clusterHome(t, nodes)
	load := h.sensors(s)
	for round := range rounds(1, 4) {
		first, second := nodes[round%3], nodes[(round+1)%3]
		s.flows(200)
		first.kill()
		second.kill()
		s.ready(503)
		s.post(envelope("", eventID("two lost"))).want(t, 503, "Events cannot be stored now.")
		first.start(t)
		s.ready(200)
		s.flows(200)
		second.start(t)
	}
	s.accounts(load.proved(), 1)
	s.stop()
}

// network is what lies between the endpoint and a server: connections to it go
// on to the server, as long as it lets them.
type network struct {
	net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
	cut   bool        // refuses connections
	still atomic.Bool // takes in what is sent and passes nothing on
}

func newNetwork(t *testing.T, to string) *network {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{Listener: ln, to: to}
	go n.accept()
	t.Cleanup(func() {
		ln.Close()
		n.reset()
	})
	return n
}

func (n *network) accept() {
	for {
		from, err := n.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", n.to)
		n.mu.Lock()
		if err != nil || n.cut {
			from.Close()
			if err == nil {
				to.Close()
			}
			n.mu.Unlock()
			continue
		}
		n.conns = append(n.conns, from, to)
		n.mu.Unlock()
		go n.pass(from, to)
		go n.pass(to, from)
	}
}

// pass copies until the connection ends. What came in while the network is
// still arrives when it goes on, as with a route that is lost for a while.
func (n *network) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		m, err := from.Read(buf)
		for n.still.Load() {
			time.Sleep(pollEvery)
		}
		if m > 0 {
			if _, err := to.Write(buf[:m]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// reset breaks the connections that there are.
func (n *network) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.Close()
	}
	n.conns = nil
}

// refuse says whether new connections are refused.
func (n *network) refuse(yes bool) {
	n.mu.Lock()
	n.cut = yes
	n.mu.Unlock()
}

// The network between endpoint and server stalls, drops all connections, and is
// gone.
func TestFaultNetwork(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	n := newNATSServer(t)
	between := newNetwork(t, n.addr)
	h := externalHome(t, []string{between.Addr().String()})
	s := h.serve()
	load := h.sensors(s)
	for range rounds(1, 8) {
		s.flows(200)
		between.reset() // the client connects again at once
		s.flows(200)
		pause(random, 300*time.Millisecond)
		between.still.Store(true)
		s.ready(503)
		between.still.Store(false)
		s.ready(200)
		s.flows(200)
		between.refuse(true)
		between.reset()
		s.ready(503)
		between.refuse(false)
		s.ready(200)
	}
	s.flows(200)
	r := load.proved()
	if len(r.Failures) > 0 {
		t.Errorf("requests without an answer: %v", r.Failures)
	}
	s.accounts(r, 0)
	s.stop()
}

// natsBinary builds the pinned nats-server, once.
var natsBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(suite.dir, "nats-server")
	return path, goBuild(path, "github.com/nats-io/nats-server/v2")
})
