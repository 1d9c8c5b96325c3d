// Package validate decides whether the body of a request is a Caliper envelope and which of its items conform.
//
// Parse is the hot path. Where the processor has vectors, one pass over the bytes decides whether they are JSON, finds
// the members, and has each item judged while it is in the cache (index.go, pass.go). It takes bodies that are in order
// and of the usual shape. All others, and other processors, take the long way, which has the last word: a strict scan
// decides whether the bytes are JSON, or where they are not (scan.go); then sonic cuts the known-good text into raw
// members (decode.go). The rules look at members only (rules.go), with the vocabulary as data (profile.go). Nothing is
// converted and nothing copied: what an Envelope gives out are views into the body. Explaining what is wrong
// (violation.go) reads the body once more and is paid for by faulty requests alone.
//
// Promises:
//
//   - The verdict depends on the bytes alone, not on the processor, on the order of members or on earlier requests.
//   - Of members that occur twice, the last one is used; names are case-sensitive and compared after unescaping.
//   - Work and memory grow linearly with the body, and not at all with the number of items above MaxItems.
//   - An envelope in order is parsed without an allocation once the pool is warm.
package validate

import (
	"errors"
	"sync"

	"github.com/bytedance/sonic/decoder"
)

// DefaultMaxItems is the most items an envelope may carry unless Options say otherwise (contract 1.1, check 11).
const DefaultMaxItems = 10_000

// Options select rules that are off by default. The zero value is the contract.
type Options struct {
	// MaxItems is the most items `data` may have. Zero means DefaultMaxItems.
	MaxItems int
	// CheckObject makes an event without an `object` (an object or a non-empty string) faulty. Entity describes have none.
	CheckObject bool
	// InheritContext lends an item without `@context` the one in force for the item before it.
	InheritContext bool
	// Vocabulary is what the sender is granted beyond Caliper's. Nil grants nothing.
	Vocabulary *Vocabulary
	// NoteMembers has Parse note where the members of items are, for Lookup and Find.
	NoteMembers bool
}

// What Err returns, in the order in which the checks are made (contract 1.1, checks 9 to 12).
var (
	ErrNotEnvelope  = errors.New("validate: body is not a Caliper envelope")
	ErrDataVersion  = errors.New("validate: dataVersion of the envelope is non-conformant")
	ErrEnvelope     = errors.New("validate: sensor, sendTime or data of the envelope is non-conformant")
	ErrTooManyItems = errors.New("validate: envelope has too many items")
	ErrNoItem       = errors.New("validate: no item of the envelope is conformant")
)

// Envelope is a parsed request body. Only Parse makes one. It is not safe for concurrent use.
//
// Every byte slice it gives out, also in an Item, is a read-only view into the body given to Parse: valid until
// Release, and only as long as the caller leaves the body alone.
type Envelope struct {
	body   []byte
	opt    Options
	facts  facts
	err    error
	faults Faults

	items      []Item
	conformant int
	inContext  bool // the `@context` last given was accepted
	inGranted  bool // it was, by the options' vocabulary

	noted []memberSpan // of all items, with Options.NoteMembers
	index *index       // nil until pass needs it; 26 KiB
	dec   decoder.Decoder
	outer outerMembers
	live  bool
}

// Item is one element of `data`: an event or an entity describe.
type Item struct {
	// Faults is zero for a conformant item. Only then all other fields are sure to be filled.
	Faults Faults
	// Entity marks an entity describe: its type is an entity type, and it has no action (rule R9).
	Entity bool
	// Extra are the rules that the item keeps only by Options.Vocabulary: FaultContext, FaultAction or both.
	Extra Faults
	// Type and Action are canonical spellings out of this package's tables, or out of Options.Vocabulary, valid for ever. Empty where unknown;
	// Action is empty for entities.
	Type, Action string
	// Time is `eventTime` in UTC with three fraction digits and Z. All zero for entities and faulty times.
	Time [24]byte
	// ID, Actor and EdApp are JSON string literals as sent, quotes included; Actor and EdApp are the member itself
	// or, where it is an object, its `id`. Nil where that is no string or an empty one.
	ID, Actor, EdApp []byte
	// OddEdApp tells that there is an `edApp` other than null, and EdApp is nil all the same.
	OddEdApp bool
	// Raw is the item, byte for byte.
	Raw []byte

	typeNumber, actionNumber uint8        // see Numbers
	members                  []memberSpan // nil where they were not noted
}

