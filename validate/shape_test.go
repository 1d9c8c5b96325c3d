package validate

import (
	"strings"
	"testing"
)

func TestShape(t *testing.T) {
	const head = `{"sensor":"s","sendTime":"2026-11-22T20:00:00.000Z","dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1","data":[`
	const event = `{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":"urn:1","type":"ViewEvent","action":"Viewed","actor":"urn:a","eventTime":"2026-11-22T20:00:00.000Z","object":{"id":"urn:o"}}`
	shape := func(item string) uint64 {
		t.Helper()
		env, err := Parse([]byte(head+item+"]}"), Options{})
		if err != nil || env.Conformant() != 1 {
			t.Fatalf("%s: %v, %v", item, err, env)
		}
		defer env.Release()
		it := &env.Items()[0]
		if n := testing.AllocsPerRun(10, func() { it.Shape() }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		return it.Shape()
	}
	with := func(old, new string) string { return strings.Replace(event, old, new, 1) }
	base := shape(event)
	for what, same := range map[string]string{
		"other values": with(`"urn:1"`, `"urn:2"`),
		"other order":  with(`"id":"urn:1","type":"ViewEvent"`, `"type":"ViewEvent","id":"urn:1"`),
		"deeper names": with(`{"id":"urn:o"}`, `{"id":"urn:o","name":"n"}`),
		"white space":  with(`,"action"`, ` , "action" `),
	} {
		if shape(same) != base {
			t.Errorf("%s: another shape", what)
		}
	}
	for what, other := range map[string]string{
		"a member more": with(`"object"`, `"group":"urn:g","object"`),
		"a member less": with(`,"object":{"id":"urn:o"}`, ``),
		"another type":  with("ViewEvent", "Event"),
		"another name":  with(`"object"`, `"objects"`),
	} {
		if shape(other) == base {
			t.Errorf("%s: the same shape", what)
		}
	}
}
