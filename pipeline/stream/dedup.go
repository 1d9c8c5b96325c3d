package stream

import (
	"crypto/sha256"

	"caliperedge/pipeline"
)

// Dedup tells which records of a topic a reader has had before: delivery is at
// least once, and an event may be stored again by another edge, after an unclear
// publish or beyond the window for duplicates. It remembers as many records as
// it was made for, and up to twice as many. It must not be used concurrently.
type Dedup struct {
	records        int
	recent, before map[[sha256.Size]byte]struct{}
}

// NewDedup returns a Dedup that remembers so many records, of about 100 bytes
// each.
func NewDedup(records int) *Dedup {
	return &Dedup{records: max(records, 1), recent: make(map[[sha256.Size]byte]struct{})}
}

// Seen tells whether the event of record was seen before: with the same tool, id
// and bytes. A record that is not of an accepted event is never.
func (d *Dedup) Seen(record []byte) bool {
	who, ok := pipeline.IdentityOf(record)
	if !ok {
		return false
	}
	h := sha256.New()
	for _, part := range [][]byte{who.Tool, {' '}, who.ID, who.Event} { // no tool has a blank, and no id a bare quote
		h.Write(part)
	}
	sum := [sha256.Size]byte(h.Sum(nil))
	_, seen := d.recent[sum]
	if !seen {
		_, seen = d.before[sum]
	}
	if len(d.recent) >= d.records {
		d.recent, d.before = make(map[[sha256.Size]byte]struct{}), d.recent
	}
	d.recent[sum] = struct{}{}
	return seen
}
