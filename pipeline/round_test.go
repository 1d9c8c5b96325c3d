package pipeline

import (
	"testing"
	"testing/synctest"
	"time"
)

// quiet fails where a message leaves now.
func quiet(t *testing.T, pub *script) {
	t.Helper()
	synctest.Wait()
	select {
	case c := <-pub.calls:
		t.Fatalf("message %q of %s left too early", c.ids(t), c.msg.Topic)
	default:
	}
}

// What gathers in topics while another publishes leaves together, as one message of
// each, and nothing more until all of those are stored.
func TestTopicsPublishTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		first, _ := send(t, p, eventOf("a", ""))
		c := <-pub.calls
		second, _ := send(t, p, personDescribe)
		third, _ := send(t, p, eventOf("b", ""), personDescribe)
		quiet(t, pub)
		c.reply <- ok(1)
		want(t, first, nil)
		calls := both(t, pub)
		wantIDs(t, calls["standard"], "b")
		wantIDs(t, calls["entities"], "urn:p:1", "urn:p:1")
		fourth, _ := send(t, p, eventOf("c", ""), eventOf("d", ""))
		calls["standard"].reply <- ok(1)
		quiet(t, pub) // the round is not over
		calls["entities"].reply <- ok(2)
		want(t, second, nil)
		want(t, third, nil)
		c = <-pub.calls
		wantIDs(t, c, "c", "d")
		c.reply <- ok(1)
		want(t, fourth, nil)
		drain(t, p)
	})
}

// Topics of one envelope that finds nothing under way do not wait for each other.
func TestOneEnvelopeLeavesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		for range 2 { // the first leaves nothing behind that the second could meet
			done, _ := send(t, p, eventOf("a", ""), personDescribe)
			for _, c := range both(t, pub) {
				c.reply <- ok(1)
			}
			want(t, done, nil)
		}
		drain(t, p)
	})
}

// both are the next two messages, which leave at once, by their topics.
func both(t *testing.T, pub *script) map[string]*call {
	t.Helper()
	calls := make(map[string]*call)
	for range 2 {
		synctest.Wait()
		select {
		case c := <-pub.calls:
			calls[c.msg.Topic] = c
		default:
			t.Fatal("a message waits for another")
		}
	}
	if len(calls) != 2 {
		t.Fatalf("both messages are for one topic: %v", calls)
	}
	return calls
}

// A topic of which much has gathered waits for nobody.
func TestMuchWaitsForNoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{MaxBatchRecords: 2}, pub)
		first, _ := send(t, p, eventOf("a", ""))
		c := <-pub.calls
		second, _ := send(t, p, personDescribe, personDescribe, personDescribe)
		full := <-pub.calls
		wantIDs(t, full, "urn:p:1", "urn:p:1")
		quiet(t, pub)
		full.reply <- ok(1)
		quiet(t, pub) // the third has not gathered much
		c.reply <- ok(1)
		want(t, first, nil)
		(<-pub.calls).reply <- ok(2)
		want(t, second, nil)
		drain(t, p)
	})
}

// A publish that hangs holds no other topic up, beyond its first moments.
func TestStalledTopicLeavesTheRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		first, _ := send(t, p, eventOf("a", ""))
		stalled := <-pub.calls
		start := time.Now()
		for range 3 {
			done, _ := send(t, p, personDescribe)
			(<-pub.calls).reply <- ok(1)
			want(t, done, nil)
		}
		if took := time.Since(start); took > 2*watchInterval {
			t.Errorf("another topic waited for %v", took)
		}
		stalled.reply <- ok(1)
		want(t, first, nil)
		drain(t, p)
	})
}

// A drain waits for what the watch has yet to gather when the stalled publish, the last one, ends.
func TestDrainWaitsForWhoIsGathered(t *testing.T) {
	pub := newScript()
	p := newPipeline(t, Config{}, pub)
	stalled, _ := send(t, p, personDescribe)
	c := <-pub.calls
	waiting, _ := send(t, p, eventOf("a", ""))
	locked := func(state func() bool) bool {
		p.round.mu.Lock()
		defer p.round.mu.Unlock()
		return state()
	}
	for !locked(func() bool { return p.round.ticks > p.round.began }) {
		time.Sleep(time.Millisecond)
	}
	p.topics[0].mu.Lock() // keeps the watch from gathering it
	for !locked(func() bool { return p.round.open }) {
		time.Sleep(time.Millisecond)
	}
	drained := make(chan error, 1)
	go func() { drained <- p.Drain(t.Context()) }()
	c.reply <- ok(1)
	want(t, stalled, nil)
	select {
	case err := <-drained:
		t.Errorf("drained, and an envelope is not settled: %v", err)
		drained <- err
	case <-time.After(100 * time.Millisecond):
	}
	p.topics[0].mu.Unlock()
	(<-pub.calls).reply <- ok(1)
	want(t, waiting, nil)
	if err := <-drained; err != nil {
		t.Error(err)
	}
}
