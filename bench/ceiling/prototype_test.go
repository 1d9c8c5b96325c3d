//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"testing"

	"caliperedge/bench/corpus"
)

// TestPrototypeKeepsWhatItAnswers posts from several connections and finds every event that was answered on a line of a message.
func TestPrototypeKeepsWhatItAnswers(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"snappy", "zstd"} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			prototypeKeeps(t, encoding)
		})
	}
}

func prototypeKeeps(t *testing.T, encoding string) {
	dir := t.TempDir()
	url, stop := runOwn(t, func(ctx context.Context, out io.Writer) error { return servePrototype(ctx, dir, encoding, out) })
	sent := postMany(t, url, corpus.Engage, 40, 50)
	for _, body := range []string{"{", "[]", `{"data":[]}`, `{"data":[1]}`, `{"data":[{"type":"Event"}]}`} {
		if status := post(t, url, []byte(body)); status != 400 {
			t.Errorf("%s is answered %d", body, status)
		}
	}
	stop()
	messages := readStream(t, dir, encoding)
	lines := map[string]int{}
	for _, m := range messages {
		if len(m) > prototypeBatch {
			t.Errorf("a batch of %d bytes", len(m))
		}
		for line := range bytes.Lines(m) {
			lines[string(line)]++
		}
	}
	events := 0
	for _, e := range sent {
		var envelope struct{ Data []json.RawMessage }
		if err := json.Unmarshal(e.Body, &envelope); err != nil {
			t.Fatal(err)
		}
		for _, event := range envelope.Data {
			events++
			if n := lines[string(event)+"\n"]; n != 1 {
				t.Errorf("answered, and stored %d times: %.100s", n, event)
			}
		}
	}
	if len(lines) != events {
		t.Errorf("%d lines for %d events", len(lines), events)
	}
}

// TestPrototypeMode measures one row of each of its conditions, and -limit's endpoint over JetStream, but for a moment.
func TestPrototypeMode(t *testing.T) {
	t.Parallel()
	const repeated, fresh = "kind=engage/items=1/connections=64/load=wrk-repeated", "kind=engage/items=1/connections=64/load=closed"
	dir := t.TempDir()
	set, err := parseFlags([]string{"-prototype", "-rounds", "1", "-duration", "300ms", "-warmup", "50ms", "-dir", dir, "-json", dir + "/json", "-rows", "kind=engage/items=1/connections=64/"}, io.Discard)
	if err != nil || len(set.rows) != 2 || len(prototypeRows()) != 12 {
		t.Fatalf("%v, %v", set.rows, err)
	}
	limit := limitRows()[0]
	limit.subjects = []subject{ceiling, floor, limit.subjects[len(limit.subjects)-2]}
	set.buildFlags, set.rows = nil, append(set.rows, limit)
	var progress bytes.Buffer
	report, err := measureAll(t.Context(), set, &progress)
	if err != nil || report.Rows[0].Name != repeated || report.Rows[1].Name != fresh {
		t.Fatalf("%v\n%s", err, &progress)
	}
	for _, r := range report.Rows[:2] {
		names := []string{"floor", "prototype", "no-window"}
		if r.Name == fresh {
			names = append(names, "embedded")
		}
		found := r.medians()
		if _, err := exec.LookPath("wrk"); err != nil && r.Name == repeated {
			continue
		}
		if len(found) != 1+len(names) {
			t.Errorf("%s: %v", r.Name, found)
		}
		for _, name := range names {
			s := found[name]
			same(t, name+": "+string(share), s[share], s[requestRate]/found["ceiling"][requestRate])
			if name != "floor" {
				same(t, name+": "+string(floorShare), s[floorShare], s[requestRate]/found["floor"][requestRate])
			}
			if name != "prototype" {
				same(t, name+": "+string(prototypeShare), s[prototypeShare], s[requestRate]/found["prototype"][requestRate])
			} else if _, itself := s[prototypeShare]; itself || !(s[requestRate] > 0) {
				t.Errorf("%v", s)
			}
		}
	}
	if s := report.Rows[2].medians()["floor-jetstream"]; !(s[floorShare] > 0) || !(s[serversMicros] > 0) {
		t.Errorf("%v", s)
	}
	var text bytes.Buffer
	report.writeText(&text)
	for _, part := range []string{" of prototype", "\nof prototype", report.Rows[1].Subjects[3].Figures[prototypeShare].String()} {
		if !bytes.Contains(text.Bytes(), []byte(part)) {
			t.Errorf("no %q in\n%s", part, &text)
		}
	}
}
