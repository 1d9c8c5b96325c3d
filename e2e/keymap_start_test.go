package e2e_test

import (
	"slices"
	"strings"
	"testing"

	"caliperedge/internal/natstest"
)

const keymapStream = "KV_caliper-keymap"

// A start does not wait for the key map longer than it may: events that demand
// keys go to quarantine until it is loaded, and then move.
func TestKeymapWaitRunsOut(t *testing.T) {
	t.Parallel()
	const (
		allowed   = "authorization { users: [{ user: edge, password: \"" + natsPassword + "\" }] }"
		forbidden = "authorization { users: [{ user: edge, password: \"" + natsPassword + "\"," +
			" permissions: { publish: { deny: [\"$JS.API.CONSUMER.CREATE." + keymapStream + ".>\"] } } }] }"
	)
	n := natstest.Start(t, natstest.Options{Config: allowed})
	h := newHome(t, "CALIPER_NATS_URL="+withUser(n))
	h.write("edge.yaml", keysFile)
	h.serve("--config", "edge.yaml").stop()
	h.learn("demo", 63, 63)

	n.Kill()
	n.SetConfig(allowed, forbidden)
	n.Restart()
	s := h.serve("--config", "edge.yaml", "--keymap-wait", "1s")
	if log := s.stderr.String(); !strings.Contains(log, "the key map is not loaded yet") {
		t.Errorf("the log says nothing of it: %s", log)
	}
	post := func(id, topic string) {
		t.Helper()
		s.post(routingEnvelope("https://example.edu/sensors/1", launchedEvent(eventID(id), 63))).want(t, 200, `"topics":{"`+topic+`":`)
	}
	post("early", "quarantine")
	if s.metric("caliper_keymap_loaded") != 0 {
		t.Error("the metric says that the key map is loaded")
	}
	if r := h.run("replay", "standard", "--config", "edge.yaml", "--keymap-wait", "1s"); r.code == 0 || !strings.Contains(r.stderr, "the key map was not loaded in 1s") {
		t.Errorf("replay without the key map: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}

	n.Kill()
	n.SetConfig(forbidden, allowed)
	n.Restart()
	eventually(t, "the key map is loaded", func() bool { return s.metric("caliper_keymap_loaded") == 1 })
	leftQuarantine(t, natstest.JetStream(t, withUser(n)))
	post("late", "enriched")
	h.arrived([]string{eventID("early"), eventID("late")})
	s.stop()
}

// Who only verifies streams does not make the bucket of the key map either, and
// follows one that somebody else makes.
func TestKeymapThatIsOnlyVerified(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	js := natstest.JetStream(t, withUser(n))
	create := newHome(t, "CALIPER_NATS_URL="+withUser(n))
	create.serve().stop() // it has no rules, so it makes topics alone
	h := newHome(t, "CALIPER_NATS_URL="+withUser(n), "CALIPER_STREAMS=verify")
	h.write("edge.yaml", keysFile)
	s := h.serve("--config", "edge.yaml")
	post := func(id, topic string) {
		t.Helper()
		s.post(routingEnvelope("https://example.edu/sensors/1", launchedEvent(eventID(id), 63))).want(t, 200, `"topics":{"`+topic+`":`)
	}
	post("early", "quarantine")
	if r := h.runWith("tool,kind,value,key\ndemo,course,63,C63\n", "keymap", "import", "-"); r.code == 0 || !strings.Contains(r.stderr, "caliper-keymap") {
		t.Errorf("an import where there is no bucket: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
	if out := h.must("keymap", "list"); out != "tool,kind,value,key\n" {
		t.Errorf("the key map is\n%s", out)
	}
	s.stop()
	h.serve("--config", "edge.yaml").stop()
	if names := streamNames(t, js); slices.Contains(names, keymapStream) || !slices.Contains(names, "caliper-standard") {
		t.Fatalf("the streams are %q", names)
	}

	s = h.serve("--config", "edge.yaml")
	create.learn("demo", 63, 63)
	leftQuarantine(t, js)
	post("late", "enriched")
	h.arrived([]string{eventID("early"), eventID("late")})
	s.stop()
}
