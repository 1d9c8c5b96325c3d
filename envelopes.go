package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"caliperedge/validate"
)

// part is an envelope of a file, which begins in that line.
type part struct {
	line int
	text []byte
	own  bool // the file has it; else it was put around events
}

// envelopesIn returns the envelopes of a file; events without one are given some,
// of that sensor or of their record's. Lines with nothing but white space are passed over.
func (c *config) envelopesIn(text []byte, sensor string) (all []part) {
	if json.Valid(text) || len(bytes.TrimSpace(text)) == 0 {
		return c.envelopesOf(text, 1, sensor)
	}
	line := 0
	for t := range bytes.SplitSeq(text, []byte{'\n'}) {
		if line++; len(bytes.TrimSpace(t)) > 0 {
			all = append(all, c.envelopesOf(t, line, sensor)...)
		}
	}
	return all
}

// envelopesOf is text as it is where it is an envelope, and with envelopes around
// where it is events.
func (c *config) envelopesOf(text []byte, line int, sensor string) (all []part) {
	t := bytes.TrimSpace(text)
	var list []json.RawMessage
	var members map[string]json.RawMessage
	switch {
	case bytes.HasPrefix(t, []byte{'['}) && json.Unmarshal(t, &list) == nil:
	case json.Unmarshal(t, &members) == nil && members["event"] != nil && members["received"] != nil: // a record
		if own := members["sensor"]; own != nil {
			_ = json.Unmarshal(own, &sensor) // else it is that of the others
		}
		return c.envelopesOf(members["event"], line, sensor)
	case members["data"] == nil && members["type"] != nil:
		list = []json.RawMessage{t}
	default:
		return []part{{line, text, true}}
	}
	for data := range c.batches(list) {
		all = append(all, part{line, envelopeAround(sensor, data), false})
	}
	return all
}

// batches goes through a list of events as lists that one envelope may hold: a
// long one is no fault of the file.
func (c *config) batches(list []json.RawMessage) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		data, items := []byte{'['}, 0
		for _, event := range list {
			if items == validate.DefaultMaxItems || items > 0 && len(data)+len(event) > int(c.MaxBodyBytes)/4 {
				if !yield(append(data, ']')) {
					return
				}
				data, items = []byte{'['}, 0
			}
			if items++; items > 1 {
				data = append(data, ',')
			}
			data = append(data, event...)
		}
		yield(append(data, ']'))
	}
}

// envelopeAround is an envelope of that sensor with data, a list.
func envelopeAround(sensor string, data []byte) []byte {
	quoted, _ := json.Marshal(sensor) // a string: it cannot fail
	return fmt.Appendf(nil, `{"sensor":%s,"sendTime":%q,"dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1","data":%s}`,
		quoted, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), data)
}
