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
	"sync"
	"testing"

	"caliperedge/bench/corpus"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// runOwn runs an endpoint of ours until the test or stop ends it, and returns where it listens.
func runOwn(t *testing.T, serve func(context.Context, io.Writer) error) (url string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := serve(ctx, in)
		in.CloseWithError(err)
		ended <- err
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + strings.TrimSpace(strings.TrimPrefix(string(line[:n]), "listening on ")), stop
}

// runFloor runs the floor until the test ends and returns where it listens, and its file.
func runFloor(t *testing.T, encoding, without string) (url, file string) {
	t.Helper()
	dir := t.TempDir()
	url, _ = runOwn(t, func(ctx context.Context, out io.Writer) error {
		return serveFloor(ctx, dir, encoding, without, "", out)
	})
	return url, filepath.Join(dir, floorFile)
}

// post posts a body to an endpoint of ours and returns the status of the answer.
func post(t *testing.T, url string, body []byte) int {
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

// postMany posts so many envelopes of so many items at once, sees each taken, and returns them.
func postMany(t *testing.T, url string, kind corpus.Kind, n, items int) (sent []corpus.Envelope) {
	t.Helper()
	g := corpus.New(kind, 1)
	answers := make(chan int)
	for range n {
		e := g.Envelope(items, 0)
		sent = append(sent, e)
		go func() { answers <- post(t, url, e.Body) }()
	}
	for range n {
		if status := <-answers; status != 200 {
			t.Errorf("status %d", status)
		}
	}
	return sent
}

// TestFloorKeepsWhatItAnswers posts from several connections and finds every body that was answered in the file.
func TestFloorKeepsWhatItAnswers(t *testing.T) {
	url, file := runFloor(t, "zstd", "")
	sent := postMany(t, url, corpus.Mix, 40, 2)
	stored := readGroups(t, file)
	for _, e := range sent {
		if n := bytes.Count(stored, e.Body); n != 1 {
			t.Errorf("answered, and stored %d times: %s", n, e.Body)
		}
	}
	if status := post(t, url, []byte("{\"data\":[{\"id\":\"\x01\"}]}")); status != 400 {
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
	}{{"zstd", "", 400, true}, {"snappy", withoutPass, 200, true}, {"snappy", withoutPack, 400, false}, {"snappy", withoutAll, 200, false}} {
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

// readStream opens the store of an endpoint of ours that has ended, and returns what its messages hold, which are packed with
// Snappy or zstd.
func readStream(t *testing.T, dir, encoding string) (unpacked [][]byte) {
	t.Helper()
	unpack := func(packed []byte) ([]byte, error) { return s2.Decode(nil, packed) }
	if encoding == "zstd" {
		decoder, err := zstd.NewReader(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer decoder.Close()
		unpack = func(packed []byte) ([]byte, error) { return decoder.DecodeAll(packed, nil) }
	}
	store, err := openStore(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	s, err := store.JetStream().Stream(t.Context(), ownLayout.Stream(ownTopic))
	if err != nil {
		t.Fatal(err)
	}
	for sequence := uint64(1); sequence <= s.CachedInfo().State.LastSeq; sequence++ {
		m, err := s.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		group, err := unpack(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		unpacked = append(unpacked, group)
	}
	return unpacked
}

// TestFloorOnJetStream posts from several connections and finds every body that was answered in a message of the stream.
func TestFloorOnJetStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, stop := runOwn(t, func(ctx context.Context, out io.Writer) error {
		return serveFloor(ctx, dir, "snappy", "", onJetStream, out)
	})
	sent := postMany(t, url, corpus.Mix, 40, 10)
	if status := post(t, url, []byte("{")); status != 400 {
		t.Errorf("no JSON is answered %d", status)
	}
	stop()
	messages := readStream(t, dir, "snappy")
	for _, e := range sent {
		n := 0
		for _, m := range messages {
			n += bytes.Count(m, e.Body)
		}
		if n != 1 {
			t.Errorf("answered, and stored %d times: %.100s", n, e.Body)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, floorFile)); err == nil {
		t.Error("a file beside the stream")
	}
}
