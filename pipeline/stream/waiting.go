package stream

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// waiting is what decides about a record of the topic quarantine.
type waiting struct {
	tool     string
	received time.Time
	// identifiers are the values of each kind, and awaits the kinds that a key
	// is demanded of.
	identifiers map[string][]string
	awaits      []string
	// origin is where the record was stored first; locate fills it in where that
	// is here.
	origin string
	// messageID is the Nats-Msg-Id under which it moves, once it was located.
	messageID string

	id, event []byte
}

// locate completes w, a record at that address. What moves, moves under its
// origin. That of a replayed record is elsewhere, and other records may share
// it: those of one refused body.
func (w *waiting) locate(at Address) {
	if w.origin == "" {
		w.origin = at.String()
	}
	w.messageID = w.origin
	if !strings.HasPrefix(w.origin, at.Stream+":") {
		h := sha256.New()
		h.Write(w.id)
		h.Write(w.event)
		w.messageID += "-" + hex.EncodeToString(h.Sum(nil)[:16])
	}
}

func readWaiting(record []byte) (waiting, error) {
	var w waiting
	for name, value := range members(record) {
		var err error
		switch string(name) {
		case "id":
			w.id = value
		case "event":
			w.event = value
		case "tool":
			err = json.Unmarshal(value, &w.tool)
		case "received":
			err = json.Unmarshal(value, &w.received)
		case "identifiers":
			err = json.Unmarshal(value, &w.identifiers)
		case "awaits":
			err = json.Unmarshal(value, &w.awaits)
		case "origin":
			err = json.Unmarshal(value, &w.origin)
		}
		if err != nil {
			return w, fmt.Errorf("stream: member %s of a record in quarantine: %w", name, err)
		}
	}
	return w, nil
}

// members yields the members of a record, which is well-formed: names without
// their quotation marks, and values.
func members(record []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := 1; i < len(record) && record[i] != '}'; {
			if c := record[i]; c != '"' { // a comma or a blank
				i++
				continue
			}
			end := valueEnd(record, i)
			name := record[i+1 : max(end-1, i+1)]
			for i = end; i < len(record) && (record[i] == ':' || record[i] == ' '); i++ {
			}
			end = valueEnd(record, i)
			if !yield(name, record[i:end]) {
				return
			}
			i = end
		}
	}
}

// valueEnd is where the JSON value that begins at i ends.
func valueEnd(b []byte, i int) int {
	depth := 0
	for inString := false; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			if inString = !inString; !inString && depth == 0 {
				return i + 1
			}
		case inString:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 {
				return i
			}
		case c == ',' && depth == 0:
			return i
		}
	}
	return len(b)
}

// moved is record as it stands in another topic, with a line break: its topic
// is the new one, and origin, unless it is empty, says where it was stored first.
// keys, a JSON object, take the place of those that were awaited. The members
// named in without are left out; nothing else changes.
func moved(record []byte, topic, origin string, keys []byte, without ...string) []byte {
	out := make([]byte, 0, len(record)+len(topic)+len(origin)+len(keys)+32)
	out = append(out, '{')
	put := func(name, value []byte) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, '"'), name...), `":`...)
		out = append(out, value...)
	}
	for name, value := range members(record) {
		switch string(name) {
		case "topic":
			put(name, fmt.Appendf(nil, "%q", topic)) // the alphabet of topics needs no escapes
		case "origin":
		case "event":
			if keys != nil {
				put([]byte("keys"), keys)
			}
			if origin != "" {
				put([]byte("origin"), fmt.Appendf(nil, "%q", origin))
			}
			put(name, value)
		default:
			if replaced := keys != nil && (string(name) == "keys" || string(name) == "awaits"); !replaced && !slices.Contains(without, string(name)) {
				put(name, value)
			}
		}
	}
	return append(out, "}\n"...)
}
