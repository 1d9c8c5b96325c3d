package main

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// maxNap is how long a sender sleeps at most before it looks whether the run has been ended.
	maxNap = 250 * time.Millisecond
	// redialPause keeps a closed loop from spinning when nobody listens.
	redialPause = 20 * time.Millisecond
)

// sender is one connection and the sensor behind it. It works on a goroutine of its own; nothing of it is shared but what
// load shares out.
type sender struct {
	load     *load
	name     uint64 // in the ids of its events
	first    uint64 // counter of its first event in those ids
	sent     uint64 // events so far
	wire     wire
	rand     *rand.Rand
	schedule schedule // nil in a closed loop
	account  *account // nil without a ledger
	shard    *shard
	routes   routes
}

// work sends until the run ends.
func (s *sender) work(ctx context.Context) {
	defer s.wire.close()
	if s.schedule == nil {
		for now := s.load.clock(); now < s.load.end(); now = s.load.clock() {
			if !s.send(ctx, now) {
				time.Sleep(redialPause)
			}
		}
		return
	}
	for {
		due, held := s.schedule.next()
		if due >= s.load.end() {
			return
		}
		behind := !s.waitUntil(due)
		if due >= s.load.end() { // that was moved while we waited
			return
		}
		if behind || held {
			s.shard.count(func(t *tally) {
				if held {
					t.held++
				} else {
					t.behind++
				}
			})
		}
		if s.load.clock() >= s.load.end()+s.load.cfg.timeout {
			s.abandon(due)
			return
		}
		s.send(ctx, due)
	}
}

// waitUntil sleeps until a moment, or the end of the run if that is earlier, and reports whether the moment was still to
// come.
func (s *sender) waitUntil(due time.Duration) bool {
	d := due - s.load.clock()
	if d <= 0 {
		return false
	}
	for ; d > 0 && due < s.load.end(); d = due - s.load.clock() {
		time.Sleep(min(d, maxNap))
	}
	return true
}

// abandon counts what is due from this sender and will not be sent any more. It enters the latencies with the age that it
// has reached: leaving it out would flatter an endpoint that could not keep up.
func (s *sender) abandon(due time.Duration) {
	now := s.load.clock()
	s.shard.count(func(t *tally) {
		for n := 0; due < s.load.end(); due, _ = s.schedule.next() {
			t.unsent++
			if n++; n > 1 { // the first is counted
				t.behind++
			}
			recordLatency(t.latency, now-due)
		}
	})
}

// send sends one request that was due at a moment, and waits for its answer. It reports false where there was no
// connection to be had.
func (s *sender) send(ctx context.Context, due time.Duration) bool {
	if !s.wire.connected() {
		if err := s.wire.connect(ctx, s.load.cfg.url.Host); err != nil {
			s.shard.count(func(t *tally) { t.failures[failConnect]++ })
			return false
		}
	}
	p := s.load.mix.take(s.rand)
	want, faulty, first := p.env.Status, p.env.Faulty, s.sent
	s.sent = p.env.Stamp(s.name, s.first+first) - s.first
	s.account.grow(s.sent)
	request, free, err := s.load.mix.packers.pack(p, s.rand)
	begun := s.load.clock()
	if err == nil {
		err = s.wire.allow(s.load.start.Add(begun))
	}
	if err == nil {
		err = s.wire.send(request)
	}
	bytes := len(request)
	free()
	p.shelf.put(p)
	var a answer
	if err == nil {
		a, err = s.wire.receive()
	}
	done := s.load.clock()
	if err != nil {
		s.wire.close()
		s.shard.count(func(t *tally) {
			t.sent(len(faulty), bytes)
			f := failureOf(err)
			t.failures[f]++
			if f == failTimeout {
				t.took(done-due, done-begun)
			}
		})
		return true
	}
	j := judge(&a, want, faulty, &s.routes, s.account != nil)
	s.account.settle(first, len(faulty), j)
	s.shard.count(func(t *tally) {
		t.sent(len(faulty), bytes)
		t.took(done-due, done-begun)
		t.statuses[a.status]++
		t.durable += int64(j.durable)
		if !j.expected {
			t.unexpected++
		}
		if a.closes {
			t.closed++
		}
	})
	if a.closes {
		s.wire.close()
	}
	return true
}

func (t *tally) sent(items, bytes int) {
	t.items += int64(items)
	t.bytes += int64(bytes)
}

func (t *tally) took(latency, service time.Duration) {
	recordLatency(t.latency, latency)
	recordLatency(t.service, service)
}
