package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"caliperedge/pipeline"
)

const (
	// forwardTimeout bounds one attempt to forward a message.
	forwardTimeout = 4 * time.Second
	// localTimeout bounds a request to the spool's own store.
	localTimeout = 10 * time.Second
	// firstPause and longestPause are between attempts that fail. The pause
	// doubles, and varies so that edges do not come all at once.
	firstPause, longestPause = 50 * time.Millisecond, time.Second
	// quietPause is between looks at a spool that is about to be empty.
	quietPause = 2 * time.Millisecond
	// purgeEvery is how many messages are forwarded before they are taken out of
	// the spool together. After a kill as many are forwarded again, under their
	// old IDs.
	purgeEvery = 32
	// lookEvery is how often the spool is looked at while nothing should be in it:
	// a write whose outcome was unknown may have been one.
	lookEvery = 10 * time.Second
	// purgeRoom is the free space in bytes below which nothing is taken out of the
	// spool: the server notes what is gone, and where the disk has no room for these
	// notes it waits for itself for ever (nats-server 2.15.2, compactLocked).
	purgeRoom = 1 << 20
	// maxAcked bounds the IDs remembered, also while a broken spool lets nothing go.
	maxAcked = 10_000
)

// forwarder takes the messages of one topic from the spool to the server, one
// after another.
type forwarder struct {
	s *Spool
	t *spoolTopic

	// link is that to the local store in which next and done are sequences: one
	// opened anew may have given a sequence to another message.
	link       *link
	stream     jetstream.Stream
	next, done uint64
	kept       int // messages up to done that are still in the spool
	// acked are the IDs of messages that the server has taken and the spool may
	// still hold, over all links.
	acked map[string]bool
	pause time.Duration
}

// run forwards until ctx ends.
func (f *forwarder) run(ctx context.Context) {
	for ctx.Err() == nil {
		pause := lookEvery
		if f.t.isSpooling() || f.look(ctx) {
			pause = f.step(ctx)
		}
		if pause == 0 {
			continue
		}
		// A write does not end the pause of one who waits for the server.
		work := f.t.work
		if pause != lookEvery {
			work = nil
		}
		select {
		case <-ctx.Done():
		case <-work:
		case <-time.After(pause):
		}
	}
}

// step forwards one message, and returns how long to wait before the next step.
func (f *forwarder) step(ctx context.Context) time.Duration {
	m, err := f.read(ctx)
	switch {
	case ctx.Err() != nil:
		return 0
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return f.finish(ctx)
	case err != nil:
		return f.localFailed(ctx, err)
	}
	if id := m.Header.Get(pipeline.HeaderMsgID); !f.acked[id] {
		limited, cancel := context.WithTimeout(ctx, forwardTimeout)
		_, err := f.s.remote.publish(limited, f.s.remote.routes[f.t.name], forwardedHeader(m.Header), m.Data)
		cancel()
		if err != nil {
			return f.remoteFailed(ctx, err)
		}
		f.acked[id] = true
		f.t.forwarded.Add(1)
	}
	f.pause = 0
	f.pass(m)
	f.t.advance(1)
	if f.kept >= purgeEvery {
		f.purge(ctx)
	}
	return 0
}

// pass notes that m is on the server.
func (f *forwarder) pass(m *jetstream.RawStreamMsg) {
	f.next, f.done = m.Sequence+1, m.Sequence
	f.kept++
}

// read returns the next message of the spool.
func (f *forwarder) read(ctx context.Context) (*jetstream.RawStreamMsg, error) {
	l, err := f.s.local.open()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	if l != f.link {
		s, err := l.js.Stream(ctx, f.s.local.routes[f.t.name].stream)
		if err != nil {
			return nil, err
		}
		f.link, f.stream, f.next, f.done, f.kept = l, s, 1, 0, 0
	}
	return f.stream.GetMsg(ctx, f.next, jetstream.WithGetMsgSubject(f.s.local.routes[f.t.name].subject))
}

