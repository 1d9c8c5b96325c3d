package edge

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"caliperedge/bench/corpus"
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

// workerAllocations are what a publish may cost: a context with its timer, a
// message and its ID. They are the worker's, however many requests it stores.
const workerAllocations = 7

// gatedStore is a store whose first publish of a round waits, so that meanwhile
// requests gather for the next one.
type gatedStore struct {
	instant
	publishes       atomic.Int64
	closed          atomic.Bool
	entered, opened chan struct{}
}

func (g *gatedStore) Publish(ctx context.Context, m *pipeline.Message) (pipeline.Ack, error) {
	g.publishes.Add(1)
	if g.closed.CompareAndSwap(true, false) {
		g.entered <- struct{}{}
		<-g.opened
	}
	return g.instant.Publish(ctx, m)
}

// crowd are requests that are handled at once, in rounds.
type crowd struct {
	t        *testing.T
	gate     *gatedStore
	status   int
	prepare  func(*inMemory) // gives a request another body, or the same with fresh ids
	requests []*inMemory
	start    []chan struct{}
	done     chan int
}

// newCrowd returns no more requests, of so many items, than a batch takes.
func newCrowd(t *testing.T, e *Endpoint, g *gatedStore, items, status int, prepare func(*inMemory)) *crowd {
	most := 16
	if items > 10 {
		most = 4
	}
	c := &crowd{t: t, gate: g, status: status, prepare: prepare, done: make(chan int)}
	for range most {
		r, start := newInMemory(""), make(chan struct{})
		go func() {
			for range start {
				c.done <- r.handle(e)
			}
		}()
		t.Cleanup(func() { close(start) })
		c.requests, c.start = append(c.requests, r), append(c.start, start)
	}
	return c
}

// round has n of the requests handled: the first alone, the others while it is
// being stored.
func (c *crowd) round(n int) {
	for _, r := range c.requests[:n] {
		c.prepare(r)
	}
	c.gate.closed.Store(true)
	c.start[0] <- struct{}{}
	<-c.gate.entered
	for _, start := range c.start[1:n] {
		start <- struct{}{}
	}
	for range 4 * n { // on one processor they get as far as they can
		runtime.Gosched()
	}
	c.gate.opened <- struct{}{}
	for range n {
		if status := <-c.done; status != c.status {
			c.t.Fatalf("status %d, want %d", status, c.status)
		}
	}
}

// count returns how much a round of n requests allocates, and publishes, in the mean.
func (c *crowd) count(n int) (allocations, publishes float64) {
	const rounds = 200
	var before, after runtime.MemStats
	published := c.gate.publishes.Load()
	runtime.ReadMemStats(&before)
	for range rounds {
		c.round(n)
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / rounds, float64(c.gate.publishes.Load()-published) / rounds
}

// check holds the memory that a request costs by itself, from the header to the
// answer: none. What a publish costs is told from that by measuring rounds with
// few and with many requests for each.
func (c *crowd) check() {
	c.t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	few, many := 1, len(c.requests)
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it empties pools
	for range 100 {                                  // all kinds of bodies, and buffers as large as they get
		c.round(few)
		c.round(many)
	}
	var request, publish float64
	for range 10 { // what happens now and then, such as room for a metric, is not there every time
		a, p := c.count(few)
		b, q := c.count(many)
		if q*float64(few) > p*float64(many)/4*3 {
			c.t.Fatalf("%.1f publishes for %d requests, %.1f for %d: they did not gather", p, few, q, many)
		}
		publish = (a*float64(many) - b*float64(few)) / (p*float64(many) - q*float64(few))
		request = (a - p*publish) / float64(few)
		c.t.Logf("a request allocates %.3f times, a publish %.3f times (%.1f publishes of %d requests, %.1f of %d)", request, publish, p, few, q, many)
		if math.Abs(request) <= 0.02 && publish <= workerAllocations+0.1 {
			return
		}
	}
	c.t.Errorf("%.3f allocations for a request, want 0; %.3f for a publish, budget is %d", request, publish, workerAllocations)
}

// renewing has every request of a crowd send the same envelope, each time with
// fresh ids.
func renewing(body string) func(*inMemory) {
	return func(r *inMemory) {
		if len(r.body) == 0 {
			r.body = []byte(body)
		}
		r.renew()
	}
}

// corpusBodies has requests send many envelopes of the mix in turn: all types of
// events, describes of entities, texts that are not ASCII, and escapes.
func corpusBodies(t *testing.T, items int) func(*inMemory) {
	g := corpus.New(corpus.Mix, 7)
	envelopes := make([]corpus.Envelope, max(20, 400/items))
	var all []byte
	for i := range envelopes {
		envelopes[i] = g.Envelope(items, 0)
		all = append(all, envelopes[i].Body...)
	}
	for what, has := range map[string]bool{
		"escapes":            bytes.ContainsRune(all, '\\'),
		"text beyond ASCII":  bytes.ContainsFunc(all, func(c rune) bool { return c > 127 }),
		"escaped code units": bytes.Contains(all, []byte(`\u`)),
	} {
		if !has {
			t.Fatalf("the corpus has no %s", what)
		}
	}
	var next int
	var id uint64
	return func(r *inMemory) {
		e := &envelopes[next%len(envelopes)]
		next++
		id = e.Stamp(1, id)
		r.body = append(r.body[:0], e.Body...)
	}
}

// TestAllocations: a request allocates nothing, with the default window for
// duplicates, and a publish no more than its budget.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, c := range []struct {
		name    string
		items   int
		prepare func(*inMemory)
		status  int
	}{
		{"1 event", 1, renewing(envelope(event(1))), 200},
		{"100 events", 100, renewing(envelope(events(100)...)), 200},
		{"1 of 2 events", 2, renewing(envelope(event(1), badEvent(2))), 202},
		{"1 item of the mix", 1, corpusBodies(t, 1), 200},
		{"100 items of the mix", 100, corpusBodies(t, 100), 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGatedStore()
			config := windowed
			config.PublishesPerTopic = 1 // else what is much does not wait for the gate
			s := build(t, serving{publisher: g, pipeline: config})
			newCrowd(t, s.Endpoint, g, c.items, c.status, c.prepare).check()
		})
	}
}

func newGatedStore() *gatedStore {
	return &gatedStore{entered: make(chan struct{}), opened: make(chan struct{})}
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
		for _, n := range []int{1, 100} {
			t.Run(fmt.Sprintf("%d to %s", n, topic), func(t *testing.T) {
				g := newGatedStore()
				config := windowed
				config.Rules, config.PublishesPerTopic = enriching(t).WithKeys(keys), 1
				s := build(t, serving{publisher: g, pipeline: config, Config: Config{Validate: validate.Options{NoteMembers: config.Rules.NeedPaths()}}})
				c := newCrowd(t, s.Endpoint, g, n, 200, renewing(envelope(courseEvents(n)...)))
				c.check()
				want := fmt.Appendf(nil, `"accepted":%d,"rejected":0,"topics":{"%s":`, n, topic)
				for _, r := range c.requests {
					if got := r.Response.Body(); !bytes.Contains(got, want) {
						t.Errorf("%s, want %s", got, want)
					}
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
