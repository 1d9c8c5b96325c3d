package tokenmap

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// tok is a token of n characters; different seeds give different tokens.
func tok(seed byte, n int) string { return strings.Repeat(string([]byte{seed, 'Q'}), n)[:n] }

// item is one well-formed entry.
func item(tool, token string) string { return "- id: " + tool + "\n  token: " + token + "\n" }

func TestParse(t *testing.T) {
	a, b := tok('a', 40), tok('b', 40)
	tests := []struct {
		name string
		yaml string
		want string // tools in order, or the error
	}{
		{"one", item("iClicker", a), "iClicker"},
		{"several per tool", item("x", a) + item("y", b) + item("x", tok('c', 40)), "x y x"},
		{"token first, comments, document mark", "---\n# c\n- token: " + a + " # c\n  id: x\n", "x"},
		{"flow style", "[{id: x, token: " + a + "}]", "x"},
		{"byte order mark and CRLF", "\ufeff- id: x\r\n  token: " + a + "\r\n", "x"},
		{"quoted", "- id: \"x\"\n  token: '" + a + "'\n", "x"},
		{"empty list", "[]\n", ""},
		{"all of the alphabet", item("a-Z_9", "ABCxyz0189-._~+/ABCxyz0189-._~+/=="), "a-Z_9"},
		{"number and truth value as id", item("0123", a) + item("true", b), "0123 true"},
		{"number as token", item("x", strings.Repeat("1", 40)), "x"},
		{"float as token", item("x", "1.0e+"+strings.Repeat("0", 40)), "x"},
		{"token of 32", item("x", tok('a', 32)), "x"},
		{"tool of 64", item(tok('t', 64), a), tok('t', 64)},

		{"token of 31", item("y", b) + item("x", tok('a', 31)), "line 4: token has 31 characters, at least 32 are needed"},
		{"padding counts", item("x", tok('a', 30)+"=="), "x"},
		{"only padding", item("x", strings.Repeat("=", 40)), "line 2: token must be"},
		{"padding inside", item("x", a+"=a"), "line 2: token must be"},
		{"bad character", item("x", a+"%"), "line 2: token must be"},
		{"not ASCII", item("x", a+"é"), "line 2: token must be"},
		{"blank inside", item("x", a+" "+b), "line 2: token must be"},
		{"line break at the end", "- id: x\n  token: |\n    " + a + "\n", "line 2: token must be"},
		{"tool of 65", item(tok('t', 65), a), "line 1: id must be 1 to 64"},
		{"tool with a dot", item("a.b", a), "line 1: id must be 1 to 64"},
		{"tool empty", item("''", a), "line 1: id must be 1 to 64"},
		{"token empty", item("x", "''"), "line 2: token must be"},
		{"same token, other tool", item("x", a) + item("y", b) + item("z", a), "line 6: the same token as in line 2"},
		{"same token, otherwise quoted", item("x", a) + item("x", "'"+a+"'"), "line 4: the same token as in line 2"},
		{"id missing", item("y", b) + "- token: " + a + "\n", "line 3: id is missing"},
		{"token missing", "- id: x\n", "line 1: token is missing"},
		{"id null", item("", a), "line 1: id is not a string"},
		{"token null", item("x", "~"), "line 2: token is not a string"},
		{"id twice", "- id: x\n  id: y\n  token: " + a + "\n", "line 2: id is there twice"},
		{"token twice", item("x", a) + "  token: " + b + "\n", "line 3: token is there twice"},
		{"unknown key", item("x", a) + "  note: y\n", "line 3: an unknown key"},
		{"token as key", "- " + a + ": x\n", "line 1: an unknown key"},
		{"list as key", "- [id]: x\n", "line 1: an unknown key"},
		{"merge key", "- &b {id: x, token: " + a + "}\n- <<: *b\n", "line 2: an unknown key"},
		{"token is a list", "- id: x\n  token: [" + a + "]\n", "line 2: token is not a string"},
		{"alias", "- id: &n x\n  token: " + a + "\n- id: *n\n  token: " + b + "\n", "line 3: id is not a string"},
		{"alias to nothing", "- id: x\n  token: *" + a + "\n", "an alias (*) to nothing"},
		{"type demanded", "- id: x\n  token: !!binary " + a + "\n", "line 2: token is not a string"},
		{"mapping on top", "x: " + a + "\n", "line 1: not a list"},
		{"token on top", "\n" + a + "\n", "line 2: not a list"},
		{"null on top", "~\n", "line 1: not a list"},
		{"nothing", "", "line 1: nothing in it"},
		{"only a comment", "# nobody\n", "line 1: nothing in it"},
		{"entry is a string", item("x", a) + "- " + b + "\n", "line 3: not an entry"},
		{"second document", item("x", a) + "---\n" + item("y", b), "line 3: a second YAML document"},
		{"second document broken", item("x", a) + "---\n'" + b, "line 4: not well-formed YAML"},
		{"tab", "- id: x\n\ttoken: " + a + "\n", "line 2: not well-formed YAML"},
		{"first line", "- id: x: " + a + "\n", "line 1: not well-formed YAML"},
		{"quote not closed", item("x", a) + "- id: '" + b + "\n", "line 3: not well-formed YAML"},
		{"at sign", "- id: x\n  token: @" + a + "\n", "line 2: not well-formed YAML"},
		{"not UTF-8", item("x", a) + "- id: \xff" + b, "line 3: a control character, or not UTF-8"},
		{"control character", item("x", a+"\x01"), "line 2: a control character, or not UTF-8"},
		{"delete", item("x", a+"\x7f"), "line 2: a control character, or not UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := parse([]byte(tt.yaml))
			if err != nil {
				if !strings.HasPrefix(strings.TrimPrefix(err.Error(), ": "), tt.want) || tt.want == "" {
					t.Errorf("error %q, want %q", err, tt.want)
				}
				if quoted := leak(tt.yaml, err.Error()); quoted != "" {
					t.Errorf("error %q quotes %q", err, quoted)
				}
				return
			}
			var tools []string
			for _, e := range doc.entries {
				tools = append(tools, e.tool)
			}
			if got := strings.Join(tools, " "); got != tt.want {
				t.Errorf("tools %q, want %q", got, tt.want)
			}
		})
	}
}