// look tells whether there is something to forward in a spool that should be
// empty: a write whose outcome was unknown may have been one. What could not be
// taken out of it before is taken out.
func (f *forwarder) look(ctx context.Context) bool {
	m, err := f.read(ctx)
	for ; err == nil && f.acked[m.Header.Get(pipeline.HeaderMsgID)]; m, err = f.read(ctx) {
		f.pass(m)
	}
	if f.kept > 0 && !f.purge(ctx) {
		f.s.suspect.Store(true)
		_ = f.s.mend(ctx)
	}
	if err == nil {
		f.t.divert(errors.New("the spool holds a message that was not acknowledged"))
	}
	return err == nil
}

// finish is for a spool of which everything was forwarded: it ends the spooling
// if the server answers and nothing more arrives.
func (f *forwarder) finish(ctx context.Context) time.Duration {
	if f.purge(ctx) {
		clear(f.acked) // all that the spool held was read
	}
	if !f.t.isCatching() {
		// Nothing was there to forward since the server last failed.
		if err := f.s.remote.answers(ctx, f.t.name); err != nil {
			return f.remoteFailed(ctx, err)
		}
		f.t.advance(0)
	}
	writes, ok := f.t.quiet()
	if !ok {
		return quietPause
	}
	if _, err := f.read(ctx); !errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0
	}
	if f.s.local.link.Load() != f.link || !f.t.straighten(writes) {
		return quietPause
	}
	f.pause = 0
	f.s.log.Info("the spool is empty; events go to the NATS server again", "topic", f.t.name)
	return 0
}

// purge takes what was forwarded out of the spool, and reports whether it could.
// Otherwise it is done later: meanwhile acked keeps it from being forwarded again.
func (f *forwarder) purge(ctx context.Context) bool {
	if f.kept == 0 {
		return true
	}
	limited, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	err := room(f.s.dir)
	if err == nil {
		err = f.stream.Purge(limited, jetstream.WithPurgeSequence(f.done+1))
	}
	if err == nil {
		f.kept = 0
		f.s.full.Store(false)
	} else if ctx.Err() == nil {
		f.s.log.Error("forwarded messages cannot be taken out of the spool", "topic", f.t.name, "error", err)
	}
	if err == nil && len(f.acked) > maxAcked || len(f.acked) > 2*maxAcked {
		clear(f.acked)
	}
	return err == nil
}

// room returns an error where the disk of dir has less than purgeRoom.
func room(dir string) error {
	free, err := freeBytes(dir)
	if err == nil && free < purgeRoom {
		err = fmt.Errorf("the disk of %s has %d bytes left, and %d are needed", dir, free, purgeRoom)
	}
	return err
}

// freeBytes is what is free on the disk of dir for who is not root.
func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// remoteFailed notes that the server did not take a message, and returns how
// long to wait.
func (f *forwarder) remoteFailed(ctx context.Context, err error) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	f.t.stall()
	f.s.log.Warn("a message of the spool could not be forwarded", "topic", f.t.name, "error", err)
	f.purge(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		_ = f.s.remote.Probe(ctx) // which gives up a connection on which nobody answers
	}
	return f.backOff()
}

// localFailed has the spool opened anew, and returns how long to wait.
func (f *forwarder) localFailed(ctx context.Context, err error) time.Duration {
	f.t.stall()
	f.s.log.Error("the spool cannot be read", "topic", f.t.name, "error", err)
	f.s.suspect.Store(true)
	limited, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	_ = f.s.mend(limited)
	return f.backOff()
}

func (f *forwarder) backOff() time.Duration {
	f.pause = min(max(2*f.pause, firstPause), longestPause)
	return f.pause/2 + rand.N(f.pause/2)
}

// forwardedHeader is h without what the local server has added.
func forwardedHeader(h nats.Header) nats.Header {
	out := make(nats.Header, len(h))
	for name, values := range h {
		if name == pipeline.HeaderMsgID || !strings.HasPrefix(name, "Nats-") {
			out[name] = values
		}
	}
	return out
}
