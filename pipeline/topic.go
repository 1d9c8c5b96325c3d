package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// topic gathers records for one stream. Whatever gathered while its last
// publish was under way leaves as the next batch (natural group commit): the
// slower the store, the larger the batches, and no timer in between.
type topic struct {
	p      *Pipeline
	name   string
	place  int
	joined bool   // takes part in the round; guarded by its lock
	aside  *aside // where nothing else may suffer from this topic, else nil

	stored atomic.Int64 // bytes of records, unpacked, that were acknowledged
	seen   int64        // of stored, by the watch

	mu       sync.Mutex
	open     *batch   // gathers; nil or with at least one record
	full     []*batch // sealed because they were full, oldest first
	light    *batch   // gathers instead of open what need not wait for the full ones
	express  *batch   // the light one being published: one at a time, beside the others
	leaving  []*batch // being published
	inFlight int      // workers at this topic
}

// submit adds the records of r for this topic to the open batch, which is
// sealed first where they do not fit, and sees to it that a worker comes.
func (t *topic) submit(r *Receipt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gatherLocked(r)
	t.resumeLocked()
}

// resumeLocked sends workers where there is work.
func (t *topic) resumeLocked() {
	for t.workLocked(t.inFlight) {
		t.inFlight++
		t.p.start(t)
	}
}

// workLocked reports whether there is work for a worker beside busy others, who
// then must come: t may have joined the round for it.
// While little has gathered there is none: with a single publish under way
// batches are larger and syncs fewer. Much of it costs more to pack than to
// sync, and packing can be done on several processors. A light batch has a worker
// beside all of those.
func (t *topic) workLocked(busy int) bool {
	most := t.p.cfg.PublishesPerTopic
	if t.express != nil || t.light != nil {
		most++
	}
	switch {
	case busy >= most:
		return false
	case len(t.full) > 0 || t.light != nil && t.express == nil:
		return true
	case t.open == nil:
		return false
	}
	return len(t.open.buf) >= muchBytes || busy == 0 && (t.aside != nil || t.p.round.join(t))
}

// muchBytes is how much must have gathered for another publish beside those
// under way.
const muchBytes = 512 << 10

// gatherLocked adds the records of r to the batch where they gather. While
// something is under way of a tool that holds much, what others send who hold little
// has a batch of its own, so that it need not wait for all of that.
func (t *topic) gatherLocked(r *Receipt) {
	into := &t.open
	if t.inFlight > 0 && r.room.light() && t.heavyLocked(r.room) {
		into = &t.light
	}
	share := r.share[t.place]
	if !t.roomIn(*into, share.bytes, share.records) {
		t.sealLocked(into, r, 0)
	}
	// An envelope that is larger than a batch is the only one to be cut.
	whole := t.roomIn(*into, share.bytes, share.records)
	records := 0
	items := r.env.Items()
	for i, set := range r.todo {
		if set&(1<<t.place) == 0 {
			continue
		}
		if !whole && !t.roomIn(*into, recordBytes(&r.head, &items[i], r.notes.of(i), t.name), records+1) {
			t.sealLocked(into, r, records)
			records = 0
		}
		if *into == nil {
			*into = t.p.newBatch()
		}
		if records == 0 {
			room := min(share.bytes, t.p.cfg.MaxBatchBytes)
			if into == &t.open && len(t.full) > 0 {
				room = t.p.cfg.MaxBatchBytes - len((*into).buf) // this one will be full as well
			}
			(*into).grow(room)
		}
		(*into).buf = appendRecord((*into).buf, &r.head, &items[i], r.notes.of(i), t.name)
		records++
	}
	t.joinLocked(*into, r, records)
}

// heavyLocked tells whether anything is under way of a tool that holds much, and
// is not the one that asks.
func (t *topic) heavyLocked(asks *Share) bool {
	others := func(b *batch) bool { return b.heavy != nil && b.heavy != asks }
	return t.open != nil && others(t.open) || slices.ContainsFunc(t.full, others) || slices.ContainsFunc(t.leaving, others)
}

