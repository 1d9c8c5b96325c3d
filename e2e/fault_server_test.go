package e2e_test

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"caliperedge/internal/natstest"
)

// externalHome is a fault home on external servers.
func externalHome(t *testing.T, urls string, env ...string) *home {
	t.Helper()
	return newFaultHome(t, append([]string{"CALIPER_NATS_URL=" + urls}, env...)...)
}

func TestFaultServerKilled(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	n := natstest.Start(t, natsAuthorization())
	h := externalHome(t, withUser(n))
	s := h.serve()
	load := h.sensors(s)
	for range rounds(1, 15) {
		s.flows(200)
		pause(random, 300*time.Millisecond)
		n.Kill()
		s.ready(503)
		pause(random, time.Second)
		n.Restart()
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
	n := natstest.Start(t, natsAuthorization())
	h := externalHome(t, withUser(n))
	s := h.serve()
	load := h.sensors(s)
	for range rounds(1, 10) {
		s.flows(200)
		pause(random, 300*time.Millisecond)
		n.Pause()
		s.ready(503)
		a := s.post(envelope("", eventID("stopped")))
		a.want(t, 503, "Events cannot be stored now.")
		n.Continue()
		s.ready(200)
	}
	s.flows(200)
	s.livedThrough(load, 0)
}

// clusterHome is the home of an endpoint on three nodes, which is started once
// they have found a leader.
func clusterHome(t *testing.T, urls string) (*home, *server) {
	t.Helper()
	h := externalHome(t, urls, "CALIPER_REPLICAS=3")
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
	nodes := natstest.Cluster(t, 3, natsAuthorization())
	h, s := clusterHome(t, withUser(nodes...))
	load := h.sensors(s)
	for round := range 9 {
		n := nodes[round%3]
		s.flows(200)
		n.Kill()
		s.flows(200)
		n.Restart()
	}
	s.accounts(load.proved(), 1)
	s.stop()
}

// Two of three are lost: nothing can be stored, and nothing is acknowledged,
// until one of them is back.
func TestFaultTwoNodesLost(t *testing.T) {
	t.Parallel()
	needsAll(t)
	nodes := natstest.Cluster(t, 3, natsAuthorization())
	h, s := clusterHome(t, withUser(nodes...))
	load := h.sensors(s)
	for round := range 4 {
		first, second := nodes[round%3], nodes[(round+1)%3]
		s.flows(200)
		first.Kill()
		second.Kill()
		s.ready(503)
		s.post(envelope("", eventID("two lost"))).want(t, 503, "Events cannot be stored now.")
		first.Restart()
		s.ready(200)
		s.flows(200)
		second.Restart()
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
	cut   bool         // refuses connections
	still atomic.Bool  // takes in what is sent and passes nothing on
	speed atomic.Int64 // bytes per second of each direction, 0 for no bound
	open  atomic.Int64 // directions of connections that there are
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

// url is what an endpoint behind the network takes for the server's.
func (n *network) url() string {
	u := url.URL{Scheme: "nats", User: url.UserPassword("edge", natsPassword), Host: n.Addr().String()}
	return u.String()
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
		n.open.Add(2)
		go n.pass(from, to)
		go n.pass(to, from)
	}
}

// pass copies until the connection ends. What came in while the network is
// still arrives when it goes on, as with a route that is lost for a while.
func (n *network) pass(from, to net.Conn) {
	defer n.open.Add(-1)
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
		if speed := n.speed.Load(); speed > 0 {
			time.Sleep(time.Duration(int64(m) * int64(time.Second) / speed))
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
	n := natstest.Start(t, natsAuthorization())
	between := newNetwork(t, n.Addr())
	h := externalHome(t, between.url())
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
	s.livedThrough(load, 0)
}

// The network to a cluster: the way to the node in use is lost, and that to all of
// them. What is lost of one node's ways alone, a client finds another for.
func TestFaultClusterNetwork(t *testing.T) {
	t.Parallel()
	needsAll(t)
	var ways []*network
	var urls []string
	options := natsAuthorization()
	options.NoAdvertise = true
	for _, node := range natstest.Cluster(t, 3, options) {
		way := newNetwork(t, node.Addr())
		ways, urls = append(ways, way), append(urls, way.url())
	}
	h, s := clusterHome(t, strings.Join(urls, ","))
	load := h.sensors(s)
	for range 4 {
		s.flows(200)
		cut := 0
		for _, way := range ways {
			if way.open.Load() > 0 {
				cut++
				way.refuse(true)
				way.reset()
			}
		}
		if cut == 0 || cut == len(ways) {
			t.Fatalf("%d of %d ways were in use", cut, len(ways))
		}
		s.flows(200)
		for _, way := range ways {
			way.refuse(true)
			way.reset()
		}
		s.ready(503)
		for _, way := range ways {
			way.refuse(false)
		}
		s.ready(200)
		s.flows(200)
		for _, way := range ways {
			way.still.Store(true)
		}
		s.ready(503)
		for _, way := range ways {
			way.still.Store(false)
		}
		s.ready(200)
	}
	s.flows(200)
	s.livedThrough(load, 1)
}

// A server whose disk somebody else fills: its stream stays frozen until the
// server is started again, which is its supervisor's to do. The endpoint comes
// back with it.
func TestFaultServerDiskFull(t *testing.T) {
	t.Parallel()
	needsAll(t)
	opts := natsAuthorization()
	opts.Store = t.TempDir()
	mountDisk(t, opts.Store, "64")
	n := natstest.Start(t, opts)
	h := externalHome(t, withUser(n), "CALIPER_STORE_BYTES=24MiB")
	s := h.serve()
	load := h.sensors(s)
	for range 3 {
		s.flows(200)
		filler := filepath.Join(opts.Store, "filler")
		fillDisk(t, filler)
		s.ready(503)
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		n.Kill()
		n.Restart()
		s.ready(200)
	}
	s.flows(200)
	s.livedThrough(load, 0)
}
