package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"

	"caliperedge/internal/natstest"
)

// objectless is an envelope that is refused where events need an object.
func objectless(ids ...string) string {
	return strings.ReplaceAll(envelope("", ids...), `"object":`, `"objekt":`)
}

// Events that were refused under one configuration are stored under another by
// replay: once, with their origin, beside a running program; what still does not
// conform stays where it is, and so does everything in the topic it reads.
func TestReplay(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve("--check-object", "on")
	s.post(objectless(eventID("a"), eventID("b"))).want(t, 400, `"rejected:1"`)
	s.post(objectless(eventID("a"))).want(t, 400, `"rejected:2"`)
	s.post(strings.ReplaceAll(objectless(eventID("bad")), `"actor":`, `"actress":`)).want(t, 400, `"rejected:3"`)
	s.post(`{"sensor":`).want(t, 415, `"rejected:4"`)
	s.stored(eventID("c"))
	s.stop()

	s = h.serve()
	s.post(objectless(eventID("b"))).want(t, 200, "standard:2") // the vendor has sent it again
	before := h.must("tail", "rejected", "--no-follow")
	out := h.must("replay", "rejected", "--dry-run")
	for _, want := range []string{
		"demo  standard  1        2              ",
		"demo  -         1        0              actor",
		"demo  -         1        0              json",
		"5 records of rejected read",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("a dry run does not say %q:\n%s", want, out)
		}
	}
	if ids := h.tail("standard"); len(ids) != 2 {
		t.Fatalf("after a dry run: %v", ids)
	}
	if r := h.runWith("n\n", "replay", "rejected"); r.code == 0 || !strings.Contains(r.stderr, "nothing was changed") {
		t.Errorf("answered with n: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
	for i, want := range []string{"1 records written", "nothing to write", "nothing to write"} {
		args := []string{"replay", "rejected", "--yes"}
		if i == 2 {
			args = append(args, "--tool", "other")
		}
		if r := h.run(args...); r.code != 0 || !strings.Contains(r.stdout, want) || !strings.Contains(r.stderr, "reading rejected: ") {
			t.Errorf("run %d: exit %d, %s%s, want %s", i, r.code, r.stdout, r.stderr, want)
		}
	}
	found := 0
	for line := range strings.Lines(h.must("tail", "standard", "--no-follow")) {
		var record struct{ ID, Tool, Topic, Origin, Received string }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		switch {
		case record.ID != eventID("a"):
		case record.Tool != "demo" || record.Topic != "standard" || record.Origin != "caliper-rejected:1:1" || !strings.Contains(before, record.Received):
			t.Errorf("the record is %+v", record)
		default:
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d records of the event, want 1", found)
	}
	if after := h.must("tail", "rejected", "--no-follow"); after != before {
		t.Errorf("the topic that was read has changed:\n%s\nwas\n%s", after, before)
	}
	if r := h.run("replay", "nowhere"); r.code == 0 {
		t.Error("an unknown topic is taken")
	}
}

// A sensor that was too long for the record of what was refused does not keep
// its events from being replayed: its beginning stands for it, and is marked.
func TestReplayOfACutSensor(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve("--check-object", "on")
	const sensor = "https://example.edu/" + secretMark
	long := sensor + strings.Repeat("/x", 5000)
	s.post(strings.Replace(objectless(eventID("cut")), sensor, long, 1)).want(t, 400, `"rejected:1"`)
	s.stop()
	s = h.serve()
	if out := h.must("replay", "rejected", "--yes"); !strings.Contains(out, "1 records written") {
		t.Error(out)
	}
	var record struct {
		ID, Sensor string
		Cut        []string
	}
	line := h.must("tail", "standard", "--no-follow")
	if err := json.Unmarshal([]byte(line), &record); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if n := len(record.Sensor); record.ID != eventID("cut") || n < 8000 || n >= len(long) || !strings.HasPrefix(long, record.Sensor) || strings.Join(record.Cut, " ") != "sensor" {
		t.Errorf("the record has id %s, %d bytes of a sensor of %d, cut %q", record.ID, n, len(long), record.Cut)
	}
	s.stop()
}

// The same with an external server, beside a running program and without.
func TestReplayOnAnExternalServer(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	h := newHome(t, "CALIPER_NATS_URL="+withUser(n))
	h.write("edge.yaml", keysFile)
	s := h.serve("--config", "edge.yaml", "--check-object", "on")
	waits := func(id string, course int) string {
		return strings.ReplaceAll(routingEnvelope("https://example.edu/sensors/1", launchedEvent(eventID(id), course)), `"object":`, `"objekt":`)
	}
	s.post(objectless(eventID("plain"))).want(t, 400, `"rejected:1"`)
	s.post(waits("known", 63)).want(t, 400, `"rejected:2"`)
	h.learn("demo", 63, 63)
	s.stop()

	args := []string{"replay", "rejected", "--yes", "--config", "edge.yaml"}
	out := h.must(args...)
	for _, want := range []string{"demo  enriched  1 ", "demo  standard  1 ", "2 records written"} {
		if !strings.Contains(out, want) {
			t.Errorf("replay does not say %q:\n%s", want, out)
		}
	}
	h.arrived([]string{eventID("known")})
	s = h.serve("--config", "edge.yaml")
	if out := h.must(args...); !strings.Contains(out, "nothing to write") {
		t.Errorf("the second time:\n%s", out)
	}
	s.stop()
	n.Kill()
	if r := h.run(args...); r.code == 0 || !strings.Contains(r.stderr, n.Addr()) {
		t.Errorf("replay without the server: exit %d, %s", r.code, r.stderr)
	}
}
