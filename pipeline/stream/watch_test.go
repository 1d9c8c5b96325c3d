package stream

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"
)

// setWatchTimes sets the times of watching until the test and what it watches have
// ended.
func setWatchTimes(t *testing.T, every, still time.Duration) {
	t.Helper()
	hadEvery, hadStill, hadGrace := watchEvery, standstill, touchGrace
	t.Cleanup(func() { watchEvery, standstill, touchGrace = hadEvery, hadStill, hadGrace })
	watchEvery, standstill, touchGrace = every, still, min(still, touchGrace)
}

// watch watches p and returns what it has told last.
func watch(t *testing.T, p *Publisher) (last func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var text string
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Watch(ctx, func(err error) { mu.Lock(); defer mu.Unlock(); text = err.Error() })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func() string { mu.Lock(); defer mu.Unlock(); return text }
}

// Not parallel, as what follows: the times are for all.
func TestWatchFindsAFrozenTopic(t *testing.T) {
	setWatchTimes(t, 10*time.Millisecond, standstill)
	p := openDir(t, t.TempDir())
	publish(t, p, message("standard", "1", "{}"))
	before := streamState(t, p.JetStream(), "caliper-standard")
	last := watch(t, p)
	eventually(t, "it looks", func() bool { return !p.busy.Load() })
	if now := streamState(t, p.JetStream(), "caliper-standard"); now != before || last() != "" {
		t.Errorf("it tells %q of a store in order, which was %s and is %s", last(), before, now)
	}
	if err := p.store.(*embedded).srv.DisableJetStream(); err != nil { // as after an I/O error, no stream takes anything
		t.Fatal(err)
	}
	eventually(t, "it tells", func() bool { return strings.Contains(last(), "stream caliper-standard takes no messages") })
	if err := p.Probe(deadline(t)); err != nil {
		t.Fatal(err)
	}
	publish(t, p, message("standard", "2", "{}"))
}

func TestWatchFindsADiskThatStandsStill(t *testing.T) {
	setWatchTimes(t, time.Millisecond, 0)
	last := watch(t, openDir(t, t.TempDir()))
	eventually(t, "it tells", func() bool { return strings.Contains(last(), "the disk stands still") })
}
