package stream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline"
	"caliperedge/pipeline/keymap"
)

// source is a message of quarantine in work.
type source struct {
	msg    jetstream.Msg
	seq    uint64
	leaves []*leaving // what moves
	stays  [][]byte   // the other records, as another message of quarantine has them
	hold   heldMessage

	alien bool          // no message of ours, to be left alone
	wait  bool          // to be kept in hand
	err   error         // why it was not dealt with
	delay time.Duration // until it is tried again
}

// leaving is a record that moves.
type leaving struct {
	src               *source
	topic, origin, id string
	record, line      []byte // as it stands in quarantine, and as it will in topic
	err               error
}

// work decides about messages and acts on it. Those that are done with are
// deleted, those that wait are kept in hand, and those that failed are given
// back.
func (m *Mover) work(ctx context.Context, js jetstream.JetStream, s jetstream.Stream, msgs []jetstream.Msg) {
	acted, sources := m.take(msgs)
	now := time.Now()
	for _, src := range sources {
		m.judge(src, now)
	}
	m.keep(ctx, sources, now)
	var leaves []*leaving
	for _, src := range sources {
		if src.err == nil && !src.wait {
			leaves = append(leaves, src.leaves...)
		}
	}
	concurrently(leaves, func(l *leaving) { l.err = m.move(ctx, l) })
	concurrently(sources, func(src *source) {
		if src.err == nil && !src.wait && !src.alien {
			src.err = m.remove(ctx, s, src)
		}
	})
	m.put(js, sources, acted, now)
}

// concurrently calls do for all, a few at once.
func concurrently[T any](all []T, do func(T)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(moverPublishes, len(all)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				do(all[i])
			}
		})
	}
	workers.Wait()
}

// take takes messages into work, and returns how often changes of the key map
// have been acted on.
func (m *Mover) take(msgs []jetstream.Msg) (uint64, []*source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var sources []*source
	for _, msg := range msgs {
		meta, err := msg.Metadata()
		if err != nil {
			continue // no message of a consumer
		}
		seq := meta.Sequence.Stream
		records, _ := headerNumber(msg.Headers(), pipeline.HeaderEvents, pipeline.MaxBatchRecords) // 0 where it is none of ours
		m.held[seq] = &heldMessage{reply: msg.Reply(), oldest: meta.Timestamp, records: records, touched: time.Now()}
		delete(m.others, seq)
		if m.taken != nil {
			m.taken[seq] = true
		}
		sources = append(sources, &source{msg: msg, seq: seq, delay: moverPause})
	}
	return m.acted, sources
}

// put keeps what waits and gives the server the rest.
func (m *Mover) put(js jetstream.JetStream, sources []*source, acted uint64, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, src := range sources {
		touched := now // as if for one that was delivered twice
		if h := m.held[src.seq]; h != nil {
			touched = h.touched
		}
		delete(m.held, src.seq)
		answer := []byte("+ACK")
		switch {
		case src.err != nil:
			m.failed("a message of quarantine is to be tried again", fmt.Errorf("%s:%d: %w", m.p.layout.Stream(topicQuarantine), src.seq, src.err))
			answer = fmt.Appendf(nil, `-NAK {"delay":%d}`, src.delay)
		case src.wait:
			src.hold.reply, src.hold.touched = src.msg.Reply(), touched
			if acted != m.acted { // it was decided by what may be an older key map
				src.hold.due = now
			}
			m.held[src.seq] = &src.hold
			continue
		}
		_ = js.Conn().Publish(src.msg.Reply(), answer)
	}
}

