// Package shapes tells what the events of a tool look like: which members they
// have, of which JSON types, how often, and what changed between two periods.
//
// A Collector takes events one by one and keeps no more than its bounds allow,
// however many there are. What it keeps of values are patterns, unless it is
// told otherwise: a report can be given to a vendor.
package shapes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Bounds of a Collector: with examples of 75 characters everywhere it
// takes 130 MB.
const (
	maxShapes   = 2_000   // by tool, edApp, type and action
	maxPaths    = 200_000 // of all shapes together
	maxNames    = 64      // members of one object that are told apart; the others are one, called rest
	maxExamples = 3       // of a path
	maxExample  = 80      // characters
)

// rest is the name of all members together that are not told apart.
const rest = "*"

// Period is one of the two that are compared.
type Period int

// The periods. Without a comparison all is Now.
const (
	Before Period = iota
	Now
)

// Key is what events are grouped by. Where something is not known it is empty.
type Key struct {
	Tool   string `json:"tool,omitempty"`
	EdApp  string `json:"edApp,omitempty"`
	Type   string `json:"type,omitempty"`
	Action string `json:"action,omitempty"`
}

// Collector gathers shapes. It must not be used concurrently.
type Collector struct {
	values bool
	isTerm func(s string) bool
	shapes map[Key]*shape
	paths  int
	events [2]int // by period
	missed int    // events of shapes beyond maxShapes
	cut    bool   // there were more paths than maxPaths
}

// New returns an empty Collector. values has it keep examples as they are
// instead of as patterns; isTerm tells words of the standard, which are no
// secret, and may be nil.
func New(values bool, isTerm func(string) bool) *Collector {
	if isTerm == nil {
		isTerm = func(string) bool { return false }
	}
	return &Collector{values: values, isTerm: isTerm, shapes: make(map[Key]*shape)}
}

// shape is what was seen of the events of a Key.
type shape struct {
	count [2]int
	root  *node
}

// node is what was seen in one place of a shape's events.
type node struct {
	events   [2]int // in which it occurs
	last     [2]int // the event that counted last
	types    map[string]*[2]int
	examples []string
	names    map[string]*node // members
	elements *node            // of an array
}

// Add takes an event, a JSON value. It keeps nothing of it but what a report
// shows.
func (c *Collector) Add(p Period, k Key, event []byte) error {
	d := json.NewDecoder(bytes.NewReader(event))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return fmt.Errorf("shapes: %w", err)
	}
	c.events[p]++
	k = c.shownKey(k)
	s := c.shapes[k]
	if s == nil {
		if len(c.shapes) == maxShapes {
			c.missed++
			return nil
		}
		s = &shape{root: new(node)}
		c.shapes[k] = s
	}
	s.count[p]++
	c.see(s.root, p, s.count[p], value)
	return nil
}

// see notes a value in its place. n is the number of its event.
func (c *Collector) see(at *node, p Period, n int, value any) {
	if at.last[p] != n { // else another element of an array
		at.last[p] = n
		at.events[p]++
	}
	kind := typeName(value)
	if at.types == nil {
		at.types = make(map[string]*[2]int, 1)
	}
	if at.types[kind] == nil {
		at.types[kind] = new([2]int)
	}
	at.types[kind][p]++
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			if child := c.member(at, c.shownName(name)); child != nil {
				c.see(child, p, n, member)
			}
		}
	case []any:
		for _, element := range v {
			if at.elements == nil {
				if at.elements = c.newNode(); at.elements == nil {
					return
				}
			}
			c.see(at.elements, p, n, element)
		}
	case string:
		c.example(at, v)
	case json.Number:
		c.example(at, v.String())
	}
}

func typeName(value any) string {
	switch value.(type) {
	case map[string]any:
		return "object"
	case []any:
		return "array"
	case string:
		return "string"
	case bool:
		return "boolean"
	case nil:
		return "null"
	}
	return "number"
}

// member is the place of a member of an object, or nil where there is no room.
func (c *Collector) member(at *node, name string) *node {
	if child := at.names[name]; child != nil {
		return child
	}
	if len(at.names) >= maxNames {
		if name = rest; at.names[name] != nil {
			return at.names[name]
		}
	}
	child := c.newNode()
	if child == nil {
		return nil
	}
	if at.names == nil {
		at.names = make(map[string]*node)
	}
	at.names[name] = child
	return child
}

func (c *Collector) newNode() *node {
	if c.paths == maxPaths {
		c.cut = true
		return nil
	}
	c.paths++
	return new(node)
}

func (c *Collector) example(at *node, value string) {
	if len(at.examples) == maxExamples {
		return
	}
	if !c.values && !c.isTerm(value) {
		value = Mask(value)
	}
	if value = shorten(value); !slices.Contains(at.examples, value) {
		at.examples = append(at.examples, value)
	}
}

func shorten(s string) string {
	if r := []rune(s); len(r) > maxExample {
		return string(r[:maxExample]) + "…"
	}
	return s
}

// shownKey leaves of a key what is no secret: words of the standard, and what
// names an application, without what may name its user.
func (c *Collector) shownKey(k Key) Key {
	if c.values {
		return k
	}
	for _, word := range []*string{&k.Type, &k.Action} {
		if !c.isTerm(*word) {
			*word = shorten(Mask(*word))
		}
	}
	if i := strings.IndexAny(k.EdApp, "?#"); i >= 0 {
		k.EdApp = k.EdApp[:i]
	}
	if strings.Contains(k.EdApp, "@") || strings.Contains(k.EdApp, "%40") { // an address of somebody
		k.EdApp = Mask(k.EdApp)
	}
	k.EdApp = shorten(k.EdApp)
	return k
}

// shownName is a member's name as it is shown: what does not look like the name
// of a member may be somebody's.
func (c *Collector) shownName(name string) string {
	if c.values || c.isTerm(name) {
		return shorten(name)
	}
	digits := 0
	for i, r := range name {
		switch {
		case r >= '0' && r <= '9':
			digits++
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("_-$:.", r) || r == '@' && i == 0:
		default:
			return shorten(Mask(name))
		}
	}
	if digits > 3 || len(name) > maxExample {
		return shorten(Mask(name))
	}
	return name
}
