// Package tokenmap knows which bearer token belongs to which tool.
//
// The map is a YAML list of id (the tool) and token, encrypted as a whole with age (contract, section 2). A [File]
// says where it lies and edits it; a [Map] is the form a running endpoint asks; a [Live] is a Map that follows its
// file while the program runs:
//
//	tokens.yaml.age + key ──decrypt──▶ YAML ──check──▶ entries ──digest──▶ Map ──swap──▶ Live.Lookup
//
// Promises, each with a test:
//
//   - A file is taken whole or not at all; whoever refuses it says file, line and reason.
//   - No error text, log line or fingerprint shows a token. Texts of the YAML and age libraries are not passed on, as
//     both quote what they fail to read.
//   - A Map holds SHA-256 digests only. A lookup allocates nothing, and what it compares are digests, so its time
//     tells nothing about how much of a guessed token is right.
//   - A map in force stays in force until a good one replaces it.
//   - An edit replaces the file atomically and never loses another edit, also between processes.
package tokenmap

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"iter"
	"math/bits"
	"strings"
	"sync/atomic"
	"time"
)

// A Principal is one token of the map: who sends with it, and when it was last used. Many requests may share one;
// its methods are safe for concurrent use. A token that stays in the map keeps its Principal over reloads.
type Principal struct {
	// Tool is the id of the tool: 1 to 64 of A-Z a-z 0-9 _ -. Several tokens may belong to one tool.
	Tool string
	// Fingerprint is how the token is spoken of: the first 8 hex digits of its SHA-256, lower case. Not unique in
	// principle: two tokens of one map may share it.
	Fingerprint string

	lastUsed atomic.Int64 // Unix seconds, 0 for never
}

// Touch notes that the token was used at now, to the second. It allocates nothing, and writes at most once a second so
// that requests with one token on several cores do not fight over its cache line.
func (p *Principal) Touch(now time.Time) {
	if s := now.Unix(); p.lastUsed.Load() != s {
		p.lastUsed.Store(s)
	}
}

// LastUsed is the time of the last [Principal.Touch], in UTC and to the second; the zero time if there was none.
func (p *Principal) LastUsed() time.Time {
	if s := p.lastUsed.Load(); s != 0 {
		return time.Unix(s, 0).UTC()
	}
	return time.Time{}
}

type digest = [sha256.Size]byte

// A Map finds the Principal of a token. It does not change once it was loaded and is safe for concurrent use. An empty
// one knows nobody.
type Map struct {
	known []known // as in the file
	// index says where a digest is: one more than its place in known, at the slot that its first bytes name or, where
	// another has that, at the next that is free; 0 where nothing is. It has at least twice as many slots as there are
	// digests, a power of two: of a map of Go's, thousands of tokens ask more of the caches.
	index []uint32
}

type known struct {
	digest    digest
	principal *Principal
}

// Lookup returns the Principal of token, which is only read during the call. A missing token (no bytes) is unknown like
// any other. Lookup allocates nothing, and its time depends on the length of token but not on its likeness to a known
// one.
func (m *Map) Lookup(token []byte) (*Principal, bool) {
	d := sha256.Sum256(token)
	k, _ := m.find(&d)
	if k == nil {
		return nil, false
	}
	return k.principal, true
}

// find returns what is known of d, or nil and the slot where it would be.
func (m *Map) find(d *digest) (k *known, slot uint32) {
	if len(m.index) == 0 {
		return nil, 0
	}
	last := uint32(len(m.index) - 1)
	for slot = binary.LittleEndian.Uint32(d[:]) & last; ; slot = (slot + 1) & last {
		at := m.index[slot]
		if at == 0 {
			return nil, slot
		}
		if k = &m.known[at-1]; k.digest == *d {
			return k, slot
		}
	}
}

// Len is the number of tokens.
func (m *Map) Len() int { return len(m.known) }

// Principals goes through all tokens in the order of the file.
func (m *Map) Principals() iter.Seq[*Principal] {
	return func(yield func(*Principal) bool) {
		for i := range m.known {
			if !yield(m.known[i].principal) {
				return
			}
		}
	}
}

// newMap takes entries that are all of different tokens.
func newMap(entries []entry) *Map {
	m := &Map{known: make([]known, 0, len(entries)), index: make([]uint32, 2<<bits.Len(uint(len(entries))))}
	tools := make(map[string]string)
	for _, e := range entries {
		tool, ok := tools[e.tool]
		if !ok {
			// One string per tool, in memory of its own: nothing in the Map keeps the decrypted text alive.
			tool = strings.Clone(e.tool)
			tools[tool] = tool
		}
		d := sha256.Sum256([]byte(e.token))
		_, slot := m.find(&d)
		m.known = append(m.known, known{d, &Principal{Tool: tool, Fingerprint: fingerprint(d)}})
		m.index[slot] = uint32(len(m.known))
	}
	return m
}

// adopt takes over from the map in force what it knows of tokens that stay. The Principal itself moves, not a copy, so
// that a request under way which still holds it does not note its use where nobody reads it. Only for a Map that is
// not in use yet.
func (m *Map) adopt(old *Map) {
	for i := range m.known {
		k := &m.known[i]
		was, _ := old.find(&k.digest)
		switch {
		case was == nil:
		case was.principal.Tool == k.principal.Tool:
			k.principal = was.principal
		default:
			k.principal.lastUsed.Store(was.principal.lastUsed.Load())
		}
	}
}

const fingerprintDigits = 8

func fingerprint(d digest) string { return hex.EncodeToString(d[:fingerprintDigits/2]) }
