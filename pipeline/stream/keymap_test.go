package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline/keymap"
)

// importRows writes rows into the key map that js reaches.
func importRows(t *testing.T, js jetstream.JetStream, rows ...keymap.Row) keymap.Counts {
	t.Helper()
	kv, err := EnsureKeymap(deadline(t), js, testLayout())
	if err != nil {
		t.Fatal(err)
	}
	w := NewKeymapWriter(kv)
	for _, r := range rows {
		if err := w.Add(deadline(t), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(deadline(t)); err != nil {
		t.Fatal(err)
	}
	return w.Counts()
}

// follow follows the key map of p into a map, which it waits for.
func follow(t *testing.T, p *Publisher) (*keymap.Map, *KeymapFollower) {
	t.Helper()
	m := new(keymap.Map)
	f := FollowKeymap(FollowConfig{JetStream: p.JetStream, Layout: testLayout(), Map: m, Logger: quiet()})
	t.Cleanup(f.Close)
	select {
	case <-f.Loaded():
	case <-deadline(t).Done():
		t.Fatal("the key map was not loaded")
	}
	return m, f
}

func has(m *keymap.Map, value, key string) func() bool {
	return func() bool {
		got, known := m.Lookup("Engage", "course", []byte(value))
		return got == key && known == (key != "")
	}
}

func course(value, key string) keymap.Row {
	return keymap.Row{Tool: "Engage", Kind: "course", Value: value, Key: key}
}

func TestKeymapIsFollowed(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	_, js := connectOwn(t, dir)
	early, _ := follow(t, p)
	odd := "a.b *>\x00\né" + strings.Repeat("x", 10_000)
	if c := importRows(t, js, course("63", "C1"), course(odd, "C2")); c.Added != 2 {
		t.Errorf("counted %+v", c)
	}
	late, _ := follow(t, p)
	if !has(late, "63", "C1")() || !has(late, odd, "C2")() {
		t.Error("a loaded map has not what was imported before")
	}
	for name, m := range map[string]*keymap.Map{"early": early, "late": late} {
		eventually(t, name+" learns rows", has(m, "63", "C1"))
		eventually(t, name+" learns rows", has(m, odd, "C2"))
	}
	if c := importRows(t, js, course("63", "C9"), course("64", "C3"), course(odd, "C2"), course("65", "")); c.Changed != 1 || c.Added != 1 || c.Same != 2 {
		t.Errorf("counted %+v", c)
	}
	if c := importRows(t, js, course(odd, "")); c.Removed != 1 {
		t.Errorf("counted %+v", c)
	}
	for name, m := range map[string]*keymap.Map{"early": early, "late": late} {
		eventually(t, name+" learns changes", has(m, "63", "C9"))
		eventually(t, name+" learns new rows", has(m, "64", "C3"))
		eventually(t, name+" learns of removals", has(m, odd, ""))
		if m.Rows() != 2 {
			t.Errorf("%s has %d rows, want 2", name, m.Rows())
		}
	}
}

// TestKeymapOverReopening is that a follower survives what the pipeline's probe
// does to the store, and that a restart keeps the map.
func TestKeymapOverReopening(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	_, js := connectOwn(t, dir)
	m, _ := follow(t, p)
	importRows(t, js, course("63", "C1"))
	eventually(t, "the map learns", has(m, "63", "C1"))
	if err := p.Probe(deadline(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other connection stands again", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := OpenKeymap(ctx, js, testLayout())
		return err == nil
	})
	importRows(t, js, course("64", "C2"))
	eventually(t, "the map learns after a reopening", has(m, "64", "C2"))
	if !has(m, "63", "C1")() {
		t.Error("the map has lost a row")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	again, _ := follow(t, openDir(t, dir))
	if !has(again, "63", "C1")() || !has(again, "64", "C2")() {
		t.Error("after a restart rows are missing")
	}
}

func TestKeymapOfAnExternalServer(t *testing.T) {
	_, srv, remote := openRemote(t)
	one, _ := follow(t, remote)
	importRows(t, remote.JetStream(), course("63", "C1"))
	eventually(t, "the map learns", has(one, "63", "C1"))
	if err := srv.Probe(deadline(t)); err != nil { // the server restarts
		t.Fatal(err)
	}
	eventually(t, "the server answers", func() bool { return probeWorks(remote) })
	importRows(t, remote.JetStream(), course("64", "C2"))
	eventually(t, "the map learns after the server's restart", has(one, "64", "C2"))
}

// TestKeymapThatIsReplaced is a bucket that somebody deletes: what it held is
// forgotten once a new one is there.
func TestKeymapThatIsReplaced(t *testing.T) {
	p := openDir(t, t.TempDir())
	js := p.JetStream()
	m, f := follow(t, p)
	importRows(t, js, course("63", "C1"), course("64", "C2"))
	eventually(t, "the map learns", func() bool { return m.Rows() == 2 })
	kv, err := OpenKeymap(deadline(t), js, testLayout())
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(deadline(t), partitionKey(keymap.Partition("Engage", "course", []byte("64")))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a deleted key is forgotten", has(m, "64", ""))
	if c := importRows(t, js, course("64", "C3")); c.Added != 1 {
		t.Errorf("over a deleted key: %+v", c)
	}
	eventually(t, "the map learns over a deleted key", has(m, "64", "C3"))
	if _, err := kv.Put(deadline(t), partitionKey(keymap.Partition("Engage", "course", []byte("64"))), []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "damage is noticed", func() bool { return f.Faults() == 1 })
	if !has(m, "64", "C3")() {
		t.Error("a damaged partition replaced a good one")
	}
	if err := js.DeleteKeyValue(deadline(t), testLayout().KeymapBucket()); err != nil {
		t.Fatal(err)
	}
	importRows(t, js, course("70", "C7"))
	eventually(t, "the map learns of the new bucket", has(m, "70", "C7"))
	eventually(t, "the map forgets the old one", func() bool { return m.Rows() == 1 })
}

// TestImportsAtOnce is that none of two imports is lost.
func TestImportsAtOnce(t *testing.T) {
	p := openDir(t, t.TempDir())
	js := p.JetStream()
	importRows(t, js)
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() {
			for round := range 3 {
				var rows []keymap.Row
				for i := range 40 {
					rows = append(rows, course(fmt.Sprint("shared", i), fmt.Sprint(n)), course(fmt.Sprint(n, ".", round, ".", i), "K"))
				}
				importRows(t, js, rows...)
			}
		})
	}
	wg.Wait()
	m, _ := follow(t, p)
	if want := 40 + 3*3*40; m.Rows() != want {
		t.Errorf("%d rows, want %d", m.Rows(), want)
	}
}

func TestAFullKeymapSaysSo(t *testing.T) {
	p := openDir(t, t.TempDir())
	layout := testLayout()
	layout.KeymapBytes = 4 << 10
	kv, err := EnsureKeymap(deadline(t), p.JetStream(), layout)
	if err != nil {
		t.Fatal(err)
	}
	w := NewKeymapWriter(kv)
	for i := range 200 {
		if err := w.Add(deadline(t), course(fmt.Sprint(i), "C")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(deadline(t)); err == nil || !strings.Contains(err.Error(), "byte limit") {
		t.Errorf("a full bucket: %v", err)
	}
	layout.KeymapBytes = 1 << 20
	st, err := ShowKeymap(deadline(t), p.JetStream(), layout)
	if err != nil || st.Bytes > 4<<10 || st.Partitions == 0 || fmt.Sprint(st.Differences) != "[stream KV_caliper-keymap: byte limit is 4096, want 1048576]" {
		t.Errorf("status of a full bucket: %+v, %v", st, err)
	}
	if err := Apply(deadline(t), p.JetStream(), layout); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if err := w.Add(deadline(t), course(fmt.Sprint(i), "C")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(deadline(t)); err != nil {
		t.Errorf("with a larger limit: %v", err)
	}
	if m, _ := follow(t, p); m.Rows() != 200 {
		t.Errorf("%d rows, want 200", m.Rows())
	}
	if _, err := OpenKeymap(deadline(t), p.JetStream(), Layout{Prefix: "other"}); !errors.Is(err, jetstream.ErrBucketNotFound) {
		t.Errorf("a bucket that is not there: %v", err)
	}
}

// TestKeymapThatIsMissing is that a follower that may not make the bucket has an
// empty key map, says so once, and follows the bucket when somebody makes it.
func TestKeymapThatIsMissing(t *testing.T) {
	p := openForMoving(t, t.TempDir())
	var log bytes.Buffer
	var attempts atomic.Int64
	table := new(keymap.Map)
	f := FollowKeymap(FollowConfig{Layout: p.layout, VerifyOnly: true, Map: table, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		JetStream: func() jetstream.JetStream { attempts.Add(1); return p.JetStream() }})
	defer f.Close()
	<-f.Loaded()
	eventually(t, "it looks again and again", func() bool { return attempts.Load() >= 4 })
	importRows(t, p.JetStream(), course("63", "C63"))
	eventually(t, "it follows", func() bool { _, known := table.Lookup("Engage", "course", []byte("63")); return known })
	f.Close()
	if n := strings.Count(log.String(), "not followed"); n != 1 {
		t.Errorf("it was said %d times:\n%s", n, log.String())
	}
}
