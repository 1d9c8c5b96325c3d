package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"caliperedge/pipeline"
	"caliperedge/pipeline/stream"
)

// storeOf opens a store as serve does, with lines in a topic, one a message.
func storeOf(t *testing.T, file, topic string, lines ...string) (dir string, read func(topic string) []map[string]any) {
	t.Helper()
	dir, read, put := openStore(t, file)
	put(topic, lines...)
	return dir, read
}

// openStore opens a store as serve does. put stores lines in a topic, one a message.
func openStore(t *testing.T, file string) (dir string, read func(topic string) []map[string]any, put func(topic string, lines ...string)) {
	t.Helper()
	dir = t.TempDir()
	c, _, err := load(t, []string{"--data-dir", dir, "--store-bytes", "64MiB"}, nil, file)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := c.layout(int64(c.StoreBytes))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	p, err := stream.OpenEmbedded(ctx, stream.EmbeddedConfig{Dir: dir, Listen: "127.0.0.1:0", Layout: layout, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	put = func(topic string, lines ...string) {
		t.Helper()
		for i, line := range lines {
			body := []byte(line + "\n")
			m := pipeline.Message{Topic: topic, ID: fmt.Sprint(i), Records: bytes.Count(body, []byte("\n")), Bytes: len(body), Body: body}
			if _, err := p.Publish(ctx, &m); err != nil {
				t.Fatal(err)
			}
		}
	}
	read = func(topic string) (records []map[string]any) {
		t.Helper()
		err := stream.Tail(context.Background(), p.JetStream(), layout, topic, stream.TailOptions{}, func(line []byte, _ stream.Address) error {
			var r map[string]any
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			records = append(records, r)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return records
	}
	return dir, read, put
}

// runCommand runs the program in this process.
func runCommand(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = run(context.Background(), args, nil, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), err
}

func testEvent(id string) string {
	return fmt.Sprintf(`{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":%q,"type":"NavigationEvent","actor":"https://e/1","action":"NavigatedTo","eventTime":"2018-10-03T18:21:08.897Z"}`, id)
}

const testEnvelopeHead = `"sensor":"s","sendTime":"2018-10-03T18:21:08.897Z","dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1"`

func rejectedLine(tool, received, rest string) string {
	return fmt.Sprintf(`{"tool":%q,"topic":"rejected","received":%q,%s}`, tool, received, rest)
}

// Bodies as a whole are parsed anew, whatever they are kept as; what was cut is
// not, and the choice of records holds.
func TestReplayOfBodies(t *testing.T) {
	const noon = "2026-11-22T12:00:00.000Z"
	two := `{` + testEnvelopeHead + `,"data":[` + testEvent("a") + `,` + testEvent("b") + `,7]}`
	dir, read := storeOf(t, "", "rejected",
		rejectedLine("T", noon, `"whole":true,"reasons":[],"event":`+two),
		rejectedLine("T", noon, `"whole":true,"reasons":[],"raw":"`+base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(two, `"a"`, `"c"`)))+`"`),
		rejectedLine("T", noon, `"whole":true,"reasons":[],"truncated":true,"size":9000000,"raw":"e30="`),
		rejectedLine("T", noon, testEnvelopeHead+`,"reasons":[],"event":`+strings.Replace(testEvent("d"), `"d"`, `"\u0064"`, 1)),
		rejectedLine("T", noon, testEnvelopeHead+`,"repaired":true,"reasons":[],"event":`+testEvent("d")),
		rejectedLine("T", noon, `"sensor":"s","reasons":[],"event":`+testEvent("e")),
		rejectedLine("Other", noon, testEnvelopeHead+`,"reasons":[],"event":`+testEvent("f")),
		rejectedLine("T", "2026-11-23T00:00:00.000Z", testEnvelopeHead+`,"reasons":[],"event":`+testEvent("g")))
	choice := []string{"--data-dir", dir, "--tool", "T", "--until", "2026-11-23"}
	out, _, err := runCommand(t, append([]string{"replay", "rejected", "--dry-run"}, choice...)...)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"T     standard  5        1              ", // a b c d, b twice, d with other bytes
		"T     -         2        0              id @context actor type/action eventTime",
		"T     -         1        0              truncated",
		"T     -         1        0              sendTime dataVersion",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing:\n%s", want, out)
		}
	}
	if records := read("standard"); len(records) != 0 {
		t.Fatalf("a dry run stored %v", records)
	}
	for _, want := range []string{"5 records written", "nothing to write"} {
		if out, _, err := runCommand(t, append([]string{"replay", "rejected", "--yes"}, choice...)...); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s, %v, want %s", out, err, want)
		}
	}
	var got []string
	for _, r := range read("standard") {
		got = append(got, fmt.Sprint(r["id"], " ", r["origin"], " ", r["received"], " ", r["tool"], " ", r["repaired"]))
	}
	rest := " " + noon + " T <nil>"
	want := []string{"a caliper-rejected:1:1" + rest, "b caliper-rejected:1:1" + rest, "c caliper-rejected:2:1" + rest, "d caliper-rejected:4:1" + rest, "d caliper-rejected:5:1 " + noon + " T true"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("records are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if out, _, err := runCommand(t, "replay", "rejected", "--yes", "--data-dir", dir, "--since", "2026-11-23"); err != nil || !strings.Contains(out, "1 records written") {
		t.Errorf("since: %s, %v", out, err)
	}
}

