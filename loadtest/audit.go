package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"caliperedge/bench/corpus"
	"caliperedge/pipeline"
	"caliperedge/pipeline/stream"
)

const (
	// maxListed is how many events of one finding are listed by id; the others are counted.
	maxListed = 100_000
	// clockMargin is how far the clocks of this host and of the store may be apart.
	clockMargin = time.Minute
)

// Audit is what the topics hold of a run, against what its senders were answered.
type Audit struct {
	// Acknowledged, Refused and Unclear are events of the run by what they were answered, UnclearStored those of the unclear
	// ones that are stored.
	Acknowledged  int64 `json:"acknowledged"`
	Refused       int64 `json:"refused"`
	Unclear       int64 `json:"unclear"`
	UnclearStored int64 `json:"unclear_stored"`
	// Records were read, those of quarantine twice; of them Others are not of this run.
	Records int64   `json:"records"`
	Others  int64   `json:"records_of_others"`
	Seconds float64 `json:"seconds"`

	// Topics are those that were read.
	Topics []string `json:"topics"`

	// Missing were acknowledged for a topic and are not in it; of an event for quarantine it is enough that enriched or
	// standard has it. There must be none.
	Missing Finding `json:"missing"`
	// Misplaced were acknowledged, and are in a topic of which their answer says nothing. There must be none.
	Misplaced Finding `json:"misplaced"`
	// Repeated are in one topic more than once, quarantine aside: delivery is at least once.
	Repeated Finding `json:"repeated"`
	// RefusedStored were definitely refused and are stored all the same, NeverSent are stored and were never sent. There
	// must be none of either.
	RefusedStored Finding `json:"refused_stored"`
	NeverSent     Finding `json:"never_sent"`
}

// Finding is a set of events.
type Finding struct {
	Events int64 `json:"events"`
	// Places counts missing events by place.
	Places map[string]int64 `json:"places,omitempty"`
	// Topics counts missing and misplaced events by the topic where they are not, or should not be.
	Topics map[string]int64 `json:"topics,omitempty"`
	// Spans are the events, in order; of more than 100,000 events only the first.
	Spans []Span `json:"spans,omitempty"`

	open bool // the next event belongs to the last span
}

// Span is a number of events of one sender, with none between them that would not belong here.
type Span struct {
	Sender int `json:"sender"`
	// First and Last count the sender's events from 0. Between them may be others of which it is not asked: of acknowledged
	// ones that are missing, those that were refused.
	First uint64   `json:"first"`
	Last  uint64   `json:"last"`
	Place string   `json:"place,omitempty"`
	IDs   []string `json:"ids"`
}

// Where an event is missing, among the acknowledged ones of its sender.
const (
	placeAll     = "all"     // none of them is stored
	placePrefix  = "prefix"  // before the first that is
	placeMiddle  = "middle"  // between two that are
	placePostfix = "postfix" // behind the last that is
)

// add adds an event.
func (f *Finding) add(run runID, sender int, n uint64, place string) {
	f.Events++
	if place != "" {
		if f.Places == nil {
			f.Places = map[string]int64{}
		}
		f.Places[place]++
	}
	if f.Events > maxListed {
		return
	}
	if !f.open {
		f.open = true
		f.Spans = append(f.Spans, Span{Sender: sender, First: n, Place: place})
	}
	var id [corpus.IDBytes]byte
	name, counter := run.id(sender, n)
	corpus.PutID(id[:], name, counter)
	s := &f.Spans[len(f.Spans)-1]
	s.Last = n
	s.IDs = append(s.IDs, "urn:uuid:"+string(id[:]))
}

// cut ends a span: an event came that could have belonged here and does not, or another sender's turn.
func (f *Finding) cut() { f.open = false }

// topic counts the event that was added last for the topics of a set.
func (f *Finding) topic(set fate, names []string) {
	if f.Topics == nil {
		f.Topics = map[string]int64{}
	}
	for i, name := range names {
		if set&(1<<i) != 0 {
			f.Topics[name]++
		}
	}
}

// Records for quarantine are moved to one of the other tiers later, or into another message of its own.
const (
	topicQuarantine = "quarantine"
	topicEnriched   = "enriched"
)

// reading are the topics to read in their order, those that answers named among them. What moves meanwhile must be met:
// quarantine comes before the topics to which it moves, and twice, since what is written anew behind the end of the first
// reading may be deleted ahead of it.
func reading(asked, named []string) []string {
	all := slices.Concat(asked, named)
	var first []string
	if slices.Contains(all, topicQuarantine) {
		first = []string{topicQuarantine}
		all = append(all, topicEnriched, pipeline.TopicStandard)
	}
	for _, name := range all {
		if !slices.Contains(first, name) {
			first = append(first, name)
		}
	}
	if first[0] == topicQuarantine {
		first = slices.Insert(first, 0, topicQuarantine)
	}
	return first
}

