package pipeline

import "sync"

// freeList keeps what is dear to make anew: a batch has megabytes, which must be
// faulted in and are copied several times while they grow. A sync.Pool would be
// emptied by the garbage collector every few hundred envelopes. Its methods may
// be called concurrently.
type freeList[T any] struct {
	fresh func() T

	mu    sync.Mutex
	free  []T
	least int // how many were in free all the time since the last trim
}

func (l *freeList[T]) get() T {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.free) - 1
	if n < 0 {
		return l.fresh()
	}
	v := l.free[n]
	clear(l.free[n:])
	l.free = l.free[:n]
	l.least = min(l.least, n)
	return v
}

func (l *freeList[T]) put(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, v)
}

// trim drops as many as were not needed since it was called last.
func (l *freeList[T]) trim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := copy(l.free, l.free[l.least:])
	clear(l.free[n:])
	l.free = l.free[:n]
	l.least = n
}
