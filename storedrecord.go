package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"caliperedge/pipeline/stream"
)

// storedRecord is what a replay needs of a record.
type storedRecord struct {
	Tool        string          `json:"tool"`
	Received    time.Time       `json:"received"`
	Sensor      json.RawMessage `json:"sensor"`
	SendTime    json.RawMessage `json:"sendTime"`
	DataVersion json.RawMessage `json:"dataVersion"`
	Event       json.RawMessage `json:"event"`
	Raw         []byte          `json:"raw"`
	Whole       bool            `json:"whole"`
	Truncated   bool            `json:"truncated"`
	Repaired    bool            `json:"repaired"`
	Conflict    bool            `json:"conflict"`
	Cut         []string        `json:"cut"`
	Extra       []string        `json:"extra"`
	Reasons     []struct {
		Code string `json:"code"`
	} `json:"reasons"`
}

// body is what the sensor would have sent of the record alone, behind the item
// before; why says why that is not known.
func (r *storedRecord) body(before []byte) (body []byte, why string) {
	switch {
	case r.Truncated:
		return nil, "truncated"
	case r.Event == nil:
		return r.Raw, ""
	case r.Whole:
		return r.Event, ""
	}
	body = append(body, '{')
	for _, m := range []struct {
		name  string
		value json.RawMessage
	}{{"sensor", r.Sensor}, {"sendTime", r.SendTime}, {"dataVersion", r.DataVersion}} {
		if m.value != nil {
			body = fmt.Appendf(body, "%q:%s,", m.name, m.value)
		}
	}
	body = append(body, `"data":[`...)
	if before != nil {
		body = append(append(body, before...), ',')
	}
	return fmt.Appendf(body, "%s]}", r.Event), ""
}

// contextCode is the code of an event without a context, and the mark of one
// with a context that its tool is granted.
const contextCode = "@context"

// before is an item that has nothing but the context that was in force where the
// event stood: the event may have none of its own. Nil where it had none, or
// must have its own.
func (r *storedRecord) before(c *config) []byte {
	context := "http://purl.imsglobal.org/ctx/caliper/v1p1"
	for _, reason := range r.Reasons {
		if reason.Code == contextCode {
			return nil
		}
	}
	if slices.Contains(r.Extra, contextCode) {
		granted := c.Tools[r.Tool].Vocabulary
		if granted == nil || len(granted.Contexts()) == 0 {
			return nil
		}
		context = granted.Contexts()[0]
	}
	if !bool(c.InheritContext) || r.Whole || r.Event == nil {
		return nil
	}
	item, _ := json.Marshal(map[string]string{contextCode: context}) // strings: it cannot fail
	return item
}

// marks are the members that go with the record into another topic, each with a
// comma before it.
func (r *storedRecord) marks(origin stream.Address) []byte {
	more := fmt.Appendf(nil, `,"origin":%q`, origin)
	if r.Repaired {
		more = append(more, `,"repaired":true`...)
	}
	if len(r.Cut) > 0 && !r.Whole {
		more = append(more, `,"cut":["sensor"]`...)
	}
	return more
}
