package corpus

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"
	"unicode"

	"caliperedge/validate"
)

var kinds = []Kind{Engage, Mix}

// statusOf is what the endpoint answers to a body by its validation alone.
func statusOf(body []byte) int {
	e, err := validate.Parse(body, validate.Options{})
	if err != nil {
		return 415
	}
	defer e.Release()
	switch {
	case errors.Is(e.Err(), validate.ErrDataVersion):
		return 422
	case e.Err() != nil:
		return 400
	case e.Conformant() < len(e.Items()):
		return 202
	}
	return 200
}

// faultsOf are the faults of contract 1.5 by their codes.
var faultsOf = map[string]validate.Faults{
	"":            0,
	"id":          validate.FaultID,
	"@context":    validate.FaultContext,
	"actor":       validate.FaultActor,
	"type/action": validate.FaultAction,
	"eventTime":   validate.FaultEventTime,
	allRules:      validate.FaultID | validate.FaultContext | validate.FaultActor | validate.FaultAction | validate.FaultEventTime,
}

// Every item is judged as the corpus says, for the fault it was given and no other, and stands where IDs points.
func TestVerdicts(t *testing.T) {
	codes := make(map[string]int)
	for _, kind := range kinds {
		g := New(kind, 42)
		for i := range 400 {
			e := g.Envelope(1+i%20, float64(i%3)*0.2)
			if got := statusOf(e.Body); got != e.Status {
				t.Fatalf("%v %d: status %d, want %d: %s", kind, i, got, e.Status, e.Body)
			}
			p, err := validate.Parse(e.Body, validate.Options{})
			if err != nil || len(p.Items()) != e.Items || len(e.IDs) != e.Items || len(e.Faulty) != e.Items {
				t.Fatalf("%v %d: %v, %d items, want %d: %s", kind, i, err, len(p.Items()), e.Items, e.Body)
			}
			for j, item := range p.Items() {
				codes[e.codes[j]]++
				if item.Faults != faultsOf[e.codes[j]] || e.Faulty[j] != (e.codes[j] != "") {
					t.Errorf("%v %d: faults %b, want %b for %q: %s", kind, i, item.Faults, faultsOf[e.codes[j]], e.codes[j], item.Raw)
				}
				id := `"urn:uuid:` + string(e.Body[e.IDs[j]:][:IDBytes]) + `"`
				if !e.Faulty[j] && string(item.ID) != id || !bytes.Contains(item.Raw, []byte(id)) {
					t.Errorf("%v %d: id %s, want %s: %s", kind, i, item.ID, id, item.Raw)
				}
			}
			p.Release()
		}
	}
	for code := range faultsOf {
		if codes[code] == 0 {
			t.Errorf("no item with code %q", code)
		}
	}
}

func TestFaultyShare(t *testing.T) {
	e := New(Mix, 1).Envelope(4000, 0.05)
	if n := e.Rejected(); n < 150 || n > 250 {
		t.Errorf("%d of 4000 items are faulty, want about 200", n)
	}
	for _, c := range []struct {
		share  float64
		status int
	}{{0, 200}, {1, 400}} {
		if e := New(Engage, 1).Envelope(5, c.share); e.Status != c.status || statusOf(e.Body) != c.status {
			t.Errorf("share %v: status %d, in truth %d, want %d", c.share, e.Status, statusOf(e.Body), c.status)
		}
	}
}

func TestBroken(t *testing.T) {
	statuses := make(map[int]int)
	for _, kind := range kinds {
		g := New(kind, 3)
		for i := range 500 {
			e := g.Broken()
			statuses[e.Status]++
			if got := statusOf(e.Body); got != e.Status {
				t.Errorf("%v %d: status %d, want %d: %s", kind, i, got, e.Status, e.Body)
			}
			if len(e.IDs) != e.Items || e.Rejected() != e.Items || len(e.Faulty) != e.Items {
				t.Errorf("%v %d: %d items, %d ids, %d rejected", kind, i, e.Items, len(e.IDs), e.Rejected())
			}
			for _, at := range e.IDs {
				if _, _, ok := ParseID(e.Body[at : at+IDBytes]); !ok {
					t.Errorf("%v %d: no id at %d: %s", kind, i, at, e.Body)
				}
			}
		}
	}
	for _, status := range []int{400, 415, 422} {
		if statuses[status] < 100 {
			t.Errorf("%d of 1000 bodies have status %d, want at least 100", statuses[status], status)
		}
	}
}

