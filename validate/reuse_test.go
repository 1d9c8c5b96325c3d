package validate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// seeds are bodies of many shapes, for fuzzing and for mixing.
func seeds(t testing.TB) [][]byte {
	t.Helper()
	all := [][]byte{
		engageEnvelope(1), engageEnvelope(3),
		[]byte(`{"data":[` + goodEvent + `],"data":[{}]}`),
		[]byte("{" + goodSensor + "," + goodTime + "," + goodVersion + `,"x":[1,2],` + goodData + "}"),
		[]byte("{" + goodSensor + "," + goodTime + "," + goodVersion + `,"data":[1,null,"\ud800",{"id":1e999}]}`),
		[]byte(`{"sensor":"a","sensor":null,"data":{}}`), []byte(`{}`), []byte(`[]`), []byte(` null `), []byte(`"\u00e9"`),
	}
	for _, f := range golden(t) {
		all = append(all, f.body)
	}
	return all
}

// randomItem is an object with a random choice of members, some twice, some of a wrong type.
func randomItem(random *rand.Rand) string {
	members := []string{
		`"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1"`, `"@context":["x"]`, `"@context":null`, `"id":"one"`, `"i\u0064":"two"`,
		`"id":null`, `"id":7`, `"type":"ViewEvent"`, `"type":"MediaEvent"`, `"type":"Person"`, `"type":{}`, `"actor":"me"`, `"actor":{"id":"you"}`,
		`"actor":null`, `"actor":[1]`, `"action":"Viewed"`, `"action":"Muted"`, `"action":null`, `"eventTime":"2018-10-03T18:21:08Z"`,
		`"eventTime":"later"`, `"edApp":"app"`, `"edApp":{"id":"app2"}`, `"edApp":false`, `"object":"o"`, `"object":1`, `"x":[{"id":"deep"}]`,
	}
	random.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return "{" + strings.Join(members[:random.IntN(len(members))], ",") + "}"
}

