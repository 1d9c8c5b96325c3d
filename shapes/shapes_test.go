package shapes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
)

func isTerm(s string) bool { return s == "Person" || s == "ViewEvent" || s == "Viewed" }

func collect(t *testing.T, c *Collector, p Period, events ...string) {
	t.Helper()
	for _, e := range events {
		if err := c.Add(p, Key{Tool: "T", EdApp: "https://e", Type: "ViewEvent", Action: "Viewed"}, []byte(e)); err != nil {
			t.Fatal(err)
		}
	}
}

// texts is every member as its line of the text, its cells divided by |.
func texts(r *Report) (lines []string) {
	for _, s := range r.Shapes {
		for _, m := range s.Members {
			lines = append(lines, strings.Join([]string{m.Path, r.TypeNames(s, m), r.Share(s, m), strings.Join(m.Examples, " ")}, "|"))
		}
	}
	return lines
}

func TestReport(t *testing.T) {
	c := New(false, isTerm)
	collect(t, c, Now,
		`{"id":"urn:uuid:9a73685d-25b0-4f26-aef8-37e6e2dbc17c","actor":{"type":"Person","id":"https://e.edu/u/554433"},"n":1}`,
		`{"id":"b","actor":"Jane Doe","items":[{"name":"x"},{"name":null},7],"n":2.5,"n":30}`,
		`{"id":"b","extensions":{"com.x":{"at":"2018-10-03T18:21:08.897Z","jane@e.edu":true}}}`)
	got := strings.Join(texts(c.Report("x", false)), "\n")
	want := strings.Join([]string{
		`actor|object or string|67 %|Aaaa Aaa`,
		`actor.id|string|34 %|https://a.aaa/a/999999`,
		`actor.type|string|34 %|Person`,
		`extensions|object|34 %|`,
		`extensions["com.x"]|object|34 %|`,
		`extensions["com.x"].at|string|34 %|<time>`,
		`extensions["com.x"]["aaaa@a.aaa"]|boolean|34 %|`,
		`id|string|100 %|urn:uuid:<uuid> a`,
		`items|array|34 %|`,
		`items[]|number or object|34 %|9`,
		`items[].name|null or string|34 %|a`,
		`n|number|67 %|9 99`,
	}, "\n")
	if strings.ReplaceAll(got, "33 %", "34 %") != want {
		t.Errorf("the report is\n%s\nwant\n%s", got, want)
	}
	c = New(true, isTerm)
	collect(t, c, Now, `{"actor":"Jane Doe","jane@e.edu":1}`)
	if got := strings.Join(texts(c.Report("x", false)), "\n"); got != "actor|string|100 %|Jane Doe\n"+`["jane@e.edu"]|number|100 %|1` && got != `["jane@e.edu"]|number|100 %|1`+"\nactor|string|100 %|Jane Doe" {
		t.Errorf("with values: %s", got)
	}
}

