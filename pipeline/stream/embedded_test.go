package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"caliperedge/internal/journal"
	"caliperedge/pipeline"
)

func TestRestartKeepsMessagesAndIDs(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	first := publish(t, p, message("standard", "1", `{"n":1}`))
	publish(t, p, message("standard", "2", `{"n":2}`))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Publish(deadline(t), message("standard", "3", `{}`)); err == nil {
		t.Error("publish after Close succeeded")
	}
	if err := p.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	p = openDir(t, dir)
	if again := publish(t, p, message("standard", "1", `{"n":1}`)); !again.Duplicate || again.Sequence != first.Sequence {
		t.Errorf("repetition after a restart: %+v, want a duplicate at %d", again, first.Sequence)
	}
	if next := publish(t, p, message("standard", "3", `{"n":3}`)); next.Sequence != 3 || next.Duplicate {
		t.Errorf("next message after a restart: %+v, want sequence 3", next)
	}
	list, err := p.Status(deadline(t))
	if err != nil || list[0].Messages != 3 {
		t.Errorf("status %+v, %v, want 3 messages", list, err)
	}
}

func TestFullStoreRecoversAfterPurge(t *testing.T) {
	p := openDir(t, t.TempDir())
	body := make([]byte, 8<<10)
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		_, err = p.Publish(deadline(t), &pipeline.Message{Topic: "tight", ID: fmt.Sprint(n), Records: 1, Bytes: len(body), Body: body})
	}
	if !errors.Is(err, pipeline.ErrStoreFull) {
		t.Fatalf("after %d messages: %v, want ErrStoreFull", n, err)
	}
	s, err := p.JetStream().Stream(deadline(t), "caliper-tight")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetMsg(deadline(t), 1); err != nil {
		t.Errorf("a full topic is not readable: %v", err)
	}
	if err := s.Purge(deadline(t)); err != nil {
		t.Fatal(err)
	}
	publish(t, p, message("tight", "after", "{}"))
	// A topic that discards its oldest never is full.
	for i := range 20 {
		publish(t, p, &pipeline.Message{Topic: "rejected", ID: fmt.Sprint(i), Records: 1, Bytes: len(body), Body: body})
	}
}

// TestReopenUnderLoad publishes while the store is opened again over and over.
// What was acknowledged is there once, at the sequence of the acknowledgement.
func TestReopenUnderLoad(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	address := p.Addr()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var mu sync.Mutex
	acked := map[uint64]string{}
	var publishers sync.WaitGroup
	for c := range 4 {
		publishers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("%d-%d", c, i)
				ack, ok := persist(ctx, t, p, message("standard", id, fmt.Sprintf("%q", id)))
				if !ok {
					return
				}
				mu.Lock()
				acked[ack.Sequence] = id
				mu.Unlock()
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acked)
	}
	for range 4 {
		before := count()
		eventually(t, "publishing goes on", func() bool { return count() > before+10 })
		var probes sync.WaitGroup
		for range 3 { // together they open it once
			probes.Go(func() {
				if err := p.Probe(ctx); err != nil {
					t.Errorf("probe: %v", err)
				}
			})
		}
		probes.Wait()
	}
	before := count()
	eventually(t, "publishing goes on", func() bool { return count() > before+10 })
	cancel()
	publishers.Wait()
	if p.Addr() != address {
		t.Errorf("address became %s, want it to stay %s", p.Addr(), address)
	}
	stored := map[string]uint64{}
	err := Tail(deadline(t), p.JetStream(), testLayout(), "standard", TailOptions{}, func(r []byte, at Address) error {
		id := strings.Trim(string(r), `"`)
		if s, twice := stored[id]; twice {
			t.Errorf("%s is stored at %d and at %d", id, s, at.Sequence)
		}
		stored[id] = at.Sequence
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for seq, id := range acked {
		if stored[id] != seq {
			t.Errorf("%s was acknowledged at %d and is stored at %d", id, seq, stored[id])
		}
	}
}

// persist publishes m until it is acknowledged, as the pipeline does, or ctx is
// done.
func persist(ctx context.Context, t *testing.T, p *Publisher, m *pipeline.Message) (pipeline.Ack, bool) {
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		ack, err := p.Publish(one, m)
		cancel()
		if err == nil {
			return ack, true
		}
		if errors.Is(err, pipeline.ErrRefused) || errors.Is(err, pipeline.ErrStoreFull) {
			t.Errorf("publish %s: %v, want an unknown outcome", m.ID, err)
		}
		time.Sleep(time.Millisecond)
	}
	return pipeline.Ack{}, false
}

