//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// startPatience and stopPatience are how long a server may take.
	startPatience = 30 * time.Second
	stopPatience  = time.Minute
	// tailBytes of what a process wrote last stand in an error.
	tailBytes = 2000
)

// own makes a command a child of ours that an interrupt at the terminal does not reach before us, that does not outlive us,
// and that sees none of the caller's settings of caliper-edge.
func own(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CALIPER_") })
	return cmd
}

// process is a server that runs until it is stopped.
type process struct {
	cmd   *exec.Cmd
	log   string        // file of what it writes
	ended chan struct{} // closed when it has
	err   error         // then
}

// launch starts a server whose folder is dir, and waits until ready matches what it has written. It returns the parts
// of the match.
func launch(dir string, ready *regexp.Regexp, argv ...string) (*process, [][]byte, error) {
	p := &process{cmd: own(exec.Command(argv[0], argv[1:]...)), log: filepath.Join(dir, "log"), ended: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, nil, err
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		return nil, nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	for deadline := time.Now().Add(startPatience); ; {
		text, err := os.ReadFile(p.log)
		if match := ready.FindSubmatch(text); match != nil {
			return p, match, nil
		}
		select {
		case <-p.ended:
			text, _ = os.ReadFile(p.log) // with what it wrote after we had looked
			return nil, nil, fmt.Errorf("%s ended at its start: %v\n%s", argv[0], p.err, tail(text))
		case <-time.After(5 * time.Millisecond):
		}
		if err != nil || time.Now().After(deadline) {
			p.cmd.Process.Kill()
			<-p.ended
			return nil, nil, fmt.Errorf("%s is not ready after %v: %v\n%s", argv[0], startPatience, err, tail(text))
		}
	}
}

// stop ends the server as an init system does. It is an error if it has ended before, or ends badly.
func (p *process) stop() error {
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		if p.err != nil {
			err = p.err
		}
	case <-time.After(stopPatience):
		p.cmd.Process.Kill()
		<-p.ended
		err = fmt.Errorf("runs on %v after SIGTERM", stopPatience)
	}
	if err != nil {
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s: %w\n%s", p.cmd.Path, err, tail(text))
	}
	return nil
}

func tail(text []byte) []byte { return text[max(0, len(text)-tailBytes):] }

// memory is the resident memory of the process, now and at its peak, in MiB.
func (p *process) memory() (now, peak float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	kib := func(name string) (n float64) {
		for line := range bytes.Lines(text) {
			if rest, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
				n, err = strconv.ParseFloat(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))), 64)
				return n
			}
		}
		err = fmt.Errorf("no %s in /proc/…/status", name)
		return 0
	}
	return kib("VmRSS") / 1024, kib("VmHWM") / 1024, err
}

// raiseOpenFiles lets this process and its children have as many open files as they may: a connection is one on either
// side. The Go runtime raises the limit for itself alone.
func raiseOpenFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}
