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

// TestFloorKeepsWhatItAnswers posts from several connections and finds every body that was answered in the file.
func TestFloorKeepsWhatItAnswers(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- serveFloor(ctx, dir, "zstd", in) }()
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + strings.TrimSpace(strings.TrimPrefix(string(line[:n]), "listening on "))
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
	stored := readGroups(t, filepath.Join(dir, floorFile))
	for _, body := range bodies {
		if bytes.Count(stored, body) != 1 {
			t.Errorf("answered, and stored %d times: %s", bytes.Count(stored, body), body)
		}
	}
	if status := post([]byte("{\"data\":[{\"id\":\"\x01\"}]}")); status != 400 {
		t.Errorf("a raw control character is answered %d: the pass is not strict", status)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
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
	for len(text) > 0 {
		size, n := binary.Uvarint(text)
		bodies, err := d.DecodeAll(text[n:n+int(size)], nil)
		if err != nil {
			t.Fatal(err)
		}
		all, text = append(all, bodies...), text[n+int(size):]
	}
	return all
}
