package pipeline

import (
	"bytes"
	"time"

	"caliperedge/validate"
)

// timeBytes is the size of a time as records carry it: UTC with three fraction
// digits, 2006-01-02T15:04:05.000Z.
const timeBytes = 24

// recordHead is what all records of one envelope share.
type recordHead struct {
	tool                          string
	received                      [timeBytes]byte
	sensor, sendTime, dataVersion []byte // JSON string literals as sent
	lineBreaks, loneSurrogates    bool   // anywhere in the body
}

func newRecordHead(env *validate.Envelope, tool string, received time.Time) recordHead {
	h := recordHead{
		tool:           tool,
		sensor:         env.Sensor(),
		sendTime:       env.SendTime(),
		dataVersion:    env.DataVersion(),
		lineBreaks:     env.LineBreaks(),
		loneSurrogates: env.LoneSurrogates(),
	}
	putTime(&h.received, received)
	return h
}

// putTime writes t, of a year of four digits. It takes a quarter of
// the time of AppendFormat.
func putTime(out *[timeBytes]byte, t time.Time) {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	*out = [timeBytes]byte([]byte("0000-00-00T00:00:00.000Z"))
	put := func(end, n int) {
		for ; n > 0; n /= 10 {
			end--
			out[end] += byte(n % 10)
		}
	}
	put(4, year)
	put(7, int(month))
	put(10, day)
	put(13, hour)
	put(16, minute)
	put(19, second)
	put(23, t.Nanosecond()/1e6)
}

// The fixed text of a record, in its order (contract, Record). recordBytes and
// appendRecord walk through it in step.
const (
	textID          = `{"id":`
	textType        = `,"type":"`
	textAction      = `","action":"`
	textEventTime   = `","eventTime":"`
	textActor       = `,"actor":`
	textEdApp       = `,"edApp":`
	textTool        = `,"tool":"`
	textTopic       = `","topic":"`
	textReceived    = `","received":"`
	textSensor      = `","sensor":`
	textSendTime    = `,"sendTime":`
	textDataVersion = `,"dataVersion":`
	textRepaired    = `,"repaired":true`
	textEvent       = `,"event":`
	textEnd         = "}\n"
)

// recordBytes is the size of what appendRecord appends for topic, its line
// break included. more are further members, each with a comma before it.
func recordBytes(h *recordHead, it *validate.Item, more []byte, topic string) int {
	n := len(textID) + len(it.ID) + len(textType) + len(it.Type) + len(`"`)
	if !it.Entity {
		n += len(textAction) + len(it.Action) + len(textEventTime) + timeBytes
	}
	if it.Actor != nil {
		n += len(textActor) + len(it.Actor)
	}
	if it.EdApp != nil {
		n += len(textEdApp) + len(it.EdApp)
	}
	n += len(textTool) + len(h.tool) + len(textTopic) + len(topic) + len(textReceived) + timeBytes
	n += len(textSensor) + len(h.sensor) + len(textSendTime) + len(h.sendTime) + len(textDataVersion) + len(h.dataVersion)
	if h.repairs(it) {
		n += len(textRepaired)
	}
	return n + len(more) + len(textEvent) + len(it.Raw) + len(textEnd)
}

// appendRecord appends the record of it for topic as one line. This is the one
// copy that our code makes of an event.
func appendRecord(dst []byte, h *recordHead, it *validate.Item, more []byte, topic string) []byte {
	start := len(dst)
	dst = append(dst, textID...)
	dst = append(dst, it.ID...)
	dst = append(dst, textType...)
	dst = append(dst, it.Type...)
	if !it.Entity {
		dst = append(dst, textAction...)
		dst = append(dst, it.Action...)
		dst = append(dst, textEventTime...)
		dst = append(dst, it.Time[:]...)
	}
	dst = append(dst, '"')
	if it.Actor != nil {
		dst = append(dst, textActor...)
		dst = append(dst, it.Actor...)
	}
	if it.EdApp != nil {
		dst = append(dst, textEdApp...)
		dst = append(dst, it.EdApp...)
	}
	dst = append(dst, textTool...)
	dst = append(dst, h.tool...)
	dst = append(dst, textTopic...)
	dst = append(dst, topic...)
	dst = append(dst, textReceived...)
	dst = append(dst, h.received[:]...)
	dst = append(dst, textSensor...)
	dst = append(dst, h.sensor...)
	dst = append(dst, textSendTime...)
	dst = append(dst, h.sendTime...)
	dst = append(dst, textDataVersion...)
	dst = append(dst, h.dataVersion...)
	repair := h.repairs(it)
	if repair {
		dst = append(dst, textRepaired...)
	}
	dst = append(dst, more...)
	dst = append(dst, textEvent...)
	event := len(dst)
	dst = append(dst, it.Raw...)
	if h.lineBreaks {
		blankLineBreaks(dst[event:])
	}
	if repair {
		validate.RepairSurrogates(dst[start:])
	}
	return append(dst, textEnd...)
}

// repairs reports whether the record of it carries an escaped lone surrogate,
// which many readers refuse. Bodies without any are the rule and cost nothing.
func (h *recordHead) repairs(it *validate.Item) bool {
	if !h.loneSurrogates {
		return false
	}
	for _, s := range [][]byte{it.Raw, h.sensor} {
		if validate.RepairSurrogates(bytes.Clone(s)) {
			return true
		}
	}
	return false
}

// blankLineBreaks makes line breaks between tokens blanks, so that a record is
// one line. Inside JSON strings there are none: they would not be JSON.
func blankLineBreaks(b []byte) {
	for i, c := range b {
		if c == '\n' || c == '\r' {
			b[i] = ' '
		}
	}
}
