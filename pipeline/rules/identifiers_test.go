package rules

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"caliperedge/validate"
)

// engageEvent is the example of Engage's documents.
const engageEvent = `{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":"urn:uuid:9a73685d-25b0-4f26-aef8-37e6e2dbc17c","action":"NavigatedTo",` +
	`"actor":{"id":"urn:unizin:engage:customer:prod:user:176","type":"Person"},"eventTime":"2018-10-03T18:21:08.897Z",` +
	`"federatedSession":{"id":"urn:session-id-localized:None","type":"LtiSession","user":{"id":"urn:unizin:engage:customer:prod:user:176","type":"Person"}},` +
	`"group":{"academicSession":"BIO","courseNumber":"101","id":"urn:unizin:engage:customer:prod:term:11:course:63:section:79","subOrganizationOf":` +
	`{"courseNumber":"BIO 101","id":"urn:unizin:engage:customer:prod:term:11:course:63","type":"CourseOffering"},"type":"CourseSection"},` +
	`"object":{"dateCreated":"2018-08-23T10:48:18.002Z","id":"urn:unizin:engage:customer:prod:term:11:course:63:section:79:class_material:1470:page:19",` +
	`"isPartOf":{"id":"urn:unizin:engage:customer:prod:term:11:course:63:section:79:class_material:1470","name":"Introduction to Biology","type":"Document"},` +
	`"name":"Page 19","type":"Page"},"type":"NavigationEvent"}`

// launch is the example of the documents on integration.
const launch = `,"federatedSession":{"type":"LtiSession","id":"urn:session-id-localized/lti/oauth_nonce/5a81e2eb557427.65333446","messageParameters":` +
	`{"custom_canvas_course_id":"12345","custom_canvas_user_id":"98765","lis_course_offering_sourcedid":"test_99999003","lis_person_sourcedid":"11235813",` +
	`"resource_link_id":"a1b2c3d4e5f6g7h8i9j10"},"user":""}`

// The sets that ship with the program, on the examples of the documents.
func TestReadyMadeSets(t *testing.T) {
	f := func(sets, item, want string) {
		t.Helper()
		r := mustCompile(t, Config{}, "rules:\n  - {name: it, when: {present: id}, topic: enriched, identifiers: "+sets+"}\n")
		if want != "" {
			want = `,"identifiers":` + want
		}
		if _, _, got := decide(t, r, "t", item); got != want {
			t.Errorf("%s finds\n%s, want\n%s", sets, got, want)
		}
	}
	f("engage", engageEvent, `{"customer":["customer"],"term":["11"],"course":["63"],"section":["79"],"material":["1470"],"page":["19"],"person":["176"]}`)
	f("engage", event(`,"group":{"id":"urn:unizin:engage:umich:prod"}`), `{"customer":["umich"]}`)
	f("engage", event(`,"group":{"id":"urn:unizin:other:umich:prod:course:1"}`), "")
	f("lti", event(launch), `{"course":["12345","test_99999003"],"person":["98765","11235813"],"resource_link":["a1b2c3d4e5f6g7h8i9j10"]}`)
	f("lti", event(strings.ReplaceAll(launch, `"12345"`, `12345`)), `{"course":["12345","test_99999003"],"person":["98765","11235813"],"resource_link":["a1b2c3d4e5f6g7h8i9j10"]}`)
	f("lti", event(`,"federatedSession":{"messageParameters":{"https://purl.imsglobal.org/spec/lti/claim/context":{"id":"c-1"},`+
		`"https://purl.imsglobal.org/spec/lti/claim/lis":{"person_sourcedid":"sis:942a","course_offering_sourcedid":"example.edu:SI182-F16"},`+
		`"https://purl.imsglobal.org/spec/lti/claim/resource_link":{"id":"r-1"}}}`),
		`{"course":["example.edu:SI182-F16"],"person":["sis:942a"],"context":["c-1"],"resource_link":["r-1"]}`)
	f("canvas", event(`,"group":{"id":"urn:instructure:canvas:course:100000000000001","type":"CourseSection"},`+
		`"object":{"id":"urn:instructure:canvas:discussion:7"},"actor":{"id":"urn:instructure:canvas:user:100000000000003",`+
		`"extensions":{"com.instructure.canvas":{"user_login":"a@example.edu","user_sis_id":"456-T45","entity_id":"3"}}}`),
		`{"course":["100000000000001"],"discussion":["7"],"person":["100000000000003"],"person_sis":["456-T45"],"person_login":["a@example.edu"]}`)
	f("canvas", event(`,"group":{"id":"https://canvas.example.edu/courses/63"},"object":{"id":"https:\/\/canvas.example.edu\/courses\/63\/pages\/1"}`), `{"course":["63"]}`)
	f("[engage, lti]", event(`,"group":{"id":"urn:unizin:engage:c:prod:course:63"}`+launch),
		`{"customer":["c"],"course":["63","12345","test_99999003"],"person":["98765","11235813"],"resource_link":["a1b2c3d4e5f6g7h8i9j10"]}`)
}