// audit reads what the topics took since began, and compares.
func (l *ledger) audit(ctx context.Context, cfg config, began time.Time, topics *topicBits) (*Audit, error) {
	a := &Audit{}
	start := time.Now()
	nc, js, err := stream.Connect(ctx, cfg.store())
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	options := stream.TailOptions{Since: (time.Since(began) + clockMargin).String()}
	if cfg.sinceStart {
		options.Since = "start"
	}
	for _, topic := range reading(cfg.topics, topics.known()) {
		bit := topics.of([]byte(topic))
		if topics.full.Load() {
			return nil, fmt.Errorf("more than %d topics", maxTopics)
		}
		if !slices.Contains(a.Topics, topic) {
			a.Topics = append(a.Topics, topic)
		}
		err := stream.Tail(ctx, js, stream.Layout{Prefix: cfg.prefix}, topic, options,
			func(record []byte, at stream.Address) error {
				a.Records++
				if err := l.find(record, bit, topic != topicQuarantine, a); err != nil {
					return fmt.Errorf("record %v: %w", at, err)
				}
				return nil
			})
		if err != nil {
			return nil, err
		}
	}
	l.compare(a, topics.known())
	a.Seconds = time.Since(start).Seconds()
	return a, nil
}

// find notes a record of a topic. counts is false where it does not matter
// how often the topic holds an event.
func (l *ledger) find(record []byte, topic fate, counts bool, a *Audit) error {
	id, err := recordID(record)
	if err != nil {
		return err
	}
	name, counter, ok := corpus.ParseID(id)
	sender, n, ours := l.run.parse(name, counter)
	switch {
	case !ok || !ours:
		a.Others++
	case sender >= len(l.accounts) || n >= l.accounts[sender].sent:
		a.NeverSent.cut()
		a.NeverSent.add(l.run, sender, n, "")
	default:
		l.accounts[sender].found(n, topic, counts)
	}
	return nil
}

// recordID reads the id of a record. It is a view into it, or a copy.
func recordID(record []byte) ([]byte, error) {
	// How all records begin; an id with an escape in it is not ours.
	if rest, ok := bytes.CutPrefix(record, []byte(`{"id":"`)); ok {
		if end := bytes.IndexByte(rest, '"'); end >= 0 {
			return rest[:end], nil
		}
	}
	var r struct{ ID string }
	if err := json.Unmarshal(record, &r); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	return []byte(r.ID), nil
}

// moves says where else the events for some topics may be.
type moves struct{ quarantine, to fate }

func newMoves(names []string) (m moves) {
	for i, name := range names {
		switch name {
		case topicQuarantine:
			m.quarantine = 1 << i
		case topicEnriched, pipeline.TopicStandard:
			m.to |= 1 << i
		}
	}
	return m
}

// compare says which topics must hold an event and do not, and which hold it and must not.
func (m moves) compare(e entry) (missing, misplaced fate) {
	switch {
	case !e.answered.acknowledged():
		return 0, 0
	case e.answered == somewhere:
		if e.in() == 0 {
			return somewhere, 0
		}
		return 0, 0
	}
	missing, misplaced = e.answered&^e.in(), e.in()&^e.answered
	if e.answered&m.quarantine != 0 {
		if e.in()&m.to != 0 {
			missing &^= m.quarantine
		}
		misplaced &^= m.to
	}
	return missing, misplaced
}

// compare goes through all events of the run, sender by sender.
func (l *ledger) compare(a *Audit, names []string) {
	moves := newMoves(names)
	for sender := range l.accounts {
		account := &l.accounts[sender]
		first, last := account.stored(moves)
		for _, f := range []*Finding{&a.Missing, &a.Misplaced, &a.Repeated, &a.RefusedStored} {
			f.cut()
		}
		for n := range account.sent {
			e := account.entries[n]
			missing, misplaced := moves.compare(e)
			if e.found&twice != 0 {
				a.Repeated.add(l.run, sender, n, "")
			} else {
				a.Repeated.cut()
			}
			if misplaced != 0 {
				a.Misplaced.add(l.run, sender, n, "")
				a.Misplaced.topic(misplaced, names)
			} else {
				a.Misplaced.cut()
			}
			switch {
			case e.answered == unclear:
				a.Unclear++
				if e.in() != 0 {
					a.UnclearStored++
				}
			case e.answered == refused:
				a.Refused++
				if e.in() != 0 {
					a.RefusedStored.add(l.run, sender, n, "")
				} else {
					a.RefusedStored.cut()
				}
			case missing != 0:
				a.Acknowledged++
				a.Missing.add(l.run, sender, n, placeOf(n, first, last))
				if missing != somewhere {
					a.Missing.topic(missing, names)
				}
			default:
				a.Acknowledged++
				a.Missing.cut()
			}
		}
	}
}

// stored is the first and the last event that was acknowledged and is where it must be; first is behind last where there
// is none.
func (a *account) stored(moves moves) (first, last uint64) {
	first = a.sent
	for n := range a.sent {
		if missing, _ := moves.compare(a.entries[n]); missing == 0 && a.entries[n].answered.acknowledged() {
			first, last = min(first, n), n
		}
	}
	return first, last
}

func placeOf(n, first, last uint64) string {
	switch {
	case first > last:
		return placeAll
	case n < first:
		return placePrefix
	case n > last:
		return placePostfix
	}
	return placeMiddle
}
