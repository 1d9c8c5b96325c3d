package pipeline

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"caliperedge/internal/resident"
	"caliperedge/validate"
)

// window remembers which events were stored, so that one that is sent again is
// not stored again. An event is its tool, its id as sent and its bytes; of an
// entity describe the bytes are part of the id, so that it is the same only
// where it is byte-identical.
//
// An event is known by 96 random bits for (tool, id) and 64 for its bytes, of
// keyed hashes whose keys are drawn anew in each process. Two events are taken
// for one only where all 160 agree: with two million in the window the odds of
// that are 2^-139 for each event that is sent. Of 2^-75 are those of a mark
// "conflict" that is wrong.
//
// What is in flight stands in the window as pending. Who sends the same
// meanwhile waits, and shares its fate: only what is durable is known.
//
// The window is a ring for each shard, with an index of open addressing, and is
// allocated once. No call allocates unless one waits for another.
type window struct {
	age    time.Duration
	base   time.Time // zero of its clock, which only goes forward
	seeds  [4]maphash.Seed
	shards []windowShard
	topics []string

	waiting atomic.Int64 // waits for events in flight
	since   atomic.Int64 // clock: what was stored before may be unknown
}

// windowShard has a part of the window. Positions count for ever; position p
// is at ring[p % len(ring)].
type windowShard struct {
	mu           sync.Mutex
	ring         []seen
	oldest, next uint64
	index        []atomic.Uint64 // the upper half is a seen's key2, the lower its place in ring and 1
	forgotten    uint32          // when the last one was stored that had to leave before its time
	waits        []wait
	_            [24]byte // the next shard is on another cache line
}

// seen is an event in the window.
type seen struct {
	key     uint64
	key2    uint32
	at      uint32 // when it came, in seconds
	content uint64
	where   uint64 // see below
}

// The parts of seen.where: its state, for a pending one how many topics have yet
// to tell and whether one has failed, and the message that holds it. One that is
// neither pending nor stored is known in part: a topic has failed, and another,
// which is told, has it. Of one that was read back from the store (whereTold) it is
// told instead how many topics were seen to have it: others may have failed.
const (
	wherePending   = 1 << 63
	whereStored    = 1 << 62
	whereFailed    = 1 << 61
	whereTold      = whereStored | whereFailed
	whereLeft      = 54 // 7 bits
	wherePlace     = 48 // 6 bits
	sequenceMask   = 1<<wherePlace - 1
	whereLeftMask  = 127 << whereLeft
	wherePlaceMask = 63 << wherePlace
)

// wait is a receipt that waits for an event in flight.
type wait struct {
	position uint64
	receipt  *Receipt
	use      uint64
	by       time.Time
}

// TextConflict is the member, with the comma before it, that marks the record of
// an event whose id is known with another content.
const TextConflict = `,"conflict":true`

// imprint is what an event is known by.
type imprint struct {
	key     uint64
	key2    uint32
	content uint64
}

const (
	// maxShards bounds the shards, and minShardIDs says when there are fewer.
	maxShards, minShardIDs = 32, 1 << 12
	// maxVersions is how many events of the same id and other content are known
	// at once: more would make a chain that every look has to follow.
	maxVersions = 8
	// duplicateBytes is what a duplicate holds of memory while it waits, at most.
	duplicateBytes = int64(unsafe.Sizeof(wait{}) + unsafe.Sizeof(Part{}) + unsafe.Sizeof(TopicSet(0)))
	// firstPosition leaves room for what is remembered later and is older.
	firstPosition = 1 << 8
)

