package tokenmap

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"caliperedge/internal/journal"
)

// eventsOnly makes a Live that would not notice a change by polling within the time a test waits.
var eventsOnly = pace{settle: 20 * time.Millisecond, poll: time.Hour, save: time.Hour}

func start(t *testing.T, f File, p pace) (*Live, *journal.Journal) {
	t.Helper()
	j := new(journal.Journal)
	l, err := watch(f, j.Logger(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, j
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func knows(l *Live, token string) func() bool {
	return func() bool { _, ok := l.Lookup([]byte(token)); return ok }
}

func TestLiveFollowsChanges(t *testing.T) {
	a, b := tok('a', 40), tok('b', 40)
	overwrite := func(t *testing.T, path string, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(t *testing.T, f File, content []byte){
		"rename":   func(t *testing.T, f File, content []byte) { write(t, f.Path, content) },
		"in place": func(t *testing.T, f File, content []byte) { overwrite(t, f.Path, content) },
		"in pieces": func(t *testing.T, f File, content []byte) {
			dst, err := os.Create(f.Path)
			if err != nil {
				t.Fatal(err)
			}
			for piece := range bytes.Lines(content) {
				if _, err := dst.Write(piece); err != nil {
					t.Fatal(err)
				}
			}
			if err := dst.Close(); err != nil {
				t.Fatal(err)
			}
		},
		"moved away and back": func(t *testing.T, f File, content []byte) { // as editors do
			if err := os.Rename(f.Path, f.Path+"~"); err != nil {
				t.Fatal(err)
			}
			overwrite(t, f.Path, content)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := home(t)
			put(t, f, item("x", a))
			l, _ := start(t, f, eventsOnly)
			if !knows(l, a)() || knows(l, b)() {
				t.Fatal("not the first map")
			}
			next := sealed(t, f, item("y", b))
			// Twice, as a watch on the file itself would be lost with the first one.
			change(t, f, next)
			eventually(t, "the second map", knows(l, b))
			if knows(l, a)() {
				t.Error("a token that is gone is known")
			}
			change(t, f, sealed(t, f, item("x", a)))
			eventually(t, "the third map", knows(l, a))
			// The status follows the map, and a reader may have met a file half written.
			eventually(t, "its status", func() bool {
				s := l.Status()
				return s.Tokens == 1 && s.LastError == "" && time.Since(s.Loaded) < time.Minute
			})
		})
	}
}

// Kubernetes mounts a secret as links into a folder with a time in its name, and swaps the link to that folder.
func TestLiveFollowsKubernetesSwap(t *testing.T) {
	for name, identity := range map[string]bool{"key mounted, too": false, "key in the environment": true} {
		t.Run(name, func(t *testing.T) {
			a, b := tok('a', 40), tok('b', 40)
			src := home(t)
			put(t, src, "[]")
			key, err := os.ReadFile(src.KeyPath)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			f := File{Path: filepath.Join(dir, "tokens.yaml.age"), KeyPath: filepath.Join(dir, "tokens.key")}
			if identity {
				f.KeyPath, f.Identity = "", string(key)
			}
			mount := func(stamp, yaml string) {
				t.Helper()
				version := filepath.Join(dir, stamp)
				if err := os.Mkdir(version, 0o755); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(version, "tokens.yaml.age"), sealed(t, src, yaml))
				write(t, filepath.Join(version, "tokens.key"), key)
				link(t, stamp, filepath.Join(dir, "..data_tmp"))
				if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
					t.Fatal(err)
				}
			}
			mount("..2026_1", item("x", a))
			link(t, "..data/tokens.yaml.age", filepath.Join(dir, "tokens.yaml.age"))
			link(t, "..data/tokens.key", filepath.Join(dir, "tokens.key"))
			l, j := start(t, f, eventsOnly)
			if !knows(l, a)() {
				t.Fatal("not the first map")
			}
			mount("..2026_2", item("y", b))
			if err := os.RemoveAll(filepath.Join(dir, "..2026_1")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the second map", knows(l, b))
			mount("..2026_3", item("x", a))
			eventually(t, "the third map", knows(l, a))
			if s := l.Status(); s.Failures != 0 {
				t.Errorf("%+v\n%s", s, j)
			}
		})
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func TestLiveFollowsKey(t *testing.T) {
	a, b := tok('a', 40), tok('b', 40)
	other := home(t)
	next := sealed(t, other, item("y", b))
	key, _ := os.ReadFile(other.KeyPath)
	f := home(t)
	f.KeyPath = filepath.Join(t.TempDir(), "tokens.key") // a folder of its own
	put(t, f, item("x", a))
	l, _ := start(t, f, eventsOnly)
	write(t, f.Path, next)
	eventually(t, "a map for another key is refused", func() bool {
		return strings.Contains(l.Status().LastError, "encrypted to another key")
	})
	if !knows(l, a)() {
		t.Error("the former map is not in force")
	}
	write(t, f.KeyPath, key)
	eventually(t, "the key of the map", knows(l, b))
}

func TestLiveKeepsMapWhileFileIsBad(t *testing.T) {
	a, b := tok('a', 40), tok('b', 40)
	f := home(t)
	put(t, f, item("x", a))
	good, _ := os.ReadFile(f.Path)
	l, j := start(t, f, eventsOnly)
	loaded := l.Status().Loaded

	failures := uint64(0)
	refused := func(what, reason string) {
		t.Helper()
		failures++
		eventually(t, what, func() bool { return l.Status().Failures >= failures })
		s := l.Status()
		if s.Failures != failures || !strings.Contains(s.LastError, reason) || s.Tokens != 1 || !s.Loaded.Equal(loaded) {
			t.Errorf("%s: status %+v", what, s)
		}
		if !knows(l, a)() || knows(l, b)() {
			t.Errorf("%s: the former map is not in force", what)
		}
	}
	put(t, f, item("x", a)+item("y", b)+item("z", b))
	refused("a bad entry", "tokens.yaml.age: line 6: the same token as in line 4")
	if err := os.Remove(f.Path); err != nil {
		t.Fatal(err)
	}
	refused("no file", "no such file")
	write(t, f.Path, []byte(item("y", b)))
	refused("plain text", "not encrypted")

	// An explicit reload of the same is an error and counts, but is not logged again.
	failures++
	if err := l.Reload(); err == nil || !strings.Contains(err.Error(), "not encrypted") || l.Status().Failures != failures {
		t.Errorf("reload: %v, %+v", err, l.Status())
	}

	write(t, f.Path, good)
	eventually(t, "the error is gone", func() bool { return l.Status().LastError == "" })
	put(t, f, item("y", b))
	eventually(t, "a good map", knows(l, b))
	if s := l.Status(); s.Failures != failures || s.Tokens != 1 {
		t.Errorf("status %+v", s)
	}

	if err := l.Close(); err != nil { // no line is under way any more
		t.Fatal(err)
	}
	log := j.String()
	if n := strings.Count(log, "level=ERROR"); n != 3 {
		t.Errorf("%d errors logged, want 3:\n%s", n, log)
	}
	if !strings.Contains(log, `file=`+f.Path+` reason="the same token as in line 4" line=6`) {
		t.Errorf("file, line and reason are not in the log:\n%s", log)
	}
	if quoted := leak(a+" "+b, log); quoted != "" {
		t.Errorf("the log shows %q of a token:\n%s", quoted, log)
	}
}

// Other files of the folder change all the time; they do not make the map be read again as new.
func TestLiveLoadsNothingTwice(t *testing.T) {
	f := home(t)
	put(t, f, item("x", tok('a', 40)))
	l, j := start(t, f, pace{settle: time.Millisecond, poll: 5 * time.Millisecond, save: time.Hour})
	loaded := l.Status().Loaded
	put(t, f, "[")
	eventually(t, "a bad map is refused", func() bool { return l.Status().Failures > 0 })
	for range 20 {
		write(t, filepath.Join(filepath.Dir(f.Path), "other"), nil)
	}
	put(t, f, item("y", tok('b', 40))) // ends the wait: what came before was handled
	eventually(t, "a good map", knows(l, tok('b', 40)))
	if err := l.Close(); err != nil { // no line is under way any more
		t.Fatal(err)
	}
	if n := strings.Count(j.String(), "token map loaded"); n != 2 {
		t.Errorf("loaded %d times, want 2:\n%s", n, j)
	}
	if s := l.Status(); !s.Loaded.After(loaded) || strings.Count(j.String(), "level=ERROR") != int(s.Failures) {
		t.Errorf("%+v\n%s", s, j)
	}
}

func TestLivePolls(t *testing.T) {
	f := home(t)
	put(t, f, item("x", tok('a', 40)))
	linked := f
	linked.Path = filepath.Join(t.TempDir(), "link")
	link(t, f.Path, linked.Path)
	// The folder behind the link is not watched (the key's is, so that one moves away).
	linked.KeyPath = filepath.Join(t.TempDir(), "tokens.key")
	if err := os.Rename(f.KeyPath, linked.KeyPath); err != nil {
		t.Fatal(err)
	}
	l, _ := start(t, linked, pace{settle: time.Millisecond, poll: 10 * time.Millisecond, save: time.Hour})
	write(t, f.Path, sealed(t, linked, item("y", tok('b', 40))))
	eventually(t, "the map behind the link", knows(l, tok('b', 40)))

	// A folder that is put in anew is watched anew.
	dir := filepath.Dir(linked.Path)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no map", func() bool { return l.Status().LastError != "" })
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, linked.Path, sealed(t, linked, item("z", tok('c', 40))))
	eventually(t, "the map of the new folder", knows(l, tok('c', 40)))
}

func TestReload(t *testing.T) {
	a, b := tok('a', 40), tok('b', 40)
	f := home(t)
	put(t, f, item("x", a)+item("x", b))
	l, _ := start(t, f, pace{settle: time.Hour, poll: time.Hour, save: time.Hour})
	p, _ := l.Lookup([]byte(a))
	p.Touch(time.Unix(1_800_000_000, 0))
	put(t, f, item("x", a))
	if knows(l, b)(); l.Reload() != nil || knows(l, b)() {
		t.Error("not reloaded")
	}
	if again, _ := l.Lookup([]byte(a)); again != p {
		t.Error("a token that stays has a new Principal")
	}
	n := 0
	for q := range l.Principals() {
		n++
		if q != p {
			t.Error("not the Principal of Lookup")
		}
	}
	if s := l.Status(); n != 1 || s.Tokens != 1 || s.Failures != 0 {
		t.Errorf("%d tokens, status %+v", n, s)
	}
}

func TestWatchRefusesToStart(t *testing.T) {
	f := home(t)
	j := new(journal.Journal)
	lg := j.Logger()
	if _, err := Watch(f, lg); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no map: %v", err)
	}
	put(t, f, "[")
	if _, err := Watch(f, lg); err == nil || !strings.Contains(err.Error(), "line 1: not well-formed YAML") {
		t.Errorf("bad map: %v", err)
	}
	if j.String() != "" {
		t.Errorf("logged beside the error:\n%s", j)
	}
}

func TestWatchWarns(t *testing.T) {
	f := home(t)
	put(t, f, "[]")
	if err := os.Chmod(f.KeyPath, 0o644); err != nil {
		t.Fatal(err)
	}
	write(t, f.UsagePath, []byte("{"))
	_, j := start(t, f, eventsOnly)
	for _, want := range []string{"token map is empty", "open to every user", "last uses of tokens not known"} {
		if !strings.Contains(j.String(), want) {
			t.Errorf("no warning %q in\n%s", want, j)
		}
	}
	g := home(t)
	put(t, g, item("x", tok('a', 40)))
	if _, j := start(t, g, eventsOnly); strings.Contains(j.String(), "WARN") {
		t.Errorf("warning without a reason:\n%s", j)
	}
}

func TestUsageIsKept(t *testing.T) {
	a, b, c := tok('a', 40), tok('b', 40), tok('c', 40)
	at := time.Unix(1_800_000_000, 0).UTC()
	f := home(t)
	put(t, f, item("x", a)+item("y", b)+item("z", c))
	lg := slog.New(slog.NewTextHandler(io.Discard, nil))
	l, err := Watch(f, lg)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{a, b} {
		p, _ := l.Lookup([]byte(token))
		p.Touch(at)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !knows(l, a)() {
		t.Error("a closed Live does not know its map")
	}
	checkList(t, f, []Info{{"x", fingerprintOf(a), at}, {"y", fingerprintOf(b), at}, {"z", fingerprintOf(c), time.Time{}}})

	put(t, f, item("x", a)+item("z", c)) // y is gone, and with it its last use
	if l, err = Watch(f, lg); err != nil {
		t.Fatal(err)
	}
	if p, _ := l.Lookup([]byte(a)); !p.LastUsed().Equal(at) {
		t.Errorf("last used %v", p.LastUsed())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	content, _ := os.ReadFile(f.UsagePath)
	if want := "{\n \"" + fingerprintOf(a) + "\": \"2027-01-15T08:00:00Z\"\n}\n"; string(content) != want {
		t.Errorf("usage file %s, want %s", content, want)
	}

	write(t, f.UsagePath, []byte("[]"))
	infos, err := f.List()
	if len(infos) != 2 || err == nil || !strings.Contains(err.Error(), "usage.json: not a JSON object") {
		t.Errorf("with a bad usage file: %v, %v", infos, err)
	}
}

// Last uses are written while the program runs, and a failure is told once and mended.
func TestUsageIsSaved(t *testing.T) {
	a := tok('a', 40)
	f := home(t)
	put(t, f, item("x", a))
	f.UsagePath = filepath.Join(t.TempDir(), "sub", "usage.json")
	l, j := start(t, f, pace{settle: time.Millisecond, poll: time.Hour, save: 5 * time.Millisecond})
	p, _ := l.Lookup([]byte(a))
	at := time.Unix(1_800_000_000, 0).UTC()
	p.Touch(at)
	eventually(t, "a complaint", func() bool { return strings.Contains(j.String(), "last uses of tokens not written") })
	if err := os.Mkdir(filepath.Dir(f.UsagePath), 0o700); err != nil {
		t.Fatal(err)
	}
	saved := func() bool { u, _ := readUsage(f.UsagePath); return u[p.Fingerprint].Equal(p.LastUsed()) }
	eventually(t, "the first use", saved)
	p.Touch(at.Add(time.Second))
	eventually(t, "the second use", saved)
	if n := strings.Count(j.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d complaints, want 1:\n%s", n, j)
	}
	if err := os.RemoveAll(filepath.Dir(f.UsagePath)); err != nil {
		t.Fatal(err)
	}
	p.Touch(at.Add(2 * time.Second))
	eventually(t, "another complaint", func() bool { return strings.Count(j.String(), "level=ERROR") == 2 })
	if err := os.Mkdir(filepath.Dir(f.UsagePath), 0o700); err != nil {
		t.Fatal(err)
	}
}

// Requests look tokens up and touch them while the map is replaced under them.
func TestLiveUnderLoad(t *testing.T) {
	a := tok('a', 40)
	f := home(t)
	put(t, f, item("x", a))
	l, _ := start(t, f, pace{settle: time.Millisecond, poll: time.Millisecond, save: time.Millisecond})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				p, ok := l.Lookup([]byte(a))
				if !ok || p.Tool != "x" {
					t.Error("a token that stays was unknown for a moment")
					return
				}
				p.Touch(time.Now())
				_ = l.Status()
			}
		})
	}
	for range 20 {
		token, err := f.Add("y")
		if err != nil {
			t.Error(err)
			break
		}
		eventually(t, "the added token", knows(l, token))
	}
	close(stop)
	wg.Wait()
}
