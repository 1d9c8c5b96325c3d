package shapes

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"caliperedge/internal/visible"
)

// Report is what a Collector has seen.
type Report struct {
	// Title says what was read, and Masked whether values are patterns.
	Title  string `json:"title"`
	Masked bool   `json:"masked"`
	// Compared tells whether there is a period before, which Ranges then names
	// first.
	Compared bool      `json:"compared"`
	Ranges   [2]string `json:"ranges"`
	// Events counts them by period.
	Events [2]int `json:"events"`
	// Missed counts events of shapes that there was no room for; Cut is true
	// where members are missing for that reason.
	Missed int      `json:"missed,omitempty"`
	Cut    bool     `json:"cut,omitempty"`
	Shapes []*Shape `json:"shapes"`
}

// Shape is the events of one tool, edApp, type and action.
type Shape struct {
	Key
	Events  [2]int    `json:"events"`
	Members []*Member `json:"members"`
	Changes []string  `json:"changes,omitempty"`
}

// Member is a place in the events of a shape, such as actor.id or items[].name.
type Member struct {
	Path     string   `json:"path"`
	Events   [2]int   `json:"events"` // that have it
	Types    []Type   `json:"types"`
	Examples []string `json:"examples,omitempty"`
	// Names is how many members of an object this is, where they are many and
	// rare; at least, where there were more than are told apart. Events then
	// counts an event for each of them, here and in the places below.
	Names int `json:"names,omitempty"`
	// Change is new, gone, or what else differs; empty where nothing does.
	Change string `json:"change,omitempty"`

	folded bool // it is below members that are told as one, or is that
}

// Type is a JSON type, with how often it occurs.
type Type struct {
	Name  string `json:"type"`
	Count [2]int `json:"count"`
}

// Report describes what was collected, the most frequent shapes first. compared
// looks for changes between the periods.
func (c *Collector) Report(title string, compared bool) *Report {
	r := &Report{Title: title, Masked: !c.values, Compared: compared, Events: c.events, Missed: c.missed, Cut: c.cut, Shapes: []*Shape{}}
	for k, s := range c.shapes {
		out := &Shape{Key: k, Events: s.count}
		c.list(s.root, Member{}, &out.Members)
		slices.SortFunc(out.Members, func(a, b *Member) int { return cmp.Compare(a.Path, b.Path) })
		if compared {
			out.compare()
		}
		r.Shapes = append(r.Shapes, out)
	}
	slices.SortFunc(r.Shapes, func(a, b *Shape) int {
		return cmp.Or(cmp.Compare(a.Tool, b.Tool), -cmp.Compare(a.Events[Now]+a.Events[Before], b.Events[Now]+b.Events[Before]),
			cmp.Compare(a.EdApp, b.EdApp), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Action, b.Action))
	})
	return r
}

// list appends the places below n, of which m has what is known of its own. The
// event itself is none, unless it is no object.
func (c *Collector) list(n *node, m Member, out *[]*Member) {
	path := m.Path
	if path != "" || n.types["object"] == nil || len(n.types) > 1 {
		m.Path, m.Events, m.Examples = cmp.Or(path, "(event)"), n.events, n.examples
		for _, name := range slices.Sorted(maps.Keys(n.types)) {
			m.Types = append(m.Types, Type{name, *n.types[name]})
		}
		*out = append(*out, &m)
	}
	apart, others, names := c.members(n)
	for name, child := range apart {
		c.list(child, Member{Path: join(path, name), folded: m.folded}, out)
	}
	if others != nil {
		c.list(others, Member{Path: join(path, rest), Names: names, folded: true}, out)
	}
	if n.elements != nil {
		c.list(n.elements, Member{Path: path + "[]", folded: m.folded}, out)
	}
}

// join is the path of a member; a name that has dots is quoted.
func join(path, name string) string {
	switch {
	case strings.ContainsAny(name, `."[]`) || name == "":
		return fmt.Sprintf("%s[%q]", path, name)
	case path == "":
		return name
	}
	return path + "." + name
}

// notable is by how much the share of events with a member must have moved to be
// told.
const notable = 0.2

