package visible

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"Zoë 日本 😀 a\\b":          "Zoë 日本 😀 a\\b",
		"\x1b[31mred\a":          `\u001b[31mred\u0007`,
		"a\nb\tc\r":              `a\u000ab\u0009c\u000d`,
		"\x7f\u0080\u009b\u00a0": `\u007f\u0080\u009b` + "\u00a0",
		"gpj\u202e.exe\u2066":    `gpj\u202e.exe\u2066`,
		"\u200b\ufeff\u2028":     `\u200b\ufeff\u2028`,
		"\U000e0001x":            `\udb40\udc01x`,
		"a\xffb\x9b2J":           "a\ufffdb\ufffd2J",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}

// However output is cut into writes, the terminal gets the same, nothing of it is
// a command, and what is JSON means what it meant.
func TestWriter(t *testing.T) {
	text := "{\"a\":\"\u009b2J \U000e0001 \u202e 😀 Zoë\x7f\",\n\t\"b\":1}\n"
	const want = "{\"a\":\"\\u009b2J \\udb40\\udc01 \\u202e 😀 Zoë\\u007f\",\n\t\"b\":1}\n"
	for size := 1; size <= len(text); size++ {
		var b bytes.Buffer
		w := NewWriter(&b)
		for rest := text; rest != ""; {
			n, err := w.Write([]byte(rest[:min(size, len(rest))]))
			if err != nil || n != min(size, len(rest)) {
				t.Fatalf("%d, %v", n, err)
			}
			rest = rest[n:]
		}
		if b.String() != want {
			t.Fatalf("in pieces of %d: %q, want %q", size, b.String(), want)
		}
	}
	var before, after struct{ A string }
	if err := json.Unmarshal([]byte(text), &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &after); err != nil || before != after {
		t.Errorf("%v: %q became %q", err, before, after)
	}
	if strings.ContainsFunc(Text(text), unicode.IsControl) {
		t.Errorf("%q has a control character", Text(text))
	}
}
