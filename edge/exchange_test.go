package edge

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestExchanges runs the files of testdata/http, each against an endpoint of its
// own. A file begins with comments (#) and settings (!), see set; then come
// exchanges:
//
//	--- title          an exchange on a new connection; +++ on the one before
//	POST / HTTP/1.1    sent, with CRLF for LF in the header
//	Host: edge.example
//	Content-Length: {{length}}
//
//	{{{head}},"data":[{{event 1}}]}
//	>>>                further body bytes of the request
//	&&&                a further request, sent without waiting
//	<<<                what is expected now
//	200 OK
//	Name: value        this header; -Name: not that one; *Name: any value; a
//	                   Retry-After may be up to a minute less
//	!closed            the connection ends with this answer, without a reset
//
//	{"accepted":1}     the body to the letter; after ~, the members that it has
//
// A body may begin with a line of filters, "% fill 1024 | gzip | chunk 100",
// and {{…}} stands for what expand makes of it.
func TestExchanges(t *testing.T) {
	files, err := filepath.Glob("testdata/http/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata/http: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			f := parseExchanges(t, file)
			s := serve(t, f.serving)
			f.prepare(t, s)
			var c *client
			for _, x := range f.exchanges {
				if !x.same || c == nil {
					c = dial(t, s)
				}
				if !t.Run(x.title, func(t *testing.T) { x.run(t, c) }) {
					c = nil // in an unknown state
				}
			}
			if f.stored >= 0 {
				if n := len(s.records(t)); n != f.stored {
					t.Errorf("%d records are stored, want %d", n, f.stored)
				}
			}
		})
	}
}

type exchangeFile struct {
	serving
	prepare   func(testing.TB, *served)
	stored    int // records at the end, or -1
	exchanges []*exchange
}

type exchange struct {
	title string
	line  int
	same  bool // on the connection of the exchange before
	steps []step
}

// step sends, or expects where want is set.
type step struct {
	send    []byte
	methods []string // of the requests sent
	want    *wanted
}

type wanted struct {
	status  string
	headers map[string]string
	absent  []string
	any     []string
	closed  bool
	body    *string
	subset  any // in place of body
}

func (x *exchange) run(t *testing.T, c *client) {
	var methods []string
	for _, s := range x.steps {
		if s.want == nil {
			c.Write(s.send) // a server that refuses may have closed already
			methods = append(methods, s.methods...)
			continue
		}
		method := http.MethodPost
		if len(methods) > 0 {
			method = methods[0]
		}
		a, err := c.read(method)
		if err != nil {
			t.Fatalf("line %d: reading the answer, want %s: %v", x.line, s.want.status, err)
		}
		if a.StatusCode != http.StatusContinue && len(methods) > 0 {
			methods = methods[1:]
		}
		s.want.check(t, a)
		if s.want.closed {
			if err := c.ended(); err != nil {
				t.Errorf("end of the connection: %v", err)
			}
		}
	}
}

func (w *wanted) check(t *testing.T, a *answer) {
	t.Helper()
	if a.Status != w.status {
		t.Errorf("status %q, want %q; body %.300s", a.Status, w.status, a.body)
	}
	if a.Close { // taken off the header by net/http
		a.Header.Set("Connection", "close")
	}
	for _, name := range slices.Sorted(maps.Keys(w.headers)) {
		got := strings.Join(a.Header.Values(name), " | ")
		if seconds, err := strconv.Atoi(got); err == nil && name == "Retry-After" { // it counts down while the test runs
			if most, _ := strconv.Atoi(w.headers[name]); seconds <= most && seconds >= most-60 {
				continue
			}
		}
		if got != w.headers[name] {
			t.Errorf("%s: %q, want %q", name, got, w.headers[name])
		}
	}
	for _, name := range w.absent {
		if got, ok := a.Header[http.CanonicalHeaderKey(name)]; ok {
			t.Errorf("%s: %q, want none", name, got)
		}
	}
	for _, name := range w.any {
		if a.Header.Get(name) == "" {
			t.Errorf("no header %s", name)
		}
	}
	if w.closed != a.Close && a.StatusCode != http.StatusContinue {
		t.Errorf("Connection: close is %v, want %v", a.Close, w.closed)
	}
	if w.body != nil && a.body != *w.body {
		t.Errorf("body\n%s\nwant\n%s", a.body, *w.body)
	}
	if w.subset != nil {
		var got any
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Errorf("body %q: %v", a.body, err)
		} else if fault := missing("", w.subset, got); fault != "" {
			t.Errorf("%s; body %.2000s", fault, a.body)
		}
	}
}

// missing says where got lacks something of want: members of objects; lists must
// have the same length.
func missing(where string, want, got any) string {
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is no object", where)
		}
		for name, w := range want {
			g, ok := object[name]
			if !ok {
				return fmt.Sprintf("%s/%s is missing", where, name)
			}
			if fault := missing(where+"/"+name, w, g); fault != "" {
				return fault
			}
		}
		return ""
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return fmt.Sprintf("%s is %v, want %d elements", where, got, len(want))
		}
		for i := range want {
			if fault := missing(fmt.Sprintf("%s/%d", where, i), want[i], list[i]); fault != "" {
				return fault
			}
		}
		return ""
	}
	if want != got {
		return fmt.Sprintf("%s is %v, want %v", where, got, want)
	}
	return ""
}
