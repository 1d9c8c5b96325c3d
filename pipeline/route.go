package pipeline

import (
	"fmt"
	"math/bits"
	"slices"

	"caliperedge/validate"
)

// The topics that take something by default. The topics of an installation are
// a closed set from its configuration, and these two are always part of it.
const (
	TopicStandard = "standard" // every conformant event
	TopicEntities = "entities" // entity describes
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

// router decides which topics take an item. It looks at nothing but the item
// and the tool, so the decision is the same in debug and for real.
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

// route returns the topics that take it: none where it does not conform.
func (r router) route(it *validate.Item) TopicSet {
	switch {
	case it.Faults != 0:
		return 0
	case it.Entity:
		return r.entities
	default:
		return r.standard
	}
}
