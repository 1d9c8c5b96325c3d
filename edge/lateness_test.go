package edge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"caliperedge/validate"
)

// Each event falls into the bucket of how late it came; entity describes, faulty
// events, debug requests and refused envelopes into none.
func TestLateness(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{})
	c := dial(t, s)
	at := func(n int, late time.Duration) string {
		return strings.Replace(event(n), "2018-10-03T18:21:08.897Z", time.Now().Add(-late).UTC().Format("2006-01-02T15:04:05.000Z"), 1)
	}
	times := []time.Duration{-400 * 24 * time.Hour, -30 * time.Minute, 5 * time.Minute, 2 * time.Hour, 3 * 24 * time.Hour, 20 * 365 * 24 * time.Hour}
	items := []string{entity(1), badEvent(2)}
	for i, late := range times {
		items = append(items, at(3+i, late))
	}
	if a := c.exchange(t, envelope(items...)); a.StatusCode != 202 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	c.exchange(t, envelope(items...), "X-DEBUG: TRUE")
	c.exchange(t, strings.Replace(envelope(items...), testVersion, "none", 1))
	n := s.numbers(t)
	bucket := func(le string) float64 {
		return n[fmt.Sprintf("caliper_event_lateness_seconds_bucket{tool=%q,le=%q}", testTool, le)]
	}
	for le, want := range map[string]float64{"-31536000": 1, "-3600": 1, "-60": 2, "60": 2, "600": 3, "3600": 3, "21600": 4, "86400": 4, "604800": 5, "315360000": 5, "+Inf": 6} {
		if got := bucket(le); got != want {
			t.Errorf("%v events within %s s, want %v", got, le, want)
		}
	}
	if got := n[fmt.Sprintf("caliper_event_lateness_seconds_count{tool=%q}", testTool)]; got != 6 {
		t.Errorf("%v events counted, want 6", got)
	}
	var sum time.Duration
	for _, late := range times {
		sum += late
	}
	if got := n[fmt.Sprintf("caliper_event_lateness_seconds_sum{tool=%q}", testTool)]; got < sum.Seconds()-1 || got > sum.Seconds()+60*6 {
		t.Errorf("the sum is %v, want about %v", got, sum.Seconds())
	}
}

func TestLatenessBucket(t *testing.T) {
	for millis, want := range map[int64]int64{-1 << 50: -365 * day, -1001: -1, -1000: -1, -999: 0, 0: 0, 1: 1, 1000: 1, 1001: 10, 3650 * day * 1000: 3650 * day} {
		if got := latenessBounds[latenessBucket(millis)]; got != want {
			t.Errorf("%d ms are within %d s, want %d", millis, got, want)
		}
	}
	if got := latenessBucket(1 << 50); got != len(latenessBounds) {
		t.Errorf("beyond all bounds is bucket %d", got)
	}
}

func BenchmarkLateness(b *testing.B) {
	env, err := validate.Parse([]byte(envelope(events(100)...)), validate.Options{})
	if err != nil {
		b.Fatal(err)
	}
	var l lateness
	now := time.Now()
	for b.Loop() {
		l.observe(env, now)
	}
}
