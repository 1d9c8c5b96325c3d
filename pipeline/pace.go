package pipeline

import "time"

// pace reckons how many bytes may be in flight because of what the store has been
// seen to take. More than it takes in the time of a request would only wait, and be
// answered too late.
//
// It begins at the budget's limit, and falls to what the store took of late while
// more waits than that can be. Only a store that takes something shows what it can
// take: one that stands still for some seconds leaves the pace as it is, and has
// the whole budget to fill.
//
// It belongs to the watch. The Budget has what it comes to.
type pace struct {
	patience time.Duration // so long records should wait for the store
	limit    int64
	now      int64
	samples  [paceWindow / watchInterval]sample // the last ones, in a ring
	next     int
}

// sample is how many bytes the store had taken by a time.
type sample struct {
	at     time.Time
	stored int64
}

const (
	// paceWindow is over how long what the store takes is looked at: long enough for
	// some messages of a slow store, and short enough to follow it.
	paceWindow = time.Second
	// minPace is room for some envelopes, whatever the store takes.
	minPace = 1 << 20
	// paceGrowth is which part of the pace is added in a watchInterval: it doubles
	// in 0.6 s.
	paceGrowth = 16
	// paceShare is which part of the time for a publish records should wait.
	paceShare = 4
)

// newPace returns the pace of a store that nothing is known of. patience is how
// long records should wait for it: all that the pace lets in takes twice as long to
// be stored, what one tool may hold of it once.
func newPace(limit int64, patience time.Duration, now time.Time) pace {
	p := pace{patience: patience, limit: limit, now: limit}
	for i := range p.samples {
		p.samples[i].at = now
	}
	return p
}

// observe takes in what the store has taken since the start and what waits for it,
// and returns the pace. late tells whether a topic has stored something since the
// last call, and has records that have waited for long.
//
// What one tool may hold of the pace is half of what the store took in that time,
// and grows to three quarters: so the pace of a store that takes more of larger
// messages is not held down by what it took of small ones.
func (p *pace) observe(now time.Time, stored, waiting int64, late bool) int64 {
	oldest := &p.samples[p.next]
	took := int64(float64(stored-oldest.stored) * float64(2*p.patience) / float64(now.Sub(oldest.at)))
	took = min(max(took, minPace), p.limit)
	*oldest = sample{at: now, stored: stored}
	p.next = (p.next + 1) % len(p.samples)
	switch {
	case waiting <= took/4*3:
		p.now += p.now / paceGrowth
	case late:
		p.now = took
	}
	p.now = min(max(p.now, took), p.limit)
	return p.now
}

// restart is for a store that does not answer: when it is back it may be slow, and
// gets little to begin with. Until then nobody waits for it, as nothing is admitted.
func (p *pace) restart() int64 {
	p.now = min(minPace, p.limit)
	return p.limit
}

// keepPace has the budget admit what the store can take. The watch calls it.
func (p *Pipeline) keepPace(now time.Time) {
	var stored, waiting int64
	late := false
	for _, t := range p.topics {
		if t.aside != nil {
			continue // nothing waits for it for long
		}
		total := t.stored.Load()
		bytes, since := t.backlog()
		if total > t.seen && bytes > 0 && now.Sub(since) > p.pace.patience/2 {
			late = true // a topic that takes nothing at all stalls, which says nothing of what it can take
		}
		t.seen = total
		stored += total
		waiting += bytes
	}
	reckoned := p.pace.observe(now, stored, waiting, late)
	if p.failing.Load() {
		reckoned = p.pace.restart()
	}
	p.budget.SetPace(reckoned)
}

// backlog is how many bytes of records are not settled yet, and since when the
// oldest of them have waited.
func (t *topic) backlog() (bytes int64, since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for b := range t.batchesLocked {
		if bytes == 0 || b.opened.Before(since) {
			since = b.opened
		}
		bytes += int64(len(b.buf))
	}
	return bytes, since
}
