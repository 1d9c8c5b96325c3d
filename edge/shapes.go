package edge

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"caliperedge/validate"
)

const (
	// maxShapes bounds the shapes that are remembered of a tool. One that sends
	// more than that has no shapes to speak of.
	maxShapes = 1000
	// firstShapes events of a tool are all looked at and tell what it sends. Later
	// it is one in shapeEvery: a shape that is here to stay is found all the same.
	// See chosen.
	firstShapes = 256
	shapeEvery  = 16
)

// toolShapes notices when a tool starts to send events of a shape that it has not
// sent since the process began: another type, action, or set of members. The
// pipelines behind depend on events that look alike.
type toolShapes struct {
	events atomic.Uint64
	mu     sync.Mutex
	known  map[uint64]struct{}
}

// observeShapes looks at the conformant events of env.
func (t *toolMetrics) observeShapes(env *validate.Envelope, tool string, log *slog.Logger) {
	items := env.Items()
	for i := range items {
		it := &items[i]
		if it.Faults != 0 || it.Entity {
			continue
		}
		n := t.shapes.events.Add(1)
		if n > firstShapes && !chosen(n) || !t.shapes.isNew(it.Shape()) {
			continue
		}
		t.newShapes.Inc()
		if n > firstShapes { // before that they all are
			log.Info("a tool sends events of a shape not seen before; caliper-edge shapes shows them",
				"tool", tool, "type", it.Type, "action", it.Action)
		}
	}
}

// chosen picks one in shapeEvery of the numbers, and in the long run as many of those
// that are some number apart: envelopes of always the same events must not hide one
// of them. The factor is the golden ratio of 64 bits, of which the multiples lie
// evenly. A place in envelopes of up to a hundred events comes up within some 150 of
// them, one in envelopes of thousands may take some ten thousand.
func chosen(n uint64) bool { return n*0x9e3779b97f4a7c15 < 1<<64/shapeEvery }

// isNew remembers a shape and reports whether it was not known.
func (s *toolShapes) isNew(shape uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.known[shape]; known || len(s.known) == maxShapes {
		return false
	}
	if s.known == nil {
		s.known = make(map[uint64]struct{})
	}
	s.known[shape] = struct{}{}
	return true
}
