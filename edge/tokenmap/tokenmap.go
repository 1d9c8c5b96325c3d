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
	"encoding/hex"
	"iter"
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
	byDigest map[digest]*Principal
	order    []digest // as in the file
}

// Lookup returns the Principal of token, which is only read during the call. A missing token (no bytes) is unknown like
// any other. Lookup allocates nothing, and its time depends on the length of token but not on its likeness to a known
// one.
func (m *Map) Lookup(token []byte) (*Principal, bool) {
	p, ok := m.byDigest[sha256.Sum256(token)]
	return p, ok
}

// Len is the number of tokens.
func (m *Map) Len() int { return len(m.order) }

// Principals goes through all tokens in the order of the file.
func (m *Map) Principals() iter.Seq[*Principal] {
	return func(yield func(*Principal) bool) {
		for _, d := range m.order {
			if !yield(m.byDigest[d]) {
				return
			}
		}
	}
}

func newMap(entries []entry) *Map {
	m := &Map{byDigest: make(map[digest]*Principal, len(entries)), order: make([]digest, 0, len(entries))}
	tools := make(map[string]string)
	for _, e := range entries {
		tool, ok := tools[e.tool]
		if !ok {
			// One string per tool, in memory of its own: nothing in the Map keeps the decrypted text alive.
			tool = strings.Clone(e.tool)
			tools[tool] = tool
		}
		d := sha256.Sum256([]byte(e.token))
		m.byDigest[d] = &Principal{Tool: tool, Fingerprint: fingerprint(d)}
		m.order = append(m.order, d)
	}
	return m
}

// adopt takes over from the map in force what it knows of tokens that stay. The Principal itself moves, not a copy, so
// that a request under way which still holds it does not note its use where nobody reads it. Only for a Map that is
// not in use yet.
func (m *Map) adopt(old *Map) {
	for d, p := range m.byDigest {
		was, ok := old.byDigest[d]
		switch {
		case !ok:
		case was.Tool == p.Tool:
			m.byDigest[d] = was
		default:
			p.lastUsed.Store(was.lastUsed.Load())
		}
	}
}

const fingerprintDigits = 8

func fingerprint(d digest) string { return hex.EncodeToString(d[:fingerprintDigits/2]) }
