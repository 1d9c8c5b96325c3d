package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// windowed is a pipeline with a window for duplicates.
func windowed(t *testing.T, pub Publisher) *Pipeline {
	t.Helper()
	return newPipeline(t, Config{DuplicateIDs: 1000, DuplicateAge: 2 * time.Hour}, pub)
}

// wantDuplicates checks a receipt whose wait has ended well, and releases it.
// parts are topic:sequence.
func wantDuplicates(t *testing.T, r *Receipt, duplicates int, level Level, parts ...string) {
	t.Helper()
	var got []string
	for _, p := range r.Parts() {
		got = append(got, fmt.Sprintf("%s:%d", p.Topic, p.Sequence))
	}
	if r.Duplicates() != duplicates || r.Level() != level || !slices.Equal(got, parts) {
		t.Errorf("%d duplicates, level %q, parts %q; want %d, %q, %q", r.Duplicates(), r.Level(), got, duplicates, level, parts)
	}
	r.Release()
}

// nothingLeaves fails where a message leaves.
func nothingLeaves(t *testing.T, pub *script) {
	t.Helper()
	synctest.Wait()
	select {
	case c := <-pub.calls:
		t.Fatalf("message %q leaves", c.ids(t))
	default:
	}
}

func TestDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := windowed(t, pub)
		a, b, c := eventOf("a", ""), eventOf("b", ""), eventOf("c", "")
		done, r := send(t, p, a, b)
		(<-pub.calls).reply <- ok(7)
		want(t, done, nil)
		wantDuplicates(t, r, 0, LevelFsync, "standard:7")

		done, r = send(t, p, b, a)
		nothingLeaves(t, pub)
		want(t, done, nil)
		wantDuplicates(t, r, 2, "", "standard:7")

		done, r = send(t, p, a, c, b, c) // c twice
		call := <-pub.calls
		wantIDs(t, call, "c")
		call.reply <- ok(9)
		want(t, done, nil)
		wantDuplicates(t, r, 3, LevelFsync, "standard:7", "standard:9")

		// Another tool's event of the same id is another event.
		env := parse(t, envelopeOf(a))
		r, err := p.Route(env, "another", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Submit(r, time.Now().Add(5*time.Second)); err != nil {
			t.Fatal(err)
		}
		(<-pub.calls).reply <- ok(10)
		if err := r.Wait(); err != nil {
			t.Fatal(err)
		}
		wantDuplicates(t, r, 0, LevelFsync, "standard:10")
		drain(t, p)
	})
}

// What is stored is known while the store is away, and while the budget is used
// up; what is not, is not.
func TestDuplicatesNeedNoStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := windowed(t, pub)
		done, r := send(t, p, eventOf("a", ""))
		(<-pub.calls).reply <- ok(1)
		want(t, done, nil)
		r.Release()
		done, _ = send(t, p, eventOf("b", ""))
		for { // until the time of b is up
			select {
			case c := <-pub.calls:
				c.reply <- reply{err: errors.New("lost")}
				continue
			case err := <-done:
				if !errors.Is(err, ErrUnacknowledged) {
					t.Fatal(err)
				}
			}
			break
		}
		if err := p.Ready(); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("Ready says %v", err)
		}
		if !p.Budget().Reserve(p.Budget().Limit()) {
			t.Fatal("the budget is in use")
		}
		done, r = send(t, p, eventOf("a", ""))
		want(t, done, nil)
		wantDuplicates(t, r, 1, "", "standard:1")
		done, _ = send(t, p, eventOf("a", ""), eventOf("b", "")) // b is unclear, and may not be stored
		want(t, done, ErrUnavailable)
		p.Budget().Release(p.Budget().Limit())
		drain(t, p)
	})
}

