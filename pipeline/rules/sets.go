package rules

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"sync"

	"caliperedge/validate"

	"go.yaml.in/yaml/v3"
)

// ReadSets reads the sets of identifiers of a configuration file, none of which
// has the name of one that ships with the program. Every error names file, line
// and set.
func ReadSets(n *yaml.Node, file string) (map[string]*Set, error) {
	return readSets(n, file, readyMade())
}

// readSets reads sets that have none of the names in taken.
func readSets(n *yaml.Node, file string, taken map[string]*Set) (map[string]*Set, error) {
	all := make(map[string]*Set)
	r := reader{file: file}
	err := r.members(n, "sets of identifiers", func(name string, value *yaml.Node) error {
		r := reader{file: file, subject: "identifiers " + name}
		if taken[name] != nil {
			return r.at(value, errors.New("a set of that name ships with the program"))
		}
		if value.Kind != yaml.SequenceNode || len(value.Content) == 0 {
			return r.at(value, errors.New("expected a list of extractions"))
		}
		set := new(Set)
		for _, item := range value.Content {
			extractions, err := r.extractions(item)
			if err != nil {
				return err
			}
			set.extractions = append(set.extractions, extractions...)
		}
		if kinds := len(set.kinds()); kinds > maxKinds {
			return r.at(value, fmt.Errorf("%d kinds, expected at most %d", kinds, maxKinds))
		}
		all[name] = set
		return nil
	})
	return all, err
}

// extractions reads one entry of a set, which may name several paths.
func (r *reader) extractions(n *yaml.Node) ([]extraction, error) {
	var paths, patterns []string
	var kind string
	var levels []level
	err := r.members(n, "path, kind, pattern, levels", func(key string, value *yaml.Node) (err error) {
		switch key {
		case "path":
			paths, err = words(value)
		case "kind":
			if kind, err = word(value); err == nil {
				err = checkKind(kind)
			}
		case "pattern":
			patterns, err = words(value)
		case "levels":
			levels, err = r.levels(value)
		default:
			err = unknown("path", "kind", "pattern", "levels")
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case len(paths) == 0:
		return nil, r.at(n, errors.New("path is missing"))
	case (kind == "") == (patterns == nil):
		return nil, r.at(n, errors.New("expected either kind, for the whole value, or pattern"))
	case levels != nil && patterns == nil:
		return nil, r.at(n, errors.New("levels without a pattern"))
	}
	e := extraction{kind: kind, line: n.Line}
	for _, text := range patterns {
		p, err := parsePattern(text, levels)
		if err != nil {
			return nil, r.at(n, err)
		}
		e.patterns = append(e.patterns, p)
	}
	var all []extraction
	for _, text := range paths {
		if e.path, err = validate.ParsePath(text); err != nil {
			return nil, r.at(n, err)
		}
		all = append(all, e)
	}
	return all, nil
}

// levels reads a mapping from names of levels to kinds.
func (r *reader) levels(n *yaml.Node) (all []level, err error) {
	err = r.members(n, "levels", func(key string, value *yaml.Node) error {
		kind, err := word(value)
		if err == nil {
			err = checkKind(kind)
		}
		if strings.Contains(key, ":") {
			err = errors.New("the name of a level has no colon")
		}
		all = append(all, level{name: key, as: kind})
		return err
	})
	return all, err
}

//go:embed sets.yaml
var setsFile []byte

// readyMade are the sets that ship with the program, in the format of users'
// own.
var readyMade = sync.OnceValue(func() map[string]*Set {
	var doc yaml.Node
	err := yaml.Unmarshal(setsFile, &doc)
	if err == nil {
		var sets map[string]*Set
		if sets, err = readSets(doc.Content[0], "sets.yaml", nil); err == nil {
			return sets
		}
	}
	panic("rules: " + err.Error())
})
