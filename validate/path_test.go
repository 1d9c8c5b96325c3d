package validate

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func mustPath(t testing.TB, text string) Path {
	t.Helper()
	p, err := ParsePath(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// lookup finds text's value in an item both ways, which must agree.
func lookup(t testing.TB, item, text string) []byte {
	t.Helper()
	it := &Item{Raw: []byte(item)}
	p := mustPath(t, text)
	one := it.Lookup(p)
	other := mustPath(t, "nowhere.at.all")
	all := NewPaths([]Path{other, p})
	values := [][]byte{[]byte("stale"), []byte("stale")}
	all.Find(it, values)
	if values[0] != nil || string(values[1]) != string(one) || (values[1] == nil) != (one == nil) {
		t.Errorf("%s in %s: Lookup says %s, Find %s", text, item, one, values)
	}
	return one
}

func TestLookup(t *testing.T) {
	f := func(item, path, want string) {
		t.Helper()
		if got := lookup(t, item, path); string(got) != want || want == "" && got != nil {
			t.Errorf("%s in %s is %s, want %s", path, item, got, want)
		}
	}
	const nested = `{"x" : "a\"b", "group":{ "id" :"urn:1","n":{"m":[1,{"id":2}],"s":"}"}},"other":{"id":"no"},"t":true}`
	f(nested, "group.id", `"urn:1"`)
	f(nested, "group.n.m", `[1,{"id":2}]`)
	f(nested, "group.n", `{"m":[1,{"id":2}],"s":"}"}`)
	f(nested, "group.n.s", `"}"`)
	f(nested, "t", `true`)
	f(nested, "x", `"a\"b"`)
	f(nested, "id", "")
	f(nested, "group.n.m.id", "") // arrays are not entered
	f(nested, "x.id", "")
	f(nested, "group.Id", "")
	f(`{"a":1,"a":2}`, "a", "2")
	f(`{"a":{"b":1},"a":{"c":2}}`, "a.b", "")
	f(`{"a":{"b":1},"a":null}`, "a.b", "")
	f(`{"a":1,"a":null}`, "a", "")
	f(`{"a":null,"a":-1.5e3}`, "a", "-1.5e3")
	f(`{"\u0061":1}`, "a", "1")
	f(`{"gr\u006fup":{"\u0069d":7}}`, "group.id", "7")
	f(`{"a\/b":1}`, "a/b", "1")
	f(`{"\ud83d\ude00":1}`, "😀", "1")
	f(`{"com.example":{"a\"b":1}}`, `"com.example"."a\"b"`, "1")
	f(`{"a\\":"\\","b":"\\\"","c":3}`, "c", "3")
	f(`{"a":"","b":{},"c":[]}`, "a", `""`)
	f(`{"a":"","b":{},"c":[]}`, "c", `[]`)
	f(`{}`, "a", "")
	f(`7`, "a", "")
	f(`{"a":1`+"\n\t"+`,"b" :`+"\r"+`2 }`, "b", "2")
	if (&Item{Raw: []byte(`{"a":1}`)}).Lookup(Path{}) != nil {
		t.Error("the zero Path leads somewhere")
	}
}

// Paths that share names, one of them on the way of another.
func TestFindSharedWay(t *testing.T) {
	item := &Item{Raw: []byte(`{"a":{"b":{"c":1},"d":2},"e":"x","a":{"b":{"c":3}}}`)}
	var paths []Path
	for _, text := range []string{"a.b.c", "a.b", "a", "a.d", "e"} {
		paths = append(paths, mustPath(t, text))
	}
	all := NewPaths(paths)
	values := make([][]byte, len(paths))
	all.Find(item, values)
	if got := fmt.Sprintf("%s", values); got != `[3 {"c":3} {"b":{"c":3}}  "x"]` {
		t.Errorf("found %s", got)
	}
}

func TestParsePath(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		p, err := ParsePath(text)
		if got := strings.Join(p.names, "|"); err != nil || got != want || p.String() != text {
			t.Errorf("%s is %s, %v, want %s", text, got, err, want)
		}
	}
	f("id", "id")
	f("a.b.c", "a|b|c")
	f(`extensions."com.example.tool".room`, "extensions|com.example.tool|room")
	f(`"a\"b\\"`, `a"b\`)
	f("@context", "@context")
	for _, bad := range []string{"", ".", "a.", ".a", "a..b", `"a`, `"a"b`, `""`, "a.b.c.d.e.f.g.h.i", strings.Repeat("n", 101)} {
		if p, err := ParsePath(bad); err == nil || !strings.Contains(err.Error(), "path ") {
			t.Errorf("%q is accepted as %q, or the error does not name it: %v", bad, p.names, err)
		}
	}
}

// FuzzLookup compares with encoding/json, for which the last of doubled members counts too.
func FuzzLookup(f *testing.F) {
	f.Add([]byte(`{"a":{"b":1,"b":"\u0061"},"\u0061":{"b":[null]}}`))
	f.Add([]byte(`{"a":{"b":{"a":"\\"}},"b":"\\\""}`))
	f.Add([]byte(`{"a" :7 , "b":{"a":{"b":"x}]"}}, "a":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var facts facts
		if facts.scan(body) != nil {
			return
		}
		item := body[skipSeparators(body, 0):]
		for _, path := range []string{"a", "b", "a.b", "b.a", "a.b.a", "b.a.b"} {
			got := lookup(t, string(item), path)
			want := standardLookup(item, strings.Split(path, "."))
			if (got == nil) != (want == nil) || got != nil && !sameJSON(got, want) {
				t.Fatalf("%s in %q is %q, want %q", path, item, got, want)
			}
		}
	})
}

func standardLookup(value []byte, names []string) []byte {
	for _, name := range names {
		var members map[string]json.RawMessage
		if json.Unmarshal(value, &members) != nil {
			return nil
		}
		value = members[name]
	}
	if string(value) == "null" {
		return nil
	}
	return value
}

func sameJSON(a, b []byte) bool { return strings.TrimSpace(string(a)) == strings.TrimSpace(string(b)) }

func TestText(t *testing.T) {
	f := func(value, want string, plain bool) {
		t.Helper()
		text, ok := AppendText([]byte("-"), []byte(value))
		if string(text) != "-"+want || ok != (want != "" || value == `""`) {
			t.Errorf("text of %s is %q, %v, want %q", value, text, ok, want)
		}
		if view, ok := PlainText([]byte(value)); ok != plain || ok && string(view) != want {
			t.Errorf("plain text of %s is %q, %v", value, view, ok)
		}
	}
	f(`"abc"`, "abc", true)
	f(`"a\/b\n\ud83d\ude00"`, "a/b\n😀", false)
	f(`""`, "", true)
	f(`12.50`, "12.50", true)
	f(`true`, "true", true)
	f(`null`, "", false)
	f(`[1]`, "", false)
	f(`{}`, "", false)
	f(``, "", false)
}

func BenchmarkLookup(b *testing.B) {
	e, err := Parse(engageEnvelope(1), Options{})
	if err != nil {
		b.Fatal(err)
	}
	it := &e.Items()[0]
	texts := []string{"group.id", "actor.id", "federatedSession.messageParameters.custom_canvas_course_id", "object.isPartOf.id"}
	for n := 1; n <= len(texts); n++ {
		var paths []Path
		for _, text := range texts[:n] {
			paths = append(paths, mustPath(b, text))
		}
		all, values := NewPaths(paths), make([][]byte, n)
		b.Run(fmt.Sprintf("paths=%d/in=one", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				all.Find(it, values)
			}
		})
		b.Run(fmt.Sprintf("paths=%d/in=turn", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, p := range paths {
					it.Lookup(p)
				}
			}
		})
	}
	b.Run("parse", func(b *testing.B) {
		body := engageEnvelope(1)
		for b.Loop() {
			e, _ := Parse(body, Options{})
			e.Release()
		}
	})
}
