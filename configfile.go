package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

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
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return notYAML(c.File, err)
	}
	if len(doc.Content) == 0 {
		return nil
	}
	return eachKey(doc.Content[0], c.File, func(key, value *yaml.Node) error {
		if key.Value == "topics" {
			return c.readTopics(value)
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
			var list []string
			if err := errors.Join(refuseNull(value), value.Decode(&list)); err != nil {
				return errors.New("expected a list of words")
			}
			return plain(fs.Set(flag, strings.Join(list, ",")))
		}
		return errors.New("expected a value")
	})
}

// readTopics reads the topics of the file.
func (c *config) readTopics(n *yaml.Node) error {
	c.Topics = make(map[string]topicSetting)
	return eachKey(n, c.File, func(topic, settings *yaml.Node) error {
		var t topicSetting
		err := eachKey(settings, c.File, func(key, value *yaml.Node) (err error) {
			switch key.Value {
			case "max_age":
				t.MaxAge, err = time.ParseDuration(value.Value)
				if err != nil || t.MaxAge <= 0 {
					err = fmt.Errorf("%q, expected a duration such as 720h", value.Value)
				}
			case "max_bytes":
				t.MaxBytes = value.Value
				_, err = bytesOrShare(t.MaxBytes, 0)
			default:
				err = errUnknownSetting
			}
			return err
		})
		c.Topics[topic.Value] = t
		return err
	})
}

var errUnknownSetting = errors.New("unknown setting")

// placed is an error that says already where in the file it is.
type placed struct{ error }

// eachKey calls do for the members of a mapping, and says of its first error
// where in file it is.
func eachKey(n *yaml.Node, file string, do func(key, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return placed{fmt.Errorf("%s:%d: expected a mapping of settings", file, n.Line)}
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
		var within placed
		switch {
		case err == nil:
		case errors.As(err, &within):
			return err
		default:
			return placed{fmt.Errorf("%s: %w", place(file, key, key.Value), err)}
		}
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

// notYAML is the error of the YAML library with the line where others have it.
func notYAML(file string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		return fmt.Errorf("%s:%s", file, rest)
	}
	return fmt.Errorf("%s: %s", file, text)
}

// atLine is an error about another line than that of the setting.
type atLine struct {
	error
	line int
}
