package accounting

import (
	"strings"
	"testing"
)

// text is a scrape in which the numbers of two tools add up.
const text = `# a comment
caliper_durability{level="fsync"} 1
caliper_events_received_total{tool="demo"} 20
caliper_events_accepted_total{tool="demo"} 10
caliper_events_stored_total{tool="demo"} 7
caliper_events_duplicate_total{tool="demo"} 3
caliper_events_rejected_total{tool="demo"} 5
caliper_events_refused_total{tool="demo"} 4
caliper_events_unclear_total{tool="demo"} 2
caliper_events_debug_total{tool="demo"} 1
caliper_requests_total{tool="demo"} 15
caliper_requests_ended_total{tool="demo",as="stored"} 5
caliper_requests_ended_total{tool="demo",as="duplicate"} 4
caliper_requests_ended_total{tool="demo",as="rejected"} 3
caliper_requests_ended_total{tool="demo",as="refused"} 2
caliper_requests_ended_total{tool="demo",as="debug"} 1
caliper_requests_total{tool="Engage"} 1
caliper_requests_ended_total{tool="Engage",as="rejected"} 1
`

func TestCheck(t *testing.T) {
	check := func(text string) error {
		t.Helper()
		n, err := Read(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if tools := strings.Join(n.Tools(), " "); tools != "Engage demo" {
			t.Errorf("tools %q", tools)
		}
		return n.Check()
	}
	if err := check(text); err != nil {
		t.Errorf("numbers that add up: %v", err)
	}
	// Whatever is changed, one of the sums no longer holds.
	for line := range strings.Lines(text) {
		sample, _, _ := strings.Cut(line, " ")
		if !strings.Contains(sample, "tool=") || strings.Contains(sample, "unclear") {
			continue
		}
		err := check(strings.Replace(text, line, sample+" 100\n", 1))
		if err == nil {
			t.Errorf("no error with %s 100", sample)
		}
	}
}

func TestCheckFound(t *testing.T) {
	n, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for found, ok := range map[int]bool{6: false, 7: true, 9: true, 10: false} {
		if err := n.CheckFound("demo", found); (err == nil) != ok {
			t.Errorf("%d found of 7 acknowledged and 2 unclear: %v", found, err)
		}
	}
}

func TestReadNamesWhatItCannot(t *testing.T) {
	for _, bad := range []string{"nothing\n", "name one\n"} {
		if _, err := Read(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(bad)) {
			t.Errorf("%q: error %v, want one that quotes it", bad, err)
		}
	}
}
