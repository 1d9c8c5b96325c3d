package validate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"caliperedge/internal/fixtures"
)

// longWay parses body, which must be JSON, without pass.
func longWay(t testing.TB, body []byte, opt Options) *Envelope {
	t.Helper()
	if opt.MaxItems == 0 {
		opt.MaxItems = DefaultMaxItems
	}
	e := &Envelope{body: body, opt: opt, live: true}
	e.dec.SetOptions(decodeOptions)
	if fault := e.facts.scan(body); fault != nil {
		t.Fatalf("%.200q: %v", body, fault)
	}
	e.decode()
	e.check()
	return e
}

// checkPass compares what pass finds, where it takes body, with the long way, and reports whether it took it.
func checkPass(t testing.TB, body []byte) bool {
	t.Helper()
	if !vectors {
		return false
	}
	opt := Options{MaxItems: 100}
	e := &Envelope{body: body, opt: opt, live: true}
	if !e.pass() {
		if e.err != nil || len(e.items) != 0 || e.conformant != 0 || e.inContext || e.outer.Sensor != nil || e.LineBreaks() || e.LoneSurrogates() {
			t.Fatalf("%.200q: a pass that failed leaves %+v", body, e)
		}
		return false
	}
	e.check()
	if !refValid(body) {
		t.Fatalf("%.200q: pass takes what is no JSON", body)
	}
	want := longWay(t, body, opt)
	if fmt.Sprint(e.items, e.err, e.faults, e.conformant) != fmt.Sprint(want.items, want.err, want.faults, want.conformant) {
		t.Fatalf("%.200q:\n pass %+v\nwant %+v", body, e, want)
	}
	if !bytes.Equal(e.Sensor(), want.Sensor()) || !bytes.Equal(e.SendTime(), want.SendTime()) || !bytes.Equal(e.DataVersion(), want.DataVersion()) ||
		e.LineBreaks() != want.LineBreaks() || e.LoneSurrogates() != want.LoneSurrogates() {
		t.Fatalf("%.200q: pass %+v, want %+v", body, e.facts, want.facts)
	}
	return true
}

// TestPassTakesTheUsual: whatever falls to the long way costs three times as much, so ordinary bodies must not.
func TestPassTakesTheUsual(t *testing.T) {
	if !vectors {
		t.Skip("no vectors on this processor")
	}
	f := func(body string, want bool) {
		t.Helper()
		if got := checkPass(t, []byte(body)); got != want {
			t.Errorf("%.200s: taken %t, want %t", body, got, want)
		}
	}
	for _, x := range fixtures.Load(t) {
		f(string(x.Body), true)
	}
	for _, g := range golden(t) {
		checkPass(t, g.body)
	}
	for _, n := range []int{1, 2, 20, 100} {
		f(string(engageEnvelope(n)), true)
		f(strings.ReplaceAll(string(engageEnvelope(n)), "/", `\/`), true)
		f(strings.ReplaceAll(string(engageEnvelope(n)), `,"`, ",\r\n\t \""), true)
	}
	f(`{}`, true)
	f(` { "data" : [ { } , { "id" : "\ud800" } ] } `, true)
	f(`{"data":[{"actor":{"id":"a","id":null},"edApp":{},"actor":{"\u00e9":1,"x":[[],{}]}}]}`, false)
	f(`{"data":[{"actor":{"id":"a","id":null},"edApp":{},"id":-0.5e+7,"type":true}]}`+strings.Repeat(" ", 9000), true)
	f(`{"a":`+strings.Repeat("[", MaxDepth-1)+strings.Repeat("]", MaxDepth-1)+`}`, true)
	f(`{"x":[`+strings.Repeat(`[{"data":1}],`, 900)+`0],"data":[`+goodEvent+`]}`, true)
	// Rare shapes.
	f(`[]`, false)
	f(`{"data":[],"data":[]}`, false)
	f(`{"data":[1]}`, false)
	f(`{"d\u0061ta":[]}`, false)
	f(`{"data":[{"i\u0064":1}]}`, false)
	f(string(engageEnvelope(101)), false)
	f(`{"a":`+strings.Repeat("[", MaxDepth)+strings.Repeat("]", MaxDepth)+`}`, false)
}

// TestPassAtEveryOffset moves tokens, strings and escapes over the edges of blocks and of what is indexed in one go.
func TestPassAtEveryOffset(t *testing.T) {
	if !vectors {
		t.Skip("no vectors on this processor")
	}
	specials := []string{`\\`, `\"`, `\\\\\\`, `\\\"\\\\`, `\u00e9`, `\ud83d\ude00`, `\ud83d`, `é`, "\x1f", "\xff", `\x`, `\u00g0`, `"`, `"}`, `":{},"b":"`}
	const whole = 64 * indexedBlocks
	for at := range 200 {
		if at >= 100 {
			at += whole - 150 // around the end of the first 4 KiB
		}
		pad := strings.Repeat(" ", at)
		text := strings.Repeat("x", at)
		for _, s := range specials {
			item := fmt.Sprintf(`{"a":"%s","id":"%s%s", "n":[1,-2.5E3,true,null]}`, text, s, s)
			checkPass(t, []byte(pad+`{"data":[`+item+`]}`))
			checkPass(t, []byte(`{"sensor":"`+s+`",`+pad+`"data":[`+item+`,`+pad+item+`]}`+pad))
		}
	}
}

// TestPassOnDamagedBodies damages long bodies, so that faults stand in any of several blocks.
func TestPassOnDamagedBodies(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 9))
	const damage = "\"\\{}[]:,0123456789.eE+-tfn u/\x00\x0c\x1a\x1f\x7f\x80\xc3\xa9\xff\n\r\t"
	for range 4_000 {
		body := engageEnvelope(1 + random.IntN(8))
		if random.IntN(2) == 0 {
			body = randomBody(random)
		}
		for range random.IntN(3) {
			body[random.IntN(len(body))] = damage[random.IntN(len(damage))]
		}
		checkPass(t, body[:1+random.IntN(len(body))])
		checkPass(t, body)
	}
}