// newWindow returns a window of so many ids and such an age. With none of one
// of them there is no window, and it returns nil.
func newWindow(ids int, age time.Duration, topics []string) *window {
	if ids == 0 || age == 0 {
		return nil
	}
	shards := 1
	for shards < maxShards && ids/(2*shards) >= minShardIDs {
		shards *= 2
	}
	each := (ids + shards - 1) / shards
	w := &window{age: age, base: time.Now().Add(-age), shards: make([]windowShard, shards), topics: topics}
	for i := range w.seeds {
		w.seeds[i] = maphash.MakeSeed()
	}
	slots := each + each/2 + 1
	rings, indexes := make([]seen, shards*each), make([]atomic.Uint64, shards*slots)
	resident.Slice(rings)
	resident.Slice(indexes)
	for i := range w.shards {
		s := &w.shards[i]
		s.ring, rings = rings[:each:each], rings[each:]
		s.index, indexes = indexes[:slots:slots], indexes[slots:]
		s.oldest = uint64(each) * firstPosition
		s.next = s.oldest
	}
	w.since.Store(int64(w.clock(time.Now())))
	return w
}

// bytes is the memory that w has allocated.
func (w *window) bytes() int {
	s := &w.shards[0]
	return len(w.shards) * (len(s.ring)*int(unsafe.Sizeof(seen{})) + len(s.index)*8)
}

// limit is how many ids w can hold.
func (w *window) limit() int { return len(w.shards) * len(w.shards[0].ring) }

// clock is now in seconds since the base.
func (w *window) clock(now time.Time) uint32 { return uint32(now.Sub(w.base) / time.Second) }

// lived tells whether what came at that time is too old to be known.
func (w *window) lived(at, now uint32) bool {
	return now > at && time.Duration(now-at)*time.Second > w.age
}

// tool is the part of the imprints that all events of a tool share.
func (w *window) tool(name string) uint64 { return maphash.String(w.seeds[0], name) }

// imprint returns what an event is known by: of its id, a JSON string literal, and
// its bytes, both as they stand in a record.
func (w *window) imprint(tool uint64, entity bool, id, event []byte) imprint {
	p := imprint{
		key:     maphash.Bytes(w.seeds[1], id) ^ tool,
		key2:    uint32(maphash.Bytes(w.seeds[2], id) ^ bits.RotateLeft64(tool, 32)),
		content: maphash.Bytes(w.seeds[3], event),
	}
	if entity {
		p.key ^= bits.RotateLeft64(p.content, 16)
		p.key2 ^= uint32(p.content)
	}
	return p
}

// imprintItem returns the imprint of item i of r's envelope, whose tool's part is
// tool.
func (w *window) imprintItem(r *Receipt, tool uint64, it *validate.Item) imprint {
	id, event := it.ID, it.Raw
	if r.head.lineBreaks || r.head.loneSurrogates { // what a record has in their place is what counts
		r.scratch = append(append(r.scratch[:0], id...), event...)
		id, event = r.scratch[:len(id)], r.scratch[len(id):]
		blankLineBreaks(event)
		if r.head.loneSurrogates {
			validate.RepairSurrogates(r.scratch)
		}
	}
	return w.imprint(tool, it.Entity, id, event)
}

func (w *window) shard(p imprint) (*windowShard, int) {
	i := int(p.key % uint64(len(w.shards)))
	return &w.shards[i], i
}

// look is what one Submit sees of the window.
type look struct {
	w      *window
	r      *Receipt
	tool   uint64
	now    uint32
	first  imprint // of the first item that conforms
	joined bool    // everything that was claimed will be settled
	read   uint64  // so that what prepare reads is not left out
}

// known tells whether all conformant items of the envelope are stored, and adds
// where to its receipt. Where the first is not, that is one look.
func (l *look) known(now time.Time) bool {
	if l.w == nil {
		return false
	}
	w, r := l.w, l.r
	l.tool, l.now = w.tool(r.head.tool), w.clock(now)
	items := r.env.Items()
	for i, set := range r.routes {
		if set == 0 {
			continue
		}
		p := w.imprintItem(r, l.tool, &items[i])
		if r.duplicates == 0 {
			l.first = p
		}
		where := w.stored(p, l.now)
		if where == 0 || !whole(where, set) {
			r.duplicates, r.parts = 0, r.parts[:0]
			return false
		}
		r.duplicates++
		r.know(w.part(where))
	}
	return r.duplicates > 0
}

