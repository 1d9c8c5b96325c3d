package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"caliperedge/pipeline"
)

const (
	// probeTimeout bounds a probe of an external server.
	probeTimeout = 2 * time.Second
	// awayTimeout bounds the first dial of each server that may be away.
	awayTimeout = 2 * time.Second
	// arrangeTimeout bounds looking at all streams, or creating them, once.
	arrangeTimeout = 30 * time.Second
	// refreshEvery is how often the streams are looked at while all is well, so
	// that the level follows when an operator changes their replicas.
	refreshEvery = 30 * time.Second
	// arrangeAgain is the pause between attempts to have the streams in order.
	arrangeAgain = time.Second
)

// RemoteConfig is how to reach and use an external server.
type RemoteConfig struct {
	// Server is the server or cluster.
	Server Server
	// Layout says which streams there must be.
	Layout Layout
	// VerifyOnly never creates a stream: one that is missing, or that cannot take
	// what its topic promises, is an error.
	VerifyOnly bool
	// MayBeAway lets OpenRemote succeed while the server does not answer. Until it
	// does and its streams are in order, every Publish fails at once.
	MayBeAway bool
	// Logger takes losses of the connection. Nil means slog.Default().
	Logger *slog.Logger
}

// OpenRemote connects to an external server and creates the streams that are
// missing, or verifies them. Unless it may be away it fails when the server
// cannot be reached before ctx is done; afterwards a lost connection is dialled
// for ever. A file that is missing, streams that are not what they must be, and
// a server that refuses the credential are errors in any case.
func OpenRemote(ctx context.Context, cfg RemoteConfig) (*Publisher, error) {
	if err := cfg.Layout.Check(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	opts, err := cfg.Server.options()
	if err != nil {
		return nil, err
	}
	cfg.Server.warnOfOpenFiles(cfg.Logger)
	p := newPublisher(cfg.Layout)
	r := &remote{p: p, cfg: cfg, changed: make(chan struct{}, 1), ended: make(chan struct{})}
	p.store = r
	first, cancel := ctx, context.CancelFunc(func() {})
	if cfg.MayBeAway {
		first, cancel = context.WithTimeout(ctx, awayTimeout)
	}
	l, err := dial(first, cfg.Server.URL, cfg.Logger, r.wake, opts...)
	cancel()
	if err != nil && cfg.MayBeAway && isAway(err) {
		cfg.Logger.Warn("NATS server cannot be reached; starting without it", "url", redact(cfg.Server.URL), "error", err)
		l, err = dialLater(cfg.Server.URL, cfg.Logger, r.wake, opts...)
	}
	if err != nil {
		return nil, cfg.Server.dialError(err)
	}
	p.link.Store(l)
	p.unarranged.Store(true)
	if !l.down.Load() {
		err = r.arrange(ctx)
		if err != nil && cfg.MayBeAway && isAway(err) {
			cfg.Logger.Warn("the streams cannot be looked at; starting without them", "error", err)
			err = nil
		}
		if err != nil {
			l.nc.Close()
			return nil, err
		}
	}
	ctx, r.quit = context.WithCancel(context.Background())
	go r.follow(ctx)
	return p, nil
}

// remote is an external server.
type remote struct {
	p       *Publisher
	cfg     RemoteConfig
	changed chan struct{} // a connection came to stand, or was lost
	quit    context.CancelFunc
	ended   chan struct{} // closed when follow has returned
	forced  atomic.Int64  // when a connection was last given up, in nanoseconds
}

func (r *remote) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// arrange has the streams in order and reads their replicas.
func (r *remote) arrange(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, arrangeTimeout)
	defer cancel()
	l := r.p.link.Load()
	if l == nil {
		return errClosed
	}
	var ds []Difference
	var err error
	if r.cfg.VerifyOnly {
		ds, err = Verify(ctx, l.js, r.cfg.Layout)
	} else {
		ds, err = Ensure(ctx, l.js, r.cfg.Layout)
	}
	if err != nil {
		return err
	}
	if room := r.p.MaxMessageBytes(); room <= pipeline.MaxRecordBytes {
		return &permanentError{fmt.Errorf("stream: the server takes messages of %d bytes besides headers, and a record may have %d: raise its max_payload to 1MB", room, pipeline.MaxRecordBytes)}
	}
	if _, err := r.p.status(ctx, l); err != nil {
		return err
	}
	r.p.diffs.Store(&ds)
	r.p.unarranged.Store(false)
	return nil
}

// follow has the streams in order where that was not possible at the start, and
// keeps what is known of them fresh.
func (r *remote) follow(ctx context.Context) {
	defer close(r.ended)
	lost := false // at the last look
	for ctx.Err() == nil {
		pause := refreshEvery
		l := r.p.link.Load()
		switch {
		case l == nil: // closing
		case l.down.Load(): // wake tells when it stands
			pause = arrangeAgain
			// The client tells nobody of a TLS file that has become bad. At the first
			// look its last error is that of the loss.
			if err := l.nc.LastError(); err != nil && lost {
				r.cfg.Logger.Warn("connection to NATS cannot be made again yet", "error", err)
			}
		case r.p.unarranged.Load():
			if err := r.arrange(ctx); err != nil {
				r.cfg.Logger.Error("the streams are not in order", "error", err)
				pause = arrangeAgain
				break
			}
			r.cfg.Logger.Info("the streams are in order")
			if ds := r.p.Differences(); len(ds) > 0 {
				r.cfg.Logger.Warn("streams differ from the configuration", "differences", fmt.Sprint(ds))
			}
		default:
			limited, cancel := context.WithTimeout(ctx, probeTimeout)
			_, _ = r.p.Status(limited) // who publishes finds out what is wrong
			cancel()
		}
		lost = l != nil && l.down.Load()
		select {
		case <-ctx.Done():
		case <-r.changed:
		case <-time.After(pause):
		}
	}
}

// probe asks every topic's stream. A connection on which nobody answers is given
// up, so that the next one is to another server of the cluster, if there is one.
func (r *remote) probe(ctx context.Context) error {
	// The answer to a request is lost with the connection it was sent on.
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := r.p.check(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		r.giveUp()
	}
	return err
}

// giveUp has the connection dialled anew, at most once in dialTimeout: the dial
// takes its time as well.
func (r *remote) giveUp() {
	now, last := time.Now().UnixNano(), r.forced.Load()
	l := r.p.link.Load()
	if l == nil || l.down.Load() || now-last < int64(dialTimeout) || !r.forced.CompareAndSwap(last, now) {
		return
	}
	r.cfg.Logger.Warn("the NATS server does not answer; connecting anew", "url", l.nc.ConnectedUrlRedacted())
	l.lost()
	_ = l.nc.ForceReconnect() // an error says that it is closed
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

// frozen: nobody but the server's supervisor can open its store anew.
func (r *remote) frozen(string) bool { return false }

func (r *remote) addr() string { return "" }

func (r *remote) close() error {
	if l := r.p.link.Swap(nil); l != nil {
		r.quit()
		l.nc.Close()
		<-r.ended
	}
	return nil
}
