package validate

import (
	"reflect"
	"unsafe"

	"github.com/bytedance/sonic"
	"github.com/bytedance/sonic/decoder"
)

// raw is a value as it stands in the body; nil where the member is absent.
type raw = sonic.NoCopyRawMessage

// outerMembers are the members of an envelope that rules look at.
type outerMembers struct {
	Sensor      raw           `json:"sensor"`
	SendTime    raw           `json:"sendTime"`
	DataVersion raw           `json:"dataVersion"`
	Data        []itemMembers `json:"data"`
}

// itemMembers are the members of an item that rules always look at.
type itemMembers struct {
	Context   raw `json:"@context"`
	ID        raw `json:"id"`
	Type      raw `json:"type"`
	Actor     raw `json:"actor"`
	Action    raw `json:"action"`
	EventTime raw `json:"eventTime"`
	EdApp     raw `json:"edApp"`
}

// Names must match exactly, and what scan has accepted needs no second check.
const decodeOptions = decoder.OptionCaseSensitive | decoder.OptionNoValidateJSON

func init() {
	// Where sonic has no compiler it hands over to encoding/json, which matches names without regard to case:
	// verdicts would differ between machines.
	if sonic.APIKind != sonic.UseSonicJSON {
		panic("validate: sonic has no compiler for this processor or Go version; build for amd64 or arm64 with a Go version it supports")
	}
	for _, t := range []reflect.Type{reflect.TypeFor[outerMembers](), reflect.TypeFor[itemMembers]()} {
		if err := decoder.Pretouch(t); err != nil {
			panic("validate: sonic cannot compile " + t.String() + ": " + err.Error())
		}
	}
}

// decode finds the members of envelope and items and has the items judged. It sets e.err where the body is no envelope
// or has too many items.
func (e *Envelope) decode() {
	object := e.body[skipSeparators(e.body, 0):]
	if object[0] != '{' {
		e.err = ErrNotEnvelope
		return
	}
	// The usual body has one array with elements, and it is `data`: then the spans are those of the items. Whatever
	// is less usual is not left to sonic: a list filled twice mixes the members of both, a `data` of another type or
	// an item that is no object is an error, and on some processors so is a number beyond a float64.
	n := e.facts.elements
	if e.facts.arrays == 1 && n <= min(maxSpans, e.opt.MaxItems, len(e.body)/minItemBytes) && e.unpack(object) {
		e.grow(n)
		for i, s := range e.facts.spans {
			e.checkItem(&e.items[i], e.body[s.start:s.end:s.end], &e.outer.Data[i])
		}
		return
	}
	e.walk(object)
}

// minItemBytes is less than any conformant item has. Where items are smaller on the average they are walked, so that
// the memory for their members stays within a small multiple of the body.
const minItemBytes = 64

// unpack has sonic find the members; false where that did not give one element for each span.
func (e *Envelope) unpack(object []byte) bool {
	if cap(e.outer.Data) < e.facts.elements {
		e.outer.Data = make([]itemMembers, 0, e.facts.elements)
	}
	e.dec.Reset(unsafe.String(unsafe.SliceData(object), len(object)))
	return e.dec.Decode(&e.outer) == nil && len(e.outer.Data) == len(e.facts.spans)
}

// walk does what decode does without sonic: for any JSON text and any number of items, one item at a time.
func (e *Envelope) walk(object []byte) {
	m, data := findOuter(object)
	m.Data = e.outer.Data[:0] // what sonic left there is cleared by Release
	e.outer = m
	switch {
	case !isPresent(m.Sensor) && !isPresent(m.SendTime) && !isPresent(m.DataVersion) && !isPresent(data):
		e.err = ErrNotEnvelope
		return
	case len(data) == 0 || data[0] != '[':
		return
	}
	n := e.facts.elements // or fewer, where there are other arrays
	if n > e.opt.MaxItems {
		if n = countElements(data, e.opt.MaxItems); n > e.opt.MaxItems {
			e.err = ErrTooManyItems
			return
		}
	}
	e.grow(n)
	c := inside(data)
	for i := range e.items {
		value, ok := c.element()
		if !ok {
			e.items = e.items[:i]
			return
		}
		var m itemMembers
		if value[0] == '{' {
			m = findInner(value)
		}
		e.checkItem(&e.items[i], value, &m)
	}
}

// grow makes room for n items; those within the capacity are zero.
func (e *Envelope) grow(n int) {
	if cap(e.items) < n {
		e.items = make([]Item, n)
	}
	e.items = e.items[:n]
}

// findOuter collects the members of an envelope; data is the value of `data`, whatever its type.
func findOuter(object []byte) (m outerMembers, data []byte) {
	for c := inside(object); ; {
		name, value, ok := c.member()
		switch {
		case !ok:
			return m, data
		case isText(name, "sensor"):
			m.Sensor = value
		case isText(name, "sendTime"):
			m.SendTime = value
		case isText(name, "dataVersion"):
			m.DataVersion = value
		case isText(name, "data"):
			data = value
		}
	}
}

// findInner collects the members of an item that is an object.
func findInner(object []byte) (m itemMembers) {
	for c := inside(object); ; {
		name, value, ok := c.member()
		switch {
		case !ok:
			return m
		case isText(name, "@context"):
			m.Context = value
		case isText(name, "id"):
			m.ID = value
		case isText(name, "type"):
			m.Type = value
		case isText(name, "actor"):
			m.Actor = value
		case isText(name, "action"):
			m.Action = value
		case isText(name, "eventTime"):
			m.EventTime = value
		case isText(name, "edApp"):
			m.EdApp = value
		}
	}
}

// countElements counts the elements of an array, up to one above limit.
func countElements(array []byte, limit int) int {
	c, n := inside(array), 0
	for n <= limit {
		if _, ok := c.element(); !ok {
			break
		}
		n++
	}
	return n
}
