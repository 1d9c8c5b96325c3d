package validate

import "bytes"

// Paths are several paths that are looked up in one pass over an item. The zero value has none. Paths are never written
// after they were made, and may be used concurrently.
type Paths struct {
	n    int
	root pathNode
}

// pathNode is what paths have in common up to here.
type pathNode struct {
	lengths  uint64 // a bit for the length of each child's name, those above 62 sharing one
	children []pathChild
}

type pathChild struct {
	name  string
	slot  int   // where the value goes, or -1
	slots []int // of this child and of all below it
	pathNode
}

// NewPaths makes Paths of the given ones, no two of which may be equal. The value of each gets its place in what Find
// fills.
func NewPaths(paths []Path) Paths {
	all := Paths{n: len(paths)}
	for slot, p := range paths {
		n := &all.root
		for i, name := range p.names {
			child := n.child(name)
			child.slots = append(child.slots, slot)
			if i == len(p.names)-1 {
				child.slot = slot
			}
			n = &child.pathNode
		}
	}
	return all
}

// child is the child of that name, made where there is none.
func (n *pathNode) child(name string) *pathChild {
	for i := range n.children {
		if n.children[i].name == name {
			return &n.children[i]
		}
	}
	n.children = append(n.children, pathChild{name: name, slot: -1})
	n.lengths |= lengthBit(len(name))
	return &n.children[len(n.children)-1]
}

func lengthBit(n int) uint64 { return 1 << min(n, 63) }

// Find looks all paths up in it, each as Lookup does, and puts the value of the path at place i in values[i]. The
// values are views into the body. It does not allocate.
func (p *Paths) Find(it *Item, values [][]byte) {
	clear(values[:p.n])
	if it.members != nil {
		for _, m := range it.members {
			if child := p.root.named(it.Raw[m.name+1 : m.end-1]); child != nil {
				child.take(it.Raw, int(m.value), values)
			}
		}
		return
	}
	if p.n > 0 && len(it.Raw) > 0 && it.Raw[0] == '{' {
		p.root.find(it.Raw, 0, values)
	}
}

// find looks at the members of the object at i, and returns the offset just behind it. It goes no deeper than the
// longest path.
func (n *pathNode) find(b []byte, i int, values [][]byte) int {
	for i++; ; {
		start, end := nextName(b, i)
		if start < 0 {
			return end
		}
		i = skipSeparators(b, end)
		child := n.named(b[start+1 : end-1])
		if child == nil {
			i = skipPlain(b, i)
			continue
		}
		i = child.take(b, i, values)
	}
}

// take takes the value at i for the child that its name means, and returns the offset just behind it.
func (c *pathChild) take(b []byte, i int, values [][]byte) int {
	for _, slot := range c.slots {
		values[slot] = nil // of a member of this name before this one
	}
	value := i
	if len(c.children) > 0 && b[i] == '{' {
		i = c.find(b, i, values)
	} else {
		i = skipPlain(b, i)
	}
	if c.slot >= 0 && b[value] != 'n' {
		values[c.slot] = b[value:i:i]
	}
	return i
}

// named is the child that the inner part of a string literal means, or nil.
func (n *pathNode) named(inner []byte) *pathChild {
	if n.lengths&lengthBit(len(inner)) == 0 && (len(inner) < 2 || bytes.IndexByte(inner, '\\') < 0) {
		return nil
	}
	for i := range n.children {
		if c := &n.children[i]; isName(inner, c.name) {
			return c
		}
	}
	return nil
}
