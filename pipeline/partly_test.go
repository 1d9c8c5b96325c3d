package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.yaml.in/yaml/v3"

	"caliperedge/pipeline/rules"
)

// copied are rules by which every ViewEvent goes to fast as well.
func copied(t *testing.T, topics []string) *rules.Rules {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte("[{name: copy, when: {type: ViewEvent}, also: fast}]"), &doc); err != nil {
		t.Fatal(err)
	}
	list, err := rules.ReadRules(doc.Content[0], "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r, err := rules.Compile(rules.Config{File: "test.yaml", Rules: list, Topics: topics})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// While the topic of a copy is full, an event that is sent again and again is
// stored in its tier once. When there is room, the copy alone is stored.
func TestRepetitionGoesWhereItIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		topics := []string{TopicStandard, TopicEntities, "fast"}
		p := newPipeline(t, Config{Topics: topics, Rules: copied(t, topics), DuplicateIDs: 1000, DuplicateAge: 2 * time.Hour}, pub)
		// publishes answers the messages of one envelope, by their topics, and
		// returns what they held.
		publishes := func(answers map[string]reply) string {
			t.Helper()
			var got []string
			for range answers {
				select {
				case c := <-pub.calls:
					got = append(got, fmt.Sprint(c.msg.Topic, c.ids(t)))
					c.reply <- answers[c.msg.Topic]
				case <-time.After(time.Minute):
					t.Fatalf("messages %v, and no more", got)
				}
			}
			return strings.Join(got, " ")
		}
		full := reply{err: ErrStoreFull}
		a, b := eventOf("a", ""), eventOf("b", "")

		done, _ := send(t, p, a)
		publishes(map[string]reply{"standard": ok(7), "fast": full})
		want(t, done, ErrStoreFull)
		for range 2 {
			done, _ = send(t, p, a)
			if got := publishes(map[string]reply{"fast": full}); got != "fast[a]" {
				t.Errorf("sent again: %s", got)
			}
			want(t, done, ErrStoreFull)
		}

		done, r := send(t, p, b, a)
		if got := publishes(map[string]reply{"standard": ok(8), "fast": ok(3)}); !strings.Contains(got, "standard[b]") || !strings.Contains(got, "fast[b a]") {
			t.Errorf("with room: %s", got)
		}
		want(t, done, nil)
		wantDuplicates(t, r, 0, LevelFsync, "standard:7", "standard:8", "fast:3")

		done, r = send(t, p, a)
		nothingLeaves(t, pub)
		want(t, done, nil)
		wantDuplicates(t, r, 1, "", "standard:7")
		drain(t, p)
	})
}

// After a restart, what is read back of one topic alone goes to the others when it
// is sent again; what all have is a duplicate.
func TestRepetitionAfterARestart(t *testing.T) {
	event := func(topic string) []byte {
		return []byte(`{"id":"a","type":"ViewEvent","action":"Viewed","tool":"tool","topic":"` + topic + `","event":` + eventOf("a", "") + `}`)
	}
	for _, c := range []struct {
		name    string
		told    []string
		goes    string
		parts   []string
		repeats int
	}{
		{"its tier", []string{"standard"}, "fast", []string{"standard:7", "fast:9"}, 0},
		{"its tier, twice", []string{"standard", "standard"}, "fast", []string{"standard:7", "fast:9"}, 0},
		{"the copy", []string{"fast"}, "standard", []string{"standard:9", "fast:7"}, 0},
		{"both", []string{"standard", "fast"}, "", []string{"standard:7"}, 1},
		{"both, the copy first", []string{"fast", "standard"}, "", []string{"standard:8"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pub := newScript()
				topics := []string{TopicStandard, TopicEntities, "fast"}
				p := newPipeline(t, Config{Topics: topics, Rules: copied(t, topics), DuplicateIDs: 1000, DuplicateAge: 2 * time.Hour}, pub)
				for i, topic := range c.told {
					p.Remember(topic, uint64(7+i), time.Minute, event(topic))
				}
				done, r := send(t, p, eventOf("a", ""))
				level := Level("")
				if c.goes == "" {
					nothingLeaves(t, pub)
				} else {
					level = LevelFsync
					call := <-pub.calls
					if call.msg.Topic != c.goes {
						t.Errorf("it went to %s", call.msg.Topic)
					}
					call.reply <- ok(9)
				}
				want(t, done, nil)
				wantDuplicates(t, r, c.repeats, level, c.parts...)
				drain(t, p)
			})
		})
	}
}

// What is known in part: which topics have yet to tell, and where it is.
func TestKnownInPart(t *testing.T) {
	const first, second, third = TopicSet(1), TopicSet(2), TopicSet(4)
	begin := func() (*window, imprint) {
		w, mark := newWindow(10, time.Hour, []string{"a", "b", "c"}), imprint{1, 2, 3}
		_, claim, _ := w.find(mark, first|second, nil, 0)
		w.settle(claim, Part{Sequence: 4, place: 0}, nil)
		w.settle(claim, Part{place: 1}, ErrStoreFull)
		return w, mark
	}
	at := Part{Topic: "a", Sequence: 4, duplicate: true}

	w, mark := begin()
	f, claim, where := w.find(mark, first|second|third, nil, 0)
	if f != foundNothing || claim == 0 || w.part(where) != at || w.stored(mark, 0) != 0 {
		t.Errorf("found %v, claim %d, at %+v", f, claim, w.part(where))
	}
	w.settle(claim, Part{Sequence: 5, place: 2}, nil)
	if w.stored(mark, 0) != 0 {
		t.Error("known before the last topic has it")
	}
	w.settle(claim, Part{Sequence: 6, place: 1}, nil)
	if where := w.stored(mark, 0); w.part(where) != at {
		t.Errorf("stored at %+v", w.part(where))
	}

	w, mark = begin()
	if f, _, where := w.find(mark, first, nil, 0); f != foundStored || w.part(where) != at || w.stored(mark, 0) == 0 {
		t.Errorf("where no other topic takes it: found %v at %+v", f, w.part(where))
	}

	w, mark = begin()
	if _, claim, where = w.find(mark, second|third, nil, 0); claim == 0 || where != 0 {
		t.Errorf("where others take it: claim %d, at %+v", claim, w.part(where))
	}
	w.settle(claim, Part{place: 1}, ErrStoreFull)
	w.settle(claim, Part{place: 2}, errors.New("lost"))
	if f, claim, where = w.find(mark, first|second, nil, 0); f != foundNothing || claim == 0 || where != 0 {
		t.Errorf("that no topic has: found %v, claim %d, at %+v", f, claim, w.part(where))
	}

	w, mark = begin()
	if f, claim, where = w.find(imprint{mark.key, mark.key2, 9}, first, nil, 0); f != foundConflict || claim == 0 || where != 0 {
		t.Errorf("with other content: found %v, claim %d, at %+v", f, claim, w.part(where))
	}
	late := uint32(w.age/time.Second) + 1
	if _, claim, where = w.find(mark, first|second, nil, late); claim == 0 || where != 0 {
		t.Errorf("that is too old: claim %d, at %+v", claim, w.part(where))
	}
}
