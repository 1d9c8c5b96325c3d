// Package e2e_test tests the program as its users meet it: the built binary,
// as processes with sockets, signals and files.
//
// What all of its processes write to stderr is kept, and at the end searched
// for every token, password and piece of event content in use: a log must not
// hold them.
package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
)

// secretMark is in every part of every event that the tests send.
const secretMark = "zq7Kx"

// suite is what TestMain makes for all tests.
var suite struct {
	edge string // the binary
	dir  string // removed at the end

	mu      sync.Mutex
	logs    bytes.Buffer
	secrets map[string]string // → what it is
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "caliper-edge-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	suite.dir, suite.edge = dir, filepath.Join(dir, "caliper-edge")
	suite.secrets = map[string]string{secretMark: "event content"}
	if err := goBuild(suite.edge, "caliperedge"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if n := leaks(); n > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: %d lines on stderr hold a secret\n", n)
		code = 1
	}
	if i := strings.Index(suite.logs.String(), "WARNING: DATA RACE"); i >= 0 {
		fmt.Fprintf(os.Stderr, "FAIL: %.3000s\n", suite.logs.String()[i:])
		code = 1
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// goBuild builds a program, with the race detector where the tests have it.
func goBuild(to, pkg string, more ...string) error {
	args := append([]string{"build", "-o", to}, more...)
	if racing() {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, pkg)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// racing tells whether the tests have the race detector.
func racing() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
}

// goEnv is a setting of the go command.
func goEnv(name string) (string, error) {
	out, err := exec.Command("go", "env", name).Output()
	return strings.TrimSpace(string(out)), err
}

// secret remembers s as one that no log may hold.
func secret(s, what string) string {
	suite.mu.Lock()
	defer suite.mu.Unlock()
	if s != "" {
		suite.secrets[s] = what
	}
	return s
}

// logged keeps what a process has written to stderr.
func logged(text string) {
	suite.mu.Lock()
	defer suite.mu.Unlock()
	suite.logs.WriteString(text)
}

// leaks counts the lines with a secret and tells of them, without the secret.
func leaks() int {
	found := 0
	for line := range strings.Lines(suite.logs.String()) {
		for s, what := range suite.secrets {
			if strings.Contains(line, s) {
				found++
				fmt.Fprintf(os.Stderr, "%s on stderr: %s", what, strings.ReplaceAll(line, s, "…"))
			}
		}
	}
	return found
}
