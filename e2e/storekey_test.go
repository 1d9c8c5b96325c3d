package e2e_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caliperedge/internal/natstest"
)

// filesWith lists the files below the installation's folder that hold text.
func (h *home) filesWith(text string) (names []string) {
	h.t.Helper()
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return names
}

// TestEncryptionAtRest takes a store through its life: begun with a key, killed,
// under another key, and never readable without one.
func TestEncryptionAtRest(t *testing.T) {
	t.Parallel()
	plain := newHome(t, "CALIPER_CONTENT_ENCODING=none")
	s := plain.serve()
	s.stored(eventID("rest"))
	if len(plain.filesWith(secretMark)) == 0 {
		t.Fatal("an event of a plain store is not found in its files: the search finds nothing")
	}
	s.stop()

	h := newHome(t, "CALIPER_CONTENT_ENCODING=none", "CALIPER_STORE_KEY=one.key")
	one, two := secret(strings.Repeat("first-", 6), "a store key"), secret(strings.Repeat("second-", 6), "a store key")
	h.write("one.key", one+"\n")
	h.write("two.key", two+"\n")
	s = h.serve()
	s.stored(eventID("rest", 1))
	s.kill()
	if files := h.filesWith(secretMark); len(files) > 0 {
		t.Errorf("event content stands in %q", files)
	}
	refused := func(want string, env ...string) {
		t.Helper()
		other := &home{t: t, dir: h.dir, env: append(h.env[:len(h.env):len(h.env)], env...)}
		if r := other.run("serve"); r.code != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("%v: exit %d, want 1 and %q: %s", env, r.code, want, r.stderr)
		}
	}
	refused("does not open", "CALIPER_STORE_KEY=two.key")
	refused("is encrypted", "CALIPER_STORE_KEY=")
	refused("gone.key", "CALIPER_STORE_KEY=gone.key")

	s = h.serve("--store-key", "two.key", "--store-key-old", "one.key")
	s.stored(eventID("rest", 2))
	s.stop()
	refused("does not open", "CALIPER_STORE_KEY=one.key")
	s = h.serve("--store-key", "two.key")
	s.stored(eventID("rest", 3))
	if found := h.tail("standard"); len(found) != 3 {
		t.Errorf("found %v, want three events", found)
	}
	s.stop()
	if files := h.filesWith(secretMark); len(files) > 0 {
		t.Errorf("event content stands in %q", files)
	}
}

// TestEncryptedSpool: the spool is under the same key, through a change of it,
// and what it held is forwarded.
func TestEncryptedSpool(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	h := newHome(t, "CALIPER_NATS_URL="+withUser(n), "CALIPER_SPOOL_DIR=spool", "CALIPER_CONTENT_ENCODING=none", "CALIPER_STORE_KEY=one.key")
	h.write("one.key", secret(strings.Repeat("first-", 6), "a store key"))
	h.write("two.key", secret(strings.Repeat("second-", 6), "a store key"))
	s := h.serve()
	s.stored(eventID("spool"))
	n.Kill()
	s.spooledEvent(eventID("spool", 1))
	s.kill()
	s = h.serve("--store-key", "two.key", "--store-key-old", "one.key")
	s.spooledEvent(eventID("spool", 2))
	if files := h.filesWith(secretMark); len(files) > 0 {
		t.Errorf("event content stands in %q", files)
	}
	s.stop()
	if r := h.run("serve"); r.code != 1 || !strings.Contains(r.stderr, "does not open") {
		t.Errorf("under the old key: exit %d, %s", r.code, r.stderr)
	}
	s = h.serve("--store-key", "two.key")
	n.Restart()
	s.straight()
	if found := h.tail("standard"); len(found) != 3 {
		t.Errorf("found %v, want three events", found)
	}
	s.stop()
}
