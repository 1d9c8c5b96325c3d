package rules

import (
	"fmt"
	"slices"
	"strings"

	"caliperedge/validate"
)

// op says what a condition looks at.
type op uint8

const (
	opAll op = iota // of the conditions below it; none means always
	opAny           // none means never
	opNot           // the one below it
	opTool
	opType
	opAction
	opEdApp
	opEdAppPrefix
	opPresent // a path
	opEquals
	opPrefix
)

// Condition is what a rule asks of an event. Read makes it.
type Condition struct {
	op     op
	values []string // any of them
	path   validate.Path
	of     []Condition
	line   int
}

// cond is a condition as one tool meets it.
type cond struct {
	op     op
	values []string
	slot   int // of the path
	of     []cond
	from   *Condition
}

// always and never tell what is known of a cond before any event.
func (c *cond) always() bool { return c.op == opAll && len(c.of) == 0 }
func (c *cond) never() bool  { return c.op == opAny && len(c.of) == 0 }

// holds tells whether the condition holds for the item of s.
func (c *cond) holds(s *Scratch) bool {
	switch c.op {
	case opAll:
		for i := range c.of {
			if !c.of[i].holds(s) {
				return false
			}
		}
		return true
	case opAny:
		for i := range c.of {
			if c.of[i].holds(s) {
				return true
			}
		}
		return false
	case opNot:
		return !c.of[0].holds(s)
	}
	return c.holdsOne(s)
}

// holdsOne is holds for a condition without others below it.
func (c *cond) holdsOne(s *Scratch) bool {
	switch c.op {
	case opType:
		return slices.Contains(c.values, s.item.Type)
	case opAction:
		return slices.Contains(c.values, s.item.Action)
	case opEdApp:
		return s.item.EdApp != nil && contains(c.values, s.edAppText())
	case opEdAppPrefix:
		return s.item.EdApp != nil && hasPrefix(s.edAppText(), c.values)
	case opPresent:
		return s.value(c.slot) != nil
	case opEquals:
		text := s.text(s.value(c.slot))
		return text != nil && contains(c.values, text)
	case opPrefix:
		text := s.text(s.value(c.slot))
		return text != nil && hasPrefix(text, c.values)
	}
	panic(fmt.Sprintf("rules: condition %d", c.op))
}

// specialise is the condition as a tool meets it; other is set for every tool
// that is named nowhere. slot gives each path its place.
func (c *Condition) specialise(tool string, other bool, slot func(validate.Path) int) cond {
	switch c.op {
	case opTool:
		if !other && slices.Contains(c.values, tool) {
			return cond{op: opAll}
		}
		return cond{op: opAny}
	case opNot:
		below := c.of[0].specialise(tool, other, slot)
		switch {
		case below.always():
			return cond{op: opAny}
		case below.never():
			return cond{op: opAll}
		}
		return cond{op: opNot, of: []cond{below}, from: c}
	case opAll, opAny:
		return c.specialiseList(tool, other, slot)
	}
	out := cond{op: c.op, values: c.values, from: c, slot: -1}
	if c.op >= opPresent {
		out.slot = slot(c.path)
	}
	return out
}

// specialiseList leaves out what is known already, and puts what is cheap
// before what has to look at a path.
func (c *Condition) specialiseList(tool string, other bool, slot func(validate.Path) int) cond {
	out := cond{op: c.op, from: c}
	for i := range c.of {
		below := c.of[i].specialise(tool, other, slot)
		switch {
		case below.never() && c.op == opAll, below.always() && c.op == opAny:
			return below
		case below.always(), below.never():
		default:
			out.of = append(out.of, below)
		}
	}
	slices.SortStableFunc(out.of, func(a, b cond) int { return a.cost() - b.cost() })
	if len(out.of) == 1 {
		return out.of[0]
	}
	return out
}

func (c *cond) cost() int {
	most := 0
	if c.op >= opPresent {
		most = 2
	} else if c.op == opEdApp || c.op == opEdAppPrefix {
		most = 1
	}
	for i := range c.of {
		most = max(most, c.of[i].cost())
	}
	return most
}

// String is the condition as people read it.
func (c *Condition) String() string {
	list := func(between string) string {
		var all []string
		for i := range c.of {
			all = append(all, c.of[i].String())
		}
		return strings.Join(all, between)
	}
	values := strings.Join(c.values, " or ")
	switch c.op {
	case opAll:
		return list(" and ")
	case opAny:
		return "(" + list(" or ") + ")"
	case opNot:
		return "not (" + c.of[0].String() + ")"
	case opTool:
		return "tool is " + values
	case opType:
		return "type is " + values
	case opAction:
		return "action is " + values
	case opEdApp:
		return "edApp is " + values
	case opEdAppPrefix:
		return "edApp begins with " + values
	case opPresent:
		return c.path.String() + " is present"
	case opEquals:
		return c.path.String() + " is " + values
	}
	return c.path.String() + " begins with " + values
}

// implies tells whether e holds wherever c does, as far as that can be seen
// from their form.
func (c *Condition) implies(e *Condition) bool {
	switch e.op {
	case opAll:
		return !slices.ContainsFunc(e.of, func(part Condition) bool { return !c.implies(&part) })
	case opAny:
		if slices.ContainsFunc(e.of, func(part Condition) bool { return c.implies(&part) }) {
			return true
		}
	}
	switch c.op {
	case opAll:
		return slices.ContainsFunc(c.of, func(part Condition) bool { return part.implies(e) })
	case opAny:
		return len(c.of) > 0 && !slices.ContainsFunc(c.of, func(part Condition) bool { return !part.implies(e) })
	case opNot:
		return e.op == opNot && e.of[0].implies(&c.of[0])
	}
	return c.impliesOne(e)
}

// impliesOne is implies for two conditions without others below them.
func (c *Condition) impliesOne(e *Condition) bool {
	if !c.path.Equal(e.path) {
		return false
	}
	every := func(in func(v string) bool) bool {
		return !slices.ContainsFunc(c.values, func(v string) bool { return !in(v) })
	}
	equal := func(v string) bool { return slices.Contains(e.values, v) }
	begins := func(v string) bool {
		return slices.ContainsFunc(e.values, func(p string) bool { return strings.HasPrefix(v, p) })
	}
	switch {
	case e.op == opPresent:
		return c.op >= opPresent
	case e.op == opEdAppPrefix:
		return (c.op == opEdApp || c.op == opEdAppPrefix) && every(begins)
	case e.op == opPrefix:
		return (c.op == opEquals || c.op == opPrefix) && every(begins)
	}
	return c.op == e.op && every(equal)
}
