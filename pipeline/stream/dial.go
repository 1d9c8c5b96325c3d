package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
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

// Server is how to reach an external server or cluster. All fields but URL may
// be empty; files are read again at each connection, so that they can be
// replaced while the program runs, but for the seed of another NKey.
type Server struct {
	// URL is one address or several, comma separated, such as
	// nats://user:password@host:4222. The servers of a cluster tell of the others.
	URL string
	// Creds is the path of a credentials file: a JWT and the seed of its NKey.
	Creds string
	// NKey is the path of a file with the seed of a user NKey.
	NKey string
	// CA is the path of certificates, PEM, that are trusted instead of the
	// system's. With it, or with Cert, nothing is sent without TLS.
	CA string
	// Cert and Key are the paths of a client certificate and its key, PEM.
	Cert, Key string
}

// options returns the client's options for what s names, or an error that says
// which file is not what it should be.
func (s Server) options() ([]nats.Option, error) {
	var opts []nats.Option
	if s.Creds != "" {
		if _, err := os.ReadFile(s.Creds); err != nil {
			return nil, fmt.Errorf("stream: credentials file: %w", err)
		}
		opts = append(opts, nats.UserCredentials(s.Creds))
	}
	if s.NKey != "" {
		o, err := nats.NkeyOptionFromSeed(s.NKey)
		if err != nil {
			return nil, fmt.Errorf("stream: NKey seed file %s: %w", s.NKey, err)
		}
		opts = append(opts, o)
	}
	if s.CA != "" {
		opts = append(opts, nats.RootCAs(s.CA))
	}
	if s.Cert != "" {
		opts = append(opts, nats.ClientCert(s.Cert, s.Key))
	}
	return opts, nil
}

// dial connects to address and makes a link of it. Nothing is kept while there
// is no connection, so that nothing is sent behind the caller's back afterwards.
// A lost connection is dialled for ever; ctx bounds the first dial only. changed,
// where it is not nil, is called whenever a connection comes to stand.
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

// redact takes user and password out of server addresses, also where one is no
// proper URL.
func redact(addresses string) string {
	list := strings.Split(addresses, ",")
	for i, address := range list {
		address = strings.TrimSpace(address)
		if u, err := url.Parse(address); err == nil && u.Host != "" {
			u.User = nil
			address = u.String()
		} else if at := strings.LastIndexByte(address, '@'); at >= 0 {
			address = address[at+1:]
		}
		list[i] = address
	}
	return strings.Join(list, ",")
}

// plainDialError takes the addresses, which may hold a password, out of an error
// about a malformed one.
func plainDialError(err error) error {
	var parse *url.Error
	if errors.As(err, &parse) {
		return fmt.Errorf("malformed URL: %w", parse.Err)
	}
	return err
}
