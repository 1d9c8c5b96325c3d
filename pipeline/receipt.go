package pipeline

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"caliperedge/pipeline/rules"
	"caliperedge/validate"
)

// Receipt follows one envelope through the pipeline: Route decides where its
// items go and how large their records are, Submit hands them in, Wait blocks
// until every record is settled, Parts tells where they are.
//
// A Receipt belongs to the goroutine that got it from Route until Release.
type Receipt struct {
	p        *Pipeline
	room     *Share // of the budget: its tool's
	env      *validate.Envelope
	head     recordHead
	routes   []TopicSet
	todo     []TopicSet   // routes less what is stored already: what Submit appends
	share    []topicShare // by place of the topic, of what is to be stored
	notes    annotations
	ruling   rules.Scratch
	bytes    int64 // of all records
	held     int64 // taken from the budget for what the receipt itself keeps
	deadline time.Time

	claims                []uint64 // by item, of the window for duplicates; or none
	imprints              []imprint
	spare                 []TopicSet
	scratch               []byte
	duplicates, conflicts int
	skipped               int // records that are stored already, or by another envelope
	mismatches            int // events that spoke as another tool

	submitted bool
	settled   bool          // Wait was ended by the last settlement
	pending   atomic.Int32  // settlements to come, and one for Submit itself
	use       atomic.Uint64 // odd from Submit until the last settlement, or the deadline, ends the wait
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
	joined  int // of the records
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

	place     int
	duplicate bool // stored before, or by another envelope
}

// begin starts a use, which Submit itself has to finish, so that nothing
// settles before all has joined.
func (r *Receipt) begin(deadline time.Time) {
	r.deadline, r.held = deadline, 0
	r.submitted = true
	r.use.Add(1)
	r.expect(1)
}

// keepBytes is what r keeps of memory while it waits: routes and notes, and with
// a window for duplicates the claims and, until they are made, the marks that
// records may still get.
func (r *Receipt) keepBytes() int64 {
	n := int64(len(r.routes))*int64(unsafe.Sizeof(TopicSet(0))) + r.notes.bytes()
	if r.p.window == nil {
		return n
	}
	n += int64(len(r.routes)) * int64(unsafe.Sizeof(uint64(0)))
	if len(r.claims) == 0 {
		for _, share := range r.share {
			n += int64(share.records * len(TextConflict))
		}
	}
	return n + int64(max(r.duplicates, r.skipped))*duplicateBytes
}

// topics counts those in which something of r is to be stored.
func (r *Receipt) topics() (n int) {
	for _, share := range r.share {
		if share.records > 0 {
			n++
		}
	}
	return n
}

// conflict marks item i as one whose id stands for another event as well. A
// record that has no room for the mark is stored without.
func (r *Receipt) conflict(i int) {
	r.conflicts++
	for place := range r.routes[i].All {
		if r.recordBytes(i, place)-len("\n")+len(TextConflict) > MaxRecordBytes {
			return
		}
	}
	r.annotate(i, []byte(TextConflict))
}

// skip leaves item i out of what is to be stored.
func (r *Receipt) skip(i int) {
	r.duplicates++
	for place := range r.routes[i].All {
		r.skipTopic(i, place)
	}
}

// skipTopic leaves the record of item i for one topic out of what is to be stored.
func (r *Receipt) skipTopic(i, place int) {
	if r.skipped == 0 { // todo is routes itself until now
		r.spare = append(r.spare[:0], r.routes...)
		r.todo = r.spare
	}
	r.skipped++
	r.todo[i] &^= 1 << place
	n := r.recordBytes(i, place)
	r.share[place].bytes -= n
	r.share[place].records--
	r.bytes -= int64(n)
}

// recordBytes is the size of the record of item i for a topic.
func (r *Receipt) recordBytes(i, place int) int {
	return recordBytes(&r.head, &r.env.Items()[i], r.notes.of(i), r.p.topics[place].name)
}

// know adds the message that holds an event which is stored already.
func (r *Receipt) know(part Part) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.parts); n == 0 || r.parts[n-1] != part {
		r.parts = append(r.parts, part)
	}
}

// Duplicates is how many of the accepted items had been stored before, or by
// another envelope at the same time. Conflicts is how many others have the id of
// an event with another content.
func (r *Receipt) Duplicates() int { return r.duplicates }

// Conflicts: see Duplicates.
func (r *Receipt) Conflicts() int { return r.conflicts }

// Routes returns for each item of data, in order, the topics that take it. The
// slice is valid until Release.
func (r *Receipt) Routes() []TopicSet { return r.routes }