func TestPatterns(t *testing.T) {
	f := func(extraction, value, want string) {
		t.Helper()
		r := mustCompile(t, Config{}, "identifiers:\n  mine:\n    - {path: x, "+extraction+"}\nrules:\n  - {name: it, when: {present: id}, topic: enriched, identifiers: mine}\n")
		if want != "" {
			want = `,"identifiers":` + want
		}
		if _, _, got := decide(t, r, "t", event(`,"x":`+value)); got != want {
			t.Errorf("%s of %s is %s, want %s", extraction, value, got, want)
		}
	}
	f(`kind: a`, `"whole: value/?"`, `{"a":["whole: value/?"]}`)
	f(`kind: a`, `"q\"u\\o\u0001te \ud83d\ude00 \ud800"`, `{"a":["q\"u\\o\u0001te 😀 `+"\ufffd"+`"]}`)
	f(`kind: a`, `-7.50`, `{"a":["-7.50"]}`)
	f(`kind: a`, `true`, `{"a":["true"]}`)
	for _, none := range []string{`""`, `null`, `[1]`, `{"a":1}`, `"` + strings.Repeat("v", 513) + `"`} {
		f(`kind: a`, none, "")
	}
	f(`kind: a`, `"`+strings.Repeat("v", 512)+`"`, `{"a":["`+strings.Repeat("v", 512)+`"]}`)
	const template = `pattern: "https://lms.example.edu/courses/{course}"`
	f(template, `"https://lms.example.edu/courses/63"`, `{"course":["63"]}`)
	f(template, `"https://lms.example.edu/courses/63/"`, "")
	f(template, `"https://lms.example.edu/courses/"`, "")
	f(template, `"https://lms.example.edu/users/63"`, "")
	f(`pattern: ["https://{}/c/{course}*", "https://{}/u/{person}"]`, `"https://a.b/c/63?x"`, `{"course":["63"]}`)
	f(`pattern: ["https://{}/c/{course}*", "https://{}/u/{person}"]`, `"https://a.b/u/1"`, `{"person":["1"]}`)
	f(`pattern: "{term}-{course}@{place}"`, `"11-63@x"`, `{"term":["11"],"course":["63"],"place":["x"]}`)
	f(`pattern: "urn:umich:engin:leccap:session:{session}"`, `"urn:umich:engin:leccap:session:T7Lzgsmtq0x2e1204jut6sop6"`, `{"session":["T7Lzgsmtq0x2e1204jut6sop6"]}`)
	f(`pattern: "a:{b}:c"`, `"a:1:d"`, "") // what was found before the pattern failed is forgotten
	const levels = `pattern: "urn:t:{}", levels: {course: course, section: part}`
	f(levels, `"urn:t:x:term:1:course:63:section:79"`, `{"course":["63"],"part":["79"]}`)
	f(levels, `"urn:t:x:course:63:course:64:course:63"`, `{"course":["63","64"]}`)
	f(levels, `"urn:t:x:course:63?x=1"`, `{"course":["63"]}`)
	f(levels, `"urn:t:x:course:63?+r?=q:section:9"`, `{"course":["63"]}`)
	f(levels, `"urn:t:x:course:63#part:section:9"`, `{"course":["63"]}`)
	f(levels, `"urn:t:x:course:a/b&c:section:9"`, `{"course":["a/b&c"],"part":["9"]}`)
	f(levels, `"urn:t:x:course:?x"`, "")
	f(levels, `"urn:t:x:course"`, "")
	f(levels, `"urn:t:x:course:"`, "")
	f(levels, `"urn:t:x/course:1"`, "")
	f(levels, `"urn:t:x:y:course:63"`, "") // pairs are counted from where the pattern ends
}

// However many identifiers an event has, its record gets a bounded number.
func TestIdentifiersAreBounded(t *testing.T) {
	r := mustCompile(t, Config{}, "identifiers:\n  mine:\n    - {path: x, pattern: 'u', levels: {c: course}}\nrules:\n  - {name: it, when: {present: id}, topic: enriched, identifiers: mine}\n")
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, ":c:%d", i)
	}
	_, _, got := decide(t, r, "t", event(`,"x":"u`+b.String()+`"`))
	if n := strings.Count(got, `","`); n != maxFound-1 {
		t.Errorf("%d identifiers, want %d", n+1, maxFound)
	}
}

