package tokenmap

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// home is a File in a folder of its own, without anything on the disk yet.
func home(t testing.TB) File {
	dir := t.TempDir()
	return File{
		Path:      filepath.Join(dir, "tokens.yaml.age"),
		KeyPath:   filepath.Join(dir, "tokens.key"),
		UsagePath: filepath.Join(dir, "usage.json"),
	}
}

// sealed encrypts a map with the key of f, which is made where there is none.
func sealed(t testing.TB, f File, yaml string) []byte {
	t.Helper()
	if there, err := exists(f.KeyPath); err != nil {
		t.Fatal(err)
	} else if !there {
		if err := f.Create(); err != nil {
			t.Fatal(err)
		}
	}
	out, err := seal([]byte(yaml), identities(t, f))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func identities(t testing.TB, f File) []age.Identity {
	t.Helper()
	key, err := f.key()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := f.identities(key)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// write puts content at path in one step: who watches sees the old or the new.
func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, f File, yaml string) {
	t.Helper()
	write(t, f.Path, sealed(t, f, yaml))
}

// rawText is the decrypted text of the map.
func rawText(t testing.TB, f File) string {
	t.Helper()
	src, err := os.Open(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	plain, err := age.Decrypt(armor.NewReader(src), identities(t, f)...)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// unarmored is the map encrypted without armor.
func unarmored(t testing.TB, f File, yaml string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := age.Encrypt(&out, identities(t, f)[0].(*age.X25519Identity).Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, yaml); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestLoadForms(t *testing.T) {
	text := item("x", tok('a', 40))
	f := home(t)
	armored := sealed(t, f, text)

	key, err := os.ReadFile(f.KeyPath)
	if err != nil {
		t.Fatal(err)
	}
	asText := File{Path: f.Path, KeyPath: "/nonexistent", Identity: "\n " + string(key) + "\n\n"}
	bare := asText
	bare.Identity = strings.Split(strings.TrimSpace(string(key)), "\n")[2]

	for name, tt := range map[string]struct {
		file   File
		sealed []byte
	}{
		"armored":                  {f, armored},
		"armored, CRLF and blanks": {f, []byte("\n" + strings.ReplaceAll(string(armored), "\n", "\r\n") + "\r\n")},
		"binary":                   {f, unarmored(t, f, text)},
		"identity as text":         {asText, armored},
		"identity as one line":     {bare, unarmored(t, f, text)},
	} {
		write(t, f.Path, tt.sealed)
		m, err := tt.file.Load()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p, ok := m.Lookup([]byte(tok('a', 40))); !ok || p.Tool != "x" {
			t.Errorf("%s: token not found", name)
		}
	}
}

func TestLoadPostQuantum(t *testing.T) {
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	f := home(t)
	f.Identity = hybrid.String()
	token, err := f.Add("x")
	if err != nil {
		t.Fatal(err)
	}
	// A change of keys: both kinds in the file, and the map moves to the stronger.
	f.Identity = classic.String() + "\n" + hybrid.String() + "\n"
	if _, err := f.Add("y"); err != nil {
		t.Fatal(err)
	}
	f.Identity = hybrid.String()
	m, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := m.Lookup([]byte(token)); !ok || p.Tool != "x" || m.Len() != 2 {
		t.Errorf("%v %v of %d", p, ok, m.Len())
	}
}

func TestEditSealsForEveryIdentity(t *testing.T) {
	first, second := home(t), home(t)
	put(t, first, "[]")
	put(t, second, "[]")
	one, _ := os.ReadFile(first.KeyPath)
	two, _ := os.ReadFile(second.KeyPath)
	both := File{Path: first.Path, Identity: string(one) + string(two)}
	if _, err := both.Add("x"); err != nil {
		t.Fatal(err)
	}
	for _, key := range [][]byte{one, two} {
		if m, err := (File{Path: first.Path, Identity: string(key)}).Load(); err != nil || m.Len() != 1 {
			t.Errorf("one of two keys: %v", err)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	token := tok('a', 64)
	text := item("x", token)
	good := home(t)
	armored := sealed(t, good, text)
	key, err := os.ReadFile(good.KeyPath)
	if err != nil {
		t.Fatal(err)
	}
	secret := string(bytes.TrimSpace(key[bytes.LastIndex(key, []byte("AGE-SECRET")):]))
	other := home(t)
	long := sealed(t, good, strings.Repeat(text, 3000)) // several chunks of 64 KiB
	cut := func(b []byte, n int) []byte {
		text := b[:n]
		return append(bytes.TrimSpace(text[:bytes.LastIndexByte(text, '\n')+1]), "\n-----END AGE ENCRYPTED FILE-----\n"...)
	}
	mistyped := secret[:30] + "L" + secret[31:]
	if mistyped == secret {
		mistyped = secret[:30] + "Q" + secret[31:]
	}
	tests := []struct {
		name   string
		sealed []byte // nil: no file
		key    string // "": no file
		path   string // of the error: "map" or "key"
		line   int
		want   string
	}{
		{"no map", nil, string(key), "map", 0, "cannot be opened: no such file"},
		{"no key", armored, "", "key", 0, "cannot be opened: no such file"},
		{"empty", []byte("\n"), string(key), "map", 0, "the file is empty"},
		{"not encrypted", []byte("- token: " + token + "\n  id: x\n"), string(key), "map", 0, "not encrypted with age"},
		{"plain text in the armor", []byte("-----BEGIN AGE ENCRYPTED FILE-----\n" + text), string(key), "map", 0, "the age header is damaged"},
		{"plain text in the header", []byte("age-encryption.org/v1\n-> " + token + "\n" + text), string(key), "map", 0, "the age header is damaged"},
		{"other version", []byte("age-encryption.org/v2\n" + text), string(key), "map", 0, "the age header is damaged"},
		{"other key", sealed(t, other, text), string(key), "map", 0, "encrypted to another key"},
		{"cut off in the header", armored[:60], string(key), "map", 0, "the age header is damaged"},
		{"cut off in the payload", cut(long, len(long)/2), string(key), "map", 0, "the encrypted part is damaged"},
		{"armor not closed", long[:len(long)-40], string(key), "map", 0, "the encrypted part is damaged"},
		{"more after the end", append(bytes.Clone(armored), text...), string(key), "map", 0, "the encrypted part is damaged"},
		{"bad entry", sealed(t, good, text+item("y", token)), string(key), "map", 4, "the same token as in line 2"},
		{"key without identity", armored, "# " + secret, "key", 0, "no age identity"},
		{"key with something else", armored, "# c\n" + token, "key", 2, "not a good age identity"},
		{"key mistyped", armored, "# c\n#\n" + mistyped, "key", 3, "not a good age identity"},
		{"key doubled in one line", armored, secret + " " + secret, "key", 1, "not a good age identity"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := home(t)
			if tt.sealed != nil {
				write(t, f.Path, tt.sealed)
			}
			if tt.key != "" {
				write(t, f.KeyPath, []byte(tt.key))
			}
			_, err := f.Load()
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want an *Error", err)
			}
			path := map[string]string{"map": f.Path, "key": f.KeyPath}[tt.path]
			if e.Path != path || e.Line != tt.line || !strings.HasPrefix(e.Reason, tt.want) {
				t.Errorf("error %q, want line %d of the %s: %s", err, tt.line, tt.path, tt.want)
			}
			if errors.Is(err, fs.ErrNotExist) != (tt.sealed == nil || tt.key == "") {
				t.Errorf("%v: is it fs.ErrNotExist?", err)
			}
			if quoted := leak(token+" "+secret, strings.ReplaceAll(err.Error(), "AGE-SECRET-KEY-", "")); quoted != "" {
				t.Errorf("error %q quotes %q", err, quoted)
			}
		})
	}
}

func TestLoadNamesIdentity(t *testing.T) {
	f := home(t)
	put(t, f, "[]")
	f.Identity = "AGE-SECRET-KEY-1XXX"
	if _, err := f.Load(); err == nil || !strings.HasPrefix(err.Error(), "CALIPER_TOKENS_IDENTITY: line 1: ") {
		t.Errorf("error %v", err)
	}
}

// One byte beyond the bound of parse is enough to be read, so that it is refused and not cut. (Binary, as armor of this
// size takes seconds under the race detector.)
func TestLoadBoundsPlainText(t *testing.T) {
	f := home(t)
	text := item("x", tok('a', 40)) + "#"
	put(t, f, "[]")
	write(t, f.Path, unarmored(t, f, text+strings.Repeat("x", maxPlainBytes-len(text)+1)))
	if _, err := f.Load(); err == nil || !strings.Contains(err.Error(), "more than 16777216 bytes of YAML") {
		t.Errorf("beyond the limit: %v", err)
	}
}

func TestReadBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, []byte("12345"))
	if content, err := readBounded(path, 5); err != nil || string(content) != "12345" {
		t.Errorf("at the limit: %q, %v", content, err)
	}
	if _, err := readBounded(path, 4); err == nil || !strings.HasSuffix(err.Error(), ": more than 4 bytes") {
		t.Errorf("beyond the limit: %v", err)
	}
}
