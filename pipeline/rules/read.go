package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"caliperedge/validate"

	"go.yaml.in/yaml/v3"
)

// Rule is one rule of the configuration file.
type Rule struct {
	// Name tells the rule in errors and answers.
	Name string
	// When is what the rule asks of an event.
	When Condition
	// Topic is the tier of events that the rule is the first to match; empty
	// where the rule only copies.
	Topic string
	// Also are further topics that take a copy.
	Also []string
	// Identifiers are the sets of what to extract.
	Identifiers []string
	// Keys are the kinds of identifiers that an event needs a key for.
	Keys []string

	line int
}

// reader reads parts of a configuration file.
type reader struct {
	file    string
	subject string // such as "rule engage"
}

// at is err with the place of n.
func (r *reader) at(n *yaml.Node, err error) error {
	if err == nil {
		return nil
	}
	if isPlaced(err) {
		return err
	}
	where := fmt.Sprintf("%s:%d", r.file, n.Line)
	if r.subject != "" {
		where += ": " + r.subject
	}
	return placed{fmt.Errorf("%s: %w", where, err)}
}

// placed is an error that says already where in the file it is.
type placed struct{ error }

func isPlaced(err error) bool {
	var within placed
	return errors.As(err, &within)
}

// members calls do for the members of a mapping.
func (r *reader) members(n *yaml.Node, what string, do func(key string, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return r.at(n, fmt.Errorf("expected a mapping of %s", what))
	}
	seen := make(map[string]bool)
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			return r.at(key, fmt.Errorf("%s: set twice", key.Value))
		}
		seen[key.Value] = true
		if err := do(key.Value, value); isPlaced(err) {
			return err
		} else if err != nil {
			return r.at(value, fmt.Errorf("%s: %w", key.Value, err))
		}
	}
	return nil
}

// words reads a word or a list of words.
func words(n *yaml.Node) ([]string, error) {
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = n.Content
	}
	var all []string
	for _, w := range list {
		if w.Kind != yaml.ScalarNode || w.Value == "" || w.Tag == "!!null" {
			return nil, errors.New("expected a word or a list of words")
		}
		if slices.Contains(all, w.Value) {
			return nil, fmt.Errorf("%q is there twice", w.Value)
		}
		all = append(all, w.Value)
	}
	if len(all) == 0 {
		return nil, errors.New("the list is empty")
	}
	return all, nil
}

// word reads one word.
func word(n *yaml.Node) (string, error) {
	all, err := words(n)
	if err != nil || n.Kind != yaml.ScalarNode {
		return "", errors.New("expected a word")
	}
	return all[0], nil
}

func unknown(expected ...string) error {
	return fmt.Errorf("unknown setting, expected one of: %s", strings.Join(expected, ", "))
}

// ReadRules reads the list of rules of a configuration file. Every error names
// file, line and rule.
func ReadRules(n *yaml.Node, file string) ([]Rule, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, (&reader{file: file}).at(n, errors.New("rules: expected a list of rules"))
	}
	var all []Rule
	for i, item := range n.Content {
		r := reader{file: file, subject: fmt.Sprintf("rule %d", i+1)}
		if name := nameOf(item); name != "" && !strings.ContainsFunc(name, unicode.IsControl) {
			r.subject = "rule " + name
		}
		rule, err := r.rule(item)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other Rule) bool { return other.Name == rule.Name }) {
			return nil, r.at(item, errors.New("another rule has that name"))
		}
		all = append(all, rule)
	}
	return all, nil
}

// nameOf is the name of a rule, read before all else for errors about it.
func nameOf(n *yaml.Node) string {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "name" {
			return n.Content[i+1].Value
		}
	}
	return ""
}

