package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"caliperedge/bench/corpus"
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
	// Records were read, of them Others are not of this run.
	Records int64   `json:"records"`
	Others  int64   `json:"records_of_others"`
	Seconds float64 `json:"seconds"`

	// Missing are acknowledged and not stored. There must be none.
	Missing Finding `json:"missing"`
	// Repeated are stored more than once: delivery is at least once.
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

// audit reads what the topics took since began, and compares.
func (l *ledger) audit(ctx context.Context, cfg config, began time.Time) (*Audit, error) {
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
	for _, topic := range cfg.topics {
		err := stream.Tail(ctx, js, stream.Layout{Prefix: cfg.prefix}, topic, options,
			func(record []byte, at stream.Address) error {
				a.Records++
				if err := l.find(record, a); err != nil {
					return fmt.Errorf("record %v: %w", at, err)
				}
				return nil
			})
		if err != nil {
			return nil, err
		}
	}
	l.compare(a)
	a.Seconds = time.Since(start).Seconds()
	return a, nil
}

// find notes a record.
func (l *ledger) find(record []byte, a *Audit) error {
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
		l.accounts[sender].found(n)
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

// compare goes through all events of the run, sender by sender.
func (l *ledger) compare(a *Audit) {
	for sender := range l.accounts {
		account := &l.accounts[sender]
		first, last := account.stored()
		for _, f := range []*Finding{&a.Missing, &a.Repeated, &a.RefusedStored} {
			f.cut()
		}
		for n := range account.sent {
			times := account.times(n)
			if times > 1 {
				a.Repeated.add(l.run, sender, n, "")
			} else {
				a.Repeated.cut()
			}
			switch outcome := account.outcome(n); {
			case outcome == unclear:
				a.Unclear++
				a.UnclearStored += int64(min(times, 1))
			case outcome == refused:
				a.Refused++
				if times > 0 {
					a.RefusedStored.add(l.run, sender, n, "")
				} else {
					a.RefusedStored.cut()
				}
			case times == 0:
				a.Acknowledged++
				a.Missing.add(l.run, sender, n, placeOf(n, first, last))
			default:
				a.Acknowledged++
				a.Missing.cut()
			}
		}
	}
}

// stored is the first and the last event that was acknowledged and found; first is behind last where there is none.
func (a *account) stored() (first, last uint64) {
	first = a.sent
	for n := range a.sent {
		if a.outcome(n) == acknowledged && a.times(n) > 0 {
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