// Mismatches is how many events spoke as another tool than the one that sent
// them.
func (r *Receipt) Mismatches() int { return r.mismatches }

// Parts returns where the records are, ordered by topic and sequence, after a
// Wait without an error. The slice is valid until Release.
func (r *Receipt) Parts() []Part { return r.parts }

// Level returns the weakest level of the parts: what all that was stored of the
// envelope survives. It is empty where everything was a duplicate.
func (r *Receipt) Level() Level {
	level := Level("")
	for _, p := range r.parts {
		switch {
		case p.duplicate:
		case level == "":
			level = p.Level
		default:
			level = level.Weaker(p.Level)
		}
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
	r.parts = sortParts(r.parts)
	return r.err
}

// Unclear tells, after a Wait with an error, whether records of the envelope
// may be stored all the same: because nobody knows, or because others of its
// messages are.
func (r *Receipt) Unclear() bool {
	return r.late || r.unclear || slices.ContainsFunc(r.parts, func(p Part) bool { return !p.duplicate })
}

// end ends the wait of a use, and reports whether nothing else had ended it
// before.
func (r *Receipt) end(use uint64) bool {
	return use%2 == 1 && r.use.CompareAndSwap(use, use+1)
}

// expire ends the wait of a use that is still on at its deadline.
func (r *Receipt) expire(use uint64) {
	if r.end(use) {
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
	r.claims = r.claims[:0]
	r.duplicates, r.conflicts, r.skipped = 0, 0, 0
	r.ruling.Clear()
	if cap(r.routes) > maxPooledRoutes {
		r.routes, r.spare, r.claims, r.imprints = nil, nil, nil, nil
	}
	if cap(r.scratch) > maxPooledText {
		r.scratch = nil
	}
	if cap(r.parts) > maxPooledRoutes {
		r.parts = nil
	}
	r.p.receipts.Put(r)
}

// maxPooledRoutes bounds what a pooled receipt keeps.
const maxPooledRoutes = 4096

// expect announces n further settlements.
func (r *Receipt) expect(n int32) { r.pending.Add(n) }

// settle ends one expectation: with the part that is stored, or with err. e is
// the entry whose records the part holds, nil where they are another envelope's.
func (r *Receipt) settle(e *entry, part Part, err error) {
	r.mu.Lock()
	if err == nil {
		r.parts = append(r.parts, part)
	} else {
		r.unclear = r.unclear || errors.Is(err, ErrUnacknowledged)
		if r.err == nil {
			r.err = err
		}
		err = r.err
	}
	r.mu.Unlock()
	if e != nil && len(r.claims) > 0 {
		r.settleClaims(e, part, err)
	}
	r.finish()
}

// finish ends an expectation that brought no part.
func (r *Receipt) finish() {
	switch n := r.pending.Add(-1); {
	case n == 0:
		r.room.Release(r.held)
		if r.end(r.use.Load()) {
			r.done <- struct{}{}
		}
	case n < 0:
		panic("pipeline: receipt settled twice")
	}
}

// settleClaims tells the window for duplicates what became of the items whose
// records e has.
func (r *Receipt) settleClaims(e *entry, part Part, err error) {
	n := 0 // records for the part's topic
	for i, set := range r.todo {
		if set&(1<<part.place) == 0 {
			continue
		}
		if n++; n > e.first {
			r.p.window.settle(r.claims[i], part, err)
		}
		if n == e.first+e.records {
			return
		}
	}
}

// sortParts orders parts without allocating, and keeps one of those that are of
// the same message: one that this envelope has stored itself, where there is one.
func sortParts(parts []Part) []Part {
	slices.SortFunc(parts, func(a, b Part) int {
		switch {
		case a.place != b.place:
			return cmp.Compare(a.place, b.place)
		case a.Sequence != b.Sequence || a.duplicate == b.duplicate:
			return cmp.Compare(a.Sequence, b.Sequence)
		case b.duplicate:
			return -1
		}
		return 1
	})
	return slices.CompactFunc(parts, func(a, b Part) bool { return a.place == b.place && a.Sequence == b.Sequence })
}

// AppendRecord appends the record of item i for the topic at that place, as
// Submit would, with further members: valid JSON, each with a comma before it.
// It is for who stores records without a Pipeline.
func (r *Receipt) AppendRecord(dst []byte, i, place int, more []byte) []byte {
	more = append(slices.Clone(r.notes.of(i)), more...)
	return appendRecord(dst, &r.head, &r.env.Items()[i], more, r.p.topics[place].name)
}