func randomBody(random *rand.Rand) []byte {
	list := func() string {
		items := make([]string, random.IntN(6))
		for i := range items {
			switch random.IntN(6) {
			case 0:
				items[i] = []string{`1`, `null`, `"x"`, `[]`, `{}`, goodEvent}[random.IntN(6)]
			default:
				items[i] = randomItem(random)
			}
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	members := []string{goodSensor, goodTime, goodVersion, `"data":` + list(), `"data":` + list()}
	switch random.IntN(8) {
	case 0:
		members = append(members, `"sensor":null`, `"data":{}`)
	case 1:
		members = append(members, `"x":`+list(), `"data":null`)
	case 2:
		members = append(members, `"sendTime":null`, `"dataVersion":1`)
	}
	random.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return []byte("{" + strings.Join(members[random.IntN(3):], ",") + "}")
}

// TestNothingStaysBehind sends bodies through one Envelope after the other and compares each with the reference,
// which knows no yesterday.
func TestNothingStaysBehind(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	check := func(body []byte, opt Options) {
		t.Helper()
		e, err := Parse(body, opt)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		defer e.Release()
		if d := difference(e, refParse(body, opt)); d != "" {
			t.Fatalf("%s: %s", body, d)
		}
	}
	check(envelopeOf(event(`"edApp":"app","object":"o"`)), Options{})
	check(envelopeOf(`{"id":"e"}`), Options{})
	check(engageEnvelope(20), Options{})
	check([]byte(`{"data":[{},{},{}]}`), Options{})
	check([]byte(`{"data":[`+goodEvent+`,`+goodEvent+`],"data":[{}]}`), Options{})
	check([]byte(`{"data":[`+goodEvent+`,7]}`), Options{})
	check([]byte(`{"data":[{},{}]}`), Options{})
	for range 2_500 {
		check(randomBody(random), Options{CheckObject: random.IntN(2) == 0, InheritContext: random.IntN(2) == 0, MaxItems: random.IntN(6)})
	}
}

// TestReleasedEnvelopesAreEmpty looks into the memory an Envelope keeps: nothing of a request may be left there.
func TestReleasedEnvelopesAreEmpty(t *testing.T) {
	for _, body := range append(seeds(t), engageEnvelope(50), engageEnvelope(maxPooledItems), engageEnvelope(maxPooledItems+1),
		[]byte(`{"data":[`+strings.Repeat(goodEvent+",", 40)+goodEvent+`],"data":[{}]}`)) {
		e, err := Parse(body, Options{})
		if err != nil {
			continue
		}
		e.Release()
		// The pool may have handed e to nobody else: this test does not run in parallel.
		for i, it := range e.items[:cap(e.items)] {
			if it.ID != nil || it.Raw != nil || it.Faults != 0 || it.Type != "" {
				t.Fatalf("%.100s: item %d stays: %+v", body, i, it)
			}
		}
		for i, m := range e.outer.Data[:cap(e.outer.Data)] {
			if m.ID != nil || m.Context != nil || m.Type != nil || m.Actor != nil || m.Action != nil || m.EventTime != nil || m.EdApp != nil {
				t.Fatalf("%.100s: members of item %d stay: %+v", body, i, m)
			}
		}
		if e.body != nil || e.outer.Sensor != nil || e.Items() != nil || e.Err() != nil {
			t.Fatalf("%.100s: the envelope stays", body)
		}
		if e.index != nil && (e.index.body != nil || e.index.tail != [64]byte{}) {
			t.Fatalf("%.100s: the index stays", body)
		}
		if cap(e.items) > maxPooledItems || cap(e.outer.Data) > maxPooledItems || cap(e.facts.spans) > maxPooledItems {
			t.Fatalf("%.100s: %d items, %d members, %d spans are kept", body, cap(e.items), cap(e.outer.Data), cap(e.facts.spans))
		}
	}
}

func TestReleaseTwicePanics(t *testing.T) {
	e, err := Parse([]byte(`{}`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	e.Release()
	defer func() {
		if recover() == nil {
			t.Error("the second Release went unnoticed")
		}
	}()
	e.Release()
}

func TestParseConcurrently(t *testing.T) {
	var group sync.WaitGroup
	for worker := range uint64(4) {
		group.Go(func() {
			random := rand.New(rand.NewPCG(5, worker))
			for range 500 {
				body := randomBody(random)
				e, err := Parse(body, Options{})
				if err != nil {
					t.Errorf("%s: %v", body, err)
					return
				}
				if d := difference(e, refParse(body, Options{})); d != "" {
					t.Errorf("%s: %s", body, d)
				}
				e.Release()
			}
		})
	}
	group.Wait()
}

// TestBothWaysAgree compares what sonic finds with what walk finds in the same bodies.
func TestBothWaysAgree(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 7))
	for range 1_500 {
		body := randomBody(random)
		e := &Envelope{body: body, opt: Options{MaxItems: DefaultMaxItems}, live: true}
		if fault := e.facts.scan(body); fault != nil {
			t.Fatalf("%s: %v", body, fault)
		}
		e.walk(body)
		e.check()
		if d := difference(e, refParse(body, Options{})); d != "" {
			t.Fatalf("%s: %s", body, d)
		}
	}
}

// TestOtherProcessors runs the tests of verdicts again as they run where there are no vectors, and with the decoder
// that sonic uses on arm64. Both can be chosen by the environment only.
func TestOtherProcessors(t *testing.T) {
	const variable = "CALIPER_TEST_OTHER_PROCESSOR"
	if os.Getenv(variable) != "" {
		t.Skip("this is the other processor")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"GODEBUG=cpu.avx2=off", "GODEBUG=cpu.avx2=off SONIC_USE_OPTDEC=1"} {
		cmd := exec.Command(program, "-test.run", "^Test(NoVectors|Verdict|Contexts|Entities|WhatItems|Raw|Accessors|NumberOfItems|Fixtures|EveryPair|Nothing|Released|Golden)")
		cmd.Env = append(append(os.Environ(), variable+"=1"), strings.Fields(set)...)
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS")) {
			t.Errorf("%s: %v\n%s", set, err, out)
		}
	}
}

// TestNoVectors holds what TestOtherProcessors relies on.
func TestNoVectors(t *testing.T) {
	if off := strings.Contains(os.Getenv("GODEBUG"), "cpu.avx2=off"); off && vectors {
		t.Error("there are vectors although they are switched off")
	}
}

func FuzzParse(f *testing.F) {
	for i, body := range seeds(f) {
		f.Add(body, i%4)
	}
	f.Fuzz(func(t *testing.T, body []byte, options int) {
		opt := Options{CheckObject: options&1 != 0, InheritContext: options&2 != 0, MaxItems: options >> 2 & 15}
		e, err := Parse(body, opt)
		if (err == nil) != refValid(body) {
			t.Fatalf("error %v, the reference accepts %t", err, refValid(body))
		}
		if err != nil {
			return
		}
		defer e.Release()
		want := refParse(body, opt)
		if d := difference(e, want); d != "" {
			t.Fatal(d)
		}
		if d := difference(longWay(t, body, opt), want); d != "" {
			t.Fatal("the long way: ", d)
		}
		checkExplained(t, e)
		repaired := bytes.Clone(body)
		if changed := RepairSurrogates(repaired); changed != e.LoneSurrogates() || len(repaired) != len(body) || !refValid(repaired) {
			t.Fatalf("repaired %t, lone surrogates %t: %q", changed, e.LoneSurrogates(), repaired)
		}
		if again := RepairSurrogates(repaired); again {
			t.Fatalf("repaired twice: %q", repaired)
		}
	})
}

func ExampleParse() {
	e, err := Parse([]byte(`{"sensor":"s","sendTime":"2018-10-03T18:21:09Z","dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1",
		"data":[{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":"urn:uuid:1","type":"ViewEvent","action":"Muted",
		"actor":{"id":"urn:me"},"eventTime":"2018-10-03T20:21:08.8975+02:00"}]}`), Options{})
	if err != nil {
		panic(err)
	}
	defer e.Release()
	fmt.Println(e.Err())
	for i, it := range e.Items() {
		fmt.Printf("%s %s %s\n", it.ID, it.Actor, it.Time[:])
		for _, v := range e.ItemViolations(i) {
			fmt.Printf("%s at %s: found %s, expected %s\n", v.Code, v.Pointer, v.Found, v.Expected)
		}
	}
	// Output:
	// validate: no item of the envelope is conformant
	// "urn:uuid:1" "urn:me" 2018-10-03T18:21:08.897Z
	// type/action at /data/0/action: found string 'Muted', expected Viewed
}
