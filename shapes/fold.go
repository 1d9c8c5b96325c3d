package shapes

import "slices"

// Members of an object that are many and rare are the keys of a map, such as one
// with a member for each person: a report has them as one, called *.
const (
	manyNames = 20   // more than so many members
	rareShare = 0.05 // each in less than so much of the events that have the object
)

// members are those of an object that a report tells apart, and what the others
// are together: nil where all are told apart. names is how many those are.
func (c *Collector) members(n *node) (apart map[string]*node, others *node, names int) {
	if c.values {
		return n.names, nil, 0
	}
	apart = make(map[string]*node, len(n.names))
	others = new(node)
	for name, child := range n.names {
		if float64(child.count()) < rareShare*float64(n.count()) && name != rest && !c.isTerm(name) {
			others.add(child)
			names++
		} else {
			apart[name] = child
		}
	}
	if names <= manyNames {
		return n.names, nil, 0
	}
	if beyond := apart[rest]; beyond != nil {
		others.add(beyond)
		delete(apart, rest)
	}
	return apart, others, names
}

// count is the number of events in which n occurs.
func (n *node) count() int { return n.events[Before] + n.events[Now] }

// add adds what was seen in another place. An event that has both counts twice.
func (n *node) add(other *node) {
	if n.types == nil {
		n.types = make(map[string]*[2]int)
	}
	for kind, count := range other.types {
		if n.types[kind] == nil {
			n.types[kind] = new([2]int)
		}
		for p := range count {
			n.types[kind][p] += count[p]
		}
	}
	for p := range n.events {
		n.events[p] += other.events[p]
	}
	for _, example := range other.examples {
		if len(n.examples) < maxExamples && !slices.Contains(n.examples, example) {
			n.examples = append(n.examples, example)
		}
	}
	for name, child := range other.names {
		if n.names == nil {
			n.names = make(map[string]*node)
		}
		if n.names[name] == nil {
			n.names[name] = new(node)
		}
		n.names[name].add(child)
	}
	if other.elements != nil {
		if n.elements == nil {
			n.elements = new(node)
		}
		n.elements.add(other.elements)
	}
}
