//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caliperedge/bench/corpus"

	"github.com/klauspost/compress/zstd"
)

// runFloor runs the floor until the test ends and returns where it listens, and its file.
func runFloor(t *testing.T, encoding, without string) (url, file string) {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- serveFloor(ctx, dir, encoding, without, in) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + strings.TrimSpace(strings.TrimPrefix(string(line[:n]), "listening on ")), filepath.Join(dir, floorFile)
}

// TestFloorKeepsWhatItAnswers posts from several connections and finds every body that was answered in the file.
func TestFloorKeepsWhatItAnswers(t *testing.T) {
	url, file := runFloor(t, "zstd", "")
	post := func(body []byte) int {
		r, err := http.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0
		}
		defer r.Body.Close()
		if text, err := io.ReadAll(r.Body); r.StatusCode == 200 && (err != nil || string(text) != constantBody) {
			t.Errorf("%q, %v", text, err)
		}
		return r.StatusCode
	}
	g := corpus.New(corpus.Mix, 1)
	var bodies [][]byte
	answers := make(chan int)
	for range 40 {
		bodies = append(bodies, g.Envelope(2, 0).Body)
		go func(body []byte) { answers <- post(body) }(bodies[len(bodies)-1])
	}
	for range bodies {
		if status := <-answers; status != 200 {
			t.Errorf("status %d", status)
		}
	}
	stored := readGroups(t, file)
	for _, body := range bodies {
		if bytes.Count(stored, body) != 1 {
			t.Errorf("answered, and stored %d times: %s", bytes.Count(stored, body), body)
		}
	}
	if status := post([]byte("{\"data\":[{\"id\":\"\x01\"}]}")); status != 400 {
		t.Errorf("a raw control character is answered %d: the pass is not strict", status)
	}
}

// TestFloorWithout: what is left out is left out, and the rest is as it was.
func TestFloorWithout(t *testing.T) {
	plain := []byte(`{"data":[` + strings.Repeat(`"a",`, 1000) + `""]}`)
	for _, c := range []struct {
		encoding, without string
		broken            int  // what is answered to what is no JSON
		packed            bool // the group in the file
	}{{"snappy", "", 400, true}, {"snappy", withoutPass, 200, true}, {"snappy", withoutPack, 400, false}, {"snappy", withoutAll, 200, false}} {
		url, file := runFloor(t, c.encoding, c.without)
		for body, want := range map[string]int{string(plain): 200, "{": c.broken} {
			r, err := http.Post(url, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Body.Close()
			if r.StatusCode != want {
				t.Errorf("without %q: %.10s is answered %d, want %d", c.without, body, r.StatusCode, want)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if packed := !bytes.Contains(text, plain); packed != c.packed {
			t.Errorf("without %q: packed is %v", c.without, packed)
		}
	}
}

func readGroups(t *testing.T, file string) (all []byte) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for {
		size, n := binary.Uvarint(text)
		if size == 0 { // not written yet
			return all
		}
		bodies, err := d.DecodeAll(text[n:n+int(size)], nil)
		if err != nil {
			t.Fatal(err)
		}
		all, text = append(all, bodies...), text[n+int(size):]
	}
}
