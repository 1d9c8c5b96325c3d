package rules

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"caliperedge/internal/names"
	"caliperedge/validate"
)

// Set says which identifiers an event has, and where: a list of extractions.
// Read makes it.
type Set struct {
	extractions []extraction
}

// extraction takes identifiers out of the value at a path: the whole of it, or
// what the first pattern that fits finds.
type extraction struct {
	line     int
	path     validate.Path
	kind     string // of the whole value; empty where there are patterns
	patterns []pattern
}

// Bounds of identifiers.
const (
	maxKinds      = 32  // of a set
	maxFound      = 64  // in an event; further ones are left out, see allotment
	maxValueBytes = 512 // of one; longer ones are left out
)

// extractor is a Set as one tool meets it.
type extractor struct {
	kinds []string // in the order in which the set names them
	steps []step
	room  allotment // of an event
}

// allotment is room for further identifiers of an event. Half of it is kept for
// the kinds that keys are demanded for, in equal parts, so that others cannot
// take it from them.
type allotment struct {
	free int
	kept [maxKinds]uint8
}

type step struct {
	slot     int
	kind     uint8
	patterns []pattern
}

// identifier is one that was found: a view into the event, or into the room of
// the Scratch.
type identifier struct {
	kind  uint8
	value []byte
}

// compile makes an extractor. demanded are the kinds that keys are demanded for.
func (set *Set) compile(slot func(validate.Path) int, demanded []string) *extractor {
	x := new(extractor)
	for i := range set.extractions {
		e := &set.extractions[i]
		s := step{slot: slot(e.path), patterns: make([]pattern, len(e.patterns))}
		if e.kind != "" {
			s.kind = x.add(e.kind)
		}
		for j, p := range e.patterns {
			s.patterns[j] = p.compile(x)
		}
		x.steps = append(x.steps, s)
	}
	x.room.free = maxFound
	for _, kind := range demanded {
		part := maxFound / 2 / len(demanded)
		x.room.kept[x.kindAt(kind)] = uint8(part)
		x.room.free -= part
	}
	return x
}

// add returns the number of a kind.
func (x *extractor) add(kind string) uint8 {
	at := x.kindAt(kind)
	if at < 0 {
		at = len(x.kinds)
		x.kinds = append(x.kinds, kind)
	}
	return uint8(at)
}

func (x *extractor) kindAt(kind string) int { return slices.Index(x.kinds, kind) }

// extract finds the identifiers of the item of s.
func (s *Scratch) extract(x *extractor) {
	s.found, s.left, s.tooLong = s.found[:0], x.room, 0
	for i := range x.steps {
		step := &x.steps[i]
		text := s.text(s.value(step.slot))
		switch {
		case len(text) == 0:
		case len(step.patterns) == 0:
			s.add(step.kind, text)
		default:
			for j := range step.patterns {
				if step.patterns[j].match(text, s) {
					break
				}
			}
		}
	}
}

// add notes an identifier that is new and within bounds.
func (s *Scratch) add(kind uint8, value []byte) {
	switch {
	case len(value) == 0:
		return
	case len(value) > maxValueBytes:
		s.tooLong |= 1 << kind
		return
	}
	for _, id := range s.found {
		if id.kind == kind && bytes.Equal(id.value, value) {
			return
		}
	}
	switch {
	case s.left.kept[kind] > 0:
		s.left.kept[kind]--
	case s.left.free > 0:
		s.left.free--
	default:
		return
	}
	s.found = append(s.found, identifier{kind, value})
}

// appendMember appends the member identifiers: kinds in the order of the set,
// values in the order in which they were found. Nothing where none was.
func (x *extractor) appendMember(dst []byte, found []identifier) []byte {
	if len(found) == 0 {
		return dst
	}
	dst = append(dst, `,"identifiers":{`...)
	first := true
	for kind, name := range x.kinds {
		more := false
		for _, id := range found {
			if int(id.kind) != kind {
				continue
			}
			if more {
				dst = append(dst, ',')
			} else {
				if !first {
					dst = append(dst, ',')
				}
				first = false
				dst = append(appendString(dst, name), ':', '[')
			}
			more = true
			dst = appendString(dst, id.value)
		}
		if more {
			dst = append(dst, ']')
		}
	}
	return append(dst, '}')
}

// kinds are all kinds that the set can find, in its order.
func (set *Set) kinds() []string {
	return set.compile(func(validate.Path) int { return 0 }, nil).kinds
}

// pattern takes a text apart: literals and holes in turn. After them the text
// ends, unless rest allows more, or goes on in levels, pairs of a name and a
// value with colons between.
type pattern struct {
	text   string
	parts  []part
	rest   bool
	levels []level
}

// part is a literal, or a hole where it is empty.
type part struct {
	literal string
	name    string // of a hole: the kind, or empty where it is not kept
	kind    uint8
}

type level struct {
	name string
	kind uint8
	as   string
}

// delimits marks what ends a hole.
var delimits = [256]bool{'/': true, ':': true, '?': true, '#': true, '&': true}

