package rules

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"caliperedge/validate"
)

// Explanation tells people why an event goes where it goes, also as JSON.
type Explanation struct {
	// Rule decided the tier; empty where none did.
	Rule string `json:"rule,omitempty"`
	// Nearest is, where none did, the rule of which the fewest conditions
	// failed, and Failed the first of them. Empty where there are no rules.
	Nearest string `json:"nearest,omitempty"`
	Failed  string `json:"failed,omitempty"`
	// CopiedBy are the rules without a tier that add topics.
	CopiedBy []string `json:"copied_by,omitempty"`
	// Adds is what the record gets besides its usual members, a JSON object;
	// empty where it gets nothing.
	Adds json.RawMessage `json:"adds,omitempty"`
}

// Explain decides again and says why. It allocates.
func (v View) Explain(it *validate.Item) Explanation {
	var e Explanation
	if v.rules == nil {
		return e
	}
	var s Scratch
	d := v.Decide(it, &s)
	if len(s.Members) > 0 {
		e.Adds = append(append([]byte{'{'}, s.Members[1:]...), '}')
	}
	switch {
	case d.Rule != nil:
		e.Rule = d.Rule.Name
	case d.Mismatch:
		e.Failed = v.explainMismatch(it)
	default:
		e.Nearest, e.Failed = v.nearest(it)
	}
	if !d.Mismatch {
		e.CopiedBy = v.copiedBy(it)
	}
	return e
}

// copiedBy are the rules without a tier that hold for the event.
func (v View) copiedBy(it *validate.Item) (names []string) {
	for i := range v.rules.all {
		if r := &v.rules.all[i]; r.Topic == "" && len(r.When.failures(v.tool, it)) == 0 {
			names = append(names, r.Name)
		}
	}
	return names
}

func (v View) explainMismatch(it *validate.Item) string {
	var all []string
	s := Scratch{item: it}
	if v.wrongApp(it, &s) {
		found := ": it names no application"
		if it.EdApp != nil {
			found = foundIn(it.EdApp)
		}
		all = append(all, fmt.Sprintf("edApp begins with %s, as tool %s must", strings.Join(v.view.edApps, " or "), v.tool)+found)
	}
	if v.wrongSensor {
		all = append(all, fmt.Sprintf("sensor begins with %s, as tool %s must", strings.Join(v.view.sensor, " or "), v.tool)+foundIn(v.sensor))
	}
	return strings.Join(all, " and ")
}

// nearest is the rule for a tier of which the fewest conditions fail.
func (v View) nearest(it *validate.Item) (rule, failed string) {
	least := 0
	for i := range v.rules.all {
		r := &v.rules.all[i]
		if r.Topic == "" {
			continue
		}
		failures := r.When.failures(v.tool, it)
		if len(failures) == 0 {
			failures = v.missingKinds(r, it)
		}
		if n := len(failures); n > 0 && (least == 0 || n < least) {
			least, rule, failed = n, r.Name, failures[0]
		}
	}
	return rule, failed
}

// missingKinds are the kinds that the rule demands keys for and the event has
// no identifier of.
func (v View) missingKinds(r *Rule, it *validate.Item) (all []string) {
	var s Scratch
	s.begin(len(v.view.texts))
	s.item, s.paths = it, &v.view.paths
	at := slices.IndexFunc(v.view.rules, func(c compiled) bool { return c.Rule == r })
	if at < 0 {
		return nil
	}
	c := &v.view.rules[at]
	s.extract(c.set)
	for _, kind := range r.Keys {
		if _, state := v.key(c, kind, &s); state == keyImpossible {
			missing := "has an identifier of the kind " + kind
			if s.tooLong>>c.set.kindAt(kind)&1 != 0 {
				missing += fmt.Sprintf(": it has one of more than %d bytes", maxValueBytes)
			}
			all = append(all, missing)
		}
	}
	return all
}

// failures are the conditions that do not hold for an event of that tool; none
// where c does.
func (c *Condition) failures(tool string, it *validate.Item) (all []string) {
	switch c.op {
	case opAll:
		for i := range c.of {
			all = append(all, c.of[i].failures(tool, it)...)
		}
		return all
	case opAny:
		for i := range c.of {
			failures := c.of[i].failures(tool, it)
			if len(failures) == 0 {
				return nil
			}
			if all == nil || len(failures) < len(all) {
				all = failures
			}
		}
		return all
	case opNot:
		if len(c.of[0].failures(tool, it)) == 0 {
			return []string{c.String()}
		}
		return nil
	}
	if holds, found := c.test(tool, it); !holds {
		return []string{c.String() + found}
	}
	return nil
}

// test is what holds is for a condition as it was written.
func (c *Condition) test(tool string, it *validate.Item) (holds bool, found string) {
	switch c.op {
	case opTool:
		return slices.Contains(c.values, tool), ": it is " + tool
	case opType:
		return slices.Contains(c.values, it.Type), ": it is " + it.Type
	case opAction:
		return slices.Contains(c.values, it.Action), ": it is " + it.Action
	}
	var value []byte
	if c.op == opEdApp || c.op == opEdAppPrefix {
		value = it.EdApp
	} else {
		value = it.Lookup(c.path)
	}
	text, ok := validate.AppendText(nil, value)
	switch c.op {
	case opPresent:
		return value != nil, ": it is absent"
	case opEdApp, opEquals:
		return ok && contains(c.values, text), foundIn(value)
	}
	return ok && hasPrefix(text, c.values), foundIn(value)
}

// foundIn tells what stands in a member, and no more than the start of it.
func foundIn(value []byte) string {
	const most = 64
	text, ok := validate.AppendText(nil, value)
	switch {
	case value == nil:
		return ": it is absent"
	case !ok:
		return ": it is no text"
	case utf8.RuneCount(text) > most:
		return ": it is " + string([]rune(string(text))[:most]) + "…"
	}
	return ": it is " + string(text)
}
