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
	// touchGrace is added to it.
	touchGrace = time.Second
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
	touched := make(chan struct{}, 1) // holds one while no touch is under way
	touched <- struct{}{}
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
			if err = e.touch(ctx, touched); p.busy.Load() {
				err = nil // something was stored meanwhile
			}
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
// to find out: the server does not know of it, and there may be room by then. One that
// hangs is waited for again, not joined by another.
func (e *embedded) touch(ctx context.Context, touched chan struct{}) error {
	select {
	case <-touched:
		go func() {
			_, _ = e.lock.WriteAt([]byte{'\n'}, 0)
			_ = e.lock.Sync()
			touched <- struct{}{}
		}()
	default:
	}
	// After a pause of the whole machine the time may be up while the touch is not
	// yet told: it has another moment.
	for _, patience := range []time.Duration{standstill, touchGrace} {
		select {
		case <-touched:
			touched <- struct{}{}
			return nil
		case <-ctx.Done():
			return nil
		case <-time.After(patience):
		}
	}
	return errStandsStill
}