// However many identifiers of one kind an event has, there is room for those of
// the kinds whose keys are demanded; and what was found by a pattern that does
// not fit takes no room.
func TestDemandedKindsHaveRoom(t *testing.T) {
	r := mustCompile(t, Config{}, `
identifiers:
  mine:
    - {path: x, pattern: ['u:{note}:v:{course}:x', 'u:{}:v:{}:w'], levels: {p: person, n: note}}
    - {path: [y, z], kind: course}
    - {path: z, kind: term}
rules:
  - {name: both, when: {present: b}, topic: enriched, identifiers: mine, keys: [course, person]}
  - {name: one, when: {present: o}, topic: enriched, identifiers: mine, keys: course}
`).WithKeys(table{"t/course/c": "C", "t/person/0": "P"})
	levels := func(name string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, ":%s:%d", name, i)
		}
		return b.String()
	}
	f := func(rule, more, levels string, counts map[string]int) {
		t.Helper()
		_, by, got := decide(t, r, "t", event(`,"`+rule[:1]+`":1,"x":"u:a:v:b:w`+levels+`"`+more))
		var gains struct {
			Identifiers map[string][]string
			Keys        map[string]string
		}
		if err := json.Unmarshal([]byte("{"+strings.TrimPrefix(got, ",")+"}"), &gains); err != nil || by != rule {
			t.Fatalf("by %q, %v: %s", by, err, got)
		}
		found := map[string]int{}
		for kind, values := range gains.Identifiers {
			found[kind] = len(values)
		}
		if !maps.Equal(found, counts) || gains.Keys["course"] != "C" {
			t.Errorf("%s with %.20s: %v, keys %v, want %v", rule, levels, found, gains.Keys, counts)
		}
	}
	const course = `,"y":"c"`
	f("one", course, levels("p", 100), map[string]int{"person": 32, "course": 1})
	f("one", course+`,"z":"d"`, levels("n", 100), map[string]int{"note": 32, "course": 2})
	f("both", course, levels("p", 100), map[string]int{"person": 48, "course": 1})
	f("both", course, levels("n", 100)+levels("p", 5), map[string]int{"note": 32, "person": 5, "course": 1})
	f("both", course+`,"z":"d"`, levels("n", 20)+levels("p", 20), map[string]int{"note": 20, "person": 20, "course": 2, "term": 1})

	// What is left out for its length is what the event lacks, and is told.
	long := event(`,"b":1,"o":1,"y":"` + strings.Repeat("c", maxValueBytes+1) + `"`)
	parse(t, long, func(env *validate.Envelope, it *validate.Item) {
		var s Scratch
		if e := r.For("t", env.Sensor(), &s).Explain(it); e.Nearest != "one" || e.Failed != "has an identifier of the kind course: it has one of more than 512 bytes" {
			t.Errorf("explained as %+v", e)
		}
	})
}

// FuzzIdentifiers: whatever stands in an event, its record stays JSON.
func FuzzIdentifiers(f *testing.F) {
	f.Add([]byte(`"urn:unizin:engage:c\u0000:prod:course:6\"3:user:\ud800"`))
	f.Add([]byte(`"urn:unizin:engage::::"`))
	f.Add([]byte(`{"id":"urn:unizin:engage:a:b:c"}`))
	r := mustCompile(f, Config{}, "rules:\n  - {name: it, when: {present: id}, topic: enriched, identifiers: [engage, canvas, lti]}\n")
	f.Fuzz(func(t *testing.T, value []byte) {
		body := `{"sensor":"s","sendTime":"2026-11-22T20:00:00.000Z","dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1","data":[` +
			event(`,"group":{"id":`+string(value)+`},"object":`+string(value)+`,"federatedSession":{"messageParameters":{"context_id":`+string(value)+`}}`) + `]}`
		env, err := validate.Parse([]byte(body), validate.Options{})
		if err != nil {
			return
		}
		defer env.Release()
		if env.Err() != nil {
			return
		}
		var s Scratch
		for i := range env.Items() {
			if it := &env.Items()[i]; it.Faults == 0 && !it.Entity {
				r.For("t", env.Sensor(), &s).Decide(it, &s)
				if len(s.Members) > 0 && (!utf8.Valid(s.Members) || !validJSON("{"+string(s.Members[1:])+"}")) {
					t.Fatalf("%q gives %q", value, s.Members)
				}
			}
		}
	})
}

func validJSON(text string) bool {
	_, err := validate.Parse([]byte(text), validate.Options{})
	return err == nil
}
