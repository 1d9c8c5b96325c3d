package validate

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

var notedPaths = []string{"group.id", "actor.id", "actor", "id", "type", "object.isPartOf.id", "edApp", "missing.id", "a", "a.b", `"com.example".a`}

// sameNoted compares what is looked up in items whose members were noted with
// what is looked up by going through them.
func sameNoted(t testing.TB, body []byte) (noted int) {
	t.Helper()
	e, err := Parse(body, Options{NoteMembers: true})
	if err != nil {
		return 0
	}
	defer e.Release()
	var paths []Path
	for _, text := range notedPaths {
		paths = append(paths, mustPath(t, text))
	}
	all := NewPaths(paths)
	got, want := make([][]byte, len(paths)), make([][]byte, len(paths))
	for i := range e.Items() {
		it := &e.Items()[i]
		if it.members != nil {
			noted++
		}
		plain := Item{Raw: it.Raw}
		all.Find(it, got)
		all.Find(&plain, want)
		for k, p := range paths {
			one, other := it.Lookup(p), plain.Lookup(p)
			for _, v := range [][]byte{got[k], one, other} {
				if !bytes.Equal(v, want[k]) || (v == nil) != (want[k] == nil) {
					t.Fatalf("%s of %s is %q, %q and %q, want %q", p, it.Raw, got[k], one, other, want[k])
				}
			}
		}
	}
	return noted
}

func TestNotedMembers(t *testing.T) {
	if !vectors {
		t.Skip("nothing is noted on this processor")
	}
	wide := `{"id":"urn:1"`
	for i := range maxNoted - 2 {
		wide += fmt.Sprintf(`,"m%d":%d`, i, i)
	}
	f := func(noted int, items ...string) {
		t.Helper()
		if got := sameNoted(t, envelopeOf(items...)); got != noted {
			t.Errorf("members of %d items are noted, want %d: %.200s", got, noted, items)
		}
	}
	f(3, fmt.Sprintf(engageEvent, 1), fmt.Sprintf(engageEvent, 2), `{"a":{"b":1},"a":{"c":2},"com.example":{"a":3} , "id" : "urn:1" }`)
	f(1, `{"a":null,"group":{"id":1},"group":7}`)
	f(1, wide+`,"group":{"id":1}}`)
	f(0, wide+`,"more":1,"group":{"id":1}}`)            // too many
	f(1, wide+`,"more":1,"group":{}}`, `{"a":{"b":1}}`) // and the next one's are its own
	f(0, `{"\u0061":{"b":1}}`, `{"a":{"b":1}}`)         // goes the long way
	f(0, `{}`)
	if e, _ := Parse(envelopeOf(`{"a":1}`), Options{}); e.Items()[0].members != nil {
		t.Error("members are noted unasked")
	} else {
		e.Release()
	}
}

func FuzzNoted(f *testing.F) {
	f.Add([]byte(`{"a":{"b":1},"a":2,"group":{"id":[1]}}`))
	f.Add([]byte(`{"actor":{"id":{"id":1}},"actor":"x"}`))
	f.Fuzz(func(t *testing.T, item []byte) {
		sameNoted(t, envelopeOf(string(item), strings.Repeat(" ", len(item)%3)+string(item)))
	})
}

func TestNumbers(t *testing.T) {
	e, err := Parse(envelopeOf(eventWith(`"MessageEvent"`, `"MarkedAsUnRead"`, `"http://purl.imsglobal.org/ctx/caliper/v1p1"`)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	eventType, action := e.Items()[0].Numbers()
	if eventType == 0 || action == 0 || eventType != TypeNumber("MessageEvent") || action != ActionNumber("MarkedAsUnread") {
		t.Errorf("numbers are %d and %d", eventType, action)
	}
	if TypeNumber("Person") != 0 || TypeNumber("x") != 0 || ActionNumber("MarkedAsUnRead") != 0 || ActionNumber("x") != 0 {
		t.Error("what is no type or action has a number")
	}
	seen := make(map[uint8]bool)
	for _, et := range eventTypes {
		if n := TypeNumber(et.name); n == 0 || n > 63 || seen[n] {
			t.Errorf("%s has the number %d", et.name, n)
		} else {
			seen[n] = true
		}
	}
	if n := ActionNumber(actionNames[len(actionNames)-1]); n == 0 || n > 127 {
		t.Errorf("the last action has the number %d", n)
	}
}
