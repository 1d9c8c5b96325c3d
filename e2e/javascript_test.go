package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
)

// installed is the folder of the reader example with its modules, which are
// fetched once, into a copy.
var installed = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(suite.dir, "reader-js")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", "reader-js"))); err != nil {
		return "", err
	}
	npm := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--prefer-offline")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return dir, nil
})

// readerDir is where the reader is installed.
func readerDir(t *testing.T) string {
	t.Helper()
	needsTools(t, "node", "npm") // Node 20 or newer
	dir, err := installed()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// reader adds a consumer of standard and returns how to run the reader with it.
func (h *home) reader(t *testing.T, dir string, options ...string) func() result {
	t.Helper()
	return h.readerOf(t, dir, "standard", options...)
}

func (h *home) readerOf(t *testing.T, dir, topic string, options ...string) func() result {
	t.Helper()
	add := h.must("consumer", "add", "js", topic)
	h.write("reader.credential", add)
	c := credential(t, add) // which has the logs searched for its password
	eventually(t, "the reader is let in", func() bool {
		nc, err := nats.Connect(c["server"], nats.UserInfo(c["user"], c["password"]))
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	return func() result {
		t.Helper()
		cmd := exec.Command("node", append([]string{"reader.js", filepath.Join(h.dir, "reader.credential"), "--once"}, options...)...)
		cmd.Dir = dir
		return finish(t, cmd)
	}
}

func TestReaderInJavaScript(t *testing.T) {
	t.Parallel()
	dir := readerDir(t)
	for _, encoding := range []string{"none", "snappy", "zstd"} {
		t.Run("encoding="+encoding, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, "CALIPER_CONTENT_ENCODING="+encoding)
			s := h.serve()
			for n := range 20 { // more messages than the reader fetches at once
				s.stored(eventID("js", n, "a"), eventID("js", n, "é"))
			}
			var many []string
			for n := range 500 {
				many = append(many, eventID("js", "many", n))
			}
			s.stored(many...)
			read := h.reader(t, dir)
			want := h.must("tail", "standard", "--no-follow")
			if r := read(); r.code != 0 || r.stdout != want || strings.Count(want, "\n") != 540 {
				t.Fatalf("exit %d, %d lines, want %d as tail prints them\n%.2000s", r.code, strings.Count(r.stdout, "\n"), strings.Count(want, "\n"), r.stderr)
			}
			if r := read(); r.code != 0 || r.stdout != "" {
				t.Errorf("a second run: exit %d, printed %.200q: what was acknowledged came again\n%s", r.code, r.stdout, r.stderr)
			}
		})
	}
}

func TestReaderInJavaScriptPrintsEachEventOnce(t *testing.T) {
	t.Parallel()
	dir := readerDir(t)
	h := newHome(t, "CALIPER_DUPLICATES_IDS=0")
	s := h.serve()
	one, two := eventID("once", 1), eventID("once", 2)
	s.stored(one)
	s.stored(two, one, one)
	s.post(envelope("of another content", one)).want(t, 200, `"accepted":1`)
	read := h.reader(t, dir, "--unique")
	want := h.must("tail", "standard", "--no-follow", "--unique")
	if r := read(); r.code != 0 || r.stdout != want || strings.Count(want, "\n") != 3 {
		t.Errorf("exit %d, printed\n%swant\n%s%s", r.code, r.stdout, want, r.stderr)
	}
}

// Events that differ in nothing but what a double, or a reader of JSON, does not tell
// apart are different events.
func TestReaderInJavaScriptTellsEventsApart(t *testing.T) {
	t.Parallel()
	dir := readerDir(t)
	h := newHome(t, "CALIPER_DUPLICATES_IDS=0", "CALIPER_CONTENT_ENCODING=none")
	s := h.serve()
	id := eventID("apart")
	notes := []string{
		`9007199254740992`, `9007199254740993`, `1e400`, `1e401`, `1`, `1.0`, `-0`, `0`,
		`"a"`, `"\u0061"`, `"\\\""`, `"}"`, `"\",\"event\":{"`, `{"event":1}`, `[{"a":1,"a":2}]`, `[{"a":2}]`, `[{"a":3,"a":2}]`,
	}
	for range 2 {
		for _, note := range notes {
			s.post(strings.Replace(envelope("", id), `"note":""`, `"note":`+note, 1)).want(t, 200, `"accepted":1`)
		}
	}
	read := h.reader(t, dir, "--unique")
	want := h.must("tail", "standard", "--no-follow", "--unique")
	if r := read(); r.code != 0 || r.stdout != want || strings.Count(want, "\n") != len(notes) {
		t.Errorf("exit %d, printed %d events of %d\n%swant\n%s%s", r.code, strings.Count(r.stdout, "\n"), len(notes), r.stdout, want, r.stderr)
	}
}

// What was refused has no identity: none of it is left out.
func TestReaderInJavaScriptPrintsAllThatWasRefused(t *testing.T) {
	t.Parallel()
	dir := readerDir(t)
	h := newHome(t)
	s := h.serve()
	for _, body := range []string{"[", "[[", "[["} {
		s.post(body).want(t, 415, "application/json payload expected.")
	}
	read := h.readerOf(t, dir, "rejected", "--unique")
	want := ""
	eventually(t, "what was refused is kept", func() bool {
		want = h.must("tail", "rejected", "--no-follow", "--unique")
		return strings.Count(want, "\n") == 3
	})
	if r := read(); r.code != 0 || r.stdout != want {
		t.Errorf("exit %d, printed\n%swant\n%s%s", r.code, r.stdout, want, r.stderr)
	}
}

func TestReaderInJavaScriptMeetsOtherMessages(t *testing.T) {
	t.Parallel()
	dir := readerDir(t)
	h := newHome(t)
	h.serve()
	read := h.reader(t, dir)
	h.foreign("")
	if r := read(); r.code != 0 || r.stdout != "" {
		t.Errorf("a message without Caliper-Record: exit %d, printed %.200q\n%s", r.code, r.stdout, r.stderr)
	}
	h.foreign("2")
	if r := read(); r.code == 0 || r.stdout != "" || !strings.Contains(r.stderr, "version 2") {
		t.Errorf("a message of version 2: exit %d, printed %.200q\n%s", r.code, r.stdout, r.stderr)
	}
	if list := h.must("consumer", "list"); !regexp.MustCompile(`(?m)^js +standard +true +0 +1 `).MatchString(list) {
		t.Errorf("of the two messages one is to be unacknowledged:\n%s", list)
	}
}

// foreign puts a message into standard that the program did not make.
func (h *home) foreign(version string) {
	h.t.Helper()
	m := nats.NewMsg("caliper.standard")
	m.Data = []byte("hello")
	if version != "" {
		m.Header.Set("Caliper-Record", version)
	}
	if _, err := h.operator().PublishMsg(context.Background(), m); err != nil {
		h.t.Fatal(err)
	}
}
