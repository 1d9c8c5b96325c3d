package edge

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"caliperedge/pipeline"
	"caliperedge/pipeline/rules"
	"caliperedge/validate"

	"github.com/valyala/fasthttp"
	"go.yaml.in/yaml/v3"
)

// instant is a store that acknowledges at once and keeps nothing.
type instant struct{ sequence atomic.Uint64 }

func (p *instant) Publish(context.Context, *pipeline.Message) (pipeline.Ack, error) {
	return pipeline.Ack{Sequence: p.sequence.Add(1), Level: pipeline.LevelFsync}, nil
}

func (p *instant) Probe(context.Context) error { return nil }

// inMemory is a request that can be handled again and again.
type inMemory struct {
	fasthttp.RequestCtx
	body   []byte
	stream bytes.Reader
}

func newInMemory(body string, header ...string) *inMemory {
	r := &inMemory{body: []byte(body)}
	h := &r.Request.Header
	h.SetMethod(fasthttp.MethodPost)
	h.SetRequestURI("/")
	h.SetHost("edge.example")
	h.SetContentType("application/json")
	h.Set("Authorization", "Bearer "+testToken)
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return r
}

// windowed is the default: duplicates are looked for. The window is as small as
// to be full before the tests begin.
var windowed = pipeline.Config{DuplicateIDs: 10_000, DuplicateAge: time.Hour}

// renew gives every event of r another id, so that it is no duplicate.
func (r *inMemory) renew() {
	const prefix = "urn:uuid:00000000-0000-4000-8"
	for rest := r.body; ; {
		i := bytes.Index(rest, []byte(prefix))
		if i < 0 {
			return
		}
		rest = rest[i+len(prefix):]
		renewals++
		for j, n := len("000-000000000000")-1, renewals; n > 0; n /= 10 {
			rest[j] = '0' + byte(n%10)
			j--
		}
	}
}

var renewals = 1000

func (r *inMemory) handle(e *Endpoint) int {
	r.stream.Reset(r.body)
	r.Request.SetBodyStream(&r.stream, len(r.body))
	r.Response.Reset()
	e.handle(&r.RequestCtx)
	return r.Response.StatusCode()
}

// workerAllocations are the worker's, once for a batch: a context with its timer,
// a message and its ID.
const workerAllocations = 7

// TestAllocations holds the memory that a request costs, from the header to the
// answer, the worker that stores it included. A budget is what was measured:
// lower it with a gain, raise it with a reason. All of these are the worker's.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := build(t, serving{publisher: &instant{}, pipeline: windowed})
	warm := newInMemory(envelope(events(100)...))
	for range 300 {
		warm.renew()
		warm.handle(s.Endpoint)
	}
	for _, c := range []struct {
		name   string
		r      *inMemory
		status int
		budget float64
	}{
		{"1 event", newInMemory(envelope(event(1))), 200, workerAllocations},
		{"100 events", newInMemory(envelope(events(100)...)), 200, workerAllocations},
		{"1 of 2 events", newInMemory(envelope(event(1), badEvent(2))), 202, workerAllocations},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := testing.AllocsPerRun(300, func() {
				c.r.renew()
				if status := c.r.handle(s.Endpoint); status != c.status {
					t.Fatalf("status %d, want %d: %s", status, c.status, c.r.Response.Body())
				}
			})
			if got > c.budget {
				t.Errorf("%v allocations for a request, budget is %v", got, c.budget)
			}
		})
	}
}

// TestAllocationsOfDuplicates: what is known costs nothing but its look.
func TestAllocationsOfDuplicates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := build(t, serving{publisher: &instant{}, pipeline: windowed})
	for _, n := range []int{1, 100} {
		r := newInMemory(envelope(events(n)...))
		r.handle(s.Endpoint)
		if got := testing.AllocsPerRun(300, func() {
			if status := r.handle(s.Endpoint); status != 200 {
				t.Fatalf("status %d: %s", status, r.Response.Body())
			}
		}); got > 0 {
			t.Errorf("%v allocations for %d duplicates", got, n)
		}
	}
}

// keysInMemory is a key map of courses and persons of one tool.
type keysInMemory map[string]string