// Events go on to the topics that they lack, those of the source stay; a
// replay that ended in the middle is completed by the next, without a double.
func TestReplayGoesOn(t *testing.T) {
	var lines []string
	for i := range 5000 {
		line := rejectedLine("T", "2026-11-22T12:00:00.000Z", testEnvelopeHead+`,"reasons":[],"event":`+testEvent(fmt.Sprint("urn:", i)))
		if i%500 != 0 {
			lines[len(lines)-1] += "\n" + line
			continue
		}
		lines = append(lines, line)
	}
	dir, read := storeOf(t, "topics:\n  standard: {max_bytes: 1500KiB}\n", "rejected", lines...)
	if out, _, err := runCommand(t, "replay", "rejected", "--yes", "--data-dir", dir, "--content-encoding", "none"); !errors.Is(err, pipeline.ErrStoreFull) || !strings.Contains(out, " records written") {
		t.Fatalf("into a topic that is full in the middle: %s, %v", out, err)
	}
	if n := len(read("standard")); n == 0 || n == 5000 {
		t.Fatalf("%d records are stored by a replay that ended in the middle", n)
	}
	if out, _, err := runCommand(t, "topics", "apply", "--yes", "--data-dir", dir, "--store-bytes", "64MiB"); err != nil {
		t.Fatal(out, err)
	}
	out, _, err := runCommand(t, "replay", "rejected", "--yes", "--data-dir", dir)
	if err != nil {
		t.Fatal(out, err)
	}
	count := make(map[any]int)
	for _, r := range read("standard") {
		count[r["id"]]++
	}
	if len(count) != 5000 {
		t.Errorf("%d events are stored, want 5000", len(count))
	}
	for id, n := range count {
		if n != 1 {
			t.Fatalf("event %v is stored %d times", id, n)
		}
	}
	if out, _, err := runCommand(t, "replay", "standard", "--yes", "--data-dir", dir); err != nil || !strings.Contains(out, "5000     0              it belongs here") {
		t.Errorf("%s, %v", out, err)
	}
}