func TestChanges(t *testing.T) {
	c := New(false, isTerm)
	collect(t, c, Before, `{"same":1,"gone":1,"type":1,"often":1}`, `{"same":1,"gone":1,"type":1,"often":1}`)
	collect(t, c, Now, `{"same":1,"new":1,"type":"a","often":1}`, `{"same":2,"type":"a"}`)
	key := Key{Tool: "T", Type: "ViewEvent"}
	for p, tool := range map[Period]string{Before: "Old", Now: "Young"} {
		key.Tool = tool
		if err := c.Add(p, key, []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, s := range c.Report("x", true).Shapes {
		for _, change := range s.Changes {
			got = append(got, s.Tool+" "+change)
		}
	}
	want := []string{"Old gone: no such event now", "T gone: gone", "T new: new", "T often: in 50 % of the events, was in 100 %", "T type: was number, is string", "Young new: no such event before"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("changes are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, s := range c.Report("x", false).Shapes {
		if len(s.Changes) > 0 {
			t.Errorf("changes without a comparison: %q", s.Changes)
		}
	}
}

// Nothing of a person is in a report of any form, whatever member it stands in,
// nor in the member's name.
func TestNothingPersonal(t *testing.T) {
	secrets := []string{"Jane", "Doe", "jane.doe", "@example.edu", "554433", "9a73685d", "1984", "Zoë", "geheim"}
	c := New(false, isTerm)
	event := `{"actor":{"name":"Jane Doe","email":"jane.doe@example.edu","id":"https://example.edu/users/554433"},"born":"1984-05-06","n":1984,
		"session":"9a73685d-25b0-4f26-aef8-37e6e2dbc17c","nick":"Zoë","type":"Jane","scores":{"jane.doe@example.edu":5,"554433":1,"Jane Doe":2}}`
	for _, edApp := range []string{"https://app.example.com/launch?user=geheim", "https://app.example.com/#/geheim", "mailto:jane.doe@example.edu", "https://app.example.com/jane.doe%40example.edu"} {
		if err := c.Add(Now, Key{Tool: "T", EdApp: edApp, Type: "Jane", Action: "Doe"}, []byte(event)); err != nil {
			t.Fatal(err)
		}
	}
	r := c.Report("x", false)
	var all bytes.Buffer
	if err := r.WriteText(&all); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteHTML(&all); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(&all).Encode(r); err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets {
		if strings.Contains(all.String(), s) {
			t.Errorf("%q is in the report", s)
		}
	}
	if !strings.Contains(all.String(), "https://app.example.com/launch") {
		t.Error("the edApp is not in the report")
	}
}

// Members that are many and rare are the keys of a map: their names, which may
// be those of people, are not in the report.
func TestManyRareNames(t *testing.T) {
	name := func(i int) string { return "jane_" + string(rune('a'+i/26)) + string(rune('a'+i%26)) }
	report := func(values bool, names, events int, more string) (*Report, string) {
		c := New(values, isTerm)
		for i := range events {
			period := Now
			if i%2 == 0 {
				period = Before
			}
			collect(t, c, period, fmt.Sprintf(`{"scores":{%q:{"points":%d,"of":["x"]},"total":1%s}}`, name(i%names), i%10, more))
		}
		r := c.Report("x", true)
		return r, strings.Join(texts(r), "\n")
	}
	r, got := report(false, 40, 400, "")
	want := strings.Join([]string{
		`scores|object|100 %|`,
		`scores.*|object|40 names|`,
		`scores.*.of|array|200 times|`,
		`scores.*.of[]|string|200 times|a`,
		`scores.*.points|number|200 times|9`,
		`scores.total|number|100 %|9`,
	}, "\n")
	if got != want || len(r.Shapes[0].Changes) > 0 {
		t.Errorf("the report is\n%s\nwant\n%s\nchanges %q", got, want, r.Shapes[0].Changes)
	}
	var all bytes.Buffer
	if err := errors.Join(r.WriteText(&all), r.WriteHTML(&all), json.NewEncoder(&all).Encode(r)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(all.String(), "jane") {
		t.Errorf("a name is in the report:\n%s", &all)
	}
	if _, got := report(false, 400, 800, ""); !strings.Contains(got, "scores.*|object|63 names|") || strings.Contains(got, "jane") {
		t.Errorf("with more names than are told apart:\n%s", got)
	}
	// What is not rare, or not much, is told apart, and so is everything where
	// values are asked for.
	wide := ""
	for i := range 30 {
		wide += fmt.Sprintf(`,"field_%c":1`, 'a'+i)
	}
	for what, got := range map[string]func() (*Report, string){
		"twenty":      func() (*Report, string) { return report(false, 20, 500, "") },
		"few events":  func() (*Report, string) { return report(false, 20, 20, wide) },
		"with values": func() (*Report, string) { return report(true, 40, 400, "") },
	} {
		if _, text := got(); strings.Contains(text, "*") || !strings.Contains(text, "scores.jane_ab.points") {
			t.Errorf("%s:\n%s", what, text)
		}
	}
	// An object that is rare has members that are as rare, and are no map.
	c := New(false, isTerm)
	for range 100 {
		collect(t, c, Now, `{}`)
	}
	collect(t, c, Now, `{"scores":{`+wide[1:]+`}}`)
	if got := strings.Join(texts(c.Report("x", false)), "\n"); strings.Contains(got, "*") {
		t.Errorf("a rare object:\n%s", got)
	}
}

// Whatever comes, what is kept stays within its bounds, and the report says so.
func TestBounds(t *testing.T) {
	c := New(true, nil)
	c.paths = maxPaths - 5000 // as after many others
	for i := range maxShapes + 10 {
		if err := c.Add(Now, Key{EdApp: fmt.Sprint(i)}, []byte(`{"a":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	var wide strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&wide, `,"m%d":{"x":%d}`, i, i)
	}
	collectWide := func(k Key, n int) {
		for i := range n {
			nested := strings.Repeat(fmt.Sprintf(`{"%d%s":`, i, strings.Repeat("n", i%40)), 50) + `1` + strings.Repeat("}", 50)
			if err := c.Add(Now, k, []byte(`{"a":`+nested+wide.String()+`}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	collectWide(Key{EdApp: "0"}, 100)
	r := c.Report("x", false)
	if r.Missed != 10 || !r.Cut || c.paths > maxPaths {
		t.Errorf("%d events missed, cut %v, %d paths", r.Missed, r.Cut, c.paths)
	}
	for _, s := range r.Shapes {
		if s.EdApp != "0" {
			continue
		}
		top := 0
		for _, m := range s.Members {
			if !strings.ContainsAny(m.Path, ".[") {
				top++
			}
			if len(m.Examples) > maxExamples {
				t.Errorf("%s has %d examples", m.Path, len(m.Examples))
			}
		}
		if top != maxNames+1 {
			t.Errorf("%d members of the event are told apart, want %d and *", top, maxNames)
		}
	}
	if err := c.Add(Now, Key{}, []byte(`{`)); err == nil {
		t.Error("what is no JSON is taken")
	}
}

func TestMask(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"Jane Doe-7":            "Aaaa Aaa-9",
		"abcdefghijk1234567890": "aaaaaaaa+99999999+",
		"urn:x:9A73685D-25b0-4f26-aef8-37e6e2dbc17c": "urn:a:<uuid>",
		"http://e.edu/~jd?q=1#x":                     "http://a.aaa/~aa?a=9#a",
		"at 2018-10-03T18:21:08Z !":                  "aa <time> !",
		"日本\n☃":                                      "aa??",
	} {
		if got := Mask(in); got != want {
			t.Errorf("Mask(%q) = %q, want %q", in, got, want)
		}
	}
}

// What a sensor sends can neither command a terminal nor show a text as another.
func TestNothingHidden(t *testing.T) {
	for _, values := range []bool{false, true} {
		c := New(values, isTerm)
		hostile := "\x1b[2J\u009b\x7f\u202e\n\t<script>alert(1)</script>"
		key := Key{Tool: "T" + hostile, EdApp: "https://e.edu/" + hostile, Type: "V" + hostile, Action: "A" + hostile}
		event, err := json.Marshal(map[string]any{"a": hostile, hostile: map[string]any{"x": 1, "y" + hostile: 2}, "z": []string{hostile}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Add(Now, key, event); err != nil {
			t.Fatal(err)
		}
		r := c.Report("file"+hostile, true)
		var text, page bytes.Buffer
		if err := errors.Join(r.WriteText(&text), r.WriteHTML(&page)); err != nil {
			t.Fatal(err)
		}
		for name, out := range map[string]string{"text": text.String(), "page": page.String()} {
			if strings.ContainsFunc(out, func(r rune) bool { return r != '\n' && unicode.In(r, unicode.Cc, unicode.Cf) }) {
				t.Errorf("values %v: the %s has %q", values, name, out)
			}
			if name == "page" && strings.Contains(out, "<script") {
				t.Error("the page has a script")
			}
			if !strings.Contains(out, `https://e.edu/\u001b[2J\u009b\u007f\u202e\u000a\u0009`) {
				t.Errorf("the %s does not show the edApp: %s", name, out)
			}
		}
	}
}

// The page is one file, names nothing outside, and cannot be made to run
// anything.
func TestPage(t *testing.T) {
	c := New(true, nil)
	if err := c.Add(Now, Key{Tool: "T", Type: `<script>alert(1)</script>`}, []byte(`{"<img src=x>":"</code><script>alert(2)</script>","u":"https://e.edu"}`)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.Report("x", false).WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "<img", "src=", "href=", "url(", "@import"} {
		if strings.Contains(strings.ReplaceAll(b.String(), "&lt;img src=x&gt;", ""), bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	if !strings.Contains(b.String(), "personal data") {
		t.Error("a page with values does not say so")
	}
}
