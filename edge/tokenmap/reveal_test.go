package tokenmap

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
)

func TestReveal(t *testing.T) {
	dir := t.TempDir()
	f := File{Path: filepath.Join(dir, "tokens.yaml.age"), KeyPath: filepath.Join(dir, "tokens.key")}
	if _, err := f.Reveal("demo"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a map: %v", err)
	}
	var want string
	for _, tool := range []string{"demo", "other", "demo", "other"} {
		token, err := f.Add(tool)
		if err != nil {
			t.Fatal(err)
		}
		if tool == "demo" {
			want = token
		}
	}
	if got, err := f.Reveal("demo"); err != nil || got != want {
		t.Errorf("Reveal gives another token than the last one added: %v", err)
	}
	if _, err := f.Reveal("nobody"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of an unknown tool: %v", err)
	}
}
