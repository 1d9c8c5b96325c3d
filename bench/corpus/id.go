package corpus

import "encoding/binary"

// An id is a version 4 UUID by its form, and to anybody who compresses it: the 122 bits that such a UUID leaves free are
// a permutation of 32 bits for the sender, 48 for its counter, and 42 zeros by which an id of ours is known again.
const (
	// IDBytes is the width of an id.
	IDBytes = 36
	// MaxSender and MaxCounter are the largest numbers that an id can hold.
	MaxSender  = 1<<senderBits - 1
	MaxCounter = 1<<counterBits - 1

	senderBits  = 32
	counterBits = 48
	half        = 1<<61 - 1
)

// PutID writes the id of event n of a sender into the first IDBytes bytes of dst: 36 characters, such as
// 3f2c01d9-77ab-4e21-9c04-5b8e6a10f3d2. It allocates nothing. Different pairs have different ids. Numbers above MaxSender
// and MaxCounter panic, as does a dst that is shorter.
func PutID(dst []byte, sender, n uint64) {
	if sender > MaxSender || n > MaxCounter {
		panic("corpus: sender or counter does not fit in an id")
	}
	dst = dst[:IDBytes]
	a, b := n, sender
	for round := range uint64(4) {
		a, b = b, a^mixed(b, round)
	}
	high := a>>13<<16 | 4<<12 | a>>1&0xfff // 48 bits, version 4, 12 bits
	low := uint64(2)<<62 | a&1<<61 | b     // variant 10, 62 bits
	first, second, third, fourth := hex8(high>>32), hex8(high), hex8(low>>32), hex8(low)
	binary.BigEndian.PutUint64(dst[0:], first)
	dst[8] = '-'
	binary.BigEndian.PutUint32(dst[9:], uint32(second>>32))
	dst[13] = '-'
	binary.BigEndian.PutUint32(dst[14:], uint32(second))
	dst[18] = '-'
	binary.BigEndian.PutUint32(dst[19:], uint32(third>>32))
	dst[23] = '-'
	binary.BigEndian.PutUint32(dst[24:], uint32(third))
	binary.BigEndian.PutUint64(dst[28:], fourth)
}

// ParseID tells who PutID wrote the id for; ok is false for an id that PutID did not write, but for one in 4 million
// million of them. A leading "urn:uuid:" is passed over. It allocates nothing.
func ParseID[T string | []byte](id T) (sender, n uint64, ok bool) {
	s := id
	if len(s) == len(prefix)+IDBytes && string(s[:len(prefix)]) == prefix {
		s = s[len(prefix):]
	}
	if len(s) != IDBytes {
		return 0, 0, false
	}
	if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return 0, 0, false
	}
	h0, ok0 := unhex(s[0:8])
	h1, ok1 := unhex(s[9:13])
	h2, ok2 := unhex(s[14:18])
	l0, ok3 := unhex(s[19:23])
	l1, ok4 := unhex(s[24:36])
	if !ok0 || !ok1 || !ok2 || !ok3 || !ok4 || h2>>12 != 4 || l0>>14 != 2 {
		return 0, 0, false
	}
	low := l0<<48 | l1
	a, b := (h0<<16|h1)<<13|h2&0xfff<<1|low>>61&1, low&half
	for round := range uint64(4) {
		a, b = b^mixed(a, 3-round), a
	}
	if a > MaxCounter || b > MaxSender {
		return 0, 0, false
	}
	return b, a, true
}

// prefix stands before every id.
const prefix = "urn:uuid:"

// mixed is the function of a Feistel network over two halves: the finish of SplitMix64, different for each round.
func mixed(x, round uint64) uint64 {
	x += (round + 1) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return (x ^ x>>31) & half
}

const digits = "0123456789abcdef"

// hex8 is the eight hexadecimal digits of the low 32 bits of x, the first in the highest byte.
func hex8(x uint64) uint64 {
	x &= 0xffffffff
	x = (x | x<<16) & 0x0000ffff0000ffff
	x = (x | x<<8) & 0x00ff00ff00ff00ff
	x = (x | x<<4) & 0x0f0f0f0f0f0f0f0f // a digit in each byte
	letters := (x + 0x0606060606060606) >> 4 & 0x0101010101010101
	return x + 0x3030303030303030 + letters*('a'-'0'-10)
}

func unhex[T string | []byte](s T) (x uint64, ok bool) {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			x = x<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			x = x<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return x, true
}
