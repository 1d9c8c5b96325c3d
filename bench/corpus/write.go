package corpus

import (
	"cmp"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// A value of a body is an object, a list, a string, an int, a number, a bool, nil or a token.
type (
	object []member
	member struct {
		name  string
		value any
	}
	list []any
	// number is written as it stands.
	number string
	// token is a string of prefix and the place of an id.
	token struct{}
)

// set replaces the value of a member, or adds it.
func (o *object) set(name string, value any) {
	for i := range *o {
		if (*o)[i].name == name {
			(*o)[i].value = value
			return
		}
	}
	*o = append(*o, member{name, value})
}

// get returns the value of a member, nil where there is none.
func (o object) get(name string) any {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// without returns o less a member.
func (o object) without(name string) object {
	return slices.DeleteFunc(slices.Clone(o), func(m member) bool { return m.name == name })
}

// notation is how a sensor's JSON library writes.
type notation struct {
	sorted  bool // members in the order of their names
	ascii   bool // other characters as \u escapes
	blanks  bool // a blank after comma and colon
	slashes bool // slashes escaped
	indent  int  // blanks for each level, and line breaks; 0 for one line
}

// The notations of known sensors: of JavaScript and Ruby, of Python, of PHP with and without JSON_UNESCAPED_SLASHES.
var (
	compact  = notation{}
	python   = notation{sorted: true, ascii: true, blanks: true}
	php      = notation{ascii: true, indent: 4}
	phpPlain = notation{ascii: true, slashes: true}
)

// writer writes values as JSON text.
type writer struct {
	notation
	out    []byte
	tokens []int // where in out the ids go
}

func (w *writer) value(v any, depth int) {
	switch v := v.(type) {
	case nil:
		w.out = append(w.out, "null"...)
	case bool:
		w.out = strconv.AppendBool(w.out, v)
	case int:
		w.out = strconv.AppendInt(w.out, int64(v), 10)
	case number:
		w.out = append(w.out, v...)
	case string:
		w.text(v)
	case token:
		w.out = append(w.out, '"')
		w.out = append(w.out, prefix...)
		w.tokens = append(w.tokens, len(w.out))
		w.out = append(w.out, "00000000-0000-4000-8000-000000000000\""...)
	case list:
		w.list(v, depth)
	case object:
		w.object(v, depth)
	default:
		panic("corpus: value of a type that has no JSON text")
	}
}

func (w *writer) list(l list, depth int) {
	w.out = append(w.out, '[')
	for i, v := range l {
		w.between(i, depth+1)
		w.value(v, depth+1)
	}
	w.end(len(l), depth, ']')
}

func (w *writer) object(o object, depth int) {
	if w.sorted {
		o = slices.Clone(o)
		slices.SortStableFunc(o, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	}
	w.out = append(w.out, '{')
	for i, m := range o {
		w.between(i, depth+1)
		w.text(m.name)
		w.out = append(w.out, ':')
		if w.blanks || w.indent > 0 {
			w.out = append(w.out, ' ')
		}
		w.value(m.value, depth+1)
	}
	w.end(len(o), depth, '}')
}

// between separates element i from the one before.
func (w *writer) between(i, depth int) {
	if i > 0 {
		w.out = append(w.out, ',')
	}
	switch {
	case w.indent > 0:
		w.newLine(depth)
	case i > 0 && w.blanks:
		w.out = append(w.out, ' ')
	}
}

func (w *writer) end(elements, depth int, bracket byte) {
	if elements > 0 && w.indent > 0 {
		w.newLine(depth)
	}
	w.out = append(w.out, bracket)
}

func (w *writer) newLine(depth int) {
	w.out = append(w.out, '\n')
	for range depth * w.indent {
		w.out = append(w.out, ' ')
	}
}

func (w *writer) text(s string) {
	w.out = append(w.out, '"')
	plain := 0 // where what can be copied begins
	for i, r := range s {
		if r >= ' ' && r != '"' && r != '\\' && (r < utf8.RuneSelf || !w.ascii) && (r != '/' || !w.slashes) {
			continue
		}
		w.out = append(w.out, s[plain:i]...)
		plain = i + utf8.RuneLen(r)
		switch {
		case r == '"' || r == '\\' || r == '/':
			w.out = append(w.out, '\\', byte(r))
		case r == '\n':
			w.out = append(w.out, '\\', 'n')
		case r == '\t':
			w.out = append(w.out, '\\', 't')
		case r < 0x10000:
			w.unit(r)
		default:
			high, low := utf16.EncodeRune(r)
			w.unit(high)
			w.unit(low)
		}
	}
	w.out = append(w.out, s[plain:]...)
	w.out = append(w.out, '"')
}

// unit writes the escape of a UTF-16 code unit.
func (w *writer) unit(r rune) {
	w.out = append(w.out, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