// compare finds what is different now.
func (s *Shape) compare() {
	switch {
	case s.Events[Before] == 0:
		s.Changes = []string{"new: no such event before"}
		return
	case s.Events[Now] == 0:
		s.Changes = []string{"gone: no such event now"}
		return
	}
	for _, m := range s.Members {
		before, now := m.share(s, Before), m.share(s, Now)
		var parts []string
		switch {
		case m.Events[Before] == 0:
			parts = append(parts, "new")
		case m.Events[Now] == 0:
			parts = append(parts, "gone")
		default:
			if b, n := m.typesIn(Before), m.typesIn(Now); b != n {
				parts = append(parts, "was "+b+", is "+n)
			}
			if math.Abs(now-before) >= notable && !m.folded {
				parts = append(parts, fmt.Sprintf("in %s of the events, was in %s", percent(now), percent(before)))
			}
		}
		if m.Change = strings.Join(parts, "; "); m.Change != "" {
			s.Changes = append(s.Changes, m.Path+": "+m.Change)
		}
	}
}

func (m *Member) share(s *Shape, p Period) float64 {
	if s.Events[p] == 0 {
		return 0
	}
	return float64(m.Events[p]) / float64(s.Events[p])
}

func (m *Member) typesIn(p Period) string {
	var names []string
	for _, t := range m.Types {
		if t.Count[p] > 0 {
			names = append(names, t.Name)
		}
	}
	return strings.Join(names, " or ")
}

// percent rounds so that 100 % means all, and 0 % none.
func percent(share float64) string {
	n := math.Round(100 * share)
	if share < 1 && n == 100 {
		n = 99
	}
	if share > 0 && n == 0 {
		n = 1
	}
	return fmt.Sprintf("%.0f %%", n)
}

// Share is how much of the events of a shape, in the period that is told of,
// have m; of members that are told as one how many they are, and below them how
// often a place occurs.
func (r *Report) Share(s *Shape, m *Member) string {
	switch {
	case m.Names > 0:
		return fmt.Sprintf("%d names", m.Names)
	case m.folded:
		return fmt.Sprintf("%d times", m.Events[r.told(s)])
	}
	return percent(m.share(s, r.told(s)))
}

// TypeNames are the types of m in that period.
func (r *Report) TypeNames(s *Shape, m *Member) string { return m.typesIn(r.told(s)) }

// told is the period that a shape is described in: now, if it still occurs.
func (r *Report) told(s *Shape) Period {
	if s.Events[Now] == 0 {
		return Before
	}
	return Now
}

// Name is what a shape is called.
func (s *Shape) Name() string {
	name := cmp.Or(s.Type, "(no type)")
	if s.Action != "" {
		name += " / " + s.Action
	}
	return name
}

// shown is r as people can look at it.
func (r *Report) shown() *Report {
	out := *r
	out.Title, out.Shapes = visible.Text(r.Title), make([]*Shape, len(r.Shapes))
	for i, s := range r.Shapes {
		shape := *s
		shape.Key = Key{visible.Text(s.Tool), visible.Text(s.EdApp), visible.Text(s.Type), visible.Text(s.Action)}
		shape.Changes, shape.Members = visibleAll(s.Changes), make([]*Member, len(s.Members))
		for j, m := range s.Members {
			member := *m
			member.Path, member.Examples = visible.Text(m.Path), visibleAll(m.Examples)
			shape.Members[j] = &member
		}
		out.Shapes[i] = &shape
	}
	return &out
}

func visibleAll(texts []string) []string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = visible.Text(text)
	}
	return all
}

// WriteText writes r for people.
func (r *Report) WriteText(out io.Writer) error {
	r = r.shown()
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "%s: %d events\n", r.Title, r.Events[Now])
	if r.Compared {
		fmt.Fprintf(w, "compared with %d events of %s\n", r.Events[Before], r.Ranges[Before])
	}
	if r.Missed > 0 || r.Cut {
		fmt.Fprintf(w, "there was no room for all: %d events are left out, and members may be\n", r.Missed)
	}
	for _, s := range r.Shapes {
		fmt.Fprintf(w, "\n%s  %s  edApp %s  %d events\n", cmp.Or(s.Tool, "-"), s.Name(), cmp.Or(s.EdApp, "-"), s.Events[Now])
		for _, change := range s.Changes {
			fmt.Fprintf(w, "  ! %s\n", change)
		}
		for _, m := range s.Members {
			if m.Events[r.told(s)] > 0 {
				fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", m.Path, r.TypeNames(s, m), r.Share(s, m), strings.Join(m.Examples, "  "))
			}
		}
	}
	return w.Flush()
}
