package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline"
)

func TestStoredMessageHasTheContractsHeaders(t *testing.T) {
	p := openDir(t, t.TempDir())
	m := message("standard", "id-1", `{"a":1}`, `{"b":2}`)
	publish(t, p, m)
	m.ID, m.Encoding = "id-2", pipeline.EncodingSnappy
	publish(t, p, m)
	s, err := p.JetStream().Stream(deadline(t), "caliper-standard")
	if err != nil {
		t.Fatal(err)
	}
	for seq, want := range map[uint64]string{
		1: "map[Caliper-Bytes:[16] Caliper-Events:[2] Caliper-Record:[1] Content-Type:[application/x-ndjson] Nats-Msg-Id:[id-1]]",
		2: "map[Caliper-Bytes:[16] Caliper-Events:[2] Caliper-Record:[1] Content-Encoding:[snappy] Content-Type:[application/x-ndjson] Nats-Msg-Id:[id-2]]",
	} {
		got, err := s.GetMsg(deadline(t), seq)
		if err != nil {
			t.Fatal(err)
		}
		if h := fmt.Sprint(map[string][]string(got.Header)); h != want || got.Subject != "caliper.standard" || string(got.Data) != "{\"a\":1}\n{\"b\":2}\n" {
			t.Errorf("message %d on %s: headers %s, body %q", seq, got.Subject, h, got.Data)
		}
	}
}

func TestErrorsAreToldApart(t *testing.T) {
	api := func(code jetstream.ErrorCode, text string) error {
		return fmt.Errorf("nats: %w", &jetstream.APIError{ErrorCode: code, Description: text})
	}
	for _, c := range []struct {
		err  error
		want error // nil: unknown
	}{
		{api(10077, "maximum bytes exceeded"), pipeline.ErrStoreFull},
		{api(10077, "maximum messages exceeded"), pipeline.ErrStoreFull},
		{api(10002, "resource limits exceeded for account"), pipeline.ErrStoreFull},
		{api(10023, "insufficient resources"), pipeline.ErrStoreFull},
		{api(10054, "message size exceeds maximum allowed"), pipeline.ErrRefused},
		{api(10077, "message too large"), pipeline.ErrRefused},
		{nats.ErrMaxPayload, pipeline.ErrRefused},
		{api(10077, "store is closed"), nil},
		{api(10158, "duplicate message id is in process"), nil},
		{api(10167, "too many requests"), nil},
		{nats.ErrNoResponders, nil},
		{jetstream.ErrNoStreamResponse, nil},
		{nats.ErrDisconnected, nil},
		{nats.ErrReconnectBufExceeded, nil},
		{context.DeadlineExceeded, nil},
	} {
		err := publishError("s", c.err)
		full, refused := errors.Is(err, pipeline.ErrStoreFull), errors.Is(err, pipeline.ErrRefused)
		if full != (c.want == pipeline.ErrStoreFull) || refused != (c.want == pipeline.ErrRefused) {
			t.Errorf("%v became %v, want %v", c.err, err, c.want)
		}
		if c.want == nil && !errors.Is(err, c.err) {
			t.Errorf("%v is not wrapped by %v", c.err, err)
		}
	}
}

