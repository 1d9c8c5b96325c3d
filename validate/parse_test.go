package validate

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caliperedge/internal/fixtures"
)

const (
	goodSensor  = `"sensor":"s"`
	goodTime    = `"sendTime":"2018-10-03T18:21:09.001Z"`
	goodVersion = `"dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1"`
	goodEvent   = `{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":"e","type":"ViewEvent","actor":"a","action":"Viewed","eventTime":"2018-10-03T18:21:08.897Z"}`
	goodData    = `"data":[` + goodEvent + `]`
)

// parse parses body, which must be JSON, compares with the reference and releases at the end of the test.
func parse(t *testing.T, body []byte, opt Options) *Envelope {
	t.Helper()
	e, err := Parse(body, opt)
	if err != nil {
		t.Fatalf("%.200q: %v", body, err)
	}
	t.Cleanup(e.Release)
	if d := difference(e, refParse(body, opt)); d != "" {
		t.Errorf("%.200q: %s", body, d)
	}
	checkExplained(t, e)
	return e
}

// event is goodEvent with members put in front and, because the last one counts, behind.
func event(members string) string { return strings.TrimSuffix(goodEvent, "}") + "," + members + "}" }

func TestVerdictOfEnvelopes(t *testing.T) {
	f := func(body string, want error, faults Faults) {
		t.Helper()
		e := parse(t, []byte(body), Options{MaxItems: 3})
		if !errors.Is(e.Err(), want) || e.Faults() != faults {
			t.Errorf("%s: %v, faults %v; want %v, %v", body, e.Err(), codes(e.Faults()), want, codes(faults))
		}
	}
	object := func(members ...string) string { return "{" + strings.Join(members, ",") + "}" }
	const bad = `"data":[{},{}]`

	f(object(goodSensor, goodTime, goodVersion, goodData), nil, 0)
	f(object(goodData, goodVersion, goodTime, goodSensor, `"extra":{"data":[1]}`), nil, 0)
	f(" \n"+object(goodSensor, goodTime, goodVersion, goodData)+"\r\n", nil, 0)

	for _, body := range []string{`{}`, `[]`, `null`, `1`, `""`, `true`, `[{"sensor":"s"}]`, `{"Sensor":"s","DATA":[]}`,
		`{"sensor":null,"sendTime":null,"dataVersion":null,"data":null}`, goodEvent} {
		f(body, ErrNotEnvelope, allOfEnvelope)
	}
	f(`{"data":[]}`, ErrDataVersion, allOfEnvelope)
	f(`{"data":0}`, ErrDataVersion, allOfEnvelope)
	f(`{"sensor":""}`, ErrDataVersion, allOfEnvelope)
	f(`{"sensor":false}`, ErrDataVersion, allOfEnvelope)

	f(object(goodSensor, goodTime, goodData), ErrDataVersion, FaultDataVersion)
	f(object(bad), ErrDataVersion, FaultSensor|FaultSendTime|FaultDataVersion)
	f(object(goodSensor, goodTime, goodVersion, `"dataVersion":null`, goodData), ErrDataVersion, FaultDataVersion)
	f(object(goodVersion, `"data":[1,2,3,4]`), ErrEnvelope, FaultSensor|FaultSendTime)
	f(object(goodSensor, goodTime, `"data":[1,2,3,4]`), ErrDataVersion, FaultDataVersion)
	f(object(goodSensor, goodTime, goodVersion, `"data":[1,2,3,4]`), ErrTooManyItems, 0)
	f(object(goodSensor, goodTime, goodVersion, `"data":[1,2,3]`), ErrNoItem, 0)
	f(object(goodSensor, goodTime, goodVersion, bad), ErrNoItem, 0)
	f(object(goodSensor, goodTime, goodVersion, `"data":[1,`+goodEvent+`]`), nil, 0)
	for _, data := range []string{`[]`, `{}`, `{"0":` + goodEvent + `}`, `null`, `"x"`, `1`, `true`} {
		f(object(goodSensor, goodTime, goodVersion, `"data":`+data), ErrEnvelope, FaultData)
		f(object(goodSensor, goodTime, goodVersion, goodData, `"data":`+data), ErrEnvelope, FaultData)
		f(object(goodSensor, goodTime, goodVersion, `"data":`+data, goodData), nil, 0)
	}
	f(object(goodSensor, goodTime, goodVersion), ErrEnvelope, FaultData)
	f(object(`"sensor":""`, goodTime, goodVersion, goodData), ErrEnvelope, FaultSensor)
	f(object(`"sensor":{"id":"s"}`, goodTime, goodVersion, goodData), ErrEnvelope, FaultSensor)
	f(object(goodSensor, `"sensor":null`, goodTime, goodVersion, goodData), ErrEnvelope, FaultSensor)
	f(object(`"sensor":null`, goodSensor, goodTime, goodVersion, goodData), nil, 0)
	f(object(goodSensor, `"sendTime":"2018-10-03"`, goodVersion, goodData), ErrEnvelope, FaultSendTime)
	f(object(goodSensor, `"sendTime":1538590869001`, goodVersion, goodData), ErrEnvelope, FaultSendTime)
	f(object(`"\u0073ensor":"s"`, `"send\u0054ime":"2018\u002d10-03T18:21:09Z"`, `"dataVersion":"http:\/\/purl.imsglobal.org\/ctx\/caliper\/v1p2\/"`, `"dat\u0061":[`+goodEvent+`]`), nil, 0)
	// Arrays beside data, longer and shorter.
	f(object(goodSensor, goodTime, goodVersion, `"x":[1,2,3,4]`, goodData), nil, 0)
	f(object(goodSensor, goodTime, goodVersion, goodData, `"x":[1]`), nil, 0)
	f(object(goodSensor, goodTime, goodVersion, `"x":[1]`), ErrEnvelope, FaultData)
	f(object(goodSensor, goodTime, goodVersion, `"x":[1]`, `"data":[]`), ErrEnvelope, FaultData)
}

