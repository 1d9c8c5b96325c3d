//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"caliperedge/bench/corpus"
)

// Report is what a run found, as the JSON has it.
type Report struct {
	Started  string  `json:"started"`
	Machine  Machine `json:"machine"`
	Rounds   int     `json:"rounds"`
	Duration float64 `json:"duration_seconds"`
	Warmup   float64 `json:"warmup_seconds"`
	Encoding string  `json:"encoding"` // of messages
	Rows     []*Row  `json:"rows"`
	// Bars are those whose rows were measured.
	Bars []Bar `json:"bars"`
	// Skipped says what was not measured for want of a program.
	Skipped string `json:"skipped,omitempty"`
	// Errors are of measurements that failed; they are in no figure.
	Errors []string `json:"errors"`
}

// Row is what was found of a row: its subjects, in the order of their first turn.
type Row struct {
	Name     string    `json:"name"`
	Subjects []Subject `json:"subjects"`

	row row
}

// Subject is what was found of one endpoint under one load: each figure over all rounds, and the rounds.
type Subject struct {
	Name    string            `json:"name"`
	Figures map[figure]Spread `json:"figures"`
	Samples []sample          `json:"samples"`
}

// Spread is what a figure was in the rounds.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Bar is a bar and how an endpoint stands to it.
type Bar struct {
	Name    string `json:"name"`
	Row     string `json:"row"`
	Subject string `json:"subject"`
	Spread
	Want string `json:"want"`
	Met  bool   `json:"met"` // by the median
}

func newReport(b *bench) (*Report, error) {
	machine, err := describe(b.root, b.folder)
	if err != nil {
		return nil, err
	}
	machine.Base = b.base.name
	r := &Report{
		Started: time.Now().UTC().Format(time.RFC3339), Machine: machine, Rounds: b.rounds,
		Duration: b.duration.Seconds(), Warmup: b.warmup.Seconds(), Encoding: b.encoding, Errors: []string{},
	}
	for _, row := range b.rows {
		if row.byWrk() && b.wrk == "" {
			r.Skipped = "wrk is not installed: what it would confirm was skipped"
		}
		found := &Row{Name: row.String(), row: row}
		for _, s := range row.subjects {
			found.Subjects = append(found.Subjects, Subject{Name: s.name})
		}
		r.Rows = append(r.Rows, found)
	}
	return r, nil
}

// add adds the samples of a round, by the subjects' names.
func (r *Row) add(round map[string]sample) {
	for i := range r.Subjects {
		s := &r.Subjects[i]
		if found, ok := round[s.Name]; ok {
			s.Samples = append(s.Samples, found)
			s.Figures = spreads(s.Samples)
		}
	}
}

// spreads are those of all figures that the samples have.
func spreads(samples []sample) map[figure]Spread {
	values := map[figure][]float64{}
	for _, s := range samples {
		for f, v := range s {
			values[f] = append(values[f], v)
		}
	}
	out := map[figure]Spread{}
	for f, v := range values {
		slices.Sort(v)
		out[f] = Spread{median(v), v[0], v[len(v)-1]}
	}
	return out
}

// median is that of sorted values, at least one.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// find returns what a subject did under a load of a shape, if that was measured.
func (r *Report) find(s shape, kind corpus.Kind, subject string) (row string, figures map[figure]Spread) {
	if s.generator == half {
		s.generator += subject
	}
	for _, row := range r.Rows {
		if (shape{row.row.items, row.row.connections, row.row.generator}) != s || row.row.kind != kind {
			continue
		}
		for _, found := range row.Subjects {
			if found.Name == subject {
				return row.Name, found.Figures
			}
		}
	}
	return "", nil
}

// judged are the endpoints that bars are for, in the order of the table: the first decides.
var judged = []struct {
	subject subject
	kind    corpus.Kind
}{{embedded, corpus.Mix}, {embedded, corpus.Engage}, {withRules, corpus.Mix}, {withRules, corpus.Engage}, {external, corpus.Mix}, {external, corpus.Engage}}

// judge holds the figures against a bar: an entry for each of judged, nil where there is no figure.
func (r *Report) judge(b bar) []*Bar {
	out := make([]*Bar, len(judged))
	for i, j := range judged {
		row, figures := r.find(b.shape, j.kind, j.subject.name)
		if spread, ok := figures[b.figure]; ok {
			out[i] = &Bar{b.what, row, j.subject.name, spread, b.wanted(), b.met(spread.Median)}
		}
	}
	return out
}

// judgeAll sets Bars.
func (r *Report) judgeAll() {
	r.Bars = []Bar{}
	for _, b := range bars {
		for _, found := range r.judge(b) {
			if found != nil {
				r.Bars = append(r.Bars, *found)
			}
		}
	}
}

func (b bar) wanted() string {
	sign := "<="
	if b.atLeast {
		sign = ">="
	}
	return sign + " " + number(b.want)
}

// column is a figure of the table.
type column struct {
	title  string
	figure figure
	scale  float64
}

