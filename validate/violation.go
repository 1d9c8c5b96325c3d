package validate

import (
	"iter"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Violation explains one broken rule to the people who write sensors.
type Violation struct {
	Code     string // stable, as in Faults.Codes
	Message  string // to the letter of contract 1.5
	Pointer  string // JSON pointer of the member, whether it is there or not
	Found    string // a JSON type name, "missing", "empty string", or "string '…'" with at most 64 characters of it
	Expected string // what would conform, where that can be said in short; else empty
}

const (
	expectedTime    = "yyyy-mm-ddThh:mm:ss, up to nine digits of a fraction, and Z or an offset like +01:00"
	expectedVersion = "http://purl.imsglobal.org/ctx/caliper/v1p1 or http://purl.imsglobal.org/ctx/caliper/v1p2"
	expectedName    = "a non-empty string"
	expectedAgent   = "an object or a non-empty string"
)

// rules describes the bits of Faults, lowest first.
var rules = [...]struct{ code, message, member, expected string }{
	{"sensor", "Event envelope must include a `sensor` attribute.", "sensor", expectedName},
	{"sendTime", "Event envelope `sendTime` attribute must be an ISO 8601 time string formated like \"yyyy-mm-ddThh:mm:ss.SSSZ\".",
		"sendTime", expectedTime},
	{"dataVersion", "Event envelope `dataVersion` attribute must be a version like \"http://purl.imsglobal.org/ctx/caliper/v1p1\".",
		"dataVersion", expectedVersion},
	{"data", "Event envelope `data` attribute must be an array with at least one element.", "data", ""},
	{"id", "Event `id` must be present. Version 4 UUID is recommended.", "id", expectedName},
	{"@context", "Event `@context` must be a version like \"http://purl.imsglobal.org/ctx/caliper/v1p1\".",
		"@context", expectedVersion + ", a profile extension of v1p1, or an array with one of them"},
	{"actor", "Event `actor` attribute must an object or string.", "actor", expectedAgent},
	{"type/action", "Event `type` and `action` must be present, and `action` must be valid for `type`.", "action", ""},
	{"eventTime", "Event `eventTime` attribute must be an ISO 8601 time string formatted like \"yyyy-mm-ddThh:mm:ss.SSSZ\".",
		"eventTime", expectedTime},
	{"object", "Event `object` attribute must be an object or string.", "object", expectedAgent},
}

// Codes yields the stable codes of the faults, in the order of contract 1.5. It does not allocate.
func (f Faults) Codes() iter.Seq[string] {
	return func(yield func(string) bool) {
		for f &= faultsEnd - 1; f != 0; f &= f - 1 {
			if !yield(rules[f.lowest()].code) {
				return
			}
		}
	}
}

func (f Faults) lowest() int { return bits.TrailingZeros16(uint16(f)) }

// EnvelopeViolations explains Faults, in the order of contract 1.5; nil where there are none. It reads the body again
// and allocates; what it returns is the caller's.
func (e *Envelope) EnvelopeViolations() []Violation {
	if e.faults == 0 {
		return nil
	}
	var (
		m    outerMembers
		data []byte
	)
	if value := e.body[skipSeparators(e.body, 0):]; value[0] == '{' {
		m, data = findOuter(value)
	}
	values := map[string][]byte{"sensor": m.Sensor, "sendTime": m.SendTime, "dataVersion": m.DataVersion, "data": data}
	var all []Violation
	for f := e.faults; f != 0; f &= f - 1 {
		r := &rules[f.lowest()]
		all = append(all, Violation{r.code, r.message, "/" + r.member, found(values[r.member]), r.expected})
	}
	return all
}

// ItemViolations explains the Faults of Items()[i], in the order of contract 1.5; nil where there are none. It reads the
// item again and allocates; what it returns is the caller's.
func (e *Envelope) ItemViolations(i int) []Violation {
	it := &e.items[i]
	if it.Faults == 0 {
		return nil
	}
	pointer := "/data/" + strconv.Itoa(i)
	isObject := it.Raw[0] == '{'
	var (
		m      itemMembers
		object []byte
	)
	if isObject {
		m, object = findInner(it.Raw), lastMember(it.Raw, "object")
	}
	values := map[string][]byte{"id": m.ID, "@context": m.Context, "actor": m.Actor, "action": m.Action,
		"eventTime": m.EventTime, "object": object}
	var all []Violation
	for f := it.Faults; f != 0; f &= f - 1 {
		r := &rules[f.lowest()]
		v := Violation{r.code, r.message, pointer + "/" + r.member, found(values[r.member]), r.expected}
		switch {
		case !isObject:
			v.Pointer, v.Found, v.Expected = pointer, found(it.Raw), "an object"
		case f&-f == FaultAction:
			explainAction(&v, pointer, &m, e.opt.Vocabulary.actionsOf(m.Type))
		}
		all = append(all, v)
	}
	return all
}

// explainAction points at the type where that is to blame, else at the action and to what the type takes, the actions
// granted to the sender included.
func explainAction(v *Violation, pointer string, m *itemMembers, granted []string) {
	t := typeOf(m.Type)
	switch {
	case t == nil && granted != nil:
		v.Expected = strings.Join(granted, ", ")
	case t == nil:
		v.Pointer, v.Found = pointer+"/type", found(m.Type)
		v.Expected = "an event type, or an entity type without an action"
	case t.entity:
		v.Pointer, v.Found, v.Expected = pointer+"/type", found(m.Type), "an event type, because there is an action"
	default:
		var names []string
		for bit, name := range actionNames {
			if t.actions.has(uint8(bit)) {
				names = append(names, name)
			}
		}
		v.Expected = strings.Join(append(names, granted...), ", ")
	}
}

// maxFound is how many characters of a wrong string are shown.
const maxFound = 64

// found names what stands in a member, without giving away more than the start of a string.
func found(value []byte) string {
	if len(value) == 0 {
		return "missing"
	}
	switch value[0] {
	case 'n':
		return "null"
	case 't', 'f':
		return "boolean"
	case '[':
		return "array"
	case '{':
		return "object"
	case '"':
		if len(value) == 2 {
			return "empty string"
		}
		return "string '" + excerpt(value[1:len(value)-1]) + "'"
	}
	return "number"
}

// excerpt is the start of a string, escapes resolved.
func excerpt(inner []byte) string {
	// A character takes at most twelve bytes, as an escaped pair; a cut in the middle of one falls behind
	// the characters shown.
	s := inner[:min(len(inner), 12*(maxFound+1))]
	for len(s) < len(inner) && !wholeEscapes(s) {
		s = s[:len(s)-1]
	}
	text := string(appendUnescaped(nil, s))
	if utf8.RuneCountInString(text) <= maxFound && len(s) == len(inner) {
		return text
	}
	n := 0
	for i := range text {
		if n == maxFound {
			return text[:i] + "…"
		}
		n++
	}
	return text + "…"
}

// wholeEscapes tells whether s does not end within an escape sequence.
func wholeEscapes(s []byte) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		if i+1 >= len(s) || s[i+1] == 'u' && i+6 > len(s) {
			return false
		}
		i++
	}
	return true
}
