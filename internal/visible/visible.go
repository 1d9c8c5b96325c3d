// Package visible makes text of sensors safe to look at. A terminal takes
// control characters for commands, and characters of format, such as U+202E,
// show a text as another. Both become \u and four hexadecimal digits, as JSON
// has it: what stands in a JSON string means the same afterwards.
package visible

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text returns s with all such characters escaped, line breaks and tabs among
// them: they are no part of what it stands in.
func Text(s string) string {
	if strings.IndexFunc(s, isHidden) < 0 && utf8.ValidString(s) {
		return s
	}
	var b []byte
	for _, r := range s {
		b = appendRune(b, r)
	}
	return string(b)
}

// isHidden tells whether r is of C0, DEL or C1, of format, or ends a line.
func isHidden(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

func appendRune(dst []byte, r rune) []byte {
	switch {
	case !isHidden(r):
		return utf8.AppendRune(dst, r)
	case r > 0xffff:
		high, low := utf16.EncodeRune(r)
		return fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
	}
	return fmt.Appendf(dst, `\u%04x`, r)
}

// NewWriter returns a writer that escapes what it passes on to w, but for the
// line breaks and tabs that output is laid out by. It may be used concurrently. A
// character that is cut in two by writes is passed on when it is whole.
func NewWriter(w io.Writer) io.Writer { return &writer{to: w} }

type writer struct {
	to   io.Writer
	mu   sync.Mutex
	part []byte // the beginning of a character
	out  []byte
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := append(w.part, p...)
	w.out = w.out[:0]
	for utf8.FullRune(text) {
		r, n := utf8.DecodeRune(text)
		if r == '\n' || r == '\t' {
			w.out = append(w.out, byte(r))
		} else {
			w.out = appendRune(w.out, r)
		}
		text = text[n:]
	}
	w.part = append([]byte(nil), text...)
	if _, err := w.to.Write(w.out); err != nil {
		return 0, err
	}
	return len(p), nil
}
