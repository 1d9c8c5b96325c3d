package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"caliperedge/edge"

	"github.com/spf13/pflag"
)

const exampleFile = "examples/caliper-edge.yaml"

// The example file has every setting, at its default where it has one, and
// what is commented out is a setting as well.
func TestExampleFile(t *testing.T) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	fs := new(config).settings()
	defaults := make(map[string]string)
	fs.VisitAll(func(f *pflag.Flag) { defaults[keyName(f.Name)] = f.Value.String() })
	delete(defaults, "config")

	c, _, err := load(t, nil, nil, string(text))
	if err != nil {
		t.Fatal(err)
	}
	loaded := make(map[string]string)
	commented := regexp.MustCompile(`(?m)^# (\w+): (.*)$`)
	for _, m := range commented.FindAllStringSubmatch(string(text), -1) {
		if _, known := defaults[m[1]]; !known {
			t.Errorf("%s is commented out and no setting", m[1])
		}
		loaded[m[1]] = ""
		if err := new(config).settings().Set(strings.ReplaceAll(m[1], "_", "-"), strings.Trim(m[2], "[]")); err != nil {
			t.Errorf("what is commented out: %s: %v", m[1], err)
		}
	}
	set := regexp.MustCompile(`(?m)^(\w+): ([^#\n]+?) *(#.*)?$`)
	for _, m := range set.FindAllStringSubmatch(string(text), -1) {
		want, known := defaults[m[1]]
		if !known {
			t.Errorf("%s is no setting", m[1])
			continue
		}
		loaded[m[1]] = m[2]
		fs := new(config).settings()
		flag := fs.Lookup(strings.ReplaceAll(m[1], "_", "-"))
		value := m[2]
		if _, list := flag.Value.(pflag.SliceValue); list {
			value = strings.ReplaceAll(strings.Trim(value, "[]"), ", ", ",")
		}
		if err := fs.Set(flag.Name, value); err != nil || flag.Value.String() != want {
			t.Errorf("%s is %s, the default is %s (%v)", m[1], flag.Value, want, err)
		}
	}
	for key := range defaults {
		if _, there := loaded[key]; !there {
			t.Errorf("%s is not in the file", key)
		}
	}
	if len(c.Tools) != 2 || c.Tools["Engage"].Sensor == nil || c.Tools["Blackboard"].Vocabulary == nil || !c.Rules.DemandsKeys() {
		t.Errorf("tools and rules are not all read: %+v", c.Tools)
	}
	if _, err := c.layout(10 << 30); err != nil {
		t.Error(err)
	}
}

