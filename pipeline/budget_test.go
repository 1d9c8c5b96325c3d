package pipeline

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// asks has a share ask for bytes. The channel gets what it is told.
func asks(ask func(int64, time.Duration) bool, n int64) <-chan bool {
	answer := make(chan bool, 1)
	go func() { answer <- ask(n, time.Second) }()
	synctest.Wait()
	return answer
}

func waits(t *testing.T, answers ...<-chan bool) {
	t.Helper()
	synctest.Wait()
	for i, answer := range answers {
		if len(answer) != 0 {
			t.Errorf("%d does not wait: %v", i, <-answer)
		}
	}
}

func told(t *testing.T, want bool, answers ...<-chan bool) {
	t.Helper()
	synctest.Wait()
	for i, answer := range answers {
		if len(answer) == 0 {
			t.Fatalf("%d still waits", i)
		} else if <-answer != want {
			t.Errorf("%d was told %v", i, !want)
		}
	}
}

// A tool holds half at most, bodies three quarters, and who finds no room waits:
// within a tool in order, records before bodies, one tool not for another's half.
func TestBudgetIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(1600) // of which two may wait
		a, c, d := b.Share("a"), b.Share("c"), b.Share("d")
		told(t, true, asks(a.Body, 600))
		first := asks(a.Body, 1) // three quarters of its half are taken
		waits(t, first)
		told(t, true, asks(a.Records, 200))
		told(t, true, asks(c.Body, 400)) // another's
		second := asks(d.Body, 100)      // three quarters of the whole are
		waits(t, first, second)
		if b.Waiting() != 2 || b.Used() != 1200 || a.Used() != 800 {
			t.Errorf("%d wait, %d are used, %d by one", b.Waiting(), b.Used(), a.Used())
		}
		c.Release(100)
		told(t, true, second)
		waits(t, first)
		a.Release(200)
		waits(t, first)
		a.Release(100)
		told(t, true, first)
		a.Release(501)
		c.Release(300)
		d.Release(100)
		if b.Waiting() != 0 || b.Used() != 0 {
			t.Errorf("in the end %d wait, and %d are used", b.Waiting(), b.Used())
		}
	})
}

func TestBudgetWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(64 * bytesPerWaiter) // 64 may wait, 32 of one tool
		a, c := b.Share("a"), b.Share("c")
		half := b.Limit() / 2
		told(t, true, asks(a.Records, half))
		var queue []<-chan bool
		for range 32 {
			queue = append(queue, asks(a.Records, half/4))
		}
		told(t, false, asks(a.Records, 1)) // too many
		told(t, true, asks(c.Records, half-10))
		large, small := asks(c.Records, 11), asks(c.Records, 5)
		waits(t, append(queue, large, small)...) // who needs more is not overtaken
		a.Release(half / 4)
		told(t, true, queue[0])
		waits(t, append(queue[1:], large, small)...)
		c.Release(6)
		told(t, true, large, small)
		waits(t, queue[1:]...)
		told(t, false, asks(a.Records, half+1)) // never fits
		time.Sleep(time.Second)
		told(t, false, queue[1:]...)
		if b.Waiting() != 0 {
			t.Errorf("%d wait", b.Waiting())
		}
	})
}

// A body begins only while little is in flight: of its tool half of the pace, of
// all the whole, however large it is itself. Who has begun gets through, and who
// holds little does not wait for what others have in flight.
func TestBudgetPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(64 << 20)
		a, c, d := b.Share("a"), b.Share("c"), b.Share("d")
		b.SetPace(6400)
		told(t, true, asks(a.Begin, 3200), asks(a.Begin, 8<<20)) // what is ahead of it counts
		next := asks(a.Begin, 1)
		waits(t, next)
		told(t, true, asks(a.Body, 100_000), asks(a.Records, 100_000))
		told(t, true, asks(c.Begin, 100), asks(c.Begin, 1000), asks(d.Begin, 1)) // hold a 64th at most
		behind := asks(c.Begin, 1)
		waits(t, next, behind)
		told(t, true, asks(d.Begin, 1)) // is kept waiting by nobody
		a.Release(200_000 + 8<<20)
		told(t, true, behind, next)
		next, behind = asks(a.Begin, 1), asks(c.Begin, 1)
		told(t, true, behind) // is inside of the whole, and of its half
		waits(t, next)
		b.SetPace(6402)
		told(t, true, next)
		a.Release(3202)
		c.Release(1102)
		d.Release(2)
		if b.Used() != 0 || b.Waiting() != 0 {
			t.Errorf("in the end %d bytes are used and %d wait", b.Used(), b.Waiting())
		}
	})
}

