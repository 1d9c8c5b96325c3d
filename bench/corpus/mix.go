package corpus

import (
	"fmt"
	"hash/fnv"
	"math"
	"strings"
)

// Bounds of an item of the mix in bytes, and how sizes lie between them: a logarithmic normal distribution, which is what
// sizes of real events look like.
const (
	minItemBytes    = 512
	maxItemBytes    = 8192
	medianItemBytes = 1350
	spread          = 0.6 // standard deviation of the logarithm
)

// describeShare is the part of the items that are entity describes.
const describeShare = 0.05

// scene is where an event takes place: whatever of it speaks of the same user, course or page has the same ids.
type scene struct {
	*Generator
	*tool
	base    string // URL of the tool
	user    int
	course  int
	section int
	*script // the language of the course
	scratch []byte
}

func (g *Generator) mixedItem(t *tool) object {
	s := &scene{
		Generator: g, tool: t, base: strings.TrimSuffix(t.sensor[:strings.Index(t.sensor, "/sensors")], "/"),
		user: 1 + g.below(48_000), course: 1 + g.below(900), section: 1 + g.below(40), script: g.script(),
	}
	var item object
	var optional []member
	if g.chance(describeShare) {
		item, optional = s.describe()
	} else {
		item, optional = s.event(g.eventType())
	}
	s.fill(&item, optional)
	if t.notation == php || t.notation == phpPlain {
		id := item.get("id")
		item = append(item.without("id"), member{"id", id})
	}
	return item
}

// eventType draws by weight.
func (g *Generator) eventType() *eventType {
	total := 0
	for i := range eventTypes {
		total += eventTypes[i].weight
	}
	n := g.below(total)
	for i := range eventTypes {
		if n -= eventTypes[i].weight; n < 0 {
			return &eventTypes[i]
		}
	}
	panic("corpus: weights changed while they were read")
}

// event is the members that an event must have, and those that it has where there is room.
func (s *scene) event(t *eventType) (item object, optional []member) {
	item = object{{"@context", s.context(t.extension)}, {"id", token{}}, {"type", t.name}}
	if s.version == contextV1p2 {
		item.set("profile", t.profile)
	}
	person := s.person()
	if s.chance(0.05) {
		item.set("actor", person.get("id"))
	} else {
		item.set("actor", person)
	}
	action := oneOf(s.Generator, t.actions...)
	item.set("action", action)
	item.set("object", s.entity(oneOf(s.Generator, t.objects...)))
	item.set("eventTime", s.eventTime())
	if t.generated != nil && s.chance(0.8) {
		item.set("generated", s.entity(oneOf(s.Generator, t.generated...)))
	}
	switch {
	case t.name == "MediaEvent":
		item.set("target", object{{"id", s.base + "/media/location/" + s.hex(8)}, {"type", "MediaLocation"}, {"currentTime", s.duration()}})
	case action == "Searched":
		item.set("generated", s.entity("SearchResponse"))
	}
	if s.chance(0.7) {
		item.set("edApp", object{{"id", s.base}, {"type", "SoftwareApplication"}, {"name", s.app.name}, {"version", "v2." + s.count(90)}})
	} else {
		item.set("edApp", s.base)
	}
	optional = []member{
		{"session", object{
			{"id", s.base + "/sessions/" + s.fixed("session", s.user, 40)}, {"type", "Session"}, {"startedAtTime", stamp(s.before(1), 3, "Z")},
		}},
		{"group", s.entity("CourseSection")},
		{"membership", object{
			{"id", fmt.Sprintf("%s/courses/%d/sections/%d/rosters/%d", s.base, s.course, s.section, s.user)}, {"type", "Membership"},
			{"member", person.get("id")}, {"organization", s.sectionID()},
			{"roles", list{oneOf(s.Generator, "Learner", "Learner", "Learner", "Instructor")}},
			{"status", "Active"}, {"dateCreated", stamp(s.before(60), 3, "Z")},
		}},
		{"federatedSession", s.launch()},
		{"referrer", s.base + "/dashboard?from=" + s.hex(6)},
	}
	if s.chance(0.05) {
		item.set("target", nil) // some libraries write what is not there
	}
	return item, optional
}

