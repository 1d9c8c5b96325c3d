package edge

import (
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	now := time.Unix(1000, 0)
	l := &limits{rate: Rate{Requests: 2, Events: 10}.withDefaults()} // 10 requests and 50 events may be saved up
	for i := range 10 {
		if s := l.wait(now, true); s != 0 {
			t.Fatalf("request %d of the burst has to wait %d s", i, s)
		}
		l.charge(1)
	}
	if s := l.wait(now, true); s != 1 {
		t.Errorf("the request after the burst waits %d s, want 1", s)
	}
	now = now.Add(500 * time.Millisecond)
	if s := l.wait(now, false); s != 0 {
		t.Errorf("asking: %d s", s)
	}
	if s := l.wait(now, true); s != 0 {
		t.Errorf("half a second later: %d s; asking must not take", s)
	}
	if s := l.wait(now, true); s != 1 {
		t.Errorf("and once more: %d s, want 1", s)
	}
	// An envelope may overdraw; the next request waits until that is made up.
	now = now.Add(time.Minute)
	if s := l.wait(now, true); s != 0 {
		t.Errorf("a minute later: %d s", s)
	}
	l.charge(149)
	if s := l.wait(now, true); s != 10 {
		t.Errorf("after an envelope of 149: %d s, want 10", s)
	}
	if s := l.wait(now.Add(10*time.Second), true); s != 0 {
		t.Errorf("10 s later: %d s", s)
	}
	var none *limits
	none.charge(1)
	if none.wait(now, true) != 0 {
		t.Error("no limits make wait")
	}
}

// A tool with a rate of its own has that, also where it is no bound; all others
// share neither it nor each other's.
func TestRatesOfTools(t *testing.T) {
	e := &Endpoint{cfg: Config{Rate: Rate{Requests: 1, Burst: 3 * time.Second}, Rates: map[string]Rate{
		"slow": {Requests: 1, Burst: time.Second}, "free": {}}}}
	now := time.Unix(1000, 0)
	for tool, want := range map[string]int{"slow": 1, "any": 3, "other": 3, "free": 1000} {
		taken := 0
		for taken < 1000 && e.limitsOf(tool).wait(now, true) == 0 {
			taken++
		}
		if taken != want {
			t.Errorf("%s may send %d requests at once, want %d", tool, taken, want)
		}
	}
}
