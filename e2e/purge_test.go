package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// What is older than a time is deleted after a question, which says how much.
func TestTopicsPurge(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve()
	s.stored(eventID("old", 1), eventID("old", 2))
	before := time.Now().UTC().Add(time.Millisecond).Format("2006-01-02T15:04:05.000Z")
	eventually(t, "that time has passed", func() bool { return time.Now().UTC().Format("2006-01-02T15:04:05.000Z") > before })
	s.stored(eventID("new"))
	if r := h.runWith("n\n", "topics", "purge", "standard", "entities", "--before", before); r.code == 0 || !strings.Contains(r.stdout, "standard  1         2") || !strings.Contains(r.stderr, "nothing was changed") {
		t.Errorf("answered with n: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
	if out := h.must("topics", "purge", "standard", "--before", "720h"); !strings.Contains(out, "nothing was received before") {
		t.Errorf("a month ago: %s", out)
	}
	if ids := h.tail("standard"); len(ids) != 3 {
		t.Fatalf("%v are left", ids)
	}
	if r := h.runWith("y\n", "topics", "purge", "standard", "--before", before); r.code != 0 || !strings.Contains(r.stdout, "deleted") {
		t.Errorf("answered with y: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
	if ids := h.tail("standard"); len(ids) != 1 || ids[eventID("new")] != 1 {
		t.Errorf("%v are left", ids)
	}
	h.must("topics", "purge", "standard", "--before", "0s", "--yes")
	if ids := h.tail("standard"); len(ids) != 0 {
		t.Errorf("%v are left", ids)
	}
	s.stored(eventID("newer"))
	for _, args := range [][]string{{"standard"}, {"standard", "--before", "soon"}, {"standard", "--before", "2999-01-01"}, {"nowhere", "--before", "1h"}, {}} {
		if r := h.run(append([]string{"topics", "purge", "--yes"}, args...)...); r.code == 0 {
			t.Errorf("%v: %s", args, r.stdout)
		}
	}
	if ids := h.tail("standard"); len(ids) != 1 {
		t.Errorf("%v are left", ids)
	}
	s.post(envelope(`{"type":"NoEvent"}`)).want(t, 400, "")
	if r := h.must("topics", "purge", "--before", "0s", "--yes"); !strings.Contains(r, "rejected") || !strings.Contains(r, "standard") {
		t.Errorf("of all topics: %s", r)
	}
	for _, topic := range []string{"standard", "rejected"} {
		if lines := h.must("tail", topic, "--no-follow"); lines != "" {
			t.Errorf("left in %s: %s", topic, lines)
		}
	}
}

// On a full disk the server waits for itself for ever where it finds no room for
// its notes about what is gone. So little is not deleted there; much is, because
// that makes room.
func TestPurgeOnAFullDisk(t *testing.T) {
	t.Parallel()
	h := newHome(t, "CALIPER_CONTENT_ENCODING=none", "CALIPER_REQUEST_TIMEOUT=5s")
	mountDisk(t, h.data(""), "96")
	s := h.serve()
	for i := range 300 { // their notes do not fit in what is left of the file's last page
		s.stored(eventID("full", "old", i))
	}
	before := time.Now().UTC().Add(time.Millisecond).Format("2006-01-02T15:04:05.000Z")
	eventually(t, "that time has passed", func() bool { return time.Now().UTC().Format("2006-01-02T15:04:05.000Z") > before })
	young := eventID("full", "young")
	s.stored(young)

	fill := func() (undo func()) {
		t.Helper()
		var files []string
		for i := range 4 { // what was promised to one is free again once it is written
			files = append(files, h.data(fmt.Sprint("filler", i)))
			fillDisk(t, files[i])
			if err := run("sync", "--file-system", h.data("")); err != nil {
				t.Fatal(err)
			}
		}
		return func() {
			for _, f := range files {
				os.Remove(f)
			}
		}
	}
	undo := fill()
	for _, when := range []string{before, "0s"} {
		if r := h.run("topics", "purge", "standard", "--before", when, "--yes"); r.code == 0 || !strings.Contains(r.stderr, "the disk of data has") {
			t.Errorf("little of a full disk: exit %d, %s%s", r.code, r.stdout, r.stderr)
		}
	}
	undo()
	s.stored(eventID("full", "again"))
	h.must("topics", "purge", "standard", "--before", before, "--yes")
	if ids := h.tail("standard"); len(ids) != 2 || ids[young] != 1 {
		t.Errorf("%v are left", ids)
	}

	for i := range 24 {
		s.post(envelope(strings.Repeat("x", 900_000), eventID("full", "large", i))).want(t, 200, "standard")
	}
	fill()
	h.must("topics", "purge", "standard", "--before", "0s", "--yes")
	s.stored(eventID("full", "at last"))
	if ids := h.tail("standard"); len(ids) != 1 {
		t.Errorf("%v are left", ids)
	}
}
