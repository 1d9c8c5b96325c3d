package pipeline

import (
	"bytes"
	"time"
)

// batch gathers the records of many envelopes for one topic. It is pure state:
// no lock, no clock, no goroutine. Its topic guards it; what is in it changes no
// more once it is sealed, and the worker that publishes it reads it without the
// lock.
type batch struct {
	buf      []byte // records, one a line
	records  int
	entries  []entry
	deadline time.Time // the latest of its envelopes'
	nearest  time.Time // no later than the first of its envelopes' that has not passed
	opened   time.Time // when its first envelope joined
	heavy    *Share    // a tool that holds much and of which it has something, or nil
}

// entry is the part of one envelope in a batch.
type entry struct {
	receipt *Receipt
	use     uint64    // of receipt, which may be reused once this is settled
	by      time.Time // when receipt's wait is to end, settled or not
	end     int       // its records end here in buf
	first   int       // how many records for the topic receipt has before them
	records int
}

// grow makes room for n bytes more. It doubles at least: append adds a quarter
// at a time, and would copy megabytes again and again.
func (b *batch) grow(n int) {
	if cap(b.buf)-len(b.buf) < n {
		b.buf = append(make([]byte, 0, len(b.buf)+max(n, len(b.buf))), b.buf...)
	}
}

// join makes the records appended since the last join an entry of r, which has
// so many before them.
func (b *batch) join(r *Receipt, first, records int) {
	if r.deadline.After(b.deadline) {
		b.deadline = r.deadline
	}
	if len(b.entries) == 0 || r.deadline.Before(b.nearest) {
		b.nearest = r.deadline
	}
	b.records += records
	b.entries = append(b.entries, entry{receipt: r, use: r.use.Load(), by: r.deadline, end: len(b.buf), first: first, records: records})
}

// expire ends the waits that were to end before t.
func (b *batch) expire(t time.Time) {
	if !b.nearest.Before(t) {
		return
	}
	b.nearest = b.deadline
	for i := range b.entries {
		switch e := &b.entries[i]; {
		case e.by.Before(t):
			e.receipt.expire(e.use)
		case e.by.Before(b.nearest):
			b.nearest = e.by
		}
	}
}

// reset empties b, its buffer kept for the next batch unless it has grown
// beyond keep bytes.
func (b *batch) reset(keep int) {
	clear(b.entries)
	if cap(b.buf) > keep {
		b.buf = nil
	}
	*b = batch{buf: b.buf[:0], entries: b.entries[:0]}
}

// piece is what of a batch goes into one message.
type piece struct {
	records []byte
	count   int
	entries []entry
	start   int // where records starts in the batch's buffer
}

func (b *batch) whole() piece {
	return piece{records: b.buf, count: b.records, entries: b.entries}
}

// halve cuts p in two, between envelopes where it holds several, so that an
// envelope that fits in one message stays in one, else between records. Only a
// piece of at least two records can be halved.
//
// An entry that is cut stands in both halves: its receipt then waits for both.
func (p piece) halve() (piece, piece) {
	if len(p.entries) > 1 {
		return p.halveBetweenEntries()
	}
	cut := len(p.records)/2 + bytes.IndexByte(p.records[len(p.records)/2:], '\n') + 1
	if cut == len(p.records) { // the last record is longer than all before it
		cut = bytes.LastIndexByte(p.records[:len(p.records)/2], '\n') + 1
	}
	e := p.entries[0]
	first := piece{records: p.records[:cut], start: p.start}
	first.count = bytes.Count(first.records, []byte{'\n'})
	second := piece{records: p.records[cut:], start: p.start + cut, count: p.count - first.count}
	e.receipt.expect(1)
	first.entries = []entry{{receipt: e.receipt, end: p.start + cut, first: e.first, records: first.count}}
	second.entries = []entry{{receipt: e.receipt, end: e.end, first: e.first + first.count, records: second.count}}
	return first, second
}

func (p piece) halveBetweenEntries() (piece, piece) {
	middle := p.start + len(p.records)/2
	i, count := 0, 0
	for ; i < len(p.entries)-1; i++ {
		if i > 0 && p.entries[i].end > middle {
			break
		}
		count += p.entries[i].records
	}
	cut := p.entries[i-1].end
	return piece{records: p.records[:cut-p.start], count: count, entries: p.entries[:i], start: p.start},
		piece{records: p.records[cut-p.start:], count: p.count - count, entries: p.entries[i:], start: cut}
}
