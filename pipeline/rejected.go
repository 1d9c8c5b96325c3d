package pipeline

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"caliperedge/validate"
)

// TopicRejected takes what was refused of an authenticated tool. It is an aside:
// whatever becomes of it changes nothing for accepted events.
const TopicRejected = "rejected"

const (
	// rejectedWait is the longest that an answer waits for what was refused.
	rejectedWait = time.Second
	// rejectedPause is for how long nothing is tried after the topic did not
	// acknowledge: else every answer would wait for rejectedWait.
	rejectedPause = 2 * time.Second
	// thawPause is how often the store is opened anew at most because the topic
	// alone is frozen: accepted events are refused for that long.
	thawPause = 15 * time.Second
	// rejectedShare is which part of the budget may be in flight to the topic,
	// so that refused bodies leave the room to accepted ones.
	rejectedShare = 8
	// maxLiftedBytes is the size up to which a member of envelope or item is
	// lifted into the record of what was refused. A longer sensor is cut: no other
	// member of an envelope can be as long and conform.
	maxLiftedBytes = 8 << 10
)

// aside is what a topic has whose failures are nobody's but its own.
type aside struct {
	budget *Budget
	rests  atomic.Int64 // until this time, in nanoseconds of Unix, nothing is tried
	thawed atomic.Int64 // when the store was last opened anew for it, likewise
}

// mayThaw reports whether the store may be opened anew now, and notes it.
func (a *aside) mayThaw() bool {
	now, last := time.Now().UnixNano(), a.thawed.Load()
	return now-last >= int64(thawPause) && a.thawed.CompareAndSwap(last, now)
}

func (a *aside) resting() bool { return time.Now().UnixNano() < a.rests.Load() }

// Rejection gathers what was refused of one request, as records for
// TopicRejected: Item or Body for each, then Submit, Wait and Release. It never
// fails: what cannot be kept is counted. A nil Rejection keeps nothing.
//
// It belongs to the goroutine that made it.
type Rejection struct {
	topic    *topic
	receipt  *Receipt
	room     *Share
	head     recordHead
	buf      []byte
	records  int
	lost     int   // for which there was no room
	reserved int64 // for buf
}

// NewRejection returns a Rejection for the tool of that name and a request
// received at that time. It is nil where the pipeline has no TopicRejected.
func (p *Pipeline) NewRejection(tool string, received time.Time) *Rejection {
	if p.rejected == nil {
		return nil
	}
	r := &Rejection{topic: p.rejected, room: p.budget.Share(tool), head: recordHead{tool: tool}}
	putTime(&r.head.received, received)
	return r
}

// Item adds item i of env. reasons is a JSON array that says what is wrong.
// Nothing of env is kept.
func (r *Rejection) Item(env *validate.Envelope, i int, reasons []byte) {
	if r != nil {
		it := &env.Items()[i]
		r.add(env, it, it.Raw, reasons)
	}
}

// Body adds a body as a whole: env is nil where it is no JSON.
func (r *Rejection) Body(body []byte, env *validate.Envelope, reasons []byte) {
	if r != nil {
		r.add(env, nil, body, reasons)
	}
}

// add appends a record where there is room for it.
func (r *Rejection) add(env *validate.Envelope, it *validate.Item, event, reasons []byte) {
	// A record takes its event once and little more; one that is cut is smaller.
	if n := int64(min(len(event), MaxRecordBytes)); r.lost > 0 || r.topic.aside.resting() || !r.reserve(n) {
		r.lost++
		return
	}
	before := len(r.buf)
	r.appendRecord(env, it, event, reasons)
	if over := int64(len(r.buf)) - r.reserved; over > 0 && !r.reserve(over) {
		r.buf = r.buf[:before]
		r.lost++
		return
	}
	r.records++
}

func (r *Rejection) reserve(n int64) bool {
	if !r.topic.aside.budget.Reserve(n) {
		return false
	}
	if !r.room.Records(n, 0) { // does not wait
		r.topic.aside.budget.Release(n)
		return false
	}
	r.reserved += n
	return true
}

// appendRecord appends the record of an item, or of a body where it is nil: the
// event as it is where it is JSON and fits, else in base64.
func (r *Rejection) appendRecord(env *validate.Envelope, it *validate.Item, event, reasons []byte) {
	start := len(r.buf)
	r.buf = append(r.buf, '{')
	if it != nil {
		r.member("id", it.ID)
		r.word("type", it.Type)
		r.word("action", it.Action)
		if it.Time[0] != 0 {
			r.word("eventTime", string(it.Time[:]))
		}
		r.member("actor", it.Actor)
		r.member("edApp", it.EdApp)
	}
	r.word("tool", r.head.tool)
	r.word("topic", TopicRejected)
	r.word("received", string(r.head.received[:]))
	if env != nil {
		r.sensor(env.Sensor())
		r.member("sendTime", env.SendTime())
		r.member("dataVersion", env.DataVersion())
	}
	if it == nil {
		r.buf = append(r.buf, `,"whole":true`...)
	}
	beforeReasons := len(r.buf)
	r.buf = append(r.buf, `,"reasons":`...)
	r.buf = append(r.buf, reasons...)
	if env == nil || len(r.buf)-start+len(event) > MaxRecordBytes-cutBytes {
		r.appendRaw(start, event)
	} else {
		r.buf = append(r.buf, textEvent...)
		at := len(r.buf)
		r.buf = append(r.buf, bytes.TrimSpace(event)...)
		blankLineBreaks(r.buf[at:])
	}
	if env != nil && env.LoneSurrogates() && validate.RepairSurrogates(r.buf[start:]) {
		r.buf = slices.Insert(r.buf, beforeReasons, []byte(textRepaired)...)
	}
	r.buf = append(r.buf, textEnd...)
}

