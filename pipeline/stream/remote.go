package stream

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline"
)

const (
	// writeTimeout bounds one write to the server, and with it how much longer
	// than its context a Publish can take while the server does not read.
	writeTimeout = time.Second
	// dialTimeout bounds connecting, and probeTimeout a probe of an external server.
	dialTimeout  = 5 * time.Second
	probeTimeout = 2 * time.Second
	// pingInterval finds a peer that went away without a word in about 20 s.
	pingInterval = 10 * time.Second
)

// RemoteConfig is how to reach an external server.
type RemoteConfig struct {
	// URL is the server's, such as nats://user:password@host:4222.
	URL string
	// Layout says which streams there must be.
	Layout Layout
	// Logger takes losses of the connection. Nil means slog.Default().
	Logger *slog.Logger
}

// OpenRemote connects to an external server and creates the streams that are
// missing. It fails when the server cannot be reached before ctx is done;
// afterwards a lost connection is dialled for ever.
func OpenRemote(ctx context.Context, cfg RemoteConfig) (*Publisher, error) {
	if err := cfg.Layout.Check(); err != nil {
		return nil, err
	}
	lg := cfg.Logger
	if lg == nil {
		lg = slog.Default()
	}
	l, err := dial(ctx, cfg.URL, lg)
	if err != nil {
		return nil, fmt.Errorf("stream: NATS server %s cannot be reached: %w", redact(cfg.URL), err)
	}
	p := newPublisher(cfg.Layout)
	p.store = &remote{p: p}
	p.link.Store(l)
	if p.diffs, err = Ensure(ctx, l.js, cfg.Layout); err == nil {
		_, err = p.Status(ctx) // reads the replicas
	}
	if err != nil {
		l.nc.Close()
		return nil, err
	}
	return p, nil
}

// remote is an external server.
type remote struct{ p *Publisher }

func (r *remote) probe(ctx context.Context) error {
	// The answer to a request is lost with the connection it was sent on.
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return r.p.check(ctx)
}

// level follows contract section 3: three copies survive the loss of one host.
func (r *remote) level(replicas int) pipeline.Level {
	if replicas >= 3 {
		return pipeline.LevelReplicated
	}
	return pipeline.LevelStored
}

// settle: what the server does before it acknowledges is all there is.
func (r *remote) settle(string) error { return nil }

func (r *remote) addr() string { return "" }

func (r *remote) close() error {
	if l := r.p.link.Swap(nil); l != nil {
		l.nc.Close()
	}
	return nil
}

// dial connects to address and makes a link of it. Nothing is kept while there
// is no connection, so that nothing is sent behind the caller's back afterwards.
// A lost connection is dialled for ever; ctx bounds the first dial only.
func dial(ctx context.Context, address string, lg *slog.Logger, more ...nats.Option) (*link, error) {
	timeout := dialTimeout
	if d, ok := ctx.Deadline(); ok {
		timeout = max(min(timeout, time.Until(d)), time.Millisecond)
	}
	l := &link{}
	opts := append([]nats.Option{
		nats.Name("caliper-edge"),
		nats.Timeout(timeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.FlusherTimeout(writeTimeout),
		nats.PingInterval(pingInterval),
		nats.SetCustomDialer(guardedDialer{timeout: timeout}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			l.down.Store(true)
			if err != nil { // closing is no loss
				lg.Warn("connection to NATS lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			l.down.Store(false)
			lg.Info("connection to NATS stands again", "url", nc.ConnectedUrlRedacted())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			lg.Warn("connection to NATS", "error", err)
		}),
	}, more...)
	var err error
	if l.nc, err = nats.Connect(address, opts...); err != nil {
		return nil, err
	}
	if l.js, err = jetstream.New(l.nc); err != nil {
		l.nc.Close()
		return nil, err
	}
	return l, nil
}

// guardedDialer makes guarded connections.
type guardedDialer struct{ timeout time.Duration }

func (d guardedDialer) Dial(network, address string) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, d.timeout)
	if err != nil {
		return nil, err
	}
	return guardedConn{c}, nil
}

// guardedConn closes itself when a write fails or times out. The NATS client
// would keep a connection on which a write timed out, and every publisher in
// the queue for it would wait for a timeout of its own.
type guardedConn struct{ net.Conn }

func (c guardedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
		_ = c.Conn.Close()
	}
	return n, err
}

// redact takes user and password out of a server address, also where it is no
// proper URL.
func redact(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		u.User = nil
		return u.String()
	}
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return address[i+1:]
	}
	return address
}
