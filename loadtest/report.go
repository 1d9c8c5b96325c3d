package main

import (
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is the report of a run, as -json writes it. Times are in the unit that the name says.
type Result struct {
	// Target and what was sent there, as the flags had it.
	Target         string  `json:"target"`
	Connections    int     `json:"connections"`
	Loop           string  `json:"loop"` // open or closed
	Rate           float64 `json:"rate,omitempty"`
	WarmupSeconds  float64 `json:"warmup_seconds"`
	Mix            string  `json:"mix"`
	Seed           uint64  `json:"seed"`
	Started        string  `json:"started"`
	WindowSeconds  float64 `json:"window_seconds"` // as it came out
	RequestsPerSec float64 `json:"requests_per_second"`
	// EventsPerSec counts items of envelopes that were acknowledged.
	EventsPerSec    float64 `json:"durable_events_per_second"`
	SentBytesPerSec float64 `json:"sent_bytes_per_second"`

	// What follows is of all requests that ended after the warm-up, also where that was after the window.
	Answered   int64            `json:"answered"`
	Statuses   map[string]int64 `json:"statuses"`
	Unexpected int64            `json:"unexpected"`
	Failures   map[string]int64 `json:"failures"`
	Behind     int64            `json:"behind"`
	Unsent     int64            `json:"unsent"`
	Held       int64            `json:"held"`
	Closed     int64            `json:"closed"`
	Items      int64            `json:"items_sent"`
	Durable    int64            `json:"items_durable"`
	Bytes      int64            `json:"bytes_sent"`
	ErrorShare float64          `json:"error_share"`
	// Latency is from when a request was due, Service from when it was written; in a closed loop they are the same.
	Latency   Latency `json:"latency"`
	Service   Latency `json:"service"`
	Generator Cost    `json:"generator"`
	// Processes are those that -pid names, in its order.
	Processes []Process `json:"processes,omitempty"`
	Seconds   []Second  `json:"seconds"`
	Ledger    *Audit    `json:"ledger,omitempty"`
	// Verdict says what is wrong; nothing is when it is empty.
	Verdict []string `json:"verdict"`
	// Notes say what else must be known to read the numbers. They leave the exit status.
	Notes []string `json:"notes,omitempty"`

	requests int64 // that ended in the window
}

// Latency is a distribution, in milliseconds.
type Latency struct {
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P75   float64 `json:"p75_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	P9999 float64 `json:"p9999_ms"`
	Max   float64 `json:"max_ms"`
	// Curve is the distribution by percentile, denser towards 100.
	Curve []CurvePoint `json:"curve"`
}

// CurvePoint says that so many percent took no longer.
type CurvePoint struct {
	Percentile float64 `json:"percentile"`
	Millis     float64 `json:"ms"`
}

// Cost is what a process took of the machine while we measured.
type Cost struct {
	ProcessorSeconds float64 `json:"processor_seconds"`
	MicrosPerRequest float64 `json:"processor_us_per_request"`
	Processors       int     `json:"processors"`
	Share            float64 `json:"share_of_processors"`
}

func (c Cost) String() string {
	return fmt.Sprintf("%.1f us of processor time per request, %.0f %% of %d processors", c.MicrosPerRequest, 100*c.Share, c.Processors)
}

// Process is what another process took.
type Process struct {
	PID int `json:"pid"`
	Cost
	Memory Memory `json:"resident_mib"`
}

// Memory is what a process had resident at the end of each second of the window: the mean of the first quarter of them, the
// last one, and the largest. Seconds has them all.
type Memory struct {
	FirstQuarter float64 `json:"first_quarter"`
	Last         float64 `json:"last"`
	Peak         float64 `json:"peak"`
}

func (m Memory) String() string {
	return fmt.Sprintf("resident %.1f MiB in the first quarter, %.1f at the end, %.1f at most", m.FirstQuarter, m.Last, m.Peak)
}

// memory is that of the process at a place among those that are watched.
func (r *Result) memory(place int) (m Memory) {
	quarter := (len(r.Seconds) + 3) / 4
	for i, s := range r.Seconds {
		m.Last = s.Resident[place]
		m.Peak = max(m.Peak, m.Last)
		if i < quarter {
			m.FirstQuarter += m.Last / float64(quarter)
		}
	}
	return m
}

// Second is one second of the window, or what was left of it at the end.
type Second struct {
	At       float64 `json:"at"` // its end
	Requests float64 `json:"requests_per_second"`
	Events   float64 `json:"durable_events_per_second"`
	Errors   float64 `json:"errors_per_second"`
	Behind   int64   `json:"behind"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
	// Resident is the memory of the processes that -pid names, in its order.
	Resident []float64 `json:"resident_mib,omitempty"`
}

func (s Second) String() string {
	text := fmt.Sprintf("%6.1fs %9.0f req/s %10.0f events/s   p50 %.2f  p99 %.2f  max %.2f ms   %.0f errors/s, %d behind",
		s.At, s.Requests, s.Events, s.P50, s.P99, s.Max, s.Errors, s.Behind)
	for _, mib := range s.Resident {
		text += fmt.Sprintf("   %.1f MiB", mib)
	}
	return text
}

func newResult(cfg *config) *Result {
	r := &Result{
		Target: cfg.url.Redacted(), Connections: cfg.connections, Loop: "closed", Rate: cfg.rate,
		WarmupSeconds: cfg.warmup.Seconds(), Seed: cfg.seed, Started: time.Now().UTC().Format(time.RFC3339),
	}
	if cfg.rate > 0 {
		r.Loop = "open"
	}
	sizes := make([]string, len(cfg.items))
	for i, p := range cfg.items {
		sizes[i] = fmt.Sprintf("%d:%v", p.items, p.weight)
	}
	r.Mix = fmt.Sprintf("%s, items %s, faulty %v, gzip %v, zstd %v, %d distinct events", cfg.kind, strings.Join(sizes, ","),
		cfg.faulty, cfg.gzip, cfg.zstd, cfg.distinct)
	if cfg.engage {
		r.Mix = fmt.Sprintf("readers of Engage, online %v, offline %v; ", cfg.online, cfg.offline) + r.Mix
	}
	return r
}

// addSecond adds what was counted in a stretch of the window.
func (r *Result) addSecond(at, took time.Duration, t *tally) {
	per := func(n int64) float64 { return float64(n) / took.Seconds() }
	r.Seconds = append(r.Seconds, Second{
		At: at.Seconds(), Requests: per(t.answered()), Events: per(t.durable), Errors: per(t.errors()), Behind: t.behind,
		P50: millis(t.latency.ValueAtQuantile(50)), P99: millis(t.latency.ValueAtQuantile(99)), Max: millis(t.latency.Max()),
	})
}

// window sets what is reckoned by the length of the window alone.
func (r *Result) window(took, processor time.Duration, t *tally) {
	s := took.Seconds()
	r.WindowSeconds = s
	r.RequestsPerSec = float64(t.answered()) / s
	r.EventsPerSec = float64(t.durable) / s
	r.SentBytesPerSec = float64(t.bytes) / s
	r.requests = t.answered() + t.failed()
	r.Generator = r.cost(processor)
}

// cost is that of a process which used the processors for so long in the window.
func (r *Result) cost(processor time.Duration) Cost {
	c := Cost{ProcessorSeconds: processor.Seconds(), Processors: runtime.NumCPU()}
	c.Share = processor.Seconds() / r.WindowSeconds / float64(c.Processors)
	if r.requests > 0 {
		c.MicrosPerRequest = float64(processor.Microseconds()) / float64(r.requests)
	}
	return c
}

// watch sets the costs of processes that had used so much before the window, at its end.
func (r *Result) watch(pids []int, before []time.Duration) error {
	now, err := processorTimes(pids)
	for i := range now {
		r.Processes = append(r.Processes, Process{pids[i], r.cost(now[i] - before[i]), r.memory(i)})
	}
	return err
}

// total sets what is of all requests.
func (r *Result) total(t *tally) {
	r.Answered, r.Unexpected, r.Behind, r.Unsent, r.Held, r.Closed = t.answered(), t.unexpected, t.behind, t.unsent, t.held, t.closed
	r.Items, r.Durable, r.Bytes = t.items, t.durable, t.bytes
	r.Statuses, r.Failures = map[string]int64{}, map[string]int64{}
	for status, n := range t.statuses {
		if n > 0 {
			r.Statuses[strconv.Itoa(status)] = n
		}
	}
	for f, n := range t.failures {
		if n > 0 {
			r.Failures[failureNames[f]] = n
		}
	}
	if n := t.answered() + t.failed() + t.unsent; n > 0 {
		r.ErrorShare = float64(t.errors()) / float64(n)
	}
	r.Latency, r.Service = newLatency(t.latency), newLatency(t.service)
	r.note(t)
}

func newLatency(h *hdrhistogram.Histogram) Latency {
	at := func(percentile float64) float64 { return millis(h.ValueAtQuantile(percentile)) }
	l := Latency{Mean: h.Mean() / 1000, P50: at(50), P75: at(75), P90: at(90), P99: at(99), P999: at(99.9), P9999: at(99.99), Max: millis(h.Max())}
	for _, b := range h.CumulativeDistributionWithTicks(5) {
		l.Curve = append(l.Curve, CurvePoint{b.Quantile, millis(b.ValueAt)})
	}
	return l
}

func millis(micros int64) float64 { return float64(micros) / 1000 }

// judge says what is wrong with the load.
func (r *Result) judge(cfg config) {
	r.Verdict = []string{}
	if r.Answered == 0 {
		r.fault("no request was answered")
	}
	if r.ErrorShare > cfg.maxErrors {
		r.fault("%.4g %% of the requests failed, at most %.4g %% may", 100*r.ErrorShare, 100*cfg.maxErrors)
	}
}

// maxBehind is the share of requests that may be late for the load to be the one that was asked for.
const maxBehind = 0.01

// note says whether the load was the one that was asked for.
func (r *Result) note(t *tally) {
	if n := t.answered() + t.failed() + t.unsent; r.Loop == "open" && float64(t.behind) > maxBehind*float64(n) {
		r.Notes = append(r.Notes, fmt.Sprintf("the offered load was not what was asked: %.1f %% of the requests were late, because their connections were still waiting; more -connections may help",
			100*float64(t.behind)/float64(n)))
	}
}

// prove says what is wrong with the store.
func (r *Result) prove(a *Audit, err error) {
	if err != nil {
		r.fault("nothing is proved: %v", err)
		return
	}
	r.Ledger = a
	for _, f := range []struct {
		finding *Finding
		text    string
	}{
		{&a.Missing, "%d acknowledged events are not stored where their answers say"},
		{&a.Misplaced, "%d events are stored in topics of which their answers say nothing"},
		{&a.RefusedStored, "%d events are stored although they were refused"},
		{&a.NeverSent, "%d events are stored that were never sent"},
	} {
		if f.finding.Events > 0 {
			r.fault(f.text, f.finding.Events)
		}
	}
}

func (r *Result) fault(format string, args ...any) {
	r.Verdict = append(r.Verdict, fmt.Sprintf(format, args...))
}

// writeText writes the report for people.
func (r *Result) writeText(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	loop := "closed loop"
	if r.Loop == "open" {
		loop = fmt.Sprintf("open loop of %v requests/s", r.Rate)
	}
	line("target", "%s, %d connections, %s, %.1f s after %.1f s of warm-up", r.Target, r.Connections, loop, r.WindowSeconds, r.WarmupSeconds)
	line("mix", "%s", r.Mix)
	line("answered", "%d requests, %.0f/s", r.Answered, r.RequestsPerSec)
	line("durable", "%d of %d items, %.0f/s", r.Durable, r.Items, r.EventsPerSec)
	line("sent", "%d bytes, %.1f MB/s", r.Bytes, r.SentBytesPerSec/1e6)
	line("status", "%s", counted(r.Statuses))
	line("errors", "%.4g %% of the requests: %d unexpected answers, %d never sent, without an answer %s", 100*r.ErrorShare, r.Unexpected, r.Unsent, counted(r.Failures))
	line("connections", "%d closed by the endpoint after an answer", r.Closed)
	if r.Loop == "open" {
		line("schedule", "%d requests were due while their sender waited, %d were held back offline", r.Behind, r.Held)
	}
	line("", "mean\tp50\tp75\tp90\tp99\tp99.9\tp99.99\tmax")
	line("latency, ms", "%s", r.Latency)
	if r.Loop == "open" {
		line("service, ms", "%s", r.Service)
	}
	w.Flush()
	fmt.Fprintln(out, "generator:", r.Generator)
	for _, p := range r.Processes {
		fmt.Fprintf(out, "process %d: %v; %v\n", p.PID, p.Cost, p.Memory)
	}
	if r.Ledger != nil {
		r.Ledger.writeText(out)
	}
	for _, note := range r.Notes {
		fmt.Fprintln(out, "note:", note)
	}
	if len(r.Verdict) == 0 {
		fmt.Fprintln(out, "verdict: good")
		return
	}
	fmt.Fprintln(out, "verdict: BAD:", strings.Join(r.Verdict, "; "))
}

func (l Latency) String() string {
	var b strings.Builder
	for i, v := range []float64{l.Mean, l.P50, l.P75, l.P90, l.P99, l.P999, l.P9999, l.Max} {
		if i > 0 {
			b.WriteByte('\t')
		}
		fmt.Fprintf(&b, "%.2f", v)
	}
	return b.String()
}

// counted prints counts in the order of their names.
func counted(counts map[string]int64) string {
	if len(counts) == 0 {
		return "none"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s: %d", name, counts[name]))
	}
	return strings.Join(parts, ", ")
}

// maxPrinted is how many spans of a finding people are shown.
const maxPrinted = 10

func (a *Audit) writeText(out io.Writer) {
	fmt.Fprintf(out, "ledger: %d acknowledged, %d refused, %d unclear (%d of them stored); %d records of %s read in %.1f s, %d of others\n",
		a.Acknowledged, a.Refused, a.Unclear, a.UnclearStored, a.Records, strings.Join(a.Topics, ", "), a.Seconds, a.Others)
	a.Missing.writeText(out, "acknowledged and missing")
	a.Misplaced.writeText(out, "in a topic that was not said")
	a.Repeated.writeText(out, "stored more than once in a topic, as delivery may")
	a.RefusedStored.writeText(out, "refused and stored")
	a.NeverSent.writeText(out, "never sent and stored")
}

func (f *Finding) writeText(out io.Writer, what string) {
	fmt.Fprintf(out, "  %s: %d", what, f.Events)
	if f.Places != nil {
		fmt.Fprintf(out, " (%s)", counted(f.Places))
	}
	if f.Topics != nil {
		fmt.Fprintf(out, ", by topic %s", counted(f.Topics))
	}
	fmt.Fprintln(out)
	for i, s := range f.Spans {
		if i == maxPrinted {
			fmt.Fprintln(out, "    … and more: -json lists them")
			return
		}
		fmt.Fprintf(out, "    sender %d, events %d to %d: %s", s.Sender, s.First, s.Last, s.IDs[0])
		if more := len(s.IDs) - 1; more > 0 {
			fmt.Fprintf(out, " and %d more", more)
		}
		fmt.Fprintln(out)
	}
}
