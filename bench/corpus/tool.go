package corpus

import (
	"fmt"
	"strings"
	"time"
)

// What stands in `@context` and `dataVersion`.
const (
	contextV1p1 = "http://purl.imsglobal.org/ctx/caliper/v1p1"
	contextV1p2 = "http://purl.imsglobal.org/ctx/caliper/v1p2"
)

// tool is who sends an envelope, and how its library writes.
type tool struct {
	notation
	sensor   string
	version  string // context of its Caliper version
	customer string // university, as part of host names and URNs
	zone     string // of its sendTime, as its library writes UTC
	app      application
}

// application is a kind of tool in the mix.
type application struct {
	host, name, vendor string
	libraries          []notation
}

var applications = [...]application{
	{"canvas", "Canvas", "com.instructure.canvas", []notation{compact}},
	{"lecturecast", "Lecturecast", "org.example.lecturecast", []notation{compact, php}},
	{"quiz", "Item Bank", "edu.example.itembank", []notation{python}},
	{"forum", "Forum", "net.example.forum", []notation{compact, phpPlain}},
	{"reader", "E-Reader", "com.example.reader", []notation{compact}},
	{"survey", "Survey", "com.example.survey", []notation{python, compact}},
	{"lti", "Tool Provider", "org.example.lti", []notation{compact}},
	{"blog", "Campus Blogs", "ca.example.blogs", []notation{phpPlain, php}},
}

var customers = [...]string{
	"umich", "iu", "colorado-state", "oregonstate", "uiowa", "wisconsin", "psu", "rutgers", "nebraska", "ufl", "minnesota",
}

// tool draws a sender.
func (g *Generator) tool() tool {
	t := tool{version: contextV1p1, customer: customers[g.below(len(customers))], zone: "Z"}
	if g.kind == Engage {
		t.sensor = "https://engage.example.edu/" + t.customer + "/caliper/sensor/1"
		return t
	}
	t.app = applications[g.below(len(applications))]
	t.sensor = fmt.Sprintf("https://%s.%s.example.edu/sensors/%d", t.app.host, t.customer, 1+g.below(9))
	t.notation = t.app.libraries[g.below(len(t.app.libraries))]
	if t.notation == python || g.chance(0.3) {
		t.version = contextV1p2
	}
	if t.notation == compact && g.chance(0.1) {
		t.zone = "+0000"
	}
	return t
}

// envelope is the body around data, its members in the order of the tool's library.
func (t *tool) envelope(g *Generator, data list) object {
	sent := g.clock.Add(time.Duration(g.below(2000)) * time.Millisecond)
	return object{
		{"sensor", t.sensor},
		{"sendTime", stamp(sent, 3, t.zone)},
		{"dataVersion", t.version},
		{"data", data},
	}
}

// item makes an item that conforms.
func (g *Generator) item(t *tool) object {
	if g.kind == Engage {
		return g.engageItem(t)
	}
	return g.mixedItem(t)
}

// below draws from 0 to n-1, each as likely.
func (g *Generator) below(n int) int { return g.rand.IntN(n) }

// chance is true with probability p.
func (g *Generator) chance(p float64) bool { return g.rand.Float64() < p }

// tick moves the clock to the next event and tells the time.
func (g *Generator) tick() time.Time {
	g.clock = g.clock.Add(time.Duration(1+g.below(250)) * time.Millisecond)
	return g.clock
}

// before is a time of some day in the past.
func (g *Generator) before(days int) time.Time {
	return g.clock.Add(-time.Duration(1+g.below(days*86_400_000)) * time.Millisecond)
}

// stamp writes a time with so many fraction digits; zone must be a way to write UTC.
func stamp(t time.Time, fraction int, zone string) string {
	layout := "2006-01-02T15:04:05"
	if fraction > 0 {
		layout += "." + strings.Repeat("0", fraction)
	}
	return t.Format(layout) + zone
}