// roomIn reports whether a batch takes so much more. An empty one takes any
// single record.
func (t *topic) roomIn(b *batch, bytes, records int) bool {
	have, joined := 0, 0
	if b != nil {
		have, joined = len(b.buf), b.records
	}
	return have+bytes <= t.p.cfg.MaxBatchBytes && joined+records <= t.p.cfg.MaxBatchRecords
}

// joinLocked makes the records appended last to a batch an entry of r.
func (t *topic) joinLocked(b *batch, r *Receipt, records int) {
	if records > 0 {
		share := &r.share[t.place]
		r.expect(1)
		b.join(r, share.joined, records)
		if !r.room.light() {
			b.heavy = r.room
		}
		share.joined += records
	}
}

// sealLocked closes a batch that gathers, the last records of it being r's; it
// leaves when a publish slot is free.
func (t *topic) sealLocked(b **batch, r *Receipt, records int) {
	t.joinLocked(*b, r, records)
	if *b != nil {
		t.full = append(t.full, *b)
		*b = nil
	}
}

// next returns the batch to publish now: the light one, else the oldest full one,
// else the open one. Where there is nothing to do it returns nil, and the
// calling worker is done with this topic.
func (t *topic) next() *batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.workLocked(t.inFlight - 1) {
		t.inFlight--
		return nil
	}
	var b *batch
	switch {
	case t.light != nil && t.express == nil:
		b, t.light = t.light, nil
		t.express = b
	case len(t.full) > 0:
		b, t.full = t.full[0], t.full[1:]
	default:
		b, t.open = t.open, nil
	}
	t.leaving = append(t.leaving, b)
	return b
}

// left forgets a batch that was published. reuse tells whether it is in order.
func (t *topic) left(b *batch, reuse bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaving = slices.DeleteFunc(t.leaving, func(other *batch) bool { return other == b })
	if t.express == b {
		t.express = nil
	}
	if reuse {
		t.p.freeBatch(b)
	}
}

// expire ends the waits that were to end before now.
func (t *topic) expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for b := range t.batchesLocked {
		b.expire(now)
	}
}

// batchesLocked goes through all batches that are not settled.
func (t *topic) batchesLocked(yield func(*batch) bool) {
	for _, b := range []*batch{t.open, t.light} {
		if b != nil && !yield(b) {
			return
		}
	}
	for _, batches := range [][]*batch{t.full, t.leaving} {
		for _, b := range batches {
			if !yield(b) {
				return
			}
		}
	}
}

// run is what a worker does: it publishes batches of t until there are none.
func (t *topic) run() {
	defer t.p.workers.Done()
	for b := t.next(); b != nil; b = t.next() {
		t.left(b, t.publish(b))
		if t.p.round.leave(t) {
			t.p.gather(t)
		}
	}
}

// publish stores b and settles every entry of it exactly once, whatever
// happens. A batch too large for one message, once packed, is halved. finished
// is false where a panic was in the way.
func (t *topic) publish(b *batch) (finished bool) {
	packer := t.p.packers.get()
	todo := []piece{b.whole()}
	defer func() {
		cause := recover()
		if finished {
			t.p.packers.put(packer)
			return
		}
		// packer and b may be in any state: they are left to the garbage collector.
		t.p.metrics.panics.Inc()
		err := fmt.Errorf("%w: a worker panicked: %s", ErrUnacknowledged, PanicText(cause))
		t.failed(err)
		for i := range todo {
			t.settle(&todo[i], Part{place: t.place}, err)
		}
	}()
	t.p.metrics.sealed(b)
	for len(todo) > 0 {
		last := len(todo) - 1
		body, encoding := packer.Pack(todo[last].records)
		if len(body) > t.p.cfg.MaxMessageBytes && todo[last].count > 1 {
			first, second := todo[last].halve()
			todo = append(todo[:last], second, first)
			continue
		}
		ack, err := t.store(&todo[last], body, encoding, b.deadline.Add(-answerMargin))
		part := Part{Topic: t.name, Sequence: ack.Sequence, Level: ack.Level, place: t.place}
		t.settle(&todo[last], part, err)
		todo = todo[:last]
	}
	return true
}

