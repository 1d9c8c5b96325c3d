// Package corpus makes Caliper envelopes out of a seed: the same bytes for the same seed on every machine, so that
// benchmarks, load tests and k6 all send the same and their numbers can be compared.
//
// What is made is meant to be as hard to read, to look at and to compress as what tools really send: identifiers and
// times differ from event to event, texts are of many languages, and members come in the order and notation of several
// sensor libraries. Every event id has a fixed width and a known place, so that a sender gives each event a fresh id
// without making the body anew: see Envelope.IDs and PutID.
package corpus

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Kind is what the events are like.
type Kind uint8

const (
	// Engage events are page turns and page views of a reading tool, all of one form and 1 KB each: 1.2 KB as an envelope
	// of one event.
	Engage Kind = iota
	// Mix has all 24 event types with the actions they take, and one entity describe among twenty items; Caliper 1.1
	// and 1.2; 0.5 to 8 KB each, half of them below 1.5 KB.
	Mix
)

var kindNames = [...]string{Engage: "engage", Mix: "mix"}

func (k Kind) String() string { return kindNames[k] }

// MarshalText and UnmarshalText make a Kind a flag (flag.TextVar).
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads "engage" or "mix".
func (k *Kind) UnmarshalText(text []byte) error {
	for i, name := range kindNames {
		if string(text) == name {
			*k = Kind(i)
			return nil
		}
	}
	return fmt.Errorf("corpus: kind is %q, want engage or mix", text)
}

// Envelope is one POST body. It belongs to the caller, who may overwrite the ids in Body and nothing else of it.
type Envelope struct {
	Body []byte
	// IDs has for each item of data, in order, the offset in Body of the 36 characters of a UUID. Write there with PutID.
	// The UUID stands behind "urn:uuid:" and is the item's id; in an item that is faulty for want of an id, and in one
	// that is no object, it is some other string of the item.
	IDs []int
	// Items is the number of items of data, whether data can be read or not.
	Items int
	// Faulty tells for each item whether it must be rejected.
	Faulty []bool
	// Status is what a post of Body must be answered where all is well with the store: 200, 202 or 400, of Broken also
	// 415 and 422.
	Status int

	codes []string // for each item the rule it breaks, as in the contract's table of messages; allRules for all
}

// Rejected is the number of items that must be rejected.
func (e *Envelope) Rejected() int {
	n := 0
	for _, faulty := range e.Faulty {
		if faulty {
			n++
		}
	}
	return n
}

// Stamp gives the items the ids of sender from n on, one for each item, and returns the number after the last.
// It allocates nothing.
func (e *Envelope) Stamp(sender, n uint64) uint64 {
	for _, at := range e.IDs {
		PutID(e.Body[at:], sender, n)
		n++
	}
	return n
}

// A Generator makes one envelope after the other. It is not safe for concurrent use: give each goroutine one of its own,
// with a seed of its own.
type Generator struct {
	kind   Kind
	rand   *rand.Rand
	sender uint64
	n      uint64
	clock  time.Time // of the next event
}

// New returns a Generator of envelopes of one kind. Equal kinds and seeds give equal sequences of envelopes. Ids, as made,
// are those of the sender that the low 32 bits of seed name, counted from 0.
func New(kind Kind, seed uint64) *Generator {
	return &Generator{
		kind:   kind,
		rand:   rand.New(rand.NewPCG(seed, uint64(kind)+1)),
		sender: seed & (1<<senderBits - 1),
		clock:  time.Date(2026, time.September, 14, 7, 30, 0, 0, time.UTC),
	}
}

// Envelope makes an envelope of so many items, each of them faulty with a probability of faultyShare. An envelope of no
// items is what sensors never send; it panics.
func (g *Generator) Envelope(items int, faultyShare float64) Envelope {
	if items < 1 {
		panic(fmt.Sprintf("corpus: envelope of %d items, want at least 1", items))
	}
	t := g.tool()
	data := make(list, items)
	e := Envelope{Items: items, Faulty: make([]bool, items), codes: make([]string, items)}
	for i := range data {
		item := g.item(&t)
		data[i] = item
		if faultyShare > 0 && g.rand.Float64() < faultyShare {
			data[i], e.codes[i] = g.spoil(item)
			e.Faulty[i] = true
		}
	}
	g.write(&e, t.envelope(g, data), t.notation)
	switch e.Rejected() {
	case 0:
		e.Status = 200
	case items:
		e.Status = 400
	default:
		e.Status = 202
	}
	return e
}

// write puts the body together and numbers its items.
func (g *Generator) write(e *Envelope, body any, how notation) {
	w := writer{notation: how}
	w.value(body, 0)
	e.Body, e.IDs = w.out, w.tokens
	g.n = e.Stamp(g.sender, g.n)
}
