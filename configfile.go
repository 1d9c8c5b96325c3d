package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"caliperedge/internal/names"
	"caliperedge/pipeline"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// readFile takes from the configuration file what neither flags nor
// environment have set. Every error names file and line.
func (c *config) readFile(fs *pflag.FlagSet, scalars []string) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	doc, err := oneDocument(text, c.File)
	if err != nil || doc == nil {
		return err
	}
	return eachKey(doc, c.File, "", func(key, value *yaml.Node) error {
		if key.Value == "topics" {
			return c.readTopics(key, value)
		}
		if key.Value == "tools" {
			return c.readTools(value)
		}
		if key.Value == "rules" || key.Value == "identifiers" {
			return c.readRouting(key.Value, value)
		}
		flag := strings.ReplaceAll(key.Value, "_", "-")
		if !slices.Contains(scalars, flag) || keyName(flag) != key.Value || flag == "config" {
			return errUnknownSetting
		}
		if fs.Lookup(flag).Changed {
			return nil
		}
		c.origin[flag] = place(c.File, value, key.Value)
		switch value.Kind {
		case yaml.ScalarNode:
			return plain(fs.Set(flag, value.Value))
		case yaml.SequenceNode:
			if _, ok := fs.Lookup(flag).Value.(pflag.SliceValue); !ok && flag != "nats-url" { // which has commas too
				return errors.New("expected a value, found a list")
			}
			var list []string
			if err := errors.Join(refuseNull(value), value.Decode(&list)); err != nil {
				return errors.New("expected a list of words")
			}
			return plain(fs.Set(flag, strings.Join(list, ",")))
		}
		return errors.New("expected a value")
	})
}

// oneDocument is the one YAML document of a file; nil where there is nothing in
// it. A second one would be passed over without a word.
func oneDocument(text []byte, file string) (*yaml.Node, error) {
	var only *yaml.Node
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc yaml.Node
		err := d.Decode(&doc)
		switch {
		case errors.Is(err, io.EOF):
			return only, nil
		case err != nil:
			return nil, notYAML(file, text, err)
		case isNull(doc.Content[0]):
		case only != nil:
			return nil, fmt.Errorf("%s:%d: a second document begins here, expected one", file, doc.Content[0].Line)
		default:
			only = doc.Content[0]
			if err := refuseAliases(only, file); err != nil {
				return nil, err
			}
		}
	}
}

// refuseAliases is an error where anything below n stands for something else in
// the file.
func refuseAliases(n *yaml.Node, file string) error {
	for _, below := range n.Content {
		if below.Kind == yaml.AliasNode {
			return fmt.Errorf("%s:%d: *%s: aliases are not taken, expected what it stands for", file, below.Line, below.Value)
		}
		if err := refuseAliases(below, file); err != nil {
			return err
		}
	}
	return nil
}

// readTopics reads the topics of the file.
func (c *config) readTopics(key, n *yaml.Node) error {
	c.Topics = make(map[string]topicSetting)
	c.origin["topics"] = place(c.File, key, key.Value)
	err := eachKey(n, c.File, "", func(topic, settings *yaml.Node) error {
		if err := names.Check("topic", topic.Value, names.TopicBytes); err != nil {
			return err
		}
		var t topicSetting
		subject := "topic " + topic.Value
		c.origin[subject] = place(c.File, topic, subject)
		err := eachKey(settings, c.File, subject, func(key, value *yaml.Node) error { return t.read(key.Value, value.Value) })
		if err == nil && t.MaxBytes == "" && !slices.Contains(defaultNames(), topic.Value) {
			err = placed{fmt.Errorf("%s: max_bytes is missing; only %s have a default", c.origin[subject], strings.Join(defaultNames(), ", "))}
		}
		c.Topics[topic.Value] = t
		return err
	})
	if all := len(c.topicNames()); err == nil && all > pipeline.MaxTopics {
		err = fmt.Errorf("%d with those that are always there, expected at most %d", all, pipeline.MaxTopics)
	}
	return err
}

// read takes one setting of a topic.
func (t *topicSetting) read(key, value string) (err error) {
	switch key {
	case "max_age":
		if t.MaxAge, err = time.ParseDuration(value); err != nil || t.MaxAge < time.Second {
			return fmt.Errorf("%q, expected a duration of at least 1s, such as 720h", value)
		}
		return nil
	case "max_bytes":
		t.MaxBytes = value
		bytes, err := bytesOrShare(value, 100)
		if err == nil && bytes == 0 {
			err = fmt.Errorf("%q, expected more than nothing", value)
		}
		return err
	}
	return errUnknownSetting
}

var errUnknownSetting = errors.New("unknown setting")

// placed is an error that says already where in the file it is.
type placed struct{ error }

// eachKey calls do for the members of a mapping, and says of its first error
// where in file it is, and of what subject, such as tool Engage; empty where that
// is the file as a whole.
func eachKey(n *yaml.Node, file, subject string, do func(key, value *yaml.Node) error) error {
	if subject != "" {
		subject += ": "
	}
	if n.Kind != yaml.MappingNode {
		return placed{fmt.Errorf("%s: expected a mapping of settings", strings.TrimSuffix(place(file, n, subject), ": "))}
	}
	seen := make(map[string]bool)
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		var err error
		switch {
		case seen[key.Value]:
			err = errors.New("set twice")
		case isNull(value) && value.Value != "": // left empty it is the empty text, where that is a value
			err = fmt.Errorf("%s, expected a value; leave the key out where there is none", value.Value)
		default:
			err = do(key, value)
		}
		seen[key.Value] = true
		if err == nil {
			continue
		}
		var within placed
		if errors.As(err, &within) {
			return err
		}
		at := key
		var elsewhere atLine
		if errors.As(err, &elsewhere) {
			at = &yaml.Node{Line: elsewhere.line}
		}
		return placed{fmt.Errorf("%s: %w", place(file, at, subject+key.Value), err)}
	}
	return nil
}

func place(file string, n *yaml.Node, setting string) string {
	return fmt.Sprintf("%s:%d: %s", file, n.Line, setting)
}

// isNull tells whether n is null, written out or left empty.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// refuseNull is an error where there is a null anywhere below n: the YAML library
// leaves nulls out of lists without a word.
func refuseNull(n *yaml.Node) error {
	for _, below := range n.Content {
		if isNull(below) {
			return atLine{errors.New("a null in it, expected a value or nothing at all"), below.Line}
		}
		if err := refuseNull(below); err != nil {
			return err
		}
	}
	return nil
}

// notYAML is the error of the YAML library about text with the line where others
// have it. The library leaves out the first line, and has none for a fault in
// single bytes; a line before the first tells them apart.
func notYAML(file string, text []byte, err error) error {
	line, what := yamlLine(err)
	if line == 0 {
		var doc yaml.Node
		if err := yaml.Unmarshal(append([]byte{'\n'}, text...), &doc); err != nil {
			line, _ = yamlLine(err)
			line = max(line-1, 0)
		}
	}
	if line == 0 {
		return fmt.Errorf("%s: %s", file, what)
	}
	return fmt.Errorf("%s:%d: %s", file, line, what)
}

// yamlLine takes an error of the YAML library apart; line is 0 where it has none.
func yamlLine(err error) (line int, what string) {
	what = strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(what, "line "); ok {
		number, after, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			return n, after
		}
	}
	return 0, what
}

// atLine is an error about another line than that of the setting.
type atLine struct {
	error
	line int
}
