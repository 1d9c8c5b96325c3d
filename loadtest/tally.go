package main

import (
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// maxStatus is above every HTTP status.
	maxStatus = 600
	// maxLatency is the longest that is told apart; what takes longer counts as this long.
	maxLatency = time.Hour
)

// failure is a way for a request to go without an answer.
type failure int

const (
	failTimeout   failure = iota // given up
	failLost                     // the connection went away under the request
	failMalformed                // something came that is no answer
	failConnect                  // no connection could be made; the request was not sent
	failures
)

var failureNames = [failures]string{"timeout", "connection lost", "malformed answer", "no connection"}

// tally counts what happened in a stretch of time. Latencies are in microseconds, with three significant digits.
type tally struct {
	// latency is from when a request was due, service from when it was sent, to the end of its answer. Both have the
	// requests that were answered, whatever the answer, and those that were given up.
	latency, service *hdrhistogram.Histogram

	statuses [maxStatus]int64
	failures [failures]int64
	// unexpected answers are not what their envelope deserves.
	unexpected int64
	// items were sent; durable of them were acknowledged.
	items, durable int64
	// bytes were written, heads included.
	bytes int64
	// behind counts requests that were due while their sender still waited for an earlier answer, unsent those of them
	// that were never sent, and held those that a reader kept back while offline.
	behind, unsent, held int64
	// closed counts connections that the endpoint ended after an answer.
	closed int64
}

func newTally() *tally {
	histogram := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxLatency.Microseconds(), 3) }
	return &tally{latency: histogram(), service: histogram()}
}

func recordLatency(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(max(0, min(d, maxLatency)).Microseconds()) // in range
}

func (t *tally) add(o *tally) {
	t.latency.Merge(o.latency)
	t.service.Merge(o.service)
	for i, n := range o.statuses {
		t.statuses[i] += n
	}
	for i, n := range o.failures {
		t.failures[i] += n
	}
	t.unexpected += o.unexpected
	t.items += o.items
	t.durable += o.durable
	t.bytes += o.bytes
	t.behind += o.behind
	t.unsent += o.unsent
	t.held += o.held
	t.closed += o.closed
}

func (t *tally) reset() {
	latency, service := t.latency, t.service
	latency.Reset()
	service.Reset()
	*t = tally{latency: latency, service: service}
}

// answered is how many requests were answered, and failed how many were not.
func (t *tally) answered() (n int64) {
	for _, k := range t.statuses {
		n += k
	}
	return n
}

func (t *tally) failed() (n int64) {
	for _, k := range t.failures {
		n += k
	}
	return n
}

// errors is everything that a sensor would call one.
func (t *tally) errors() int64 { return t.failed() + t.unexpected + t.unsent }

// shard is the tally of some of the senders, so that they seldom meet on a lock.
type shard struct {
	mu  sync.Mutex
	now *tally
	_   [48]byte // a cache line of its own
}

// count lets f add to the tally; it must not block.
func (s *shard) count(f func(t *tally)) {
	s.mu.Lock()
	f(s.now)
	s.mu.Unlock()
}

// counters are all shards.
type counters struct {
	shards []shard
	spare  *tally
}

func newCounters() *counters {
	c := &counters{shards: make([]shard, 2*runtime.GOMAXPROCS(0)), spare: newTally()}
	for i := range c.shards {
		c.shards[i].now = newTally()
	}
	return c
}

// of is the shard of a sender.
func (c *counters) of(sender int) *shard { return &c.shards[sender%len(c.shards)] }

// collect moves everything that was counted since the last time into sum, which it clears first. Senders go on
// counting meanwhile. One goroutine may call it.
func (c *counters) collect(sum *tally) {
	sum.reset()
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.now, c.spare = c.spare, s.now
		s.mu.Unlock()
		sum.add(c.spare)
		c.spare.reset()
	}
}
