package bench

import (
	"fmt"
	"testing"
	"time"

	"caliperedge/bench/corpus"
	"caliperedge/pipeline/rules"
	"caliperedge/validate"

	"go.yaml.in/yaml/v3"
)

// ruleLoads are the rules that BenchmarkRules measures.
var ruleLoads = []struct{ name, text string }{
	// Five rules on tool, edApp, type and action, of which the last matches.
	{"five", `
- {name: a, when: {tool: [bench, b], ed_app: "https://a.example.edu", type: MediaEvent}, topic: enriched}
- {name: b, when: {tool: bench, type: [AssessmentEvent, AssessmentItemEvent], action: [Started, Completed]}, topic: enriched}
- {name: c, when: {tool: bench, ed_app: {prefix: "https://c.example.edu/"}}, topic: enriched}
- {name: d, when: {tool: bench, action: [Posted, Graded]}, topic: enriched}
- {name: e, when: {tool: bench, type: [NavigationEvent, ViewEvent], action: [NavigatedTo, Viewed]}, topic: enriched}
`},
	{"1-path", "- {name: a, when: {tool: bench, prefix: {group.id: \"urn:\"}}, topic: enriched}\n"},
	{"2-paths", "- {name: a, when: {tool: bench, prefix: {group.id: \"urn:\", object.isPartOf.id: \"urn:\"}}, topic: enriched}\n"},
	{"4-paths", "- {name: a, when: {tool: bench, prefix: {group.id: \"urn:\", object.isPartOf.id: \"urn:\", actor.type: P}, equals: {group.type: CourseSection}}, topic: enriched}\n"},
	{"identifiers", "- {name: a, when: {tool: bench, type: [NavigationEvent, ViewEvent]}, topic: enriched, identifiers: [engage, lti]}\n"},
}

// BenchmarkRules compares what rules cost per event with what Parse does, in turns in one run. The quickest turn of each
// counts, so that the ratio part/parse holds also on a machine that others use; ns/event is what rules cost. B/s and
// events/s are of both together, turns that were not the quickest included.
func BenchmarkRules(b *testing.B) {
	for _, l := range []load{{corpus.Engage, 1, 0}, {corpus.Engage, 100, 0}} {
		all := l.envelopes()
		for _, set := range ruleLoads {
			b.Run(fmt.Sprintf("%v/rules=%s", l, set.name), func(b *testing.B) {
				benchmarkRules(b, hot(all()), set.text)
			})
		}
	}
}

func benchmarkRules(b *testing.B, envelopes []corpus.Envelope, text string) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		b.Fatal(err)
	}
	list, err := rules.ReadRules(doc.Content[0], "bench.yaml")
	if err != nil {
		b.Fatal(err)
	}
	r, err := rules.Compile(rules.Config{File: "bench.yaml", Rules: list, Topics: topics})
	if err != nil {
		b.Fatal(err)
	}
	var (
		s             rules.Scratch
		parse, decide = time.Hour, time.Hour
		i             int
	)
	b.SetBytes(parsesPerTurn * meanBytes(envelopes))
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		// Several times over, so that the clock does not count.
		for range parsesPerTurn - 1 {
			env, err := validate.Parse(envelopes[i].Body, validate.Options{NoteMembers: r.NeedPaths()})
			if err != nil {
				b.Fatal(err)
			}
			env.Release()
		}
		env, err := validate.Parse(envelopes[i].Body, validate.Options{NoteMembers: r.NeedPaths()})
		if err != nil {
			b.Fatal(err)
		}
		parsed := time.Now()
		items := env.Items()
		for range parsesPerTurn {
			view := r.For("bench", env.Sensor(), &s)
			for k := range items {
				if d := view.Decide(&items[k], &s); d.Rule == nil || d.Topics&(1<<1) == 0 {
					b.Fatalf("event of %s is not enriched", items[k].Type)
				}
			}
		}
		decide, parse = min(decide, time.Since(parsed)), min(parse, parsed.Sub(start))
		env.Release()
		if i++; i == len(envelopes) {
			i = 0
		}
	}
	b.ReportMetric(float64(decide)/float64(parse), "part/parse")
	reportEvents(b, parsesPerTurn*envelopes[0].Items)
	events := float64(parsesPerTurn * envelopes[0].Items)
	b.ReportMetric(float64(decide.Nanoseconds())/events, "ns/event")
	b.ReportMetric(float64(parse.Nanoseconds())/events, "parse-ns/event")
}

// parsesPerTurn is how often each of the two is done before the other's turn.
const parsesPerTurn = 20
