package validate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// Path leads to a member of an item through the objects around it, such as group.id. The zero Path leads nowhere.
// A Path is never written after it was made.
type Path struct {
	text  string
	names []string
}

// Bounds of a Path.
const (
	maxPathNames = 8
	maxNameBytes = maxCompared / 6 // so that any spelling of it can be compared
)

// ParsePath reads a path: member names with dots between them. A name that has a dot, or a quote in front, is put in
// double quotes, in which a quote or a backslash has a backslash before it: extensions."com.example.tool".room.
func ParsePath(text string) (Path, error) {
	p := Path{text: text}
	for rest, more := text, true; more; {
		var name string
		var err error
		if name, rest, more, err = cutName(rest); err != nil {
			return Path{}, fmt.Errorf("path %q: %w", text, err)
		}
		if name == "" || len(name) > maxNameBytes {
			return Path{}, fmt.Errorf("path %q: a name of %d bytes, expected 1 to %d", text, len(name), maxNameBytes)
		}
		p.names = append(p.names, name)
	}
	if len(p.names) > maxPathNames {
		return Path{}, fmt.Errorf("path %q: %d names, expected at most %d", text, len(p.names), maxPathNames)
	}
	return p, nil
}

// cutName takes the first name off a path; more tells whether a dot followed it.
func cutName(text string) (name, rest string, more bool, err error) {
	if !strings.HasPrefix(text, `"`) {
		name, rest, more = strings.Cut(text, ".")
		return name, rest, more, nil
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case c != '"':
			b.WriteByte(c)
		case i+1 == len(text):
			return b.String(), "", false, nil
		case text[i+1] == '.':
			return b.String(), text[i+2:], true, nil
		default:
			return "", "", false, fmt.Errorf("found %q behind a quoted name, expected a dot or the end", text[i+1:])
		}
	}
	return "", "", false, fmt.Errorf("the quote of a name is not closed")
}

// String is the path as it was written.
func (p Path) String() string { return p.text }

// Lookup returns the value at p, as it stands in the item; nil where it is absent or null, or something on the way is
// no object. Of members that occur twice the last one counts, and names are compared after unescaping. The value is a
// view into the body, like Raw. Lookup does not allocate.
func (it *Item) Lookup(p Path) []byte {
	value, names := it.Raw, p.names
	if it.members != nil && len(names) > 0 {
		value, names = it.noted(names[0]), names[1:]
	}
	for _, name := range names {
		if len(value) == 0 || value[0] != '{' {
			return nil
		}
		value = memberNamed(value, name)
	}
	if len(p.names) == 0 || !isPresent(value) {
		return nil
	}
	return value
}

// memberNamed is the value of the last member of object with that name, whatever characters it has; else nil.
func memberNamed(object []byte, name string) (found []byte) {
	for i := 1; ; {
		start, end := nextName(object, i)
		if start < 0 {
			return found
		}
		i = skipSeparators(object, end)
		value := i
		i = skipPlain(object, i)
		if isName(object[start+1:end-1], name) {
			found = object[value:i:i]
		}
	}
}

// nextName is where the name of the next member from i on stands, quotes included; negative at the end of the object.
func nextName(b []byte, i int) (start, end int) {
	for b[i] <= ' ' || b[i] == ',' {
		i++
	}
	if b[i] == '}' {
		return -1, i + 1
	}
	return i, pastString(b, i)
}

// isName tells whether the inner part of a string literal means name, which has at most maxNameBytes.
func isName(inner []byte, name string) bool {
	if len(inner) == len(name) {
		return string(inner) == name // an escape takes more bytes than it stands for
	}
	if len(inner) < len(name) {
		return false
	}
	var s scratch
	text := s.unescaped(inner)
	return text != nil && string(text) == name
}

// skipPlain is skipValue for long values: it looks at eight bytes of a string at a time, and notes nothing.
func skipPlain(b []byte, i int) int {
	switch b[i] {
	case '"':
		return pastString(b, i)
	case '{', '[':
		for depth := 0; ; {
			switch c := b[i]; {
			case c == '"':
				i = pastString(b, i)
				continue
			case c|0x20 == '{': // '[' too
				depth++
			case c|0x20 == '}': // ']' too
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	return skipValue(b, i)
}

// pastString returns the offset just behind the string at i.
func pastString(b []byte, i int) int {
	const quotes = ones * '"'
	for i++; ; {
		for i+8 <= len(b) {
			q := binary.LittleEndian.Uint64(b[i:]) ^ quotes
			mark := (q - ones) &^ q & highs // the lowest mark is exact
			if mark != 0 {
				i += bits.TrailingZeros64(mark) >> 3
				break
			}
			i += 8
		}
		for b[i] != '"' {
			i++
		}
		if b[i-1] != '\\' || !isEscaped(b, i) {
			return i + 1
		}
		i++
	}
}

// isEscaped tells whether an odd number of backslashes stands before i.
func isEscaped(b []byte, i int) bool {
	n := i
	for b[n-1] == '\\' {
		n--
	}
	return (i-n)&1 != 0
}

// AppendText appends the text of a JSON value to dst: a string's with its escapes resolved, and that of a number or
// boolean as it stands. ok is false for null, objects and arrays, which have none.
func AppendText(dst, value []byte) (text []byte, ok bool) {
	switch {
	case len(value) == 0:
		return dst, false
	case value[0] == '"':
		return appendUnescaped(dst, value[1:len(value)-1]), true
	case value[0] == '{' || value[0] == '[' || value[0] == 'n':
		return dst, false
	}
	return append(dst, value...), true
}

// PlainText is the text of a JSON value as a view into it, where that is possible: it is not for null, objects,
// arrays, and strings with escapes.
func PlainText(value []byte) (text []byte, ok bool) {
	switch {
	case len(value) == 0:
		return nil, false
	case value[0] == '"':
		inner := value[1 : len(value)-1]
		return inner, bytes.IndexByte(inner, '\\') < 0
	case value[0] == '{' || value[0] == '[' || value[0] == 'n':
		return nil, false
	}
	return value, true
}

// Equal tells whether p and q lead to the same member.
func (p Path) Equal(q Path) bool { return slices.Equal(p.names, q.names) }
