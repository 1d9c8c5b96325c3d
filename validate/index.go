package validate

// index is the first of the two stages of pass: where the tokens of a body are, some kilobytes at a time. A token is a
// structural character, an opening quote, or the first byte of anything else that is no white space: of a number, a
// word, or of what should not be there. What no token begins with is the inside of a string, which is checked here, or
// the rest of such a scalar.
//
// The idea is simdjson's (Langdale and Lemire, Parsing Gigabytes of JSON per Second): vector instructions turn 64 bytes
// into bit masks, a carry-less multiplication finds what is inside strings.
type index struct {
	// What indexBlocks carries from block to block.
	inString uint64 // all ones within a string
	inScalar uint64 // 1 after a byte of a scalar
	inEscape uint64 // 1 after a backslash that escapes
	// What it has met, as bits that are not zero.
	controls uint64 // control characters in strings
	breaks   uint64 // LF or CR between tokens
	high     uint64 // bytes beyond ASCII

	n       int // tokens
	limit   int // from beyond this token on, fill must be called
	escaped int // escape sequences

	body    []byte
	at      int // so much of the body is indexed
	checked int // the end of the last escape sequence

	tokens  [lookAhead + 64*indexedBlocks + 16]uint32 // offsets; TOKEN writes up to 15 too many
	escapes [32 * indexedBlocks]uint32                // offsets of their backslashes
	tail    [64]byte
}

// vectors tells whether there is an indexBlocks for this processor. GODEBUG=cpu.avx2=off makes it false.
var vectors = hasVectors()

const (
	// indexedBlocks are indexed in one go: 4 KiB of a body, whose tokens take at most 16.
	indexedBlocks = 64
	// lookAhead is how many tokens are at hand after fill: as many as run looks at from one call to the next.
	lookAhead = 8
)

// begin makes x ready for body.
func (x *index) begin(body []byte) {
	x.inString, x.inScalar, x.inEscape = 0, 0, 0
	x.controls, x.breaks, x.high = 0, 0, 0
	x.n, x.limit, x.body, x.at, x.checked = 0, 0, body, 0, 0
	clear(x.tail[:])
}

// done tells whether all of the body is indexed.
func (x *index) done() bool { return x.at >= len(x.body) }

// fill drops the first k tokens and sees to it that lookAhead more are at hand. Behind the last token the last byte of
// the body stands in for others; taking it shows in k, which then is more than there are. False means that, or that a
// string is at fault.
func (x *index) fill(k int, f *facts) bool {
	if k > x.n {
		return false
	}
	x.n = copy(x.tokens[:], x.tokens[k:x.n])
	for x.n < lookAhead && !x.done() {
		if !x.advance(f) {
			return false
		}
	}
	x.limit = x.n - lookAhead
	if x.done() {
		x.limit = x.n
		for i := range lookAhead {
			x.tokens[x.n+i] = uint32(len(x.body) - 1)
		}
	}
	return true
}

// advance indexes further blocks.
func (x *index) advance(f *facts) bool {
	x.escaped = 0
	if n := min((len(x.body)-x.at)/64, indexedBlocks); n > 0 {
		indexBlocks(x, &x.body[x.at], n, uint32(x.at))
		x.at += 64 * n
	} else {
		n := copy(x.tail[:], x.body[x.at:])
		for i := n; i < len(x.tail); i++ {
			x.tail[i] = ' '
		}
		indexBlocks(x, &x.tail[0], 1, uint32(x.at))
		x.at = len(x.body)
	}
	if x.controls != 0 || x.done() && x.inString != 0 {
		return false
	}
	for _, i := range x.escapes[:x.escaped] {
		if int(i) < x.checked {
			continue // the second of a pair of surrogates
		}
		if x.checked = f.escape(x.body, int(i)); x.checked < 0 {
			return false
		}
		f.escapes = true
	}
	return true
}
