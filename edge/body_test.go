package edge

import (
	"sync"
	"testing"
	"time"

	"caliperedge/pipeline"
)

// What a request holds while it waits for room is not in the budget, so it must
// not be the buffer of a request before it.
func TestWaitingBodyHoldsNoBuffer(t *testing.T) {
	share := pipeline.NewBudget(1 << 20).Share("demo")
	for _, patience := range []time.Duration{0, time.Millisecond} {
		b := &body{buf: make([]byte, 0, keepBytes), room: share, patience: patience, spare: new(sync.Pool)}
		if b.grow(1 << 20) {
			t.Fatal("there was room for twice the share of a tool")
		}
		if cap(b.buf) != 0 {
			t.Errorf("%d bytes are held without room", cap(b.buf))
		}
		if !b.grow(1000) || cap(b.buf) < 1000 {
			t.Errorf("a body of 1000 bytes got a buffer of %d", cap(b.buf))
		}
		b.empty()
	}
}