// After a rule was added events of standard go on to the topics that it names;
// after a tool was granted words, events that were refused for them are stored,
// with the marks that they would have got.
func TestReplayAfterAChange(t *testing.T) {
	odd := strings.Replace(testEvent("odd"), "NavigatedTo", "Teleported", 1)
	dir, read := storeOf(t, "", "standard",
		rejectedLine("T", "2026-11-22T12:00:00.000Z", testEnvelopeHead+`,"event":`+testEvent("a")),
		rejectedLine("Other", "2026-11-22T12:00:00.000Z", testEnvelopeHead+`,"event":`+testEvent("b")))
	file := filepath.Join(t.TempDir(), "edge.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("rules:\n  - {name: all, when: {tool: T}, topic: enriched}\n")
	if out, _, err := runCommand(t, "replay", "standard", "--yes", "--data-dir", dir, "--config", file); err != nil || !strings.Contains(out, "1 records written") {
		t.Fatal(out, err)
	}
	for topic, want := range map[string]int{"enriched": 1, "standard": 2} {
		if got := read(topic); len(got) != want || topic != "standard" && got[0]["origin"] != "caliper-standard:1:1" {
			t.Errorf("%s has %v", topic, got)
		}
	}

	dir, read = storeOf(t, "", "rejected", rejectedLine("T", "2026-11-22T12:00:00.000Z", testEnvelopeHead+`,"reasons":[],"event":`+odd))
	if out, _, err := runCommand(t, "replay", "rejected", "--yes", "--data-dir", dir); err != nil || !strings.Contains(out, "type/action") || len(read("standard")) > 0 {
		t.Fatal(out, err)
	}
	write("tools:\n  T:\n    vocabulary: {actions: {NavigationEvent: [Teleported]}}\n")
	if out, _, err := runCommand(t, "replay", "rejected", "--yes", "--data-dir", dir, "--config", file); err != nil || !strings.Contains(out, "1 records written") {
		t.Fatal(out, err)
	}
	if got := read("standard"); len(got) != 1 || got[0]["action"] != "Teleported" || got[0]["extra"] == nil || got[0]["origin"] != "caliper-rejected:1:1" {
		t.Errorf("standard has %v", got)
	}
}

// What a replay keeps of an event is bounded, whatever the event.
func TestReplayMemory(t *testing.T) {
	const events = 500_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	r := newReplayer(nil, "rejected")
	for i := range events {
		var c candidate
		binary.LittleEndian.PutUint64(c.event[:], uint64(i))
		c.id = idKey(c.event)
		if err := r.note(outcome{tool: "T", to: "standard"}, c); err != nil {
			t.Fatal(err)
		}
	}
	each := (heap() - before) / events
	t.Logf("%d bytes an event", each)
	if each > 150 {
		t.Errorf("%d bytes an event, they are said to be 121", each)
	}
	runtime.KeepAlive(r)
}

// An event with the id of another and other content is written, and marked; of
// an entity describe every version is, and none is marked.
func TestReplayOfOtherContent(t *testing.T) {
	const noon = "2026-11-22T12:00:00.000Z"
	line := func(item string) string {
		return rejectedLine("T", noon, testEnvelopeHead+`,"reasons":[],"event":`+item)
	}
	named := func(name, item string) string {
		return strings.Replace(item, `"id"`, fmt.Sprintf(`"name":%q,"id"`, name), 1)
	}
	const person = `{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":"urn:p","type":"Person"}`
	old := []string{named("1", testEvent("a")), named("1", person)}
	dir, read := storeOf(t, "", "rejected",
		strings.ReplaceAll(line(old[0]), noon, "2026-11-21T12:00:00.000Z"), strings.ReplaceAll(line(old[1]), noon, "2026-11-21T12:00:00.000Z"),
		line(old[0]), line(named("2", testEvent("a"))), line(named("3", testEvent("b"))), line(named("4", testEvent("b"))), line(testEvent("c")),
		rejectedLine("T", noon, testEnvelopeHead+`,"conflict":true,"event":`+testEvent("d")),
		line(old[1]), line(named("2", person)), line(named("3", person)))
	if out, _, err := runCommand(t, "replay", "rejected", "--yes", "--data-dir", dir, "--until", "2026-11-22"); err != nil || !strings.Contains(out, "2 records written") {
		t.Fatal(out, err)
	}
	out, _, err := runCommand(t, "replay", "rejected", "--yes", "--data-dir", dir)
	if err != nil || !strings.Contains(out, "T     standard  5        2  ") || !strings.Contains(out, "T     entities  2        2  ") || !strings.Contains(out, "7 records written") {
		t.Errorf("%s, %v", out, err)
	}
	for topic, want := range map[string]string{
		"standard": "a 1 <nil>, a 2 true, b 3 <nil>, b 4 true, c <nil> <nil>, d <nil> true",
		"entities": "urn:p 1 <nil>, urn:p 2 <nil>, urn:p 3 <nil>",
	} {
		var got []string
		for _, r := range read(topic) {
			got = append(got, fmt.Sprint(r["id"], " ", r["event"].(map[string]any)["name"], " ", r["conflict"]))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s has %q, want %q", topic, got, want)
		}
	}
}

// What is standard because its keys are not known stays: quarantine would send
// it back, and it would be there twice. What was refused waits there.
func TestReplayWithoutKeys(t *testing.T) {
	const identified = `,"federatedSession":{"messageParameters":{"custom_canvas_course_id":"63"}},"id"`
	line := rejectedLine("T", "2026-11-22T12:00:00.000Z", testEnvelopeHead+`,"event":`+strings.Replace(testEvent("a"), `,"id"`, identified, 1))
	config := filepath.Join(t.TempDir(), "edge.yaml")
	rules := "rules:\n  - {name: keyed, when: {tool: T}, topic: enriched, identifiers: [lti], keys: [course]}\n"
	if err := os.WriteFile(config, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]int{"standard": 0, "rejected": 1} {
		dir, read := storeOf(t, "", source, line)
		out, _, err := runCommand(t, "replay", source, "--yes", "--data-dir", dir, "--config", config)
		if err != nil || strings.Contains(out, "its keys are not known") != (want == 0) {
			t.Errorf("replay %s: %s, %v", source, out, err)
		}
		if n := len(read("quarantine")); n != want {
			t.Errorf("replay %s has put %d records into quarantine, want %d", source, n, want)
		}
	}
}

// What waits in quarantine moves by itself, whatever the rules are now: a replay
// would have it twice. Its copies are made all the same.
func TestReplayOfQuarantine(t *testing.T) {
	config := filepath.Join(t.TempDir(), "edge.yaml")
	rules := "topics:\n  standard: {max_bytes: 40%}\n  live: {max_bytes: 5%}\nrules:\n  - {name: all, when: {tool: T}, topic: enriched, also: live}\n"
	if err := os.WriteFile(config, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, read := storeOf(t, rules, "quarantine",
		rejectedLine("T", "2026-11-22T12:00:00.000Z", testEnvelopeHead+`,"awaits":["course"],"event":`+testEvent("a")),
		rejectedLine("Other", "2026-11-22T12:00:00.000Z", testEnvelopeHead+`,"awaits":["course"],"event":`+testEvent("b")))
	out, _, err := runCommand(t, "replay", "quarantine", "--yes", "--data-dir", dir, "--config", config)
	if err != nil || strings.Count(out, "it moves by itself") != 2 {
		t.Errorf("%s, %v", out, err)
	}
	for topic, want := range map[string]int{"enriched": 0, "standard": 0, "live": 1} {
		if got := len(read(topic)); got != want {
			t.Errorf("%s has %d records, want %d", topic, got, want)
		}
	}
}

// What was sent to quarantine before and has moved on from there is not sent
// again: it would be twice where it went.
func TestReplayOfWhatLeftQuarantine(t *testing.T) {
	const identified = `,"federatedSession":{"messageParameters":{"custom_canvas_course_id":"63"}},"id"`
	event := strings.Replace(testEvent("a"), `,"id"`, identified, 1)
	other := strings.Replace(event, "https://e/1", "https://e/2", 1)
	line := func(topic, event string) string {
		return fmt.Sprintf(`{"id":"a","type":"NavigationEvent","action":"NavigatedTo","eventTime":"2018-10-03T18:21:08.897Z","tool":"T","topic":%q,"received":"2026-11-22T12:00:00.000Z",%s,"event":%s}`, topic, testEnvelopeHead, event)
	}
	config := filepath.Join(t.TempDir(), "edge.yaml")
	rules := "rules:\n  - {name: keyed, when: {tool: T}, topic: enriched, identifiers: [lti], keys: [course]}\n"
	if err := os.WriteFile(config, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"standard", "enriched"} {
		dir, read, put := openStore(t, "")
		put("rejected", line("rejected", event), line("rejected", other))
		put(to, line(to, event))
		out, _, err := runCommand(t, "replay", "rejected", "--yes", "--data-dir", dir, "--config", config)
		if got := read("quarantine"); err != nil || len(got) != 1 || got[0]["actor"] != "https://e/2" || got[0]["conflict"] != true {
			t.Errorf("with the event in %s: %s, %v, quarantine has %v, want the other event alone, marked", to, out, err, got)
		}
	}
}

// An event that had its context from the item before it keeps it in a replay,
// as long as events may.
func TestReplayOfInheritedContexts(t *testing.T) {
	const noon = "2026-11-22T12:00:00.000Z"
	bare := func(id string) string {
		return strings.Replace(testEvent(id), `"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1",`, "", 1)
	}
	dir, read, put := openStore(t, "")
	put("standard",
		rejectedLine("T", noon, testEnvelopeHead+`,"event":`+bare("a")),
		rejectedLine("T", noon, testEnvelopeHead+`,"extra":["@context"],"event":`+bare("b")),
		rejectedLine("Other", noon, testEnvelopeHead+`,"extra":["@context"],"event":`+bare("c")))
	put("rejected",
		rejectedLine("T", noon, testEnvelopeHead+`,"reasons":[{"code":"type/action"}],"event":`+strings.Replace(bare("d"), "NavigatedTo", "Teleported", 1)),
		rejectedLine("T", noon, testEnvelopeHead+`,"reasons":[{"code":"@context"}],"event":`+bare("e")),
		rejectedLine("T", noon, testEnvelopeHead+`,"reasons":[{"code":"actor"}],"event":7`))
	const rules = "tools:\n  T:\n    vocabulary: {contexts: [https://t.example/ctx], actions: {NavigationEvent: [Teleported]}}\n" +
		"rules:\n  - {name: all, when: {type: NavigationEvent}, topic: enriched}\n"
	file := filepath.Join(t.TempDir(), "edge.yaml")
	f := func(topic, text string, want ...string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, _, err := runCommand(t, "replay", topic, "--yes", "--data-dir", dir, "--config", file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range want {
			if !strings.Contains(out, line) {
				t.Errorf("%s: %q is missing:\n%s", topic, line, out)
			}
		}
	}
	f("standard", rules, "T      -   2        0              @context", "nothing to write")
	f("standard", rules+"inherit_context: on\n", "T      enriched  2        0", "Other  -         1        0              @context", "2 records written")
	f("rejected", rules+"inherit_context: on\n", "T     enriched  1        0", "T     -         1        0              @context", "1 records written")
	var got []string
	for _, r := range read("enriched") {
		got = append(got, fmt.Sprint(r["id"], r["extra"], r["origin"], r["event"].(map[string]any)["@context"]))
	}
	want := "[a<nil>caliper-standard:1:1<nil> b[@context]caliper-standard:2:1<nil> d[type/action]caliper-rejected:1:1<nil>]"
	if fmt.Sprint(got) != want {
		t.Errorf("enriched has %v\nwant %s", got, want)
	}
}
