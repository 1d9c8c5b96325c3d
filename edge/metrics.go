package edge

import (
	"fmt"
	"sync"

	"caliperedge/pipeline"
	"caliperedge/validate"

	"github.com/VictoriaMetrics/metrics"
)

// edgeMetrics are the numbers of the request lane. Labels are bounded: tools
// come from the token map, reasons and statuses from tables.
type edgeMetrics struct {
	budget                       *pipeline.Budget
	set                          *metrics.Set
	read, validate, store, total *metrics.PrometheusHistogram
	panics                       *metrics.Counter
	byStatus                     map[int]*metrics.Counter
	otherStatus                  *metrics.Counter
	byRefusal                    [len(refusals)]*metrics.Counter
	byFault                      map[string]*metrics.Counter
	tools                        sync.Map // tool → *toolMetrics
}

// itemFaults are all that an item can have.
const itemFaults = validate.FaultID | validate.FaultContext | validate.FaultActor |
	validate.FaultAction | validate.FaultEventTime | validate.FaultObject

func newEdgeMetrics(set *metrics.Set, budget *pipeline.Budget) *edgeMetrics {
	stage := func(name string) *metrics.PrometheusHistogram {
		return set.NewPrometheusHistogramExt(fmt.Sprintf("caliper_stage_seconds{stage=%q}", name), pipeline.StageBuckets)
	}
	m := &edgeMetrics{
		set:         set,
		budget:      budget,
		read:        stage("read"),
		validate:    stage("validate"),
		store:       stage("store"),
		total:       stage("total"),
		panics:      set.NewCounter("caliper_handler_panics_total"),
		byStatus:    make(map[int]*metrics.Counter),
		otherStatus: set.NewCounter(`caliper_responses_total{status="other"}`),
		byFault:     make(map[string]*metrics.Counter),
	}
	set.RegisterMetricsWriter(m.writeLateness)
	status := func(code int) {
		if m.byStatus[code] == nil {
			m.byStatus[code] = set.NewCounter(fmt.Sprintf(`caliper_responses_total{status="%d"}`, code))
		}
	}
	for _, code := range []int{200, 202, 204} {
		status(code)
	}
	for r := accepted + 1; int(r) < len(refusals); r++ {
		status(refusals[r].status)
		m.byRefusal[r] = set.NewCounter(fmt.Sprintf("caliper_requests_refused_total{reason=%q}", refusals[r].reason))
	}
	for code := range itemFaults.Codes() {
		m.byFault[code] = set.NewCounter(fmt.Sprintf("caliper_events_rejected_by_reason_total{reason=%q}", code))
	}
	return m
}

func (m *edgeMetrics) answered(status int) {
	c := m.byStatus[status]
	if c == nil {
		c = m.otherStatus
	}
	c.Inc()
}

// toolMetrics are the numbers of one tool. They add up:
//
//	received = accepted + rejected + refused + debug               in events
//	accepted = stored + duplicate                                  in events
//	requests = stored + duplicate + rejected + refused + debug     in requests
//
// Those of unclear are among the refused: they may be stored all the same.
type toolMetrics struct {
	m                                            *edgeMetrics
	room                                         *pipeline.Share // of the budget
	busy                                         *metrics.Counter
	bytes                                        *metrics.Counter
	received, accepted, rejected, refused, debug *metrics.Counter
	storedEvents, duplicate, unclear, conflict   *metrics.Counter
	requests, storedRequests, duplicateRequests  *metrics.Counter
	rejectedRequests, refusedRequests            *metrics.Counter
	debugRequests                                *metrics.Counter
	mismatched                                   *metrics.Counter // events that spoke as another tool
	kept, notKept                                *metrics.Counter // records in the topic for what was refused
	late                                         lateness
	shapes                                       toolShapes
	newShapes                                    *metrics.Counter
}

