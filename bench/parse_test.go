package bench

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"caliperedge/bench/corpus"
	"caliperedge/bench/yardstick"
	"caliperedge/validate"
)

// BenchmarkParseInTurns holds validate.Parse against one strict pass of sonic over the same bytes, into raw members that
// nobody looks at: parse/sonic. A turn is all envelopes, once. Turns alternate, and the quickest of each counts, so that
// the ratio holds also on a machine that others use.
func BenchmarkParseInTurns(b *testing.B) {
	for _, l := range loads {
		if l.faulty > 0 {
			continue // an item that is no object ends the pass of sonic
		}
		all := l.envelopes()
		b.Run(l.String(), func(b *testing.B) {
			envelopes := hot(all())
			turn := func(parse func([]byte) int) time.Duration {
				start := time.Now()
				for i := range envelopes {
					if got := parse(envelopes[i].Body); got != l.items {
						b.Fatalf("%d items conform, want %d", got, l.items)
					}
				}
				return time.Since(start)
			}
			parse, sonic := newParse(b, envelopes), newSonic(b, envelopes)
			turn(parse) // both have their memory, and sonic its compiled decoder
			turn(sonic)
			parseTime, sonicTime := time.Hour, time.Hour
			b.SetBytes(2 * meanBytes(envelopes) * int64(len(envelopes)))
			b.ReportAllocs()
			for b.Loop() {
				parseTime = min(parseTime, turn(parse))
				sonicTime = min(sonicTime, turn(sonic))
			}
			b.ReportMetric(float64(parseTime)/float64(sonicTime), "parse/sonic")
			events := float64(len(envelopes) * l.items)
			b.ReportMetric(float64(parseTime.Nanoseconds())/events, "parse-ns/event")
			b.ReportMetric(float64(sonicTime.Nanoseconds())/events, "sonic-ns/event")
			reportEvents(b, 2*len(envelopes)*l.items)
		})
	}
}

// BenchmarkParse has the throughput of validate.Parse (impl=parse), of the same work done by encoding/json (impl=std), and
// of the pass of sonic (impl=sonic), one after the other: BenchmarkParseInTurns compares them.
func BenchmarkParse(b *testing.B) {
	for _, l := range loads {
		all := l.envelopes()
		for _, impl := range []struct {
			name string
			make func(b *testing.B, envelopes []corpus.Envelope) func(body []byte) (conformant int)
		}{
			{"parse", newParse}, {"sonic", newSonic}, {"std", newStandard},
		} {
			if impl.name == "sonic" && l.faulty > 0 {
				continue // an item that is no object ends its pass
			}
			b.Run(l.String()+"/impl="+impl.name, func(b *testing.B) {
				envelopes := hot(all())
				conformant := make([]int, len(envelopes))
				for i := range envelopes {
					conformant[i] = envelopes[i].Items - envelopes[i].Rejected()
				}
				parse := impl.make(b, envelopes)
				b.SetBytes(meanBytes(envelopes))
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if got, want := parse(envelopes[i].Body), conformant[i]; got != want {
						b.Fatalf("%d items conform, want %d", got, want)
					}
					if i++; i == len(envelopes) {
						i = 0
					}
				}
				reportEvents(b, l.items)
			})
		}
	}
}

// hot is as many of the envelopes as stay in the cache, where a body is that was just read from a socket; at least two.
func hot(envelopes []corpus.Envelope) []corpus.Envelope {
	n, bytes := 0, 0
	for n < len(envelopes) && (n < 2 || bytes+len(envelopes[n].Body) <= 1<<20) {
		bytes += len(envelopes[n].Body)
		n++
	}
	return envelopes[:n]
}

func newParse(*testing.B, []corpus.Envelope) func([]byte) int {
	return func(body []byte) int {
		e, err := validate.Parse(body, validate.Options{})
		if err != nil {
			return 0
		}
		n := e.Conformant()
		e.Release()
		return n
	}
}

// newSonic takes every item for conformant.
func newSonic(*testing.B, []corpus.Envelope) func([]byte) int {
	pass := yardstick.New()
	return func(body []byte) int {
		n, err := pass.Items(body)
		if err != nil {
			return 0
		}
		return n
	}
}

// standard is Parse as one writes it with the standard library.
type standard struct {
	pairs map[[2]string]bool // of type and action; of an entity's type and none
}

type standardEnvelope struct {
	Sensor, SendTime, DataVersion string
	Data                          []json.RawMessage
}

type standardItem struct {
	Context   any             `json:"@context"`
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Actor     json.RawMessage `json:"actor"`
	Action    string          `json:"action"`
	EventTime string          `json:"eventTime"`
	EdApp     json.RawMessage `json:"edApp"`
}

// newStandard learns the vocabulary that the envelopes need from Parse, which does not give its own away.
func newStandard(b *testing.B, envelopes []corpus.Envelope) func([]byte) int {
	s := standard{pairs: make(map[[2]string]bool)}
	for i := range envelopes {
		e, err := validate.Parse(envelopes[i].Body, validate.Options{})
		if err != nil {
			b.Fatal(err)
		}
		for _, item := range e.Items() {
			if item.Faults == 0 {
				var sent standardItem
				if err := json.Unmarshal(item.Raw, &sent); err != nil {
					b.Fatal(err)
				}
				s.pairs[[2]string{sent.Type, sent.Action}] = true
			}
		}
		e.Release()
	}
	return s.parse
}

func (s *standard) parse(body []byte) (conformant int) {
	var e standardEnvelope
	if !utf8.Valid(body) || json.Unmarshal(body, &e) != nil || e.Sensor == "" || e.DataVersion == "" || !isStandardTime(e.SendTime) {
		return 0
	}
	for _, text := range e.Data {
		var item standardItem
		if json.Unmarshal(text, &item) != nil || item.ID == "" || !isStandardContext(item.Context) {
			continue
		}
		if !s.pairs[[2]string{item.Type, item.Action}] {
			continue
		}
		if item.Action != "" && !(isStandardActor(item.Actor) && isStandardTime(item.EventTime)) {
			continue
		}
		conformant++
	}
	return conformant
}

func isStandardTime(s string) bool {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700"} {
		if _, err := time.Parse(layout, s); err == nil {
			return true
		}
	}
	return false
}

func isStandardActor(actor json.RawMessage) bool {
	return len(actor) > 2 && (actor[0] == '"' || actor[0] == '{')
}

func isStandardContext(context any) bool {
	switch c := context.(type) {
	case string:
		const core = "http://purl.imsglobal.org/ctx/caliper/v1p"
		return len(c) > len(core) && c[:len(core)] == core
	case []any:
		for _, element := range c {
			if isStandardContext(element) {
				return true
			}
		}
	}
	return false
}