// Whoever sends what is in flight shares its fate, and only that of the events
// that are the same.
func TestDuplicatesInFlight(t *testing.T) {
	for name, c := range map[string]struct {
		fate reply
		want error
	}{
		"stored":  {ok(5), nil},
		"full":    {reply{err: ErrStoreFull}, ErrStoreFull},
		"a panic": {reply{panic: true}, ErrUnacknowledged},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pub := newScript()
				p := windowed(t, pub)
				first, r1 := send(t, p, eventOf("a", ""), eventOf("b", ""))
				call := <-pub.calls
				second, r2 := send(t, p, eventOf("b", ""))
				third, r3 := send(t, p, eventOf("x", ""), eventOf("a", ""))
				nothingLeaves(t, pub)
				if len(second)+len(third) > 0 {
					t.Fatal("settled before the event they wait for")
				}
				call.reply <- c.fate
				want(t, first, c.want)
				want(t, second, c.want)
				if c.want == nil {
					call = <-pub.calls
					wantIDs(t, call, "x")
					call.reply <- ok(6)
					want(t, third, nil)
					wantDuplicates(t, r1, 0, LevelFsync, "standard:5")
					wantDuplicates(t, r2, 1, "", "standard:5")
					wantDuplicates(t, r3, 1, LevelFsync, "standard:5", "standard:6")
					drain(t, p)
					return
				}
				if !fate(t, pub, third, ErrUnavailable, c.want) {
					t.Error("an envelope was accepted with an event that failed")
				}
				for p.Ready() != nil {
					(<-pub.probes) <- nil
					synctest.Wait()
				}
				// It was never seen.
				again, r := send(t, p, eventOf("a", ""), eventOf("b", ""))
				call = <-pub.calls
				wantIDs(t, call, "a", "b")
				call.reply <- ok(8)
				want(t, again, nil)
				wantDuplicates(t, r, 0, LevelFsync, "standard:8")
				drain(t, p)
			})
		})
	}
}

// fate stores whatever leaves until done, and tells whether it failed with one of
// the errors.
func fate(t *testing.T, pub *script, done <-chan error, sentinels ...error) bool {
	t.Helper()
	for {
		select {
		case c := <-pub.calls:
			c.reply <- ok(6)
		case err := <-done:
			return slices.ContainsFunc(sentinels, func(s error) bool { return errors.Is(err, s) })
		}
	}
}

// Envelopes that wait for each other's events do not wait for ever.
func TestDuplicatesCrosswise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := windowed(t, pub)
		x, _ := send(t, p, eventOf("x", ""))
		call := <-pub.calls
		first, r1 := send(t, p, eventOf("a", ""), eventOf("x", ""))
		second, r2 := send(t, p, eventOf("x", ""), eventOf("b", ""), eventOf("a", ""), eventOf("b", ""))
		third, r3 := send(t, p, eventOf("b", ""), eventOf("a", ""))
		call.reply <- ok(1)
		want(t, x, nil)
		call = <-pub.calls
		wantIDs(t, call, "a", "b")
		call.reply <- ok(2)
		for _, done := range []<-chan error{first, second, third} {
			want(t, done, nil)
		}
		wantDuplicates(t, r1, 1, LevelFsync, "standard:1", "standard:2")
		wantDuplicates(t, r2, 3, LevelFsync, "standard:1", "standard:2")
		wantDuplicates(t, r3, 2, "", "standard:2")
		drain(t, p)
	})
}

// Who waits for another's event waits no longer than its own time, and what is
// stored too late for the first is known all the same.
func TestDuplicateInFlightAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := windowed(t, pub)
		submit := func(within time.Duration) *Receipt {
			env := parse(t, envelopeOf(eventOf("a", "")))
			defer env.Release()
			r, err := p.Route(env, "tool", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Submit(r, time.Now().Add(within)); err != nil {
				t.Fatal(err)
			}
			return r
		}
		start := time.Now()
		first := submit(20 * time.Second)
		call := <-pub.calls
		second := submit(time.Second)
		if err := second.Wait(); !errors.Is(err, ErrUnacknowledged) || time.Since(start) > time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		second.Release()
		call.reply <- ok(3)
		if err := first.Wait(); err != nil {
			t.Error(err)
		}
		first.Release()
		r := submit(time.Second)
		if err := r.Wait(); err != nil {
			t.Error(err)
		}
		wantDuplicates(t, r, 1, "", "standard:3")
		drain(t, p)
	})
}

