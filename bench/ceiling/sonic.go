//go:build linux

package main

import (
	"fmt"
	"runtime"
	"syscall"

	"caliperedge/bench/corpus"
	"caliperedge/bench/yardstick"
)

const (
	// cachedBytes of bodies are gone over passes times on end: a body that was just read from a socket is in the cache.
	cachedBytes = 256 << 10
	passes      = 8
)

// sonicPass is the processor time of one strict pass of sonic over a body, in microseconds, on the mean of the bodies. Time
// in which others had the processor does not count.
func sonicPass(envelopes []corpus.Envelope) (float64, error) {
	runtime.LockOSThread() // whose time is told
	defer runtime.UnlockOSThread()
	sonic := yardstick.New()
	pass := func(some []corpus.Envelope) error {
		for _, e := range some {
			if n, err := sonic.Items(e.Body); err != nil || n != e.Items {
				return fmt.Errorf("sonic finds %d items of %d: %v", n, e.Items, err)
			}
		}
		return nil
	}
	var spent float64
	for rest := envelopes; len(rest) > 0; {
		n, bytes := 0, 0
		for n < len(rest) && (n == 0 || bytes+len(rest[n].Body) <= cachedBytes) {
			bytes += len(rest[n].Body)
			n++
		}
		if err := pass(rest[:n]); err != nil {
			return 0, err
		}
		before := threadMicros()
		for range passes {
			if err := pass(rest[:n]); err != nil {
				return 0, err
			}
		}
		spent += threadMicros() - before
		rest = rest[n:]
	}
	return spent / passes / float64(len(envelopes)), nil
}

// threadMicros is the processor time that this thread has used.
func threadMicros() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_THREAD, &u); err != nil {
		panic(err) // cannot be with these arguments
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1000
}

// envelopes are the very bodies, but for the ids, that loadtest sends as this load.
func (b *bench) envelopes(l load) []corpus.Envelope {
	if b.bodies[l] == nil {
		g := corpus.New(l.kind, seed)
		for range max(1, distinct/l.items) {
			b.bodies[l] = append(b.bodies[l], g.Envelope(l.items, 0))
		}
	}
	return b.bodies[l]
}
