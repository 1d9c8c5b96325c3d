package pipeline

import (
	"bytes"
	"slices"
	"time"
)

// Identity are the members of a record that tell which event it holds. They
// point into the record.
type Identity struct {
	// Tool is the tool's name, ID a JSON string literal, Event what was sent.
	Tool, ID, Event []byte
	// Entity marks an entity describe: two of them with the same id are two.
	Entity bool
}

// IdentityOf reads a record. It reports false for what is none of an accepted
// event, as in the topic rejected.
func IdentityOf(record []byte) (Identity, bool) {
	who := Identity{Entity: true}
	for rest := record; len(rest) > 1; {
		name, value, after := nextMember(rest[1:]) // after the brace, or a comma
		if value == nil {
			return Identity{}, false
		}
		switch string(name) {
		case `"id"`:
			who.ID = value
		case `"tool"`:
			who.Tool = bytes.Trim(value, `"`)
		case `"action"`:
			who.Entity = false
		case `"reasons"`:
			return Identity{}, false
		case `"event"`:
			who.Event = value
		}
		rest = after
	}
	return who, who.ID != nil && who.Tool != nil && who.Event != nil
}

// nextMember cuts the first member off members of JSON without blanks around
// tokens. value is nil where there is none.
func nextMember(members []byte) (name, value, rest []byte) {
	n := valueBytes(members)
	if n == 0 || n >= len(members) || members[n] != ':' {
		return nil, nil, nil
	}
	name, rest = members[:n], members[n+1:]
	if n = valueBytes(rest); n == 0 {
		return nil, nil, nil
	}
	return name, rest[:n:n], rest[n:]
}

// valueBytes is the length of the JSON value at the start of b: up to the comma,
// colon or bracket behind it.
func valueBytes(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case ',', ':':
			if depth == 0 {
				return i
			}
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		}
	}
	return 0
}

// Remember tells the window for duplicates of a record that was stored so long
// ago, before this process began. It returns false where the window takes no
// more. Whatever is newer is to be told first: the window keeps what it was told
// first.
func (p *Pipeline) Remember(topic string, sequence uint64, ago time.Duration, record []byte) bool {
	who, ok := IdentityOf(record)
	place := slices.Index(p.cfg.Topics, topic)
	if p.window == nil || !ok || place < 0 {
		return true
	}
	w := p.window
	return w.remember(w.imprint(w.tool(string(who.Tool)), who.Entity, who.ID, who.Event), place, sequence, ago)
}

// Remembered tells that Remember was called for all that was stored in a time
// before this process began.
func (p *Pipeline) Remembered(back time.Duration) {
	if w := p.window; w != nil {
		w.since.Store(int64(w.clock(time.Now().Add(-min(back, w.age)))))
	}
}