// tool returns the numbers of a tool of the token map.
func (m *edgeMetrics) tool(name string) *toolMetrics {
	if t, ok := m.tools.Load(name); ok {
		return t.(*toolMetrics)
	}
	counter := func(metric, label string) *metrics.Counter {
		return m.set.GetOrCreateCounter(fmt.Sprintf("%s{tool=%q%s}", metric, name, label))
	}
	t := &toolMetrics{
		m:                 m,
		room:              m.budget.Share(name),
		busy:              counter("caliper_requests_busy_total", ""),
		newShapes:         counter("caliper_shapes_new_total", ""),
		bytes:             counter("caliper_body_bytes_total", ""),
		received:          counter("caliper_events_received_total", ""),
		accepted:          counter("caliper_events_accepted_total", ""),
		storedEvents:      counter("caliper_events_stored_total", ""),
		duplicate:         counter("caliper_events_duplicate_total", ""),
		rejected:          counter("caliper_events_rejected_total", ""),
		refused:           counter("caliper_events_refused_total", ""),
		unclear:           counter("caliper_events_unclear_total", ""),
		conflict:          counter("caliper_events_conflict_total", ""),
		debug:             counter("caliper_events_debug_total", ""),
		kept:              counter("caliper_rejected_kept_total", ""),
		notKept:           counter("caliper_rejected_not_kept_total", ""),
		requests:          counter("caliper_requests_total", ""),
		storedRequests:    counter("caliper_requests_ended_total", `,as="stored"`),
		duplicateRequests: counter("caliper_requests_ended_total", `,as="duplicate"`),
		rejectedRequests:  counter("caliper_requests_ended_total", `,as="rejected"`),
		refusedRequests:   counter("caliper_requests_ended_total", `,as="refused"`),
		debugRequests:     counter("caliper_requests_ended_total", `,as="debug"`),
		mismatched:        counter("caliper_events_mismatched_total", ""),
	}
	actual, _ := m.tools.LoadOrStore(name, t)
	return actual.(*toolMetrics)
}

// refusedBody counts a request whose items could not be counted.
func (t *toolMetrics) refusedBody(r refusal) {
	t.requests.Inc()
	t.turnedAway(r)
	if refusals[r].retry || r == tooSlow {
		t.refusedRequests.Inc()
	} else {
		t.rejectedRequests.Inc()
	}
}

// turnedAway counts a refusal for want of room.
func (t *toolMetrics) turnedAway(r refusal) {
	if r == tooMuchInFlight {
		t.busy.Inc()
	}
}

// account is the entry of one envelope in the numbers of its tool: one of its
// methods is called once, and then close does nothing.
type account struct {
	*toolMetrics
	tally
	ended bool
}

// examined counts the items of an envelope, and why any were rejected.
func (t *toolMetrics) examined(env *validate.Envelope, n tally) account {
	t.requests.Inc()
	t.received.Add(n.items)
	if n.conformant < n.items {
		items := env.Items()
		for i := range items {
			for code := range items[i].Faults.Codes() {
				t.m.byFault[code].Inc()
			}
		}
	}
	return account{toolMetrics: t, tally: n}
}

// close counts an envelope that a panic kept from its end: it is answered as
// our defect, and how far it got nobody knows.
func (a *account) close() {
	if !a.ended {
		a.notStored(true)
	}
}

func (a *account) debugged() {
	a.ended = true
	a.debugRequests.Inc()
	a.debug.Add(a.items)
}

// refusedEnvelope counts an envelope that failed checks 9 to 13.
func (a *account) refusedEnvelope() {
	a.ended = true
	a.rejectedRequests.Inc()
	a.rejected.Add(a.items)
}

// notStored counts an envelope that failed check 14. unclear tells whether
// events of it may be stored all the same.
func (a *account) notStored(unclear bool) {
	a.ended = true
	a.refusedRequests.Inc()
	a.refused.Add(a.conformant)
	a.rejected.Add(a.items - a.conformant)
	if unclear {
		a.unclear.Add(a.conformant)
	}
}

// stored counts an envelope that is durable. So many of its events are duplicates,
// and so many others have the id of another event.
func (a *account) stored(duplicates, conflicts int) {
	a.ended = true
	if duplicates == a.conformant {
		a.duplicateRequests.Inc()
	} else {
		a.storedRequests.Inc()
	}
	a.accepted.Add(a.conformant)
	a.storedEvents.Add(a.conformant - duplicates)
	a.duplicate.Add(duplicates)
	a.conflict.Add(conflicts)
	a.rejected.Add(a.items - a.conformant)
}
