package main

import (
	"bytes"
	"strconv"
)

// outcome is what an event was answered, in two bits.
type outcome byte

const (
	// unclear: 5xx, or no answer at all. The event may be stored or not. It is also the state of an event whose answer is
	// still awaited.
	unclear outcome = iota
	// acknowledged: 2xx, and not among the rejected ones of a 202. It must be stored.
	acknowledged
	// refused: any other definite answer. It must not be stored.
	refused
)

// judgement is what an answer says about the items of its envelope.
type judgement struct {
	// all is the outcome of all items, unless routes is set: then those with a null are refused and the others
	// acknowledged.
	all    outcome
	routes *routes
	// durable counts the acknowledged items.
	durable int
	// expected is whether the answer is the one that the envelope deserves from an endpoint whose store is well.
	expected bool
}

// judge reads an answer to an envelope that deserves the status want and has the items that faulty says.
func judge(a *answer, want int, faulty []bool, r *routes) judgement {
	j := judgement{expected: a.status == want}
	switch {
	case a.status == 200:
		j.all, j.durable = acknowledged, len(faulty)
	case a.status == 202:
		if !r.parse(a.body, len(faulty)) {
			j.expected = false // nobody can tell which items are meant
			return j
		}
		j.routes = r
		for i, taken := range r.taken {
			if taken {
				j.durable++
			}
			j.expected = j.expected && taken != faulty[i]
		}
	case a.status < 500:
		j.all = refused
	}
	return j
}

// routes are those of a success body: which items went to a topic. The zero value is ready to use, and is used again to
// save memory.
type routes struct{ taken []bool }

// parse reads "routes":["standard",null,["standard","enriched"]] out of a success body. It reports whether there are so
// many items.
func (r *routes) parse(body []byte, items int) bool {
	r.taken = r.taken[:0]
	_, list, ok := bytes.Cut(body, []byte(`"routes":[`))
	if !ok {
		return false
	}
	for {
		switch {
		case bytes.HasPrefix(list, []byte("null")):
			r.taken = append(r.taken, false)
		case len(list) > 0 && (list[0] == '"' || list[0] == '['):
			r.taken = append(r.taken, true)
		default:
			return false
		}
		if list[0] == '[' { // topics have no brackets and no commas in their names
			list = list[bytes.IndexByte(list, ']')+1:]
		}
		i := bytes.IndexAny(list, ",]")
		if i < 0 {
			return false
		}
		if list[i] == ']' {
			return len(r.taken) == items
		}
		list = list[i+1:]
	}
}

// acceptedOf reads {"accepted":N out of a success body; -1 where it is not there.
func acceptedOf(body []byte) int {
	rest, ok := bytes.CutPrefix(body, []byte(`{"accepted":`))
	if !ok {
		return -1
	}
	digits, _, _ := bytes.Cut(rest, []byte(","))
	n, err := strconv.Atoi(string(digits))
	if err != nil {
		return -1
	}
	return n
}
