package corpus

import (
	"bytes"
	"slices"
	"strings"
)

// allRules is the code of an item that breaks every rule of an event.
const allRules = "all"

// spoil makes a conformant item faulty in one way and names the rule it then breaks.
func (g *Generator) spoil(item object) (spoiled any, code string) {
	switch {
	case g.chance(0.02): // rare with real sensors
		code = allRules
	case item.get("action") == nil: // an entity describe has two rules only
		code = oneOf(g, "id", "@context")
	default:
		code = oneOf(g, "id", "@context", "actor", "type/action", "eventTime")
	}
	item = slices.Clone(item)
	switch code {
	case "id":
		item.set("id", oneOf[any](g, nil, "", 176, object{}))
		item.set("correlation", token{})
	case "@context":
		item.set("@context", oneOf[any](g, nil, "http://purl.imsglobal.org/ctx/caliper/v1/Context", "caliper",
			object{{"@vocab", contextV1p1}}, list{"https://schema.example.org/context"}))
	case "actor":
		item.set("actor", oneOf[any](g, nil, "", 554433, list{"https://example.edu/users/554433"}))
	case "type/action":
		if g.chance(0.5) {
			item.set("type", oneOf[any](g, nil, "LessonEvent", "http://purl.imsglobal.org/caliper/v1/ViewEvent"))
		} else {
			item.set("action", oneOf[any](g, "navigatedTo", "Attended", 12))
		}
	case "eventTime":
		item.set("eventTime", oneOf[any](g, nil, "2026-09-14", "2026-09-14T07:30:00.000", "2026-02-30T07:30:00.000Z",
			"14/Sep/2026:07:30:00", 1789371000))
	default:
		return token{}, code
	}
	return item, code
}

func oneOf[T any](g *Generator, choices ...T) T { return choices[g.below(len(choices))] }

// Broken makes a body that must be refused as a whole: broken JSON (415), an unknown or missing dataVersion (422), an
// envelope with another faulty member and what is no envelope at all (400). It has items, all of them Faulty, of which
// nothing may be stored.
func (g *Generator) Broken() Envelope {
	t := g.tool()
	data := make(list, 1+g.below(4))
	e := Envelope{Items: len(data), Status: 400, codes: make([]string, len(data))}
	for i := range data {
		data[i] = g.item(&t)
		e.Faulty = append(e.Faulty, true)
	}
	body := t.envelope(g, data)
	switch g.below(8) {
	case 0, 1, 2:
		e.Status = 415
		g.write(&e, body, t.notation)
		e.Body = g.unreadable(e.Body, e.IDs[len(e.IDs)-1]+IDBytes)
		return e
	case 3:
		e.Status = 422
		body = body.without("dataVersion")
	case 4:
		e.Status = 422
		body.set("dataVersion", oneOf[any](g, nil, "http://purl.imsglobal.org/ctx/caliper/v1p0", "v1p1", number("1.1")))
	case 5:
		body = body.without(oneOf(g, "sensor", "sendTime"))
	case 6:
		body.set("sendTime", oneOf[any](g, "2026-09-14 07:30:00", "2026-09-14T07:30:00", "", 1789371000))
	case 7:
		g.write(&e, any(oneOf[any](g, data, any(data[0]))), t.notation) // an array, a bare event
		e.Items = len(e.IDs)
		e.Faulty, e.codes = e.Faulty[:e.Items], e.codes[:e.Items]
		return e
	}
	g.write(&e, body, t.notation)
	return e
}

// unreadable makes valid JSON text invalid, leaving the first keep bytes as they are.
func (g *Generator) unreadable(body []byte, keep int) []byte {
	switch g.below(6) {
	case 0: // cut off on the way
		return body[:keep+1+g.below(len(body)-keep-1)]
	case 1: // a comma too many
		return append(bytes.TrimRight(body, "}]\n "), ",]}"...)
	case 2: // a template that nobody filled in
		return append(bytes.TrimRight(body, "}\n "), `,"extra":NaN}`...)
	case 3: // Latin-1
		return append(bytes.TrimRight(body, "}\n "), ",\"author\":\"Andr\xe9\"}"...)
	case 4: // two bodies
		return append(body, "{}"...)
	default: // deeper than anybody reads
		body = append(bytes.TrimRight(body, "}\n "), `,"extra":`...)
		return append(append(body, strings.Repeat("[", 80)...), strings.Repeat("]", 80)+"}"...)
	}
}
