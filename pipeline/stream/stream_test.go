package stream

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline"
	"caliperedge/pipeline/pipelinetest"
)

func testLayout() Layout {
	return Layout{Prefix: "caliper", Topics: []Topic{
		{Name: "standard", MaxAge: time.Hour, MaxBytes: 32 << 20},
		{Name: "tight", MaxAge: time.Hour, MaxBytes: pipelinetest.TightBytes},
		{Name: "rejected", MaxAge: time.Hour, MaxBytes: 64 << 10, DiscardOld: true},
	}}
}

// deadline is the context of a step of a test: long for a busy machine.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func openDir(t *testing.T, dir string) *Publisher {
	t.Helper()
	p, err := OpenEmbedded(deadline(t), EmbeddedConfig{Dir: dir, Listen: "127.0.0.1:0", Layout: testLayout(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

// quiet shows errors only.
func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError + 1}))
}

// connectOwn connects as the program's own commands do.
func connectOwn(t *testing.T, dir string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, js, err := Connect(deadline(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, js
}

// ownURL is the address of the server on dir with the program's credential, as
// an operator would write it for an external server.
func ownURL(t *testing.T, dir string) string {
	t.Helper()
	a, err := readAccess(dir)
	if err != nil {
		t.Fatal(err)
	}
	return "nats://" + a.User + ":" + a.Password + "@" + a.URL[len("nats://"):]
}

func message(topic, id string, lines ...string) *pipeline.Message {
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	return &pipeline.Message{Topic: topic, ID: id, Records: len(lines), Bytes: b.Len(), Body: b.Bytes()}
}

func publish(t *testing.T, p *Publisher, m *pipeline.Message) pipeline.Ack {
	t.Helper()
	ack, err := p.Publish(deadline(t), m)
	if err != nil {
		t.Fatal(err)
	}
	return ack
}

// probeFails and probeWorks probe with the patience of the pipeline.
func probeWorks(p *Publisher) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return p.Probe(ctx) == nil
}

func probeFails(p *Publisher) bool { return !probeWorks(p) }

// eventually polls until ok, for at most two minutes: the machine may be busy.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 2 min: %s", what)
		}
	}
}

func streamState(t *testing.T, js jetstream.JetStream, name string) string {
	t.Helper()
	s, err := js.Stream(deadline(t), name)
	if err != nil {
		t.Fatal(err)
	}
	i := s.CachedInfo()
	return fmt.Sprintf("%d messages, %d to %d, config %+v", i.State.Msgs, i.State.FirstSeq, i.State.LastSeq, i.Config)
}

func TestEmbeddedConforms(t *testing.T) {
	pipelinetest.TestPublisher(t, func(t *testing.T) pipeline.Publisher { return openDir(t, t.TempDir()) })
}

func TestRemoteConforms(t *testing.T) {
	pipelinetest.TestPublisher(t, func(t *testing.T) pipeline.Publisher {
		_, _, remote := openRemote(t)
		return remote
	})
}

// openRemote starts a server, known by its URL only, and a publisher to it.
func openRemote(t *testing.T) (dir string, srv, remote *Publisher) {
	t.Helper()
	dir = t.TempDir()
	srv = openDir(t, dir)
	remote, err := OpenRemote(deadline(t), RemoteConfig{Server: Server{URL: ownURL(t, dir)}, Layout: testLayout(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = remote.Close() })
	return dir, srv, remote
}

func TestFilesAreTheOwners(t *testing.T) {
	dir := t.TempDir()
	openDir(t, dir)
	for _, name := range []string{accessName, lockName} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, fi.Mode())
		}
	}
}