// The same id with another content is another event, and its record says so;
// a describe is one of many.
func TestConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := windowed(t, pub)
		marked := func(items ...string) (marks string, r *Receipt) {
			t.Helper()
			done, r := send(t, p, items...)
			return marksOf(t, pub, done), r
		}
		a, b := eventOf("a", ""), eventOf("a", `,"edApp":"urn:b"`)
		describe := strings.Replace(personDescribe, "urn:p:1", "a", 1)
		another := strings.Replace(describe, `"type"`, `"name":"n","type"`, 1)
		for _, c := range []struct {
			items                 []string
			marks                 string
			duplicates, conflicts int
		}{
			{[]string{a}, "-", 0, 0},
			{[]string{b}, "!", 0, 1},
			{[]string{b, a}, "", 2, 0},
			{[]string{eventOf("c", ""), eventOf("c", `,"edApp":"urn:b"`), eventOf("c", "")}, "-!", 1, 1},
			{[]string{describe}, "-", 0, 0},
			{[]string{another, describe}, "-", 1, 0},
			{[]string{another}, "", 1, 0},
		} {
			marks, r := marked(c.items...)
			if marks != c.marks || r.Duplicates() != c.duplicates || r.Conflicts() != c.conflicts {
				t.Errorf("%.200q: marks %q, %d duplicates, %d conflicts; want %q, %d, %d", c.items, marks, r.Duplicates(), r.Conflicts(), c.marks, c.duplicates, c.conflicts)
			}
			r.Release()
		}
		drain(t, p)
	})
}

// marksOf stores what leaves until done is settled well. It returns a ! for each
// record that is marked as a conflict, and a - for each other.
func marksOf(t *testing.T, pub *script, done <-chan error) (marks string) {
	t.Helper()
	for {
		select {
		case c := <-pub.calls:
			for line := range strings.Lines(string(unpack(t, &c.msg))) {
				if strings.Contains(line, `,"conflict":true,"event":{`) {
					marks += "!"
				} else {
					marks += "-"
				}
			}
			c.reply <- ok(1)
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return marks
		}
	}
}

// A conflict that would make a record too large is stored without its mark.
func TestConflictAtTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := windowed(t, pub)
		empty := len(appendOne(t, eventOf("a", `,"x":""`)))
		for i, spare := range []int{len(TextConflict), len(TextConflict) - 1} {
			event := eventOf("a", fmt.Sprintf(`,"x":%q`, strings.Repeat(string(rune('b'+i)), MaxRecordBytes-empty-spare)))
			if i == 0 {
				done, r := send(t, p, eventOf("a", ""))
				(<-pub.calls).reply <- ok(1)
				want(t, done, nil)
				r.Release()
			}
			done, r := send(t, p, event)
			c := <-pub.calls
			if marked := bytes.Contains(unpack(t, &c.msg), []byte(TextConflict)); marked != (i == 0) || c.msg.Bytes-1 > MaxRecordBytes {
				t.Errorf("%d bytes to spare: marked is %v, %d bytes", spare, marked, c.msg.Bytes)
			}
			c.reply <- ok(2)
			want(t, done, nil)
			r.Release()
		}
		drain(t, p)
	})
}

// appendOne is the record of an event, without its line break.
func appendOne(t *testing.T, event string) []byte {
	env := parse(t, envelopeOf(event))
	defer env.Release()
	h := newRecordHead(env, "tool", time.Now())
	return bytes.TrimSpace(appendRecord(nil, &h, &env.Items()[0], nil, TopicStandard))
}