var columns = []column{
	{"req/s", requestRate, 1}, {"events/s", eventRate, 1}, {"server us", endpointMicros, 1}, {"nats us", storeMicros, 1},
	{"load us", generatorMicros, 1}, {"load %", generatorShare, 100}, {"busy %", busyShare, 100}, {"sonic us", sonicMicros, 1}, {"above", aboveCeiling, 1},
	{"p50 ms", p50, 1}, {"p99 ms", p99, 1}, {"of allowed", p99OfAllowed, 1}, {"peak MiB", peakMiB, 1}, {"batch", batchRecords, 1}, {"disk", diskShare, 1},
}

const legend = `Medians of the rounds.
share      of the requests/s of the row's first line in the same round, median (least..most)
of floor   of the floor's requests/s in the same round
server us  processor time per request of the endpoint; nats us: of the nats-servers beside it; load us: of the generator
load %     the generator's part of all processors; busy %: of servers and generator together
sonic us   processor time of a strict pass of sonic over the body
above      processor time per request above the ceiling's, nats-server included, in such passes
p50, p99   latency; in an open loop from when a request was due
of allowed p99 as a part of twice the ceiling's at the same rate and 5 ms
peak       resident memory of the endpoint at its peak
batch      records in a stored message
disk       bytes on disk per byte of body
`

// baseLegend stands behind legend where base was measured.
const baseLegend = `of base    embedded's requests/s as a share of base's in the same round
us of base embedded's processor time per request as a share of base's in the same round
`

// prototypeLegend stands behind legend where the prototype was measured.
const prototypeLegend = `of prototype the requests/s as a ratio to the prototype's in the same round
`

// writeText writes the report for people.
func (r *Report) writeText(out io.Writer) {
	fmt.Fprintf(out, "%v\n%d rounds of %v s after %v s of warm-up; packed with %s\n\n", r.Machine, r.Rounds, r.Duration, r.Warmup, r.Encoding)
	r.writeRows(out)
	fmt.Fprint(out, legend)
	if r.Machine.Base != "" {
		fmt.Fprint(out, baseLegend)
	}
	if r.has(prototypeShare) {
		fmt.Fprint(out, prototypeLegend)
	}
	fmt.Fprintln(out)
	r.writeBars(out)
	for _, text := range append(slices.Clone(r.Errors), r.Skipped) {
		if text != "" {
			fmt.Fprintln(out, text)
		}
	}
}

// writeRows writes a line for each subject below the name of its row.
func (r *Report) writeRows(out io.Writer) {
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 8, 2, ' ', tabwriter.AlignRight)
	used := slices.Clone(columns)
	used = slices.DeleteFunc(used, func(c column) bool { return !r.has(c.figure) })
	shares := []column{{title: "share", figure: share}, {title: "of floor", figure: floorShare}}
	if r.Machine.Base != "" {
		shares = append(shares, column{title: "of base", figure: baseShare}, column{title: "us of base", figure: baseMicros})
	}
	if r.has(prototypeShare) {
		shares = append(shares, column{title: "of prototype", figure: prototypeShare})
	}
	fmt.Fprint(w, "\trounds\t")
	for _, c := range shares {
		fmt.Fprint(w, c.title, "\t")
	}
	for _, c := range used {
		fmt.Fprint(w, c.title, "\t")
	}
	fmt.Fprintln(w)
	for _, row := range r.Rows {
		for _, s := range row.Subjects {
			fmt.Fprintf(w, "%s\t%d\t", s.Name, len(s.Samples))
			for _, c := range shares {
				if v, ok := s.Figures[c.figure]; ok {
					fmt.Fprint(w, v)
				}
				fmt.Fprint(w, "\t")
			}
			for _, c := range used {
				if v, ok := s.Figures[c.figure]; ok {
					fmt.Fprint(w, number(v.Median*c.scale))
				}
				fmt.Fprint(w, "\t")
			}
			fmt.Fprintln(w)
		}
	}
	w.Flush()
	line := func() { text, _ := table.ReadString('\n'); fmt.Fprint(out, text) }
	line()
	for _, row := range r.Rows {
		fmt.Fprintln(out, row.Name)
		for range row.Subjects {
			line()
		}
	}
	fmt.Fprintln(out)
}

func (r *Report) has(f figure) bool {
	return slices.ContainsFunc(r.Rows, func(row *Row) bool {
		return slices.ContainsFunc(row.Subjects, func(s Subject) bool { _, ok := s.Figures[f]; return ok })
	})
}

func (r *Report) writeBars(out io.Writer) {
	if len(r.Bars) == 0 {
		return
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "bar\tevents\tconnections\twanted")
	for _, j := range judged {
		fmt.Fprintf(w, "\t%s, %v", j.subject.name, j.kind)
	}
	fmt.Fprintln(w)
	for _, b := range bars {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s", b.what, b.shape.items, b.shape.connections, b.wanted())
		for _, found := range r.judge(b) {
			text := "-"
			if found != nil {
				text = found.Spread.String() + map[bool]string{true: " met", false: " MISSED"}[found.Met]
			}
			fmt.Fprintf(w, "\t%s", text)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	fmt.Fprintln(out, "The column embedded, mix decides; the others stand beside it. A dash was not measured.")
}

func (s Spread) String() string {
	return fmt.Sprintf("%s (%s..%s)", number(s.Median), number(s.Min), number(s.Max))
}

// number prints three digits that count, and no power of ten.
func number(v float64) string {
	switch {
	case v >= 100 || v <= -100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10 || v <= -10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func (r *Report) writeJSON(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
