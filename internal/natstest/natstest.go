// Package natstest runs nats-server processes of the pinned version for tests:
// one, or a cluster, on loopback, with stores and ports that stay over restarts.
package natstest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/internal/loopback"
)

const (
	// patience is how long a server may take for anything on a busy machine.
	patience  = time.Minute
	pollEvery = 20 * time.Millisecond
)

// binary builds the server once for all tests of a process.
var binary = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "tool", "-n", "nats-server").Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
})

// Options of a server. The zero value is a server that lets everybody in.
type Options struct {
	// Config is added to the configuration file, such as
	// `authorization { user: edge, password: secret }`.
	Config string
	// SyncAlways has the server sync before it acknowledges.
	SyncAlways bool
	// NoAdvertise has the servers of a cluster not tell clients of each other, so
	// that a way that a test puts between is the only one.
	NoAdvertise bool
	// Store is the folder of the store. Empty means one of the test's own.
	Store string
}

// Server is one nats-server process. Its methods are for the test's goroutine.
type Server struct {
	t      testing.TB
	name   string
	config string
	addr   string
	log    string // file

	cmd   *exec.Cmd
	ended chan struct{}
}

// Start starts a server of its own and waits until JetStream answers. It is
// killed at the end of the test.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	return Cluster(t, 1, opts)[0]
}

// Cluster starts n servers, which make up a cluster where n is above 1, and
// waits until JetStream answers.
func Cluster(t testing.TB, n int, opts Options) []*Server {
	t.Helper()
	free, err := loopback.Free(2 * n)
	if err != nil {
		t.Fatal(err)
	}
	clients, routes := free[:n], free[n:]
	var servers []*Server
	for i := range n {
		dir := t.TempDir()
		s := &Server{t: t, name: fmt.Sprintf("n%d", i+1), addr: clients[i],
			config: filepath.Join(dir, "nats.conf"), log: filepath.Join(dir, "log")}
		store := opts.Store
		if store == "" {
			store = dir
		} else if n > 1 {
			store = filepath.Join(store, s.name)
		}
		text := fmt.Sprintf("server_name: %s\nlisten: %q\njetstream { store_dir: %q", s.name, s.addr, store)
		if opts.SyncAlways {
			text += ", sync_interval: always"
		}
		text += " }\n" + opts.Config + "\n"
		if n > 1 {
			text += fmt.Sprintf("cluster { name: test, listen: %q, routes: [%s], no_advertise: %v }\n", routes[i], routeList(routes, i), opts.NoAdvertise)
		}
		if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		servers = append(servers, s)
	}
	for _, s := range servers {
		s.Start()
	}
	for _, s := range servers {
		s.waitReady(n > 1)
	}
	return servers
}

func routeList(routes []string, but int) string {
	var list []string
	for i, r := range routes {
		if i != but {
			list = append(list, fmt.Sprintf("%q", "nats://"+r))
		}
	}
	return strings.Join(list, ", ")
}

// Start starts the process, again after Kill. It does not wait until the server
// serves.
func (s *Server) Start() {
	s.t.Helper()
	path, err := binary()
	if err != nil {
		s.t.Fatalf("go tool nats-server: %v", err)
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(path, "-c", s.config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	s.cmd, s.ended = cmd, ended
	s.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGKILL) // also where it is stopped
		<-ended
	})
}

// waitReady waits until the server says that it is ready, started again where
// its port was taken for a moment, and in a cluster until there is a leader.
func (s *Server) waitReady(clustered bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(pollEvery) {
		log := s.Log()
		led := !clustered || strings.Contains(log, "JetStream cluster new metadata leader") || strings.Contains(log, "Self is new JetStream cluster metadata leader")
		if led && strings.Contains(log, "Server is ready") {
			return
		}
		select {
		case <-s.ended:
			if !strings.Contains(log, "address already in use") {
				s.t.Fatalf("nats-server has ended:\n%s", log)
			}
			s.Start()
		default:
		}
		if time.Now().After(end) {
			s.t.Fatalf("nats-server is not ready after %v:\n%s", patience, log)
		}
	}
}

// Restart starts the server after Kill and waits until it takes connections.
func (s *Server) Restart() {
	s.t.Helper()
	s.Start()
	for end := time.Now().Add(patience); ; time.Sleep(pollEvery) {
		if c, err := net.Dial("tcp", s.addr); err == nil {
			c.Close()
			return
		}
		select {
		case <-s.ended: // for a moment the port can be that of somebody's outgoing connection
			s.Start()
		default:
		}
		if time.Now().After(end) {
			s.t.Fatalf("nats-server does not listen on %s after %v:\n%s", s.addr, patience, s.Log())
		}
	}
}

// Kill ends the process as a power cut would.
func (s *Server) Kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	<-s.ended
}

// Pause stops the process with SIGSTOP, and returns when all of it stands: its
// connections stay and nothing answers.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	for end := time.Now().Add(patience); !s.stopped(); time.Sleep(pollEvery) {
		if time.Now().After(end) {
			s.t.Fatalf("nats-server is not stopped after %v", patience)
		}
	}
}

// stopped reports whether every thread of the process is.
func (s *Server) stopped() bool {
	s.t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if _, state, ok := strings.Cut(string(text), ") "); err == nil && ok && !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return len(threads) > 0
}

// Continue lets a paused process go on.
func (s *Server) Continue() { s.t.Helper(); s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Name is the server's in its cluster.
func (s *Server) Name() string { return s.name }

// Addr is host:port for clients. It stays over restarts.
func (s *Server) Addr() string { return s.addr }

// URL is the server's, without a credential.
func (s *Server) URL() string { return "nats://" + s.addr }

// URLs are those of servers, comma separated.
func URLs(servers []*Server) string {
	var list []string
	for _, s := range servers {
		list = append(list, s.URL())
	}
	return strings.Join(list, ",")
}

// Log is what the server has written so far.
func (s *Server) Log() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// SetConfig replaces the added part of the configuration file for the next
// start; old is what it was.
func (s *Server) SetConfig(old, now string) {
	s.t.Helper()
	text, err := os.ReadFile(s.config)
	if err == nil {
		err = os.WriteFile(s.config, []byte(strings.Replace(string(text), old, now, 1)), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// JetStream connects to urls as a tool of the operator would.
func JetStream(t testing.TB, urls string, opts ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(urls, append(opts, nats.Timeout(patience), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))...)
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