// An event of several topics is known when all of them have it, and then where its tier has it.
func TestDuplicateOfSeveralTopics(t *testing.T) {
	for name, c := range map[string]struct {
		first  int // place of the topic that tells first
		second error
	}{"both": {0, nil}, "the copy first": {1, nil}, "one": {0, ErrStoreFull}} {
		first, second := c.first, c.second
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pub := newScript()
				p := windowed(t, pub)
				w := p.window
				r := p.receipts.Get().(*Receipt)
				r.room = p.budget.Share("tool")
				r.begin(time.Now().Add(time.Minute))
				mark := imprint{1, 2, 3}
				_, claim, _ := w.find(mark, 3, r, 0)
				if f, _, _ := w.find(mark, 3, r, 0); f != foundInFlight {
					t.Fatalf("found %v, want it in flight", f)
				}
				w.settle(claim, Part{Sequence: 4, place: first}, nil)
				if w.stored(mark, 0) != 0 || len(r.done) != 0 {
					t.Error("known when one of two topics has it")
				}
				w.settle(claim, Part{Sequence: 5, place: 1 - first}, second)
				where := w.stored(mark, 0)
				if known := where != 0; known != (second == nil) {
					t.Errorf("known is %v after %v", known, second)
				}
				if want := (Part{Topic: TopicStandard, Sequence: uint64(4 + first), duplicate: true}); second == nil && w.part(where) != want {
					t.Errorf("it is at %+v, want %+v", w.part(where), want)
				}
				r.finish()
				if err := r.Wait(); !errors.Is(err, second) {
					t.Errorf("who waited got %v, want %v", err, second)
				}
				if second == nil && (len(r.parts) != 1 || r.parts[0].Topic != TopicStandard) {
					t.Errorf("who waited is told %+v", r.parts)
				}
				drain(t, p)
			})
		})
	}
}

// The window forgets by age and by count, and knows how far back it reaches.
func TestWindowForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow(3, time.Hour, []string{TopicStandard})
		clock := func() uint32 { return w.clock(time.Now()) }
		store := func(n uint64) {
			t.Helper()
			f, claim, _ := w.find(imprint{n, uint32(n) << 28, n}, 1, nil, clock())
			if f != foundNothing || claim == 0 {
				t.Fatalf("%d: found %v, claim %d", n, f, claim)
			}
			w.settle(claim, Part{Sequence: n}, nil)
		}
		knows := func(ns ...uint64) {
			t.Helper()
			for n := range uint64(10) {
				known := w.stored(imprint{n, uint32(n) << 28, n}, clock()) != 0
				if known != slices.Contains(ns, n) {
					t.Errorf("%d is known: %v", n, known)
				}
			}
		}
		held := func(ids int, back time.Duration) {
			t.Helper()
			if i, b := w.held(); i != ids || b != back {
				t.Errorf("window holds %d ids and %v, want %d and %v", i, b, ids, back)
			}
		}
		held(0, 0)
		store(1)
		time.Sleep(20 * time.Minute)
		store(2)
		knows(1, 2)
		held(2, 20*time.Minute)
		time.Sleep(40 * time.Minute)
		store(3)
		knows(1, 2, 3)
		time.Sleep(time.Second)
		knows(2, 3)
		held(3, time.Hour)
		store(4) // in the place of 1, which was too old
		knows(2, 3, 4)
		held(3, time.Hour)
		store(5) // in the place of 2, which was not
		knows(3, 4, 5)
		held(3, 40*time.Minute)
	})
}

// What is in flight is never given up for others: those are stored without
// being known.
func TestWindowFullOfWhatIsInFlight(t *testing.T) {
	w := newWindow(2, time.Hour, []string{TopicStandard})
	_, first, _ := w.find(imprint{1, 1, 1}, 1, nil, 0)
	_, second, _ := w.find(imprint{2, 2, 2}, 1, nil, 0)
	if f, claim, _ := w.find(imprint{3, 3, 3}, 1, nil, 0); f != foundNothing || claim != 0 {
		t.Errorf("found %v with claim %d in a window full of claims", f, claim)
	}
	w.settle(first, Part{Sequence: 1}, nil)
	w.settle(second, Part{Sequence: 2}, ErrStoreFull)
	w.settle(second, Part{Sequence: 2}, nil) // a claim that is settled is nobody's
	if w.stored(imprint{1, 1, 1}, 0) == 0 || w.stored(imprint{2, 2, 2}, 0) != 0 {
		t.Error("claims were not settled as told")
	}
}

