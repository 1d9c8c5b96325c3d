package edge

import (
	"bytes"
	"encoding/json"
	"strconv"

	"caliperedge/edge/tokenmap"
	"caliperedge/pipeline"
	"caliperedge/validate"

	"github.com/valyala/fasthttp"
)

// What a debug answer lists at most (contract, section 1.4).
const (
	maxFaultyListed   = 100
	maxAcceptedListed = 1000
)

// DebugAnswer is the body that answers a debug request: Accepted and Errors
// where its HTTP is valid, else the common error body with a Detail.
type DebugAnswer struct {
	Accepted  []AcceptedItem `json:"accepted_events"`
	Errors    Faults         `json:"errors"`
	Truncated bool           `json:"truncated,omitempty"`

	Message string  `json:"message,omitempty"`
	Detail  *Detail `json:"detail,omitempty"`
}

// AcceptedItem is a conformant item of data.
type AcceptedItem struct {
	// ID is the item's id as sent, or null.
	ID json.RawMessage `json:"id"`
	// Topics maps each topic that would take the item to the empty string.
	Topics map[string]string `json:"topics"`
	pipeline.Explanation
}

// Faults are the faults of an envelope and of its items.
type Faults struct {
	Envelope        []string     `json:"envelope"`
	Events          []FaultyItem `json:"events"`
	EnvelopeDetails []Detail     `json:"envelope_details,omitempty"`
}

// FaultyItem is a non-conformant item of data, at Index.
type FaultyItem struct {
	ID      json.RawMessage `json:"id"`
	Index   int             `json:"index"`
	Errors  []string        `json:"errors"`
	Details []Detail        `json:"details"`
}

// Detail tells a sensor's developer where to look: a stable code, a JSON
// pointer (RFC 6901) or an offset in bytes, what was found there, and where it
// helps what was expected.
type Detail struct {
	Code     string  `json:"code"`
	Pointer  *string `json:"pointer,omitempty"`
	Offset   *int    `json:"offset,omitempty"`
	Found    string  `json:"found,omitempty"`
	Expected string  `json:"expected,omitempty"`
}

func (d *Detail) String() string {
	s := d.Code
	switch {
	case d.Pointer != nil && *d.Pointer != "":
		s += " at " + *d.Pointer
	case d.Offset != nil:
		s += " at byte " + strconv.Itoa(*d.Offset)
	}
	if d.Found != "" {
		s += ": found " + d.Found
	}
	if d.Expected != "" {
		s += ", expected " + d.Expected
	}
	return s
}

// Judge returns the answer that a debug request of a tool with this body would
// get. It needs neither tokens nor a store.
func (e *Endpoint) Judge(tool string, body []byte) (status int, answer []byte) {
	var ctx fasthttp.RequestCtx
	h := &ctx.Request.Header
	h.SetMethod(fasthttp.MethodPost)
	h.SetContentType(contentTypeJSON)
	h.Set("X-Debug", "TRUE")
	ctx.Request.SetBodyStream(bytes.NewReader(body), len(body))
	e.receive(&ctx, &tokenmap.Principal{Tool: tool})
	return ctx.Response.StatusCode(), ctx.Response.Body()
}

// explain answers a debug request: its events are never stored. The status is
// the one that the request would have got.
func (e *Endpoint) explain(ctx *fasthttp.RequestCtx, env *validate.Envelope, tool string, receipt *pipeline.Receipt, r refused) {
	if refusals[r.refusal].status == fasthttp.StatusRequestEntityTooLarge {
		e.refuseBody(ctx, r, nil, true)
		return
	}
	status := fasthttp.StatusOK
	switch {
	case r.refusal != accepted:
		status = refusals[r.refusal].status
	case env.Conformant() < len(env.Items()):
		status = fasthttp.StatusAccepted
	}
	switch {
	case !e.cfg.Terse:
		body, err := json.Marshal(verbose(env, tool, receipt, e.pipeline))
		if err != nil {
			panic("edge: debug answer: " + err.Error()) // strings and raw members of valid JSON
		}
		ctx.SetBody(body)
	case r.refusal != accepted:
		writeRefusal(ctx, r, nil)
	default:
		ctx.SetBody(appendSuccess(nil, tally{len(env.Items()), env.Conformant()}, receipt, nil, e.pipeline.Topics(), true))
	}
	setStatus(ctx, status)
	ctx.SetContentType(contentTypeJSON)
}

// verbose describes env, which a tool sent. receipt is nil where the envelope
// fails.
func verbose(env *validate.Envelope, tool string, receipt *pipeline.Receipt, p *pipeline.Pipeline) *DebugAnswer {
	v := &DebugAnswer{
		Accepted: []AcceptedItem{},
		Errors:   Faults{Envelope: []string{}, Events: []FaultyItem{}},
	}
	v.Errors.Envelope, v.Errors.EnvelopeDetails = describe(env.EnvelopeViolations())
	for i := range env.Items() {
		it := &env.Items()[i]
		switch {
		case it.Faults != 0 && len(v.Errors.Events) < maxFaultyListed:
			f := FaultyItem{ID: idOf(it), Index: i}
			f.Errors, f.Details = describe(env.ItemViolations(i))
			v.Errors.Events = append(v.Errors.Events, f)
		case it.Faults == 0 && receipt != nil && len(v.Accepted) < maxAcceptedListed:
			a := AcceptedItem{ID: idOf(it), Topics: make(map[string]string), Explanation: p.Explain(env, tool, i)}
			for place := range receipt.Routes()[i].All {
				a.Topics[p.Topics()[place]] = "" // the message that holds it: none does
			}
			v.Accepted = append(v.Accepted, a)
		case it.Faults != 0 || receipt != nil:
			v.Truncated = true
		}
	}
	return v
}

func describe(violations []validate.Violation) (messages []string, details []Detail) {
	messages = []string{}
	for _, v := range violations {
		messages = append(messages, v.Message)
		details = append(details, Detail{Code: v.Code, Pointer: &v.Pointer, Found: v.Found, Expected: v.Expected})
	}
	return messages, details
}

// idOf is the item's id as sent, or nil, which becomes null.
func idOf(it *validate.Item) json.RawMessage {
	if it.ID == nil {
		return json.RawMessage("null")
	}
	return json.RawMessage(it.ID)
}

// refuseBody refuses a body with the common error body, which in debug tells
// which of the causes it was, and where.
func (e *Endpoint) refuseBody(ctx *fasthttp.RequestCtx, r refused, cause error, debug bool) {
	switch {
	case !debug:
		e.refuse(ctx, r)
		return
	case e.cfg.Terse:
		writeRefusal(ctx, r, nil)
		return
	}
	d := Detail{Code: refusals[r.refusal].reason}
	h := &ctx.Request.Header
	switch {
	case cause != nil:
		d.explainSyntax(cause)
	case r.refusal == wrongType:
		d.Found, d.Expected = string(h.ContentType()), contentTypeJSON
	case r.refusal == wrongEncoding, r.refusal == damagedBody:
		d.Found, d.Expected = string(h.Peek(fasthttp.HeaderContentEncoding)), "identity, gzip or zstd, one of them and intact"
	}
	text, err := json.Marshal(d)
	if err != nil {
		panic("edge: detail of a refusal: " + err.Error())
	}
	writeRefusal(ctx, r, text)
}
