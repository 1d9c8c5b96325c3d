package e2e_test

import (
	"strings"
	"testing"
)

// What was stored before a kill is known after it: the window for duplicates is
// rebuilt from the streams.
func TestDuplicatesAreKnownAfterAKill(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve()
	one, two := eventID("d", 1), eventID("d", 2)
	first := s.stored(one)
	pretty := strings.ReplaceAll(envelope("", two), `,"`, ",\r\n\t\"")
	s.post(pretty).want(t, 200, `"accepted":1`)
	again := s.stored(one)
	again.want(t, 200, `{"accepted":1,"rejected":0,"duplicates":1,"topics":{"standard":"standard:1"}}`)
	if first.header.Get("Caliper-Durability") != "fsync" || again.header.Get("Caliper-Durability") != "" {
		t.Errorf("durability %q of what is stored, %q of a duplicate", first.header, again.header)
	}
	s.kill()

	s = h.serve()
	s.post(pretty).want(t, 200, `"duplicates":1,"topics":{"standard":"standard:2"}`)
	s.post(envelope("another note", one)).want(t, 200, `{"accepted":1,"rejected":0,"topics":{"standard":"standard:3"}}`)
	s.post(envelope("", one, eventID("d", 3))).want(t, 200, `"accepted":2,"rejected":0,"duplicates":1`)
	n := s.numbers()
	if err := n.Check(); err != nil {
		t.Error(err)
	}
	for what, want := range map[string]float64{"stored": 2, "duplicate": 2, "conflict": 1} {
		if got := n.Events("demo", what); got != want {
			t.Errorf("%v events %s, want %v", got, what, want)
		}
	}
	if n["caliper_duplicates_window_seconds"] != 7200 || n["caliper_duplicates_ids"] != 4 {
		t.Errorf("the window holds %v ids and %v seconds", n["caliper_duplicates_ids"], n["caliper_duplicates_window_seconds"])
	}
	s.stop()
	conflicts := 0
	s = h.serve()
	for line := range strings.Lines(h.must("tail", "standard", "--no-follow")) {
		if strings.Contains(line, `,"conflict":true,"event":{`) {
			conflicts++
		}
	}
	if conflicts != 1 {
		t.Errorf("%d records are marked as conflicts", conflicts)
	}
	s.post(envelope("another note", one)).want(t, 200, `"duplicates":1,"topics":{"standard":"standard:3"}`)
}

// Without the window an event that is sent twice is stored twice, and the reader
// has to sort it out.
func TestNoWindow(t *testing.T) {
	t.Parallel()
	h := newHome(t, "CALIPER_DUPLICATES_IDS=0")
	s := h.serve()
	id := eventID("n", 1)
	s.stored(id)
	s.stored(id)
	if n := h.tail("standard"); n[id] != 2 {
		t.Errorf("stored %d times", n[id])
	}
	if n := recordIDs(t, h.must("tail", "standard", "--no-follow", "--unique")); n[id] != 1 || len(n) != 1 {
		t.Errorf("tail --unique prints %v", n)
	}
	n := s.numbers()
	if err := n.Check(); err != nil || n.Events("demo", "stored") != 2 {
		t.Errorf("%v events stored: %v", n.Events("demo", "stored"), err)
	}
}
