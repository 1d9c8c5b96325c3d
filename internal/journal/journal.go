// Package journal keeps what is logged, for tests.
package journal

import (
	"bytes"
	"log/slog"
	"sync"
)

// Journal is a log that may be read while it is written. Its zero value is empty.
type Journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Logger logs into j, as text.
func (j *Journal) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// Write appends p.
func (j *Journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// String is all that was written.
func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}
