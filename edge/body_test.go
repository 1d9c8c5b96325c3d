package edge

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"caliperedge/pipeline"
)

// What a request holds while it waits for room is not in the budget, so it must
// not be the buffer of a request before it.
func TestWaitingBodyHoldsNoBuffer(t *testing.T) {
	share := pipeline.NewBudget(1 << 20).Share("demo")
	for _, patience := range []time.Duration{0, time.Millisecond} {
		b := &body{buf: make([]byte, 0, keepBytes), room: share, patience: patience, spare: new(sync.Pool)}
		if b.grow(1 << 20) {
			t.Fatal("there was room for twice the share of a tool")
		}
		if cap(b.buf) != 0 {
			t.Errorf("%d bytes are held without room", cap(b.buf))
		}
		if !b.grow(1000) || cap(b.buf) < 1000 {
			t.Errorf("a body of 1000 bytes got a buffer of %d", cap(b.buf))
		}
		b.empty()
	}
}

// The pace of a slow store decides whether a body begins, however large it is, and
// holds up none that has: neither one that is read in steps nor one that is
// unpacked afterwards.
func TestBodyThatHasBegunIsRead(t *testing.T) {
	e := build(t, serving{Config: Config{RequestTimeout: MinRequestTimeout}}).Endpoint
	random, text := rand.New(rand.NewPCG(1, 2)), strings.Builder{}
	for text.Len() < 1<<20 {
		fmt.Fprint(&text, random.Uint64())
	}
	for encoding, sent := range map[string]string{"identity": text.String(), "gzip": gzipped(text.String()), "zstd": zstandard(text.String())} {
		for _, length := range []int{len(sent), -1} {
			budget := pipeline.NewBudget(64 << 20)
			budget.SetPace(1000)
			read := func() (*body, refused) {
				r := newInMemory("", "Content-Encoding", encoding)
				r.Request.SetBodyStream(strings.NewReader(sent), length)
				r.Request.Header.SetContentLength(length)
				b := e.newBody(budget.Share("demo"))
				return b, e.read(&r.RequestCtx, b)
			}
			first, r := read()
			if r.refusal != accepted || string(first.buf) != text.String() {
				t.Errorf("%s, length %d: refusal %d with %d bytes", encoding, length, r.refusal, len(first.buf))
			}
			second, r := read()
			if r.refusal != tooMuchInFlight {
				t.Errorf("%s, length %d: another beside it: refusal %d", encoding, length, r.refusal)
			}
			e.release(first)
			e.release(second)
			if used := budget.Used(); used != 0 {
				t.Errorf("%s, length %d: %d bytes were not given back", encoding, length, used)
			}
		}
	}
}