func TestDataVersions(t *testing.T) {
	f := func(version string, want bool) {
		t.Helper()
		e := parse(t, []byte("{"+goodSensor+","+goodTime+","+goodData+`,"dataVersion":`+version+"}"), Options{})
		if got := e.Err() == nil; got != want {
			t.Errorf("%s: accepted %t, want %t", version, got, want)
		}
		if got := string(e.DataVersion()); version[0] == '"' && got != version || version[0] != '"' && got != "" {
			t.Errorf("DataVersion() = %q for %s", got, version)
		}
	}
	f(`"http://purl.imsglobal.org/ctx/caliper/v1p1"`, true)
	f(`"http://purl.imsglobal.org/ctx/caliper/v1p2"`, true)
	f(`"http://purl.imsglobal.org/ctx/caliper/v1p1/"`, true)
	f(`"http://purl.imsglobal.org/ctx/caliper/v1p1//"`, false)
	f(`"https://purl.imsglobal.org/ctx/caliper/v1p1"`, false)
	f(`"http://purl.imsglobal.org/ctx/caliper/v1p3"`, false)
	f(`"http://purl.imsglobal.org/ctx/caliper/v1p1/ToolUseProfile-extension"`, false)
	f(`"http://purl.imsglobal.org/ctx/caliper/V1P1"`, false)
	f(`" http://purl.imsglobal.org/ctx/caliper/v1p1"`, false)
	f(`"v1p1"`, false)
	f(`"/"`, false)
	f(`""`, false)
	f(`1.1`, false)
	f(`["http://purl.imsglobal.org/ctx/caliper/v1p1"]`, false)
}