// cutBytes is more than the members take that go with a raw that was cut.
const cutBytes = 128

// appendRaw appends bytes that are no JSON, or too many, in base64: as many of
// them as a record has room for.
func (r *Rejection) appendRaw(start int, raw []byte) {
	kept := raw
	if room := (MaxRecordBytes - cutBytes - (len(r.buf) - start)) / 4 * 3; len(raw) > room {
		kept = raw[:room]
		r.buf = append(r.buf, `,"truncated":true,"size":`...)
		r.buf = strconv.AppendInt(r.buf, int64(len(raw)), 10)
	}
	r.buf = append(r.buf, `,"raw":"`...)
	r.buf = base64.StdEncoding.AppendEncode(r.buf, kept)
	r.buf = append(r.buf, '"')
}

// member appends a member with a value in JSON; none where there is no value, or
// one that is too long to be lifted.
func (r *Rejection) member(name string, value []byte) {
	if len(value) > 0 && len(value) <= maxLiftedBytes {
		r.name(name)
		r.buf = append(r.buf, value...)
	}
}

// sensor appends the sensor, or what there is room for of it, and then says so:
// without any the item could never be replayed.
func (r *Rejection) sensor(literal []byte) {
	if len(literal) <= maxLiftedBytes {
		r.member("sensor", literal)
		return
	}
	r.name("sensor")
	r.buf = append(r.buf, beginning(literal, maxLiftedBytes-1)...)
	r.buf = append(r.buf, `","cut":["sensor"]`...)
}

// beginning is what fits into n bytes of a JSON string literal, without a quote
// at its end and with whole characters only.
func beginning(literal []byte, n int) []byte {
	end := 1
	for next := 1; next <= n && next < len(literal); {
		end = next
		switch {
		case literal[next] != '\\':
			_, size := utf8.DecodeRune(literal[next:])
			next += size
		case literal[next+1] != 'u':
			next += len(`\n`)
		case (literal[next+2]|0x20) == 'd' && strings.IndexByte("89abAB", literal[next+3]) >= 0 &&
			bytes.HasPrefix(literal[next+len(`\ud83d`):], []byte(`\u`)): // these two may be one character
			next += len(`\ud83d\ude00`)
		default:
			next += len(`\u00e9`)
		}
	}
	return literal[:end]
}

// word appends a member with a value that needs no escapes.
func (r *Rejection) word(name, value string) {
	if value == "" {
		return
	}
	r.name(name)
	r.buf = append(r.buf, '"')
	r.buf = append(r.buf, value...)
	r.buf = append(r.buf, '"')
}

func (r *Rejection) name(name string) {
	if r.buf[len(r.buf)-1] != '{' {
		r.buf = append(r.buf, ',')
	}
	r.buf = append(r.buf, '"')
	r.buf = append(r.buf, name...)
	r.buf = append(r.buf, `":`...)
}

// Submit hands the records in. The wait for them ends by deadline, and after a
// second where that is earlier. It blocks no longer than copying takes.
func (r *Rejection) Submit(deadline time.Time) {
	if r == nil {
		return
	}
	p := r.topic.p
	p.drain.RLock()
	defer p.drain.RUnlock()
	defer r.drop() // what is submitted was copied
	if soon := time.Now().Add(rejectedWait); soon.Before(deadline) {
		deadline = soon
	}
	copied := int64(len(r.buf))
	if r.records == 0 || p.readyLocked() != nil || time.Until(deadline) < answerMargin+minAttempt || !r.reserve(copied) {
		r.lost += r.records
		r.records = 0
		return
	}
	r.reserved -= copied // settle gives them back
	c := p.receipts.Get().(*Receipt)
	c.room = r.room
	c.begin(deadline)
	r.receipt = c
	r.topic.submitLines(c, r.buf)
	c.finish()
}

// Wait blocks until the records are settled, or their time is up. It returns
// where they are, which is valid until Release, and how many are not known to be
// kept.
func (r *Rejection) Wait() (parts []Part, kept, lost int) {
	switch {
	case r == nil:
		return nil, 0, 0
	case r.receipt == nil:
		return nil, 0, r.lost
	case r.receipt.Wait() != nil:
		return nil, 0, r.lost + r.records
	}
	return r.receipt.Parts(), r.records, r.lost
}

// Release gives r back. Nothing of it may be used afterwards.
func (r *Rejection) Release() {
	if r == nil {
		return
	}
	r.drop()
	if r.receipt != nil {
		r.receipt.Release()
		r.receipt = nil
	}
}

// drop forgets the records that were gathered.
func (r *Rejection) drop() {
	r.room.Release(r.reserved)
	r.topic.aside.budget.Release(r.reserved)
	r.reserved, r.buf = 0, nil
}

// submitLines adds lines to the open batch as submit does the records of an
// envelope: in one message as far as they fit.
func (t *topic) submitLines(r *Receipt, lines []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.roomIn(t.open, len(lines), bytes.Count(lines, []byte{'\n'})) {
		t.sealLocked(&t.open, r, 0)
	}
	records := 0
	for line := range bytes.Lines(lines) {
		if !t.roomIn(t.open, len(line), records+1) {
			t.sealLocked(&t.open, r, records)
			records = 0
		}
		if t.open == nil {
			t.open = t.p.newBatch()
		}
		t.open.buf = append(t.open.buf, line...)
		records++
	}
	t.joinLocked(t.open, r, records)
	t.resumeLocked()
}
