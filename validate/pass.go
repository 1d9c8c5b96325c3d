package validate

import (
	"bytes"
	"math"
	"unicode/utf8"
	"unsafe"
)

// The containers whose members matter, by their depth: the envelope, its data, an item, and the item's actor or edApp.
const (
	inEnvelope = 1 + iota
	inData
	inItem
	inAgent
)

// pass does all that scan and decode do, in one go over the tokens of an index: it checks the grammar, finds the members
// of envelope and items and has the items judged. It takes only what is usual. False leaves the verdict to scan, as if
// nothing had happened: something is at fault, or the shape is rare (`data` twice, an item that is no object, names
// with escapes).
func (e *Envelope) pass() bool {
	if len(e.body) == 0 || len(e.body) > math.MaxInt32 {
		return false
	}
	if e.index == nil {
		e.index = new(index)
	}
	e.index.begin(e.body)
	p := passage{e: e, x: e.index, b: e.body, start: unsafe.Pointer(unsafe.SliceData(e.body))}
	if !p.run() || p.x.high != 0 && !utf8.Valid(e.body) {
		e.forget()
		return false
	}
	e.facts.lineBreaks = p.x.breaks != 0
	if !isPresent(e.outer.Sensor) && !isPresent(e.outer.SendTime) && !isPresent(e.outer.DataVersion) && !isPresent(p.data) {
		e.err = ErrNotEnvelope
	}
	return true
}

// forget undoes what pass has left in e.
func (e *Envelope) forget() {
	clear(e.items)
	e.noted = e.noted[:0]
	e.items, e.conformant, e.inContext, e.inGranted = e.items[:0], 0, false, false
	e.outer = outerMembers{Data: e.outer.Data}
	e.facts = facts{spans: e.facts.spans}
}

// passage is the state of a pass.
type passage struct {
	e     *Envelope
	x     *index
	b     []byte
	start unsafe.Pointer // of b
	data  []byte         // the value of data; only its first byte counts

	item    uint32      // offset of the item that is being read
	members itemMembers // of it
	noted   int         // where its members begin in what is noted
	edApp   bool        // what is being read in inAgent is edApp, not actor
}

func (p *passage) byteAt(i uint32) byte { return *(*byte)(unsafe.Add(p.start, i)) }

// run walks over the tokens. It neither recurses nor allocates.
func (p *passage) run() bool {
	x := p.x
	t := &x.tokens
	// kinds has one bit per open container, the innermost lowest: 1 is an object. level is how deep the innermost
	// container is whose members matter. k is the token that comes next.
	depth, level, kinds, k := 1, inEnvelope, uint64(1), 1
	var value uint32
	if !x.fill(0, &p.e.facts) || p.byteAt(t[0]) != '{' {
		return false
	}
	if p.byteAt(t[1]) == '}' {
		goto closing
	}
member:
	value = t[k+2]
	if p.byteAt(t[k]) != '"' || p.byteAt(t[k+1]) != ':' {
		return false
	}
	if depth == level {
		deeper, ok := p.note(level, t[k], t[k+1], value, t[k+3])
		if !ok {
			return false
		}
		level += deeper
	}
	k += 3
	goto inside
element:
	value = t[k]
	if depth == level {
		if p.byteAt(value) != '{' {
			return false
		}
		p.item, p.members, p.noted = value, itemMembers{}, len(p.e.noted)
		level = inItem
	}
	k++
inside:
	switch c := p.byteAt(value); c {
	case '"':
	case '{', '[':
		if depth == MaxDepth {
			return false
		}
		depth++
		kinds = kinds<<1 | uint64(c>>5&1) // bit 5 tells '{' from '['
		if p.byteAt(t[k]) == c+2 {
			goto closing
		}
		if k > x.limit {
			if !x.fill(k, &p.e.facts) {
				return false
			}
			k = 0
		}
		if c == '{' {
			goto member
		}
		goto element
	default:
		if !p.isScalar(value) {
			return false
		}
	}
after:
	if k > x.limit {
		if !x.fill(k, &p.e.facts) {
			return false
		}
		k = 0
	}
	if p.byteAt(t[k]) == ',' {
		k++
		if kinds&1 != 0 {
			goto member
		}
		goto element
	}
	if p.byteAt(t[k]) != ']'+byte(kinds&1<<5) {
		return false
	}
closing:
	if depth == level {
		if level == inItem && !p.judge(t[k]+1) {
			return false
		}
		level--
	}
	k++
	if depth--; depth > 0 {
		kinds >>= 1
		goto after
	}
	return x.fill(k, &p.e.facts) && x.n == 0
}