func TestParseTakesTokensAsWritten(t *testing.T) {
	for _, written := range []string{
		strings.Repeat("0", 31) + "7", "0x" + strings.Repeat("F", 40), "1_000." + strings.Repeat("0", 40),
		"2001-01-01T00.00.00Z" + strings.Repeat("0", 20), "~" + tok('a', 40), ".inf" + tok('a', 40),
	} {
		doc, err := parse([]byte(item("x", written)))
		if err != nil {
			t.Errorf("%s: %v", written, err)
		} else if got := doc.entries[0].token; got != written {
			t.Errorf("token %s, want %s", got, written)
		}
	}
}

func TestParseBoundsSize(t *testing.T) {
	good := item("x", tok('a', 40))
	text := []byte(good + "#" + strings.Repeat("x", maxPlainBytes-len(good)-1))
	if _, err := parse(text); err != nil {
		t.Errorf("%d bytes: %v", len(text), err)
	}
	if _, err := parse(append(text, 'x')); err == nil {
		t.Errorf("%d bytes were accepted", len(text)+1)
	}
}

var words = regexp.MustCompile(`[A-Za-z0-9._~+/-]+`)

// leak finds a word of text that msg quotes, of 8 characters or more so that no word of ours is taken for one.
func leak(text, msg string) string {
	for _, w := range words.FindAllString(text, -1) {
		for i := 0; i+8 <= len(w); i++ {
			if piece := w[i : i+8]; strings.Contains(msg, piece) && !strings.Contains(ownWords, piece) {
				return piece
			}
		}
	}
	return ""
}

// ownWords are those of our reasons with 8 letters or more.
const ownWords = "characters control document well-formed missing accepted written YAML unknown values nothing"

// breaks are what YAML takes for the end of a line.
var breaks = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

func FuzzParse(f *testing.F) {
	f.Add([]byte(item("iClicker", tok('a', 64)) + item("b", tok('b', 32))))
	f.Add([]byte("- id: x\n  token: *" + tok('a', 40)))
	f.Add([]byte("--- # c\n- {id: &a x, token: !!binary '" + tok('a', 40) + "'}\n...\n"))
	f.Add([]byte("%TAG ! tag:x,2000:\n---\n- !y \"\\u263a\"\n- ? |\n    k\n  : >-\n    v\n"))
	f.Add([]byte("[[{{]]\n\ta: 'b\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := parse(text)
		if err != nil {
			if quoted := leak(string(text), err.Error()); quoted != "" {
				t.Errorf("%q: error %q quotes %q", text, err, quoted)
			}
			// A list that is missing at the end is missing on the line after it.
			if lines := strings.Count(breaks.Replace(string(text)), "\n") + 2; err.Line > lines {
				t.Errorf("%q: line %d of %d", text, err.Line, lines)
			}
			return
		}
		m := newMap(doc.entries)
		found := make(map[*Principal]bool)
		for _, e := range doc.entries {
			p, ok := m.Lookup([]byte(e.token))
			if !ok || p.Tool != e.tool {
				t.Errorf("%q: a token is not found", text)
			}
			found[p] = true
			if got := fmt.Sprint(toolFault(e.tool), tokenFault(e.token)); got != "" {
				t.Errorf("%q: %s", text, got)
			}
		}
		if len(found) != len(doc.entries) || m.Len() != len(found) {
			t.Errorf("%q: %d entries, %d tokens, %d told apart", text, len(doc.entries), m.Len(), len(found))
		}
	})
}
