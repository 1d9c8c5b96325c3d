package validate

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// What is in this file reads text that scan has accepted. It takes every shortcut that allows, and allocates nothing
// unless it says so.

// cursor steps through the members of an object or the elements of an array.
// The zero value is exhausted; it points into the text it was made from.
type cursor struct {
	b []byte
	i int // before the next member or element, or behind the last one
}

// inside is a cursor over the container value, which begins with its bracket.
func inside(value []byte) cursor { return cursor{b: value, i: 1} }

// element returns the next element of an array; false at its end.
func (c *cursor) element() ([]byte, bool) {
	if c.i = skipSeparators(c.b, c.i); c.i >= len(c.b) || c.b[c.i] == ']' {
		return nil, false
	}
	start := c.i
	c.i = skipValue(c.b, start)
	return c.b[start:c.i:c.i], true
}

// member returns name (a JSON string literal) and value of the next member of an object; false at its end.
func (c *cursor) member() (name, value []byte, ok bool) {
	if c.i = skipSeparators(c.b, c.i); c.i >= len(c.b) || c.b[c.i] == '}' {
		return nil, nil, false
	}
	start := c.i
	c.i = skipString(c.b, start)
	name = c.b[start:c.i]
	start = skipSeparators(c.b, c.i)
	c.i = skipValue(c.b, start)
	return name, c.b[start:c.i:c.i], true
}

// lastMember is the value of the last member of object called name, or nil.
func lastMember(object []byte, name string) []byte {
	var found []byte
	for c := inside(object); ; {
		n, value, ok := c.member()
		if !ok {
			return found
		}
		if isText(n, name) {
			found = value
		}
	}
}

func skipSeparators(b []byte, i int) int {
	for i < len(b) && (b[i] <= ' ' || b[i] == ',' || b[i] == ':') {
		i++
	}
	return i
}

// skipValue returns the offset just behind the value at i.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		for depth := 0; ; {
			switch b[i] {
			case '"':
				i = skipString(b, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for i < len(b) && b[i] > ' ' && b[i] != ',' && b[i] != ']' && b[i] != '}' {
		i++
	}
	return i
}

// skipString returns the offset just behind the string at i.
func skipString(b []byte, i int) int {
	var f facts
	for i++; ; i += 2 {
		if i = f.plain(b, i); b[i] == '"' {
			return i + 1
		}
	}
}

// isText tells whether the string literal means want, which must be made of letters and '@'. Those can be escaped
// only as \u and four digits, so most other names are ruled out by their length.
func isText(literal []byte, want string) bool {
	inner := literal[1 : len(literal)-1]
	if string(inner) == want {
		return true
	}
	if len(inner) < len(want)+5 {
		return false
	}
	var s scratch
	return string(s.unescaped(inner)) == want
}

// maxCompared bounds what is unescaped for a comparison: the longest string of any table of this package is
// below 100 bytes, each written with at most six. A longer literal equals none of them.
const maxCompared = 6 * 100

// scratch is room for unescaped, on the stack of its caller: some sensors escape the slashes of every `@context`.
type scratch [maxCompared]byte

// unescaped is what stands between the quotes of a string literal, with its escapes resolved, and lies in s; nil where
// there is nothing that any comparison could want.
func (s *scratch) unescaped(inner []byte) []byte {
	if len(inner) > maxCompared || bytes.IndexByte(inner, '\\') < 0 {
		return nil
	}
	return appendUnescaped(s[:0], inner)
}

// appendUnescaped resolves the escapes of inner; an escaped lone surrogate becomes U+FFFD.
func appendUnescaped(dst, inner []byte) []byte {
	for i := 0; i < len(inner); {
		c := inner[i]
		switch {
		case c != '\\':
			dst = append(dst, c)
			i++
		case inner[i+1] != 'u':
			dst = append(dst, plainEscape(inner[i+1]))
			i += 2
		default:
			r := rune(hex4(inner, i+2))
			if isPair(inner, i, r) {
				r = utf16.DecodeRune(r, hex4(inner, i+8))
				i += 6
			}
			dst = utf8.AppendRune(dst, r) // which writes U+FFFD for a surrogate
			i += 6
		}
	}
	return dst
}

func plainEscape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// RepairSurrogates overwrites every escaped lone surrogate of the JSON text b with \ufffd, which has the same
// length, and tells whether it changed anything (contract 4, "Record"). The caller owns b; it is no part of
// an Envelope. It does not block or allocate.
func RepairSurrogates(b []byte) bool {
	changed := false
	for i := 0; ; {
		k := bytes.IndexByte(b[i:], '\\')
		if k < 0 || i+k+1 >= len(b) {
			return changed
		}
		i += k
		r := int32(0)
		if b[i+1] == 'u' {
			r = hex4(b, i+2)
		}
		switch {
		case r < 0 || r&0xf800 != 0xd800:
			i += 2
		case isPair(b, i, r):
			i += 12
		default:
			copy(b[i:], `\ufffd`)
			i, changed = i+6, true
		}
	}
}
