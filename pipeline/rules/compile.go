package rules

import (
	"errors"
	"maps"
	"slices"

	"caliperedge/validate"
)

// Config is what rules are compiled of.
type Config struct {
	// File is named in errors.
	File string
	// Rules are looked at in their order.
	Rules []Rule
	// Sets are further sets of identifiers, by name.
	Sets map[string]*Set
	// Ties bind tools, by name.
	Ties map[string]Tie
	// Vocabularies are what tools are granted, by name.
	Vocabularies map[string]*validate.Vocabulary
	// Topics are those of the installation, each at its place.
	Topics []string
}

// Tie binds a tool to prefixes of edApp and sensor, each where it has any.
type Tie struct{ EdApp, Sensor []string }

// ownTopics have a meaning of their own: no rule copies into them.
var ownTopics = []string{Standard, Enriched, Quarantine, "entities", "rejected"}

// Compile makes Rules. Nil where there is nothing to decide. Its errors name
// file, line and rule.
func Compile(cfg Config) (*Rules, error) {
	if len(cfg.Rules) == 0 && len(cfg.Ties) == 0 {
		return nil, nil
	}
	var errs []error
	for i := range cfg.Rules {
		if err := cfg.check(i); err != nil {
			errs = append(errs, cfg.at(&cfg.Rules[i], err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	r := &Rules{standard: cfg.bit(Standard), quarantine: cfg.bit(Quarantine), all: cfg.Rules, tools: make(map[string]*view)}
	r.others = cfg.view("", true)
	tools := slices.Collect(maps.Keys(cfg.Ties))
	for i := range cfg.Rules {
		tools = append(tools, cfg.Rules[i].When.tools()...)
	}
	for _, tool := range tools {
		r.tools[tool] = cfg.view(tool, false)
	}
	if err := r.checkTools(&cfg); err != nil {
		return nil, err
	}
	return r, nil
}

// WithKeys returns the same rules with keys to ask. Nil keys know nothing.
func (r *Rules) WithKeys(keys Keys) *Rules {
	if r == nil {
		return nil
	}
	out := *r
	out.keys = keys
	return &out
}

// Tools are those that rules and ties name, sorted.
func (r *Rules) Tools() []string {
	if r == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(r.tools))
}

// DemandsKeys tells whether any rule does.
func (r *Rules) DemandsKeys() bool {
	if r == nil {
		return false
	}
	demands := func(v *view) bool {
		return slices.ContainsFunc(v.rules, func(c compiled) bool { return len(c.Keys) > 0 })
	}
	return demands(r.others) || slices.ContainsFunc(slices.Collect(maps.Values(r.tools)), demands)
}

// bit is the bit of a topic, 0 where there is none of that name.
func (cfg *Config) bit(topic string) uint64 {
	if i := slices.Index(cfg.Topics, topic); i >= 0 {
		return 1 << i
	}
	return 0
}

// view makes the view of a tool; other is set for that of all tools that are
// named nowhere.
func (cfg *Config) view(tool string, other bool) *view {
	v := &view{edApps: cfg.Ties[tool].EdApp, sensor: cfg.Ties[tool].Sensor}
	var paths []validate.Path
	slot := func(p validate.Path) int {
		at := slices.IndexFunc(paths, func(o validate.Path) bool { return o.Equal(p) })
		if at < 0 {
			at = len(paths)
			paths = append(paths, p)
			v.texts = append(v.texts, p.String())
		}
		return at
	}
	for i := range cfg.Rules {
		rule := &cfg.Rules[i]
		when := rule.When.specialise(tool, other, slot)
		if when.never() {
			continue
		}
		c := compiled{Rule: rule, topic: cfg.bit(rule.Topic)}
		c.split(when, v)
		for _, topic := range rule.Also {
			c.also |= cfg.bit(topic)
		}
		if set := cfg.setOf(rule); set != nil {
			c.set = set.compile(slot, rule.Keys)
		}
		v.rules = append(v.rules, c)
	}
	v.paths = validate.NewPaths(paths)
	return v
}

// split puts the types, actions and edApps that when asks for where they are quick
// to look at.
func (c *compiled) split(when cond, v *view) {
	c.types.any, c.actions.any = true, true
	all := []cond{when}
	if when.op == opAll {
		all = when.of
	}
	c.when = cond{op: opAll}
	for _, part := range all {
		switch {
		case part.op == opType && c.types.any:
			c.types = newWordSet(part.values, validate.TypeNumber)
		case part.op == opAction && c.actions.any:
			c.actions = newWordSet(part.values, validate.ActionNumber)
		case (part.op == opEdApp || part.op == opEdAppPrefix) && c.apps == 0 && len(v.apps)+len(part.values) <= maxApps:
			c.apps = v.appsOf(part)
		default:
			c.when.of = append(c.when.of, part)
		}
	}
	c.plain = c.when.always()
}

// appsOf are the bits of the edApps that a condition names, which are added where
// they are new.
func (v *view) appsOf(part cond) (bits uint64) {
	for _, text := range part.values {
		a := app{text, part.op == opEdAppPrefix}
		at := slices.Index(v.apps, a)
		if at < 0 {
			at = len(v.apps)
			v.apps = append(v.apps, a)
		}
		bits |= 1 << at
	}
	return bits
}

// NeedPaths tells whether Decide looks at paths, so that noting the members of
// items pays.
func (r *Rules) NeedPaths() bool {
	if r == nil {
		return false
	}
	for _, v := range r.tools {
		if len(v.texts) > 0 {
			return true
		}
	}
	return len(r.others.texts) > 0
}

// setOf is the union of the sets of a rule, nil where it has none.
func (cfg *Config) setOf(rule *Rule) *Set {
	if len(rule.Identifiers) == 0 {
		return nil
	}
	out := new(Set)
	for _, name := range rule.Identifiers {
		out.extractions = append(out.extractions, cfg.set(name).extractions...)
	}
	return out
}

func (cfg *Config) set(name string) *Set {
	if set := cfg.Sets[name]; set != nil {
		return set
	}
	return readyMade()[name]
}

// tools are all that the condition names.
func (c *Condition) tools() []string {
	var all []string
	if c.op == opTool {
		all = c.values
	}
	for i := range c.of {
		all = append(all, c.of[i].tools()...)
	}
	return all
}
