package main

import (
	"math/rand/v2"

	"caliperedge/bench/corpus"
)

// An id holds a sender of 32 bits and a counter of 48. A run takes the upper bits of both for a number of its own, so that
// many runs can go to one store and be told apart.
const (
	senderBits = 14 // maxConnections fit
	eventBits  = 32 // of one sender
)

// runID is the number of a run.
type runID struct{ upper, lower uint64 }

func newRunID() runID {
	return runID{rand.Uint64N(corpus.MaxSender >> senderBits), rand.Uint64N(corpus.MaxCounter >> eventBits)}
}

// id is what the id of a sender's event holds.
func (r runID) id(sender int, event uint64) (name, counter uint64) {
	return r.upper<<senderBits | uint64(sender), r.lower<<eventBits | event
}

// parse is the opposite of id; ok is false for events of other runs.
func (r runID) parse(name, counter uint64) (sender int, event uint64, ok bool) {
	sender, event = int(name&(1<<senderBits-1)), counter&(1<<eventBits-1)
	return sender, event, name>>senderBits == r.upper && counter>>eventBits == r.lower
}

// ledger keeps for each event of a run what it was answered, and later in which topics it was found: four bytes for
// each. While the load runs each account belongs to its sender.
type ledger struct {
	run      runID
	accounts []account
}

func newLedger(run runID, senders int) *ledger {
	return &ledger{run, make([]account, senders)}
}

// account is the ledger of one sender. The methods that a sender uses do nothing on nil: there is no ledger.
type account struct {
	sent    uint64
	entries []entry
}

// entry is what is known of an event. found has the bit of each topic that holds it, and twice where one does so more than
// once.
type entry struct{ answered, found fate }

const twice fate = 1 << maxTopics

// in are the topics that hold the event.
func (e entry) in() fate { return e.found &^ twice }

// grow makes room for the events below sent; they are unclear.
func (a *account) grow(sent uint64) {
	if a == nil {
		return
	}
	a.sent = sent
	for uint64(len(a.entries)) < sent {
		a.entries = append(a.entries, entry{})
	}
}

// settle notes the answer for the events of an envelope.
func (a *account) settle(first uint64, items int, j judgement) {
	if a == nil {
		return
	}
	for i := range items {
		a.entries[first+uint64(i)].answered = j.of(i)
	}
}

// found notes that an event is in a topic, and where it counts that it was there already.
func (a *account) found(n uint64, topic fate, counts bool) {
	e := &a.entries[n]
	if counts && e.found&topic != 0 {
		e.found |= twice
	}
	e.found |= topic
}
