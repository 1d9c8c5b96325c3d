package rules

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"caliperedge/validate"

	"go.yaml.in/yaml/v3"
)

var testTopics = []string{Standard, Enriched, Quarantine, "entities", "rejected", "live", "audit"}

// compile makes rules of a configuration file's text, which has the keys rules
// and identifiers. cfg holds the rest.
func compile(t testing.TB, cfg Config, text string) (*Rules, error) {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	cfg.File, cfg.Topics = "c.yaml", testTopics
	for i := 0; len(doc.Content) > 0 && i < len(doc.Content[0].Content); i += 2 {
		var err error
		switch key, value := doc.Content[0].Content[i].Value, doc.Content[0].Content[i+1]; key {
		case "rules":
			cfg.Rules, err = ReadRules(value, cfg.File)
		case "identifiers":
			cfg.Sets, err = ReadSets(value, cfg.File)
		default:
			t.Fatalf("key %s", key)
		}
		if err != nil {
			return nil, err
		}
	}
	return Compile(cfg)
}

func mustCompile(t testing.TB, cfg Config, text string) *Rules {
	t.Helper()
	r, err := compile(t, cfg, text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const testSensor = "https://sensor.example.edu/1"

// event is a conformant event with further members.
func event(more string) string {
	return `{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":"urn:1","type":"ViewEvent","action":"Viewed","actor":"urn:a","eventTime":"2026-11-22T20:00:00.000Z"` + more + `}`
}

// parse calls do with the item in a conformant envelope.
func parse(t testing.TB, item string, do func(env *validate.Envelope, it *validate.Item)) {
	t.Helper()
	body := `{"sensor":"` + testSensor + `","sendTime":"2026-11-22T20:00:00.000Z","dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1","data":[` + item + `]}`
	env, err := validate.Parse([]byte(body), validate.Options{})
	if err != nil || env.Err() != nil {
		t.Fatalf("%v %v: %s", err, env.Err(), body)
	}
	do(env, &env.Items()[0])
	env.Release()
}

// decide names the topics of an event, and tells what its record gains.
func decide(t testing.TB, r *Rules, tool, item string) (topics, rule, members string) {
	t.Helper()
	parse(t, item, func(env *validate.Envelope, it *validate.Item) {
		s := Scratch{Members: []byte("stale"), edApp: []byte("stale")}
		d := r.For(tool, env.Sensor(), &s).Decide(it, &s)
		var all []string
		for i, topic := range testTopics {
			if d.Topics>>i&1 != 0 {
				all = append(all, topic)
			}
		}
		if d.Rule != nil {
			rule = d.Rule.Name
		}
		if len(s.Members) > 0 && !json.Valid([]byte("{"+string(s.Members[1:])+"}")) {
			t.Errorf("members are no JSON: %s", s.Members)
		}
		topics, members = strings.Join(all, " "), string(s.Members)
	})
	return topics, rule, members
}

// Each condition, where it holds and where it does not.
func TestConditions(t *testing.T) {
	f := func(when string, holds bool, tool, more string) {
		t.Helper()
		r := mustCompile(t, Config{}, "rules:\n  - {name: it, topic: enriched, when: "+when+"}\n")
		topics, rule, _ := decide(t, r, tool, event(more))
		want, wantRule := Standard, ""
		if holds {
			want, wantRule = Enriched, "it"
		}
		if topics != want || rule != wantRule {
			t.Errorf("%s for %s of %s: %s by %q, want %s", when, more, tool, topics, rule, want)
		}
		parse(t, event(more), func(env *validate.Envelope, it *validate.Item) {
			var s Scratch
			e := r.For(tool, env.Sensor(), &s).Explain(it)
			if (e.Rule == "it") != holds || (e.Failed == "") != holds || (e.Nearest == "it") == holds {
				t.Errorf("%s for %s of %s is explained as %+v", when, more, tool, e)
			}
		})
	}
	f(`{tool: Engage}`, true, "Engage", "")
	f(`{tool: Engage}`, false, "engage", "")
	f(`{tool: [Engage, Canvas]}`, true, "Canvas", "")
	f(`{not: {tool: Engage}}`, false, "Engage", "")
	f(`{not: {tool: Engage}}`, true, "Other", "")
	f(`{type: ViewEvent}`, true, "t", "")
	f(`{type: [NavigationEvent, MediaEvent]}`, false, "t", "")
	f(`{action: [Viewed, Paused]}`, true, "t", "")
	f(`{action: Paused}`, false, "t", "")
	f(`{ed_app: "https://a"}`, true, "t", `,"edApp":"https://a"`)
	f(`{ed_app: "https://a"}`, true, "t", `,"edApp":"https:\/\/a"`)
	f(`{ed_app: "https://a"}`, true, "t", `,"edApp":{"id":"https://a","type":"SoftwareApplication"}`)
	f(`{ed_app: "https://a"}`, false, "t", `,"edApp":"https://a/"`)
	f(`{ed_app: "https://a"}`, false, "t", "")
	f(`{ed_app: {prefix: ["https://b", "https://a"]}}`, true, "t", `,"edApp":{"id":"https://a/x"}`)
	f(`{ed_app: {prefix: "https://a"}}`, false, "t", `,"edApp":"http://a"`)
	f(`{ed_app: {prefix: "https://a"}}`, false, "t", "")
	f(`{profile: ReadingProfile}`, true, "t", `,"profile":"ReadingProfile"`)
	f(`{profile: ReadingProfile}`, false, "t", `,"profile":"MediaProfile"`)
	f(`{present: group.id}`, true, "t", `,"group":{"id":0}`)
	f(`{present: [group.id, session]}`, false, "t", `,"group":{"id":0}`)
	f(`{present: group.id}`, false, "t", `,"group":{"id":null}`)
	f(`{present: group.id}`, false, "t", `,"group":{"id":1},"group":{}`)
	f(`{equals: {group.id: [a, "5"]}}`, true, "t", `,"group":{"id":5}`)
	f(`{equals: {group.id: 5}}`, true, "t", `,"group":{"id":"5"}`)
	f(`{equals: {group.id: a}}`, true, "t", `,"group":{"id":"\u0061"}`)
	f(`{equals: {group.id: true}}`, true, "t", `,"group":{"id":true}`)
	f(`{equals: {group.id: a}}`, false, "t", `,"group":{"id":["a"]}`)
	f(`{equals: {group.id: a, session: b}}`, false, "t", `,"group":{"id":"a"}`)
	f(`{equals: {'extensions."com.example".a': x}}`, true, "t", `,"extensions":{"com.example":{"a":"x"}}`)
	f(`{prefix: {group.id: "urn:"}}`, true, "t", `,"group":{"id":"urn:1"}`)
	f(`{prefix: {group.id: "urn:"}}`, false, "t", `,"group":{"id":"ur"}`)
	f(`{prefix: {group.id: "urn:"}}`, false, "t", "")
	f(`{any: [{type: MediaEvent}, {present: group, action: Viewed}]}`, true, "t", `,"group":"x"`)
	f(`{any: [{type: MediaEvent}, {tool: x}]}`, false, "t", "")
	f(`{any: [{type: MediaEvent}, {tool: t}]}`, true, "t", "")
	f(`{all: [{type: ViewEvent}, {not: {present: group}}], action: Viewed}`, true, "t", "")
	f(`{all: [{type: ViewEvent}, {not: {present: group}}]}`, false, "t", `,"group":{}`)
	f(`{not: {any: [{present: group}, {tool: x}]}}`, true, "t", "")
}

// Each of many rules asks for an edApp of its own, or for several that others ask for
// too: more than are compared once for all rules.
func TestManyEdApps(t *testing.T) {
	text := "rules:\n  - {name: first, when: {ed_app: {prefix: [\"https://0.\", \"https://1.\"]}, action: Paused}, topic: enriched}\n"
	const apps = 2 * maxApps
	for i := range apps {
		text += fmt.Sprintf("  - {name: rule-%d, when: {ed_app: [\"https://%[1]d.example.edu\", \"https://%[1]d.example.org\"]}, topic: enriched}\n", i)
	}
	text += "  - {name: last, when: {ed_app: {prefix: \"https://\"}}, topic: enriched}\n"
	r := mustCompile(t, Config{}, text)
	for i := range apps {
		for _, domain := range []string{"edu", "org"} {
			if _, rule, _ := decide(t, r, "t", event(fmt.Sprintf(`,"edApp":"https://%d.example.%s"`, i, domain))); rule != fmt.Sprintf("rule-%d", i) {
				t.Errorf("%d.example.%s is taken by %q", i, domain, rule)
			}
		}
	}
	for app, want := range map[string]string{"https://0.example.ed": "last", "https://0.example.eduu": "last", "http://0.example.edu": "", "": "", "https:": ""} {
		if _, rule, _ := decide(t, r, "t", event(fmt.Sprintf(`,"edApp":%q`, app))); rule != want {
			t.Errorf("%q is taken by %q, want %q", app, rule, want)
		}
	}
}

// The first rule with a topic decides the tier; rules without one add copies.
func TestTiersAndCopies(t *testing.T) {
	r := mustCompile(t, Config{}, `
rules:
  - {name: low-latency, when: {present: live}, also: live}
  - {name: first, when: {present: first}, topic: enriched, also: audit}
  - {name: plain, when: {present: plain}, topic: standard}
  - {name: last, when: {type: ViewEvent}, topic: enriched}
  - {name: late-copy, when: {present: copy}, also: [audit, live]}
`)
	f := func(more, topics, rule, copiedBy string) {
		t.Helper()
		parse(t, event(more), func(env *validate.Envelope, it *validate.Item) {
			var s Scratch
			if e := r.For("t", env.Sensor(), &s).Explain(it); e.Rule != rule || strings.Join(e.CopiedBy, " ") != copiedBy {
				t.Errorf("%s is explained by %s, copied by %q, want %s and %s", more, e.Rule, e.CopiedBy, rule, copiedBy)
			}
		})
		if got, by, _ := decide(t, r, "t", event(more)); got != topics || by != rule {
			t.Errorf("%s: %s by %s, want %s by %s", more, got, by, topics, rule)
		}
	}
	f("", "enriched", "last", "")
	f(`,"first":1`, "enriched audit", "first", "")
	f(`,"plain":1`, "standard", "plain", "")
	f(`,"plain":1,"first":1`, "enriched audit", "first", "")
	f(`,"plain":1,"live":1`, "standard live", "plain", "low-latency")
	f(`,"plain":1,"copy":1`, "standard live audit", "plain", "late-copy")
	f(`,"first":1,"live":1,"copy":1`, "enriched live audit", "first", "low-latency late-copy")
	if topics, _, _ := decide(t, nil, "t", event("")); topics != "" {
		t.Errorf("without rules: %s", topics)
	}
}

// What speaks as another tool is standard, whatever rules say.
func TestTies(t *testing.T) {
	rules := "rules:\n  - {name: all, when: {present: id}, topic: enriched, also: live}\n"
	f := func(tie Tie, more, topics, members string) {
		t.Helper()
		r := mustCompile(t, Config{Ties: map[string]Tie{"tied": tie}}, rules)
		if got, _, gains := decide(t, r, "tied", event(more)); got != topics || gains != members {
			t.Errorf("%+v with %s: %s, gains %s, want %s, %s", tie, more, got, gains, topics, members)
		}
		if got, _, gains := decide(t, r, "other", event(more)); got != "enriched live" || gains != "" {
			t.Errorf("another tool: %s, gains %s", got, gains)
		}
	}
	own, others := []string{"https://x", "https://sensor.example.edu/"}, []string{"https://other"}
	f(Tie{Sensor: own}, "", "enriched live", "")
	f(Tie{Sensor: others}, "", "standard", `,"mismatch":["sensor"]`)
	f(Tie{EdApp: own}, `,"edApp":"https://sensor.example.edu/app"`, "enriched live", "")
	f(Tie{EdApp: own}, `,"edApp":{"id":"https:\/\/sensor.example.edu\/app"}`, "enriched live", "")
	f(Tie{EdApp: own}, `,"edApp":{"id":"https://elsewhere"}`, "standard", `,"mismatch":["edApp"]`)
	f(Tie{EdApp: own}, "", "enriched live", "") // it names no application
	f(Tie{EdApp: others, Sensor: others}, `,"edApp":"https://elsewhere"`, "standard", `,"mismatch":["edApp","sensor"]`)
	f(Tie{EdApp: own}, `,"edApp":null`, "enriched live", "")
	f(Tie{EdApp: own}, `,"edApp":"https://elsewhere","edApp":null`, "enriched live", "") // the last one counts
	for _, odd := range []string{`5`, `true`, `""`, `[]`, `["https://x"]`, `{}`, `{"id":5}`, `{"id":null}`, `{"id":{"id":"https://x"}}`, `{"id":""}`} {
		f(Tie{EdApp: own}, `,"edApp":`+odd, "standard", `,"mismatch":["edApp"]`)
		f(Tie{EdApp: own}, `,"\u0065dApp":`+odd, "standard", `,"mismatch":["edApp"]`)
		f(Tie{Sensor: own}, `,"edApp":`+odd, "enriched live", "")
	}
	r := mustCompile(t, Config{Ties: map[string]Tie{"tied": {Sensor: others}}}, "")
	if got, _, gains := decide(t, r, "tied", event("")); got != "standard" || gains == "" {
		t.Errorf("ties alone: %s %s", got, gains)
	}
	parse(t, event(`,"edApp":"https://elsewhere"`), func(env *validate.Envelope, it *validate.Item) {
		var s Scratch
		r := mustCompile(t, Config{Ties: map[string]Tie{"tied": {EdApp: own, Sensor: own}}}, "rules:\n  - {name: copy, when: {present: id}, also: live}\n")
		e := r.For("tied", env.Sensor(), &s).Explain(it)
		if e.CopiedBy != nil || !strings.Contains(e.Failed, "edApp begins with https://x or https://sensor.example.edu/, as tool tied must: it is https://elsewhere") || strings.Contains(e.Failed, "sensor begins") {
			t.Errorf("mismatch is explained as %q", e.Failed)
		}
	})
	parse(t, event(`,"edApp":{"name":"X"}`), func(env *validate.Envelope, it *validate.Item) {
		var s Scratch
		r := mustCompile(t, Config{Ties: map[string]Tie{"tied": {EdApp: own, Sensor: own}}}, "")
		if e := r.For("tied", env.Sensor(), &s).Explain(it); e.Failed != "edApp begins with https://x or https://sensor.example.edu/, as tool tied must: it names no application" {
			t.Errorf("mismatch is explained as %q", e.Failed)
		}
		for _, odd := range []string{``, `5`, `[]`, `{"id":"https://x"}`, `""`} {
			if d := r.For("tied", []byte(odd), &s).Decide(it, &s); !d.Mismatch || string(s.Members) != `,"mismatch":["edApp","sensor"]` {
				t.Errorf("sensor %s: %+v, gains %s", odd, d, s.Members)
			}
		}
	})
}

// table is Keys in memory.
type table map[string]string

func (k table) Lookup(tool, kind string, value []byte) (string, bool) {
	key, ok := k[tool+"/"+kind+"/"+string(value)]
	return key, ok
}

func TestKeys(t *testing.T) {
	const text = `
identifiers:
  mine:
    - {path: group.id, kind: course}
    - {path: [user, other], kind: person}
rules:
  - {name: keyed, when: {type: ViewEvent}, topic: enriched, also: live, identifiers: mine, keys: [course, person]}
  - {name: next, when: {present: next}, topic: enriched}
`
	r := mustCompile(t, Config{}, text).WithKeys(table{"t/course/63": `C"1`, "t/person/b": "P2"})
	if !r.DemandsKeys() {
		t.Error("no rule demands keys")
	}
	f := func(tool, more, topics, rule, members string) {
		t.Helper()
		got, by, gains := decide(t, r, tool, event(more))
		if got != topics || by != rule || gains != members {
			t.Errorf("%s: %s by %s, gains %s\nwant %s by %s, %s", more, got, by, gains, topics, rule, members)
		}
	}
	f("t", `,"group":{"id":63},"user":"a","other":"b"`, "enriched live", "keyed",
		`,"identifiers":{"course":["63"],"person":["a","b"]},"keys":{"course":"C\"1","person":"P2"}`)
	f("t", `,"group":{"id":64},"user":"b"`, "quarantine live", "keyed",
		`,"identifiers":{"course":["64"],"person":["b"]},"keys":{"person":"P2"},"awaits":["course","person"]`)
	f("u", `,"group":{"id":63},"user":"b"`, "quarantine live", "keyed",
		`,"identifiers":{"course":["63"],"person":["b"]},"awaits":["course","person"]`)
	// Without an identifier there will never be a key: the event does not qualify.
	f("t", `,"group":{"id":63}`, "standard", "", "")
	f("t", `,"group":{"id":63},"next":1`, "enriched", "next", "")
	parse(t, event(`,"group":{"id":63}`), func(env *validate.Envelope, it *validate.Item) {
		var s Scratch
		if e := r.For("t", env.Sensor(), &s).Explain(it); e.Nearest != "keyed" || e.Failed != "has an identifier of the kind person" {
			t.Errorf("explained as %+v", e)
		}
	})
	r = r.WithKeys(nil)
	f("t", `,"group":{"id":63},"user":"b"`, "quarantine live", "keyed",
		`,"identifiers":{"course":["63"],"person":["b"]},"awaits":["course","person"]`)
	if mustCompile(t, Config{}, "rules:\n  - {name: a, when: {present: id}, topic: enriched}\n").DemandsKeys() {
		t.Error("a rule without keys demands some")
	}
}

func TestNearest(t *testing.T) {
	r := mustCompile(t, Config{}, `
rules:
  - {name: far, when: {tool: x, type: MediaEvent, present: group}, topic: enriched}
  - {name: near, when: {tool: t, type: ViewEvent, prefix: {group.id: "urn:long"}}, topic: enriched}
  - {name: copies, when: {present: absent}, also: live}
`)
	f := func(more, nearest, failed string) {
		t.Helper()
		parse(t, event(more), func(env *validate.Envelope, it *validate.Item) {
			var s Scratch
			if e := r.For("t", env.Sensor(), &s).Explain(it); e.Nearest != nearest || e.Failed != failed {
				t.Errorf("%s: %s but for %s", more, e.Nearest, e.Failed)
			}
		})
	}
	f("", "near", "group.id begins with urn:long: it is absent")
	f(`,"group":{"id":"urn:short"}`, "near", "group.id begins with urn:long: it is urn:short")
	f(`,"group":{"id":[1]}`, "near", "group.id begins with urn:long: it is no text")
	f(`,"group":{"id":"`+strings.Repeat("é", 80)+`"}`, "near", "group.id begins with urn:long: it is "+strings.Repeat("é", 64)+"…")
}

func TestBadRules(t *testing.T) {
	granted, err := validate.NewVocabulary(nil, map[string][]string{"OwnEvent": {"Shuffled"}})
	if err != nil {
		t.Fatal(err)
	}
	const fine = "{name: a, when: {present: id}, topic: enriched"
	for text, want := range map[string]string{
		"rules: {a: b}": "c.yaml:1: rules: expected a list of rules",
		"rules:\n  - a": "c.yaml:2: rule 1: expected a mapping",
		"rules:\n  - {when: {type: ViewEvent}, topic: x}":                                                 "c.yaml:2: rule 1: name is missing",
		"rules:\n  - {name: a, topic: enriched}":                                                          "c.yaml:2: rule a: when is missing",
		"rules:\n  - {name: a, when: {}, topic: enriched}":                                                "c.yaml:2: rule a: when is empty",
		"rules:\n  - {name: a, when: {present: id}}":                                                      "c.yaml:2: rule a: the rule does nothing",
		"rules:\n  - {name: a, when: {present: id}, topic: enriched, topic: enriched}":                    "c.yaml:2: rule a: topic: set twice",
		"rules:\n  - name: a\n    when:\n      edApp: x\n    topic: enriched":                             "c.yaml:4: rule a: edApp: unknown setting, expected one of: tool, ed_app,",
		"rules:\n  - name: a\n    when: {present: a..b}\n    topic: enriched":                             `c.yaml:3: rule a: present: path "a..b"`,
		"rules:\n  - {name: a, when: {equals: {}}, topic: enriched}":                                      "expected paths",
		"rules:\n  - {name: a, when: {equals: {a: []}}, topic: enriched}":                                 "rule a: a: the list is empty",
		"rules:\n  - {name: a, when: {ed_app: {}}, topic: enriched}":                                      "expected a prefix",
		"rules:\n  - {name: a, when: {any: {}}, topic: enriched}":                                         "any: expected a list of conditions",
		"rules:\n  - {name: a, when: {type: [ViewEvent, ViewEvent]}, topic: enriched}":                    `"ViewEvent" is there twice`,
		"rules:\n  - {name: a, when: {type: ViewEvnt}, topic: enriched}":                                  `c.yaml:2: rule a: type: no event has the type "ViewEvnt"`,
		"rules:\n  - {name: a, when: {not: {type: Person}}, topic: enriched}":                             "Person is a type of entity",
		"rules:\n  - {name: a, when: {action: Vewed}, topic: enriched}":                                   `action: no event has the action "Vewed"`,
		"rules:\n  - {name: a, when: {action: MarkedAsUnRead}, topic: enriched}":                          "another spelling of MarkedAsUnread",
		"rules:\n  - {name: a, when: {type: ViewEvent, action: Paused}, topic: enriched}":                 "no event can match",
		"rules:\n  - {name: a, when: {type: OwnEvent, action: Viewed}, topic: enriched}":                  "no event can match",
		"rules:\n  - {name: a, when: {present: id}, topic: live}":                                         `c.yaml:2: rule a: topic: "live", expected one of the tiers`,
		"rules:\n  - " + fine + ", also: lve}":                                                            `c.yaml:2: rule a: also: unknown topic "lve", expected one of: live, audit`,
		"rules:\n  - " + fine + ", also: [live, quarantine]}":                                             "quarantine has a meaning of its own",
		"rules:\n  - " + fine + ", identifiers: engagee}":                                                 `unknown set "engagee", expected one of: canvas, engage, lti`,
		"rules:\n  - {name: a, when: {present: id}, also: live, identifiers: lti}":                        "identifiers without a topic",
		"rules:\n  - " + fine + ", keys: course}":                                                         "keys without identifiers",
		"rules:\n  - " + fine + ", identifiers: engage, keys: curse}":                                     `no kind "curse", expected one of: customer, term,`,
		"rules:\n  - {name: a, when: {present: id}, topic: standard, identifiers: lti, keys: person}":     "keys without topic: enriched",
		"rules:\n  - " + fine + "}\n  - " + fine + "}":                                                    "c.yaml:3: rule a: another rule has that name",
		"rules:\n  - " + fine + "}\n  - {name: b, when: {present: id, type: ViewEvent}, topic: standard}": "c.yaml:3: rule b: is never reached: rule a before it",
		"rules:\n  - {name: a, when: {tool: [Engage, a b]}, topic: enriched}":                             `c.yaml:2: rule a: tool: tool "a b", expected 1 to 64 of A-Z a-z 0-9 _ -`,
		"rules:\n  - {name: a, when: {not: {tool: caf\u00e9}}, topic: enriched}":                          `expected 1 to 64 of A-Z`,
		"rules: null": "c.yaml:1: rules: expected a list of rules",
		"rules:\n  - {name: a, when: null, topic: enriched}":                     "c.yaml:2: rule a: expected a mapping of conditions",
		"rules:\n  - {name: a, when: {ed_app: null}, topic: enriched}":           "c.yaml:2: rule a: ed_app: expected a word",
		"rules:\n  - {name: a, when: {ed_app: {prefix: null}}, topic: enriched}": "c.yaml:2: rule a: prefix: expected a word",
		"rules:\n  - " + fine + ", also: null}":                                  "c.yaml:2: rule a: also: expected a word",
		"identifiers:\n  lti: [{path: a, kind: b}]":                              "c.yaml:2: identifiers lti: a set of that name ships with the program",
		"identifiers:\n  s: [{path: a, pattern: 'x:{y}', levels: null}]":         "c.yaml:2: identifiers s: expected a mapping of levels",
		"identifiers: []":                                                    "c.yaml:1: expected a mapping of sets",
		"identifiers:\n  s: {}":                                              "c.yaml:2: identifiers s: expected a list of extractions",
		"identifiers:\n  s:\n    - {kind: a}":                                "c.yaml:3: identifiers s: path is missing",
		"identifiers:\n  s:\n    - {path: a}":                                "expected either kind",
		"identifiers:\n  s:\n    - {path: a, kind: b c}":                     `kind: kind "b c", expected 1 to 64 of`,
		"identifiers:\n  s:\n    - {path: a, kind: b, levels: {c: d}}":       "levels without a pattern",
		"identifiers:\n  s:\n    - {path: a, pattern: 'x{y'}":                "c.yaml:3: identifiers s: pattern \"x{y\": a { is not closed",
		"identifiers:\n  s:\n    - {path: a, pattern: 'x{y}{z}'}":            "two holes",
		"identifiers:\n  s:\n    - {path: a, pattern: 'x*y'}":                "a * at the end",
		"identifiers:\n  s:\n    - {path: a, pattern: 'x'}":                  "finds nothing",
		"identifiers:\n  s:\n    - {path: a, pattern: '*'}":                  "takes nothing apart",
		"identifiers:\n  s:\n    - {path: a, pattern: 'x*', levels: {c: d}}": "ends with * and has levels",
		"identifiers:\n  s:\n    - {path: a, pattern: x, levels: {'c:': d}}": "has no colon",
		"identifiers:\n  s:\n    - {path: a, kind: b, kinds: c}":             "kinds: unknown setting, expected one of: path, kind, pattern, levels",

		"rules:\n  - name: a\n    when:\n      any:\n        - {tool: A}\n        - not: {type: ViewEvnt}\n    topic: enriched": `c.yaml:6: rule a: type: no event has the type "ViewEvnt"`,
		"rules:\n  - {name: a, when: {tool: A, not: {tool: [A, B]}}, topic: enriched}":                                          "c.yaml:2: rule a: no event can match: no tool fulfils its conditions on the tool",
		"rules:\n  - {name: a, when: {all: [{tool: A}, {tool: B}]}, also: live}":                                                "c.yaml:2: rule a: no event can match: no tool fulfils",
		"rules:\n  - {name: \"a\\nb\", when: {present: id}, topic: enriched}":                                                   "c.yaml:2: rule 1: name: it has a control character",
	} {
		cfg := Config{Vocabularies: map[string]*validate.Vocabulary{"Own": granted}}
		if _, err := compile(t, cfg, text); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "c.yaml:") {
			t.Errorf("%s\n error %v\n want %q in it", text, err, want)
		}
	}
	if _, err := compile(t, Config{Vocabularies: map[string]*validate.Vocabulary{"Own": granted}},
		"rules:\n  - {name: a, when: {type: OwnEvent, action: Shuffled}, topic: enriched}"); err != nil {
		t.Errorf("a granted pair is refused: %v", err)
	}
}

// A rule is never reached where one before it takes all that it could match,
// as far as the form of the conditions tells.
func TestReach(t *testing.T) {
	f := func(reached bool, first, second string) {
		t.Helper()
		_, err := compile(t, Config{}, "rules:\n  - {name: a, topic: enriched, when: "+first+"}\n  - {name: b, topic: standard, when: "+second+"}\n")
		if reached != (err == nil) {
			t.Errorf("%s, then %s: %v", first, second, err)
		}
	}
	f(false, "{type: [ViewEvent, NavigationEvent]}", "{type: ViewEvent}")
	f(true, "{type: ViewEvent}", "{type: [ViewEvent, NavigationEvent]}")
	f(true, "{type: ViewEvent, tool: a}", "{type: ViewEvent}")
	f(false, "{ed_app: {prefix: 'https://a'}}", "{ed_app: 'https://a/b', tool: c}")
	f(true, "{ed_app: 'https://a/b'}", "{ed_app: {prefix: 'https://a'}}")
	f(false, "{present: group.id}", "{equals: {group.id: 5}}")
	f(true, "{present: group.id}", "{equals: {group.name: 5}}")
	f(false, "{prefix: {a: x}}", "{prefix: {a: xy}}")
	f(false, "{any: [{tool: a}, {tool: b}]}", "{tool: b}")
	f(false, "{tool: [a, b]}", "{any: [{tool: a}, {tool: b, type: ViewEvent}]}")
	f(true, "{tool: a}", "{any: [{tool: a}, {tool: b}]}")
	f(false, "{not: {present: a}}", "{not: {present: a}, tool: t}")
	f(true, "{not: {tool: a}}", "{tool: a}")
}

func TestNothingAllocates(t *testing.T) {
	r := mustCompile(t, Config{Ties: map[string]Tie{"Engage": {EdApp: []string{"https://"}, Sensor: []string{"https://"}}}}, `
rules:
  - {name: other, when: {tool: Canvas, type: MediaEvent}, topic: enriched}
  - {name: keyed, when: {tool: Engage, ed_app: {prefix: "https://engage"}, type: NavigationEvent, present: group.id}, topic: enriched, also: live, identifiers: [engage, lti], keys: [course, person]}
  - {name: copies, when: {any: [{equals: {group.type: CourseSection}}, {prefix: {actor.id: "urn:"}}]}, also: audit}
`).WithKeys(table{"Engage/course/63": "C", "Engage/person/176": "P"})
	escaped := strings.ReplaceAll(strings.Replace(engageEvent, `"type":"NavigationEvent"`, `"type":"NavigationEvent","edApp":"https://engage.example"`, 1), "urn:unizin", `urn:\u0075nizin`)
	for _, item := range []string{engageEvent, escaped} {
		parse(t, item, func(env *validate.Envelope, it *validate.Item) {
			var s Scratch
			got := testing.AllocsPerRun(100, func() {
				d := r.For("Engage", env.Sensor(), &s).Decide(it, &s)
				if d.Topics == 0 {
					t.Fatal("no topic")
				}
			})
			if got != 0 && !raceEnabled {
				t.Errorf("%v allocations", got)
			}
			if item == escaped && !strings.Contains(string(s.Members), `"keys":{"course":"C","person":"P"}`) {
				t.Errorf("gains %s", s.Members)
			}
			s.Clear()
			if slices.ContainsFunc(s.values[:cap(s.values)], func(v []byte) bool { return v != nil }) || s.item != nil {
				t.Error("Clear leaves something behind")
			}
		})
	}
}
