package main

import (
	"math/rand/v2"
	"time"
)

// A schedule says when the requests of one sender are due, one after the other, as time since the start of the run. It
// knows nothing of answers. held tells that the event happened earlier and was kept back until now.
//
// Senders sleep until then. An idle Go program wakes up to a millisecond late; that counts as latency, and shows as the
// difference between latency and service. To be more exact was tried, with a timer that wakes the runtime every
// 0.2 ms: latency at 5,000 requests/s fell by half a millisecond, and the generator took three times as much of the
// processors, which it shares with what it measures.
type schedule interface {
	next() (due time.Duration, held bool)
}

// even spaces the requests of all senders evenly, the senders taking turns.
type even struct {
	n, senders int // its next request among those of all
	rate       float64
}

func newEven(sender, senders int, rate float64) *even { return &even{sender, senders, rate} }

func (e *even) next() (time.Duration, bool) {
	due := float64(e.n) * float64(time.Second) / e.rate
	e.n += e.senders
	return time.Duration(due), false
}

// reader is a user of Engage: events happen at random moments (a Poisson process), and are due at once, but for those
// that happen while the reader is offline. They are due together on return.
type reader struct {
	rand            *rand.Rand
	between         float64 // mean ns from event to event
	online, offline float64 // mean ns of either state
	happened        float64
	leaves, returns float64 // offline from leaves to returns; the time before is over
}

func newReader(random *rand.Rand, readers int, cfg *config) *reader {
	return &reader{
		rand:    random,
		between: float64(time.Second) * float64(readers) / cfg.rate,
		online:  float64(cfg.online),
		offline: float64(cfg.offline),
	}
}

func (r *reader) next() (time.Duration, bool) {
	r.happened += r.rand.ExpFloat64() * r.between
	for r.happened >= r.returns {
		r.leaves = r.returns + r.rand.ExpFloat64()*r.online
		r.returns = r.leaves + r.rand.ExpFloat64()*r.offline
	}
	if r.happened < r.leaves {
		return time.Duration(r.happened), false
	}
	return time.Duration(r.returns), true
}
