package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"caliperedge/pipeline"
	"caliperedge/validate"
)

// newRejection is nil where nothing is kept of what the tool sends and we
// refuse.
func (e *Endpoint) newRejection(tool string, received time.Time) *pipeline.Rejection {
	if e.cfg.KeepRejected == nil || !e.cfg.KeepRejected(tool) {
		return nil
	}
	return e.pipeline.NewRejection(tool, received)
}

// keepBody has a body kept that is no JSON. cause is Parse's error.
func (e *Endpoint) keepBody(body []byte, tool string, received time.Time, cause error) *pipeline.Rejection {
	r := e.newRejection(tool, received)
	if r == nil {
		return nil
	}
	defer r.Submit(e.deadline(received))
	d := Detail{Code: refusals[malformedJSON].reason}
	d.explainSyntax(cause)
	r.Body(body, nil, reasonsOf(d))
	return r
}

// keepItems has kept what of an envelope is refused: the items at fault, all
// items where the envelope is, and the body where there are none to be seen.
func (e *Endpoint) keepItems(env *validate.Envelope, body []byte, tool string, received time.Time) *pipeline.Rejection {
	r := e.newRejection(tool, received)
	if r == nil {
		return nil
	}
	defer r.Submit(e.deadline(received)) // also what was gathered before a panic
	_, all := describe(env.EnvelopeViolations())
	if env.Err() == validate.ErrTooManyItems {
		data := "/data"
		all = append(all, Detail{Code: refusals[tooManyItems].reason, Pointer: &data, Found: "array",
			Expected: fmt.Sprintf("at most %d items", e.cfg.Validate.MaxItems)})
	}
	items := env.Items()
	if len(items) == 0 || env.Err() == validate.ErrNotEnvelope {
		r.Body(body, env, reasonsOf(all...))
		return r
	}
	all = slices.Clip(all)
	for i := range items {
		if items[i].Faults != 0 || len(all) > 0 {
			_, own := describe(env.ItemViolations(i))
			r.Item(env, i, reasonsOf(append(all, own...)...))
		}
	}
	return r
}

// deadline is when the answer to a request received at that time is to begin.
func (e *Endpoint) deadline(received time.Time) time.Time {
	return received.Add(e.cfg.RequestTimeout - answerTime)
}

func reasonsOf(details ...Detail) []byte {
	text, err := json.Marshal(details)
	if err != nil {
		panic("edge: reasons of a refusal: " + err.Error()) // strings and numbers
	}
	return text
}

// explainSyntax says where a body is no JSON.
func (d *Detail) explainSyntax(cause error) {
	var syntax *validate.SyntaxError
	if errors.As(cause, &syntax) {
		d.Code, d.Offset, d.Found, d.Expected = syntax.Code, &syntax.Offset, syntax.Found, syntax.Expected
	}
}

// keep waits until what was refused is stored, or its time is up, counts it and
// returns where it is.
func (t *toolMetrics) keep(r *pipeline.Rejection) []pipeline.Part {
	if r == nil {
		return nil
	}
	defer r.Release()
	parts, kept, lost := r.Wait()
	t.kept.Add(kept)
	t.notKept.Add(lost)
	return slices.Clone(parts)
}
