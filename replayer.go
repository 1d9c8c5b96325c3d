package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"caliperedge/pipeline"
	"caliperedge/pipeline/rules"
	"caliperedge/pipeline/stream"
	"caliperedge/validate"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/pflag"
)

// replayer is one replay under way.
type replayer struct {
	inv      *invocation
	layout   stream.Layout
	js       jetstream.JetStream
	pipeline *pipeline.Pipeline // routes; it publishes nothing
	packer   *pipeline.Packer
	source   string // the topic
	choice   choice

	read    int                  // records
	last    uint64               // sequence of the last message that was planned with
	events  map[eventKey]planned // to be written
	taken   map[idKey]bool       // their ids, and whether the topic holds one of them
	tallies map[outcome]*tally
	batches map[string]*replayBatch
	written int
}

func newReplayer(inv *invocation, source string) *replayer {
	return &replayer{inv: inv, source: source, events: make(map[eventKey]planned), taken: make(map[idKey]bool), tallies: make(map[outcome]*tally)}
}

// choice says which records are wanted.
type choice struct {
	since, until time.Time // of their arrival; zero for no bound
	tools        []string  // none means all
}

func choiceFlags(fs *pflag.FlagSet) {
	fs.String("since", "start", "records received since a time, a date, or within a duration such as 90m")
	fs.String("until", "", "records received before a time, a date, or so long ago")
	fs.StringSlice("tool", nil, "records of these tools alone")
}

func readChoice(flags *pflag.FlagSet, now time.Time) (c choice, err error) {
	for name, at := range map[string]*time.Time{"since": &c.since, "until": &c.until} {
		text, err := flags.GetString(name)
		if err != nil {
			return c, err
		}
		if text == "" || text == "start" && name == "since" {
			continue
		}
		if *at, err = parseMoment(text, now); err != nil {
			return c, fmt.Errorf("--%s: %w\n%w", name, err, errUsage)
		}
	}
	if c.isEmpty() {
		return c, fmt.Errorf("--until: it is not after what --since begins with\n%w", errUsage)
	}
	c.tools, err = flags.GetStringSlice("tool")
	return c, err
}

// isEmpty tells that no time is in the range.
func (c *choice) isEmpty() bool { return !c.until.IsZero() && !c.since.Before(c.until) }

func (c *choice) takes(tool string, received time.Time) bool {
	return !received.Before(c.since) && (c.until.IsZero() || received.Before(c.until)) &&
		(len(c.tools) == 0 || slices.Contains(c.tools, tool))
}

// eventKey stands for an event of a tool in a topic: for its id and its bytes. idKey
// stands for its id alone, which other events of that topic may have.
type (
	eventKey [16]byte
	idKey    [16]byte
)

// candidate is an event for a topic.
type candidate struct {
	event  eventKey
	id     idKey
	entity bool // has no id for itself: never in conflict
}

// identify returns what a record, without its line break, is known by in a
// topic; false for one that is none of an accepted event.
func identify(topic string, record []byte) (candidate, bool) {
	who, ok := pipeline.IdentityOf(record)
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %s", topic, who.Tool, who.ID) // no topic and no tool has a blank
	c := candidate{entity: who.Entity, id: idKey(h.Sum(nil)[:16])}
	h.Write(who.Event)
	c.event = eventKey(h.Sum(nil)[:16])
	return c, ok
}

// planned is an event that is to be written, or is there already.
type planned struct {
	tally *tally
	there bool
}

// plan reads the source and finds out what is to become of each record.
func (r *replayer) plan() error {
	p := r.inv.progress("reading " + r.source)
	err := r.tail(func(rec *storedRecord, at stream.Address) error {
		r.read++
		p.step()
		return r.judge(rec, at, func(o outcome, c candidate, _ []byte) error { return r.note(o, c) })
	})
	if err != nil {
		return err
	}
	p.tell()
	return r.readTargets()
}

// note notes what is to become of an event.
func (r *replayer) note(o outcome, c candidate) error {
	t := r.tallies[o]
	if t == nil {
		t = new(tally)
		r.tallies[o] = t
	}
	if o.to == "" {
		t.stay++
		return nil
	}
	if _, again := r.events[c.event]; again {
		t.there++
		return nil
	}
	if len(r.events) == maxEvents {
		return errTooManyEvents
	}
	t.write++
	r.events[c.event] = planned{tally: t}
	if !c.entity {
		r.taken[c.id] = false
	}
	return nil
}

// find notes that a topic holds a record, or has passed it on.
func (r *replayer) find(topic string, record []byte) {
	c, ok := identify(topic, record)
	if !ok {
		return
	}
	if _, planned := r.taken[c.id]; planned && !c.entity {
		r.taken[c.id] = true
	}
	if e, planned := r.events[c.event]; planned && !e.there {
		e.there = true
		e.tally.write--
		e.tally.there++
		r.events[c.event] = e
	}
}

// tail calls each for the records of the source that are wanted.
func (r *replayer) tail(each func(*storedRecord, stream.Address) error) error {
	last := r.last // 0 while nothing was planned
	return stream.Tail(r.inv.ctx, r.js, r.layout, r.source, stream.TailOptions{From: r.choice.since}, func(record []byte, at stream.Address) error {
		if last > 0 && at.Sequence > last {
			return stream.ErrStop
		}
		r.last = at.Sequence
		var rec storedRecord
		if err := json.Unmarshal(record, &rec); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if !r.choice.takes(rec.Tool, rec.Received) {
			return nil
		}
		return each(&rec, at)
	})
}