// isScalar tells whether a number, true, false or null stands at i, and nothing that belongs to it behind.
func (p *passage) isScalar(i uint32) bool {
	end, fault := scalar(p.b, int(i))
	return fault == nil && (end == len(p.b) || endsScalar[p.b[end]])
}

var endsScalar = [256]bool{' ': true, '\t': true, '\n': true, '\r': true, ',': true, ']': true, '}': true}

// note looks at a member of a container that matters. name, colon and value are its tokens, next is the one behind a
// value that is no container. deeper is 1 where the members of the value matter as well. False means a rare shape.
func (p *passage) note(level int, name, colon, value, next uint32) (deeper int, ok bool) {
	literal := p.text(name, colon)
	switch level {
	case inItem:
		if p.e.opt.NoteMembers {
			p.e.noted = append(p.e.noted, memberSpan{name - p.item, name - p.item + uint32(len(literal)), value - p.item})
		}
		return p.noteItem(literal, value, next)
	case inEnvelope:
		return p.noteEnvelope(literal, value, next)
	}
	// The id stands in for its actor or edApp: the rules take it for the same.
	if string(literal) != `"id"` {
		return 0, p.isPlain(literal)
	}
	agent := emptyObject
	if id := p.value(value, next); isString(id) {
		agent = id
	}
	if p.edApp {
		p.members.EdApp = agent
	} else {
		p.members.Actor = agent
	}
	return 0, true
}

var emptyObject = raw("{}")

func (p *passage) noteEnvelope(literal []byte, value, next uint32) (deeper int, ok bool) {
	switch string(literal) {
	case `"data"`:
		if p.data != nil {
			return 0, false
		}
		p.data = p.b[value:]
		if p.data[0] == '[' {
			return 1, true
		}
	case `"sensor"`:
		p.e.outer.Sensor = p.value(value, next)
	case `"sendTime"`:
		p.e.outer.SendTime = p.value(value, next)
	case `"dataVersion"`:
		p.e.outer.DataVersion = p.value(value, next)
	default:
		return 0, p.isPlain(literal)
	}
	return 0, true
}

func (p *passage) noteItem(literal []byte, value, next uint32) (deeper int, ok bool) {
	switch string(literal) {
	case `"@context"`:
		p.members.Context = p.value(value, next)
	case `"id"`:
		p.members.ID = p.value(value, next)
	case `"type"`:
		p.members.Type = p.value(value, next)
	case `"action"`:
		p.members.Action = p.value(value, next)
	case `"eventTime"`:
		p.members.EventTime = p.value(value, next)
	case `"actor"`:
		p.members.Actor, deeper = p.agent(value, next)
		p.edApp = false
		return deeper, true
	case `"edApp"`:
		p.members.EdApp, deeper = p.agent(value, next)
		p.edApp = true
		return deeper, true
	default:
		return 0, p.isPlain(literal)
	}
	return 0, true
}

// agent is the value of an actor or edApp. An object is as if it had no id, until one is found.
func (p *passage) agent(value, next uint32) (agent []byte, deeper int) {
	if p.byteAt(value) == '{' {
		return emptyObject, 1
	}
	return p.value(value, next), 0
}

// isPlain tells whether the name is without escapes, which could spell any of the names that matter.
func (p *passage) isPlain(literal []byte) bool {
	return !p.e.facts.escapes || bytes.IndexByte(literal, '\\') < 0
}

// value is the value at i, which ends before the token next. Of an array or object it is the beginning at least.
func (p *passage) value(i, next uint32) []byte {
	if c := p.byteAt(i); c == '[' || c == '{' {
		return p.b[i:]
	}
	return p.text(i, next)
}

// text is what stands from i up to the token next, without white space at its end.
func (p *passage) text(i, next uint32) []byte {
	for next > i+1 && p.byteAt(next-1) <= ' ' {
		next--
	}
	return p.b[i:next:next]
}

// judge has the item judged that ends before end.
func (p *passage) judge(end uint32) bool {
	e := p.e
	n := len(e.items)
	if n == e.opt.MaxItems {
		return false
	}
	if n < cap(e.items) {
		e.items = e.items[:n+1]
	} else {
		e.items = append(e.items, Item{})
	}
	if noted := e.noted[p.noted:]; len(noted) > maxNoted {
		e.noted = e.noted[:p.noted]
	} else if len(noted) > 0 {
		e.items[n].members = noted[:len(noted):len(noted)]
	}
	e.checkItem(&e.items[n], p.b[p.item:end:end], &p.members)
	return true
}
