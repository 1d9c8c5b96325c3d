package validate

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
	"unsafe"
)

// facts is what one pass over a body finds out besides its being JSON.
type facts struct {
	arrays         int    // how many arrays with elements are direct members of the outermost value
	elements       int    // the most elements any of them has
	count          int    // elements so far of the one being read
	spans          []span // where they are, as far as maxSpans; in the end those of the last such array
	high           uint64 // bytes of strings or-ed together: a high bit set means there may be more than ASCII
	lineBreaks     bool   // LF or CR between tokens
	loneSurrogates bool   // an escaped surrogate without its partner
	escapes        bool   // any escape sequence; only pass notes them
}

// span is a value in the body: the offsets of its first byte and of the one behind its last.
type span struct{ start, end int }

// maxSpans bounds what is noted about items.
const maxSpans = DefaultMaxItems

// scan decides whether b is one JSON text as encoding/json has it, in UTF-8, no deeper than MaxDepth. What pass does
// not take is decided here and not by the decoder, so that the verdict is the same on every processor.
// It neither recurses nor allocates while the body is in order. f must be zero but for the capacity of spans.
func (f *facts) scan(b []byte) (fault *SyntaxError) {
	depth, kinds := 0, uint64(0) // kinds has one bit per open container, the innermost lowest: 1 is an object
	i := f.space(b, 0)
	if fault = preamble(b, i); fault != nil {
		return fault
	}
value:
	if uint(i) >= uint(len(b)) {
		return syntaxFault(b, i, SyntaxEOF, "a value")
	}
	switch c := b[i]; c {
	case '"':
		if i = f.closing(b, f.plain(b, i+1)); i < 0 {
			return stringFault(b, ^i)
		}
	case '{', '[':
		if depth == MaxDepth {
			return syntaxFault(b, i, SyntaxDepth, "at most 64 levels of nesting")
		}
		depth++
		kinds = kinds<<1 | uint64(c>>5&1) // bit 5 tells '{' from '['
		if i = f.space(b, i+1); uint(i) < uint(len(b)) && b[i] == c+2 {
			break // the empty container is closed below
		}
		goto inside
	default:
		if i, fault = scalar(b, i); fault != nil {
			return fault
		}
	}
after:
	i = f.space(b, i)
	if depth == 0 {
		return f.ending(b, i)
	}
	if uint(i) >= uint(len(b)) || b[i] != ',' {
		if uint(i) >= uint(len(b)) || b[i] != ']'+byte(kinds&1<<5) {
			return syntaxFault(b, i, SyntaxGrammar, afterValue(kinds))
		}
		if depth == 2 && kinds&1 == 0 {
			f.closeArray(b, i)
		}
		depth, kinds, i = depth-1, kinds>>1, i+1
		goto after
	}
	if depth == 2 && kinds&1 == 0 {
		f.closeElement(b, i)
	}
	i = f.space(b, i+1)
inside:
	if kinds&1 == 0 {
		if depth == 2 {
			f.openElement(i)
		}
		goto value
	}
	if uint(i) >= uint(len(b)) || b[i] != '"' {
		return syntaxFault(b, i, SyntaxGrammar, "a member name")
	}
	if i = f.closing(b, f.plain(b, i+1)); i < 0 {
		return stringFault(b, ^i)
	}
	if i = f.space(b, i); uint(i) >= uint(len(b)) || b[i] != ':' {
		return syntaxFault(b, i, SyntaxGrammar, "':'")
	}
	i = f.space(b, i+1)
	goto value
}

// openElement notes that an element of an array at depth 2 begins at i.
func (f *facts) openElement(i int) {
	if f.count == 0 {
		f.spans = f.spans[:0]
	}
	if f.count++; f.count <= maxSpans {
		f.spans = append(f.spans, span{start: i})
	}
}

