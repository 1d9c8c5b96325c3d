package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"
)

// load posts events from several senders until it is stopped, and keeps the
// ids of those that were acknowledged.
type load struct {
	quit    chan struct{}
	senders sync.WaitGroup

	mu       sync.Mutex
	acked    []string
	refusals []string // answers that are no 2xx
}

func (s *server) load(name string, senders int) *load {
	l := &load{quit: make(chan struct{})}
	for n := range senders {
		l.senders.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-l.quit:
					return
				default:
				}
				ids := make([]string, 1+i%4)
				for k := range ids {
					ids[k] = eventID(name, n, i, k)
				}
				a, err := s.tryPost(envelope("", ids...))
				if err != nil {
					return // the process is gone
				}
				l.note(a, ids)
			}
		})
	}
	return l
}

func (l *load) note(a answer, ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.status == 200 {
		l.acked = append(l.acked, ids...)
	} else {
		l.refusals = append(l.refusals, fmt.Sprint(a.status, a.body))
	}
}

// count is how many events have been acknowledged so far.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// end stops the senders and returns what was acknowledged.
func (l *load) end() []string {
	close(l.quit)
	l.senders.Wait()
	return l.acked
}

func TestWhatIsAcknowledgedSurvivesKills(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	var acked []string
	for round := range 6 {
		s := h.serve()
		l := s.load(fmt.Sprint("round", round), 8)
		eventually(t, "events are acknowledged", func() bool { return l.count() > 50 })
		time.Sleep(rand.N(150 * time.Millisecond)) // so that the kill hits another moment each time
		if round == 0 {
			s.stop()
		} else {
			s.signal(syscall.SIGKILL)
			s.wait()
		}
		acked = append(acked, l.end()...)
		if len(l.refusals) > 0 && round > 0 {
			t.Errorf("refused: %s", l.refusals[0])
		}
	}
	s := h.serve()
	found := h.tail("standard")
	if lost := missing(found, acked); lost != "" {
		t.Error(lost)
	}
	for id, times := range found {
		if times != 1 {
			t.Errorf("%s is stored %d times", id, times)
		}
	}
	t.Logf("%d events acknowledged, %d found", len(acked), len(found))
	s.stop()
}
