package pipeline

import "sync"

// round has topics of which little has gathered publish at the same moment, and
// wait for each other before they publish again.
// A message costs much the same whether it holds one record or a hundred, and
// left alone a topic that takes one event in twenty would have more messages than
// the one that takes the rest. While a topic waits for the others it gathers, and
// what they publish together is synced together. An aside neither waits nor is
// waited for.
//
// Nobody waits for long: a round ends after a whole tick of the watch, and who
// still publishes then goes on beside the next one.
//
// Its lock is taken within a topic's, never the other way round.
type round struct {
	mu    sync.Mutex
	open  bool // it begins: who has work takes part
	out   int  // who takes part and is not done, and 1 more while it is open
	began int  // tick
	ticks int  // of the watch, so far
}

// begin opens a round where nobody takes part in one, and reports whether it did:
// then the caller has to close it.
func (r *round) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.beginLocked()
}

func (r *round) beginLocked() bool {
	if r.out > 0 {
		return false
	}
	r.open, r.out, r.began = true, 1, r.ticks
	return true
}

// close lets nobody else take part.
func (r *round) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = false
	r.out--
}

// join reports whether t takes part: since before, or from now on. Where nobody
// does yet, it has a round of its own.
func (r *round) join(t *topic) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case t.joined:
		return true
	case r.out > 0 && !r.open:
		return false
	case r.out == 0:
		r.began = r.ticks
	}
	t.joined = true
	r.out++
	return true
}

// leave tells that t is done, and is begin where it was the last.
func (r *round) leave(t *topic) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !t.joined {
		return false
	}
	t.joined = false
	r.out--
	return r.beginLocked()
}

// tick is for the watch. It is begin where a round has taken too long.
func (r *round) tick(topics []*topic) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ticks++
	if r.out == 0 || r.open || r.ticks-r.began <= 1 {
		return false
	}
	for _, t := range topics {
		t.joined = false
	}
	r.out = 0
	return r.beginLocked()
}

// gather has all topics with work take part in the round that was begun, and
// closes it. worker is the topic for which the caller goes on to publish itself,
// or nil.
func (p *Pipeline) gather(worker *topic) {
	for _, t := range p.topics {
		t.resume(t == worker)
	}
	p.round.close()
}

// resume is for a topic that may have waited. Where the caller is a worker of it,
// and goes on, no other is sent.
func (t *topic) resume(worker bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !worker:
		t.resumeLocked()
	case t.open != nil:
		t.p.round.join(t)
	}
}