func TestVerdictOfItems(t *testing.T) {
	f := func(item string, opt Options, faults Faults) {
		t.Helper()
		e := parse(t, envelopeOf(item), opt)
		if len(e.Items()) != 1 || e.Items()[0].Faults != faults {
			t.Errorf("%s: %+v, want faults %v", item, e.Items(), codes(faults))
		}
	}
	var std Options
	f(goodEvent, std, 0)
	for _, item := range []string{`null`, `true`, `1`, `-1.5e+9`, `"x"`, `[]`, `[` + goodEvent + `]`} {
		f(item, std, allOfEvent)
		f(item, Options{CheckObject: true, InheritContext: true}, allOfEvent|FaultObject)
	}
	f(`{}`, std, allOfEvent)
	f(`{"x":{"id":"e","type":"ViewEvent"}}`, std, allOfEvent)

	for _, absent := range []string{`null`, `""`, `1`, `true`, `[]`, `{}`} {
		f(event(`"id":`+absent), std, FaultID)
		f(event(`"@context":`+absent), std, FaultContext)
		f(event(`"type":`+absent), std, FaultAction)
		f(event(`"action":`+absent), std, FaultAction)
		f(event(`"eventTime":`+absent), std, FaultEventTime)
		want := FaultActor
		if absent == `{}` {
			want = 0
		}
		f(event(`"actor":`+absent), std, want)
	}
	f(event(`"id":"\u0000"`), std, 0)
	f(event(`"actor":{"id":{"id":["deep"]}}`), std, 0)
	f(event(`"ID":null,"Type":null,"EVENTTIME":null`), std, 0)
	f(event(`"\u0069d":null`), std, FaultID)
	f(event(`"i\u0064":"","id":"again"`), std, 0)
	f(event(`"extensions":{"id":null,"type":"x"},"n":1e999,"m":-0.0e-400`), std, 0)
	f(event(`"\ud800":1,"a\u0000b":2,"":3`), std, 0)

	f(event(`"object":null`), std, 0)
	f(goodEvent, Options{CheckObject: true}, FaultObject)
	f(event(`"object":""`), Options{CheckObject: true}, FaultObject)
	f(event(`"object":["o"]`), Options{CheckObject: true}, FaultObject)
	f(event(`"object":"o"`), Options{CheckObject: true}, 0)
	f(event(`"o\u0062ject":{}`), Options{CheckObject: true}, 0)
}

func TestContexts(t *testing.T) {
	f := func(context string, want bool) {
		t.Helper()
		e := parse(t, envelopeOf(event(`"@context":`+context)), Options{})
		if got := e.Items()[0].Faults == 0; got != want {
			t.Errorf("%s: accepted %t, want %t", context, got, want)
		}
	}
	const core, inner = `"http://purl.imsglobal.org/ctx/caliper/v1p1"`, "http://purl.imsglobal.org/ctx/caliper/"
	f(core, true)
	f(`"http:\/\/purl.imsglobal.org\/ctx\/caliper\/v1p2"`, true)
	f(`"http\u0073://purl.imsglobal.org/ctx/caliper/v1p1/SearchProfile-extension/"`, true)
	f(`"`+inner+`v1p3"`, false)
	f(`"`+inner+`v1p0"`, false)
	f(`"`+inner+`v1/Context"`, false)
	f(`"`+inner+`v1p2/SearchProfile-extension"`, false)
	f(`"`+inner+`v1p1/searchProfile-extension"`, false)
	f(`"`+inner+`v1p1//"`, false)
	f(`"ftp://purl.imsglobal.org/ctx/caliper/v1p1"`, false)
	f(`"httpss://purl.imsglobal.org/ctx/caliper/v1p1"`, false)
	f(`"https"`, false)
	f(`"/"`, false)
	f(`{"@vocab":`+core+`}`, false)
	f(`[]`, false)
	f(`[`+core+`]`, true)
	f(`["https://vendor.example/ctx",`+core+`]`, true)
	f(`[{"@vocab":"x","a":["]"]}, `+core+` ]`, true)
	f(`[[`+core+`]]`, false)
	f(`[{"@vocab":`+core+`}]`, false)
	f(`["x",null,1,true,""]`, false)
	f(`["`+strings.Repeat(`\u0041`, 1000)+`",`+core+`]`, true)
}

func TestInheritedContext(t *testing.T) {
	f := func(inherit bool, want string, contexts ...string) {
		t.Helper()
		var items []string
		for _, c := range contexts {
			item := event(`"@context":` + c)
			switch c {
			case "":
				item = strings.Replace(goodEvent, `"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1",`, "", 1)
			case "1":
				item = c
			}
			items = append(items, item)
		}
		e, got := parse(t, envelopeOf(items...), Options{InheritContext: inherit}), ""
		for _, it := range e.Items() {
			got += map[bool]string{true: "+", false: "-"}[it.Faults&FaultContext == 0]
		}
		if got != want {
			t.Errorf("%q: %s, want %s", contexts, got, want)
		}
	}
	const good = `"http://purl.imsglobal.org/ctx/caliper/v1p2"`
	f(false, "+--", good, "", "null")
	f(true, "+++", good, "", "null")
	f(true, "-+", "", good)
	f(true, "+--+", good, `"bad"`, "", good)
	f(true, "+-+", good, "1", "") // an item that is no object has nothing to lend and nothing to take
}

