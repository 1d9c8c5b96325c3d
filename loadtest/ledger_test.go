package main

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"caliperedge/bench/corpus"
)

// TestLiesAreFound has one sender of one-event envelopes and a liar between it and the endpoint.
func TestLiesAreFound(t *testing.T) {
	t.Parallel()
	e := startEndpoint(t)
	honest := func(l *liar, w http.ResponseWriter, r *http.Request, body []byte) {
		status, text := l.forward(r, body)
		reply(w, status, text)
	}
	taken := []byte(`{"accepted":1,"rejected":0,"topics":{"standard":"standard:1"}}`)
	// found tells a finding in a line: events, places, and the spans of the first of them.
	found := func(f Finding) string {
		s := fmt.Sprintf("%d%v", f.Events, f.Places)
		for _, span := range f.Spans {
			s += fmt.Sprintf(" %d-%d %s", span.First, span.Last, span.Place)
		}
		return s
	}
	for _, test := range []struct {
		name string
		lie  func(n int64) string
		want func(a *Audit) (got, want string)
		good bool
	}{
		{"dropped in the middle", func(n int64) string { return map[int64]string{3: "drop", 4: "drop", 9: "drop"}[n] },
			func(a *Audit) (string, string) { return found(a.Missing), "3map[middle:3] 2-3 middle 8-8 middle" }, false},
		{"dropped at first", func(n int64) string { return map[bool]string{true: "drop"}[n <= 2] },
			func(a *Audit) (string, string) { return found(a.Missing), "2map[prefix:2] 0-1 prefix" }, false},
		{"dropped at last", func(n int64) string { return map[bool]string{true: "drop"}[n > 15] },
			func(a *Audit) (string, string) { return found(a.Missing), "5map[postfix:5] 15-19 postfix" }, false},
		{"dropped altogether", func(n int64) string { return "drop" },
			func(a *Audit) (string, string) { return found(a.Missing), "20map[all:20] 0-19 all" }, false},
		{"a refusal does not end a span", func(n int64) string { return map[int64]string{6: "drop", 7: "drop and refuse", 8: "drop"}[n] },
			func(a *Audit) (string, string) { return found(a.Missing), "2map[middle:2] 5-7 middle" }, false},
		{"stored and refused", func(n int64) string { return map[int64]string{5: "refuse"}[n] },
			func(a *Audit) (string, string) { return found(a.RefusedStored), "1map[] 4-4 " }, false},
		{"stored and never sent", func(n int64) string { return map[int64]string{5: "invent"}[n] },
			func(a *Audit) (string, string) { return found(a.NeverSent), "1map[] 1000004-1000004 " }, false},
		{"stored twice", func(n int64) string { return map[int64]string{5: "double", 6: "double"}[n] },
			func(a *Audit) (string, string) { return found(a.Repeated), "2map[] 4-5 " }, true},
		{"stored, 503", func(n int64) string { return map[int64]string{5: "hide"}[n] },
			func(a *Audit) (string, string) { return fmt.Sprint(a.Unclear, a.UnclearStored), "1 1" }, true},
		{"not stored, 503", func(n int64) string { return map[int64]string{5: "drop and hide"}[n] },
			func(a *Audit) (string, string) { return fmt.Sprint(a.Unclear, a.UnclearStored), "1 0" }, true},
		{"honest", func(n int64) string { return "" },
			func(a *Audit) (string, string) { return fmt.Sprint(a.Acknowledged), "20" }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			dropped := map[string]bool{}
			url := startLiar(t, e.url, func(l *liar, n int64, w http.ResponseWriter, r *http.Request, body []byte) {
				lie := test.lie(n)
				if lie == "drop" {
					mu.Lock()
					dropped[firstID(body)] = true
					mu.Unlock()
				}
				switch lie {
				case "double":
					l.forward(r, body)
				case "refuse", "hide":
					l.forward(r, body)
				case "invent":
					l.forward(r, invented(body))
				}
				switch lie {
				case "drop":
					reply(w, 200, taken)
				case "refuse", "drop and refuse":
					reply(w, 400, []byte(`{}`))
				case "hide", "drop and hide":
					reply(w, 503, []byte(`{}`))
				default:
					honest(l, w, r, body)
				}
			})
			code, r := loadtest(t, t.Context(), url, "-connections", "1", "-rate", "40", "-duration", "500ms", "-warmup", "0s",
				"-max-errors", "0.5", "-ledger", "-data-dir", e.dataDir)
			if r.Ledger == nil {
				t.Fatalf("exit %d, no ledger: %q", code, r.Verdict)
			}
			if got, want := test.want(r.Ledger); got != want {
				t.Errorf("found %s, want %s", got, want)
			}
			if want := map[bool]int{true: exitGood, false: exitBad}[test.good]; code != want {
				t.Errorf("exit %d, want %d: %q", code, want, r.Verdict)
			}
			for _, span := range r.Ledger.Missing.Spans {
				for _, id := range span.IDs {
					if !dropped[id] {
						t.Errorf("%s is listed as missing and was not dropped", id)
					}
				}
			}
		})
	}
}

