package e2e_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// shell runs a line of what the program printed as a user would, by copying it.
func (h *home) shell(line string) result {
	h.t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir, cmd.Env = h.dir, h.env
	return finish(h.t, cmd)
}

// printed finds in stdout the command that begins with the word given, over
// all of its lines.
func printed(t *testing.T, stdout, word string) string {
	t.Helper()
	var found []string
	for line := range strings.Lines(stdout) {
		if len(found) == 0 && !strings.HasPrefix(strings.TrimSpace(line), word) {
			continue
		}
		found = append(found, line)
		if !strings.HasSuffix(line, "\\\n") {
			return strings.TrimSpace(strings.Join(found, ""))
		}
	}
	t.Fatalf("no line with %s in:\n%s", word, stdout)
	return ""
}

func TestFirstUse(t *testing.T) {
	t.Parallel()
	needsTools(t, "curl") // the line to try is one of it
	h := newHome(t)
	s := h.serve()
	post, tail := printed(t, s.stdout.String(), "curl "), printed(t, s.stdout.String(), suite.edge)

	r := h.shell(post)
	if r.code != 0 || !strings.Contains(r.stdout, `"accepted":1`) {
		t.Fatalf("the curl line: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
	id := between(post, `"id":"`, `"`)
	r = h.shell(tail + " --no-follow")
	if r.code != 0 || recordIDs(t, r.stdout)[id] != 1 {
		t.Fatalf("the tail line: exit %d, no record %s in %s%s", r.code, id, r.stdout, r.stderr)
	}

	// As it stands the line follows: what comes later is printed while it runs.
	watch := exec.Command("sh", "-c", "exec "+tail)
	watch.Dir, watch.Env = h.dir, h.env
	follower := launch(t, watch)
	later := eventID("first", "later")
	eventually(t, "tail shows a new event", func() bool {
		s.stored(later)
		return strings.Contains(follower.stdout.String(), later)
	})
	follower.signal(os.Interrupt)
	if code := follower.wait(); code != 0 {
		t.Errorf("tail ended with %d after an interrupt", code)
	}

	s.stop()
	again := h.serve()
	if again.token != s.token {
		t.Error("the second start has another token")
	}
	if r := h.shell(printed(t, again.stdout.String(), "curl ")); !strings.Contains(r.stdout, `"accepted":1`) {
		t.Errorf("the curl line of the second start: %s%s", r.stdout, r.stderr)
	}
	again.stop()

	plain := launch(t, h.command("serve"))
	eventually(t, "serve without --init starts on what is there", func() bool {
		return strings.Contains(plain.stderr.String(), `"serving"`)
	})
	if out := plain.stdout.String(); out != "" {
		t.Errorf("serve without --init wrote to stdout: %q", out)
	}
	plain.stop()
}

func TestServeRefusesToStartOnNothing(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := h.run("serve")
	if r.code == 0 || !strings.Contains(r.stderr, "data folder") || !strings.Contains(r.stderr, "--init") {
		t.Errorf("no data folder: exit %d, %s", r.code, r.stderr)
	}
	if _, err := os.Stat(h.data("")); err == nil {
		t.Error("the data folder was created all the same")
	}
	if err := os.Mkdir(h.data(""), 0o700); err != nil {
		t.Fatal(err)
	}
	r = h.run("serve")
	if r.code == 0 || !strings.Contains(r.stderr, "data folder") || !strings.Contains(r.stderr, "empty") {
		t.Errorf("an empty data folder, as of an unmounted volume: exit %d, %s", r.code, r.stderr)
	}
	h.write("data/store.json", `{"limit_bytes":268435456}`)
	r = h.run("serve")
	if r.code == 0 || !strings.Contains(r.stderr, "token map") || !strings.Contains(r.stderr, "tokens.yaml.age") {
		t.Errorf("no token map: exit %d, %s", r.code, r.stderr)
	}
	if entries, err := os.ReadDir(h.data("")); err != nil || len(entries) != 1 {
		t.Errorf("a refused start left %v in the data folder, %v", entries, err)
	}
}

// TestServeRefusesAWrongFolder: with the token map elsewhere, as a Kubernetes
// Secret is, only the store tells whether the folder is the right one.
func TestServeRefusesAWrongFolder(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	elsewhere := []string{"--tokens", "secret/tokens.yaml.age", "--tokens-key", "secret/tokens.key"}
	if r := h.run(append([]string{"token", "add", "demo"}, elsewhere...)...); r.code != 0 {
		t.Fatalf("token add: exit %d, %s", r.code, r.stderr)
	}
	if err := os.Mkdir(h.data(""), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write("data/somebody.else", "x")
	if r := h.run(append([]string{"serve"}, elsewhere...)...); r.code == 0 || !strings.Contains(r.stderr, "no store of caliper-edge") {
		t.Errorf("somebody else's folder: exit %d, %s", r.code, r.stderr)
	}
	s := h.serve(elsewhere...)
	s.stored(eventID("kept"))
	s.stop()
	if err := os.RemoveAll(h.data("jetstream")); err != nil {
		t.Fatal(err)
	}
	if r := h.run(append([]string{"serve"}, elsewhere...)...); r.code == 0 || !strings.Contains(r.stderr, "is gone") {
		t.Errorf("a folder that lost its store: exit %d, %s", r.code, r.stderr)
	}
}

func TestTwoInstancesSideBySide(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	one := h.serve()
	// A blank in the folder's name, which the printed line has to survive.
	two := h.serve("--data-dir", "data of two", "--prefix", "two")
	if one.token == two.token {
		t.Error("two data folders have the same token")
	}
	one.stored(eventID("one"))
	two.stored(eventID("two"))
	one.post(envelope("", "urn:x"), "Authorization", "Bearer "+two.token).want(t, 401, "")

	if ids := h.tail("standard"); ids[eventID("one")] != 1 || ids[eventID("two")] != 0 {
		t.Errorf("the first instance has %v", ids)
	}
	r := h.shell(printed(t, two.stdout.String(), suite.edge) + " --no-follow")
	if ids := recordIDs(t, r.stdout); ids[eventID("two")] != 1 || ids[eventID("one")] != 0 {
		t.Errorf("the second instance has %v, %s", ids, r.stderr)
	}
}

func TestASecondProcessOnAFolderIsRefused(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve()
	r := h.run("serve", "--init")
	if r.code == 0 || !strings.Contains(r.stderr, "in use by another process") || !strings.Contains(r.stderr, "data folder data") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	s.stored(eventID("first", "alone"))
	if ids := h.tail("standard"); len(ids) != 1 {
		t.Errorf("the first process has %v", ids)
	}
}