func TestEntities(t *testing.T) {
	f := func(item string, entity bool, faults Faults, kind string) {
		t.Helper()
		e := parse(t, envelopeOf(item), Options{CheckObject: true})
		it := e.Items()[0]
		if it.Entity != entity || it.Faults != faults || it.Type != kind || entity && (it.Action != "" || it.Time != [24]byte{}) {
			t.Errorf("%s: %+v", item, it)
		}
	}
	const context = `"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1"`
	f(`{`+context+`,"id":"p","type":"Person"}`, true, 0, "Person")
	f(`{`+context+`,"id":"p","type":"Per\u0073on","action":null,"eventTime":"2018-10-03T18:21:08.897Z"}`, true, 0, "Person")
	f(`{`+context+`,"type":"Person"}`, true, FaultID, "Person")
	f(`{"id":"p","type":"Person"}`, true, FaultContext, "Person")
	f(`{`+context+`,"id":"p","type":"person"}`, false, FaultActor|FaultAction|FaultEventTime|FaultObject, "")
	f(`{`+context+`,"id":"p","type":"Person","action":""}`, false, FaultActor|FaultAction|FaultEventTime|FaultObject, "Person")
	f(`{`+context+`,"id":"p","type":"Person","action":"Viewed"}`, false, FaultActor|FaultAction|FaultEventTime|FaultObject, "Person")
	f(`{`+context+`,"id":"p","type":"Event"}`, false, FaultActor|FaultAction|FaultEventTime|FaultObject, "Event")
}

func TestWhatItemsGiveOut(t *testing.T) {
	f := func(members, id, actor, edApp string) {
		t.Helper()
		it := parse(t, envelopeOf(event(members)), Options{}).Items()[0]
		if string(it.ID) != id || string(it.Actor) != actor || string(it.EdApp) != edApp {
			t.Errorf("%s: id %s, actor %s, edApp %s", members, it.ID, it.Actor, it.EdApp)
		}
		if it.Type != "ViewEvent" || it.Action != "Viewed" || string(it.Time[:]) != "2018-10-03T18:21:08.897Z" {
			t.Errorf("%s: %+v", members, it)
		}
	}
	f(`"x":1`, `"e"`, `"a"`, ``)
	f(`"id":"\u0065\/"`, `"\u0065\/"`, `"a"`, ``)
	f(`"actor":{"id":"p","type":"Person"}`, `"e"`, `"p"`, ``)
	f(`"actor" : { "type" : "Person" , "id" : "p" }`, `"e"`, `"p"`, ``)
	f(`"actor":{"id":"p","id":"q"}`, `"e"`, `"q"`, ``)
	f(`"actor":{"id":"p","\u0069d":null}`, `"e"`, ``, ``)
	f(`"actor":{"id":""}`, `"e"`, ``, ``)
	f(`"actor":{"nested":{"id":"n"}}`, `"e"`, ``, ``)
	f(`"actor":{"ID":"n"}`, `"e"`, ``, ``)
	f(`"edApp":"https://reader.example"`, `"e"`, `"a"`, `"https://reader.example"`)
	f(`"edApp":{"s":"\\\"}","id":"app"}`, `"e"`, `"a"`, `"app"`)
	f(`"edApp":["app"]`, `"e"`, `"a"`, ``)
	f(`"edApp":"app","edApp":null`, `"e"`, `"a"`, ``)
	f(`"edApp":""`, `"e"`, `"a"`, ``)
}