// The example's rules decide as its comments say.
func TestExampleRules(t *testing.T) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := load(t, nil, nil, string(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.offline()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Drain(t.Context())
	const head = `{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":"urn:1","actor":{"id":"urn:unizin:engage:c:prod:user:176","type":"Person"},"eventTime":"2026-11-22T20:00:00.000Z"`
	const page, quiz = `,"type":"ViewEvent","action":"Viewed"`, `,"type":"AssessmentEvent","action":"Started"`
	const engage = `,"group":{"id":"urn:unizin:engage:c:prod:term:11:course:63:section:79"}`
	const launch = `,"federatedSession":{"messageParameters":{"custom_canvas_course_id":63}}`
	f := func(tool, sensor, more, topics, rule string, adds ...string) {
		t.Helper()
		err := c.routeEnvelope(p, tool, envelopeAround(sensor, []byte("["+head+more+"}]")), func(r routed) error {
			if got := strings.Join(r.Topics, " "); got != topics || r.Rule != rule {
				t.Errorf("%s, %s: %s by %s, want %s by %s", tool, more, got, r.Rule, topics, rule)
			}
			for _, want := range adds {
				if !strings.Contains(string(r.Adds), want) {
					t.Errorf("%s, %s: adds %s, want %s", tool, more, r.Adds, want)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	f("Engage", "https://engage.example.edu/sensor", page+engage, "quarantine", "engage-pages", `"course":["63"],"section":["79"],"person":["176"]`, `"awaits":["course","person"]`)
	f("Engage", "https://engage.example.edu.evil/sensor", page+engage, "standard", "", `"mismatch":["sensor"]`)
	f("Engage", "https://engage.example.edu/sensor", page+engage+`,"edApp":"https://quiz.example.edu"`, "standard", "", `"mismatch":["edApp"]`)
	f("Quiz", "s", quiz, "standard live", "")
	f("Quiz", "s", quiz+launch, "enriched live", "lti-launched", `"course":["63"]`)
	// The set of the file's own: a course that is the page itself, or has pages below it.
	const recording = `,"session":{"id":"urn:umich:engin:leccap:session:s7"},"group":{"id":"https://leccap.example.edu/courses/`
	for _, course := range []string{"EECS-1", "EECS-1/lectures/2"} {
		f("Recorder", "s", page+launch+recording+course+`"}`, "enriched", "lti-launched",
			`{"identifiers":{"course":["63","EECS-1"],"person":["urn:unizin:engage:c:prod:user:176"],"session":["s7"]}}`)
	}
	f("Recorder", "s", page+launch+`,"session":{"id":"urn:umich:other:s7"},"group":{"id":"https://leccap.example.org/courses/EECS-1"}`, "enriched", "lti-launched",
		`{"identifiers":{"course":["63"],"person":["urn:unizin:engage:c:prod:user:176"]}}`)
	f("Blackboard", "s", page+launch, "standard", "")
	f("Blackboard", "s", `,"type":"https://vendor.example.com/caliper/LTIEvent","action":"LoggedIn"`, "standard", "", `"extra":["type/action"]`)
	f("Other", "s", `,"type":"https://vendor.example.com/caliper/LTIEvent","action":"LoggedIn"`, "", "")

	// And the endpoint is told what the file says of a tool.
	endpoint := c.edge(nil)
	for _, tool := range []string{"Blackboard", "Engage", "Other"} {
		if keeps := endpoint.KeepRejected(tool); keeps != (tool != "Blackboard") {
			t.Errorf("what is refused of %s is kept: %v", tool, keeps)
		}
	}
	if want := (edge.Rate{Requests: 50, Events: 500, Burst: 10 * time.Second}); len(endpoint.Rates) != 1 || endpoint.Rates["Blackboard"] != want {
		t.Errorf("rates are %+v, want %+v for Blackboard alone", endpoint.Rates, want)
	}
	if endpoint.Rate.Requests != 0 || endpoint.Rate.Events != 0 {
		t.Errorf("other tools have the rate %+v", endpoint.Rate)
	}
}

// The rule and the event of the walk-through belong together: the route that
// the page prints is the one that is found.
func TestFirstEvent(t *testing.T) {
	text, err := os.ReadFile("docs/first-event.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(language string) string {
		m := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(text)
		if m == nil {
			t.Fatalf("no %s in the page", language)
		}
		return string(m[1])
	}
	c, _, err := load(t, nil, nil, block("yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.offline()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Drain(t.Context())
	if err := c.routeEnvelope(p, "Engage", []byte(block("json")), func(r routed) error {
		for _, want := range []string{": " + r.Topics[0] + "\n", "by rule " + r.Rule, string(r.Adds)} {
			if !strings.Contains(string(text), want) {
				t.Errorf("the page does not have %s", want)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// Every piece of configuration in the reference is one that loads, and the
// reference names all that a tool can be set to.
func TestConfigurationReference(t *testing.T) {
	text, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 4 {
		t.Errorf("%d blocks of configuration", len(blocks))
	}
	for _, b := range blocks {
		c, _, err := load(t, nil, nil, b[1])
		if err != nil {
			t.Errorf("%v:\n%s", err, b[1])
			continue
		}
		if _, err := c.layout(10 << 30); err != nil {
			t.Errorf("%v:\n%s", err, b[1])
		}
	}
	source, err := os.ReadFile("tools.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?:case|key.Value ==) "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		if !strings.Contains(string(text), "`"+m[1]+"`") {
			t.Errorf("the reference does not have the setting %s of a tool", m[1])
		}
	}
}
