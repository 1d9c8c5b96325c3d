package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// patience is how long anything may take that has no limit of its own. Under
	// the race detector, on a busy machine, starts take seconds.
	patience = time.Minute
	// pollEvery is how often a condition is looked at.
	pollEvery = 20 * time.Millisecond
)

// home is an installation: a folder to start the program in, and its
// environment. Nothing of the tests' own environment gets through but the
// search path.
type home struct {
	t   *testing.T
	dir string
	env []string
}

// newHome makes an installation whose ports are free ones, in a folder of its
// own. Later variables win over earlier ones.
func newHome(t *testing.T, env ...string) *home {
	t.Helper()
	dir := t.TempDir()
	base := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir,
		"CALIPER_LISTEN=127.0.0.1:0", "CALIPER_ADMIN_LISTEN=127.0.0.1:0", "CALIPER_NATS_LISTEN=127.0.0.1:0",
		"CALIPER_LOG_FORMAT=json", "CALIPER_STORE_BYTES=256MiB",
		"CALIPER_REQUEST_TIMEOUT=20s", // a disk shared with other tests stalls for seconds
		"GORACE=atexit_sleep_ms=0",    // else each process waits for a second where it is built with the race detector
	}
	return &home{t: t, dir: dir, env: append(base, env...)}
}

// data is a path in the data folder.
func (h *home) data(name string) string { return filepath.Join(h.dir, "data", name) }

func (h *home) command(args ...string) *exec.Cmd {
	cmd := exec.Command(suite.edge, args...)
	cmd.Dir, cmd.Env = h.dir, slices.Clone(h.env)
	return cmd
}

// result is how a process has ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs the program to its end.
func (h *home) run(args ...string) result {
	h.t.Helper()
	return h.runWith("", args...)
}

// runWith runs the program to its end with stdin.
func (h *home) runWith(stdin string, args ...string) result {
	h.t.Helper()
	cmd := h.command(args...)
	cmd.Stdin = strings.NewReader(stdin)
	return finish(h.t, cmd)
}

// must runs the program and returns its stdout; it has to end well.
func (h *home) must(args ...string) string {
	h.t.Helper()
	r := h.run(args...)
	if r.code != 0 {
		h.t.Fatalf("caliper-edge %s: exit %d\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

// finish runs cmd to its end.
func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	stop()
	logged(stderr.String())
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%v has not ended in time\nstdout: %s\nstderr: %s", cmd.Args, stdout.String(), stderr.String())
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// output is a file that takes what a process writes, so that all of it is there
// before the process does what comes next.
type output struct {
	t    *testing.T
	file *os.File
}

func newOutput(t *testing.T) output {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	return output{t, f}
}

// String is what has been written so far.
func (o output) String() string {
	text, err := os.ReadFile(o.file.Name())
	if err != nil {
		o.t.Error(err)
	}
	return string(text)
}

// process is a running one.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr output
	ended          chan struct{}
}

// launch starts cmd, to be killed at the end of the test if it still runs.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, ended: make(chan struct{}), stdout: newOutput(t), stderr: newOutput(t)}
	cmd.Stdout, cmd.Stderr = p.stdout.file, p.stderr.file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.ended
		logged(p.stderr.String())
		p.stdout.file.Close()
		p.stderr.file.Close()
		if t.Failed() {
			t.Logf("%v wrote to stderr:\n%s", cmd.Args, p.stderr.String())
		}
	})
	return p
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait waits for the end and returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.cmd.Process.Signal(syscall.SIGQUIT) // for the stacks of its goroutines
		<-p.ended
		p.t.Fatalf("%v has not ended in time", p.cmd.Args)
	}
	return p.cmd.ProcessState.ExitCode()
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	p.wait()
}

// stop ends the process as an init system does; it has to end well.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		p.t.Fatalf("exit %d after SIGTERM", code)
	}
}

// server is a running serve.
type server struct {
	*process
	url, admin string // http://host:port
	token      string // of the tool demo
	client     *http.Client
}

// serve starts an endpoint and waits until it serves.
func (h *home) serve(args ...string) *server {
	h.t.Helper()
	return h.serveAs(append([]string{suite.edge, "serve", "--init"}, args...))
}

// serveAs is serve by a command that runs the program, or another build of it.
func (h *home) serveAs(command []string) *server {
	h.t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Env = h.dir, slices.Clone(h.env)
	p := launch(h.t, cmd)
	s := &server{process: p, client: newClient(h.t)}
	var at struct{ Msg, Listen, Admin string }
	eventually(h.t, "the endpoint serves", func() bool {
		select {
		case <-p.ended:
			h.t.Fatalf("serve has ended: %s", p.stderr.String())
		default:
		}
		for line := range strings.Lines(p.stderr.String()) {
			if json.Unmarshal([]byte(line), &at) == nil && at.Msg == "serving" {
				return true
			}
		}
		return false
	})
	s.url, s.admin = "http://"+at.Listen, "http://"+at.Admin
	s.token = secret(between(p.stdout.String(), "Authorization: Bearer ", "'"), "a token")
	return s
}

func newClient(t *testing.T) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// between is what stands in s between the first left and the next right, or
// nothing.
func between(s, left, right string) string {
	_, rest, _ := strings.Cut(s, left)
	middle, _, ok := strings.Cut(rest, right)
	if !ok {
		return ""
	}
	return middle
}

// eventually waits until ok is.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	within(t, patience, what, ok)
}

// within waits until ok is, and no longer than d.
func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); !ok(); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}