func TestRawIsTheItemByteForByte(t *testing.T) {
	items := []string{goodEvent, `{ }`, `[ 1 , {"]":"}"} ]`, `-1.0E+2`, `null`, `"a\"]\\"`, "{\"a\":\t\"é\u2028\"}"}
	for _, gap := range []string{"", " ", "\n    ", "\t\r\n"} {
		body := `{"data":[` + gap + strings.Join(items, gap+","+gap) + gap + `]}`
		for n, it := range parse(t, []byte(body), Options{}).Items() {
			if string(it.Raw) != items[n] {
				t.Errorf("gap %q, item %d: %q, want %q", gap, n, it.Raw, items[n])
			}
		}
	}
}

func TestAccessors(t *testing.T) {
	e := parse(t, []byte("{\"sensor\":\"s\\u00e9\",\n\"sendTime\":\"x\",\"dataVersion\":null,\"data\":[\"\\ud800\"]}"), Options{})
	if string(e.Sensor()) != `"s\u00e9"` || string(e.SendTime()) != `"x"` || e.DataVersion() != nil {
		t.Errorf("sensor %s, sendTime %s, dataVersion %s", e.Sensor(), e.SendTime(), e.DataVersion())
	}
	if !e.LineBreaks() || !e.LoneSurrogates() {
		t.Errorf("line breaks %t, lone surrogates %t", e.LineBreaks(), e.LoneSurrogates())
	}
	if e := parse(t, []byte(`[]`), Options{}); e.Sensor() != nil || e.SendTime() != nil || e.DataVersion() != nil || e.Items() != nil {
		t.Error("a body that is no envelope gives something out")
	}
}

func TestNumberOfItems(t *testing.T) {
	f := func(n int, opt Options, want error, items int) {
		t.Helper()
		body := []byte("{" + goodSensor + "," + goodTime + "," + goodVersion + `,"data":[` + goodEvent + strings.Repeat(`,{}`, n-1) + `]}`)
		e, err := Parse(body, opt)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Release()
		if !errors.Is(e.Err(), want) || len(e.Items()) != items || e.Faults() != 0 {
			t.Errorf("%d items: %v, %d given out, faults %v", n, e.Err(), len(e.Items()), codes(e.Faults()))
		}
	}
	f(10_000, Options{}, nil, 10_000)
	f(10_001, Options{}, ErrTooManyItems, 0)
	f(maxSpans+1, Options{MaxItems: 2 * maxSpans}, nil, maxSpans+1)
	f(5, Options{MaxItems: 5}, nil, 5)
	f(6, Options{MaxItems: 5}, ErrTooManyItems, 0)
}

// TestFixtures posts the public fixtures and compares with the answers their manifest expects.
func TestFixtures(t *testing.T) {
	for _, f := range fixtures.Load(t) {
		e := parse(t, f.Body, Options{})
		status := 200
		switch {
		case e.Err() == ErrDataVersion:
			status = 422
		case e.Err() != nil:
			status = 400
		case e.Conformant() < len(e.Items()):
			status = 202
		}
		if status != f.Status {
			t.Errorf("%s: status %d, want %d", f.File, status, f.Status)
		}
		entities, found := 0, Faults(0)
		for _, it := range e.Items() {
			if it.Entity {
				entities++
			}
			found |= it.Faults
		}
		if f.Kind == "entity" || f.Kind == "envelope" {
			if entities != f.Entities {
				t.Errorf("%s: %d entities, want %d", f.File, entities, f.Entities)
			}
		}
		var want Faults
		for i, r := range rules {
			for _, code := range f.Errors {
				if code == r.code {
					want |= 1 << i
				}
			}
		}
		if found != want {
			t.Errorf("%s: faults %v, want %v", f.File, codes(found), f.Errors)
		}
	}
}

// vocabularyFile is the part of the public vocabulary that decides.
type vocabularyFile struct {
	DataVersions []string `json:"data_versions"`
	Contexts     struct{ Accept []string }
	Actions      struct {
		V1p1    []string
		Added   []string          `json:"v1p2_added"`
		Old     []string          `json:"v1p0_only"`
		Aliases map[string]string `json:"alias_spellings"`
	}
	EventTypes  map[string]struct{ Accept any } `json:"event_types"`
	EntityTypes struct{ Accept []string }       `json:"entity_types"`
}