// parsePattern reads a pattern such as https://lms.example.edu/courses/{course}
// or urn:tool:{}:*. A hole takes one or more characters, up to a delimiter or
// to what follows it in the pattern; {} is a hole that is not kept. A * at the
// end stands for anything, nothing included.
func parsePattern(text string, levels []level) (pattern, error) {
	p := pattern{text: text, levels: levels}
	rest := text
	if cut, ok := strings.CutSuffix(rest, "*"); ok {
		if len(levels) > 0 {
			return p, fmt.Errorf("pattern %q ends with * and has levels, expected one of them", text)
		}
		p.rest, rest = true, cut
	}
	for rest != "" {
		open := strings.IndexByte(rest, '{')
		if open != 0 {
			literal := rest
			if open > 0 {
				literal = rest[:open]
			}
			if strings.ContainsAny(literal, "}*") {
				return p, fmt.Errorf("pattern %q: %q, expected {kind}, {} or a * at the end", text, literal)
			}
			p.parts = append(p.parts, part{literal: literal})
			rest = rest[len(literal):]
			continue
		}
		name, after, closed := strings.Cut(rest[1:], "}")
		if !closed {
			return p, fmt.Errorf("pattern %q: a { is not closed", text)
		}
		if name != "" {
			if err := checkKind(name); err != nil {
				return p, fmt.Errorf("pattern %q: %w", text, err)
			}
		}
		if n := len(p.parts); n > 0 && p.parts[n-1].literal == "" {
			return p, fmt.Errorf("pattern %q: two holes without anything between", text)
		}
		p.parts = append(p.parts, part{name: name})
		rest = after
	}
	if len(p.parts) == 0 {
		return p, fmt.Errorf("pattern %q takes nothing apart", text)
	}
	if !slices.ContainsFunc(p.parts, func(q part) bool { return q.name != "" }) && len(levels) == 0 {
		return p, fmt.Errorf("pattern %q finds nothing: it has neither a {kind} nor levels", text)
	}
	return p, nil
}

// checkKind holds kinds to names that read well everywhere.
func checkKind(kind string) error { return names.Check("kind", kind, names.ToolBytes) }

// CheckTool refuses what no tool can be called.
func CheckTool(tool string) error { return names.Check("tool", tool, names.ToolBytes) }

func (p pattern) compile(x *extractor) pattern {
	p.parts, p.levels = slices.Clone(p.parts), slices.Clone(p.levels)
	for i := range p.parts {
		if p.parts[i].name != "" {
			p.parts[i].kind = x.add(p.parts[i].name)
		}
	}
	for i := range p.levels {
		p.levels[i].kind = x.add(p.levels[i].as)
	}
	return p
}

// match takes text apart, and notes in s what it finds. Where the pattern does
// not fit it notes nothing.
func (p *pattern) match(text []byte, s *Scratch) bool {
	found, left, tooLong := len(s.found), s.left, s.tooLong
	if !p.take(text, s) {
		s.found, s.left, s.tooLong = s.found[:found], left, tooLong
		return false
	}
	return true
}

// take is match where what is found before the pattern fails need not be
// forgotten.
func (p *pattern) take(text []byte, s *Scratch) bool {
	for i := range p.parts {
		q := &p.parts[i]
		if q.literal != "" {
			if len(text) < len(q.literal) || string(text[:len(q.literal)]) != q.literal {
				return false
			}
			text = text[len(q.literal):]
			continue
		}
		var stop byte // 0 where nothing follows
		if i+1 < len(p.parts) {
			stop = p.parts[i+1].literal[0]
		}
		n := holeBytes(text, stop)
		if n == 0 {
			return false
		}
		if q.name != "" {
			s.add(q.kind, text[:n])
		}
		text = text[n:]
	}
	if len(p.levels) > 0 {
		text = withoutComponents(text)
	}
	switch {
	case len(text) == 0 || p.rest:
		return true
	case len(p.levels) == 0 || text[0] != ':':
		return false
	}
	p.descend(text[1:], s)
	return true
}

// holeBytes is how much of text a hole takes.
func holeBytes(text []byte, stop byte) int {
	for i, c := range text {
		if c == stop && stop != 0 || delimits[c] {
			return i
		}
	}
	return len(text)
}

// withoutComponents cuts off what is no part of a URN's name: the components of
// RFC 8141, which begin with ? or #. A / or & is part of the name.
func withoutComponents(urn []byte) []byte {
	for _, begins := range [...]byte{'?', '#'} {
		if i := bytes.IndexByte(urn, begins); i >= 0 {
			urn = urn[:i]
		}
	}
	return urn
}

// descend takes pairs of name and value apart. Levels that are not asked for are
// passed over.
func (p *pattern) descend(text []byte, s *Scratch) {
	for len(text) > 0 {
		name, rest, ok := cutColon(text)
		if !ok {
			return
		}
		value, after, _ := cutColon(rest)
		for i := range p.levels {
			if string(name) == p.levels[i].name {
				s.add(p.levels[i].kind, value)
			}
		}
		text = after
	}
}

func cutColon(text []byte) (before, after []byte, found bool) {
	if i := bytes.IndexByte(text, ':'); i >= 0 {
		return text[:i], text[i+1:], true
	}
	return text, nil, false
}
