package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"

	"caliperedge/edge/tokenmap"
	"caliperedge/pipeline/rules"
	"caliperedge/validate"

	"go.yaml.in/yaml/v3"
)

// readRouting reads the keys of the file that say where events go.
func (c *config) readRouting(key string, n *yaml.Node) (err error) {
	if key == "rules" {
		c.routing.Rules, err = rules.ReadRules(n, c.File)
	} else {
		c.routing.Sets, err = rules.ReadSets(n, c.File)
	}
	if err != nil {
		return placed{err} // its text says where
	}
	return nil
}

// compileRules makes the rules of the whole file.
func (c *config) compileRules() (err error) {
	c.routing.File, c.routing.Topics = c.File, c.topicNames()
	c.routing.Ties = make(map[string]rules.Tie)
	c.routing.Vocabularies = c.vocabularies()
	for tool, t := range c.Tools {
		if t.EdApp != nil || t.Sensor != nil {
			c.routing.Ties[tool] = rules.Tie{EdApp: t.EdApp, Sensor: t.Sensor}
		}
	}
	c.Rules, err = rules.Compile(c.routing)
	return err
}

// unknownTools are the tools that the file names and none of the tokens has.
func (c *config) unknownTools(tokens iter.Seq[*tokenmap.Principal]) []string {
	named := make(map[string]bool)
	for _, tool := range c.Rules.Tools() {
		named[tool] = true
	}
	for tool := range c.Tools {
		named[tool] = true
	}
	for p := range tokens {
		delete(named, p.Tool)
	}
	return slices.Sorted(maps.Keys(named))
}

// vocabularies are what tools are granted, by their names.
func (c *config) vocabularies() map[string]*validate.Vocabulary {
	all := make(map[string]*validate.Vocabulary)
	for tool, t := range c.Tools {
		if t.Vocabulary != nil {
			all[tool] = t.Vocabulary
		}
	}
	return all
}

// topicNames are the topics of the installation, each at its place.
func (c *config) topicNames() []string {
	names := defaultNames()
	for _, name := range slices.Sorted(maps.Keys(c.Topics)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// readPrefixes reads what a tool is tied to.
func readPrefixes(n *yaml.Node) (all []string, err error) {
	if err := refuseNull(n); err != nil {
		return nil, err
	}
	if n.Kind == yaml.ScalarNode {
		all = []string{n.Value}
	} else if err = n.Decode(&all); err != nil {
		all = nil
	}
	if len(all) == 0 || slices.Contains(all, "") {
		return nil, errors.New("expected a prefix or a list of them")
	}
	return all, nil
}

// readVocabulary reads what a tool is granted.
func readVocabulary(n *yaml.Node) (*validate.Vocabulary, error) {
	var v struct {
		Contexts []string
		Actions  map[string][]string
	}
	if n.Kind != yaml.MappingNode {
		return nil, errors.New("expected contexts and actions")
	}
	for i := 0; i < len(n.Content); i += 2 {
		if key := n.Content[i]; key.Value != "contexts" && key.Value != "actions" {
			return nil, atLine{fmt.Errorf("%s: unknown setting, expected contexts or actions", key.Value), key.Line}
		}
	}
	if err := refuseNull(n); err != nil {
		return nil, err
	}
	if err := n.Decode(&v); err != nil {
		return nil, errors.New("expected a list of contexts, and lists of actions by type")
	}
	if len(v.Contexts) == 0 && len(v.Actions) == 0 {
		return nil, errors.New("grants nothing: expected contexts or actions")
	}
	granted, err := validate.NewVocabulary(v.Contexts, v.Actions)
	if err == nil && !granted.GrantsMore() {
		err = errors.New("grants nothing: all of it is Caliper's already")
	}
	return granted, err
}

// printRouting returns the tool's ties and vocabulary as the file would have
// them.
func (t *toolSetting) printRouting() (set []string) {
	list := func(name string, values []string) {
		if values != nil {
			quoted, _ := json.Marshal(values) // strings: JSON is YAML
			set = append(set, name+": "+string(quoted))
		}
	}
	list("ed_app", t.EdApp)
	list("sensor", t.Sensor)
	if t.Vocabulary != nil {
		quoted, _ := json.Marshal(t.Vocabulary.Actions())
		contexts, _ := json.Marshal(t.Vocabulary.Contexts())
		set = append(set, fmt.Sprintf("vocabulary: {contexts: %s, actions: %s}", contexts, quoted))
	}
	return set
}

// printRules names the rules that are in force, for people: the file has them
// whole.
func (c *config) printRules(w io.Writer) {
	if len(c.routing.Rules) == 0 {
		return
	}
	fmt.Fprintln(w, "# rules, in their order:")
	for i := range c.routing.Rules {
		r := &c.routing.Rules[i]
		topics := r.Also
		if r.Topic != "" {
			topics = append([]string{r.Topic}, r.Also...)
		}
		fmt.Fprintf(w, "#   %s: %s where %s\n", r.Name, strings.Join(topics, ", "), &r.When)
	}
}

// validateOptions are the options of the rules for what a tool sends.
func (c *config) validateOptions(tool string) validate.Options {
	return validate.Options{CheckObject: bool(c.CheckObject), InheritContext: bool(c.InheritContext), Vocabulary: c.Tools[tool].Vocabulary, NoteMembers: c.Rules.NeedPaths()}
}
