package edge

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"caliperedge/pipeline"
)

// TestNothingIsLeftOfTheRequestBefore sends pairs over one connection: what the
// first one had and the second one lacks must not be found in the second.
func TestNothingIsLeftOfTheRequestBefore(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{})
	c := dial(t, s)
	full := `{"@context":"` + testVersion + `","id":"urn:full","type":"ViewEvent","actor":{"id":"urn:someone","type":"Person"},"action":"Viewed",` +
		`"object":"urn:o","eventTime":"2018-10-03T18:21:08.897Z","edApp":"https://app.example"}`
	without := func(member string) string {
		var m map[string]json.RawMessage
		if err := json.Unmarshal([]byte(full), &m); err != nil {
			t.Fatal(err)
		}
		delete(m, member)
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	good := envelope(full, full, full)
	post := func(body string, want int) *answer {
		t.Helper()
		a := c.exchange(t, body)
		if a.StatusCode != want {
			t.Fatalf("status %d, want %d: %s\nto %s", a.StatusCode, want, a.body, body)
		}
		return a
	}
	for _, member := range []string{"@context", "id", "type", "actor", "action", "eventTime"} {
		post(good, 200)
		post(envelope(without(member)), 400)
		post(good, 200)
		if a := post(envelope(without(member), full), 202); !strings.Contains(a.body, `"routes":[null,"standard"]`) {
			t.Errorf("without %s: %s", member, a.body)
		}
	}
	for _, member := range []string{"sensor", "sendTime", "data"} {
		post(good, 200)
		post(strings.Replace(good, `"`+member+`"`, `"`+member+`2"`, 1), 400)
	}
	post(good, 200)
	post(strings.Replace(good, `"dataVersion"`, `"dataVersion2"`, 1), 422)
	post(good, 200)
	post(`{}`, 400)
	post(good, 200)
	post(``, 415)

	// Members that are not asked for leave no trace either.
	s.store.Purge()
	post(good, 200)
	post(envelope(without("edApp")), 200)
	records := s.records(t)
	if last := records[len(records)-1]; last.EdApp != "" || last.Actor != "urn:someone" {
		t.Errorf("record %+v", last)
	}
}

