//go:build linux

package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"caliperedge/bench/corpus"
)

// needGit skips where there is no git, or one that was told of another checkout than the folder's, as hooks are.
func needGit(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	if os.Getenv("GIT_DIR") != "" {
		t.Skip("GIT_DIR is set")
	}
}

// worktrees are those of the checkout that dir is in.
func worktrees(t *testing.T, dir string) string {
	t.Helper()
	out, err := git(dir, "worktree", "list", "--porcelain")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestBase measures HEAD beside this tree, but for a moment.
func TestBase(t *testing.T) {
	t.Parallel()
	needGit(t)
	if _, err := git(".", "rev-parse", "--verify", "HEAD^{commit}"); err != nil {
		t.Skip("not in a checkout: ", err)
	}
	dir := t.TempDir()
	set, err := parseFlags([]string{"-base", "HEAD", "-rounds", "2", "-duration", "300ms", "-warmup", "50ms", "-dir", dir, "-json", dir + "/json",
		"-rows", "kind=mix/items=1/connections=64/load=closed"}, io.Discard)
	if err != nil || len(set.rows) != 1 {
		t.Fatalf("%v, %v", set.rows, err)
	}
	set.buildFlags = nil
	set.rows[0].subjects = slices.DeleteFunc(set.rows[0].subjects, func(s subject) bool { return s == withRules || s == external })
	var progress bytes.Buffer
	report, err := measureAll(t.Context(), set, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	subjects := report.Rows[0].Subjects
	if len(subjects) != 4 || subjects[2].Name != embedded.name || subjects[3].Name != base.name {
		t.Fatalf("%v", subjects)
	}
	ours, theirs := subjects[2], subjects[3]
	if len(ours.Samples) != 2 || len(theirs.Samples) != 2 {
		t.Fatalf("%d and %d samples", len(ours.Samples), len(theirs.Samples))
	}
	for i, s := range ours.Samples {
		other := theirs.Samples[i]
		if !(other[requestRate] > 0) || !(other[serversMicros] > 0) || !(other[diskShare] > 0.05) {
			t.Errorf("%v", other)
		}
		same(t, string(baseShare), s[baseShare], s[requestRate]/other[requestRate])
		same(t, string(baseMicros), s[baseMicros], s[serversMicros]/other[serversMicros])
		if _, itself := other[baseShare]; itself || !(other[share] > 0) || !(other[floorShare] > 0) {
			t.Errorf("%v", other)
		}
	}
	var text bytes.Buffer
	report.writeText(&text)
	m := report.Machine
	head, err := git(".", "describe", "--always", "HEAD")
	if err != nil || m.Base != head {
		t.Errorf("base is %q, HEAD %q, %v", m.Base, head, err)
	}
	machine, _, _ := strings.Cut(text.String(), "\n")
	for _, part := range []string{m.CPU, "Linux " + m.Kernel, m.Go, "caliper-edge " + m.Revision + ", base " + head} {
		if !strings.Contains(machine, part) {
			t.Errorf("no %q in %s", part, machine)
		}
	}
	for _, part := range []string{"of base", "us of base", ours.Figures[baseShare].String(), ours.Figures[baseMicros].String()} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("no %q in\n%s", part, &text)
		}
	}
	if left := worktrees(t, "."); strings.Contains(left, dir) {
		t.Errorf("left behind: %s", left)
	}
	report.judgeAll()
	if slices.ContainsFunc(report.Bars, func(b Bar) bool { return b.Subject == base.name }) || len(report.Bars) != 2 {
		t.Errorf("%+v", report.Bars)
	}
}

// TestBaseThatDoesNotStart has a revision that knows no flag, below a tree that would be built: the error says which
// revision, and what it said.
func TestBaseThatDoesNotStart(t *testing.T) {
	t.Parallel()
	needGit(t)
	root, dir := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module old\n")
	write("loadtest/main.go", "package main\n\nfunc main() {}\n")
	write("main.go", `package main

import "os"

func main() {
	if os.Args[1] == "serve" {
		println("unknown flag: --content-encoding")
		os.Exit(2)
	}
}
`)
	commands := [][]string{
		{"init", "--quiet"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@example.edu", "-c", "commit.gpgsign=false", "commit", "--quiet", "--message=old"}, {"tag", "old"},
	}
	for _, args := range commands {
		if _, err := git(root, args...); err != nil {
			t.Fatal(err)
		}
	}
	write("main.go", "package main\n\nfunc main() {}\n")
	old, err := findRevision(root, "old")
	if err != nil {
		t.Fatal(err)
	}
	before := worktrees(t, root)
	b, err := prepare(t.Context(), settings{root: root, dir: dir, base: old}, io.Discard)
	if err == nil {
		b.close()
		t.Fatal("a base that does not start is none that can be measured")
	}
	for _, part := range []string{"base old: ", "ended at its start", "unknown flag: --content-encoding"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in %v", part, err)
		}
	}
	if left := worktrees(t, root); left != before {
		t.Errorf("worktrees are now %s", left)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestBaseRows: base stands behind embedded wherever that is, and nowhere else; neither is always the first of the two.
func TestBaseRows(t *testing.T) {
	all := ceilingRows()
	with, err := withBase(all)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range with {
		at := slices.Index(all[i].subjects, embedded)
		if want := at + 1; at >= 0 && slices.Index(r.subjects, base) != want || at < 0 && slices.Contains(r.subjects, base) {
			t.Errorf("%v: %v", r, r.subjects)
		}
		if slices.Contains(all[i].subjects, base) {
			t.Errorf("%v: the rows themselves have changed", r)
		}
		if at < 0 {
			continue
		}
		baseFirst := 0
		for round := range 2 * len(r.subjects) {
			order := turns(r.subjects, round)
			if slices.Index(order, base) < slices.Index(order, embedded) {
				baseFirst++
			}
			for _, s := range r.subjects {
				if !slices.Contains(order, s) || len(order) != len(r.subjects) {
					t.Errorf("%v, round %d: %v", r, round, order)
				}
			}
		}
		if baseFirst != len(r.subjects) {
			t.Errorf("%v: base is before embedded in %d rounds of %d", r, baseFirst, 2*len(r.subjects))
		}
	}
	if _, err := withBase([]row{{load{corpus.Mix, 1}, 256, half + external.name, []subject{ceiling, floor, external}}}); err == nil {
		t.Error("base would not be measured")
	}
	if base.program() == embedded.program() || withRules.program() != embedded.program() {
		t.Errorf("base runs as %s, embedded as %s", base.program(), embedded.program())
	}
}

// TestCompareBase: an open loop has no share of requests, wrk no processor time.
func TestCompareBase(t *testing.T) {
	for generator, want := range map[string]sample{
		closed:               {baseShare: 0.5, baseMicros: 2},
		half + embedded.name: {baseMicros: 2},
	} {
		s := sample{requestRate: 50, serversMicros: 80}
		s.compareBase(sample{requestRate: 100, serversMicros: 40}, row{generator: generator})
		for _, f := range []figure{baseShare, baseMicros} {
			if s[f] != want[f] {
				t.Errorf("%s: %s is %v, want %v", generator, f, s[f], want[f])
			}
		}
	}
	s := sample{requestRate: 50}
	s.compareBase(sample{requestRate: 100}, row{generator: wrk})
	if _, told := s[baseMicros]; told || s[baseShare] != 0.5 {
		t.Errorf("%v", s)
	}
	s.compareBase(nil, row{generator: closed})
	if s[baseShare] != 0.5 {
		t.Errorf("without a base: %v", s)
	}
}
