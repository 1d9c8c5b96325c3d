package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caliperedge/shapes"
)

// Topics and files of every kind give the same shapes, in the periods that were
// asked for.
func TestShapesCommand(t *testing.T) {
	record := func(tool, received, event string) string {
		return `{"tool":"` + tool + `","topic":"standard","received":"` + received + `","event":` + event + `}`
	}
	more := strings.Replace(testEvent("jane"), `"actor":"https://e/1"`, `"actor":{"id":"https://e/1"},"group":null`, 1)
	lines := []string{
		record("T", "2026-11-01T00:00:00.000Z", testEvent("a")),
		record("T", "2026-11-20T00:00:00.000Z", more),
		record("Other", "2026-11-20T00:00:00.000Z", testEvent("b")),
		record("T", "2026-11-20T00:00:00.000Z", `{"data":[`+more+`]}`), // a body as a whole
		`{"tool":"T","received":"2026-11-20T00:00:00.000Z","raw":"e30="}`,
	}
	dir, _ := storeOf(t, "", "standard", lines...)
	file := filepath.Join(t.TempDir(), "records.ndjson")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"standard", file} {
		args := []string{"shapes", from, "--data-dir", dir, "--since", "2026-11-10", "--until", "2026-11-30", "--compare-since", "2026-10-01", "--tool", "T", "--format", "json"}
		out, _, err := runCommand(t, args...)
		var r shapes.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err != nil || r.Events != [2]int{1, 2} || len(r.Shapes) != 1 || r.Title != filepath.Base(from) {
			t.Fatalf("%s: %+v, %v", from, r, err)
		}
		if got, want := strings.Join(r.Shapes[0].Changes, "|"), "actor: was string, is object|actor.id: new|group: new"; got != want {
			t.Errorf("%s: changes %s, want %s", from, got, want)
		}
		if strings.Contains(out, "jane") {
			t.Errorf("%s: a value is in the report", from)
		}
	}
	envelope := filepath.Join(t.TempDir(), "envelope.json")
	if err := os.WriteFile(envelope, []byte(`{`+testEnvelopeHead+`,"data":[`+testEvent("a")+`,`+more+`]} `+testEvent("c")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _, err := runCommand(t, "shapes", envelope, "--values"); err != nil || !strings.Contains(out, "-  NavigationEvent / NavigatedTo  edApp -  3 events") || !strings.Contains(out, "jane") {
		t.Errorf("an envelope and an event: %s, %v", out, err)
	}
	if out, _, err := runCommand(t, "shapes", envelope, "--format", "html"); err != nil || !strings.HasPrefix(out, "<!DOCTYPE html>") || !strings.Contains(out, "NavigationEvent / NavigatedTo") {
		t.Errorf("as a page: %.100s, %v", out, err)
	}
	for _, args := range [][]string{{"nowhere"}, {envelope, "--format", "pdf"}, {envelope, "--compare-since", "1h"}, {envelope, "--since", "soon"},
		{envelope, "--since", "2026-11-02", "--until", "2026-11-01"}, {envelope, "--compare-since", "2026-11-02", "--compare-until", "2026-11-01"}} {
		if out, _, err := runCommand(t, append(append([]string{"shapes"}, args...), "--data-dir", dir)...); err == nil {
			t.Errorf("%v: %s", args, out)
		}
	}

	// A folder with the name of a topic is no file, and what is no JSON is found.
	t.Chdir(t.TempDir())
	if err := os.Mkdir("standard", 0o700); err != nil {
		t.Fatal(err)
	}
	if out, _, err := runCommand(t, "shapes", "standard", "--data-dir", dir); err != nil || !strings.Contains(out, "standard: 4 events") {
		t.Errorf("beside a folder: %s, %v", out, err)
	}
	if err := os.WriteFile(file, []byte(lines[0]+"\n{\"a\": x}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := runCommand(t, "shapes", file); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("records.ndjson: behind byte %d: invalid character 'x'", len(lines[0]))) {
		t.Errorf("a file that is no JSON: %v", err)
	}
}