func (k keysInMemory) Lookup(tool, kind string, value []byte) (string, bool) {
	if tool != testTool {
		return "", false
	}
	key, known := k[string(value)]
	return key, known && (kind == "course" || kind == "person")
}

// enriching are rules that take identifiers apart and demand keys of kinds that
// courseEvents have.
func enriching(t testing.TB) *rules.Rules {
	t.Helper()
	var n yaml.Node
	err := yaml.Unmarshal([]byte(`
- name: other
  when: {tool: Canvas, type: MediaEvent}
  topic: enriched
- name: engage-pages
  when:
    tool: `+testTool+`
    type: [NavigationEvent, ViewEvent]
    prefix: {group.id: "urn:unizin:engage:"}
  topic: enriched
  identifiers: [engage, lti]
  keys: [course, person]
`), &n)
	if err != nil {
		t.Fatal(err)
	}
	all, err := rules.ReadRules(n.Content[0], "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := rules.Compile(rules.Config{Rules: all, Topics: testTopics})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// courseEvents are n page turns in a course.
func courseEvents(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`{"@context":"%s","id":"%s","type":"NavigationEvent","action":"NavigatedTo","eventTime":"2018-10-03T18:21:08.897Z",`+
			`"actor":{"id":"urn:unizin:engage:customer:prod:user:176","type":"Person"},`+
			`"federatedSession":{"type":"LtiSession","id":"urn:session","messageParameters":{"context_id":"c1","resource_link_id":"a1b2c3d4e5f6g7h8i9j10"}},`+
			`"group":{"id":"urn:unizin:engage:customer:prod:term:11:course:63:section:79","type":"CourseSection"},`+
			`"object":{"id":"urn:unizin:engage:customer:prod:term:11:course:63:section:79:class_material:1470:page:19","type":"Page","name":"Page 19"}}`, testVersion, eventID(i))
	}
	return all
}

// TestAllocationsOfRules: rules, identifiers and keys cost nothing more, whether
// the keys are known or not. The members that they give to the records of an
// envelope of a thousand events are beyond what is kept from one to the next.
func TestAllocationsOfRules(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for topic, keys := range map[string]keysInMemory{"enriched": {"63": "CRS-63", "176": "PRS-176"}, "quarantine": {"63": "CRS-63"}} {
		config := windowed
		config.Rules = enriching(t).WithKeys(keys)
		s := build(t, serving{publisher: &instant{}, pipeline: config, Config: Config{Validate: validate.Options{NoteMembers: config.Rules.NeedPaths()}}})
		warm := newInMemory(envelope(courseEvents(100)...))
		for range 300 {
			warm.renew()
			warm.handle(s.Endpoint)
		}
		for _, n := range []int{1, 100} {
			t.Run(fmt.Sprintf("%d to %s", n, topic), func(t *testing.T) {
				r := newInMemory(envelope(courseEvents(n)...))
				want := fmt.Appendf(nil, `"accepted":%d,"rejected":0,"topics":{"%s":`, n, topic)
				got := testing.AllocsPerRun(300, func() {
					r.renew()
					if status := r.handle(s.Endpoint); status != 200 || !bytes.Contains(r.Response.Body(), want) {
						t.Fatalf("status %d, %s, want %s", status, r.Response.Body(), want)
					}
				})
				if more := got - workerAllocations; more > 0 {
					t.Errorf("%v allocations for a request, %v of them for rules", got, more)
				}
			})
		}
	}
}

func BenchmarkReceive(b *testing.B) {
	for _, n := range []int{1, 100} {
		for _, ids := range []int{0, 2_000_000} {
			b.Run(fmt.Sprintf("events=%d/window=%d", n, ids), func(b *testing.B) {
				s := build(b, serving{publisher: &instant{}, pipeline: pipeline.Config{DuplicateIDs: ids, DuplicateAge: time.Hour}})
				r := newInMemory(envelope(events(n)...))
				b.SetBytes(int64(len(r.body)))
				b.ReportAllocs()
				for b.Loop() {
					r.renew()
					if status := r.handle(s.Endpoint); status != 200 {
						b.Fatalf("status %d", status)
					}
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
