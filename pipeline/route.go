package pipeline

import (
	"fmt"
	"math/bits"
	"slices"

	"caliperedge/pipeline/rules"
	"caliperedge/validate"
)

// The topics that take something by default. The topics of an installation are
// a closed set from its configuration, and these two are always part of it.
const (
	TopicStandard = rules.Standard // every conformant event
	TopicEntities = "entities"     // entity describes
)

// MaxTopics is how many topics an installation may have: a TopicSet has a bit
// for each.
const MaxTopics = 64

// TopicSet is a set of topics, each a bit at its place in Config.Topics. The
// zero TopicSet is what a rejected item gets.
type TopicSet uint64

// All yields the places of the topics in the set, lowest first.
func (s TopicSet) All(yield func(int) bool) {
	for ; s != 0; s &= s - 1 {
		if !yield(bits.TrailingZeros64(uint64(s))) {
			return
		}
	}
}

// router decides which topics take an item. It looks at nothing but the item,
// the tool, the sensor and what is known of keys, so the decision is the same in
// debug and for real.
type router struct {
	standard, entities TopicSet
}

func newRouter(topics []string) (router, error) {
	var r router
	for _, want := range []struct {
		name string
		set  *TopicSet
	}{{TopicStandard, &r.standard}, {TopicEntities, &r.entities}} {
		i := slices.Index(topics, want.name)
		if i < 0 {
			return router{}, fmt.Errorf("pipeline: topic %q is missing from the topics %q", want.name, topics)
		}
		*want.set = 1 << i
	}
	return r, nil
}

// route returns the topics that take item i of r, none where it does not
// conform, and adds what its records get besides their usual members.
func (r *Receipt) route(view rules.View, i int, it *validate.Item) TopicSet {
	if it.Faults != 0 {
		return 0
	}
	if it.Extra != 0 {
		r.ruling.Members = appendExtra(r.ruling.Members[:0], it.Extra)
		r.annotate(i, r.ruling.Members)
	}
	if it.Entity {
		return r.p.router.entities
	}
	d := view.Decide(it, &r.ruling)
	if d.Topics == 0 { // there are no rules
		return r.p.router.standard
	}
	r.annotate(i, r.ruling.Members)
	if d.Mismatch {
		r.mismatches++
	}
	return TopicSet(d.Topics)
}

// appendExtra marks a record whose item conforms only by what its tool is
// granted.
func appendExtra(dst []byte, extra validate.Faults) []byte {
	dst = append(dst, `,"extra":[`...)
	first := true
	for code := range extra.Codes() {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(append(dst, '"'), code...), '"')
	}
	return append(dst, ']')
}

// Keys knows the institution's keys; see there.
type Keys = rules.Keys

// Explanation tells why an event goes where it goes; see there.
type Explanation = rules.Explanation

// Explain says why item i of env, which conforms, goes where it goes. It
// allocates: it is for people.
func (p *Pipeline) Explain(env *validate.Envelope, tool string, i int) Explanation {
	it := &env.Items()[i]
	var e Explanation
	if !it.Entity {
		var s rules.Scratch
		e = p.cfg.Rules.For(tool, env.Sensor(), &s).Explain(it)
	}
	if it.Extra != 0 {
		members := appendExtra(nil, it.Extra)
		if len(e.Adds) > 0 {
			members = append(append(members, ','), e.Adds[1:len(e.Adds)-1]...)
		}
		e.Adds = append(append([]byte{'{'}, members[1:]...), '}')
	}
	return e
}