func TestProbeKeepsItsDeadline(t *testing.T) {
	p := openDir(t, t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Probe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("probe after the end of its context: %v", err)
	}
	// The attempt went on; this waits for it or makes another.
	if err := p.Probe(deadline(t)); err != nil {
		t.Errorf("probe: %v", err)
	}
	publish(t, p, message("standard", "1", "{}"))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Probe(deadline(t)); !errors.Is(err, errClosed) {
		t.Errorf("probe of a closed publisher: %v", err)
	}
}

func TestProbeMissesAStream(t *testing.T) {
	p := openDir(t, t.TempDir())
	if err := p.JetStream().DeleteStream(deadline(t), "caliper-tight"); err != nil {
		t.Fatal(err)
	}
	if err := p.Probe(deadline(t)); err == nil || !strings.Contains(err.Error(), "caliper-tight") {
		t.Errorf("probe without a stream: %v, want an error with its name", err)
	}
}

func TestOneStoreOneProcess(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	_, err := OpenEmbedded(deadline(t), EmbeddedConfig{Dir: dir, Layout: testLayout(), Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("second open: %v", err)
	}
	publish(t, p, message("standard", "1", "{}")) // it did no harm
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	publish(t, openDir(t, dir), message("standard", "2", "{}"))
}

func TestOpenFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		change func(*EmbeddedConfig)
		want   string
	}{
		{func(c *EmbeddedConfig) { c.Listen = "0.0.0.0:0" }, "TLS"},
		{func(c *EmbeddedConfig) { c.Listen = ":0" }, "TLS"},
		{func(c *EmbeddedConfig) { c.Listen = "[::]:0" }, "TLS"},
		{func(c *EmbeddedConfig) { c.Listen = "192.0.2.1:0" }, "TLS"},
		{func(c *EmbeddedConfig) { c.Listen = "example.org:0" }, "TLS"},
		{func(c *EmbeddedConfig) { c.Listen = "4222" }, "listen address"},
		{func(c *EmbeddedConfig) { c.Listen = taken.Addr().String() }, taken.Addr().String()},
		{func(c *EmbeddedConfig) { c.Dir += "/missing" }, "missing"},
		{func(c *EmbeddedConfig) { c.Layout.Prefix = "" }, "prefix"},
		{func(c *EmbeddedConfig) {
			if err := os.WriteFile(filepath.Join(c.Dir, accessName), []byte(`{"password":"hush"`), 0o600); err != nil {
				t.Fatal(err)
			}
		}, accessName},
		{func(c *EmbeddedConfig) {
			if err := os.WriteFile(filepath.Join(c.Dir, readersName), []byte(`[]`), 0o600); err != nil {
				t.Fatal(err)
			}
		}, readersName},
		{func(c *EmbeddedConfig) {
			if err := os.WriteFile(filepath.Join(c.Dir, "jetstream"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a directory"},
	} {
		cfg := EmbeddedConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Layout: testLayout(), Logger: quiet()}
		dir := cfg.Dir
		c.change(&cfg)
		p, err := OpenEmbedded(deadline(t), cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("open: %v, want an error with %q", err, c.want)
		}
		if err == nil {
			_ = p.Close()
		}
		// What failed has let go of the folder.
		if lock, err := lockFile(filepath.Join(dir, lockName), false); err != nil {
			t.Errorf("after %q: %v", c.want, err)
		} else {
			_ = lock.Close()
		}
	}
}

func TestNoPort(t *testing.T) {
	dir := t.TempDir()
	p, err := OpenEmbedded(deadline(t), EmbeddedConfig{Dir: dir, Layout: testLayout(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	publish(t, p, message("standard", "1", "{}"))
	if p.Addr() != "" {
		t.Errorf("address %q, want none", p.Addr())
	}
	if err := p.Probe(deadline(t)); err != nil {
		t.Errorf("probe: %v", err)
	}
	if _, _, err := Connect(deadline(t), dir); err == nil || !strings.Contains(err.Error(), "CALIPER_NATS_LISTEN") {
		t.Errorf("connect: %v, want an error that names the setting", err)
	}
}

func TestConnect(t *testing.T) {
	dir := t.TempDir()
	fails := func(target, want string) {
		t.Helper()
		nc, _, err := Connect(deadline(t), target)
		if err == nil {
			nc.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("connect to %s: %v, want an error with %q", target, err, want)
		}
	}
	fails(dir, "caliper-edge serve")
	p := openDir(t, dir)
	connectOwn(t, dir)
	connectOwn(t, ownURL(t, dir))
	fails("nats://"+p.Addr(), "Authorization")
	before, err := readAccess(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	fails(dir, "start `caliper-edge serve`")
	openDir(t, dir)
	if after, err := readAccess(dir); err != nil || after.Password != before.Password {
		t.Errorf("the program's password did not stay over a restart (%v)", err)
	}
}

func TestBeyondLoopbackWithTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	dir := t.TempDir()
	p, err := OpenEmbedded(deadline(t), EmbeddedConfig{Dir: dir, Listen: "0.0.0.0:0", Layout: testLayout(), Logger: quiet(),
		TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	publish(t, p, message("standard", "1", "{}")) // in process, without TLS
	c, err := AddReader(deadline(t), p.JetStream(), testLayout(), dir, "warehouse", "standard")
	if err != nil {
		t.Fatal(err)
	}
	address := strings.Replace(p.Addr(), "0.0.0.0", "127.0.0.1", 1)
	user := nats.UserInfo(c.User, c.Password)
	var nc *nats.Conn
	eventually(t, "reader is let in over TLS", func() bool {
		nc, err = nats.Connect("tls://"+address, user, nats.Secure(&tls.Config{RootCAs: pool}))
		return err == nil
	})
	defer nc.Close()
	if got := fetch(t, nc, c, 1); len(got) != 1 {
		t.Errorf("fetched %v", got)
	}
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	fmt.Fprintf(raw, "CONNECT {\"user\":%q,\"pass\":%q}\r\nPING\r\n", c.User, c.Password)
	_ = raw.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 64<<10)
	var got strings.Builder
	for {
		n, err := raw.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if strings.Contains(got.String(), "PONG") {
		t.Error("the server answered a client without TLS")
	}
}

// Not parallel: it changes how long a server may take to end.
func TestStuck(t *testing.T) {
	told := make(chan struct{}, 1)
	open := func() *Publisher {
		p, err := OpenEmbedded(deadline(t), EmbeddedConfig{Dir: t.TempDir(), Layout: testLayout(), Logger: quiet(), Stuck: func() { told <- struct{}{} }})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := open()
	if err := p.Probe(deadline(t)); err != nil { // which ends the server and starts another
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told:
		t.Error("a server that ended in time was called stuck")
	default:
	}

	defer func(d time.Duration) { stopTimeout = d }(stopTimeout)
	stopTimeout = 0
	if err := open().Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told:
	case <-deadline(t).Done():
		t.Error("nobody was told of a server that did not end in time")
	}
}

// The lines of a format share their message, and what it is filled with is beside it.
func TestServerLog(t *testing.T) {
	var log journal.Journal
	l := serverLog{lg: log.Logger()}
	l.Warnf("Filestore [%s] is %d %% full: %+v", "standard", 90, errors.New("soon"))
	want := `msg="embedded NATS server: Filestore […] is … … full: …" message="Filestore [standard] is 90 % full: soon"`
	if got := log.String(); !strings.Contains(got, want) {
		t.Errorf("log is %s, want %s", got, want)
	}
}
