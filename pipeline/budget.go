package pipeline

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Budget bounds the bytes that may be in flight at once: bodies being read and
// records waiting to be stored. It is what keeps the memory of the process
// bounded when the store is slow or away. Each tool has a Share of it, and can
// hold half of it at most.
//
// Bodies may take three quarters, of the whole and of a share: the rest is left
// to the records that become of them, so that bodies that wait for room for
// their records do not keep each other from getting it.
//
// What a slow store takes is less than there is room for. So a request begins only
// while less is in flight than the pace, however much it needs itself: of its tool
// half of the pace at most, of all tools the whole. A tool that holds little begins
// whatever others have in flight, unless many do. Who has begun gets
// through by the limits alone.
//
// Where there is no room, or too much in flight to begin, a request waits: those of
// one tool in their order, tools in turn, records before bodies, and who has begun
// before who has not. How many may wait is bounded.
//
// Whatever was taken is given back by a Release of the same size. All methods
// may be called concurrently; only Begin, Body and Records block.
type Budget struct {
	limit  int64
	pace   atomic.Int64 // at most limit
	little atomic.Int64 // of used, what each tool holds that holds little, and as much of each that holds more
	used   atomic.Int64
	shares sync.Map // tool → *Share

	waiting atomic.Int64
	begun   atomic.Int64 // of those who wait, who have begun
	mu      sync.Mutex
	queued  []*Share // for which somebody waits; the first is the next
}

// Share is what one tool holds of a Budget.
type Share struct {
	budget *Budget
	tool   string
	used   atomic.Int64
	queues [kinds][]*waiter // guarded by the budget's lock
}

// kind says what bytes are for. Who asks for a lower one is served first.
type kind int

const (
	forRecords kind = iota
	forBody         // more of one
	toBegin         // the first of a body
	kinds
)

// waiter is a request that waits for room.
type waiter struct {
	bytes   int64
	granted chan struct{} // gets a token
}

// bytesPerWaiter is at how many bytes of the budget one request more may wait:
// about what a waiting request takes of memory itself.
const bytesPerWaiter = 64 << 10

// lightPart is which part of the pace a tool holds at most that holds little.
const lightPart = 64

// NewBudget returns a Budget of limit bytes.
func NewBudget(limit int64) *Budget {
	b := &Budget{limit: limit}
	b.pace.Store(limit)
	return b
}

// Share returns the share of a tool.
func (b *Budget) Share(tool string) *Share {
	if s, ok := b.shares.Load(tool); ok {
		return s.(*Share)
	}
	s, _ := b.shares.LoadOrStore(tool, &Share{budget: b, tool: tool})
	return s.(*Share)
}

// Reserve takes n bytes for nobody's share and reports whether there was room
// for all of them. Where there was not, nothing is taken.
func (b *Budget) Reserve(n int64) bool {
	return take(&b.used, n, b.limit)
}

func take(used *atomic.Int64, n, limit int64) bool {
	if used.Add(n) <= limit {
		return true
	}
	used.Add(-n)
	return false
}

// Release gives n bytes back.
func (b *Budget) Release(n int64) {
	if b.used.Add(-n) < 0 {
		panic("pipeline: budget released more than was reserved")
	}
	b.grant()
}

// grant gives to those who wait, if there are any.
func (b *Budget) grant() {
	if b.waiting.Load() > 0 {
		b.mu.Lock()
		b.grantLocked()
		b.mu.Unlock()
	}
}

// Used is the number of bytes reserved now.
func (b *Budget) Used() int64 { return b.used.Load() }

// Limit is the number of bytes that may be reserved.
func (b *Budget) Limit() int64 { return b.limit }

// Pace is the number of bytes in flight from which on no request begins.
func (b *Budget) Pace() int64 { return b.pace.Load() }

// SetPace sets the pace, and has those begin who may now. The Pipeline does so
// all the time.
func (b *Budget) SetPace(n int64) {
	b.pace.Store(n)
	little := int64(0)
	b.shares.Range(func(_, s any) bool {
		little += min(s.(*Share).used.Load(), n/lightPart)
		return true
	})
	b.little.Store(little)
	b.grant()
}

// Waiting is the number of requests that wait for room.
func (b *Budget) Waiting() int { return int(b.waiting.Load()) }

// Used is the number of bytes that the tool holds now.
func (s *Share) Used() int64 { return s.used.Load() }

// light tells whether the tool holds little.
func (s *Share) light() bool { return s.used.Load() <= s.budget.pace.Load()/lightPart }

// Begin takes n bytes for a body, the first of it. It waits so long for room and
// then reports false, as it does at once where too many wait.
func (s *Share) Begin(n int64, patience time.Duration) bool { return s.take(n, toBegin, patience) }

// Body takes n bytes more for a body that has begun, as Begin does.
func (s *Share) Body(n int64, patience time.Duration) bool { return s.take(n, forBody, patience) }

// Records takes n bytes for records, as Begin does.
func (s *Share) Records(n int64, patience time.Duration) bool {
	return s.take(n, forRecords, patience)
}

