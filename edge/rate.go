package edge

import (
	"math"
	"sync"
	"time"
)

// Rate bounds what each tool may send (contract, check 4). The zero Rate
// bounds nothing.
type Rate struct {
	// Requests and Events are per second. Zero means no bound.
	Requests, Events float64
	// Burst is for how many seconds' worth a tool may save up. Zero means 5 s.
	Burst time.Duration
}

func (r Rate) withDefaults() Rate {
	if r.Burst == 0 {
		r.Burst = 5 * time.Second
	}
	return r
}

// limits are the buckets of one tool.
type limits struct {
	rate             Rate
	mu               sync.Mutex
	requests, events bucket
}

// bucket fills at a rate up to a level, from which is taken. It may be
// overdrawn: then it has to fill up again first.
type bucket struct {
	level float64
	at    time.Time
}

// fill brings the bucket up to now. One that was never used is full.
func (b *bucket) fill(now time.Time, perSecond float64, burst time.Duration) {
	most := max(perSecond*burst.Seconds(), 1)
	if b.at.IsZero() {
		b.level = most
	} else {
		b.level = min(b.level+perSecond*now.Sub(b.at).Seconds(), most)
	}
	b.at = now
}

// limitsOf returns the buckets of a tool of the token map, or nil where
// nothing is bounded.
func (e *Endpoint) limitsOf(tool string) *limits {
	rate, own := e.cfg.Rates[tool]
	if !own {
		rate = e.cfg.Rate
	}
	if rate.Requests == 0 && rate.Events == 0 {
		return nil
	}
	if l, ok := e.limits.Load(tool); ok {
		return l.(*limits)
	}
	l, _ := e.limits.LoadOrStore(tool, &limits{rate: rate.withDefaults()})
	return l.(*limits)
}

// wait is how many seconds a tool has to wait for its next request, 0 for
// none. With take the request is charged, if it need not wait.
func (l *limits) wait(now time.Time, take bool) int {
	if l == nil {
		return 0
	}
	r := l.rate
	l.mu.Lock()
	defer l.mu.Unlock()
	seconds := 0.0
	if r.Requests > 0 {
		l.requests.fill(now, r.Requests, r.Burst)
		seconds = (1 - l.requests.level) / r.Requests
	}
	if r.Events > 0 {
		l.events.fill(now, r.Events, r.Burst)
		seconds = max(seconds, (1-l.events.level)/r.Events)
	}
	if seconds > 0 {
		return int(math.Ceil(seconds))
	}
	if take {
		l.requests.level--
	}
	return 0
}

// charge takes the events of an envelope, more than there are if need be: the
// next request waits for them.
func (l *limits) charge(events int) {
	if l != nil {
		l.mu.Lock()
		l.events.level -= float64(events)
		l.mu.Unlock()
	}
}
