package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"caliperedge/validate"
)

// envelopeOf wraps items of data in a conformant envelope.
func envelopeOf(items ...string) []byte {
	return []byte(`{"sensor":"https://example.edu/s","sendTime":"2026-11-22T20:00:00.000Z","dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1","data":[` +
		strings.Join(items, ",") + `]}`)
}

func eventOf(id string, more string) string {
	return fmt.Sprintf(`{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":%q,"type":"ViewEvent","action":"Viewed","actor":{"id":"urn:a","type":"Person"},"eventTime":"2026-11-22T21:00:00+01:00"%s}`, id, more)
}

const personDescribe = `{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":"urn:p:1","type":"Person"}`

func parse(t testing.TB, body []byte) *validate.Envelope {
	t.Helper()
	env, err := validate.Parse(body, validate.Options{})
	if err != nil {
		t.Fatalf("Parse: %v\n%s", err, body)
	}
	return env
}

func TestRecord(t *testing.T) {
	received := time.Date(2026, 11, 22, 20, 0, 0, 123_900_000, time.UTC)
	head := `,"tool":"Engage","topic":"t","received":"2026-11-22T20:00:00.123Z","sensor":"https://example.edu/s","sendTime":"2026-11-22T20:00:00.000Z","dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1"`
	event := eventOf("urn:1", "")
	lone := eventOf("urn:1", `,"extensions":{"x":"\ud83d\ude00 \ud800"}`)
	broken := strings.ReplaceAll(eventOf("urn:1", ",\n\"edApp\": \"https://e\""), `"type":"ViewEvent"`, "\r\n\"type\":\t\"ViewEvent\"")
	for name, c := range map[string]struct{ item, more, want string }{
		"event": {event, "",
			`{"id":"urn:1","type":"ViewEvent","action":"Viewed","eventTime":"2026-11-22T20:00:00.000Z","actor":"urn:a"` + head + `,"event":` + event + "}\n"},
		"describe": {personDescribe, "",
			`{"id":"urn:p:1","type":"Person"` + head + `,"event":` + personDescribe + "}\n"},
		"line breaks between tokens become blanks": {broken, "",
			`{"id":"urn:1","type":"ViewEvent","action":"Viewed","eventTime":"2026-11-22T20:00:00.000Z","actor":"urn:a","edApp":"https://e"` + head +
				`,"event":` + strings.NewReplacer("\r", " ", "\n", " ").Replace(broken) + "}\n"},
		"a lone surrogate is repaired and said": {lone, `,"conflict":true`,
			`{"id":"urn:1","type":"ViewEvent","action":"Viewed","eventTime":"2026-11-22T20:00:00.000Z","actor":"urn:a"` + head +
				`,"repaired":true,"conflict":true,"event":` + strings.Replace(lone, `\ud800`, `\ufffd`, 1) + "}\n"},
	} {
		env := parse(t, envelopeOf(c.item))
		h := newRecordHead(env, "Engage", received)
		it := &env.Items()[0]
		got := appendRecord([]byte("before"), &h, it, []byte(c.more), "t")
		if string(got) != "before"+c.want {
			t.Errorf("%s:\n got %s\nwant before%s", name, got, c.want)
		}
		if n := recordBytes(&h, it, []byte(c.more), "t"); n != len(c.want) {
			t.Errorf("%s: recordBytes = %d, the record has %d", name, n, len(c.want))
		}
		if !json.Valid(got[len("before"):]) {
			t.Errorf("%s: record is not JSON", name)
		}
		env.Release()
	}
}

// Only the record that holds a lone surrogate is marked, and one in the
// envelope's sensor marks them all.
func TestRecordRepairIsPerRecord(t *testing.T) {
	body := envelopeOf(eventOf("urn:1", ""), eventOf("urn:2", `,"extensions":"\udc00"`))
	for _, c := range []struct {
		body []byte
		want []bool
	}{
		{body, []bool{false, true}},
		{bytes.Replace(body, []byte("example.edu/s"), []byte(`\ud800`), 1), []bool{true, true}},
	} {
		env := parse(t, c.body)
		h := newRecordHead(env, "t", time.Now())
		for i, want := range c.want {
			rec := appendRecord(nil, &h, &env.Items()[i], nil, "t")
			if got := bytes.Contains(rec, []byte(`"repaired":true`)); got != want {
				t.Errorf("item %d: repaired %v, want %v: %s", i, got, want, rec)
			}
			if bytes.Contains(rec, []byte(`\ud800`)) || bytes.Contains(rec, []byte(`\udc00`)) {
				t.Errorf("item %d still has its lone surrogate: %s", i, rec)
			}
			if len(rec) != recordBytes(&h, &env.Items()[i], nil, "t") {
				t.Errorf("item %d: size is wrong", i)
			}
		}
		env.Release()
	}
}

// FuzzRecord: whatever parses and conforms gives one line of JSON of the size
// that was reckoned.
func FuzzRecord(f *testing.F) {
	f.Add(envelopeOf(eventOf("urn:1", ""), personDescribe))
	f.Add(envelopeOf(eventOf("urn:1", `,"edApp":{"id":"\ud800"},"x":"\ud83d\ude00"`)))
	f.Add([]byte("{\n\"sensor\":\"\\udc00\",\"sendTime\":\"2026-11-22T20:00:00Z\",\"dataVersion\":\"http://purl.imsglobal.org/ctx/caliper/v1p2/\",\r\n\"data\":[" + personDescribe + "\n]}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		env, err := validate.Parse(body, validate.Options{})
		if err != nil {
			return
		}
		defer env.Release()
		if env.Err() != nil {
			return
		}
		before := bytes.Clone(body)
		h := newRecordHead(env, "tool", time.Now())
		for i := range env.Items() {
			more := [][]byte{nil, []byte(`,"conflict":true`)}[i%2]
			it := &env.Items()[i]
			if it.Faults != 0 {
				continue
			}
			rec := appendRecord(nil, &h, it, more, "standard")
			if len(rec) != recordBytes(&h, it, more, "standard") {
				t.Fatalf("record has %d bytes, reckoned %d", len(rec), recordBytes(&h, it, more, "standard"))
			}
			if bytes.IndexByte(rec, '\n') != len(rec)-1 || bytes.IndexByte(rec, '\r') >= 0 || !json.Valid(rec) {
				t.Fatalf("record is not one line of JSON: %q", rec)
			}
		}
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
	})
}

func TestPutTime(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		at := time.Unix(random.Int64N(253402300799), random.Int64N(1e9)).In(time.FixedZone("", 5*3600+1800))
		var got [timeBytes]byte
		putTime(&got, at)
		if want := at.UTC().Format("2006-01-02T15:04:05.000Z"); string(got[:]) != want {
			t.Fatalf("%s, want %s", got[:], want)
		}
	}
}