// closeElement notes that the separator at i stands behind such an element.
func (f *facts) closeElement(b []byte, i int) {
	if f.count > maxSpans {
		return
	}
	for b[i-1] <= ' ' {
		i--
	}
	f.spans[f.count-1].end = i
}

// closeArray notes that such an array, empty or not, ends with the bracket at i.
func (f *facts) closeArray(b []byte, i int) {
	if f.count > 0 {
		f.closeElement(b, i)
		f.arrays, f.elements, f.count = f.arrays+1, max(f.elements, f.count), 0
	}
}

// space skips white space from i on and notes line breaks.
func (f *facts) space(b []byte, i int) int {
	if uint(i) < uint(len(b)) && b[i] > ' ' {
		return i
	}
	return f.spaces(b, i)
}

//go:noinline
func (f *facts) spaces(b []byte, i int) int {
	for ; uint(i) < uint(len(b)); i++ {
		switch b[i] {
		case ' ':
			// Pretty printed bodies are indented: take eight blanks at a time.
			for i+8 <= len(b) && binary.LittleEndian.Uint64(b[i:]) == blanks {
				i += 8
			}
			if uint(i) >= uint(len(b)) || b[i] != ' ' {
				i--
			}
		case '\t':
		case '\n', '\r':
			f.lineBreaks = true
		default:
			return i
		}
	}
	return i
}

const (
	ones       = 0x0101010101010101
	highs      = ones << 7
	slants     = ones * '\\'
	blanks     = ones * ' '
	belowBlank = ones * (' ' + 1)
)

// special marks the control characters, quotes and backslashes among the eight bytes of w, the first of them in the
// lowest bits, as amd64 and arm64 load them. The lowest mark is exact; a borrow can spoil those above it.
func special(w uint64) uint64 {
	// Flipping bit 1 swaps '"' with the blank, so that one comparison finds control characters and quotes.
	q, s := w^ones<<1, w^slants
	return ((q-ones*(' '+1))&^q | (s-ones)&^s) & highs
}

// plain skips what needs no look: it returns the offset of the next quote, backslash or control character from i on,
// or the length of b. i must not be negative.
func (f *facts) plain(b []byte, i int) int {
	high := f.high
	// Loading without bounds checks makes the whole of Parse faster by a tenth. The loop condition is the check.
	start := unsafe.Pointer(unsafe.SliceData(b))
	for i <= len(b)-16 {
		w, v := *(*uint64)(unsafe.Add(start, i)), *(*uint64)(unsafe.Add(start, i+8))
		high |= w | v
		if mark := special(w); mark != 0 {
			f.high = high
			return i + bits.TrailingZeros64(mark)>>3
		}
		if mark := special(v); mark != 0 {
			f.high = high
			return i + 8 + bits.TrailingZeros64(mark)>>3
		}
		i += 16
	}
	for ; uint(i) < uint(len(b)); i++ {
		c := b[i]
		high |= uint64(c)
		if c == '"' || c == '\\' || c < ' ' {
			break
		}
	}
	f.high = high
	return i
}

// closing takes over where plain has stopped: it returns the offset just behind the closing quote, or the complement
// of the offset where the string is at fault.
func (f *facts) closing(b []byte, i int) int {
	if uint(i) < uint(len(b)) && b[i] == '"' {
		return i + 1
	}
	return f.text(b, i)
}

// text does the same for a string that has escapes, or a fault, at i.
func (f *facts) text(b []byte, i int) int {
	for i < len(b) && b[i] == '\\' {
		next := f.escape(b, i)
		if next < 0 {
			return ^i
		}
		i = f.plain(b, next)
	}
	if i < len(b) && b[i] == '"' {
		return i + 1
	}
	return ^i
}

// escape reads the escape sequence at i; -1 is a fault.
func (f *facts) escape(b []byte, i int) int {
	if i+1 >= len(b) {
		return -1
	}
	if b[i+1] != 'u' {
		if !isEscape[b[i+1]] {
			return -1
		}
		return i + 2
	}
	r := hex4(b, i+2)
	if r < 0 {
		return -1
	}
	if r&0xf800 != 0xd800 {
		return i + 6
	}
	if isPair(b, i, r) {
		return i + 12
	}
	f.loneSurrogates = true
	return i + 6
}

