package validate

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the .golden files in testdata")

type goldenFile struct {
	path  string
	valid bool
	body  []byte
}

// golden reads the bodies in testdata.
func golden(t testing.TB) (all []goldenFile) {
	t.Helper()
	for _, folder := range []string{"valid", "invalid"} {
		paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.json"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no bodies in testdata/%s: %v", folder, err)
		}
		for _, path := range paths {
			body, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, goldenFile{path, folder == "valid", body})
		}
	}
	return all
}

// TestGolden compares everything said about each body in testdata with the .golden file beside it.
func TestGolden(t *testing.T) {
	for _, f := range golden(t) {
		e, err := Parse(f.body, Options{})
		got := report(t, e, err)
		if ok := err == nil && e.Err() == nil && e.Conformant() == len(e.Items()); ok != f.valid {
			t.Errorf("%s: conforms as a whole %t, want %t", f.path, ok, f.valid)
		}
		if e != nil {
			if d := difference(e, refParse(f.body, Options{})); d != "" {
				t.Errorf("%s: %s", f.path, d)
			}
			e.Release()
		}
		path := strings.TrimSuffix(f.path, ".json") + ".golden"
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v; write it with -update", err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", f.path, got, want)
		}
	}
}

func report(t *testing.T, e *Envelope, err error) []byte {
	t.Helper()
	type item struct {
		Type, Action, Time string          `json:",omitempty"`
		Entity             bool            `json:",omitempty"`
		ID, Actor, EdApp   json.RawMessage `json:",omitempty"`
		Violations         []Violation     `json:",omitempty"`
	}
	var all struct {
		Syntax     *SyntaxError `json:",omitempty"`
		Err        string       `json:",omitempty"`
		Violations []Violation  `json:",omitempty"`
		Items      []item       `json:",omitempty"`
	}
	if e == nil {
		if !errors.As(err, &all.Syntax) {
			t.Fatalf("error %v is no SyntaxError", err)
		}
	} else {
		if e.Err() != nil {
			all.Err = e.Err().Error()
		}
		all.Violations = e.EnvelopeViolations()
		for i, it := range e.Items() {
			all.Items = append(all.Items, item{it.Type, it.Action, strings.Trim(string(it.Time[:]), "\x00"), it.Entity,
				it.ID, it.Actor, it.EdApp, e.ItemViolations(i)})
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(all); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