// claim has each conformant item claimed or found: what is found is no longer to
// be stored, and what is in conflict says so in its record.
func (l *look) claim() {
	if l.w == nil {
		return
	}
	w, r := l.w, l.r
	r.claims = slices.Grow(r.claims[:0], len(r.routes))[:len(r.routes)]
	clear(r.claims)
	l.prepare()
	next := 0
	for i, set := range r.routes {
		if set == 0 {
			continue
		}
		f, claim, where := w.find(r.imprints[next], set, r, l.now)
		next++
		r.claims[i] = claim
		if where != 0 {
			r.know(w.part(where))
		}
		switch {
		case f == foundStored, f == foundInFlight:
			r.skip(i)
			continue
		case f == foundConflict:
			r.conflict(i)
		}
		if where != 0 {
			r.skipTopic(i, w.part(where).place)
		}
	}
}

// prepare makes the imprints of the conformant items, and reads where the search
// for each begins. Those places are far apart in memory: read one after the
// other, without a lock in between, they arrive together.
func (l *look) prepare() {
	w, r, items := l.w, l.r, l.r.env.Items()
	r.imprints = append(r.imprints[:0], l.first)
	begun := false
	for i, set := range r.routes {
		if set != 0 && begun {
			r.imprints = append(r.imprints, w.imprintItem(r, l.tool, &items[i]))
		}
		begun = begun || set != 0
	}
	for _, p := range r.imprints {
		s, _ := w.shard(p)
		l.read += s.index[s.home(p.key2)].Load()
	}
}

// end gives up the claims where a panic came before all had joined.
func (l *look) end() {
	if l.w == nil || l.joined {
		return
	}
	for i, claim := range l.r.claims {
		for range bits.OnesCount64(uint64(l.r.todo[i])) { // as many have to tell, or one less
			l.w.settle(claim, Part{}, ErrUnacknowledged)
		}
	}
}

