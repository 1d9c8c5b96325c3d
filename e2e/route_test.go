package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// routingFile is a configuration with rules, ties and a vocabulary.
const routingFile = `
topics:
  standard: {max_bytes: 40%}
  live: {max_bytes: 1MiB}
tools:
  demo:
    sensor: https://example.edu/
    vocabulary: {contexts: [https://vendor.example.com/ctx], actions: {QuizEvent: [Shuffled]}}
identifiers:
  pages:
    - {path: object, pattern: "https://example.edu/{part}/*"}
rules:
  - name: navigation
    when: {tool: demo, type: NavigationEvent, prefix: {object: "https://example.edu/"}}
    topic: enriched
    also: live
    identifiers: [pages, lti]
`

func routingEvent(id, more string) string {
	return `{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":"` + id + `","type":"NavigationEvent","action":"NavigatedTo",` +
		`"actor":"https://example.edu/users/1","eventTime":"2026-11-22T20:00:00.000Z","object":"https://example.edu/` + secretMark + `/1"` + more + `}`
}

func routingEnvelope(sensor string, events ...string) string {
	return `{"sensor":"` + sensor + `","sendTime":"2026-11-22T20:00:00.000Z","dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1","data":[` + strings.Join(events, ",") + `]}`
}

// The answer, the debug answer and caliper-edge route tell the same decision,
// and the records are where it says.
func TestRoutes(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("edge.yaml", routingFile)
	s := h.serve("--config", "edge.yaml")
	events := []string{
		routingEvent(eventID("a"), `,"federatedSession":{"messageParameters":{"custom_canvas_course_id":63}}`),
		strings.Replace(routingEvent(eventID("b"), ""), "https://example.edu/"+secretMark, "https://elsewhere/"+secretMark, 1),
		strings.NewReplacer("NavigationEvent", "QuizEvent", "NavigatedTo", "Shuffled").Replace(routingEvent(eventID("c"), "")),
		strings.Replace(routingEvent(eventID("d"), ""), "NavigatedTo", "Shuffled", 1),
	}
	body := routingEnvelope("https://example.edu/sensors/1", events...)
	gains := `{"identifiers":{"part":["` + secretMark + `"],"course":["63"]}}`

	a := s.post(body)
	a.want(t, 202, `"routes":[["enriched","live"],"standard","standard",null]`)
	var debug struct {
		Accepted []struct {
			Topics                map[string]string
			Rule, Nearest, Failed string
			Adds                  json.RawMessage
		} `json:"accepted_events"`
	}
	if err := json.Unmarshal([]byte(s.post(body, "X-DEBUG", "TRUE").body), &debug); err != nil || len(debug.Accepted) != 3 {
		t.Fatalf("debug answer: %v, %+v", err, debug)
	}
	if d := debug.Accepted[0]; len(d.Topics) != 2 || d.Rule != "navigation" || string(d.Adds) != gains {
		t.Errorf("debug says of the first %+v, adds %s", d, d.Adds)
	}
	if d := debug.Accepted[1]; d.Rule != "" || d.Nearest != "navigation" || !strings.Contains(d.Failed, "object begins with https://example.edu/: it is https://elsewhere/") {
		t.Errorf("debug says of the second %+v", d)
	}
	if d := debug.Accepted[2]; string(d.Adds) != `{"extra":["type/action"]}` {
		t.Errorf("debug says of the third %+v, adds %s", d, d.Adds)
	}

	path := filepath.Join(h.dir, "body.json")
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	offline := h.run("route", "--config", "edge.yaml", "--tool", "demo", "--json", path)
	lines := strings.Split(strings.TrimSuffix(offline.stdout, "\n"), "\n")
	if offline.code != 1 || len(lines) != 4 {
		t.Fatalf("route: exit %d: %s%s", offline.code, offline.stdout, offline.stderr)
	}
	for i, line := range lines {
		var r struct {
			Index                 int
			Topics, Faults        []string
			Rule, Nearest, Failed string
			Adds                  json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Index != i {
			t.Fatalf("%v: %s", err, line)
		}
		if i == 3 {
			if r.Topics != nil || !slices.Equal(r.Faults, []string{"type/action"}) {
				t.Errorf("route says %s", line)
			}
			continue
		}
		d := debug.Accepted[i]
		for _, topic := range r.Topics {
			if _, ok := d.Topics[topic]; !ok || len(d.Topics) != len(r.Topics) {
				t.Errorf("item %d: route says %s, debug %v", i, r.Topics, d.Topics)
			}
		}
		if r.Rule != d.Rule || r.Nearest != d.Nearest || r.Failed != d.Failed || string(r.Adds) != string(d.Adds) {
			t.Errorf("item %d: route says %s, debug %+v", i, line, d)
		}
	}
	people := h.run("route", "--config", "edge.yaml", "--tool", "demo", path).stdout
	for _, want := range []string{"enriched, live\n  by rule navigation\n  its record gains " + gains, "standard\n  by no rule; nearest is navigation, but for: ", "not accepted, at fault: type/action"} {
		if !strings.Contains(people, want) {
			t.Errorf("route does not say %q:\n%s", want, people)
		}
	}
	for _, topic := range []string{"enriched", "live"} {
		records := h.must("tail", topic, "--no-follow", "--config", "edge.yaml")
		if strings.Count(records, "\n") != 1 || !strings.Contains(records, `,`+gains[1:len(gains)-1]+`,"event":{`) {
			t.Errorf("topic %s has %s", topic, records)
		}
	}
	if standard := h.must("tail", "standard", "--no-follow"); strings.Count(standard, "\n") != 2 || !strings.Contains(standard, `"type":"QuizEvent","action":"Shuffled"`) || !strings.Contains(standard, `,"extra":["type/action"],"event":{`) {
		t.Errorf("topic standard has %s", standard)
	}
	// Records are routed as their events were, with their envelope's sensor.
	records := h.must("tail", "enriched", "--no-follow") + h.must("tail", "standard", "--no-follow")
	again := h.runWith(records+strings.ReplaceAll(records, "https://example.edu/sensors/1", "https://elsewhere"), "route", "--config", "edge.yaml", "--tool", "demo", "-").stdout
	if strings.Count(again, ": enriched, live\n") != 1 || strings.Count(again, ": standard\n") != 5 || strings.Count(again, "sensor begins with https://example.edu/, as tool demo must: it is https://elsewhere\n") != 3 {
		t.Errorf("route says of the records:\n%s", again)
	}
}

// A tool that speaks as another is standard, marked and counted, but not in
// debug.
func TestMismatch(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("edge.yaml", routingFile)
	s := h.serve("--config", "edge.yaml")
	body := routingEnvelope("https://elsewhere/", routingEvent(eventID("a"), ""), routingEvent(eventID("b"), ""))
	s.post(body, "X-DEBUG", "TRUE").want(t, 200, `"failed":"sensor begins with https://example.edu/, as tool demo must: it is https://elsewhere/"`)
	s.post(body).want(t, 200, `"topics":{"standard":"standard:1"}`)
	if n := s.metric(`caliper_events_mismatched_total{tool="demo"}`); n != 2 {
		t.Errorf("%v mismatches were counted, want 2", n)
	}
	if records := h.must("tail", "standard", "--no-follow"); strings.Count(records, `,"mismatch":["sensor"],"event":{`) != 2 {
		t.Errorf("records are %s", records)
	}
}

// What a tool is granted holds for that tool alone, also offline; files may hold
// events without an envelope.
func TestRouteAndValidateByTool(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("edge.yaml", routingFile)
	quiz := strings.NewReplacer("NavigationEvent", "QuizEvent", "NavigatedTo", "Shuffled").Replace(routingEvent(eventID("c"), ""))
	f := func(code int, stdin, stdout string, args ...string) {
		t.Helper()
		r := h.runWith(stdin, append(args, "--config", "edge.yaml", "-")...)
		if r.code != code || !strings.Contains(r.stdout, stdout) {
			t.Errorf("%v: exit %d, want %d with %q: %s%s", args, r.code, code, stdout, r.stdout, r.stderr)
		}
	}
	envelope := routingEnvelope("https://example.edu/", quiz)
	f(0, envelope, "-: 200, 1 conformant", "validate", "--tool", "demo")
	f(1, envelope, "an event type", "validate")
	f(0, envelope, ": standard", "route", "--tool", "demo")
	f(1, envelope, "at fault: type/action", "route")
	f(0, routingEvent("urn:1", ""), ": enriched, live", "route", "--tool", "demo")
	f(0, routingEvent("urn:1", ""), "but for: tool is demo: it is offline", "route")
	f(0, "["+routingEvent("urn:1", "")+","+quiz+"]", `item 1, id "`+eventID("c")+`": standard`, "route", "--tool", "demo")
	f(0, routingEvent("urn:1", "")+"\n"+routingEvent("urn:2", "")+"\n", `item 1, id "urn:2": enriched, live`, "route", "--tool", "demo")
	f(1, "no JSON", "", "route")
	// Blank lines, Windows' line ends and a last line without one.
	one, two := routingEvent("urn:1", ""), routingEnvelope("https://example.edu/", routingEvent("urn:2", ""))
	for _, text := range []string{one + "\n\n" + two, "\r\n" + one + "\r\n \t\r\n" + two + "\r\n\r\n", one + "\r\n" + two} {
		f(0, text, `item 1, id "urn:2": enriched, live`, "route", "--tool", "demo")
	}
	if r := h.runWith(one+"\n\n{\n"+two, "route", "--config", "edge.yaml", "-"); r.code != 1 || !strings.Contains(r.stderr, "-:3: ") {
		t.Errorf("a bad line: exit %d, %s", r.code, r.stderr)
	}
	f(1, "\n\n", "", "route")
	for _, text := range []string{two, "\r\n\r\n" + strings.ReplaceAll(two, ",", ",\r\n\r\n") + "\r\n\r\n"} {
		f(0, text, "-: 200, 1 conformant", "validate", "--tool", "demo")
	}
	f(0, `{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":"urn:p","type":"Person"}`, ": entities\n", "route")
	// A list of events may be longer than an envelope; an envelope may not, nor be
	// larger than the endpoint takes.
	f(0, "["+strings.Repeat(one+",", 10_000)+routingEvent("urn:last", "")+"]", `item 10000, id "urn:last": enriched, live`, "route", "--tool", "demo")
	f(0, "["+one+","+strings.Replace(one, "urn:1", "urn:2", 1)+"]", `item 1, id "urn:2": enriched, live`, "route", "--tool", "demo", "--max-body-bytes", "1KiB")
	if r := h.runWith(one+"\n"+two, "route", "--config", "edge.yaml", "--max-body-bytes", "1KiB", "-"); r.code != 0 {
		t.Errorf("a small envelope: exit %d, %s", r.code, r.stderr)
	}
	large := routingEnvelope("https://example.edu/", strings.TrimSuffix(strings.Repeat(one+",", 5), ","))
	if r := h.runWith(one+"\n"+large, "route", "--config", "edge.yaml", "--max-body-bytes", "1KiB", "-"); r.code != 1 ||
		!strings.Contains(r.stderr, fmt.Sprintf("-:2: envelope of %d bytes, the endpoint takes at most 1024", len(large))) {
		t.Errorf("a large envelope: exit %d, %s", r.code, r.stderr)
	}
	f(2, one, "", "route", "--tool", "a b")
	h.write("edge.yaml", routingFile+"  - {name: watched, when: {type: NavigationEvent}, also: live}\n")
	f(0, one, ": standard, live\n  by no rule; nearest is navigation, but for: tool is demo: it is offline\n  copied by rule watched\n", "route")
	f(0, one, `"copied_by":["watched"]`, "route", "--json")
	f(0, two, `"copied_by":["watched"]`, "validate", "--json")
	f(2, one, "", "validate", "--tool", "a b")
	// Events without an envelope are their tool's, whatever signs its sensor has.
	h.write("edge.yaml", strings.Replace(routingFile, "https://example.edu/\n", `"\a\U000E0001"`+"\n", 1))
	f(0, one, ": enriched, live", "route", "--tool", "demo")
}

// Events that were stored or refused under another configuration take the
// topics of the new rules, and gain what these add, by replay.
func TestReplayUnderNewRules(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve()
	quiz := strings.NewReplacer("NavigationEvent", "QuizEvent", "NavigatedTo", "Shuffled").Replace(routingEvent(eventID("quiz"), ""))
	s.post(routingEnvelope("https://example.edu/", routingEvent(eventID("page"), ""), quiz)).want(t, 202, `"standard:1"`)
	h.write("edge.yaml", routingFile)
	for _, args := range [][]string{{"tail", "live", "--no-follow"}, {"replay", "standard", "--dry-run"}} {
		if r := h.run(append(args, "--config", "edge.yaml")...); r.code != 1 || !strings.Contains(r.stderr, "caliper-edge topics apply creates") {
			t.Errorf("%v of a topic that has no stream yet: exit %d, %s", args, r.code, r.stderr)
		}
	}
	h.write("edge.yaml", strings.Replace(routingFile, "also: live", "", 1))
	// Who breaks off at the question writes nothing.
	asking := h.command("replay", "standard", "--config", "edge.yaml")
	if _, err := asking.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	asked := launch(t, asking)
	eventually(t, "the question", func() bool { return strings.Contains(asked.stdout.String(), "write 1 records? [y/N]") })
	asked.signal(os.Interrupt)
	if code := asked.wait(); code != 1 || !strings.Contains(asked.stderr.String(), "nothing was changed") {
		t.Errorf("broken off: exit %d, %s", code, asked.stderr)
	}
	if enriched := h.must("tail", "enriched", "--no-follow"); enriched != "" {
		t.Errorf("broken off enriched has %s", enriched)
	}
	h.must("replay", "standard", "--yes", "--config", "edge.yaml")
	h.must("replay", "rejected", "--yes", "--config", "edge.yaml")
	if enriched := h.must("tail", "enriched", "--no-follow"); !strings.Contains(enriched, `"identifiers":{"part":["`+secretMark+`"]}`) || !strings.Contains(enriched, `"origin":"caliper-standard:1:1"`) {
		t.Errorf("enriched has %s", enriched)
	}
	if standard := h.must("tail", "standard", "--no-follow"); !strings.Contains(standard, `"type":"QuizEvent"`) || !strings.Contains(standard, `"extra":["type/action"]`) {
		t.Errorf("standard has %s", standard)
	}
}
