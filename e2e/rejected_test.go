package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// What is refused can be read back from the topic, with its receipt, until it is
// switched off.
func TestRejectedOfARunningProgram(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve()
	bad := strings.Replace(envelope("", eventID("bad")), `"actor":`, `"actress":`, 1)
	s.post(bad).want(t, 400, `"topics":{"rejected":"rejected:1"}`)
	s.post(`{"sensor":`).want(t, 415, `"topics":{"rejected":"rejected:2"}`)
	s.post(bad, "X-DEBUG", "TRUE").want(t, 400, "accepted_events")
	type record struct {
		ID, Tool, Topic string
		Reasons         []struct{ Code string }
		Event           map[string]any
		Raw             []byte
	}
	var records []record
	for line := range strings.Lines(h.must("tail", "rejected", "--no-follow")) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		records = append(records, r)
	}
	if len(records) != 2 || records[0].ID != eventID("bad") || records[0].Reasons[0].Code != "actor" || records[0].Event["actress"] == nil ||
		string(records[1].Raw) != `{"sensor":` || records[1].Tool != "demo" || records[1].Topic != "rejected" {
		t.Errorf("records are %+v", records)
	}
	if kept := s.metric(`caliper_rejected_kept_total{tool="demo"}`); kept != 2 {
		t.Errorf("%v records were counted", kept)
	}
	s.stop()

	h.write("edge.yaml", "tools:\n  demo: {rejected: off}\n")
	s = h.serve("--config", "edge.yaml")
	if a := s.post(bad); a.status != 400 || strings.Contains(a.body, "topics") {
		t.Errorf("switched off: %d %s", a.status, a.body)
	}
}

// Switched off for all tools, nothing that is refused is kept, but of a tool for
// which the file says otherwise.
func TestRejectedIsOff(t *testing.T) {
	t.Parallel()
	h := newHome(t, "CALIPER_REJECTED=off")
	s := h.serve()
	bad := strings.Replace(envelope("", eventID("bad")), `"actor":`, `"actress":`, 1)
	mixed := strings.Replace(envelope("", eventID("worse"), eventID("good")), `"actor":`, `"actress":`, 1)
	for _, body := range []string{bad, `{"sensor":`, `{}`} {
		if a := s.post(body); a.status < 400 || strings.Contains(a.body, "topics") {
			t.Errorf("answered %d %s", a.status, a.body)
		}
	}
	s.post(mixed).want(t, 202, `{"accepted":1,"rejected":1,"topics":{"standard":"standard:1"},"routes":[null,"standard"]}`)
	if out := h.must("tail", "rejected", "--no-follow"); out != "" {
		t.Errorf("kept all the same:\n%s", out)
	}
	for name, n := range s.numbers() {
		if strings.HasPrefix(name, "caliper_rejected_") && n != 0 {
			t.Errorf("%s is %v", name, n)
		}
	}
	s.stop()

	h.write("edge.yaml", "tools:\n  demo: {rejected: on}\n")
	h.serve("--config", "edge.yaml").post(bad).want(t, 400, `"rejected:1"`)
}
