package pipeline

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"caliperedge/validate"
)

// Receipt follows one envelope through the pipeline: Route decides where its
// items go and how large their records are, Submit hands them in, Wait blocks
// until every record is settled, Parts tells where they are.
//
// A Receipt belongs to the goroutine that got it from Route until Release.
type Receipt struct {
	p        *Pipeline
	env      *validate.Envelope
	head     recordHead
	routes   []TopicSet
	share    []topicShare // by place of the topic
	notes    annotations
	bytes    int64 // of all records
	held     int64 // taken from the budget for routes and notes
	deadline time.Time

	submitted bool
	settled   bool          // Wait was ended by the last settlement
	pending   atomic.Int32  // settlements to come, and one for Submit itself
	round     atomic.Uint64 // odd from Submit until the last settlement, or the deadline, ends the wait
	late      bool          // the deadline did
	done      chan struct{} // gets a token when the wait ends

	mu      sync.Mutex // guards what workers write
	parts   []Part
	err     error
	unclear bool // of a part nobody knows whether it is stored
}

// topicShare is what of an envelope goes to one topic.
type topicShare struct {
	bytes   int
	records int
}

// Part is one message that holds records of the envelope.
type Part struct {
	// Topic is the topic's name.
	Topic string
	// Sequence is the message's sequence number in the topic's stream, 0 where it
	// has none yet.
	Sequence uint64
	// Level is what the acknowledgement survives.
	Level Level

	place int
}

// Routes returns for each item of data, in order, the topics that take it. The
// slice is valid until Release.
func (r *Receipt) Routes() []TopicSet { return r.routes }

// Parts returns where the records are, ordered by topic and sequence, after a
// Wait without an error. The slice is valid until Release.
func (r *Receipt) Parts() []Part { return r.parts }

// Level returns the weakest level of the parts: what all of the envelope
// survives.
func (r *Receipt) Level() Level {
	level := r.parts[0].Level
	for _, p := range r.parts[1:] {
		level = level.Weaker(p.Level)
	}
	return level
}

// Wait blocks until every record is settled, at the latest until the deadline
// given to Submit, or a few hundredths of a second before it. It returns nil if
// all of them are stored. Otherwise nothing of the envelope may be reported as
// accepted. ErrUnacknowledged means that nobody knows of at least one message
// whether it is stored; ErrStoreFull, ErrRefused and ErrUnavailable that at
// least one is not. Others of an envelope that needed several messages may be
// stored whatever the error.
func (r *Receipt) Wait() error {
	<-r.done
	if r.late {
		return ErrUnacknowledged
	}
	r.settled = true
	sortParts(r.parts)
	return r.err
}

// Unclear tells, after a Wait with an error, whether records of the envelope
// may be stored all the same: because nobody knows, or because others of its
// messages are.
func (r *Receipt) Unclear() bool { return r.late || r.unclear || len(r.parts) > 0 }

// end ends the wait of a round, and reports whether nothing else had ended it
// before.
func (r *Receipt) end(round uint64) bool {
	return round%2 == 1 && r.round.CompareAndSwap(round, round+1)
}

// expire ends the wait of a round that is still on at its deadline.
func (r *Receipt) expire(round uint64) {
	if r.end(round) {
		r.p.metrics.late.Inc()
		r.late = true
		r.done <- struct{}{}
	}
}

// Release gives r back. Nothing of it may be used afterwards. A receipt whose
// settlement nobody saw, because Wait met its deadline, is left to its workers:
// reused, it would hand a late settlement to another envelope.
func (r *Receipt) Release() {
	if r.submitted && !r.settled {
		return
	}
	r.submitted, r.settled, r.unclear = false, false, false
	r.env, r.err = nil, nil
	r.head = recordHead{}
	r.parts = r.parts[:0]
	r.notes.reset()
	if cap(r.routes) > maxPooledRoutes {
		r.routes = nil
	}
	r.p.receipts.Put(r)
}

// maxPooledRoutes bounds what a pooled receipt keeps.
const maxPooledRoutes = 4096

// expect announces n further settlements.
func (r *Receipt) expect(n int32) { r.pending.Add(n) }

// settle ends one expectation: with the part that is stored, or with err.
func (r *Receipt) settle(part Part, err error) {
	r.mu.Lock()
	if err == nil {
		r.parts = append(r.parts, part)
	} else {
		r.unclear = r.unclear || errors.Is(err, ErrUnacknowledged)
		if r.err == nil {
			r.err = err
		}
	}
	r.mu.Unlock()
	r.finish()
}

// finish ends an expectation that brought no part.
func (r *Receipt) finish() {
	switch n := r.pending.Add(-1); {
	case n == 0:
		r.p.budget.Release(r.held)
		if r.end(r.round.Load()) {
			r.done <- struct{}{}
		}
	case n < 0:
		panic("pipeline: receipt settled twice")
	}
}

// sortParts orders a handful of parts without allocating.
func sortParts(parts []Part) {
	for i := 1; i < len(parts); i++ {
		for j := i; j > 0 && before(&parts[j], &parts[j-1]); j-- {
			parts[j], parts[j-1] = parts[j-1], parts[j]
		}
	}
}

func before(a, b *Part) bool {
	if a.place != b.place {
		return a.place < b.place
	}
	return a.Sequence < b.Sequence
}

// AppendRecord appends the record of item i for the topic at that place, as
// Submit would, with further members: valid JSON, each with a comma before it.
// It is for who stores records without a Pipeline.
func (r *Receipt) AppendRecord(dst []byte, i, place int, more []byte) []byte {
	more = append(slices.Clone(r.notes.of(i)), more...)
	return appendRecord(dst, &r.head, &r.env.Items()[i], more, r.p.topics[place].name)
}
