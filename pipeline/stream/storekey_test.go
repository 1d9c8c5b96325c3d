package stream

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	keyOne  = "one-one-one-one-one-one-one-one-one"
	keyTwo  = "two-two-two-two-two-two-two-two-two"
	content = "what-nobody-may-find-in-a-file"
)

func openKeyed(t *testing.T, dir, key, old string) (*Publisher, error) {
	t.Helper()
	return OpenEmbedded(deadline(t), EmbeddedConfig{Dir: dir, Layout: testLayout(), Logger: quiet(), Key: key, OldKey: old})
}

func mustOpenKeyed(t *testing.T, dir, key, old string) *Publisher {
	t.Helper()
	p, err := openKeyed(t, dir, key, old)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// storeFiles is what lies in the store: a digest of each file, and the names of
// those that hold the text.
func storeFiles(t *testing.T, dir, text string) (sums map[string][32]byte, with []string) {
	t.Helper()
	sums = make(map[string][32]byte)
	err := filepath.WalkDir(filepath.Join(dir, "jetstream"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			with = append(with, path)
		}
		sums[path] = sha256.Sum256(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums, with
}

// fill publishes n messages, over several blocks, has a reader acknowledge one
// of them, and closes p.
func fill(t *testing.T, p *Publisher, dir string, n int) {
	t.Helper()
	pad := strings.Repeat("x", 500<<10)
	for i := range n {
		line := fmt.Sprintf(`{"n":%d,"text":%q,"pad":%q}`, i, content, pad)
		publish(t, p, message("standard", fmt.Sprint(i), line))
	}
	if _, err := AddReader(deadline(t), p.JetStream(), testLayout(), dir, "warehouse", "standard"); err != nil {
		t.Fatal(err)
	}
	c, err := p.JetStream().Consumer(deadline(t), "caliper-standard", "warehouse")
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.DoubleAck(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// intact demands n readable messages, the ids of which are known, and the
// reader at its place.
func intact(t *testing.T, p *Publisher, n int) {
	t.Helper()
	found := 0
	err := Tail(deadline(t), p.JetStream(), testLayout(), "standard", TailOptions{}, func(r []byte, _ Address) error {
		if bytes.Contains(r, []byte(content)) {
			found++
		}
		return nil
	})
	if err != nil || found != n {
		t.Errorf("%d messages are readable (%v), want %d", found, err, n)
	}
	if ack := publish(t, p, message("standard", "0", "{}")); !ack.Duplicate || ack.Sequence != 1 {
		t.Errorf("repetition: %+v, want a duplicate at 1", ack)
	}
	c, err := p.JetStream().Consumer(deadline(t), "caliper-standard", "warehouse")
	if err != nil {
		t.Fatalf("the reader is gone: %v", err)
	}
	if i := c.CachedInfo(); i.AckFloor.Stream != 1 || i.NumPending != uint64(n-1) {
		t.Errorf("the reader stands at %d with %d pending, want 1 and %d", i.AckFloor.Stream, i.NumPending, n-1)
	}
}

func TestEncryptedStore(t *testing.T) {
	dir, plain := t.TempDir(), t.TempDir()
	const n = 40 // of half a megabyte each: several blocks
	fill(t, mustOpenKeyed(t, plain, "", ""), plain, n)
	if _, with := storeFiles(t, plain, content); len(with) < 2 {
		t.Fatalf("without a key the text is in %q: the search finds nothing", with)
	}
	fill(t, mustOpenKeyed(t, dir, keyOne, ""), dir, n)
	if _, with := storeFiles(t, dir, content); len(with) > 0 {
		t.Errorf("the text stands in %q", with)
	}
	p := mustOpenKeyed(t, dir, keyOne, "")
	intact(t, p, n)
	if err := p.Probe(deadline(t)); err != nil { // opens it again
		t.Error(err)
	}
	intact(t, p, n)
}

// TestStoreKeyIsWrong: nothing is destroyed by a wrong key, or by one too many.
func TestStoreKeyIsWrong(t *testing.T) {
	dir, plain := t.TempDir(), t.TempDir()
	fill(t, mustOpenKeyed(t, dir, keyOne, ""), dir, 3)
	fill(t, mustOpenKeyed(t, plain, "", ""), plain, 3)
	for _, c := range []struct{ dir, key, old, want string }{
		{dir, keyTwo, "", "CALIPER_STORE_KEY does not open"},
		{dir, keyTwo, keyTwo, "CALIPER_STORE_KEY does not open"},
		{dir, "", "", "is encrypted"},
		{dir, "", keyOne, "is encrypted"},
		{plain, keyOne, "", "is not encrypted"},
	} {
		before, _ := storeFiles(t, c.dir, content)
		p, err := openKeyed(t, c.dir, c.key, c.old)
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), keyOne) || strings.Contains(err.Error(), keyTwo) {
			t.Errorf("key %q, old %q: %v, want an error with %q", c.key, c.old, err, c.want)
		}
		if after, _ := storeFiles(t, c.dir, content); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("key %q, old %q: the store has changed", c.key, c.old)
		}
	}
	intact(t, mustOpenKeyed(t, dir, keyOne, ""), 3)
	intact(t, mustOpenKeyed(t, plain, "", ""), 3)
}

func TestStoreKeyRotation(t *testing.T) {
	dir := t.TempDir()
	const n = 40
	fill(t, mustOpenKeyed(t, dir, keyOne, ""), dir, n)

	// A crash in the middle: some files are under the new key.
	seeds, _, err := findSeeds(dir)
	if err != nil || len(seeds) < 6 {
		t.Fatalf("%d keys in the store, %v; want those of 3 streams, a consumer and several blocks", len(seeds), err)
	}
	for i, s := range seeds {
		b, err := os.ReadFile(s.path)
		if err != nil {
			t.Fatal(err)
		}
		seed, err := s.open(b, keyOne)
		if err != nil {
			t.Fatalf("%s: %v", s.path, err)
		}
		if i%2 == 0 {
			nonce := bytes.Clone(b[:16])
			if err := os.WriteFile(s.path, s.sealer(keyTwo).Seal(nonce, nonce, seed, nil), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, key := range []string{keyOne, keyTwo} {
		if _, err := openKeyed(t, dir, key, ""); err == nil || !strings.Contains(err.Error(), "CALIPER_STORE_KEY_OLD") {
			t.Fatalf("with one key of two: %v", err)
		}
	}
	var log bytes.Buffer
	p, err := OpenEmbedded(deadline(t), EmbeddedConfig{Dir: dir, Layout: testLayout(), Key: keyTwo, OldKey: keyOne,
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	intact(t, p, n)
	publish(t, p, message("standard", "later", "{}"))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "under its new key") || strings.Contains(log.String(), keyOne) || strings.Contains(log.String(), keyTwo) {
		t.Errorf("log: %s", log.String())
	}
	if _, err := openKeyed(t, dir, keyOne, ""); err == nil {
		t.Error("the old key still opens the store")
	}
	p = mustOpenKeyed(t, dir, keyTwo, "")
	s, err := p.JetStream().Stream(deadline(t), "caliper-standard")
	if err != nil || s.CachedInfo().State.Msgs != n+1 {
		t.Errorf("stream %+v, %v, want %d messages", s, err, n+1)
	}
	if _, with := storeFiles(t, dir, content); len(with) > 0 {
		t.Errorf("the text stands in %q", with)
	}
}

func TestReadStoreKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.key")
	for text, want := range map[string]string{
		keyOne + "\n":     keyOne,
		"":                "",
		"short\n":         "",
		keyOne + " again": "",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := ReadStoreKey(path)
		if key != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, key, err, want)
		}
		if err != nil && (!strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "again")) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ReadStoreKey(path + ".gone"); err == nil {
		t.Error("no file is no error")
	}
}

// TestErasedMessage: a message that is deleted by its address leaves nothing in
// the files, and the others are readable.
func TestErasedMessage(t *testing.T) {
	dir := t.TempDir()
	p := mustOpenKeyed(t, dir, "", "")
	publish(t, p, message("standard", "1", `"of-somebody-who-stays"`))
	erased := publish(t, p, message("standard", "2", `"of-somebody-who-leaves"`))
	publish(t, p, message("standard", "3", `"of-a-third"`))
	if _, with := storeFiles(t, dir, "of-somebody-who-leaves"); len(with) == 0 {
		t.Fatal("the text is in no file: the search finds nothing")
	}
	s, err := p.JetStream().Stream(deadline(t), "caliper-standard")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SecureDeleteMsg(deadline(t), erased.Sequence); err != nil {
		t.Fatal(err)
	}
	for range 2 { // at once, and after a restart
		if _, with := storeFiles(t, dir, "of-somebody-who-leaves"); len(with) > 0 {
			t.Errorf("the text still stands in %q", with)
		}
		n := 0
		err := Tail(deadline(t), p.JetStream(), testLayout(), "standard", TailOptions{}, func([]byte, Address) error {
			n++
			return nil
		})
		if err != nil || n != 2 {
			t.Errorf("%d records are readable, %v, want 2", n, err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		p = mustOpenKeyed(t, dir, "", "")
	}
}
