package shapes

import (
	"regexp"
	"strings"
	"unicode"
)

// kept are the beginnings of values that tell nothing of a person.
var kept = []string{"https://", "http://", "urn:uuid:", "urn:"}

var wholes = []struct {
	name    string
	pattern *regexp.Regexp
}{
	{"<uuid>", regexp.MustCompile(`(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)},
	{"<time>", regexp.MustCompile(`\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d([.,]\d+)?([Zz]|[+-]\d\d:?\d\d)?`)},
}

// Mask makes a pattern of a value: 9 for digits, a and A for letters, ? for
// what is neither and no ASCII, <uuid> and <time> for those. A run of more than
// eight of the same is cut to eight, and says so by +.
func Mask(s string) string {
	var b strings.Builder
	for _, prefix := range kept {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			b.WriteString(prefix)
			s = rest
			break
		}
	}
	for s != "" {
		at, end, name := len(s), len(s), ""
		for _, w := range wholes {
			if m := w.pattern.FindStringIndex(s); m != nil && m[0] < at {
				at, end, name = m[0], m[1], w.name
			}
		}
		maskRunes(&b, s[:at])
		b.WriteString(name)
		s = s[end:]
	}
	return b.String()
}

// maxRun is how long a run of the same sign may be.
const maxRun = 8

func maskRunes(b *strings.Builder, s string) {
	var last rune
	run := 0
	for _, r := range s {
		m := maskRune(r)
		if m != last || m != 'a' && m != 'A' && m != '9' && m != '?' {
			last, run = m, 0
		}
		switch run++; {
		case run <= maxRun:
			b.WriteRune(m)
		case run == maxRun+1:
			b.WriteByte('+')
		}
	}
}

func maskRune(r rune) rune {
	switch {
	case unicode.IsDigit(r):
		return '9'
	case unicode.IsUpper(r):
		return 'A'
	case unicode.IsLetter(r):
		return 'a'
	case r < 0x20 || r > 0x7e:
		return '?'
	}
	return r
}