// TestWindowAgainstModel compares the window with a list, over imprints that
// share their places in the index.
func TestWindowAgainstModel(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	w := newWindow(16, time.Hour, []string{TopicStandard, TopicEntities})
	type entry struct {
		imprint
		claim  uint64
		places []int // that have yet to tell
		failed bool
		at     Part // of the lowest place that has it
	}
	var model []entry // the live and the dead, oldest first
	dead := func(e *entry) bool { return e.claim == 0 && e.at.Sequence == 0 }
	for step := uint64(1); step < 200_000; step++ {
		p := imprint{random.Uint64N(3), uint32(random.Uint64N(6)) << 30, random.Uint64N(4)}
		i := slices.IndexFunc(model, func(e entry) bool { return e.imprint == p && !dead(&e) })
		if random.IntN(2) == 0 { // settle one
			if j := random.IntN(len(model) + 1); j < len(model) && model[j].claim != 0 {
				e := &model[j]
				at := random.IntN(len(e.places))
				place := e.places[at]
				e.places = slices.Delete(e.places, at, at+1)
				if random.IntN(4) == 0 {
					w.settle(e.claim, Part{place: place}, ErrStoreFull)
					e.failed = true
				} else {
					w.settle(e.claim, Part{Sequence: step, place: place}, nil)
					if e.at.Sequence == 0 || place < e.at.place {
						e.at = Part{Topic: w.topics[place], Sequence: step, place: place, duplicate: true}
					}
				}
				if len(e.places) == 0 {
					e.claim = 0
				}
			}
			continue
		}
		if i >= 0 && model[i].claim != 0 {
			continue // would wait
		}
		stored := i >= 0 && !model[i].failed
		if where := w.stored(p, 0); stored != (where != 0) || stored && w.part(where) != model[i].at {
			t.Fatalf("step %d: %v is stored at %+v, model %v", step, p, w.part(where), model)
		}
		if stored {
			continue
		}
		topics, places := TopicSet(1), []int{0}
		if p.content%2 == 1 {
			topics, places = 3, []int{0, 1}
		}
		f, claim, where := w.find(p, topics, nil, 0)
		conflict := slices.ContainsFunc(model, func(e entry) bool {
			return e.key == p.key && e.key2 == p.key2 && e.content != p.content && !dead(&e)
		})
		if (f == foundConflict) != conflict {
			t.Fatalf("step %d: %v found %v, model %v", step, p, f, model)
		}
		if i >= 0 { // known in part
			e := &model[i]
			if claim == 0 || w.part(where) != e.at {
				t.Fatalf("step %d: %v is in part at %+v, claim %d, model %v", step, p, w.part(where), claim, model)
			}
			e.claim, e.failed, e.places = claim, false, slices.DeleteFunc(places, func(place int) bool { return place == e.at.place })
			continue
		}
		full := len(model) == 16
		if full && model[0].claim != 0 {
			if claim != 0 {
				t.Fatalf("step %d: a claim where the oldest is in flight", step)
			}
			continue
		}
		if full {
			model = model[1:]
		}
		model = append(model, entry{imprint: p, claim: claim, places: places})
	}
}

