package validate

import (
	"slices"
	"strings"
	"testing"
)

const (
	vendorType    = "https://vendor.example.com/caliper/LTIEvent"
	vendorContext = "https://vendor.example.com/ctx/v1"
)

func vendorVocabulary(t testing.TB) *Vocabulary {
	t.Helper()
	v, err := NewVocabulary([]string{vendorContext}, map[string][]string{
		vendorType: {"LoggedIn", "Shuffled"}, "SessionEvent": {"Declined"}, "ViewEvent": {"MarkedAsUnRead"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// eventWith is an event with type, action and context as JSON.
func eventWith(eventType, action, context string) string {
	return `{"@context":` + context + `,"id":"urn:1","actor":"urn:a","eventTime":"2026-11-22T20:00:00.000Z","type":` + eventType + `,"action":` + action + `}`
}

func TestVocabulary(t *testing.T) {
	const caliper = `"http://purl.imsglobal.org/ctx/caliper/v1p1"`
	v := vendorVocabulary(t)
	f := func(eventType, action, context string, without, extra Faults, wantType, wantAction string) {
		t.Helper()
		body := envelopeOf(eventWith(eventType, action, context), `{"@context":`+context+`,"id":"urn:p","type":"Person"}`)
		for _, granted := range []*Vocabulary{nil, v} {
			e, err := Parse(body, Options{Vocabulary: granted})
			if err != nil {
				t.Fatal(err)
			}
			it := e.Items()[0]
			if granted == nil {
				if it.Faults != without || it.Extra != 0 {
					t.Errorf("%s %s %s: faults %b, extra %b without a vocabulary, want %b", eventType, action, context, it.Faults, it.Extra, without)
				}
			} else if it.Faults != without&^extra || it.Extra != extra || it.Type != wantType || it.Action != wantAction {
				t.Errorf("%s %s %s: %s %s with faults %b, extra %b, want %s %s %b", eventType, action, context, it.Type, it.Action, it.Faults, it.Extra, wantType, wantAction, extra)
			} else if describe := e.Items()[1]; describe.Extra != extra&FaultContext || describe.Faults != without&^extra&FaultContext {
				t.Errorf("%s: describe has faults %b, extra %b", context, describe.Faults, describe.Extra)
			}
			e.Release()
		}
	}
	f(`"`+vendorType+`"`, `"LoggedIn"`, caliper, FaultAction, FaultAction, vendorType, "LoggedIn")
	f(`"`+vendorType+`"`, `"Shuffled"`, caliper, FaultAction, FaultAction, vendorType, "Shuffled")
	f(`"`+strings.ReplaceAll(vendorType, "/", `\/`)+`"`, `"\u0053huffled"`, caliper, FaultAction, FaultAction, vendorType, "Shuffled")
	f(`"SessionEvent"`, `"Declined"`, caliper, FaultAction, FaultAction, "SessionEvent", "Declined")
	f(`"SessionEvent"`, `"LoggedIn"`, caliper, 0, 0, "SessionEvent", "LoggedIn")
	f(`"ViewEvent"`, `"MarkedAsUnRead"`, caliper, FaultAction, FaultAction, "ViewEvent", "MarkedAsUnread")
	f(`"ViewEvent"`, `"MarkedAsUnread"`, caliper, FaultAction, FaultAction, "ViewEvent", "MarkedAsUnread")
	f(`"SessionEvent"`, `"Shuffled"`, caliper, FaultAction, 0, "SessionEvent", "")
	f(`"`+vendorType+`"`, `"Viewed"`, caliper, FaultAction, 0, "", "Viewed")
	f(`"LTIEvent"`, `"LoggedIn"`, caliper, FaultAction, 0, "", "LoggedIn")
	f(`"`+vendorType+`"`, `null`, caliper, FaultAction, 0, "", "")
	f(`"ViewEvent"`, `"Viewed"`, `"`+vendorContext+`"`, FaultContext, FaultContext, "ViewEvent", "Viewed")
	f(`"ViewEvent"`, `"Viewed"`, `[{"a":1},"`+vendorContext+`"]`, FaultContext, FaultContext, "ViewEvent", "Viewed")
	f(`"ViewEvent"`, `"Viewed"`, `["`+vendorContext+`",`+caliper+`]`, 0, 0, "ViewEvent", "Viewed")
	f(`"`+vendorType+`"`, `"LoggedIn"`, `"`+vendorContext+`"`, FaultContext|FaultAction, FaultContext|FaultAction, vendorType, "LoggedIn")
	f(`"ViewEvent"`, `"Viewed"`, `"https://vendor.example.com/ctx/v2"`, FaultContext, 0, "ViewEvent", "Viewed")
}

// What is granted to one request is not seen in the next, and an item inherits a granted context as any other.
func TestVocabularyStaysWithItsRequest(t *testing.T) {
	bare := strings.Replace(eventWith(`"ViewEvent"`, `"Viewed"`, `0`), `"@context":0,`, "", 1)
	body := envelopeOf(eventWith(`"ViewEvent"`, `"Viewed"`, `"`+vendorContext+`"`), bare)
	v := vendorVocabulary(t)
	for i := range 6 {
		opt, want, extra := Options{InheritContext: true}, FaultContext, Faults(0)
		if i%2 == 0 {
			opt.Vocabulary, want, extra = v, 0, FaultContext
		}
		e, err := Parse(body, opt)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range e.Items() {
			if it.Faults != want || it.Extra != extra {
				t.Errorf("round %d: faults %b, extra %b", i, it.Faults, it.Extra)
			}
		}
		e.Release()
	}
}

func TestVocabularyIsExplained(t *testing.T) {
	f := func(eventType, want string) {
		t.Helper()
		e, err := Parse(envelopeOf(eventWith(eventType, `"Nothing"`, `"http://purl.imsglobal.org/ctx/caliper/v1p1"`)), Options{Vocabulary: vendorVocabulary(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Release()
		if got := e.ItemViolations(0); len(got) != 1 || got[0].Expected != want || got[0].Pointer != "/data/0/action" {
			t.Errorf("%s: %+v, want expected %s", eventType, got, want)
		}
	}
	f(`"`+vendorType+`"`, "LoggedIn, Shuffled")
	f(`"SessionEvent"`, "LoggedIn, LoggedOut, TimedOut, Declined")
}

func TestVocabularyIsKnown(t *testing.T) {
	v := vendorVocabulary(t)
	for _, c := range []struct {
		what string
		got  bool
		want bool
	}{
		{"own pair", v.Grants(vendorType, "Shuffled"), true},
		{"Caliper's pair", v.Grants("ViewEvent", "Viewed"), true},
		{"no pair", v.Grants("ViewEvent", "Shuffled"), false},
		{"nil has Caliper's", (*Vocabulary)(nil).Grants("ViewEvent", "Viewed"), true},
		{"nil has no other", (*Vocabulary)(nil).Grants(vendorType, "Shuffled"), false},
		{"type", v.KnowsType(vendorType), true},
		{"entity type", v.KnowsType("Person") || !IsEntityType("Person"), false},
		{"unknown type", (*Vocabulary)(nil).KnowsType(vendorType), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v", c.what, c.got)
		}
	}
	if name, known := v.KnowsAction("Shuffled"); !known || name != "Shuffled" {
		t.Error("own action is not known")
	}
	if name, known := (*Vocabulary)(nil).KnowsAction("MarkedAsUnRead"); !known || name != "MarkedAsUnread" {
		t.Errorf("alias is %s, %v", name, known)
	}
	for _, bad := range []map[string][]string{{"Person": {"Viewed"}}, {"A": nil}, {"": {"Viewed"}}, {"A": {""}}, {strings.Repeat("A", 101): {"Viewed"}}} {
		if _, err := NewVocabulary(nil, bad); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
	// Names stand in records as they are.
	for _, odd := range []string{"a\nb", `a"b`, `a\b`, "a\x7fb", "a\xffb", "a\u0085b"} {
		if _, err := NewVocabulary([]string{odd}, nil); err == nil {
			t.Errorf("context %q is granted", odd)
		}
		if _, err := NewVocabulary(nil, map[string][]string{odd: {"Done"}}); err == nil {
			t.Errorf("type %q is granted", odd)
		}
		if _, err := NewVocabulary(nil, map[string][]string{"OwnEvent": {odd}}); err == nil {
			t.Errorf("action %q is granted", odd)
		}
	}
	if _, err := NewVocabulary([]string{"https://é.example/\u2028"}, map[string][]string{"Éigen Event": {"Fertig & gut"}}); err != nil {
		t.Errorf("letters of all kinds: %v", err)
	}
	if _, err := NewVocabulary([]string{""}, nil); err == nil {
		t.Error("an empty context is accepted")
	}
	if got := slices.Collect((FaultContext | FaultAction).Codes()); !slices.Equal(got, []string{"@context", "type/action"}) {
		t.Errorf("codes of what is extra are %q", got)
	}
}
