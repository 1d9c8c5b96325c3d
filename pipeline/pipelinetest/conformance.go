// Package pipelinetest has what tests of the pipeline publish to: Memory, a
// publisher that stores in memory, and TestPublisher, the test that it and every
// other publisher pass, so that what a test learned with the one holds for the
// others.
package pipelinetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"caliperedge/pipeline"
)

// Topics that a publisher under TestPublisher must have, empty: TopicRoomy with
// room for 16 MiB, and TopicTight with room for TightBytes, which refuses new
// messages when it is full.
const (
	TopicRoomy = "standard"
	TopicTight = "tight"
	TightBytes = 64 << 10
)

// fullWithin is how soon a full topic has to say so. The contract says
// milliseconds; the rest is for a busy machine under the race detector.
const fullWithin = 500 * time.Millisecond

// TestPublisher tests what pipeline.Publisher promises. open returns a publisher
// with the topics above, and sees to its end by t.Cleanup. One that spools gives
// no message a sequence.
func TestPublisher(t *testing.T, open func(t *testing.T) pipeline.Publisher) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, p pipeline.Publisher)
	}{
		{"Acknowledges", testAcknowledges},
		{"RepetitionStoredOnce", testRepetition},
		{"ConcurrentRepetitionStoredOnce", testConcurrentRepetition},
		{"Concurrent", testConcurrent},
		{"BodyStaysTheCallers", testBody},
		{"Full", testFull},
		{"RefusesUnknownTopic", testUnknownTopic},
		{"RefusesTooLarge", testTooLarge},
		{"ContextDone", testContextDone},
		{"Probe", testProbe},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// message makes a message of one record.
func message(topic, id string, bytes int) *pipeline.Message {
	body := []byte(`{"pad":"` + strings.Repeat("x", max(bytes-11, 0)) + "\"}\n")
	return &pipeline.Message{Topic: topic, ID: id, Records: 1, Bytes: len(body), Body: body}
}

func publish(t *testing.T, p pipeline.Publisher, m *pipeline.Message) pipeline.Ack {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ack, err := p.Publish(ctx, m)
	if err != nil {
		t.Fatalf("publish %s to %s: %v", m.ID, m.Topic, err)
	}
	return ack
}

// at reports whether a was given the sequence want, or none where it is spooled.
func at(a pipeline.Ack, want uint64) bool {
	if a.Level == pipeline.LevelSpooled {
		want = 0
	}
	return a.Sequence == want
}

func testAcknowledges(t *testing.T, p pipeline.Publisher) {
	for i := range 5 {
		ack := publish(t, p, message(TopicRoomy, fmt.Sprint("a", i), 100))
		if !at(ack, uint64(i+1)) || ack.Duplicate {
			t.Fatalf("message %d has sequence %d (duplicate %v), want %d", i, ack.Sequence, ack.Duplicate, i+1)
		}
		switch ack.Level {
		case pipeline.LevelFsync, pipeline.LevelReplicated, pipeline.LevelStored, pipeline.LevelSpooled:
		default:
			t.Fatalf("level %q, want one of the contract", ack.Level)
		}
	}
	if ack := publish(t, p, message(TopicTight, "a0", 100)); !at(ack, 1) || ack.Duplicate {
		t.Fatalf("first message of another topic: %+v, want sequence 1 and no duplicate of the same ID elsewhere", ack)
	}
}

func testRepetition(t *testing.T, p pipeline.Publisher) {
	first := publish(t, p, message(TopicRoomy, "same", 100))
	publish(t, p, message(TopicRoomy, "other", 100))
	again := publish(t, p, message(TopicRoomy, "same", 100))
	if !again.Duplicate || again.Sequence != first.Sequence {
		t.Fatalf("repetition: %+v, want a duplicate at sequence %d", again, first.Sequence)
	}
	if next := publish(t, p, message(TopicRoomy, "next", 100)); !at(next, 3) {
		t.Fatalf("message after a repetition has sequence %d, want 3", next.Sequence)
	}
}

func testConcurrentRepetition(t *testing.T, p pipeline.Publisher) {
	const callers = 8
	var wg sync.WaitGroup
	acks := make([]pipeline.Ack, callers)
	for i := range callers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			var err error
			if acks[i], err = p.Publish(ctx, message(TopicRoomy, "same", 1000)); err != nil {
				t.Errorf("publish: %v", err)
			}
		})
	}
	wg.Wait()
	fresh := 0
	for _, a := range acks {
		if !a.Duplicate {
			fresh++
		}
		if !at(a, 1) {
			t.Errorf("sequence %d, want 1 for all", a.Sequence)
		}
	}
	if fresh != 1 {
		t.Errorf("%d of %d publishes of one ID counted as new, want 1", fresh, callers)
	}
}