// judge runs a record through validation and routing again, and calls each for
// every topic that takes an item of it, with the item's record there, or once
// with an outcome without a topic where it stays.
func (r *replayer) judge(rec *storedRecord, at stream.Address, each func(outcome, candidate, []byte) error) error {
	stay := func(why string) error { return each(outcome{tool: rec.Tool, why: why}, candidate{}, nil) }
	before := rec.before(r.inv.cfg)
	body, why := rec.body(before)
	if why != "" {
		return stay(why)
	}
	env, err := validate.Parse(body, r.inv.cfg.validateOptions(rec.Tool))
	if err != nil {
		return stay("json")
	}
	defer env.Release()
	if env.Err() != nil && env.Err() != validate.ErrNoItem {
		return stay(codes(env.EnvelopeViolations(), "items"))
	}
	receipt, err := r.pipeline.Route(env, rec.Tool, rec.Received)
	if err != nil {
		return stay("record-size")
	}
	defer receipt.Release()
	more := rec.marks(at)
	for i, set := range receipt.Routes() {
		if i == 0 && before != nil {
			continue
		}
		if set == 0 {
			if err := stay(codes(env.ItemViolations(i), "")); err != nil {
				return err
			}
		}
		for place := range set.All {
			to := r.pipeline.Topics()[place]
			why := ""
			switch {
			case to == r.source:
				why = "it belongs here"
			case to == topicQuarantine && r.source == pipeline.TopicStandard: // from where it would come back, and be there twice
				why = "its keys are not known"
			case r.source == topicQuarantine && (to == rules.Enriched || to == pipeline.TopicStandard): // where it would be twice
				why = "it moves by itself"
			}
			if why != "" {
				if err := stay(why); err != nil {
					return err
				}
				continue
			}
			line := receipt.AppendRecord(nil, i, place, more)
			c, _ := identify(to, line[:len(line)-1])
			if !c.entity && (rec.Conflict || r.taken[c.id]) && len(line)-1+len(pipeline.TextConflict) <= pipeline.MaxRecordBytes {
				line = receipt.AppendRecord(line[:0], i, place, append(more[:len(more):len(more)], pipeline.TextConflict...))
			}
			if err := each(outcome{tool: rec.Tool, to: to}, c, line); err != nil {
				return err
			}
		}
	}
	return nil
}

// codes names what is wrong.
func codes(violations []validate.Violation, otherwise string) string {
	var all []string
	for _, v := range violations {
		all = append(all, v.Code)
	}
	if len(all) == 0 {
		return otherwise
	}
	return strings.Join(all, " ")
}

// replayBatch gathers the records of one message.
type replayBatch struct {
	lines   []byte
	records int
}

// write reads the source again, as far as it was planned with, and stores what
// is not there already. It returns how many records it wrote.
func (r *replayer) write() (int, error) {
	r.batches = make(map[string]*replayBatch)
	p := r.inv.progress("writing")
	err := r.tail(func(rec *storedRecord, at stream.Address) error {
		p.step()
		return r.judge(rec, at, func(o outcome, c candidate, line []byte) error {
			e, ok := r.events[c.event]
			if o.to == "" || !ok || e.there {
				return nil // it is not ok where a setting of the store's has changed since
			}
			e.there = true
			r.events[c.event] = e
			if !c.entity {
				r.taken[c.id] = true
			}
			return r.add(o.to, line)
		})
	})
	if err == nil {
		for topic := range r.batches {
			err = errors.Join(err, r.flush(topic))
		}
	}
	return r.written, err
}

// add puts a record into the message for a topic, which leaves when it is full.
func (r *replayer) add(topic string, line []byte) error {
	b := r.batches[topic]
	if b == nil {
		b = new(replayBatch)
		r.batches[topic] = b
	}
	if len(line)-1 > pipeline.MaxRecordBytes {
		fmt.Fprintf(r.inv.stderr, "a record is too large with its origin, and stays: %.100s\n", line)
		return nil
	}
	if len(b.lines)+len(line) > pipeline.MaxRecordBytes+1 || b.records == pipeline.MaxBatchRecords {
		if err := r.flush(topic); err != nil {
			return err
		}
	}
	b.lines = append(b.lines, line...)
	b.records++
	return nil
}

// flush stores the message for a topic. Its ID is made of its records, in which
// their origins stand: the same ones have the same ID.
func (r *replayer) flush(topic string) error {
	b := r.batches[topic]
	if b.records == 0 {
		return nil
	}
	sum := sha256.Sum256(b.lines)
	body, encoding := r.packer.Pack(b.lines)
	m := pipeline.Message{Topic: topic, ID: "replay-" + hex.EncodeToString(sum[:16]), Encoding: encoding, Records: b.records, Bytes: len(b.lines), Body: body}
	if _, err := stream.Store(r.inv.ctx, r.js, r.layout, &m); err != nil {
		return fmt.Errorf("replay to %s: %w; run it again to go on", topic, err)
	}
	r.written += b.records
	b.lines, b.records = b.lines[:0], 0
	return nil
}
