package e2e_test

import (
	"net"
	"os/exec"
	"strings"
	"testing"
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
