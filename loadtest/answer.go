package main

import (
	"bytes"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// fate is what an answer means for an event: unclear, refused, somewhere, or the topics that must hold it, each with the
// bit that topicBits gives it.
type fate uint16

const (
	// unclear: 5xx, or no answer at all. The event may be stored or not. It is also the state of an event whose answer is
	// still awaited.
	unclear fate = 0
	// refused: any other definite answer. It must not be stored.
	refused fate = 1 << maxTopics
	// somewhere: acknowledged, and the answer does not say for which topics.
	somewhere fate = 1<<(maxTopics+1) - 1
)

// acknowledged: 2xx, and not among the rejected ones of a 202. The event must be stored.
func (f fate) acknowledged() bool { return f != unclear && f != refused }

// judgement is what an answer says about the items of its envelope.
type judgement struct {
	// all is the fate of all items, unless each is set.
	all  fate
	each []fate
	// durable counts the acknowledged items.
	durable int
	// expected is whether the answer is the one that the envelope deserves from an endpoint whose store is well.
	expected bool
}

// of is the fate of an item.
func (j *judgement) of(i int) fate {
	if j.each != nil {
		return j.each[i]
	}
	return j.all
}

// judge reads an answer to an envelope that deserves the status want and has the items that faulty says. The topics
// of a 200 are read only where a ledger asks for them.
func judge(a *answer, want int, faulty []bool, r *routes, ledger bool) judgement {
	j := judgement{expected: a.status == want}
	switch {
	case a.status == 200:
		j.all, j.durable = somewhere, len(faulty)
		if !ledger {
			return j
		}
		if acceptedOf(a.body) != len(faulty) {
			j.expected = false
		}
		if bytes.Contains(a.body, routesMember) {
			if !r.parse(a.body, len(faulty)) || slices.Contains(r.each, refused) {
				j.expected = false
				return j
			}
			j.each = r.each
		} else if topics := r.parseTopics(a.body); topics != 0 {
			j.all = topics
		} else {
			j.expected = false
		}
	case a.status == 202:
		if !r.parse(a.body, len(faulty)) {
			j.expected = false // nobody can tell which items are meant
			return j
		}
		j.each = r.each
		for i, f := range r.each {
			if f.acknowledged() {
				j.durable++
			}
			j.expected = j.expected && f.acknowledged() != faulty[i]
		}
	case a.status < 500:
		j.all = refused
	}
	return j
}

// maxTopics is how many topics the answers of a run may name.
const maxTopics = 15

// topicBits gives each topic that is named a bit. Safe for concurrent use, without a lock where the name is known.
type topicBits struct {
	mu    sync.Mutex
	names atomic.Pointer[[]string]
	full  atomic.Bool // there was no bit for a topic
}

// known are the names so far, each at its bit.
func (t *topicBits) known() []string {
	if names := t.names.Load(); names != nil {
		return *names
	}
	return nil
}

// of is the bit of a topic.
func (t *topicBits) of(name []byte) fate {
	same := func(known string) bool { return known == string(name) }
	i := slices.IndexFunc(t.known(), same)
	if i < 0 {
		t.mu.Lock()
		defer t.mu.Unlock()
		names := t.known()
		if i = slices.IndexFunc(names, same); i < 0 {
			if i = len(names); i == maxTopics {
				t.full.Store(true)
				return somewhere
			}
			names = append(slices.Clone(names), string(name))
			t.names.Store(&names)
		}
	}
	return 1 << i
}

// routes reads where a success body says that items went. It is used again to save memory.
type routes struct {
	topics *topicBits
	each   []fate
}

var routesMember = []byte(`"routes":[`)

// parse reads "routes":["standard",null,["standard","enriched"]] out of a success body. It reports whether there are so
// many items.
func (r *routes) parse(body []byte, items int) bool {
	r.each = r.each[:0]
	_, list, ok := bytes.Cut(body, routesMember)
	for ok {
		f := refused
		if rest, null := bytes.CutPrefix(list, []byte("null")); null {
			list = rest
		} else if rest, several := bytes.CutPrefix(list, []byte("[")); several {
			if f, list = r.names(rest); !bytes.HasPrefix(list, []byte("]")) {
				return false
			}
			list = list[1:]
		} else {
			f, list = r.name(list)
		}
		if f == 0 {
			return false
		}
		r.each = append(r.each, f)
		if bytes.HasPrefix(list, []byte("]")) {
			return len(r.each) == items
		}
		list, ok = bytes.CutPrefix(list, []byte(","))
	}
	return false
}

// name reads one name and returns its bit, 0 where there is none, and what follows.
func (r *routes) name(text []byte) (fate, []byte) {
	if len(text) == 0 || text[0] != '"' {
		return 0, text
	}
	name, rest, ok := bytes.Cut(text[1:], []byte(`"`))
	if !ok {
		return 0, text
	}
	return r.topics.of(name), rest
}

// names reads names with commas between them.
func (r *routes) names(text []byte) (all fate, rest []byte) {
	for {
		f, rest := r.name(text)
		if f == 0 {
			return 0, rest
		}
		all |= f
		var more bool
		if text, more = bytes.CutPrefix(rest, []byte(",")); !more {
			return all, rest
		}
	}
}

// parseTopics reads the names in "topics":{"standard":"standard:7,standard:8","live":""}; 0 where there are none.
func (r *routes) parseTopics(body []byte) (all fate) {
	_, list, ok := bytes.Cut(body, []byte(`"topics":{`))
	for ok {
		f, rest := r.name(list)
		_, rest, found := bytes.Cut(rest, []byte(`:"`))
		if f == 0 || !found {
			return 0
		}
		all |= f
		if _, rest, found = bytes.Cut(rest, []byte(`"`)); !found {
			return 0
		}
		if bytes.HasPrefix(rest, []byte("}")) {
			return all
		}
		list, ok = bytes.CutPrefix(rest, []byte(","))
	}
	return 0
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
