package validate

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// MaxDepth is the deepest nesting a body may have; the outermost object or array has depth 1 (contract 1.1, check 8).
const MaxDepth = 64

// The codes of a SyntaxError.
const (
	SyntaxEmpty    = "empty"    // nothing, or nothing but white space
	SyntaxBOM      = "bom"      // a byte order mark in front
	SyntaxGrammar  = "syntax"   // a byte that JSON does not allow here
	SyntaxDepth    = "depth"    // nested deeper than MaxDepth
	SyntaxControl  = "control"  // a raw control character in a string
	SyntaxUTF8     = "utf8"     // bytes that are no UTF-8
	SyntaxEscape   = "escape"   // a backslash followed by something JSON does not know
	SyntaxEOF      = "eof"      // the body ends too early
	SyntaxTrailing = "trailing" // something after the end of the value
)

// SyntaxError tells why a body is no JSON text (contract 1.1, check 8).
// It quotes at most one byte of the body, so it may be logged and shown.
type SyntaxError struct {
	Code     string // one of the Syntax constants
	Offset   int    // of the first offending byte, from 0; the length of the body where it ends too early
	Found    string // "'x'", "byte 0xNN" or "end of body"
	Expected string // in words
}

// Error names the place, what was found there and what belongs there.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("validate: JSON %s at offset %d: found %s, expected %s", e.Code, e.Offset, e.Found, e.Expected)
}

// syntaxFault explains why scan stopped at offset i. It runs once per refused body and may take its time.
func syntaxFault(b []byte, i int, code, expected string) *SyntaxError {
	// Bytes that are no UTF-8 are looked for only when the grammar has been read, yet the sender
	// should learn of the first fault.
	if u := invalidUTF8(b); u >= 0 && u < i {
		i, code, expected = u, SyntaxUTF8, "valid UTF-8"
	}
	if i >= len(b) {
		i = len(b)
		if code != SyntaxEmpty {
			code = SyntaxEOF
		}
	}
	return &SyntaxError{Code: code, Offset: i, Found: byteAt(b, i), Expected: expected}
}

// stringFault explains what is wrong with a string at offset i: a control character, a backslash, or the end of body.
func stringFault(b []byte, i int) *SyntaxError {
	switch {
	case i >= len(b):
		return syntaxFault(b, i, SyntaxEOF, "the closing quote of a string")
	case b[i] != '\\':
		return syntaxFault(b, i, SyntaxControl, "an escaped control character")
	case i+1 >= len(b) || b[i+1] != 'u':
		return syntaxFault(b, i+1, SyntaxEscape, `one of "\/bfnrtu`)
	}
	for i += 2; i < len(b) && hexValue[b[i]] >= 0; i++ {
		// The fault is the first of four that is no digit, so there is no counting to do.
	}
	return syntaxFault(b, i, SyntaxEscape, "a hexadecimal digit")
}

func byteAt(b []byte, i int) string {
	switch {
	case i >= len(b):
		return "end of body"
	case b[i] > ' ' && b[i] < 0x7f:
		return "'" + string(b[i]) + "'"
	default:
		return "byte 0x" + strconv.FormatUint(uint64(b[i])|0x100, 16)[1:]
	}
}

// invalidUTF8 is the offset of the first byte that is no UTF-8, or -1.
func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}