func testConcurrent(t *testing.T, p pipeline.Publisher) {
	const callers, each = 8, 20
	var mu sync.Mutex
	seen := map[uint64]string{}
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				m := message(TopicRoomy, fmt.Sprintf("%d/%d", c, i), 500)
				ack, err := p.Publish(ctx, m)
				cancel()
				if err != nil {
					t.Errorf("publish %s: %v", m.ID, err)
					return
				}
				if ack.Level == pipeline.LevelSpooled {
					continue
				}
				mu.Lock()
				if other, ok := seen[ack.Sequence]; ok {
					t.Errorf("%s and %s have the same sequence %d", m.ID, other, ack.Sequence)
				}
				seen[ack.Sequence] = m.ID
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if spooled := len(seen) == 0; !t.Failed() && !spooled && (len(seen) != callers*each || seen[1] == "" || seen[callers*each] == "") {
		t.Errorf("%d sequences, want 1 to %d", len(seen), callers*each)
	}
}

// testBody publishes from one buffer over and over: a publisher that kept the
// buffer would have a message whose ID and content do not belong together, which
// a repetition under the race detector shows.
func testBody(t *testing.T, p pipeline.Publisher) {
	buf := make([]byte, 0, 1024)
	for i := range 20 {
		buf = append(buf[:0], bytes.Repeat([]byte{byte('a' + i)}, 1000)...)
		m := &pipeline.Message{Topic: TopicRoomy, ID: fmt.Sprint(i), Records: 1, Bytes: len(buf), Body: buf}
		publish(t, p, m)
		if m.Topic != TopicRoomy || m.ID != fmt.Sprint(i) || m.Encoding != "" || len(m.Body) != 1000 || m.Body[0] != byte('a'+i) {
			t.Fatal("Publish changed the caller's message")
		}
	}
}

func testFull(t *testing.T, p pipeline.Publisher) {
	if publish(t, p, message(TopicTight, "first", 1)).Level == pipeline.LevelSpooled {
		t.Skip("a spool has one limit for all topics")
	}
	const size = 4 << 10
	stored := 0
	var err error
	for ; err == nil && stored < 100; stored++ {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		start := time.Now()
		_, err = p.Publish(ctx, message(TopicTight, fmt.Sprint("f", stored), size))
		cancel()
		if took := time.Since(start); err != nil && took > fullWithin {
			t.Errorf("a full topic took %v to say so", took)
		}
	}
	stored--
	if !errors.Is(err, pipeline.ErrStoreFull) || errors.Is(err, pipeline.ErrRefused) {
		t.Fatalf("after %d messages: %v, want ErrStoreFull", stored, err)
	}
	if stored*size > TightBytes || stored*size < TightBytes/2 {
		t.Errorf("full after %d messages of %d bytes, limit is %d", stored, size, TightBytes)
	}
	if ack := publish(t, p, message(TopicTight, "f0", size)); !ack.Duplicate {
		t.Errorf("a repetition of a stored message is no duplicate in a full topic: %+v", ack)
	}
	if ack := publish(t, p, message(TopicRoomy, "r", size)); !at(ack, 1) {
		t.Errorf("another topic: %+v, want sequence 1", ack)
	}
}

func testUnknownTopic(t *testing.T, p pipeline.Publisher) {
	for _, topic := range []string{"", "nowhere", TopicRoomy + ".x", ">"} {
		if _, err := p.Publish(context.Background(), message(topic, "u", 100)); !errors.Is(err, pipeline.ErrRefused) {
			t.Errorf("topic %q: %v, want ErrRefused", topic, err)
		}
	}
}

func testTooLarge(t *testing.T, p pipeline.Publisher) {
	_, err := p.Publish(context.Background(), message(TopicRoomy, "large", 1<<20+1))
	if !errors.Is(err, pipeline.ErrRefused) || errors.Is(err, pipeline.ErrStoreFull) {
		t.Errorf("a body above 1 MiB: %v, want ErrRefused", err)
	}
	const fits = 1<<20 - 1<<10
	if ack := publish(t, p, message(TopicRoomy, "fits", fits)); !at(ack, 1) {
		t.Errorf("a body of 1 MiB less 1 KiB: %+v, want sequence 1", ack)
	}
}

func testContextDone(t *testing.T, p pipeline.Publisher) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := p.Publish(ctx, message(TopicRoomy, "c", 100))
	if !errors.Is(err, context.Canceled) || errors.Is(err, pipeline.ErrStoreFull) || errors.Is(err, pipeline.ErrRefused) {
		t.Errorf("publish after the end of its context: %v, want its error and an unknown outcome", err)
	}
	publish(t, p, message(TopicRoomy, "c", 100)) // the repetition
}

func testProbe(t *testing.T, p pipeline.Publisher) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	before := publish(t, p, message(TopicRoomy, "before", 100))
	if err := p.Probe(ctx); err != nil {
		t.Fatalf("probe of a sound store: %v", err)
	}
	if again := publish(t, p, message(TopicRoomy, "before", 100)); !again.Duplicate || again.Sequence != before.Sequence {
		t.Errorf("repetition after a probe: %+v, want a duplicate at sequence %d", again, before.Sequence)
	}
	if after := publish(t, p, message(TopicRoomy, "after", 100)); !at(after, before.Sequence+1) {
		t.Errorf("message after a probe has sequence %d, want %d: a probe adds no message", after.Sequence, before.Sequence+1)
	}
}