// stored is where the event of p is stored, or 0.
func (w *window) stored(p imprint, now uint32) uint64 {
	s, _ := w.shard(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := s.home(p.key2); s.index[i].Load() != 0; i = s.after(i) {
		if e := s.at(i, p); e != nil && e.content == p.content && e.where&whereStored != 0 && !w.lived(e.at, now) {
			return e.where
		}
	}
	return 0
}

func (w *window) part(where uint64) Part {
	place := int(where & wherePlaceMask >> wherePlace)
	return Part{Topic: w.topics[place], Sequence: where & sequenceMask, place: place, duplicate: true}
}

// found is what find finds.
type found int

const (
	foundNothing  found = iota
	foundConflict       // the id, with another content
	foundStored         // the event
	foundInFlight       // the event, and r now waits for it
)

// find looks for the event of p, which those topics take. Where it is not there it
// is pending from now on, until all of them have settled it under the returned
// claim, which is 0 where there was no room. where is of an event that is stored;
// with a claim one of the topics has it, and the others alone are to settle it.
func (w *window) find(p imprint, topics TopicSet, r *Receipt, now uint32) (f found, claim, where uint64) {
	s, number := w.shard(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	versions, first := 0, (*seen)(nil) // the first of those that are not in flight
	part, position := (*seen)(nil), uint64(0)
	for i := s.home(p.key2); s.index[i].Load() != 0; i = s.after(i) {
		e := s.at(i, p)
		switch {
		case e == nil || e.where&wherePending == 0 && w.lived(e.at, now):
			continue
		case e.content != p.content:
			f = foundConflict
			versions++
			if e.where&wherePending == 0 && (first == nil || e.at < first.at) {
				first = e
			}
		case e.where&whereStored != 0 && whole(e.where, topics):
			return foundStored, 0, e.where
		case e.where&wherePending == 0:
			part, position = e, s.position(s.index[i].Load())
		default:
			r.expect(1)
			s.waits = append(s.waits, wait{s.position(s.index[i].Load()), r, r.use.Load(), r.deadline})
			w.waiting.Add(1)
			return foundInFlight, 0, 0
		}
	}
	if part != nil {
		if where = part.goOn(topics); where != 0 && part.where&whereStored != 0 {
			return foundStored, 0, where
		}
		return f, position*maxShards | uint64(number), where
	}
	if versions >= maxVersions {
		if first == nil {
			return f, 0, 0
		}
		s.remove(first)
	}
	if !s.room(w, now) {
		return f, 0, 0
	}
	position = s.next
	s.next++
	s.insert(position, seen{p.key, p.key2, now, p.content, wherePending | countOf(topics)<<whereLeft})
	return f, position*maxShards | uint64(number), 0
}

// whole tells whether each of the topics has an event that is stored. What was read
// back has each where as many were seen to have it.
func whole(where uint64, topics TopicSet) bool {
	return where&whereFailed == 0 || where&whereLeftMask>>whereLeft >= countOf(topics)
}

func countOf(topics TopicSet) uint64 { return uint64(bits.OnesCount64(uint64(topics))) }

// goOn makes an event that is known in part pending again, or stored where no other
// topic takes it. It returns where it is, 0 where none of the topics has it.
func (e *seen) goOn(topics TopicSet) (where uint64) {
	has := TopicSet(1) << (e.where & wherePlaceMask >> wherePlace)
	at := e.where & (wherePlaceMask | sequenceMask)
	switch {
	case topics&has == 0:
		e.where = wherePending | countOf(topics)<<whereLeft
		return 0
	case topics == has:
		e.where = at | whereStored
	default:
		e.where = at | wherePending | countOf(topics&^has)<<whereLeft
	}
	return e.where
}

// settle tells that one topic has stored the event of a claim, as part of that
// message, or has not, for which err is the error of its envelope.
func (w *window) settle(claim uint64, part Part, err error) {
	if claim == 0 {
		return
	}
	s := &w.shards[claim%maxShards]
	position := claim / maxShards
	s.mu.Lock()
	e := s.pending(position)
	if e == nil {
		s.mu.Unlock()
		return
	}
	switch first := e.where&sequenceMask == 0; {
	case err != nil:
		e.where |= whereFailed
	case first || part.place < w.part(e.where).place: // copies are in the topics behind
		e.where = e.where&^(sequenceMask|wherePlaceMask) | part.Sequence&sequenceMask | uint64(part.place)<<wherePlace
	}
	e.where -= 1 << whereLeft
	if e.where&whereLeftMask != 0 {
		s.mu.Unlock()
		return
	}
	if e.where&whereFailed != 0 {
		if err == nil {
			err = ErrUnacknowledged // another topic has failed
		}
		e.where &^= wherePending
		if e.where&sequenceMask == 0 { // no topic has it, as far as is known
			s.remove(e)
		}
	} else {
		e.where = e.where&^wherePending | whereStored
		part = w.part(e.where)
	}
	waits := s.takeWaits(position)
	s.mu.Unlock()
	w.waiting.Add(-int64(len(waits)))
	for _, wait := range waits {
		wait.receipt.settle(nil, part, err)
	}
}

// takeWaits removes the waits for a position.
func (s *windowShard) takeWaits(position uint64) (taken []wait) {
	if len(s.waits) == 0 {
		return nil
	}
	s.waits = slices.DeleteFunc(s.waits, func(w wait) bool {
		if w.position == position {
			taken = append(taken, w)
		}
		return w.position == position
	})
	return taken
}

// expire ends the waits that were to end before t. Their receipts are settled
// all the same, later.
func (w *window) expire(t time.Time) {
	if w == nil || w.waiting.Load() == 0 {
		return
	}
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for _, wait := range s.waits {
			if wait.by.Before(t) {
				wait.receipt.expire(wait.use)
			}
		}
		s.mu.Unlock()
	}
}

// remember adds an event that was stored before this process began, so long ago.
// It returns false where the window holds as much as it can.
func (w *window) remember(p imprint, place int, sequence uint64, ago time.Duration) bool {
	s, _ := w.shard(p)
	at := w.clock(time.Now().Add(-min(max(ago, 0), w.age)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next-s.oldest == uint64(len(s.ring)) {
		return false
	}
	for i := s.home(p.key2); s.index[i].Load() != 0; i = s.after(i) {
		if e := s.at(i, p); e != nil && e.content == p.content {
			e.told(place, sequence)
			return true // known, or in flight again
		}
	}
	s.oldest--
	s.insert(s.oldest, seen{p.key, p.key2, at, p.content, whereTold | 1<<whereLeft | sequence&sequenceMask | uint64(place)<<wherePlace})
	return true
}

// told notes that another topic was seen to have an event that was read back.
func (e *seen) told(place int, sequence uint64) {
	known := int(e.where & wherePlaceMask >> wherePlace)
	if e.where&whereTold != whereTold || place == known {
		return
	}
	e.where += 1 << whereLeft
	if place < known { // copies are in the topics behind
		e.where = e.where&^(sequenceMask|wherePlaceMask) | sequence&sequenceMask | uint64(place)<<wherePlace
	}
}

// held tells how many ids w knows, and for how long back it knows all.
func (w *window) held() (ids int, back time.Duration) {
	now := w.clock(time.Now())
	since := uint32(w.since.Load())
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		ids += int(s.next - s.oldest)
		since = max(since, s.forgotten)
		s.mu.Unlock()
	}
	return ids, min(time.Duration(now-since)*time.Second, w.age)
}

// room makes room for one more, and reports whether there is: not where the
// oldest is in flight.
func (s *windowShard) room(w *window, now uint32) bool {
	for range 4 { // the old ones go a few at a time
		full := s.next-s.oldest == uint64(len(s.ring))
		if s.oldest == s.next {
			return true
		}
		e := &s.ring[s.oldest%uint64(len(s.ring))]
		old := w.lived(e.at, now)
		switch {
		case !full && !old:
			return true
		case e.where&wherePending != 0:
			return !full
		}
		if e.where != 0 {
			if e.where&whereStored != 0 && !old {
				s.forgotten = max(s.forgotten, e.at+1)
			}
			s.remove(e)
		}
		s.oldest++
	}
	return true
}

// home is where in the index the search for key2 begins.
func (s *windowShard) home(key2 uint32) int {
	return int(uint64(key2) * uint64(len(s.index)) >> 32)
}

func (s *windowShard) after(i int) int {
	if i++; i == len(s.index) {
		return 0
	}
	return i
}

// at is the seen of slot i where it has the key of p, else nil.
func (s *windowShard) at(i int, p imprint) *seen {
	slot := s.index[i].Load()
	if uint32(slot>>32) != p.key2 {
		return nil
	}
	if e := &s.ring[uint32(slot)-1]; e.key == p.key {
		return e
	}
	return nil
}

// pending is the seen at a position where that is still in flight, else nil.
func (s *windowShard) pending(position uint64) *seen {
	if position < s.oldest || position >= s.next {
		return nil
	}
	if e := &s.ring[position%uint64(len(s.ring))]; e.where&wherePending != 0 {
		return e
	}
	return nil
}

// position is that of a slot's seen.
func (s *windowShard) position(slot uint64) uint64 {
	n := uint64(len(s.ring))
	place := uint64(uint32(slot) - 1)
	return s.oldest + (place+n-s.oldest%n)%n
}

func (s *windowShard) insert(position uint64, e seen) {
	place := position % uint64(len(s.ring))
	s.ring[place] = e
	i := s.home(e.key2)
	for s.index[i].Load() != 0 {
		i = s.after(i)
	}
	s.index[i].Store(uint64(e.key2)<<32 | (place + 1))
}

// remove makes e nobody's: it leaves the index at once and the ring in its turn.
func (s *windowShard) remove(e *seen) {
	i := s.home(e.key2)
	for slot := s.index[i].Load(); slot == 0 || &s.ring[uint32(slot)-1] != e; slot = s.index[i].Load() {
		i = s.after(i)
	}
	e.where = 0
	// Those behind it move up where the gap would end the search for them.
	n := len(s.index)
	for j := s.after(i); ; j = s.after(j) {
		slot := s.index[j].Load()
		if slot == 0 {
			break
		}
		home := s.home(uint32(slot >> 32))
		if (j-home+n)%n >= (j-i+n)%n {
			s.index[i].Store(slot)
			i = j
		}
	}
	s.index[i].Store(0)
}
