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
		t.Fatalf("message %q of %s left out of turn", c.ids(t), c.msg.Topic)
	default:
	}
}

// What gathers in one topic waits while another publishes, and then leaves as one
// message; so they go on in turn.
func TestTopicsTakeTurns(t *testing.T) {
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
		c = <-pub.calls
		wantIDs(t, c, "urn:p:1", "urn:p:1")
		fourth, _ := send(t, p, eventOf("c", ""))
		quiet(t, pub)
		c.reply <- ok(1)
		want(t, second, nil)
		c = <-pub.calls
		wantIDs(t, c, "b", "c")
		c.reply <- ok(2)
		want(t, third, nil)
		want(t, fourth, nil)
		drain(t, p)
	})
}

// A topic of which much has gathered waits for nobody.
func TestMuchIsPublishedOutOfTurn(t *testing.T) {
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
func TestStalledTopicLosesItsTurn(t *testing.T) {
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
