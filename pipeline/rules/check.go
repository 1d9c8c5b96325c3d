package rules

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"caliperedge/validate"
)

// check says what is wrong with rule i.
func (cfg *Config) check(i int) error {
	rule := &cfg.Rules[i]
	errs := []error{cfg.checkTopics(rule), cfg.checkSet(rule), cfg.checkVocabulary(&rule.When)}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if !cfg.canMatch(&rule.When) {
		return errors.New("no event can match: its types do not take its actions")
	}
	for j := range cfg.Rules[:i] {
		before := &cfg.Rules[j]
		if before.Topic != "" && rule.Topic != "" && len(before.Keys) == 0 && rule.When.implies(&before.When) {
			return fmt.Errorf("is never reached: rule %s before it matches every event that it does", before.Name)
		}
	}
	return nil
}

func (cfg *Config) checkTopics(rule *Rule) error {
	if rule.Topic != "" && rule.Topic != Standard && rule.Topic != Enriched {
		return fmt.Errorf("topic: %q, expected one of the tiers %s and %s; also takes copies to others", rule.Topic, Standard, Enriched)
	}
	for _, topic := range rule.Also {
		if slices.Contains(ownTopics, topic) {
			return fmt.Errorf("also: %s has a meaning of its own, expected a further topic of the configuration", topic)
		}
		if cfg.bit(topic) == 0 {
			return fmt.Errorf("also: unknown topic %q, expected one of: %s", topic, cfg.furtherTopics())
		}
	}
	return nil
}

func (cfg *Config) furtherTopics() string {
	var all []string
	for _, t := range cfg.Topics {
		if !slices.Contains(ownTopics, t) {
			all = append(all, t)
		}
	}
	if all == nil {
		return "(the configuration has none: add it under topics)"
	}
	return strings.Join(all, ", ")
}

func (cfg *Config) checkSet(rule *Rule) error {
	for _, name := range rule.Identifiers {
		if cfg.set(name) == nil {
			known := slices.Sorted(maps.Keys(readyMade()))
			return fmt.Errorf("identifiers: unknown set %q, expected one of: %s",
				name, strings.Join(append(known, slices.Sorted(maps.Keys(cfg.Sets))...), ", "))
		}
	}
	switch {
	case len(rule.Identifiers) > 0 && rule.Topic == "":
		return errors.New("identifiers without a topic: a rule that only copies adds nothing to records")
	case len(rule.Keys) > 0 && rule.Topic != Enriched:
		return fmt.Errorf("keys without topic: %s", Enriched)
	case len(rule.Keys) > 0 && len(rule.Identifiers) == 0:
		return errors.New("keys without identifiers to look up")
	}
	for _, kind := range rule.Keys {
		if kinds := cfg.setOf(rule).kinds(); !slices.Contains(kinds, kind) {
			return fmt.Errorf("keys: its identifiers have no kind %q, expected one of: %s", kind, strings.Join(kinds, ", "))
		}
	}
	if set := cfg.setOf(rule); set != nil && len(set.kinds()) > maxKinds {
		return fmt.Errorf("identifiers: %d kinds, expected at most %d", len(set.kinds()), maxKinds)
	}
	return nil
}

// checkVocabulary refuses types and actions that no event can have.
func (cfg *Config) checkVocabulary(c *Condition) error {
	for i := range c.of {
		if err := cfg.checkVocabulary(&c.of[i]); err != nil {
			return err
		}
	}
	for _, value := range c.values {
		if err := cfg.checkWord(c.op, value); err != nil {
			return conditionError{err, c.line}
		}
	}
	return nil
}

func (cfg *Config) checkWord(op op, value string) error {
	switch {
	case op == opType && validate.IsEntityType(value):
		return fmt.Errorf("type: %s is a type of entity; rules are about events, entity describes go to the topic entities", value)
	case op == opType && !cfg.anyKnows(func(v *validate.Vocabulary) bool { return v.KnowsType(value) }):
		return fmt.Errorf("type: no event has the type %q, by Caliper's vocabulary or that of a tool", value)
	case op == opAction:
		canonical, _ := (*validate.Vocabulary)(nil).KnowsAction(value)
		if canonical != value {
			return fmt.Errorf("action: %q is another spelling of %s, which records have", value, canonical)
		}
		if !cfg.anyKnows(func(v *validate.Vocabulary) bool { _, known := v.KnowsAction(value); return known }) {
			return fmt.Errorf("action: no event has the action %q, by Caliper's vocabulary or that of a tool", value)
		}
	}
	return nil
}

// anyKnows asks Caliper's vocabulary, and then those of tools.
func (cfg *Config) anyKnows(knows func(*validate.Vocabulary) bool) bool {
	return knows(nil) || slices.ContainsFunc(slices.Collect(maps.Values(cfg.Vocabularies)), knows)
}

// canMatch tells whether a type that c demands takes an action that it demands.
func (cfg *Config) canMatch(c *Condition) bool {
	if c.op != opAll {
		return true
	}
	var types, actions []string
	for i := range c.of {
		switch c.of[i].op {
		case opType:
			types = c.of[i].values
		case opAction:
			actions = c.of[i].values
		}
	}
	for _, t := range types {
		for _, a := range actions {
			if cfg.anyKnows(func(v *validate.Vocabulary) bool { return v.Grants(t, a) }) {
				return true
			}
		}
	}
	return types == nil || actions == nil
}

// checkTools refuses rules whose conditions on the tool no tool fulfils: they
// are in no view.
func (r *Rules) checkTools(cfg *Config) error {
	used := make(map[*Rule]bool)
	for _, v := range append(slices.Collect(maps.Values(r.tools)), r.others) {
		for i := range v.rules {
			used[v.rules[i].Rule] = true
		}
	}
	var errs []error
	for i := range cfg.Rules {
		if rule := &cfg.Rules[i]; !used[rule] {
			errs = append(errs, cfg.at(rule, errors.New("no event can match: no tool fulfils its conditions on the tool")))
		}
	}
	return errors.Join(errs...)
}

// at is an error about a rule with its place.
func (cfg *Config) at(rule *Rule, err error) error {
	line := rule.line
	var within conditionError
	if errors.As(err, &within) {
		line = within.line
	}
	return fmt.Errorf("%s:%d: rule %s: %w", cfg.File, line, rule.Name, err)
}

// conditionError is an error about a condition, which stands in that line.
type conditionError struct {
	error
	line int
}
