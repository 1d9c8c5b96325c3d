package pipeline

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"caliperedge/validate"
)

var withRejected = []string{TopicStandard, TopicEntities, TopicRejected}

// badOf is an event without an actor.
func badOf(id, more string) string {
	return strings.Replace(eventOf(id, more), `"actor":{"id":"urn:a","type":"Person"},`, "", 1)
}

const reasons = `[{"code":"actor"}]`

// rejectAll submits the faulty items of an envelope.
func rejectAll(t *testing.T, p *Pipeline, deadline time.Time, items ...string) *Rejection {
	t.Helper()
	body := envelopeOf(items...)
	env := parse(t, body)
	r := p.NewRejection("tool", time.Now())
	for i := range env.Items() {
		if env.Items()[i].Faults != 0 {
			r.Item(env, i, []byte(reasons))
		}
	}
	r.Submit(deadline)
	env.Release()
	for i := range body {
		body[i] = 'x'
	}
	return r
}

func TestRejectedRecords(t *testing.T) {
	p := newPipeline(t, Config{Topics: withRejected}, newScript())
	defer drain(t, p)
	received := time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)
	const tool = `"tool":"Engage","topic":"rejected","received":"2026-11-22T20:00:00.000Z"`
	const head = tool + `,"sensor":"https://example.edu/s","sendTime":"2026-11-22T20:00:00.000Z","dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1"`
	lone := badOf("urn:1", `,"extensions":"\ud800"`)
	for name, c := range map[string]struct{ item, want string }{
		"what is known is lifted": {badOf("urn:1", `,"edApp":"https://e"`),
			`{"id":"urn:1","type":"ViewEvent","action":"Viewed","eventTime":"2026-11-22T20:00:00.000Z","edApp":"https://e",` + head + `,"reasons":` + reasons + `,"event":` + badOf("urn:1", `,"edApp":"https://e"`) + "}\n"},
		"nothing is known": {`7`, `{` + head + `,"reasons":` + reasons + `,"event":7}` + "\n"},
		"line breaks":      {"[1,\n2]", `{` + head + `,"reasons":` + reasons + `,"event":[1, 2]}` + "\n"},
		"a lone surrogate": {lone, `{"id":"urn:1","type":"ViewEvent","action":"Viewed","eventTime":"2026-11-22T20:00:00.000Z",` + head +
			`,"repaired":true,"reasons":` + reasons + `,"event":` + strings.Replace(lone, `\ud800`, `\ufffd`, 1) + "}\n"},
	} {
		env := parse(t, envelopeOf(c.item))
		r := p.NewRejection("Engage", received)
		r.Item(env, 0, []byte(reasons))
		if got := string(r.buf); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
		r.Release()
		env.Release()
	}
	r := p.NewRejection("Engage", received)
	r.Body([]byte(`{"a":`), nil, []byte(reasons))
	if got, want := string(r.buf), `{`+tool+`,"whole":true,"reasons":`+reasons+`,"raw":"`+base64.StdEncoding.EncodeToString([]byte(`{"a":`))+"\"}\n"; got != want {
		t.Errorf("a body that is no JSON:\n got %s\nwant %s", got, want)
	}
	r.Release()
}