// TestMembersThatOccurTwice checks what of ambiguous envelopes is stored, each
// after one with other members on the same connection.
func TestMembersThatOccurTwice(t *testing.T) {
	t.Parallel()
	before := `{"sensor":"before","sendTime":"2001-01-01T00:00:00.000Z","dataVersion":"` + testVersion + `","data":[` + event(900) + "," + event(901) + "]}"
	for name, c := range map[string]struct {
		body    string
		status  int
		ids     string // of the records, in order
		sensors string // those of the records, without repetitions
	}{
		"data twice, the longer first":    {"{" + testHead + `,"data":[` + event(1) + "," + event(2) + `],"data":[` + event(3) + "]}", 200, eventID(3), "https://example.edu/sensors/1"},
		"data twice, the shorter first":   {"{" + testHead + `,"data":[` + event(1) + `],"data":[` + event(2) + "," + event(3) + "]}", 200, eventID(2) + " " + eventID(3), "https://example.edu/sensors/1"},
		"data twice, the last one null":   {"{" + testHead + `,"data":[` + event(1) + `],"data":null}`, 400, "", ""},
		"data twice, the first one null":  {"{" + testHead + `,"data":null,"data":[` + event(1) + `]}`, 200, eventID(1), "https://example.edu/sensors/1"},
		"data twice, one of them escaped": {"{" + testHead + `,"data":[` + event(1) + `],"d\u0061ta":[` + event(2) + `]}`, 200, eventID(2), "https://example.edu/sensors/1"},
		"sensor twice":                    {`{"sensor":"first",` + testHead + `,"data":[` + event(1) + `],"sensor":"last"}`, 200, eventID(1), "last"},
		"sensor twice, the last one null": {"{" + testHead + `,"data":[` + event(1) + `],"sensor":null}`, 400, "", ""},
		"dataVersion twice":               {"{" + testHead + `,"data":[` + event(1) + `],"dataVersion":"v0"}`, 422, "", ""},
		"other case is another name":      {"{" + testHead + `,"Sensor":"x","DATA":[` + event(2) + `],"data":[` + event(1) + `]}`, 200, eventID(1), "https://example.edu/sensors/1"},
		"nested":                          {`{"x":{"sensor":"nested","data":[` + event(2) + `],"dataVersion":"v0"},` + testHead + `,"data":[` + event(1) + `],"y":[{"sensor":null}]}`, 200, eventID(1), "https://example.edu/sensors/1"},
		"actor of a nested object":        {envelope(strings.Replace(badEvent(1), `"object":`, `"extensions":{"actor":"x"},"object":`, 1)), 400, "", ""},
		"id twice":                        {envelope(strings.Replace(event(1), `"type"`, `"id":"urn:last","type"`, 1)), 200, "urn:last", "https://example.edu/sensors/1"},
		"actor twice, the last one null":  {envelope(strings.Replace(event(1), `"object"`, `"actor":null,"object"`, 1)), 400, "", ""},
		"null for all optional members":   {envelope(strings.Replace(event(1), `"object"`, `"edApp":null,"group":null,"extensions":null,"object"`, 1)), 200, eventID(1), "https://example.edu/sensors/1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, serving{})
			conn := dial(t, s)
			conn.exchange(t, before)
			s.store.Purge()
			a := conn.exchange(t, c.body)
			if a.StatusCode != c.status {
				t.Errorf("status %d, want %d: %s", a.StatusCode, c.status, a.body)
			}
			var ids, sensors []string
			for _, r := range s.records(t) {
				ids = append(ids, r.ID)
				if len(sensors) == 0 || sensors[len(sensors)-1] != r.Sensor {
					sensors = append(sensors, r.Sensor)
				}
			}
			if got := strings.Join(ids, " "); got != c.ids {
				t.Errorf("stored %q, want %q", got, c.ids)
			}
			if got := strings.Join(sensors, " "); got != c.sensors {
				t.Errorf("stored with sensor %q, want %q", got, c.sensors)
			}
		})
	}
}

// TestRequestsDoNotMix has many connections send envelopes of all sizes and
// fates at once, each marked in all of its members. Every record must carry the
// marks of one request throughout, those of X-DEBUG none, and every receipt
// must name the message that holds the records of its request.
func TestRequestsDoNotMix(t *testing.T) {
	t.Parallel()
	for _, terse := range []bool{false, true} {
		t.Run(fmt.Sprintf("terse=%v", terse), func(t *testing.T) {
			t.Parallel()
			const senders, each = 12, 40
			s := serve(t, serving{Config: Config{Terse: terse}})
			var stored sync.Map // mark → number of records
			var wg sync.WaitGroup
			for sender := range senders {
				c := dial(t, s)
				wg.Go(func() {
					draw := rand.New(rand.NewPCG(uint64(sender), 7))
					for i := range each {
						m := marked{mark: fmt.Sprintf("s%dr%d", sender, i), draw: draw}
						if err := m.send(c, s); err != nil {
							t.Errorf("%s: %v", m.mark, err)
							return
						}
						if m.stores {
							stored.Store(m.mark, m.items)
						}
					}
				})
			}
			wg.Wait()
			counts := map[string]int{}
			for _, r := range s.records(t) {
				mark, _, _ := strings.Cut(strings.TrimPrefix(r.ID, "urn:"), ":")
				counts[mark]++
				var e struct{ ID, Actor, Object string }
				if err := json.Unmarshal(r.Event, &e); err != nil {
					t.Fatal(err)
				}
				if e.ID != r.ID || r.Sensor != "sensor-"+mark || r.Actor != "actor-"+mark || e.Actor != r.Actor || strings.Trim(e.Object, "x") != mark {
					t.Fatalf("a record is of several requests: %+v %s", r, r.Event)
				}
			}
			n := 0
			stored.Range(func(mark, items any) bool {
				if counts[mark.(string)] != items {
					t.Errorf("%s: %d records, want %d", mark, counts[mark.(string)], items)
				}
				n++
				return true
			})
			if n != len(counts) || n == 0 {
				t.Errorf("records of %d requests, of which %d were to be stored", len(counts), n)
			}
		})
	}
}