// maxPooledItems bounds what an Envelope keeps between requests: 2,048 items are less than 1 MiB.
const maxPooledItems = 2048

var envelopes = sync.Pool{New: func() any {
	e := new(Envelope)
	e.dec.SetOptions(decodeOptions)
	return e
}}

// Parse reads one request body. Its error is a *SyntaxError for what is no JSON text (check 8), and nil otherwise;
// everything else there is to say, Err included, is in the Envelope, which the caller owns until Release.
// body is kept, and must stay unchanged, until then. Parse may be called concurrently; it does not block.
func Parse(body []byte, opt Options) (*Envelope, error) {
	if opt.MaxItems <= 0 {
		opt.MaxItems = DefaultMaxItems
	}
	e := envelopes.Get().(*Envelope)
	e.body, e.opt, e.live = body, opt, true
	if !vectors || !e.pass() {
		if fault := e.facts.scan(body); fault != nil {
			e.Release()
			return nil, fault
		}
		e.decode()
	}
	e.check()
	return e, nil
}

// Release gives the Envelope back. Nothing it gave out may be used afterwards. Releasing twice panics.
func (e *Envelope) Release() {
	if !e.live {
		panic("validate: Envelope released twice")
	}
	clear(e.items)
	// sonic leaves the members of an earlier request where a later one has none, so nothing may stay behind, also
	// not beyond the length of a list that was filled twice.
	list := e.outer.Data
	clear(list[:min(cap(list), max(len(list), e.facts.elements))])
	e.dec.Reset("")
	if e.index != nil {
		e.index.begin(nil)
	}
	*e = Envelope{
		noted: keptNotes(e.noted),
		index: e.index,
		dec:   e.dec,
		items: kept(e.items),
		outer: outerMembers{Data: kept(list)},
		facts: facts{spans: kept(e.facts.spans)},
	}
	envelopes.Put(e)
}

func kept[T any](s []T) []T {
	if cap(s) > maxPooledItems {
		return nil
	}
	return s[:0]
}

// Err is the verdict on the whole envelope: nil where at least one item conforms and nothing else is wrong, else one of
// ErrNotEnvelope, ErrDataVersion, ErrEnvelope, ErrTooManyItems and ErrNoItem, the first that applies.
func (e *Envelope) Err() error { return e.err }

// Faults tells which members of the envelope are faulty. A body that is no envelope has all four faults.
func (e *Envelope) Faults() Faults { return e.faults }

// Items are the items of `data` in order, also of a faulty envelope; nil where `data` is no array or has more than
// MaxItems. The slice belongs to the Envelope.
func (e *Envelope) Items() []Item {
	if len(e.items) == 0 {
		return nil
	}
	return e.items
}

// Conformant is the number of items without faults.
func (e *Envelope) Conformant() int { return e.conformant }

// Sensor is the JSON string literal sent as `sensor`, quotes included; nil where that is no string.
func (e *Envelope) Sensor() []byte { return literal(e.outer.Sensor) }

// SendTime is the JSON string literal sent as `sendTime`, quotes included; nil where that is no string.
func (e *Envelope) SendTime() []byte { return literal(e.outer.SendTime) }

// DataVersion is the JSON string literal sent as `dataVersion`, quotes included; nil where that is no string.
func (e *Envelope) DataVersion() []byte { return literal(e.outer.DataVersion) }

// LineBreaks tells whether there are line breaks between tokens anywhere in the body (never inside strings).
func (e *Envelope) LineBreaks() bool { return e.facts.lineBreaks }

// LoneSurrogates tells whether a string anywhere in the body has an escaped surrogate without its partner.
func (e *Envelope) LoneSurrogates() bool { return e.facts.loneSurrogates }

func literal(value []byte) []byte {
	if len(value) > 0 && value[0] == '"' {
		return value
	}
	return nil
}
