package tokenmap

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Mode().Perm()
}

func fingerprintOf(token string) string { return fingerprint(sha256.Sum256([]byte(token))) }

func TestAddRotateRevokeList(t *testing.T) {
	f := home(t)
	f.Path = filepath.Join(filepath.Dir(f.Path), "a", "b", "tokens.yaml.age")
	f.KeyPath = filepath.Join(filepath.Dir(f.KeyPath), "k", "tokens.key")
	first, err := f.Add("iClicker")
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.Rotate("iClicker")
	if err != nil {
		t.Fatal(err)
	}
	third, err := f.Add("true") // YAML would take it for something else
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Rotate("iclicker"); err == nil || !strings.Contains(err.Error(), `"iclicker" has no token`) {
		t.Errorf("rotate of an unknown tool: %v", err)
	}
	want := []Info{{Tool: "iClicker", Fingerprint: fingerprintOf(first)}, {Tool: "iClicker", Fingerprint: fingerprintOf(second)}, {Tool: "true", Fingerprint: fingerprintOf(third)}}
	checkList(t, f, want)
	for _, token := range []string{first, second, third} {
		if !regexp.MustCompile(`^[A-Za-z0-9]{64}$`).MatchString(token) {
			t.Errorf("token of %d characters", len(token))
		}
	}
	if tool, err := f.Revoke(strings.ToUpper(fingerprintOf(first))); err != nil || tool != "iClicker" {
		t.Errorf("revoke: %s, %v", tool, err)
	}
	checkList(t, f, want[1:])
	if _, err := f.Revoke(fingerprintOf(first)); err == nil || !strings.Contains(err.Error(), "no token has the fingerprint") {
		t.Errorf("revoked twice: %v", err)
	}
	for _, bad := range []string{"", "1234567", "123456789", "1234567g", second} {
		if _, err := f.Revoke(bad); err == nil || err.Error() != "a fingerprint is 8 hex digits" {
			t.Errorf("revoke %q: %v", bad, err)
		}
	}
	for _, token := range []string{second, third} {
		if _, err := f.Revoke(fingerprintOf(token)); err != nil {
			t.Error(err)
		}
	}
	checkList(t, f, nil)
	if _, err := f.Add("x"); err != nil {
		t.Errorf("added to an empty map: %v", err)
	}
	for path, want := range map[string]fs.FileMode{f.Path: 0o600, f.KeyPath: 0o600, f.Path + ".lock": 0o600,
		filepath.Dir(f.Path): 0o700, filepath.Dir(filepath.Dir(f.Path)): 0o700, filepath.Dir(f.KeyPath): 0o700} {
		if got := mode(t, path); got != want {
			t.Errorf("%s has mode %v, want %v", path, got, want)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(f.Path))
	if err != nil || len(entries) != 2 {
		t.Errorf("left beside the map: %v, %v", entries, err)
	}
}

func checkList(t *testing.T, f File, want []Info) {
	t.Helper()
	got, err := f.List()
	if err != nil || len(got) != len(want) {
		t.Fatalf("list: %v, %v, want %v", got, err, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("list: %v, want %v", got[i], want[i])
		}
	}
}

func TestAddRefusesTool(t *testing.T) {
	f := home(t)
	for _, tool := range []string{"", "a b", "a.b", tok('t', 65), "é"} {
		if _, err := f.Add(tool); err == nil || !strings.Contains(err.Error(), "id must be 1 to 64") {
			t.Errorf("%q: %v", tool, err)
		}
	}
	if there, _ := exists(f.KeyPath); there {
		t.Error("a refused tool left a key behind")
	}
	if _, err := f.Add(tok('t', 64)); err != nil {
		t.Error(err)
	}
}

func TestCreate(t *testing.T) {
	f := home(t)
	if err := f.Create(); err != nil {
		t.Fatal(err)
	}
	checkList(t, f, nil)
	key, _ := os.ReadFile(f.KeyPath)
	if !regexp.MustCompile(`^# created: \S+\n# public key: age1\S+\nAGE-SECRET-KEY-1\S+\n$`).Match(key) {
		t.Error("the key file is not in the form of age-keygen")
	}
	if _, err := f.Add("x"); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(f.Path)
	if err := f.Create(); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(f.Path)
	again, _ := os.ReadFile(f.KeyPath)
	if string(before) != string(after) || string(key) != string(again) {
		t.Error("what existed was written anew")
	}

	// A key alone: the map is made for it.
	if err := os.Remove(f.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Add("y"); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(f.KeyPath); string(key) != string(again) {
		t.Error("the key was written anew")
	}

	// A map alone: no key can be made for it.
	if err := os.Remove(f.KeyPath); err != nil {
		t.Fatal(err)
	}
	before, _ = os.ReadFile(f.Path)
	_, addErr := f.Add("z")
	for _, err := range []error{f.Create(), addErr} {
		var e *Error
		if !errors.As(err, &e) || e.Path != f.KeyPath || !strings.Contains(e.Reason, "the key is missing, but its map") {
			t.Errorf("map without key: %v", err)
		}
	}
	after, _ = os.ReadFile(f.Path)
	if there, _ := exists(f.KeyPath); there || string(before) != string(after) {
		t.Error("map without key: something was written")
	}
}

func TestCreateWithIdentity(t *testing.T) {
	other := home(t)
	put(t, other, "[]")
	key, _ := os.ReadFile(other.KeyPath)
	f := home(t)
	f.Identity = string(key)
	if err := f.Create(); err != nil {
		t.Fatal(err)
	}
	if there, _ := exists(f.KeyPath); there {
		t.Error("a key file was made beside the identity")
	}
	if m, err := f.Load(); err != nil || m.Len() != 0 {
		t.Errorf("%v", err)
	}
}

// A bad map, or none, is not touched by those edits that need one.
func TestEditNeedsGoodMap(t *testing.T) {
	f := home(t)
	if _, err := f.Rotate("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rotate without a map: %v", err)
	}
	if _, err := f.Revoke("00000000"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("revoke without a map: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(f.Path)); len(entries) != 0 {
		t.Errorf("something was made: %v", entries)
	}
	bad := sealed(t, f, item("x", "short"))
	write(t, f.Path, bad)
	if _, err := f.Add("x"); err == nil || !strings.Contains(err.Error(), "line 2: token has 5 characters") {
		t.Errorf("add to a bad map: %v", err)
	}
	if now, _ := os.ReadFile(f.Path); string(now) != string(bad) {
		t.Error("a bad map was replaced")
	}
}

func TestEditKeepsRestOfMap(t *testing.T) {
	a, b := tok('a', 40), tok('b', 40)
	f := home(t)
	put(t, f, "---\n# Tokens of the campus.\n\n# Old.\n- token: '"+a+"' # until May\n  id: 0123\n\n# Mrs. Doe asked for it\n- id: y\n  token: "+b+"\n# the end\n")
	token, err := f.Add("z")
	if err != nil {
		t.Fatal(err)
	}
	text := rawText(t, f)
	for _, want := range []string{"# Tokens of the campus.\n\n# Old.\n- token: ", "'" + a + "' # until May\n  id: 0123\n", "# Mrs. Doe asked for it\n- id: y\n", "# the end", "- id: z\n  token: " + token + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("after Add %q is missing in\n%s", want, text)
		}
	}
	if _, err := f.Revoke(fingerprintOf(a)); err != nil {
		t.Fatal(err)
	}
	text = rawText(t, f)
	if !strings.HasPrefix(text, "# Tokens of the campus.\n") || strings.Contains(text, "until May") || strings.Contains(text, "Old") || !strings.Contains(text, "# Mrs. Doe asked for it\n- id: y\n") {
		t.Errorf("after Revoke of the first:\n%s", text)
	}
	if _, err := f.Revoke(fingerprintOf(b)); err != nil {
		t.Fatal(err)
	}
	if text = rawText(t, f); strings.Contains(text, "Mrs. Doe") {
		t.Errorf("the comment of a revoked token is still there:\n%s", text)
	}
}

func TestEditKeepsModeAndLink(t *testing.T) {
	f := home(t)
	put(t, f, "[]")
	if err := os.Chmod(f.Path, 0o640); err != nil {
		t.Fatal(err)
	}
	link := f
	link.Path = filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(f.Path, link.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := link.Add("x"); err != nil {
		t.Fatal(err)
	}
	if got := mode(t, f.Path); got != 0o640 {
		t.Errorf("mode %v", got)
	}
	if m, err := f.Load(); err != nil || m.Len() != 1 {
		t.Errorf("the file behind the link was not edited: %v", err)
	}
	if st, err := os.Lstat(link.Path); err != nil || st.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	// A link to nothing is a volume that is not there, not a map to create.
	if err := os.Remove(f.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := link.Add("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("link to nothing: %v", err)
	}
}

// What an edit would write is read before it counts.
func TestBadEditLeavesMap(t *testing.T) {
	f := home(t)
	put(t, f, item("x", tok('a', 40)))
	before, _ := os.ReadFile(f.Path)
	for want, edit := range map[string]func(*document) error{
		"left as it was; the edited map would be bad: token has 5 characters": func(d *document) error {
			d.list.Content[0].Content[3].Value = "short"
			return nil
		},
		"left as it was; the edited map would not read the same": func(d *document) error {
			d.entries[0].tool = "y"
			return nil
		},
		"no": func(*document) error { return errors.New("no") },
	} {
		if err := f.change(f.Path, edit); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if after, _ := os.ReadFile(f.Path); string(before) != string(after) {
		t.Error("the map was changed")
	}
}

func TestEditWithoutPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere")
	}
	f := home(t)
	put(t, f, item("x", tok('a', 40)))
	before, _ := os.ReadFile(f.Path)
	dir := filepath.Dir(f.Path)
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o700)
	if _, err := f.Add("y"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v", err)
	}
	if after, _ := os.ReadFile(f.Path); string(before) != string(after) {
		t.Error("the map was changed")
	}
}

// Two tokens of one map may share a fingerprint; to revoke by it is refused.
func TestRevokeAmbiguous(t *testing.T) {
	tokens := make(map[string]string)
	var one, two string
	for one == "" { // about 80,000 rounds, the birthday bound of 32 bits
		two = newToken()
		print := fingerprintOf(two)
		one = tokens[print]
		tokens[print] = two
	}
	f := home(t)
	put(t, f, item("x", one)+item("y", two))
	if _, err := f.Revoke(fingerprintOf(one)); err == nil || !strings.Contains(err.Error(), "fits two tokens, of x and of y") {
		t.Errorf("error %v", err)
	}
	if infos, err := f.List(); err != nil || len(infos) != 2 {
		t.Errorf("list %v, %v", infos, err)
	}
}

func TestNewTokenIsUnbiased(t *testing.T) {
	const tokens = 4000
	count := make(map[rune]int)
	for range tokens {
		for _, c := range newToken() {
			count[c]++
		}
	}
	if len(count) != 62 {
		t.Errorf("%d characters in use", len(count))
	}
	// 4129 expected, standard deviation 64. With a plain modulo A to H would stand at 5000.
	for c, n := range count {
		if mean := tokens * tokenChars / 62; n < mean-500 || n > mean+500 {
			t.Errorf("%c: %d times, want about %d", c, n, mean)
		}
	}
}

// addersEnv makes the test binary add tokens instead of testing, as another process.
const addersEnv = "TOKENMAP_TEST_ADD_TO"

func TestMain(m *testing.M) {
	if dir := os.Getenv(addersEnv); dir != "" {
		f := File{Path: filepath.Join(dir, "tokens.yaml.age"), KeyPath: filepath.Join(dir, "tokens.key")}
		for range 10 {
			if _, err := f.Add("other"); err != nil {
				println(err.Error())
				os.Exit(1)
			}
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// No edit is lost, and one key is made, whoever comes first.
func TestAddAtTheSameTime(t *testing.T) {
	f := home(t)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), addersEnv+"="+filepath.Dir(f.Path))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if _, err := f.Add("own"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	count := make(map[string]int)
	m, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	for p := range m.Principals() {
		count[p.Tool]++
	}
	if count["own"] != 20 || count["other"] != 20 {
		t.Errorf("%v, want 20 each", count)
	}
}
