package stream

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestMovedRecords(t *testing.T) {
	const before = `{"id":"a\",\"event\":","type":"ViewEvent","tool":"Engage","topic":"quarantine","received":"2026-11-22T20:00:00.123Z",` +
		`"identifiers":{"course":["63"],"event":["}"]}`
	const event = `"event":{"topic":"quarantine","keys":[{"a":"]"}],"origin":1,"é":"\u00e9\\"}}`
	for _, c := range []struct{ record, topic, keys, want string }{
		{before + `,"keys":{"person":"P1"},"awaits":["course","person"],` + event, "enriched", `{"course":"C1","person":"P1"}`,
			before + `,"keys":{"course":"C1","person":"P1"},"origin":"s:1:2",` + event},
		{before + `,"keys":{"person":"P1"},"awaits":["course","person"],` + event, "standard", "",
			before + `,"keys":{"person":"P1"},"awaits":["course","person"],"origin":"s:1:2",` + event},
		{before + `,"awaits":["course"],"origin":"s:1:2",` + event, "enriched", `{"course":"C1"}`,
			before + `,"keys":{"course":"C1"},"origin":"s:1:2",` + event},
		{before + `,"awaits":["course"],"origin":"s:1:2",` + event, "quarantine", "",
			before + `,"awaits":["course"],"origin":"s:1:2",` + event},
	} {
		var keys []byte
		if c.keys != "" {
			keys = []byte(c.keys)
		}
		want := strings.Replace(c.want, `"topic":"quarantine"`, fmt.Sprintf(`"topic":%q`, c.topic), 1) + "\n"
		got := string(moved([]byte(c.record), c.topic, "s:1:2", keys))
		if got != want || !json.Valid([]byte(got)) {
			t.Errorf("%s\nmoves to %s as\n%swant\n%s", c.record, c.topic, got, want)
		}
		w, err := readWaiting([]byte(c.record))
		if err != nil || w.tool != "Engage" || fmt.Sprint(w.identifiers) != "map[course:[63] event:[}]]" || w.awaits[0] != "course" ||
			!w.received.Equal(time.Date(2026, 11, 22, 20, 0, 0, 123e6, time.UTC)) {
			t.Errorf("%s\nreads as %+v, %v", c.record, w, err)
		}
	}
}

func TestMovedWithoutMembers(t *testing.T) {
	const record = `{"id":"a","topic":"quarantine","identifiers":{"course":["63"]},"keys":{"person":"P"},"awaits":["course"],"event":{"keys":1}}`
	const want = `{"id":"a","topic":"standard","event":{"keys":1}}` + "\n"
	if got := string(moved([]byte(record), "standard", "", nil, "identifiers", "keys", "awaits")); got != want {
		t.Errorf("moved as\n%swant\n%s", got, want)
	}
}

// FuzzMembers is that no bytes make the reader leave the record, and that it
// sees what encoding/json does.
func FuzzMembers(f *testing.F) {
	f.Add(`{"a":1,"b":"\\\"}","c":[{"d":"]"}],"e":{}}`)
	f.Add(`{"a" : tru`)
	f.Add(`{"`)
	f.Fuzz(func(t *testing.T, record string) {
		got := map[string]string{}
		for name, value := range members([]byte(record)) {
			got[string(name)] = strings.TrimSpace(string(value))
		}
		var want map[string]json.RawMessage
		if json.Unmarshal([]byte(record), &want) != nil || want == nil || strings.ContainsAny(record, "\\\t\n\r ") || record[0] != '{' {
			return
		}
		for name, value := range want {
			if got[name] != string(value) && strings.ToValidUTF8(name, "") == name && !strings.Contains(name, "\ufffd") {
				t.Errorf("member %q of %s is %s, want %s", name, record, got[name], value)
			}
		}
	})
}
