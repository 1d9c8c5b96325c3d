package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strings"
)

//go:embed report.html
var reportPage string

// html renders the report as one page that needs nothing else.
func (r *Result) html() ([]byte, error) {
	page, err := template.New("report").Parse(reportPage)
	if err != nil {
		return nil, err
	}
	var text, b bytes.Buffer
	r.writeText(&text)
	err = page.Execute(&b, map[string]any{"Result": r, "Text": text.String(), "Charts": r.charts()})
	return b.Bytes(), err
}

// chart is a picture with its heading.
type chart struct {
	Title, Note string
	Series      []line
	SVG         template.HTML
}

// line is one row of points. Where y is not a number there is a gap.
type line struct {
	Name   string
	Class  string // colour, see the style sheet
	xs, ys []float64
	bars   bool
}

// mark is a labelled place on an axis, in units of the axis.
type mark struct {
	at    float64
	label string
}

func (r *Result) charts() []chart {
	throughput := line{Name: "requests/s", Class: "a"}
	failed := line{Name: "errors/s", Class: "bad", bars: true}
	median, p99, longest := line{Name: "p50", Class: "a"}, line{Name: "p99", Class: "b"}, line{Name: "maximum", Class: "c"}
	for _, s := range r.Seconds {
		if s.Max == 0 { // nothing was answered
			s.P50, s.P99, s.Max = math.NaN(), math.NaN(), math.NaN()
		}
		for l, y := range map[*line]float64{&throughput: s.Requests, &failed: s.Errors, &median: s.P50, &p99: s.P99, &longest: s.Max} {
			l.xs, l.ys = append(l.xs, s.At), append(l.ys, y)
		}
	}
	seconds := timeTicks(r.WindowSeconds)
	charts := []chart{
		{Title: "Latency by percentile", Note: "ms, from when a request was due to the end of its answer",
			Series: []line{percentileLine("latency", "a", r.Latency.Curve)}},
		{Title: "Throughput", Note: "answered requests per second", Series: []line{throughput}},
		{Title: "Errors", Note: "failed or unexpectedly answered requests per second", Series: []line{failed}},
		{Title: "Latency over time", Note: "ms, by second", Series: []line{median, p99, longest}},
	}
	if r.Loop == "open" {
		charts[0].Series = append(charts[0].Series, percentileLine("service: from when it was sent", "c", r.Service.Curve))
	}
	for i := range charts {
		ticks := seconds
		if i == 0 {
			ticks = percentileTicks
		}
		charts[i].SVG = draw(charts[i].Title, charts[i].Series, ticks)
	}
	return charts
}

// A percentile p stands at log10(100 / (100 - p)), so that each further nine takes the same room.
func percentilePlace(p float64) float64 { return math.Log10(100 / (100 - p)) }

var percentileTicks = []mark{{0, "0"}, {percentilePlace(50), "50"}, {1, "90"}, {2, "99"}, {3, "99.9"}, {4, "99.99"}, {5, "99.999 %"}}

func percentileLine(name, class string, curve []CurvePoint) line {
	l := line{Name: name, Class: class}
	for _, p := range curve {
		if x := percentilePlace(p.Percentile); x <= 5 {
			l.xs, l.ys = append(l.xs, x), append(l.ys, p.Millis)
		}
	}
	return l
}

// timeTicks are about eight, on round seconds.
func timeTicks(seconds float64) []mark {
	step := roundStep(seconds / 8)
	var ticks []mark
	for at := 0.0; at <= seconds+step/10; at += step {
		ticks = append(ticks, mark{at, number(at) + " s"})
	}
	return ticks
}

// roundStep is the next number above of the form 1, 2 or 5 times a power of ten.
func roundStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if v <= f*power {
			return f * power
		}
	}
	return 10 * power
}

func number(v float64) string {
	if v >= 10_000 {
		return fmt.Sprintf("%gk", math.Round(v/100)/10)
	}
	return fmt.Sprintf("%.4g", v)
}

// Size of a chart and of the room for its labels, in its own units.
const (
	chartWidth, chartHeight = 760.0, 240.0
	roomLeft, roomBottom    = 56.0, 24.0
	roomTop, roomRight      = 10.0, 28.0
)

// draw makes the SVG. The vertical axis begins at 0.
func draw(title string, series []line, ticks []mark) template.HTML {
	right, top := ticks[len(ticks)-1].at, 0.0
	for _, l := range series {
		for i, y := range l.ys {
			right = max(right, l.xs[i])
			if y > top { // false for a gap
				top = y
			}
		}
	}
	step := roundStep(top / 4)
	top = max(step, math.Ceil(top/step)*step)
	px := func(x float64) float64 { return roomLeft + x/max(right, 1e-9)*(chartWidth-roomLeft-roomRight) }
	py := func(y float64) float64 { return chartHeight - roomBottom - y/top*(chartHeight-roomTop-roomBottom) }

	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`, chartWidth, chartHeight, template.HTMLEscapeString(title))
	for y := 0.0; y <= top+step/2; y += step {
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1[3]f"/>`, px(0), px(right), py(y))
		fmt.Fprintf(&b, `<text class="y" x="%.1f" y="%.1f">%s</text>`, px(0)-8, py(y)+4, number(y))
	}
	for _, t := range ticks {
		fmt.Fprintf(&b, `<text class="x" x="%.1f" y="%.1f">%s</text>`, px(t.at), chartHeight-6, t.label)
	}
	for _, l := range series {
		l.draw(&b, px, py)
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

func (l line) draw(b *strings.Builder, px, py func(float64) float64) {
	if l.bars {
		for i, x := range l.xs {
			if l.ys[i] > 0 {
				fmt.Fprintf(b, `<line class="bar %s" x1="%.1f" x2="%.1[2]f" y1="%.1f" y2="%.1f"><title>%s: %s</title></line>`,
					l.Class, px(x), py(0), py(l.ys[i]), l.Name, number(l.ys[i]))
			}
		}
		return
	}
	var path, dots strings.Builder // dots are what a pointer finds
	step := 'M'
	for i, x := range l.xs {
		if math.IsNaN(l.ys[i]) {
			step = 'M'
			continue
		}
		fmt.Fprintf(&path, "%c%.1f %.1f", step, px(x), py(l.ys[i]))
		fmt.Fprintf(&dots, `<circle class="dot %s" cx="%.1f" cy="%.1f" r="5"><title>%s: %s</title></circle>`, l.Class, px(x), py(l.ys[i]), l.Name, number(l.ys[i]))
		step = 'L'
	}
	fmt.Fprintf(b, `<path class="line %s" d="%s"/>%s`, l.Class, &path, &dots)
}
