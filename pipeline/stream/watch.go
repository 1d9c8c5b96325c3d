package stream

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The times of Watch; a test makes them short.
var (
	// watchEvery is how often there is a look.
	watchEvery = 10 * time.Second
	// standstill is how long a small write may take: longer than a disk that is
	// merely busy needs.
	standstill = 30 * time.Second
)

var errStandsStill = errors.New("the disk stands still")

// Watch looks after an embedded store until ctx ends, as nobody else does while
// nothing is published. It calls fault with what it finds, a topic that takes nothing
// more or a disk that stands still, again and again as long as that lasts. It adds
// no message; the lock file of the data folder is what it writes to. Of an external
// server it returns at once.
func (p *Publisher) Watch(ctx context.Context, fault func(error)) {
	e, ok := p.store.(*embedded)
	if !ok {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchEvery):
		}
		if p.link.Load() == nil {
			continue // it is being opened anew
		}
		err := e.frozenTopic()
		if err == nil && !p.busy.Swap(false) {
			err = e.touch(ctx)
		}
		if err != nil && ctx.Err() == nil {
			fault(fmt.Errorf("stream: store in %s: %w", e.cfg.Dir, err))
		}
	}
}

// frozenTopic returns an error about a topic that takes nothing until the store is
// opened anew, of those that hold somebody up.
func (e *embedded) frozenTopic() error {
	for _, t := range e.cfg.Layout.Topics {
		if stream := e.cfg.Layout.Stream(t.Name); !t.DiscardOld && e.frozen(stream) {
			return fmt.Errorf("stream %s takes no messages after an I/O error", stream)
		}
	}
	return nil
}

// touch writes to the disk of the store. That it cannot is for the next message
// to find out: the server does not know of it, and there may be room by then.
func (e *embedded) touch(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = e.lock.WriteAt([]byte{'\n'}, 0)
		_ = e.lock.Sync()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	case <-time.After(standstill):
		return errStandsStill
	}
	return nil
}