// An id with many contents is bounded work: the first of them are forgotten.
func TestManyVersions(t *testing.T) {
	w := newWindow(1000, time.Hour, []string{TopicStandard})
	for n := range uint64(100) {
		f, claim, _ := w.find(imprint{1, 1, n}, 1, nil, uint32(n))
		if want := min(n, 1); f != found(want) {
			t.Fatalf("content %d: found %v", n, f)
		}
		w.settle(claim, Part{Sequence: n + 1}, nil)
	}
	for n := range uint64(100) {
		if known := w.stored(imprint{1, 1, n}, 100) != 0; known != (n >= 100-maxVersions) {
			t.Errorf("content %d is known: %v", n, known)
		}
	}
	for n := range uint64(100) { // and as many in flight
		w.find(imprint{2, 2, n}, 1, nil, 0)
	}
	if ids, _ := w.held(); ids != 100+maxVersions {
		t.Errorf("%d ids are held", ids)
	}
}

// What is read back from records is known as what is sent, also where the two
// differ: line breaks become blanks, lone surrogates are repaired.
func TestRemember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		items := []string{
			eventOf("a", ""),
			strings.Replace(eventOf("b", ",\n\r\n\"edApp\": \"urn:x\""), `,"type"`, ",\n\"type\"", 1),
			eventOf("c", `,"extensions":{"x":"\ud800 \" }","action":[{},","]}`),
			strings.Replace(eventOf("d", ""), `"d"`, `"d\udc00"`, 1),
			personDescribe,
		}
		pub := newScript()
		p := windowed(t, pub)
		first := recorder{t: t, pub: pub}
		first.store(send(t, p, items...))
		first.store(send(t, p, eventOf("a", `,"edApp":"urn:2"`))) // with a conflict
		drain(t, p)

		p = windowed(t, pub)
		if _, back := p.window.held(); back != 0 {
			t.Errorf("a new window reaches back %v", back)
		}
		for i, record := range first.records {
			if !p.Remember(first.topics[i], uint64(i+1), time.Minute, record) {
				t.Fatal("no room")
			}
		}
		p.Remember(TopicRejected, 1, 0, []byte(`{"id":"z","tool":"tool","reasons":[],"event":{}}`))
		p.Remembered(3 * time.Hour)
		if ids, back := p.window.held(); ids != len(first.records) || back != 2*time.Hour {
			t.Errorf("window holds %d ids and %v", ids, back)
		}
		done, r := send(t, p, append(items, eventOf("a", `,"edApp":"urn:2"`))...)
		nothingLeaves(t, pub)
		want(t, done, nil)
		if r.Duplicates() != len(items)+1 || len(r.Parts()) != len(items)+1 {
			t.Errorf("%d duplicates in %+v", r.Duplicates(), r.Parts())
		}
		r.Release()
		time.Sleep(2*time.Hour - 58*time.Second) // their age counts from when they were stored
		done, r = send(t, p, items[0])
		(<-pub.calls).reply <- ok(1)
		want(t, done, nil)
		wantDuplicates(t, r, 0, LevelFsync, "standard:1")
		drain(t, p)
	})
}

// recorder keeps what is stored.
type recorder struct {
	t       *testing.T
	pub     *script
	records [][]byte
	topics  []string
}

func (rec *recorder) store(done <-chan error, r *Receipt) {
	rec.t.Helper()
	for {
		select {
		case c := <-rec.pub.calls:
			for line := range bytes.Lines(unpack(rec.t, &c.msg)) {
				rec.records = append(rec.records, bytes.TrimSpace(line))
				rec.topics = append(rec.topics, c.msg.Topic)
			}
			c.reply <- ok(1)
		case err := <-done:
			if err != nil {
				rec.t.Fatal(err)
			}
			r.Release()
			return
		}
	}
}

// What is remembered is older than everything else, and leaves first.
func TestRememberedLeavesFirst(t *testing.T) {
	w := newWindow(3, time.Hour, []string{TopicStandard})
	_, claim, _ := w.find(imprint{1, 1, 1}, 1, nil, 0)
	w.settle(claim, Part{Sequence: 1}, nil)
	for n, room := range []bool{true, true, false} {
		if got := w.remember(imprint{uint64(n) + 2, 1, 1}, 0, 1, time.Minute); got != room {
			t.Errorf("remembered %d: %v", n, got)
		}
	}
	w.find(imprint{9, 9, 9}, 1, nil, 0)
	for n, known := range map[uint64]bool{1: true, 2: true, 3: false} {
		if got := w.stored(imprint{n, 1, 1}, 0) != 0; got != known {
			t.Errorf("%d is known: %v", n, got)
		}
	}
}

