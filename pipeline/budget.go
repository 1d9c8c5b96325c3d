package pipeline

import "sync/atomic"

// Budget bounds the bytes that may be in flight at once: bodies being read and
// records waiting to be stored. It is what keeps the memory of the process
// bounded when the store is slow or away.
//
// Every Reserve that returned true is paired with a Release of the same size.
// All methods may be called concurrently; none blocks.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a Budget of limit bytes.
func NewBudget(limit int64) *Budget {
	return &Budget{limit: limit}
}

// Reserve takes n bytes and reports whether there was room for all of them.
// Where there was not, nothing is taken.
func (b *Budget) Reserve(n int64) bool {
	if b.used.Add(n) <= b.limit {
		return true
	}
	b.used.Add(-n)
	return false
}

// Release gives n bytes back.
func (b *Budget) Release(n int64) {
	if b.used.Add(-n) < 0 {
		panic("pipeline: budget released more than was reserved")
	}
}

// Used is the number of bytes reserved now.
func (b *Budget) Used() int64 { return b.used.Load() }

// Limit is the number of bytes that may be reserved.
func (b *Budget) Limit() int64 { return b.limit }