// judge decides about the records of a message.
func (m *Mover) judge(src *source, now time.Time) {
	if src.alien = src.msg.Headers().Get(pipeline.HeaderRecord) == ""; src.alien {
		return
	}
	var d Decoder
	records, err := d.Records(src.msg.Headers(), src.msg.Data())
	if err != nil {
		src.err, src.delay = err, 10*moverPause
		return
	}
	for i, record := range records {
		w, err := readWaiting(record)
		if err != nil {
			src.err, src.delay = err, 10*moverPause
			return
		}
		w.locate(Address{Stream: m.p.layout.Stream(topicQuarantine), Sequence: src.seq, Line: i + 1})
		due := w.received.Add(m.cfg.MaxAge)
		keys := m.keys(&w, &src.hold.parts)
		l := &leaving{src: src, topic: topicEnriched, origin: w.origin, id: w.messageID, record: record}
		var stays []byte
		if keys != nil {
			l.line = moved(record, topicEnriched, w.origin, keys)
		} else {
			stays = moved(record, topicQuarantine, w.origin, nil)
		}
		// What is too large would not get smaller by waiting.
		if keys == nil && (!due.After(now) || !m.fits(stays)) || keys != nil && !m.fits(l.line) {
			l.topic, l.line = topicStandard, m.standardLine(record, w.origin)
		}
		if l.line != nil {
			src.leaves = append(src.leaves, l)
			continue
		}
		src.stays = append(src.stays, stays)
		h := &src.hold
		h.records++
		h.bytes += len(record)
		if h.due.IsZero() || due.Before(h.due) {
			h.due, h.oldest = due, w.received
		}
	}
	src.wait = len(src.stays) > 0
}

// fits tells whether a record with its line break is one that a message can have.
func (m *Mover) fits(line []byte) bool {
	return len(line)-len("\n") <= pipeline.MaxRecordBytes && len(line) <= m.p.MaxMessageBytes()
}

// standardLine is record as it stands in standard, with its origin. Where there is
// no room for that, it is without what was added for the keys, and at the last
// without an origin: as it came it had room.
func (m *Mover) standardLine(record []byte, origin string) []byte {
	line := moved(record, topicStandard, origin, nil)
	if !m.fits(line) {
		line = moved(record, topicStandard, origin, nil, "identifiers", "keys", "awaits")
	}
	if !m.fits(line) {
		line = moved(record, topicStandard, "", nil, "identifiers", "keys", "awaits")
	}
	return line
}

// keys returns the keys that a record waits for, as a JSON object, or nil where
// one is not known yet, and then adds the partitions that could have it.
func (m *Mover) keys(w *waiting, parts *partitionSet) []byte {
	object := []byte{'{'}
	known := len(w.awaits) > 0
	for _, kind := range w.awaits {
		found := false
		for _, value := range w.identifiers[kind] {
			key, ok := m.cfg.Keys.Lookup(w.tool, kind, []byte(value))
			if !ok {
				continue
			}
			if len(object) > 1 {
				object = append(object, ',')
			}
			text, _ := json.Marshal(kind) // strings cannot fail
			object = append(append(object, text...), ':', '"')
			object = append(append(object, key...), '"') // a key stands in JSON as it is
			found = true
			break
		}
		if !found {
			known = false
			for _, value := range w.identifiers[kind] {
				parts.add(keymap.Partition(w.tool, kind, []byte(value)))
			}
		}
	}
	if !known {
		return nil
	}
	return append(object, '}')
}

// keep writes the records that stay of messages from which others move, and of
// many small messages, into new ones. Then the old ones wait no more.
func (m *Mover) keep(ctx context.Context, sources []*source, now time.Time) {
	var small []*source
	groups := [][]*source{}
	for _, src := range sources {
		switch {
		case src.err != nil || !src.wait:
		case src.hold.bytes < smallBytes:
			small = append(small, src)
		case len(src.leaves) > 0:
			groups = append(groups, []*source{src})
		}
	}
	m.mu.Lock()
	may := now.After(m.mergeAfter)
	m.mu.Unlock()
	if len(small) < mergeLeast || !may { // those from which nothing moves may wait as they are
		n := 0
		for _, src := range small {
			if len(src.leaves) > 0 {
				small[n] = src
				n++
			}
		}
		small = small[:n]
	}
	if len(small) > 0 {
		groups = append(groups, small)
	}
	for _, group := range groups {
		var lines [][]byte
		for _, src := range group {
			lines = append(lines, src.stays...)
		}
		err := m.rewrite(ctx, lines)
		for _, src := range group {
			if err == nil {
				src.wait = false
			} else if len(src.leaves) > 0 {
				src.hold.due = now.Add(fullPause)
			}
		}
		if err != nil {
			m.mu.Lock()
			m.mergeAfter = now.Add(fullPause)
			m.mu.Unlock()
			m.failed("what stays in quarantine cannot be written anew", err)
		}
	}
}