// What many tools hold, each of them little, is no more than half of the pace
// beyond it: then they wait for the pace as a flood does.
func TestBudgetPaceOfManyTools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(64 << 20)
		if !b.Reserve(6401) {
			t.Fatal("no room")
		}
		var shares []*Share
		for i := range lightPart/2 + 1 {
			b.SetPace(6400) // as the watch does, again and again
			s := b.Share(fmt.Sprint("tool", i))
			told(t, true, asks(s.Begin, 100))
			shares = append(shares, s)
		}
		quiet := b.Share("quiet")
		shares = append(shares, quiet)
		one := asks(quiet.Begin, 1)
		waits(t, one)
		b.SetPace(6400)
		waits(t, one)
		shares[0].Release(100)
		shares[1].Release(100)
		b.SetPace(6400)
		told(t, true, one)
		told(t, true, asks(shares[0].Begin, 100))
		one = asks(quiet.Begin, 1) // what began since is counted at once
		waits(t, one)
		b.Release(6401)
		told(t, true, one)
		for _, s := range shares {
			s.Release(s.Used())
		}
	})
}

// Many tools at once never hold more than they may, nobody is forgotten, and all
// is given back.
func TestBudgetUnderLoad(t *testing.T) {
	b := NewBudget(1 << 20)
	var askers sync.WaitGroup
	var got, refused atomic.Int64
	for i := range uint64(32) {
		askers.Go(func() {
			s := b.Share(fmt.Sprint("tool", i%4))
			random := rand.New(rand.NewPCG(i, 1))
			for range 500 {
				n := random.Int64N(100_000)
				ask := []func(int64, time.Duration) bool{s.Begin, s.Body, s.Records}[random.IntN(3)]
				if random.IntN(20) == 0 {
					b.SetPace(random.Int64N(b.Limit()))
				}
				if !ask(n, time.Duration(random.IntN(3000))*time.Microsecond) {
					refused.Add(1)
					continue
				}
				got.Add(1)
				if used := b.Used(); used > b.Limit()+32*100_000 { // what is tried and taken back shows for a moment
					t.Errorf("%d bytes are used of %d", used, b.Limit())
				}
				time.Sleep(50 * time.Microsecond)
				s.Release(n)
			}
		})
	}
	askers.Wait()
	if b.Used() != 0 || b.Waiting() != 0 || got.Load() == 0 || refused.Load() == 0 {
		t.Errorf("in the end %d bytes are used and %d wait; %d were granted and %d not", b.Used(), b.Waiting(), got.Load(), refused.Load())
	}
	for i := range 4 {
		if used := b.Share(fmt.Sprint("tool", i)).Used(); used != 0 {
			t.Errorf("tool %d holds %d bytes", i, used)
		}
	}
}

// The little that one tool sends does not wait for what another has filled
// batches with: it leaves beside them, one batch at a time.
func TestLittleOvertakesMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{MaxBatchRecords: 2, PublishesPerTopic: 1, BudgetBytes: 64 << 20}, pub)
		flood := p.Budget().Share("tool")
		if !flood.Records(30<<20, 0) {
			t.Fatal("no room")
		}
		quiet := func(id string) <-chan error {
			env := parse(t, envelopeOf(eventOf(id, "")))
			defer env.Release()
			r, err := p.Route(env, "quiet", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Submit(r, time.Now().Add(5*time.Second)); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- r.Wait() }()
			return done
		}
		var all []<-chan error
		for n := range 4 {
			done, _ := send(t, p, eventOf(fmt.Sprint("f", n), ""), eventOf(fmt.Sprint("g", n), ""))
			all = append(all, done)
			synctest.Wait()
		}
		all = append(all, quiet("q0"))
		synctest.Wait()
		all = append(all, quiet("q1"))
		first := <-pub.calls
		wantIDs(t, first, "f0", "g0")
		express := <-pub.calls
		wantIDs(t, express, "q0")
		all = append(all, quiet("q2"))
		nothingLeaves(t, pub)
		express.reply <- ok(1)
		express = <-pub.calls
		wantIDs(t, express, "q1", "q2")
		first.reply <- ok(1)
		c := <-pub.calls
		wantIDs(t, c, "f1", "g1")
		express.reply <- ok(1)
		c.reply <- ok(1)
		for _, want := range [][]string{{"f2", "g2"}, {"f3", "g3"}} {
			c := <-pub.calls
			wantIDs(t, c, want...)
			nothingLeaves(t, pub)
			c.reply <- ok(1)
		}
		for _, done := range all {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		flood.Release(30 << 20)
		drain(t, p)
	})
}

// What little a tool sends does not gather with much of another's either where
// all of that is leaving. It does with what is its own.
func TestLittleBesideMuchThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{PublishesPerTopic: 1}, pub)
		p.Budget().SetPace(64 * 1000)
		flood := newCrowd(t, p, 10_000)
		flood.send("flood", 1, 0)
		first := <-pub.calls
		quiet := newCrowd(t, p, 10)
		p.Budget().SetPace(p.Budget().Limit())
		quiet.send("flood", 1, 0)
		nothingLeaves(t, pub)
		quiet.send("quiet", 1, 0)
		synctest.Wait()
		flood.send("flood", 1, 0)
		express := <-pub.calls
		if express.msg.Records != 1 || express.msg.Bytes > 1000 {
			t.Errorf("beside the first left %d records of %d bytes, want one that is small", express.msg.Records, express.msg.Bytes)
		}
		express.reply <- ok(2)
		first.reply <- ok(1)
		(<-pub.calls).reply <- ok(3)
		flood.posts.Wait()
		quiet.posts.Wait()
		drain(t, p)
	})
}
