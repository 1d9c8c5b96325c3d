//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"caliperedge/internal/loopback"

	"github.com/valyala/fasthttp"
)

// endpoint is a subject that runs.
type endpoint struct {
	url, token string
	server     *process
	stores     []*process // nats-servers, none where the store is embedded
	admin      string     // host:port; empty for our own, which have no metrics
	storeDir   string
}

// start starts a subject for a load, with its data below dir, which is empty.
func (b *bench) start(ctx context.Context, l load, s subject, dir string) (*endpoint, error) {
	switch {
	case s == ceiling:
		return startOwn(dir, constantCommand)
	case s == floor, s.without != "", s.on != "":
		return startOwn(dir, floorCommand, dir, b.encoding, s.without, s.on)
	case s == prototype:
		return startOwn(dir, prototypeCommand, dir, b.encoding)
	case s.servers > 0:
		return b.startExternal(s, dir)
	case s == withRules:
		return b.startRules(ctx, l, dir)
	case s.config != "":
		return b.startConfigured(s, dir)
	}
	return b.startEdge(s, plainTool, dir)
}

// stop ends the processes, the store last.
func (e *endpoint) stop() error {
	err := e.server.stop()
	for _, p := range e.stores {
		err = errors.Join(err, p.stop())
	}
	return err
}

var (
	edgeReady = regexp.MustCompile(`"msg":"serving","listen":"([^"]+)","admin":"([^"]+)"`)
	natsReady = regexp.MustCompile(`Listening for client connections on (\S+)(?s:.*)Server is ready`)
	// ownReady is what serveConstant, serveFloor and servePrototype write.
	ownReady = regexp.MustCompile(`listening on (\S+)\n`)
)

// startEdge starts caliper-edge, and gives the tool that posts a token. All is as by default but where it listens, what it
// writes, how messages are packed, and the flags.
func (b *bench) startEdge(s subject, tool, dir string, flags ...string) (*endpoint, error) {
	data, program := filepath.Join(dir, "data"), b.program(s.program())
	token, err := own(exec.Command(program, "token", "add", tool, "--data-dir", data)).Output()
	if err != nil {
		return nil, fmt.Errorf("token add: %w", err)
	}
	argv := append(b.tracer(s), program, "serve", "--init", "--data-dir", data, "--log-format", "json",
		"--content-encoding", b.encoding, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0")
	p, at, err := launch(dir, edgeReady, append(argv, flags...)...)
	if err != nil {
		return nil, err
	}
	return &endpoint{
		url: fmt.Sprintf("http://%s/", at[1]), token: strings.TrimSpace(string(token)),
		server: p, admin: string(at[2]), storeDir: filepath.Join(data, "jetstream"),
	}, nil
}

// tracer is what stands before the command of a traced subject. The store syncs by fsync alone while it takes messages.
// strace stops the program at these calls and no others, and delays their return. With -D the process that we started is
// the program, and strace the one beside it.
func (b *bench) tracer(s subject) []string {
	if !s.traced {
		return nil
	}
	argv := []string{"strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", os.DevNull, "-e", "trace=fsync,fdatasync"}
	if s.delay > 0 {
		argv = append(argv, "-e", fmt.Sprintf("inject=fsync,fdatasync:delay_exit=%d", s.delay.Microseconds()))
	}
	return argv
}

// startExternal starts nats-servers, a cluster where it is more than one, which sync each message before they acknowledge it,
// and caliper-edge with them. Each of them keeps all messages.
func (b *bench) startExternal(s subject, dir string) (_ *endpoint, err error) {
	stores := filepath.Join(dir, "stores")
	var running []*process
	defer func() {
		if err != nil {
			for _, p := range running {
				err = errors.Join(err, p.stop())
			}
		}
	}()
	routes, err := loopback.Free(s.servers)
	if err != nil {
		return nil, err
	}
	var urls []string
	for i := range s.servers {
		home := filepath.Join(dir, fmt.Sprintf("nats-server-%d", i+1))
		config := filepath.Join(home, "server.conf")
		text := fmt.Sprintf("server_name: \"nats-%d\"\nlisten: \"127.0.0.1:-1\"\njetstream: {store_dir: %q, sync_interval: always}\n",
			i+1, filepath.Join(stores, strconv.Itoa(i+1)))
		if s.servers > 1 {
			text += fmt.Sprintf("cluster: {name: bench, listen: %q, routes: [\"nats://%s\"]}\n", routes[i], strings.Join(routes, `", "nats://`))
		}
		if err := errors.Join(os.Mkdir(home, 0o755), os.WriteFile(config, []byte(text), 0o644)); err != nil {
			return nil, err
		}
		nats, at, err := launch(home, natsReady, b.program("nats-server"), "-c", config)
		if err != nil {
			return nil, err
		}
		running = append(running, nats)
		urls = append(urls, fmt.Sprintf("nats://%s", at[1]))
	}
	e, err := b.startEdge(s, plainTool, dir, "--nats-url", strings.Join(urls, ","), "--replicas", strconv.Itoa(s.servers))
	if err != nil {
		return nil, err
	}
	e.stores, e.storeDir = running, stores
	return e, nil
}

// constantCommand makes this program the ceiling instead.
const constantCommand = "serve-constant"

// constantBody is what caliper-edge answers to an envelope of one event.
const constantBody = `{"accepted":1,"rejected":0,"topics":{"standard":"standard:1742"}}`

// startOwn starts this program as ceiling, floor or prototype.
func startOwn(dir string, args ...string) (*endpoint, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, at, err := launch(dir, ownReady, append([]string{self}, args...)...)
	if err != nil {
		return nil, err
	}
	return &endpoint{url: fmt.Sprintf("http://%s/", at[1]), token: "any", server: p}, nil
}

// serveConstant is the ceiling: it takes bodies and answers at once, until ctx ends.
func serveConstant(ctx context.Context, out io.Writer) error {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := fasthttp.Server{Handler: func(c *fasthttp.RequestCtx) {
		if len(c.PostBody()) == 0 {
			c.SetStatusCode(fasthttp.StatusBadRequest)
			return
		}
		c.SetContentType("application/json")
		c.SetBodyString(constantBody)
	}}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(ln) }()
	fmt.Fprintln(out, "listening on", ln.Addr())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil // connections end with the process
	}
}