// What is too large for a record is cut, and says so; what just fits is not.
func TestRejectedRecordIsBounded(t *testing.T) {
	p := newPipeline(t, Config{Topics: withRejected}, newScript())
	defer drain(t, p)
	wide := strings.Repeat("s", maxLiftedBytes)
	for _, n := range []int{1000, MaxRecordBytes / 2, MaxRecordBytes - maxLiftedBytes - 900, MaxRecordBytes, 3 * MaxRecordBytes} {
		item := badOf("urn:1", fmt.Sprintf(`,"extensions":%q`, strings.Repeat("x", n)))
		for _, asJSON := range []bool{true, false} {
			env := parse(t, bytes.Replace(envelopeOf(item), []byte("https://example.edu/s"), []byte(wide), 1))
			r := p.NewRejection("Engage", time.Now())
			if asJSON {
				r.Item(env, 0, []byte(reasons))
			} else {
				r.Body([]byte(item), nil, []byte(reasons))
			}
			var got struct {
				Event     json.RawMessage
				Raw       []byte
				Sensor    string
				Cut       []string
				Truncated bool
				Size      int
			}
			if err := json.Unmarshal(r.buf, &got); err != nil || len(r.buf) > MaxRecordBytes+1 {
				t.Fatalf("%d bytes: record of %d bytes: %v", n, len(r.buf), err)
			}
			if asJSON && (len(got.Sensor) < maxLiftedBytes-16 || !strings.HasPrefix(wide, got.Sensor) || fmt.Sprint(got.Cut) != "[sensor]") {
				t.Errorf("of a sensor of 8 KiB %d bytes are kept, cut is %q", len(got.Sensor), got.Cut)
			}
			switch {
			case got.Truncated && (got.Size != len(item) || len(got.Raw) < 700_000 || !strings.HasPrefix(item, string(got.Raw))):
				t.Errorf("%d bytes: cut to %d of %d", n, len(got.Raw), got.Size)
			case !got.Truncated && string(got.Raw)+string(got.Event) != item:
				t.Errorf("%d bytes are kept as something else", n)
			case got.Truncated != (n >= MaxRecordBytes || !asJSON && n > MaxRecordBytes/4*3):
				t.Errorf("%d bytes: truncated is %v", n, got.Truncated)
			}
			r.Release()
			env.Release()
		}
	}
}

// What is kept of a long string is its beginning, in whole characters.
func TestBeginning(t *testing.T) {
	const literal = `"aé\n\u00e9\ud83d\ude00\ud83dx😀\\\"z"`
	var whole string
	if err := json.Unmarshal([]byte(literal), &whole); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= len(literal)-1; n++ {
		part := beginning([]byte(literal), n)
		var got string
		if err := json.Unmarshal(append(slices.Clone(part), '"'), &got); err != nil || !strings.HasPrefix(whole, got) || len(part) > n || n-len(part) > 11 {
			t.Errorf("%d bytes: %s, %v", n, part, err)
		}
	}
	if got := beginning([]byte(literal), len(literal)-1); string(got)+`"` != literal {
		t.Errorf("all but the quote is %s", got)
	}
}

// A topic for rejected items that does not answer costs a second at most, trips
// nothing, is left alone for a moment, and is tried again.
func TestStalledRejectionHurtsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{Topics: withRejected}, pub)
		start := time.Now()
		done, _ := send(t, p, eventOf("a", ""), badOf("b", ""))
		r := rejectAll(t, p, start.Add(5*time.Second), eventOf("a", ""), badOf("b", ""))
		var stalled *call
		for range 2 {
			if c := <-pub.calls; c.msg.Topic == TopicRejected {
				stalled = c
			} else {
				c.reply <- ok(1)
			}
		}
		want(t, done, nil)
		if parts, kept, lost := r.Wait(); len(parts) != 0 || kept != 0 || lost != 1 || time.Since(start) > rejectedWait {
			t.Errorf("after %v: %v, %d kept, %d lost", time.Since(start), parts, kept, lost)
		}
		r.Release()
		<-stalled.ctx.Done()
		synctest.Wait()
		if err := p.Ready(); err != nil {
			t.Errorf("Ready says %v", err)
		}
		before := time.Now()
		r = rejectAll(t, p, before.Add(5*time.Second), badOf("c", ""), badOf("d", ""))
		if _, kept, lost := r.Wait(); kept != 0 || lost != 2 || !time.Now().Equal(before) {
			t.Errorf("while the topic rests: %d kept, %d lost after %v", kept, lost, time.Since(before))
		}
		r.Release()
		time.Sleep(rejectedPause)
		r = rejectAll(t, p, time.Now().Add(5*time.Second), badOf("e", ""), badOf("f", ""))
		c := <-pub.calls
		wantIDs(t, c, "e", "f")
		c.reply <- ok(9)
		if parts, kept, lost := r.Wait(); len(parts) != 1 || parts[0].Topic != TopicRejected || parts[0].Sequence != 9 || kept != 2 || lost != 0 {
			t.Errorf("afterwards: %v, %d kept, %d lost", parts, kept, lost)
		}
		r.Release()
		drain(t, p)
	})
}