// isPair tells whether r, escaped at i, is a high surrogate followed by an escaped low one.
func isPair(b []byte, i int, r int32) bool {
	return r < 0xdc00 && i+12 <= len(b) && b[i+6] == '\\' && b[i+7] == 'u' && hex4(b, i+8)&^0x3ff == 0xdc00
}

// hex4 is the value of four hexadecimal digits at i, or negative.
func hex4(b []byte, i int) int32 {
	if i+4 > len(b) {
		return -1
	}
	return int32(hexValue[b[i]])<<12 | int32(hexValue[b[i+1]])<<8 | int32(hexValue[b[i+2]])<<4 | int32(hexValue[b[i+3]])
}

var isEscape = [256]bool{'"': true, '\\': true, '/': true, 'b': true, 'f': true, 'n': true, 'r': true, 't': true}

// hexValue maps a hexadecimal digit to its value and everything else to -1, which survives shifting and or-ing.
var hexValue = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range int8(10) {
		t['0'+i] = i
	}
	for i := range int8(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()

// scalar reads a number, true, false or null at i.
func scalar(b []byte, i int) (int, *SyntaxError) {
	switch c := b[i]; {
	case c == '-' || '0' <= c && c <= '9':
		return number(b, i)
	case c == 't':
		return keyword(b, i, "true")
	case c == 'f':
		return keyword(b, i, "false")
	case c == 'n':
		return keyword(b, i, "null")
	}
	return i, syntaxFault(b, i, SyntaxGrammar, "a value")
}

func keyword(b []byte, i int, word string) (int, *SyntaxError) {
	for k := range len(word) {
		if i+k >= len(b) || b[i+k] != word[k] {
			return i, syntaxFault(b, i+k, SyntaxGrammar, word)
		}
	}
	return i + len(word), nil
}

func number(b []byte, i int) (int, *SyntaxError) {
	if b[i] == '-' {
		i++
	}
	first := i
	if i = digits(b, i); i == first {
		return i, syntaxFault(b, i, SyntaxGrammar, "a digit")
	}
	if b[first] == '0' {
		i = first + 1 // no digit may follow a leading zero
	}
	if i < len(b) && b[i] == '.' {
		first = i + 1
		if i = digits(b, first); i == first {
			return i, syntaxFault(b, i, SyntaxGrammar, "a digit")
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		first = i
		if i = digits(b, first); i == first {
			return i, syntaxFault(b, i, SyntaxGrammar, "a digit")
		}
	}
	return i, nil
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' < 10 {
		i++
	}
	return i
}

// preamble refuses what is wrong before the first token at i.
func preamble(b []byte, i int) *SyntaxError {
	switch {
	case len(b) >= 3 && b[0] == 0xef && b[1] == 0xbb && b[2] == 0xbf:
		return &SyntaxError{Code: SyntaxBOM, Found: "a byte order mark", Expected: "a value"}
	case i == len(b):
		return syntaxFault(b, i, SyntaxEmpty, "a value")
	}
	return nil
}

// ending refuses what follows the outermost value, and bytes in it that are no UTF-8.
func (f *facts) ending(b []byte, i int) *SyntaxError {
	if i < len(b) {
		return syntaxFault(b, i, SyntaxTrailing, "end of body")
	}
	// Outside strings the grammar takes nothing but ASCII, so one look at the strings tells
	// whether the bytes need checking at all.
	if f.high&highs != 0 && !utf8.Valid(b) {
		return syntaxFault(b, len(b), SyntaxUTF8, "valid UTF-8")
	}
	return nil
}

func afterValue(kinds uint64) string {
	if kinds&1 != 0 {
		return "',' or '}'"
	}
	return "',' or ']'"
}