// idAt is where the id of the only event is in a body.
func idAt(body []byte) int {
	for i := range body {
		if i+corpus.IDBytes <= len(body) {
			if _, _, ok := corpus.ParseID(body[i : i+corpus.IDBytes]); ok {
				return i
			}
		}
	}
	panic("body without an id")
}

func firstID(body []byte) string {
	i := idAt(body)
	return "urn:uuid:" + string(body[i:i+corpus.IDBytes])
}

// invented is a body with the id that the sender would use a million events later.
func invented(body []byte) []byte {
	b := append([]byte(nil), body...)
	i := idAt(b)
	sender, n, _ := corpus.ParseID(b[i : i+corpus.IDBytes])
	corpus.PutID(b[i:], sender, n+1_000_000)
	return b
}

// TestRunsAreApart: events of another run in the same store are nobody's here.
func TestRunsAreApart(t *testing.T) {
	t.Parallel()
	e := startEndpoint(t)
	args := []string{"-connections", "4", "-rate", "100", "-duration", "200ms", "-warmup", "0s", "-ledger", "-data-dir", e.dataDir}
	_, first := loadtest(t, t.Context(), e.url, args...)
	code, r := loadtest(t, t.Context(), e.url, args...)
	if a := r.Ledger; code != exitGood || a.Others != first.Answered || a.Acknowledged != r.Answered || a.Records != a.Others+a.Acknowledged {
		t.Errorf("exit %d, ledger %+v after %d of another run", code, a, first.Answered)
	}
}

func TestAccountKeepsNeighboursApart(t *testing.T) {
	l := newLedger(newRunID(), 2)
	a := &l.accounts[1]
	a.grow(7)
	a.settle(0, 3, judgement{each: []fate{1, refused, 3}})
	a.settle(3, 2, judgement{all: refused})
	a.settle(5, 1, judgement{})
	a.settle(6, 1, judgement{all: somewhere})
	a.found(2, 1, true)
	a.found(2, 2, true)
	a.found(3, 2, true)
	a.found(3, 2, true)
	a.found(5, 2, false)
	a.found(5, 2, false)
	want := []entry{{1, 0}, {refused, 0}, {3, 3}, {refused, 2 | twice}, {refused, 0}, {unclear, 2}, {somewhere, 0}}
	if !slices.Equal(a.entries, want) {
		t.Errorf("%v, want %v", a.entries, want)
	}
	var none *account // no ledger
	none.grow(1)
	none.settle(0, 1, judgement{})
}