// rewrite stores records in new messages of quarantine.
func (m *Mover) rewrite(ctx context.Context, lines [][]byte) error {
	if len(lines) == 0 {
		return nil
	}
	text := bytes.Join(lines, nil)
	var body []byte
	fits := len(text) <= pipeline.MaxBatchBytes && len(lines) <= pipeline.MaxBatchRecords
	encoding := pipeline.EncodingNone
	if fits {
		body, encoding = m.pack(text)
		fits = len(body) <= m.p.MaxMessageBytes()
	}
	if !fits && len(lines) > 1 {
		half := len(lines) / 2
		return errors.Join(m.rewrite(ctx, lines[:half]), m.rewrite(ctx, lines[half:]))
	}
	sum := sha256.Sum256(text) // in which the origins are
	ctx, cancel := context.WithTimeout(ctx, moverTimeout)
	defer cancel()
	ack, err := m.p.Publish(ctx, &pipeline.Message{Topic: topicQuarantine, ID: "stays-" + hex.EncodeToString(sum[:16]),
		Encoding: encoding, Records: len(lines), Bytes: len(text), Body: body})
	if err == nil && !ack.Duplicate {
		m.merged.Add(uint64(len(lines)))
	}
	return err
}

// move stores a record where it goes.
func (m *Mover) move(ctx context.Context, l *leaving) error {
	body, encoding := m.pack(l.line)
	ctx, cancel := context.WithTimeout(ctx, moverTimeout)
	defer cancel()
	ack, err := m.p.Publish(ctx, &pipeline.Message{Topic: l.topic, ID: l.id, Encoding: encoding, Records: 1, Bytes: len(l.line), Body: body})
	switch {
	case err != nil:
		return err
	case ack.Duplicate:
	case l.topic == topicEnriched:
		m.enriched.Add(1)
	default:
		m.standard.Add(1)
	}
	return nil
}

// remove deletes a message of which every record is stored elsewhere. Where some
// could not be moved, while others were, these are written anew first: a later
// repetition of those others might not be recognised.
func (m *Mover) remove(ctx context.Context, s jetstream.Stream, src *source) error {
	var err error
	var left [][]byte
	for _, l := range src.leaves {
		if l.err != nil {
			err = l.err
			line := moved(l.record, topicQuarantine, l.origin, nil)
			if !m.fits(line) { // those others are recognised, or doubled with equal origin
				return err
			}
			left = append(left, line)
		}
	}
	if len(left) == len(src.leaves) && err != nil && len(src.stays) == 0 {
		return err
	}
	if again := m.rewrite(ctx, left); again != nil {
		return errors.Join(err, again)
	}
	ctx, cancel := context.WithTimeout(ctx, moverTimeout)
	defer cancel()
	if err := s.DeleteMsg(ctx, src.seq); err != nil {
		if _, gone := s.GetMsg(ctx, src.seq); errors.Is(gone, jetstream.ErrMsgNotFound) {
			return nil // another mover was faster
		}
		return fmt.Errorf("stream: delete message %d of quarantine: %w", src.seq, err)
	}
	return nil
}

// pack is Packer.Pack for several goroutines, and what it returns is the caller's, or
// text itself.
func (m *Mover) pack(text []byte) (body []byte, encoding string) {
	m.packing.Lock()
	defer m.packing.Unlock()
	body, encoding = m.packer.Pack(text)
	if encoding != pipeline.EncodingNone {
		body = bytes.Clone(body)
	}
	return body, encoding
}