// A worker that panics with rejected records trips nothing either.
func TestRejectedPanicHurtsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{Topics: withRejected}, pub)
		r := rejectAll(t, p, time.Now().Add(5*time.Second), badOf("a", ""))
		(<-pub.calls).reply <- reply{panic: true}
		if _, kept, lost := r.Wait(); kept != 0 || lost != 1 {
			t.Errorf("%d kept, %d lost", kept, lost)
		}
		r.Release()
		if err := p.Ready(); err != nil {
			t.Errorf("Ready says %v", err)
		}
		drain(t, p)
	})
}

// What is rejected takes an eighth of the budget at most, and gives it back.
func TestRejectedBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{Topics: withRejected, BudgetBytes: 16 << 20, MaxEnvelopeBytes: 8 << 20}, pub)
		wide := fmt.Sprintf(`,"extensions":%q`, strings.Repeat("x", 900_000))
		first := rejectAll(t, p, time.Now().Add(5*time.Second), badOf("a", wide))
		c := <-pub.calls
		second := rejectAll(t, p, time.Now().Add(5*time.Second), badOf("b", wide), badOf("c", wide), badOf("d", ""))
		if used := p.Budget().Used(); used > 2<<20 {
			t.Errorf("%d bytes of the budget are taken", used)
		}
		c.reply <- ok(1)
		if _, kept, lost := first.Wait(); kept != 1 || lost != 0 {
			t.Errorf("first: %d kept, %d lost", kept, lost)
		}
		if _, kept, lost := second.Wait(); kept != 0 || lost != 3 {
			t.Errorf("second: %d kept, %d lost, want none of 3: there is room for less than two", kept, lost)
		}
		first.Release()
		second.Release()
		if used := p.rejected.aside.budget.Used(); used != 0 {
			t.Errorf("%d bytes of the share are still taken", used)
		}
		drain(t, p)
		late := rejectAll(t, p, time.Now().Add(5*time.Second), badOf("e", ""))
		if _, kept, lost := late.Wait(); kept != 0 || lost != 1 {
			t.Errorf("after the drain: %d kept, %d lost", kept, lost)
		}
	})
}

// Rejected records of a request are in one message as far as they fit.
func TestRejectedInSeveralMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{Topics: withRejected, MaxBatchRecords: 2}, pub)
		r := rejectAll(t, p, time.Now().Add(5*time.Second), badOf("a", ""), badOf("b", ""), badOf("c", ""))
		for i, ids := range [][]string{{"a", "b"}, {"c"}} {
			c := <-pub.calls
			wantIDs(t, c, ids...)
			c.reply <- ok(uint64(i + 1))
		}
		if parts, kept, _ := r.Wait(); len(parts) != 2 || kept != 3 {
			t.Errorf("parts %v, %d kept", parts, kept)
		}
		r.Release()
		drain(t, p)
	})
}

// Without the topic there is nothing to do, and nothing to trip over.
func TestNoTopicForRejected(t *testing.T) {
	p := newPipeline(t, Config{}, newScript())
	defer drain(t, p)
	var env *validate.Envelope
	r := p.NewRejection("tool", time.Now())
	r.Item(env, math.MaxInt, nil)
	r.Body(nil, env, nil)
	r.Submit(time.Now())
	if parts, kept, lost := r.Wait(); len(parts)+kept+lost != 0 {
		t.Errorf("%v, %d kept, %d lost", parts, kept, lost)
	}
	r.Release()
}