func TestLevelIsReadFromTheStream(t *testing.T) {
	_, srv, remote := openRemote(t)
	if got := publish(t, srv, message("standard", "1", "{}")).Level; got != pipeline.LevelFsync {
		t.Errorf("embedded: %s, want fsync", got)
	}
	if got := publish(t, remote, message("standard", "2", "{}")).Level; got != pipeline.LevelStored {
		t.Errorf("external with one replica: %s, want stored", got)
	}
	// A server with peers cannot be had in one process; what it reports can.
	for replicas, want := range map[int32]pipeline.Level{1: pipeline.LevelStored, 2: pipeline.LevelStored, 3: pipeline.LevelReplicated, 5: pipeline.LevelReplicated} {
		remote.routes["standard"].replicas.Store(replicas)
		if got := remote.Level("standard"); got != want {
			t.Errorf("%d replicas: %s, want %s", replicas, got, want)
		}
	}
	if err := remote.Probe(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if got := remote.Level("standard"); got != pipeline.LevelStored {
		t.Errorf("after a probe: %s, want what the stream says", got)
	}
	if got := remote.Level("nowhere"); got != "" {
		t.Errorf("unknown topic: %q", got)
	}
}

func TestMaxMessageBytes(t *testing.T) {
	_, srv, remote := openRemote(t)
	for name, p := range map[string]*Publisher{"embedded": srv, "remote": remote} {
		n := p.MaxMessageBytes()
		if n < 1_000_001 || n > 1<<20 {
			t.Errorf("%s: %d, want room for a record of 1,000,000 bytes and at most 1 MiB", name, n)
		}
		// Fits with the longest headers.
		m := &pipeline.Message{Topic: "standard", ID: name + strings.Repeat("x", 500), Encoding: "snappy",
			Records: 10_000, Bytes: 8 << 20, Body: make([]byte, n)}
		publish(t, p, m)
	}
}

func TestRemoteOutOfReach(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	_, err = OpenRemote(deadline(t), RemoteConfig{Server: Server{URL: "nats://joe:hush@" + address}, Layout: testLayout(), Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), address) || strings.Contains(err.Error(), "hush") {
		t.Errorf("OpenRemote: %v, want an error with the address and without the password", err)
	}
}

func TestRemoteComesBack(t *testing.T) {
	dir, srv, remote := openRemote(t)
	publish(t, remote, message("standard", "1", "{}"))
	_, port, err := net.SplitHostPort(srv.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	// Until it is noticed, a publish would go into the dead connection and wait for its answer.
	eventually(t, "the loss of the connection is noticed", remote.link.Load().down.Load)
	if !probeFails(remote) {
		t.Error("probe succeeds without a server")
	}
	start := time.Now()
	_, err = remote.Publish(deadline(t), message("standard", "2", "{}"))
	if err == nil || errors.Is(err, pipeline.ErrStoreFull) || errors.Is(err, pipeline.ErrRefused) {
		t.Errorf("publish without a server: %v, want an unknown outcome", err)
	}
	if took := time.Since(start); took > 20*time.Second { // it may take a minute
		t.Errorf("publish without a server took %v", took)
	}
	// For a moment the port can be that of somebody's outgoing connection.
	eventually(t, "the server is open again", func() bool {
		srv, err = OpenEmbedded(deadline(t), EmbeddedConfig{Dir: dir, Listen: "127.0.0.1:" + port, Layout: testLayout(), Logger: quiet()})
		return err == nil
	})
	defer srv.Close()
	eventually(t, "probe succeeds again", func() bool { return probeWorks(remote) })
	// Nothing was kept back and sent when the connection stood again.
	if ack := publish(t, remote, message("standard", "2", "{}")); ack.Duplicate || ack.Sequence != 2 {
		t.Errorf("the repetition: %+v, want the first of its ID at sequence 2", ack)
	}
}

// TestServerThatDoesNotRead: Publish comes back although the connection stands
// and takes no bytes, for all callers at once and not one after another.
func TestServerThatDoesNotRead(t *testing.T) {
	dir := t.TempDir()
	openDir(t, dir)
	proxy := newProxy(t, strings.TrimPrefix(mustURL(t, dir), "nats://"))
	access, err := readAccess(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := OpenRemote(deadline(t), RemoteConfig{Layout: testLayout(), Logger: quiet(),
		Server: Server{URL: "nats://" + access.User + ":" + access.Password + "@" + proxy.address()}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	publish(t, p, message("standard", "before", "{}"))
	proxy.frozen.Store(true)
	const callers, patience = 12, 200 * time.Millisecond
	start := time.Now()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			m := &pipeline.Message{Topic: "standard", ID: fmt.Sprint(i), Records: 1, Bytes: 1 << 19, Body: make([]byte, 1<<19)}
			_, err := p.Publish(ctx, m)
			if err == nil || errors.Is(err, pipeline.ErrStoreFull) || errors.Is(err, pipeline.ErrRefused) {
				t.Errorf("publish: %v, want an unknown outcome", err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(start); took > patience+callers*writeTimeout/2 { // one after another they would take them all
		t.Errorf("%d publishes with %v each took %v", callers, patience, took)
	}
	proxy.frozen.Store(false)
	proxy.drop()
	eventually(t, "probe succeeds again", func() bool { return probeWorks(p) })
	publish(t, p, message("standard", "after", "{}"))
}

func mustURL(t *testing.T, dir string) string {
	t.Helper()
	a, err := readAccess(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a.URL
}

// proxy forwards connections to a server and stops reading from its clients
// while it is frozen.
type proxy struct {
	l      net.Listener
	frozen atomic.Bool
	mu     sync.Mutex
	conns  []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l}
	t.Cleanup(func() { _ = l.Close(); p.drop() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			_ = c.(*net.TCPConn).SetReadBuffer(4 << 10) // so that a frozen one fills soon
			p.mu.Lock()
			p.conns = append(p.conns, c, s)
			p.mu.Unlock()
			go func() { _, _ = io.Copy(c, s) }()
			go p.forward(s, c)
		}
	}()
	return p
}

func (p *proxy) address() string { return p.l.Addr().String() }

func (p *proxy) forward(to, from net.Conn) {
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		for p.frozen.Load() {
			time.Sleep(5 * time.Millisecond)
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// drop ends all connections.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}
