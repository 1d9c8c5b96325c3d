package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// dialsAtOnce bounds the connections being made at one time: a listener's queue is short, and what does not fit in it is
// tried again by the kernel a second later.
const dialsAtOnce = 64

// load is one run.
type load struct {
	cfg      config
	mix      *mix
	counters *counters
	topics   topicBits // that answers name
	ledger   *ledger   // nil unless asked for
	senders  []*sender
	start    time.Time    // of the clock
	ends     atomic.Int64 // ns on the clock
}

func newLoad(cfg config) (*load, error) {
	l := &load{cfg: cfg, counters: newCounters()}
	var err error
	if l.mix, err = newMix(&l.cfg); err != nil {
		return nil, err
	}
	run := newRunID()
	if cfg.ledger {
		l.ledger = newLedger(run, cfg.connections)
	}
	for i := range cfg.connections {
		s := &sender{
			load:   l,
			rand:   rand.New(rand.NewPCG(cfg.seed, uint64(i))),
			shard:  l.counters.of(i),
			wire:   wire{timeout: cfg.timeout},
			routes: routes{topics: &l.topics},
		}
		s.name, s.first = run.id(i, 0)
		switch {
		case cfg.engage:
			s.schedule = newReader(s.rand, cfg.connections, &l.cfg)
		case cfg.rate > 0:
			s.schedule = newEven(i, cfg.connections, cfg.rate)
		}
		if l.ledger != nil {
			s.account = &l.ledger.accounts[i]
		}
		l.senders = append(l.senders, s)
	}
	return l, nil
}

// clock is the time since the start, and end the time on it when no more requests are due.
func (l *load) clock() time.Duration { return time.Since(l.start) }
func (l *load) end() time.Duration   { return time.Duration(l.ends.Load()) }

// run makes the load and says what happened. When ctx ends nothing more is due, and what is under way is awaited.
func (l *load) run(ctx context.Context, progress io.Writer) (*Result, error) {
	if err := l.connect(ctx); err != nil {
		return nil, err
	}
	l.start = time.Now()
	l.ends.Store(int64(l.cfg.warmup + l.cfg.duration))
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		l.ends.Store(min(l.ends.Load(), int64(l.clock())))
		close(interrupted)
	})
	defer stop()
	var senders sync.WaitGroup
	for _, s := range l.senders {
		senders.Go(func() { s.work(context.WithoutCancel(ctx)) })
	}
	result := newResult(&l.cfg)
	sum, second := newTally(), newTally()
	if l.cfg.warmup > 0 {
		sleepUntil(l.start.Add(l.cfg.warmup), interrupted)
		l.counters.collect(second) // of no interest
	}
	began, cpu := l.clock(), processorTime()
	watched, err := processorTimes(l.cfg.pids)
	for last := began; last < l.end(); {
		next := min(last+time.Second, l.cfg.warmup+l.cfg.duration)
		sleepUntil(l.start.Add(next), interrupted)
		now := l.clock()
		l.counters.collect(second)
		sum.add(second)
		result.addSecond(now-began, now-last, second)
		if err == nil {
			result.Seconds[len(result.Seconds)-1].Resident, err = residentMiB(l.cfg.pids)
		}
		fmt.Fprintln(progress, result.Seconds[len(result.Seconds)-1])
		last = now
	}
	result.window(l.clock()-began, processorTime()-cpu, sum)
	if err == nil {
		err = result.watch(l.cfg.pids, watched)
	}
	senders.Wait()
	l.counters.collect(second) // was due in time and came late
	sum.add(second)
	result.total(sum)
	return result, err
}

// connect makes all connections, so that the load begins with all of them.
func (l *load) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	slots := make(chan struct{}, dialsAtOnce)
	for _, s := range l.senders {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		group.Go(func() {
			if err := s.wire.connect(ctx, l.cfg.url.Host); err != nil {
				cancel(fmt.Errorf("no connection to the endpoint: %w", err))
			}
			<-slots
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		for _, s := range l.senders {
			s.wire.close()
		}
	}
	return context.Cause(ctx)
}

// sleepUntil returns at a moment, or earlier when interrupted is closed.
func sleepUntil(t time.Time, interrupted <-chan struct{}) {
	select {
	case <-time.After(time.Until(t)):
	case <-interrupted:
	}
}

// processorTime is what this process has used of the processors, the kernel's work for it included.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return time.Duration(math.MinInt64) // cannot be with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// tick is the unit in which Linux tells the processor time of another process, on every architecture that Go has.
const tick = time.Second / 100

// processorTimes is what each of the processes has used of the processors. It reads /proc.
func processorTimes(pids []int) ([]time.Duration, error) {
	var all []time.Duration
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return nil, fmt.Errorf("processor time of a process: %w", err)
		}
		// The name, in parentheses, may hold anything; state comes next, utime and stime are 11 and 12 places on.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		var ticks time.Duration
		for _, field := range fields[11:13] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("processor time of process %d: %w", pid, err)
			}
			ticks += time.Duration(n)
		}
		all = append(all, ticks*tick)
	}
	return all, nil
}

// residentMiB is how much memory each of the processes has. It reads /proc.
func residentMiB(pids []int) ([]float64, error) {
	var all []float64
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return nil, fmt.Errorf("memory of a process: %w", err)
		}
		var size, resident int // pages
		if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
			return nil, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		all = append(all, float64(resident)*float64(os.Getpagesize())/(1<<20))
	}
	return all, nil
}