// TestTopicsAreToldApart has a liar change what the answer says about events that are stored in standard, with a copy in live.
func TestTopicsAreToldApart(t *testing.T) {
	t.Parallel()
	e := startCopying(t, "[{name: copy, when: {type: NavigationEvent}, also: live}]")
	for _, test := range []struct {
		name, says                  string // the answer, of topics; nothing where it is the endpoint's
		drop                        bool   // the event
		missing, misplaced, verdict string
	}{
		{"honest", "", false, "map[]", "map[]", ""},
		{"said of two, stored in one", "live other standard", false, "map[other:20]", "map[]", "20 acknowledged events are not stored where"},
		{"stored in one more than said", "live", false, "map[]", "map[standard:20]", "20 events are stored in topics"},
		{"another topic", "live other", false, "map[other:20]", "map[standard:20]", "20 acknowledged events are not stored where"},
		{"moved out of quarantine", "live quarantine", false, "map[]", "map[]", ""},
		{"lost in quarantine", "live quarantine", true, "map[live:20 quarantine:20]", "map[]", "20 acknowledged events are not stored where"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url := startLiar(t, e.url, func(l *liar, n int64, w http.ResponseWriter, r *http.Request, body []byte) {
				body = bytes.ReplaceAll(body, []byte(`"ViewEvent"`), []byte(`"NavigationEvent"`))
				body = bytes.ReplaceAll(body, []byte(`"Viewed"`), []byte(`"NavigatedTo"`))
				status, text := 200, []byte(nil)
				if !test.drop {
					status, text = l.forward(r, body)
				}
				if says := strings.Fields(test.says); len(says) > 0 {
					text = []byte(`{"accepted":1,"rejected":0,"topics":{"` + strings.Join(says, `":"","`) + `":""}}`)
				}
				reply(w, status, text)
			})
			code, r := loadtest(t, t.Context(), url, "-connections", "1", "-rate", "40", "-duration", "500ms", "-warmup", "0s",
				"-ledger", "-data-dir", e.dataDir)
			a := r.Ledger
			if a == nil {
				t.Fatalf("exit %d, no ledger: %q", code, r.Verdict)
			}
			if got := fmt.Sprint(a.Missing.Topics); got != test.missing {
				t.Errorf("missing %s, want %s", got, test.missing)
			}
			if got := fmt.Sprint(a.Misplaced.Topics); got != test.misplaced {
				t.Errorf("misplaced %s, want %s", got, test.misplaced)
			}
			if a.Repeated.Events != 0 || a.Acknowledged != 20 {
				t.Errorf("%d acknowledged, %d repeated: a copy in another topic is no repetition", a.Acknowledged, a.Repeated.Events)
			}
			if verdict := strings.Join(r.Verdict, "; "); !strings.HasPrefix(verdict, test.verdict) || (verdict == "") != (test.verdict == "") {
				t.Errorf("verdict %q, want %q", verdict, test.verdict)
			}
		})
	}
}

// TestReading: what moves while the topics are read is met.
func TestReading(t *testing.T) {
	f := func(asked, named, want string) {
		t.Helper()
		if got := strings.Join(reading(strings.Fields(asked), strings.Fields(named)), " "); got != want {
			t.Errorf("asked for %s, named %s: %s is read, want %s", asked, named, got, want)
		}
	}
	f("standard entities", "", "standard entities")
	f("standard entities", "live standard", "standard entities live")
	f("standard", "entities quarantine", "quarantine quarantine standard entities enriched")
}

func TestRunID(t *testing.T) {
	for range 1000 {
		r, other := newRunID(), newRunID()
		name, counter := r.id(maxConnections-1, 1<<eventBits-1)
		var id [corpus.IDBytes]byte
		corpus.PutID(id[:], name, counter) // panics where they do not fit
		if sender, event, ok := r.parse(name, counter); !ok || sender != maxConnections-1 || event != 1<<eventBits-1 {
			t.Fatalf("%v: parsed as %d, %d, %v", r, sender, event, ok)
		}
		if _, _, ok := other.parse(name, counter); ok != (r == other) {
			t.Fatalf("an id of run %v is taken for one of %v", r, other)
		}
	}
}

func TestRecordID(t *testing.T) {
	f := func(record, want string) {
		t.Helper()
		got, err := recordID([]byte(record))
		if (err != nil) != (want == "error") || err == nil && string(got) != want {
			t.Errorf("%s: %q, %v, want %s", record, got, err, want)
		}
	}
	f(`{"id":"urn:uuid:1","type":"x"}`, "urn:uuid:1")
	f(`{"type":"x","id":"urn:uuid:1"}`, "urn:uuid:1")
	f(`{ "id": "urn:uuid:1" }`, "urn:uuid:1")
	f(`{"type":"x"}`, "")
	f(`not JSON`, "error")
}
