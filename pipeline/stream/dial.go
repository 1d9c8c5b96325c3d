package stream

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// writeTimeout bounds one write to the server, and with it how much longer
	// than its context a Publish can take while the server does not read.
	writeTimeout = time.Second
	// dialTimeout bounds connecting to one server.
	dialTimeout = 5 * time.Second
	// pingInterval finds a peer that went away without a word in about 20 s,
	// where nobody publishes meanwhile.
	pingInterval = 10 * time.Second
)

// dial connects to address and makes a link of it. Nothing is kept while there
// is no connection, so that nothing is sent behind the caller's back afterwards.
// A lost connection is dialled for ever; ctx bounds the first dial only. changed,
// where it is not nil, is called whenever a connection comes to stand or is lost.
func dial(ctx context.Context, address string, lg *slog.Logger, changed func(), more ...nats.Option) (*link, error) {
	timeout := dialTimeout
	if d, ok := ctx.Deadline(); ok {
		timeout = max(min(timeout, time.Until(d)), time.Millisecond)
	}
	l := &link{since: time.Now()}
	l.up()
	stands := func(what string) nats.ConnHandler {
		return func(nc *nats.Conn) {
			l.up()
			lg.Info(what, "url", nc.ConnectedUrlRedacted())
			if changed != nil {
				changed()
			}
		}
	}
	opts := append([]nats.Option{
		nats.Name("caliper-edge"),
		nats.Timeout(timeout),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a credential that is refused for a while must not be the end
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.FlusherTimeout(writeTimeout),
		nats.PingInterval(pingInterval),
		nats.SetCustomDialer(guardedDialer{timeout: timeout}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			l.lost()
			if changed != nil {
				changed()
			}
			if err != nil { // closing is no loss
				lg.Warn("connection to NATS lost", "error", err)
			}
		}),
		nats.ReconnectHandler(stands("connection to NATS stands again")),
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

// dialLater is dial where no server has to be there yet: the link is down until
// one is.
func dialLater(address string, lg *slog.Logger, changed func(), more ...nats.Option) (*link, error) {
	var l *link
	first := make(chan struct{})
	more = append(more, nats.RetryOnFailedConnect(true), nats.ConnectHandler(func(nc *nats.Conn) {
		<-first // l is set
		l.up()
		lg.Info("connection to NATS stands", "url", nc.ConnectedUrlRedacted())
		if changed != nil {
			changed()
		}
	}))
	l, err := dial(context.Background(), address, lg, changed, more...)
	if err != nil {
		return nil, err
	}
	l.lost()
	close(first)
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