// Release gives n bytes back.
func (s *Share) Release(n int64) {
	if s.used.Add(-n) < 0 {
		panic("pipeline: a share released more than was reserved")
	}
	s.budget.Release(n)
}

func (s *Share) take(n int64, k kind, patience time.Duration) bool {
	b := s.budget
	before := &b.begun
	if k == toBegin {
		before = &b.waiting
	}
	if before.Load() == 0 && s.try(n, k) == hasRoom {
		return true
	}
	if patience <= 0 || n > shareOf(b.limit, k)/2 {
		return false
	}
	w := &waiter{bytes: n, granted: make(chan struct{}, 1)}
	if !s.enqueue(w, k) {
		return false
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-w.granted:
		return true
	case <-timer.C:
		return !s.leave(w, k)
	}
}

// room is what try finds.
type room int

const (
	hasRoom room = iota
	shareIsFull
	notBegun
	budgetIsFull
)

// shareOf is which part of a limit a kind may use.
func shareOf(limit int64, k kind) int64 {
	if k == forRecords {
		return limit
	}
	return limit / 4 * 3
}

// mayBegin tells whether the pace lets the tool begin another request, of n bytes.
func (s *Share) mayBegin(n int64) bool {
	b, held := s.budget, s.used.Load()
	pace := b.pace.Load()
	if b.used.Load() <= pace {
		return held <= pace/2
	}
	if !b.lightMayBegin() || held > pace/lightPart {
		return false
	}
	b.little.Add(min(n, pace/lightPart)) // until it is counted anew
	return true
}

// lightMayBegin tells whether a tool that holds little begins whatever others have
// in flight. What many tools hold, each of them little, is as much as a flood: they
// have half of the pace for that.
func (b *Budget) lightMayBegin() bool { return b.little.Load() <= b.pace.Load()/2 }

// try takes n bytes where there is room for them.
func (s *Share) try(n int64, k kind) room {
	if k == toBegin && !s.mayBegin(n) {
		return notBegun
	}
	limit := shareOf(s.budget.limit, k)
	if !take(&s.used, n, limit/2) {
		return shareIsFull
	}
	if !take(&s.budget.used, n, limit) {
		s.used.Add(-n)
		return budgetIsFull
	}
	return hasRoom
}

// enqueue has w wait, or get its bytes at once where nobody is before it. It
// reports false where too many wait.
func (s *Share) enqueue(w *waiter, k kind) bool {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	most := max(b.limit/bytesPerWaiter, 2)
	tooMany := b.waiting.Load() >= most || s.waiting() >= most/2
	// Counted before it is tried: a Release meanwhile either sees it or is seen.
	b.waiting.Add(1)
	if k != toBegin {
		b.begun.Add(1)
	}
	if s.waiting() == 0 {
		b.queued = append(b.queued, s)
	}
	s.queues[k] = append(s.queues[k], w)
	b.grantLocked()
	return !tooMany || !s.dropLocked(w, k)
}

// leave gives up the wait of w, and reports whether it had not been granted.
func (s *Share) leave(w *waiter, k kind) bool {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if !s.dropLocked(w, k) {
		<-w.granted
		return false
	}
	b.grantLocked() // who stood behind it may need less
	return true
}

// waiting is how many wait for the share. The caller holds the budget's lock.
func (s *Share) waiting() int64 {
	n := 0
	for _, queue := range s.queues {
		n += len(queue)
	}
	return int64(n)
}

// dropLocked takes w out of its queue, and reports whether it was there.
func (s *Share) dropLocked(w *waiter, k kind) bool {
	i := slices.Index(s.queues[k], w)
	if i < 0 {
		return false
	}
	s.queues[k] = slices.Delete(s.queues[k], i, i+1)
	s.leftLocked(k)
	return true
}

// leftLocked counts one that waits no longer.
func (s *Share) leftLocked(k kind) {
	b := s.budget
	b.waiting.Add(-1)
	if k != toBegin {
		b.begun.Add(-1)
	}
	if s.waiting() == 0 {
		b.queued = slices.DeleteFunc(b.queued, func(other *Share) bool { return other == s })
	}
}

// grantLocked gives to those who wait, one of each tool in turn. Who is kept
// waiting by the share of its tool, or by the pace, keeps no other tool waiting; who
// is by the whole does, so that what needs much is not overtaken for ever.
func (b *Budget) grantLocked() {
	for k := range kinds {
		for passed := 0; passed < len(b.queued); {
			if k == toBegin && !b.lightMayBegin() && b.used.Load() > b.pace.Load() {
				return // nobody may
			}
			s := b.queued[0]
			found := shareIsFull
			if len(s.queues[k]) > 0 {
				found = s.try(s.queues[k][0].bytes, k)
			}
			if found == budgetIsFull {
				return
			}
			b.queued = append(b.queued[1:], s)
			if found != hasRoom {
				passed++
				continue
			}
			passed = 0
			w := s.queues[k][0]
			s.queues[k] = s.queues[k][1:]
			s.leftLocked(k)
			w.granted <- struct{}{}
		}
	}
}
