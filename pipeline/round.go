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
// Who waits is not forgotten: a topic is refused only while others take part and
// the round is not open, that ends only in leave and tick, and both have the next
// round begin with all who wait.
//
// Nobody waits for long: a round ends after a whole tick of the watch, 50 to 100
// ms, and who still publishes then goes on beside the next one.
//
// Its lock is taken within a topic's, never the other way round.
type round struct {
	mu    sync.Mutex
	open  bool // it begins: who has work takes part
	out   int  // who takes part and is not done, and 1 more while it is open
	began int  // tick
	ticks int  // of the watch, so far, which alone writes it
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
	if t.joined {
		return true
	}
	if r.out > 0 && !r.open {
		return false
	}
	if r.out == 0 {
		r.began = r.ticks
	}
	t.joined = true
	r.out++
	return true
}

// leave tells that a batch of t was published: any, where there are several, for
// who has so much to publish waits for nobody. Where it reports true the round is
// over and the next one open, and the caller has to gather.
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

// tick is for the watch. A round that has taken too long is over.
func (p *Pipeline) tick() {
	if p.tooLong() {
		p.gather(nil)
		p.workers.Done()
	}
}

// tooLong is leave for all who take part in a round that has taken too long. The
// caller, who gathers, is then counted as a worker: else those who end meanwhile
// might be the last, and a drain would be over while others wait to be gathered.
func (p *Pipeline) tooLong() bool {
	r := &p.round
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ticks++
	if r.out == 0 || r.open || r.ticks-r.began <= 1 {
		return false
	}
	p.workers.Add(1) // beside those who take part: none of them has left
	for _, t := range p.topics {
		t.joined = false
	}
	r.out = 0
	return r.beginLocked()
}

// gather has all topics with work take part in the round that was begun, and
// closes it. worker is the topic for which the caller goes on to publish itself,
// so that no other worker is sent, or nil.
func (p *Pipeline) gather(worker *topic) {
	for _, t := range p.topics {
		t.mu.Lock()
		if t != worker {
			t.resumeLocked()
		} else if t.open != nil {
			p.round.join(t)
		}
		t.mu.Unlock()
	}
	p.round.close()
}