func TestTablesAreTheVocabulary(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(fixtures.Dir(t), "vocabulary.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v vocabularyFile
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	same := func(what string, got, want []string) {
		t.Helper()
		seen := map[string]int{}
		for _, s := range got {
			seen[s]++
		}
		for _, s := range want {
			seen[s] -= 1
		}
		for s, n := range seen {
			if n != 0 {
				t.Errorf("%s: %q is %+d times too often in the tables", what, s, n)
			}
		}
	}
	same("dataVersions", dataVersions, v.DataVersions)
	var spelled []string
	for _, c := range contexts {
		s := "https" + strings.TrimPrefix(c, "http")
		spelled = append(spelled, c, c+"/", s, s+"/")
	}
	same("contexts", spelled, v.Contexts.Accept)
	same("actions", actionNames[:], append(append(v.Actions.V1p1, v.Actions.Added...), v.Actions.Old...))
	same("entity types", entityTypes[:], v.EntityTypes.Accept)
	if len(actionAliases) != len(v.Actions.Aliases) {
		t.Errorf("%d aliases, want %d", len(actionAliases), len(v.Actions.Aliases))
	}
	for _, a := range actionAliases {
		if v.Actions.Aliases[a.alias] != a.name {
			t.Errorf("alias %s stands for %q, want %q", a.alias, a.name, v.Actions.Aliases[a.alias])
		}
	}
	if len(eventTypes) != len(v.EventTypes) {
		t.Errorf("%d event types, want %d", len(eventTypes), len(v.EventTypes))
	}
	for _, e := range eventTypes {
		var want []string
		if list, ok := v.EventTypes[e.name].Accept.([]any); ok {
			for _, a := range list {
				want = append(want, a.(string))
			}
		}
		same(e.name, e.actions, want)
	}
}

// TestEveryPair sends each type with each action: 106 pairs conform, the generic event takes all, aliases count as
// what they stand for, and nothing else passes.
func TestEveryPair(t *testing.T) {
	pairs := 0
	canonical := map[string]string{}
	for _, a := range actionNames {
		canonical[a] = a
	}
	for _, a := range actionAliases {
		canonical[a.alias] = a.name
	}
	for _, typ := range eventTypes {
		allowed := map[string]bool{}
		for _, a := range typ.actions {
			allowed[a] = true
		}
		pairs += len(allowed)
		if len(allowed) == len(actionNames) {
			t.Errorf("%s takes everything", typ.name)
		}
		for sent, name := range canonical {
			body := envelopeOf(event(fmt.Sprintf(`"type":%q,"action":%q`, typ.name, sent)))
			e, err := Parse(body, Options{})
			if err != nil {
				t.Fatal(err)
			}
			it := e.Items()[0]
			if want := typ.name == "Event" || allowed[name]; (it.Faults == 0) != want || it.Type != typ.name || it.Action != name {
				t.Errorf("%s/%s: faults %v, type %s, action %s", typ.name, sent, codes(it.Faults), it.Type, it.Action)
			}
			e.Release()
		}
	}
	if pairs != 106 {
		t.Errorf("%d pairs, want 106", pairs)
	}
	for name, want := range map[string]Faults{"Navigation\\u0045vent": 0, "navigationevent": FaultAction, "NavigationEvent ": FaultAction, "LTIEvent": FaultAction} {
		e := parse(t, envelopeOf(event(`"type":"`+name+`","action":"N\u0061vigatedTo"`)), Options{})
		if got := e.Items()[0].Faults; got != want {
			t.Errorf("type %s: faults %v, want %v", name, codes(got), codes(want))
		}
	}
}

// TestComparedStringsAreShort holds the bound that unescaped relies on.
func TestComparedStringsAreShort(t *testing.T) {
	longest := len("2018-10-03T18:21:08.123456789+00:00")
	for name := range vocabulary.types {
		longest = max(longest, len(name))
	}
	for name := range vocabulary.actions {
		longest = max(longest, len(name))
	}
	for _, c := range contexts {
		longest = max(longest, len(c)+len("s/"))
	}
	if 6*longest > maxCompared {
		t.Errorf("the longest string compared has %d bytes; maxCompared is %d", longest, maxCompared)
	}
}