func (r *reader) rule(n *yaml.Node) (Rule, error) {
	rule := Rule{line: n.Line}
	var when *yaml.Node
	err := r.members(n, "name, when, topic, also, identifiers, keys", func(key string, value *yaml.Node) (err error) {
		switch key {
		case "name":
			if rule.Name, err = word(value); strings.ContainsFunc(rule.Name, unicode.IsControl) {
				err = errors.New("it has a control character, such as a line break")
			}
		case "when":
			when = value
			rule.When, err = r.condition(value)
		case "topic":
			rule.Topic, err = word(value)
		case "also":
			rule.Also, err = words(value)
		case "identifiers":
			rule.Identifiers, err = words(value)
		case "keys":
			rule.Keys, err = words(value)
		default:
			err = unknown("name", "when", "topic", "also", "identifiers", "keys")
		}
		return err
	})
	switch {
	case err != nil:
		return rule, err
	case rule.Name == "":
		return rule, r.at(n, errors.New("name is missing"))
	case when == nil:
		return rule, r.at(n, errors.New("when is missing: it says which events the rule is about"))
	case rule.Topic == "" && len(rule.Also) == 0:
		return rule, r.at(n, errors.New("the rule does nothing: it has neither topic nor also"))
	}
	return rule, nil
}

// condition reads a mapping, all members of which must hold.
func (r *reader) condition(n *yaml.Node) (Condition, error) {
	all := Condition{op: opAll, line: n.Line}
	err := r.members(n, "conditions", func(key string, value *yaml.Node) error {
		c, err := r.member(key, value)
		all.of = append(all.of, c...)
		return err
	})
	if err == nil && len(all.of) == 0 {
		err = r.at(n, errors.New("when is empty: it says which events the rule is about"))
	}
	if len(all.of) == 1 {
		return all.of[0], err
	}
	return all, err
}

var plainOps = map[string]op{"tool": opTool, "type": opType, "action": opAction}

func (r *reader) member(key string, value *yaml.Node) ([]Condition, error) {
	one := func(c Condition, err error) ([]Condition, error) {
		c.line = value.Line
		return []Condition{c}, err
	}
	switch key {
	case "tool", "type", "action":
		values, err := words(value)
		for _, name := range values {
			if key == "tool" {
				err = errors.Join(err, CheckTool(name))
			}
		}
		return one(Condition{op: plainOps[key], values: values}, err)
	case "ed_app":
		c := Condition{op: opEdApp}
		var err error
		if value.Kind == yaml.MappingNode {
			c.op = opEdAppPrefix
			err = r.members(value, "prefix", func(key string, value *yaml.Node) (err error) {
				if key != "prefix" {
					return unknown("prefix")
				}
				c.values, err = words(value)
				return err
			})
			if err == nil && len(c.values) == 0 {
				err = errors.New("expected a prefix")
			}
			return one(c, err)
		}
		c.values, err = words(value)
		return one(c, err)
	case "profile":
		values, err := words(value)
		path, _ := validate.ParsePath("profile")
		return one(Condition{op: opEquals, path: path, values: values}, err)
	case "present":
		return r.present(value)
	case "equals":
		return r.onPaths(value, opEquals)
	case "prefix":
		return r.onPaths(value, opPrefix)
	case "all", "any":
		return r.list(key, value)
	case "not":
		c, err := r.condition(value)
		return one(Condition{op: opNot, of: []Condition{c}}, err)
	}
	return nil, unknown("tool", "ed_app", "type", "action", "profile", "present", "equals", "prefix", "all", "any", "not")
}

func (r *reader) present(value *yaml.Node) (all []Condition, err error) {
	texts, err := words(value)
	for _, text := range texts {
		path, err := validate.ParsePath(text)
		if err != nil {
			return nil, err
		}
		all = append(all, Condition{op: opPresent, path: path, line: value.Line})
	}
	return all, err
}

// onPaths reads a mapping from paths to the values they must have one of.
func (r *reader) onPaths(n *yaml.Node, op op) (all []Condition, err error) {
	err = r.members(n, "paths", func(key string, value *yaml.Node) error {
		path, err := validate.ParsePath(key)
		if err != nil {
			return err
		}
		values, err := words(value)
		all = append(all, Condition{op: op, path: path, values: values, line: value.Line})
		return err
	})
	if err == nil && len(all) == 0 {
		err = errors.New("expected paths")
	}
	return all, err
}

func (r *reader) list(key string, n *yaml.Node) ([]Condition, error) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		return nil, errors.New("expected a list of conditions")
	}
	c := Condition{op: opAll, line: n.Line}
	if key == "any" {
		c.op = opAny
	}
	for _, item := range n.Content {
		below, err := r.condition(item)
		if err != nil {
			return nil, err
		}
		c.of = append(c.of, below)
	}
	return []Condition{c}, nil
}
