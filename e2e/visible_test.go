package e2e_test

import (
	"strings"
	"testing"
	"unicode"
)

// What a sensor has sent can neither command the terminal of somebody who looks
// at it nor show a text as another, in whatever member it stands.
func TestNothingHiddenIsPrinted(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("edge.yaml", routingFile+"  - {name: apps, when: {ed_app: https://app, equals: {group: x}}, topic: enriched}\n")
	const hostile, escaped = `\u001b]0;x\u0007\u009b2J\u202e\u007f\n`, `\u001b]0;x\u0007\u009b2J\u202e\u007f\u000a`
	raw := "\u009b2J\u202e\x7f" // JSON lets them stand as they are
	event := routingEvent("urn:"+raw+hostile, `,"edApp":"https://app`+hostile+`","federatedSession":{"messageParameters":{"context_id":"`+raw+`"}}`)
	other := strings.Replace(event, "https://example.edu/"+secretMark, hostile, 1)
	faulty := strings.Replace(event, "2026-11-22T20:00:00.000Z", hostile+raw, 1)
	for name, body := range map[string]string{
		"enriched": event, "object": other, "faulty": faulty, "sensor": routingEnvelope(hostile, event),
		"version": strings.Replace(routingEnvelope("s", event), `/caliper/v1p1","data"`, hostile+`","data"`, 1),
	} {
		if !strings.HasPrefix(body, `{"sensor"`) {
			body = routingEnvelope("https://example.edu/", body)
		}
		for command, args := range map[string][]string{
			"route": {"route", "--config", "edge.yaml", "--tool", "demo"}, "any route": {"route", "--config", "edge.yaml"},
			"validate": {"validate"}, "shapes": {"shapes"}, "shapes --values": {"shapes", "--values"}, "page": {"shapes", "--values", "--format", "html"},
		} {
			r := h.runWith(body, append(args, "-")...)
			out := r.stdout + r.stderr
			if strings.ContainsFunc(out, func(r rune) bool { return r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf) }) {
				t.Errorf("%s of %s prints %q", command, name, out)
			}
			if strings.HasPrefix(command, "shapes") && !strings.Contains(out, "edApp https://app"+escaped) {
				t.Errorf("%s of %s does not show the edApp: %s", command, name, out)
			}
			if command == "route" && name == "object" && !strings.Contains(out, "object begins with https://example.edu/: it is "+escaped) {
				t.Errorf("route does not show the object: %s", out)
			}
		}
	}
}
