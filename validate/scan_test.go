package validate

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestSyntaxErrors(t *testing.T) {
	f := func(body, code string, offset int, found, expected string) {
		t.Helper()
		e, err := Parse([]byte(body), Options{})
		var got *SyntaxError
		if !errors.As(err, &got) || e != nil {
			t.Errorf("%q: error %v, want a SyntaxError", body, err)
			return
		}
		if want := (SyntaxError{code, offset, found, expected}); *got != want {
			t.Errorf("%q:\n got %+v\nwant %+v", body, *got, want)
		}
		if refValid([]byte(body)) {
			t.Errorf("%q: the reference accepts it", body)
		}
	}
	const (
		end   = "end of body"
		value = "a value"
	)
	f("", SyntaxEmpty, 0, end, value)
	f(" \r\n\t", SyntaxEmpty, 4, end, value)
	f("\ufeff{}", SyntaxBOM, 0, "a byte order mark", value)
	f("{}{}", SyntaxTrailing, 2, "'{'", end)
	f("{} \x00", SyntaxTrailing, 3, "byte 0x00", end)
	f("12 3", SyntaxTrailing, 3, "'3'", end)
	f("{", SyntaxEOF, 1, end, "a member name")
	f(`{"a"`, SyntaxEOF, 4, end, "':'")
	f(`{"a":`, SyntaxEOF, 5, end, value)
	f(`{"a":1`, SyntaxEOF, 6, end, "',' or '}'")
	f(`[1`, SyntaxEOF, 2, end, "',' or ']'")
	f(`["abc`, SyntaxEOF, 5, end, "the closing quote of a string")
	f(`["abc\`, SyntaxEOF, 6, end, `one of "\/bfnrtu`)
	f(`["\u00`, SyntaxEOF, 6, end, "a hexadecimal digit")
	f(`[tru`, SyntaxEOF, 4, end, "true")
	f(`[-`, SyntaxEOF, 2, end, "a digit")
	f(`[1.`, SyntaxEOF, 3, end, "a digit")
	f(`[1e+`, SyntaxEOF, 4, end, "a digit")
	f(`{a:1}`, SyntaxGrammar, 1, "'a'", "a member name")
	f(`{"a" 1}`, SyntaxGrammar, 5, "'1'", "':'")
	f(`{"a":1,}`, SyntaxGrammar, 7, "'}'", "a member name")
	f(`[1,]`, SyntaxGrammar, 3, "']'", value)
	f(`[,1]`, SyntaxGrammar, 1, "','", value)
	f(`[1 2]`, SyntaxGrammar, 3, "'2'", "',' or ']'")
	f(`[1}`, SyntaxGrammar, 2, "'}'", "',' or ']'")
	f(`{"a":1]`, SyntaxGrammar, 6, "']'", "',' or '}'")
	f(`[}`, SyntaxGrammar, 1, "'}'", value)
	f(`[01]`, SyntaxGrammar, 2, "'1'", "',' or ']'")
	f(`[.5]`, SyntaxGrammar, 1, "'.'", value)
	f(`[+1]`, SyntaxGrammar, 1, "'+'", value)
	f(`[1.e5]`, SyntaxGrammar, 3, "'e'", "a digit")
	f(`[NaN]`, SyntaxGrammar, 1, "'N'", value)
	f(`[nul]`, SyntaxGrammar, 4, "']'", "null")
	f(`['a']`, SyntaxGrammar, 1, "'''", value)
	f("[\v1]", SyntaxGrammar, 1, "byte 0x0b", value)
	f("[\u00a01]", SyntaxGrammar, 1, "byte 0xc2", value)
	f("[\"a\nb\"]", SyntaxControl, 3, "byte 0x0a", "an escaped control character")
	f("[\"\\\\\x1f\"]", SyntaxControl, 4, "byte 0x1f", "an escaped control character")
	f(`["\x"]`, SyntaxEscape, 3, "'x'", `one of "\/bfnrtu`)
	f(`["\U0041"]`, SyntaxEscape, 3, "'U'", `one of "\/bfnrtu`)
	f(`["\u00g0"]`, SyntaxEscape, 6, "'g'", "a hexadecimal digit")
	f(`["\ud800\u00zz"]`, SyntaxEscape, 12, "'z'", "a hexadecimal digit")
	f("[\"a\xff\"]", SyntaxUTF8, 3, "byte 0xff", "valid UTF-8")
	f("[\"a\xc3\", x]", SyntaxUTF8, 3, "byte 0xc3", "valid UTF-8") // the first of two faults
	f("[\"\xed\xa0\x80\"]", SyntaxUTF8, 2, "byte 0xed", "valid UTF-8")
	f(strings.Repeat("[", 65), SyntaxDepth, 64, "'['", "at most 64 levels of nesting")
}

func TestSyntaxErrorQuotesOneByteAtMost(t *testing.T) {
	_, err := Parse([]byte(`{"id":"secret" "more"}`), Options{})
	if want := `validate: JSON syntax at offset 15: found '"', expected ',' or '}'`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestDepth(t *testing.T) {
	f := func(opening, middle, closing string, depth int, want bool) {
		t.Helper()
		body := []byte(strings.Repeat(opening, depth) + middle + strings.Repeat(closing, depth))
		if got := new(facts).scan(body) == nil; got != want || refValid(body) != want {
			t.Errorf("%s at depth %d: accepted %t, reference %t, want %t", opening, depth, got, refValid(body), want)
		}
	}
	f("[", "", "]", 64, true)
	f("[", "", "]", 65, false)
	f("[", "1", "]", 64, true)
	f(`{"a":`, "1", "}", 64, true)
	f(`{"a":`, "1", "}", 65, false)
	f(`{"a":[`, "", "]}", 32, true)
	f(`{"a":[`, "{}", "]}", 32, false)
	f("[[],", "{}", "]", 63, true)
}

// TestStringsAtEveryOffset puts each special byte at each place of words of eight, in strings of each length.
func TestStringsAtEveryOffset(t *testing.T) {
	for length := range 40 {
		for at := range length {
			for _, special := range []string{`\"`, `\\`, "\x00", "\x1f", "\x7f", "!", "#", "é", "\xff", `\u12aF`, `\uD83D\uDE00`, `\uD83D`} {
				inner := strings.Repeat("#", at) + special + strings.Repeat("!", length-at-1)
				for _, body := range []string{`"` + inner + `"`, `{"` + inner + `":"` + inner + `"}`, `["` + inner + `"` + strings.Repeat(" ", 20) + `]`} {
					if got, want := new(facts).scan([]byte(body)) == nil, refValid([]byte(body)); got != want {
						t.Fatalf("%q: accepted %t, want %t", body, got, want)
					}
				}
			}
		}
	}
}

func TestFacts(t *testing.T) {
	f := func(body string, arrays, elements int, breaks, lone bool) {
		t.Helper()
		var got facts
		if fault := got.scan([]byte(body)); fault != nil {
			t.Fatalf("%s: %v", body, fault)
		}
		if got.arrays != arrays || got.elements != elements || got.lineBreaks != breaks || got.loneSurrogates != lone {
			t.Errorf("%s: %d arrays, %d elements, line breaks %t, lone surrogates %t; want %d, %d, %t, %t",
				body, got.arrays, got.elements, got.lineBreaks, got.loneSurrogates, arrays, elements, breaks, lone)
		}
	}
	f(`{}`, 0, 0, false, false)
	f(`{"data":[]}`, 0, 0, false, false)
	f(`{"data":[1]}`, 1, 1, false, false)
	f(`{"data":[[1,2,3],{"a":[4,5]}]}`, 1, 2, false, false)
	f(`{"a":{"b":[1,2,3]},"data":[1],"c":[1,2]}`, 2, 2, false, false)
	f("{\"a\":\"\\n\"}", 0, 0, false, false)
	f("{\n}", 0, 0, true, false)
	f("{}\r", 0, 0, true, false)
	f("{\"a\":         \r 1}", 0, 0, true, false)
	f(`"\ud83d\ude00"`, 0, 0, false, false)
	f(`"\uD83D\uDE00\uDE00"`, 0, 0, false, true)
	f(`"\ud83d"`, 0, 0, false, true)
	f(`"\ud83d\ud83d\ude00"`, 0, 0, false, true)
	f(`"\ud83dx\ude00"`, 0, 0, false, true)
	f(`"\ude00\ude00"`, 0, 0, false, true)
	f(`{"\udc00":1}`, 0, 0, false, true)
	f(`"\\ud83d"`, 0, 0, false, false)
}

func TestRepairSurrogates(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		b := []byte(in)
		if changed := RepairSurrogates(b); string(b) != want || changed != (in != want) {
			t.Errorf("%s: %s, %t; want %s", in, b, changed, want)
		}
	}
	f(`{"a":"plain"}`, `{"a":"plain"}`)
	f(`"\ud83d\ude00"`, `"\ud83d\ude00"`)
	f(`"\uD83D"`, `"\ufffd"`)
	f(`"\ude00\ud83d"`, `"\ufffd\ufffd"`)
	f(`"\ud83d\ud83d\ude00\ude00"`, `"\ufffd\ud83d\ude00\ufffd"`)
	f(`{"\udc00":["\udbff",1]}`, `{"\ufffd":["\ufffd",1]}`)
	f(`"\ude00\ude00"`, `"\ufffd\ufffd"`)
	f(`"\\ud83d"`, `"\\ud83d"`)
	f(`"\\\ud83d"`, `"\\\ufffd"`)
	f(`"\ud83d\\ude00"`, `"\ufffd\\ude00"`)
	f(`"\ud83d\u0041"`, `"\ufffd\u0041"`)
	f(``, ``)
}

// TestScanAgreesOnDamagedBodies flips, cuts and doubles bytes of real bodies.
func TestScanAgreesOnDamagedBodies(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	body := engageEnvelope(2)
	const damage = "\"\\{}[]:,0123456789.eE+-tfn u/\x00\x1f\x7f\x80\xc3\xa9\xff\n"
	for range 8_000 {
		b := bytes.Clone(body[:1+random.IntN(len(body))])
		if random.IntN(2) == 0 {
			b = bytes.Clone(body)
		}
		for range 1 + random.IntN(3) {
			b[random.IntN(len(b))] = damage[random.IntN(len(damage))]
		}
		if got, want := new(facts).scan(b) == nil, refValid(b); got != want {
			t.Fatalf("%q: accepted %t, want %t", b, got, want)
		}
		checkPass(t, b)
	}
}

func FuzzScan(f *testing.F) {
	for _, body := range seeds(f) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		checkPass(t, body)
		fault := new(facts).scan(body)
		if want := refValid(body); (fault == nil) != want {
			t.Fatalf("fault %v, reference accepts %t", fault, want)
		}
		if fault == nil {
			return
		}
		if fault.Offset < 0 || fault.Offset > len(body) || fault.Code == "" || fault.Found == "" || fault.Expected == "" {
			t.Fatalf("incomplete %+v", fault)
		}
		// What stands before the fault can begin a text: cut there, the body ends too early, or is complete where
		// something trails.
		cut := new(facts).scan(body[:fault.Offset])
		if complete := fault.Code == SyntaxTrailing; complete != (cut == nil) {
			t.Fatalf("cut before the fault %+v: %v", fault, cut)
		}
		if cut != nil && cut.Code != SyntaxEOF && cut.Code != SyntaxEmpty {
			t.Fatalf("cut before the fault %+v: %+v", fault, cut)
		}
	})
}

func ExampleSyntaxError() {
	_, err := Parse([]byte(`{"data":[}`), Options{})
	fmt.Println(err)
	// Output: validate: JSON syntax at offset 9: found '}', expected a value
}