// digestOf depends on every byte of the first envelopes of a generator.
func digestOf(kind Kind, seed uint64) string {
	h := sha256.New()
	g := New(kind, seed)
	for i := range 50 {
		e := g.Envelope(1+i%7, 0.1)
		h.Write(e.Body)
		e = g.Broken()
		h.Write(e.Body)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// Numbers of two revisions can be compared only while the corpus stays the same. Whoever changes it on purpose
// changes the digests.
func TestSameSeedSameBytes(t *testing.T) {
	for _, c := range []struct {
		kind   Kind
		digest string
	}{{Engage, "2590f086a0a27dfd"}, {Mix, "71469a5072bfaa58"}} {
		if got := digestOf(c.kind, 1); got != c.digest {
			t.Errorf("%v: digest %s, want %s", c.kind, got, c.digest)
		}
		if digestOf(c.kind, 2) == digestOf(c.kind, 1) {
			t.Errorf("%v: the seed makes no difference", c.kind)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		kind                        Kind
		least, low, mid, high, most int // of all, 10 %, half, 90 %, of all
	}{
		{Engage, 960, 1030, 1060, 1100, 1150},
		{Mix, minItemBytes, 900, 1600, 3300, maxItemBytes},
	} {
		g := New(c.kind, 5)
		var sizes []int
		for range 300 {
			e := g.Envelope(10, 0)
			p, err := validate.Parse(e.Body, validate.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range p.Items() {
				sizes = append(sizes, len(item.Raw))
			}
			p.Release()
		}
		slices.Sort(sizes)
		n := len(sizes)
		if sizes[0] < c.least || sizes[n/10] > c.low || sizes[n/2] > c.mid || sizes[n*9/10] > c.high || sizes[n-1] > c.most {
			t.Errorf("%v: sizes %d %d %d %d %d, want at least %d, and at most %d %d %d %d", c.kind,
				sizes[0], sizes[n/10], sizes[n/2], sizes[n*9/10], sizes[n-1], c.least, c.low, c.mid, c.high, c.most)
		}
		if c.kind == Mix && sizes[n-1] < 6000 {
			t.Errorf("largest item of the mix has %d bytes, want 6000 or more", sizes[n-1])
		}
	}
}

// The mix has what the endpoint must cope with.
func TestVariety(t *testing.T) {
	scripts := map[string]*unicode.RangeTable{
		"Cyrillic": unicode.Cyrillic, "Arabic": unicode.Arabic, "Han": unicode.Han, "Devanagari": unicode.Devanagari, "Hangul": unicode.Hangul,
	}
	g := New(Mix, 9)
	types, pairs, seen := make(map[string]bool), make(map[string]bool), make(map[string]int)
	for range 500 {
		e := g.Envelope(10, 0)
		p, err := validate.Parse(e.Body, validate.Options{})
		if err != nil {
			t.Fatal(err)
		}
		seen[string(p.DataVersion())]++
		if p.LineBreaks() {
			seen["line breaks"]++
		}
		for _, item := range p.Items() {
			if item.Entity {
				seen["entity describe"]++
				continue
			}
			types[item.Type] = true
			pairs[item.Type+" "+item.Action] = true
			if bytes.Contains(item.Raw, []byte("lti_message_type")) {
				seen["launch parameters"]++
			}
			if bytes.Contains(item.Raw, []byte(`\u`)) {
				seen["escapes"]++
			}
			for name, table := range scripts {
				if bytes.ContainsFunc(item.Raw, func(r rune) bool { return r >= 0x80 && unicode.Is(table, r) }) {
					seen[name]++
				}
			}
		}
		p.Release()
	}
	if len(types) != 24 || len(pairs) < 110 {
		t.Errorf("%d event types and %d pairs of type and action, want 24 and at least 110", len(types), len(pairs))
	}
	for _, what := range []string{
		`"http://purl.imsglobal.org/ctx/caliper/v1p1"`, `"http://purl.imsglobal.org/ctx/caliper/v1p2"`, "line breaks", "entity describe",
		"launch parameters", "escapes", "Cyrillic", "Arabic", "Han", "Devanagari", "Hangul",
	} {
		if seen[what] < 10 {
			t.Errorf("%s: %d, want at least 10", what, seen[what])
		}
	}
}

func TestStamp(t *testing.T) {
	for _, kind := range kinds {
		g := New(kind, 77)
		seen := make(map[string]bool)
		for range 50 {
			e := g.Envelope(20, 0.2)
			for _, at := range e.IDs {
				id := string(e.Body[at:][:IDBytes])
				if seen[id] {
					t.Fatalf("%v: id %s twice", kind, id)
				}
				seen[id] = true
			}
			before := bytes.Clone(e.Body)
			if next := e.Stamp(5, 1000); next != 1020 {
				t.Fatalf("Stamp returns %d, want 1020", next)
			}
			for i, at := range e.IDs {
				if sender, n, ok := ParseID(e.Body[at:][:IDBytes]); !ok || sender != 5 || n != 1000+uint64(i) {
					t.Errorf("item %d: id of %d %d %v, want 5 %d", i, sender, n, ok, 1000+i)
				}
				copy(before[at:][:IDBytes], e.Body[at:])
			}
			if !bytes.Equal(before, e.Body) {
				t.Errorf("%v: Stamp has written beside the ids", kind)
			}
			if got := statusOf(e.Body); got != e.Status {
				t.Errorf("%v: status %d after Stamp, want %d", kind, got, e.Status)
			}
		}
	}
}

func TestKindAsText(t *testing.T) {
	for _, kind := range kinds {
		text, err := kind.MarshalText()
		var got Kind
		if err != nil || got.UnmarshalText(text) != nil || got != kind {
			t.Errorf("%v becomes %s and %v", kind, text, got)
		}
	}
	var k Kind
	if err := k.UnmarshalText([]byte("Mix")); err == nil {
		t.Error("a kind in capitals is taken")
	}
}

func BenchmarkEnvelope(b *testing.B) {
	for _, kind := range kinds {
		b.Run(fmt.Sprintf("kind=%v", kind), func(b *testing.B) {
			g := New(kind, 1)
			for b.Loop() {
				g.Envelope(1, 0)
			}
		})
	}
}