// TestDuplicatesLedger sends the same events from many sides through a store
// that fails in every way. What was acknowledged is stored; what nobody was left
// unclear about is stored once, and acknowledged at its address.
func TestDuplicatesLedger(t *testing.T) {
	store := &unsteady{stored: make(map[string]int)}
	p := newPipeline(t, Config{DuplicateIDs: 1 << 16, DuplicateAge: time.Hour, ProbeInterval: time.Millisecond,
		AttemptTimeout: 20 * time.Millisecond, MaxBatchRecords: 7}, store)
	var mu sync.Mutex
	acked, unclear := make(map[string]bool), make(map[string]bool)
	var senders sync.WaitGroup
	for sender := range uint64(16) {
		senders.Go(func() {
			random := rand.New(rand.NewPCG(sender, 7))
			for range 150 {
				var ids, items []string
				for range 1 + random.IntN(12) {
					id := fmt.Sprint("e", random.IntN(300))
					ids, items = append(ids, id), append(items, eventOf(id, ""))
				}
				env := parse(t, envelopeOf(items...))
				r, err := p.Route(env, "tool", time.Now())
				if err != nil {
					t.Error(err)
					return
				}
				if err = p.Submit(r, time.Now().Add(time.Second)); err == nil {
					err = r.Wait()
				}
				env.Release()
				mu.Lock()
				for _, id := range ids {
					acked[id] = acked[id] || err == nil
					unclear[id] = unclear[id] || err != nil
				}
				mu.Unlock()
				r.Release()
			}
		})
	}
	senders.Wait()
	drain(t, p)
	once := 0
	for id, ok := range acked {
		n := store.stored[id]
		if ok && n == 0 {
			t.Errorf("%s was acknowledged and is not stored", id)
		}
		if !unclear[id] {
			if once++; n != 1 {
				t.Errorf("%s is stored %d times", id, n)
			}
		}
	}
	if once == 0 || len(unclear) == 0 {
		t.Errorf("%d events of a sure fate: the test shows nothing", once)
	}
	if n := p.window.waiting.Load(); n != 0 {
		t.Errorf("%d waits are left", n)
	}
}

// unsteady is a store that fails now and then, having stored or not.
type unsteady struct {
	mu     sync.Mutex
	n      int
	stored map[string]int
}

func (f *unsteady) Publish(_ context.Context, m *Message) (Ack, error) {
	time.Sleep(time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	switch {
	case f.n%37 == 0:
		return Ack{}, ErrStoreFull
	case f.n%101 == 0:
		panic("unsteady: a panic of the test's")
	}
	for line := range strings.Lines(string(m.Body)) {
		f.stored[strings.SplitN(line, `"`, 5)[3]]++
	}
	return Ack{Sequence: uint64(f.n), Level: LevelFsync}, nil
}

func (f *unsteady) Probe(context.Context) error { return nil }

// A panic while an envelope joins leaves no claim behind.
func TestClaimsAreGivenUpAfterAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := windowed(t, pub)
		body := envelopeOf(eventOf("a", ""))
		env := parse(t, body)
		r, err := p.Route(env, "tool", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		p.topics[0].p = nil // the topic's own
		func() {
			defer func() { recover() }()
			p.Submit(r, time.Now().Add(time.Second))
		}()
		p.topics[0].p = p
		r.room.Release(r.bytes)
		done, r := send(t, p, eventOf("a", ""))
		call := <-pub.calls
		wantIDs(t, call, "a")
		call.reply <- ok(1)
		want(t, done, nil)
		wantDuplicates(t, r, 0, LevelFsync, "standard:1")
		drain(t, p)
	})
}
