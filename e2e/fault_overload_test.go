package e2e_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"caliperedge/internal/natstest"
)

// One tool sends ten times what the store takes, which a slow network makes
// little, while another sends 10 requests a second. The flood is turned away by
// bytes and not by memory, the quiet tool is not turned away at all, the endpoint
// comes back by itself, and the ledger finds whatever was acknowledged: as much as
// the store takes, however large the budget is.
func TestFaultOverload(t *testing.T) {
	if racing() {
		t.Skip("an endpoint with the race detector is itself slower than the store of this test")
	}
	if !allFaults {
		t.Parallel() // the long form has the machine to itself: it looks at times
	}
	for _, budget := range []int{256, 64} { // MiB, the first is the default
		if allFaults || budget == 256 {
			t.Run(fmt.Sprintf("budget=%dMiB", budget), func(t *testing.T) { overload(t, int64(budget)<<20) })
		}
	}
}

func overload(t *testing.T, budget int64) {
	const speed = 6 << 20 // bytes per second
	flood := 8 * time.Second
	if allFaults {
		flood = time.Minute
	}
	n := natstest.Start(t, natsAuthorization())
	between := newNetwork(t, n.Addr())
	between.speed.Store(speed)
	h := externalHome(t, between.url(), fmt.Sprint("CALIPER_BUDGET_BYTES=", budget), "CALIPER_CONTENT_ENCODING=none", "CALIPER_STORE_BYTES=4GiB")
	s := h.serve()
	quiet := h.newToken("token", "add", "quiet")
	eventually(t, "the other tool is known", func() bool { return s.metric("caliper_tokens") == 2 })
	s.stored(eventID("overload", "before"))
	before := s.standingBytes()

	// 50 items of some 1.2 KB each, 900 times a second: 54 MB, and 65 as records.
	load := h.sensors(s, "-connections", "1600", "-rate", "900", "-items", "50:1", "-faulty", "0", "-gzip", "0", "-zstd", "0", "-nats-url", withUser(n))
	start := time.Now()
	used := &peak{s: s, sample: "caliper_budget_used_bytes"}
	later := &peak{s: s, sample: used.sample} // when the store is known
	var others sync.WaitGroup
	took := make([]time.Duration, flood/(100*time.Millisecond))
	for i := range took {
		others.Go(func() {
			time.Sleep(time.Until(start.Add(time.Duration(i) * 100 * time.Millisecond)))
			a, err := s.tryPost(envelope("", eventID("quiet", i)), "Authorization", "Bearer "+quiet)
			if err != nil || a.status != 200 {
				t.Errorf("the quiet tool was answered %d %s after %v: %v", a.status, a.body, a.took, err)
			}
			took[i] = a.took
		})
	}
	for time.Since(start) < flood {
		used.look()
		if time.Since(start) > 10*time.Second {
			later.look()
		}
		time.Sleep(5 * pollEvery)
	}
	others.Wait()
	lasted := time.Since(start)
	grown := s.peakBytes() - before
	r := load.proved()
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	sent := r.Ledger.Acknowledged + r.Ledger.Refused + r.Ledger.Unclear
	stored := r.Ledger.Acknowledged + r.Ledger.UnclearStored
	times := float64(sent) / float64(stored)
	t.Logf("in %v: sent %.1f times the %v events that were stored; %v bytes in flight at most, %v after 10 s, %d MiB more memory; %d answers of 503; quiet tool: median %v, p99 %v, most %v",
		lasted.Round(time.Second), times, stored, used.most, later.most, grown>>20, r.Statuses["503"], took[len(took)/2], p99, took[len(took)-1])
	if r.Statuses["503"] == 0 || allFaults && times < 10 || s.metric(`caliper_requests_busy_total{tool="demo"}`) == 0 {
		t.Error("nothing was turned away: this was no overload")
	}
	if used.most > float64(budget/2+1<<20) {
		t.Errorf("%v bytes were in flight, one tool may hold %d", used.most, budget/2)
	}
	if later.most > 2*speed {
		t.Errorf("%v bytes were in flight after 10 s, the store takes %d in a second", later.most, speed)
	}
	if events := float64(r.Ledger.Acknowledged); allFaults && events*1500 < speed/2*lasted.Seconds() {
		t.Errorf("%v events were acknowledged, of about 1500 bytes each: less than half of what the store takes", events)
	}
	// Memory stays under the budget. 1,600 connections take 33 MiB whatever the
	// budget is, for which a small one leaves little room.
	if most := max(budget, 80<<20); grown > most {
		t.Errorf("memory grew by %d MiB, want at most %d", grown>>20, most>>20)
	}
	if allFaults && p99 > time.Second {
		t.Errorf("one in a hundred of the quiet tool waited %v", p99)
	}
	eventually(t, "nothing is in flight", func() bool { return s.metric("caliper_budget_used_bytes") == 0 })
	s.ready(200)
	s.stored(eventID("overload", "after"))
	s.accounts(r, 2)
	if err := s.numbers().CheckFound("quiet", len(took)); err != nil {
		t.Error(err)
	}
	s.stop()
}

// peak is the most that a gauge has been seen at.
type peak struct {
	s      *server
	sample string
	most   float64
}

func (p *peak) look() { p.most = max(p.most, p.s.metric(p.sample)) }