// marked is a request of which everything carries a mark.
type marked struct {
	mark   string
	draw   *rand.Rand
	items  int
	stores bool
}

func (m *marked) send(c *client, s *served) error {
	m.items = 1 + m.draw.IntN(8)
	var items []string
	for i := range m.items {
		items = append(items, fmt.Sprintf(`{"@context":%q,"id":"urn:%s:%d","type":"ViewEvent","actor":"actor-%s","action":"Viewed","object":"%s%s","eventTime":"2018-10-03T18:21:08.897Z"}`,
			testVersion, m.mark, i, m.mark, m.mark, strings.Repeat("x", m.draw.IntN(4000))))
	}
	if m.draw.IntN(4) == 0 { // one that is rejected
		items = append(items, badEvent(1))
	}
	body := []byte(fmt.Sprintf(`{"sensor":"sensor-%s","sendTime":"2018-11-15T11:05:01.000Z","dataVersion":%q,"data":[%s]}`, m.mark, testVersion, strings.Join(items, ",")))
	var extra []string
	want := 200
	if len(items) > m.items {
		want = 202
	}
	m.stores = true
	switch m.draw.IntN(6) {
	case 0:
		extra, m.stores = append(extra, "X-DEBUG: TRUE"), false
	case 1:
		body, want, m.stores = body[:len(body)-1], 415, false
	case 2:
		body, want, m.stores = bytes.Replace(body, []byte(`"sensor":"`), []byte(`"sensor":"","other":"`), 1), 400, false
	}
	if m.draw.IntN(3) == 0 {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write(body)
		w.Close()
		body, extra = b.Bytes(), append(extra, "Content-Encoding: gzip")
	}
	if err := c.post(testToken, string(body), extra...); err != nil {
		return err
	}
	a, err := c.read(http.MethodPost)
	if err != nil {
		return err
	}
	if a.StatusCode != want {
		return fmt.Errorf("status %d, want %d: %s", a.StatusCode, want, a.body)
	}
	if durable := a.Header.Get("Caliper-Durability"); (durable != "") != m.stores {
		return fmt.Errorf("stored %v, Caliper-Durability %q", m.stores, durable)
	}
	if !m.stores {
		return nil
	}
	return m.checkReceipt(a.body, s)
}

func (m *marked) checkReceipt(body string, s *served) error {
	var receipt struct {
		Accepted int
		Topics   map[string]string
	}
	if err := json.Unmarshal([]byte(body), &receipt); err != nil {
		return err
	}
	if receipt.Accepted != m.items {
		return fmt.Errorf("%d accepted, want %d", receipt.Accepted, m.items)
	}
	found := 0
	messages := s.store.Messages(pipeline.TopicStandard)
	for part := range strings.SplitSeq(receipt.Topics[pipeline.TopicStandard], ",") {
		var sequence int
		if _, err := fmt.Sscanf(part, "standard:%d", &sequence); err != nil || sequence < 1 || sequence > len(messages) {
			return fmt.Errorf("receipt %q with %d messages: %v", part, len(messages), err)
		}
		found += bytes.Count(messages[sequence-1].Body, []byte(`{"id":"urn:`+m.mark+":"))
	}
	if found != m.items {
		return fmt.Errorf("the receipt's messages hold %d records, want %d", found, m.items)
	}
	return nil
}
