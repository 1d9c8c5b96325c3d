package tokenmap

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func mustMap(t testing.TB, yaml string) *Map {
	t.Helper()
	doc, err := parse([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return newMap(doc.entries)
}

func TestLookup(t *testing.T) {
	a, b, c := tok('a', 40), tok('b', 40), tok('c', 40)
	m := mustMap(t, item("x", a)+item("y", b)+item("x", c))
	for token, tool := range map[string]string{a: "x", b: "y", c: "x"} {
		if p, ok := m.Lookup([]byte(token)); !ok || p.Tool != tool {
			t.Errorf("%s: %v %v, want %s", token, p, ok, tool)
		}
	}
	for _, token := range []string{"", a[:39], a + "=", "A" + a[1:], "x", a + " "} {
		if p, ok := m.Lookup([]byte(token)); ok || p != nil {
			t.Errorf("%q is taken for one of %s", token, p.Tool)
		}
	}
	if p, ok := new(Map).Lookup(nil); ok || p != nil {
		t.Error("an empty map knows somebody")
	}
	var order string
	for p := range m.Principals() {
		order += p.Tool
	}
	if order != "xyx" || m.Len() != 3 {
		t.Errorf("order %s of %d", order, m.Len())
	}
}

// With thousands of tokens many want the same slot of the index.
func TestLookupAmongThousands(t *testing.T) {
	const n = 5000
	token := func(i int) string { return fmt.Sprintf("%s%08d", tok('a', 40), i) }
	tool := func(i int) string { return fmt.Sprintf("tool-%d", i) }
	var yaml strings.Builder
	for i := range n {
		yaml.WriteString(item(tool(i), token(i)))
	}
	m := mustMap(t, yaml.String())
	for i := range n {
		if p, ok := m.Lookup([]byte(token(i))); !ok || p.Tool != tool(i) {
			t.Fatalf("token %d: %v %v", i, p, ok)
		}
		if p, ok := m.Lookup([]byte(token(n + i))); ok {
			t.Fatalf("token %d is taken for one of %s", n+i, p.Tool)
		}
	}
}

func TestFingerprint(t *testing.T) {
	// printf LDbz… | sha256sum | head -c 8
	const token = "LDbzS7lOirWY4FPeoT2RdHq77jfCFPNjDjcjU1JvEDr49UeL1nOI0c94Sp0kDwjR"
	p, _ := mustMap(t, item("iClicker", token)).Lookup([]byte(token))
	if p == nil || p.Fingerprint != "37c28ff5" {
		t.Errorf("got %+v", p)
	}
}

func TestTouch(t *testing.T) {
	p := new(Principal)
	if !p.LastUsed().IsZero() {
		t.Errorf("never used, but %v", p.LastUsed())
	}
	at := time.Date(2026, 11, 22, 20, 0, 0, 999, time.FixedZone("", 3600))
	p.Touch(at)
	if want := at.Truncate(time.Second); !p.LastUsed().Equal(want) || p.LastUsed().Location() != time.UTC {
		t.Errorf("got %v, want %v", p.LastUsed(), want)
	}
}

func TestAdoptKeepsPrincipals(t *testing.T) {
	stays, moves, goes, comes := tok('a', 40), tok('b', 40), tok('c', 40), tok('d', 40)
	old := mustMap(t, item("x", stays)+item("x", moves)+item("x", goes))
	at := time.Unix(1_800_000_000, 0).UTC()
	for p := range old.Principals() {
		p.Touch(at)
	}
	next := mustMap(t, item("z", comes)+item("x", stays)+item("y", moves))
	next.adopt(old)
	was, _ := old.Lookup([]byte(stays))
	if is, _ := next.Lookup([]byte(stays)); is != was {
		t.Error("a token that stays has a new Principal")
	}
	if p, _ := next.Lookup([]byte(moves)); p.Tool != "y" || !p.LastUsed().Equal(at) {
		t.Errorf("a token that changed its tool: %s, used %v", p.Tool, p.LastUsed())
	}
	if p, _ := next.Lookup([]byte(comes)); !p.LastUsed().IsZero() {
		t.Errorf("a new token was used %v", p.LastUsed())
	}
	if _, ok := next.Lookup([]byte(goes)); ok {
		t.Error("a token that is gone is known")
	}
	if p, _ := old.Lookup([]byte(moves)); p.Tool != "x" {
		t.Error("the map in force was changed")
	}
}

// manyTokens is a map of n tokens with the length that Add gives.
func manyTokens(tb testing.TB, n int) (*Map, [][]byte) {
	tb.Helper()
	var entries []entry
	var tokens [][]byte
	for i := range n {
		token := newToken()
		entries = append(entries, entry{fmt.Sprintf("tool-%d", i/2), token})
		tokens = append(tokens, []byte(token))
	}
	return newMap(entries), tokens
}

func TestLookupAllocatesNothing(t *testing.T) {
	m, tokens := manyTokens(t, 100)
	l := new(Live)
	l.current.Store(m)
	unknown := []byte(newToken())
	now := time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		p, ok := l.Lookup(tokens[7])
		if !ok {
			t.Fatal("not found")
		}
		p.Touch(now)
		if _, ok := l.Lookup(unknown); ok {
			t.Fatal("found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		m, tokens := manyTokens(b, n)
		unknown := []byte(newToken())
		b.Run(fmt.Sprintf("tokens=%d/known=true", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := m.Lookup(tokens[i%n]); !ok {
					b.Fatal("not found")
				}
			}
		})
		b.Run(fmt.Sprintf("tokens=%d/known=false", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := m.Lookup(unknown); ok {
					b.Fatal("found")
				}
			}
		})
	}
}
