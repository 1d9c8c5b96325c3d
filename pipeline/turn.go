package pipeline

import "sync/atomic"

// turn has topics of which little has gathered publish one after the other.
// A message costs much the same whether it holds one record or a hundred, and a
// topic that takes one event in twenty would have as many messages as the one
// that takes the rest. While a topic waits for its turn, it gathers. An aside
// neither waits nor is waited for.
//
// Nobody waits for long: who has had the turn for a whole tick of the watch
// loses it, and publishes on beside the others.
type turn struct {
	holder atomic.Pointer[topic] // nil while there is nothing to publish
	taken  atomic.Int64          // tick at which the holder took it
	ticks  atomic.Int64          // of the watch, so far
}

// take reports whether t has the turn: since before, or from now on where nobody
// has it.
func (u *turn) take(t *topic) bool {
	if u.holder.Load() == t {
		return true
	}
	if !u.holder.CompareAndSwap(nil, t) {
		return false
	}
	u.taken.Store(u.ticks.Load())
	return true
}

// pass takes the turn from t, if t still has it, and has the next topic that
// waits take it. A topic that finds work afterwards takes it by itself.
func (p *Pipeline) pass(t *topic) {
	if !p.turn.holder.CompareAndSwap(t, nil) {
		return
	}
	for i := range p.topics {
		if p.topics[(t.place+1+i)%len(p.topics)].resume() {
			return
		}
	}
}

// tick is called by the watch.
func (p *Pipeline) tick() {
	now := p.turn.ticks.Add(1)
	if t := p.turn.holder.Load(); t != nil && now-p.turn.taken.Load() > 1 {
		p.pass(t)
	}
}

// resume is for a topic that may have waited.
func (t *topic) resume() (sent bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.resumeLocked()
}