// settle tells every entry of p what became of it, and gives back the bytes of
// its records.
func (t *topic) settle(p *piece, part Part, err error) {
	for len(p.entries) > 0 {
		e := &p.entries[0]
		n := int64(e.end - p.start)
		p.entries, p.start = p.entries[1:], e.end // before anything that could panic: nothing is given back twice
		e.receipt.room.Release(n)
		if t.aside != nil {
			t.aside.budget.Release(n)
		}
		e.receipt.settle(e, part, err)
	}
}

// store publishes one message, again and again under the same ID until the
// outcome is known or the time is up.
func (t *topic) store(p *piece, body []byte, encoding string, deadline time.Time) (Ack, error) {
	if t.p.failing.Load() {
		return Ack{}, ErrUnavailable // certainly not stored: nothing was sent
	}
	start, opened := time.Now(), t.p.opened.Load()
	if limit := start.Add(t.p.cfg.PublishTimeout); limit.Before(deadline) {
		deadline = limit
	}
	if !start.Before(deadline) {
		t.p.metrics.expired.Inc()
		return Ack{}, ErrUnavailable
	}
	m := Message{Topic: t.name, ID: t.p.nextID(), Encoding: encoding, Records: p.count, Bytes: len(p.records), Body: body}
	for attempts := 1; ; attempts++ {
		ack, err := t.attempt(&m, deadline)
		if err == nil && ack.Duplicate && t.p.opened.Load() != opened {
			// The store was opened anew since the first attempt, and knows its
			// message from a file that may never have been synced.
			err = fmt.Errorf("%w: recognised only after the store was reopened", ErrUnacknowledged)
			t.p.metrics.failures.Inc()
			return Ack{}, err
		}
		if err == nil {
			t.p.metrics.published(start, &m)
			t.stored.Add(int64(m.Bytes))
			return ack, nil
		}
		t.p.metrics.failures.Inc()
		if errors.Is(err, ErrStoreFull) || errors.Is(err, ErrRefused) {
			t.p.log.Error("a batch was not stored", "topic", t.name, "records", m.Records, "error", err)
			if attempts > 1 { // an attempt before this one may have stored it
				err = fmt.Errorf("%w: %v", ErrUnacknowledged, err)
			}
			return Ack{}, err
		}
		frozen := errors.Is(err, ErrFrozen) // to go on trying is of no use
		if frozen || time.Until(deadline) < minAttempt {
			err = fmt.Errorf("%w: %w", ErrUnacknowledged, err)
			// A store that had less than one attempt's time is slow at most.
			if frozen || t.aside != nil || time.Since(start) >= t.p.cfg.AttemptTimeout {
				t.failed(err)
			}
			return Ack{}, err
		}
		t.p.metrics.repeats.Inc()
		time.Sleep(attemptPause)
	}
}

// failed draws the conclusion from a batch that was not acknowledged.
func (t *topic) failed(cause error) {
	if t.aside == nil {
		t.p.trip(t.name, cause)
		return
	}
	t.p.log.Warn("a batch was not acknowledged; nothing is kept there for a moment", "topic", t.name, "error", cause)
	t.aside.rests.Store(time.Now().Add(rejectedPause).UnixNano())
	if errors.Is(cause, ErrFrozen) && t.aside.mayThaw() {
		t.p.trip(t.name, cause) // else it stays frozen while the others go on
	}
}

// attempt publishes m once.
func (t *topic) attempt(m *Message, deadline time.Time) (Ack, error) {
	if limit := time.Now().Add(t.p.cfg.AttemptTimeout); limit.Before(deadline) {
		deadline = limit
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	t.p.publishing.Add(1)
	defer t.p.publishing.Add(-1)
	return t.p.publisher.Publish(ctx, m)
}

const (
	// answerMargin is kept free between the end of the last attempt and the
	// deadline of the request, so that its answer is in time.
	answerMargin = 200 * time.Millisecond
	// minAttempt is the least time an attempt is worth beginning with.
	minAttempt = 50 * time.Millisecond
	// attemptPause keeps an attempt that fails at once from spinning.
	attemptPause = 20 * time.Millisecond
)