// describe is an entity that a sensor tells of by itself.
func (s *scene) describe() (item object, optional []member) {
	e := s.entity(oneOf(s.Generator, describes[:]...))
	item = object{{"@context", s.context("")}, {"id", token{}}}
	for _, m := range e.without("id") {
		item.set(m.name, m.value)
	}
	return item, []member{
		{"otherIdentifiers", list{object{
			{"type", "SystemIdentifier"}, {"identifierType", "LtiUserId"}, {"identifier", s.fixed("user", s.user, 40)}, {"source", s.base},
		}}},
		{"dateModified", stamp(s.before(10), 3, "Z")},
		{"description", s.sentences(2)},
	}
}

// context is what the tool writes for `@context`.
func (s *scene) context(extension string) any {
	iri := s.version
	if extension != "" && iri == contextV1p1 {
		iri += "/" + extension
	}
	switch n := s.below(20); n {
	case 0:
		return list{"https://" + s.customer + ".example.edu/ctx/vendor/v2", iri}
	case 1:
		return list{object{{"vendor", "https://" + s.customer + ".example.edu/terms#"}}, iri}
	case 2:
		return list{iri}
	}
	return iri
}

// eventTime is mostly as the standard has it, and sometimes as libraries of .NET, Ruby and others write it.
func (s *scene) eventTime() string {
	t := s.tick()
	switch s.below(25) {
	case 0:
		return stamp(t, 0, "Z")
	case 1:
		return stamp(t, 7, "Z")
	case 2:
		return stamp(t, 6, "+00:00")
	}
	return stamp(t, 3, "Z")
}

// fill adds optional members in any order while the item stays below a size that is drawn for it, and then extensions
// until that is reached.
func (s *scene) fill(item *object, optional []member) {
	want := int(medianItemBytes * math.Exp(spread*s.rand.NormFloat64()))
	want = min(max(want, minItemBytes), maxItemBytes*7/8)
	size := s.size(*item, 2)
	s.rand.Shuffle(len(optional), func(i, j int) { optional[i], optional[j] = optional[j], optional[i] })
	for _, m := range optional {
		if n := s.added(m, 2); size+n <= want && item.get(m.name) == nil {
			item.set(m.name, m.value)
			size += n
		}
	}
	if size >= want {
		return
	}
	var inner object
	size += s.added(member{"extensions", object{{s.app.vendor, inner}}}, 2)
	for inner == nil || size < want {
		m := s.extension()
		if inner.get(m.name) != nil {
			m.name += "_" + s.count(1000)
		}
		if n := s.added(m, 4); size+n <= maxItemBytes {
			inner.set(m.name, m.value)
			size += n
		}
	}
	item.set("extensions", object{{s.app.vendor, inner}})
}

// size is that of v as the tool writes it at a depth.
func (s *scene) size(v any, depth int) int {
	w := writer{notation: s.notation, out: s.scratch[:0]}
	w.value(v, depth)
	s.scratch = w.out
	return len(w.out)
}

// added is how much an object at a depth, not empty, grows by another member.
func (s *scene) added(m member, depth int) int {
	n := s.size(object{m}, depth) - len("{}") + len(",")
	if s.blanks {
		n++
	}
	if s.indent > 0 {
		n -= 1 + depth*s.indent // the line of the closing bracket
	}
	return n
}

// hex is n random digits.
func (g *Generator) hex(n int) string {
	out := make([]byte, n)
	for i := range out {
		out[i] = digits[g.below(16)]
	}
	return string(out)
}

// fixed is n digits that are always the same for one thing of a university, such as the user or course of a number.
func (t *tool) fixed(what string, number, n int) string {
	h := fnv.New64a()
	h.Write([]byte(t.customer + "/" + what))
	x := h.Sum64() + uint64(number)
	out := make([]byte, n)
	for i := range out {
		x = mixed(x, uint64(i))
		out[i] = digits[x&15]
	}
	return string(out)
}

// count is a number from 1 to n.
func (g *Generator) count(n int) string { return fmt.Sprint(1 + g.below(n)) }

// decimal is a number from 0 to top with so many fraction digits.
func (g *Generator) decimal(top float64, fraction int) number {
	return number(fmt.Sprintf("%.*f", fraction, g.rand.Float64()*top))
}

// duration is up to two hours.
func (g *Generator) duration() string {
	n := g.below(7200)
	return fmt.Sprintf("PT%dH%dM%dS", n/3600, n/60%60, n%60)
}
