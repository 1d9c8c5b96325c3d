package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline"
	"caliperedge/pipeline/keymap"
)

func moverLayout() Layout {
	l := testLayout()
	for _, name := range []string{topicQuarantine, topicEnriched} {
		l.Topics = append(l.Topics, Topic{Name: name, MaxAge: time.Hour, MaxBytes: 32 << 20})
	}
	return l
}

func openForMoving(t *testing.T, dir string) *Publisher {
	t.Helper()
	p, err := OpenEmbedded(deadline(t), EmbeddedConfig{Dir: dir, Listen: "127.0.0.1:0", Layout: moverLayout(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// mover is an edge's mover with its key map.
type mover struct {
	*Mover
	follower *KeymapFollower
	closed   bool
}

func startMover(t *testing.T, p *Publisher, age time.Duration) *mover {
	t.Helper()
	return startMoverWith(t, p, MoverConfig{MaxAge: age})
}

func startMoverWith(t *testing.T, p *Publisher, cfg MoverConfig) *mover {
	t.Helper()
	table := new(keymap.Map)
	if cfg.Keys == nil {
		cfg.Keys = table
	}
	cfg.Encoding, cfg.Logger = "snappy", quiet()
	moves, err := NewMover(p, cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := &mover{Mover: moves}
	m.follower = FollowKeymap(FollowConfig{JetStream: p.JetStream, Layout: p.layout, Map: table, Changed: m.Changed, Logger: quiet()})
	m.Start(m.follower.Loaded())
	t.Cleanup(m.close)
	return m
}

func (m *mover) close() {
	if !m.closed {
		m.closed = true
		m.Mover.Close()
		m.follower.Close()
	}
}

// record is one that waits for the key of a course.
func waitingRecord(id, course string, received time.Time) string {
	return fmt.Sprintf(`{"id":%q,"type":"ViewEvent","tool":"Engage","topic":"quarantine","received":%q,"identifiers":{"course":[%q]},"awaits":["course"],"event":{"id":%[1]q}}`,
		id, received.UTC().Format("2006-01-02T15:04:05.000Z"), course)
}

// movedRecord is what tests look at of a record.
type movedRecord struct {
	ID, Topic, Origin string
	Keys              map[string]string
	Awaits            []string
	at                Address
}

// records reads a topic to its end.
func records(t *testing.T, js jetstream.JetStream, topic string) []movedRecord {
	t.Helper()
	var all []movedRecord
	err := Tail(deadline(t), js, moverLayout(), topic, TailOptions{}, func(line []byte, at Address) error {
		r := movedRecord{at: at}
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		if r.Topic != topic {
			t.Errorf("in %s stands a record of %s", topic, r.Topic)
		}
		all = append(all, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func count(t *testing.T, js jetstream.JetStream, topic string) func(n int) func() bool {
	return func(n int) func() bool { return func() bool { return len(records(t, js, topic)) == n } }
}

func TestMoverMovesWhatTheKeymapLearns(t *testing.T) {
	dir := t.TempDir()
	p := openForMoving(t, dir)
	js := p.JetStream()
	now := time.Now()
	publish(t, p, message("quarantine", "1", waitingRecord("a", "63", now), waitingRecord("b", "64", now), waitingRecord("c", "63", now)))
	publish(t, p, message("quarantine", "2", waitingRecord("d", "65", now)))
	importRows(t, js, course("65", "C65"))
	m := startMover(t, p, time.Hour)
	eventually(t, "what is known at the start moves", count(t, js, "enriched")(1))
	publish(t, p, message("quarantine", "3", waitingRecord("e", "65", now)))
	eventually(t, "what comes later moves", count(t, js, "enriched")(2))

	importRows(t, js, course("63", "C63"))
	eventually(t, "what is learned moves", count(t, js, "enriched")(4))
	eventually(t, "the rest waits", count(t, js, "quarantine")(1))
	if rest := records(t, js, "quarantine")[0]; rest.ID != "b" || rest.Origin != "caliper-quarantine:1:2" {
		t.Errorf("what waits is %+v", rest)
	}
	eventually(t, "the numbers are right", func() bool {
		s := m.Stats()
		return s.Enriched == 4 && s.Standard == 0 && s.Waiting == 1 && s.Messages == 1 && s.Failures == 0 && s.Oldest.Equal(now.Truncate(time.Millisecond))
	})
	importRows(t, js, course("64", "C64"))
	eventually(t, "the rest moves", count(t, js, "enriched")(5))
	eventually(t, "nothing waits", count(t, js, "quarantine")(0))
	want := map[string]string{
		"a": "caliper-quarantine:1:1 map[course:C63] []", "b": "caliper-quarantine:1:2 map[course:C64] []", "c": "caliper-quarantine:1:3 map[course:C63] []",
		"d": "caliper-quarantine:2:1 map[course:C65] []", "e": "caliper-quarantine:3:1 map[course:C65] []"}
	for _, r := range records(t, js, "enriched") {
		if got := fmt.Sprint(r.Origin, " ", r.Keys, " ", r.Awaits); got != want[r.ID] {
			t.Errorf("record %s has moved as %s, want %s", r.ID, got, want[r.ID])
		}
	}
}

func TestMoverMovesWhatIsOld(t *testing.T) {
	p := openForMoving(t, t.TempDir())
	js := p.JetStream()
	now := time.Now()
	importRows(t, js, course("63", "C63"))
	publish(t, p, message("quarantine", "1", waitingRecord("known", "63", now.Add(-2*time.Hour)), waitingRecord("old", "64", now.Add(-2*time.Hour)),
		waitingRecord("young", "64", now), waitingRecord("soon", "64", now.Add(-time.Hour+3*time.Second))))
	startMover(t, p, time.Hour)
	eventually(t, "what is old and what gets old moves", count(t, js, "standard")(2))
	eventually(t, "what is young waits", count(t, js, "quarantine")(1))
	enriched, standard := records(t, js, "enriched"), records(t, js, "standard")
	if len(enriched) != 1 || enriched[0].ID != "known" {
		t.Errorf("enriched are %+v, want the one whose key is known", enriched)
	}
	if standard[0].ID != "old" || standard[0].Origin != "caliper-quarantine:1:2" || fmt.Sprint(standard[0].Awaits) != "[course]" || standard[1].ID != "soon" {
		t.Errorf("standard are %+v", standard)
	}
}

// TestMoverKeepsRecordsInTheirSize is that no record grows above the limit by what
// moving adds: it goes to standard without the keys, or whatever it takes.
func TestMoverKeepsRecordsInTheirSize(t *testing.T) {
	p := openForMoving(t, t.TempDir())
	js := p.JetStream()
	large := func(id, course string, below int) string {
		bare := waitingRecord(id, course, time.Now())
		fill := pipeline.MaxRecordBytes - below - len(bare) - len(`"fill":"",`)
		return strings.Replace(bare, `"event":{`, `"event":{"fill":"`+strings.Repeat("x", fill)+`",`, 1)
	}
	importRows(t, js, course("63", strings.Repeat("C", 100)))
	publish(t, p, message("quarantine", "1", large("fits", "63", 200)))
	publish(t, p, message("quarantine", "2", large("keys", "63", 100)))
	publish(t, p, message("quarantine", "3", large("origin", "64", 10)))
	publish(t, p, message("quarantine", "4", large("full", "64", 0), waitingRecord("waits", "64", time.Now())))
	startMover(t, p, time.Hour)
	eventually(t, "what is too large moves", count(t, js, "standard")(3))
	eventually(t, "the rest waits", count(t, js, "quarantine")(1))
	if rest := records(t, js, "quarantine"); rest[0].ID != "waits" {
		t.Errorf("%+v wait", rest)
	}
	if all := records(t, js, "enriched"); len(all) != 1 || all[0].ID != "fits" {
		t.Errorf("enriched are %+v", all)
	}
	want := map[string]string{"keys": "caliper-quarantine:2:1 [course]", "origin": "caliper-quarantine:3:1 []", "full": "caliper-quarantine:4:1 []"}
	for _, r := range records(t, js, "standard") {
		if got := fmt.Sprint(r.Origin, " ", r.Awaits); got != want[r.ID] || r.Keys != nil {
			t.Errorf("record %s has moved as %s with keys %v, want %s and none", r.ID, got, r.Keys, want[r.ID])
		}
	}
	for _, topic := range []string{"standard", "enriched"} {
		err := Tail(deadline(t), js, moverLayout(), topic, TailOptions{}, func(line []byte, at Address) error {
			if len(line) > pipeline.MaxRecordBytes {
				t.Errorf("%s has %d bytes", at, len(line))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestMoverJoinsWhatCameSlowly is that messages of single records do not stay
// so many, and that their records move with their first addresses.
func TestMoverJoinsWhatCameSlowly(t *testing.T) {
	p := openForMoving(t, t.TempDir())
	js := p.JetStream()
	m := startMover(t, p, time.Hour)
	const n = 3 * mergeHeld
	for i := range n {
		publish(t, p, message("quarantine", fmt.Sprint(i), waitingRecord(fmt.Sprint(i), "63", time.Now())))
	}
	eventually(t, "few messages wait", func() bool {
		list, err := p.Status(deadline(t))
		return err == nil && list[3].Topic == "quarantine" && list[3].Messages < mergeHeld
	})
	eventually(t, "all records wait", func() bool { return m.Stats().Waiting == n })
	importRows(t, js, course("63", "C63"))
	eventually(t, "all move", count(t, js, "enriched")(n))
	eventually(t, "nothing waits", count(t, js, "quarantine")(0))
	once(t, js, n)
	for _, r := range records(t, js, "enriched") {
		if want := "caliper-quarantine:"; len(r.Origin) < len(want) || r.Origin[:len(want)] != want {
			t.Errorf("record %s has origin %q", r.ID, r.Origin)
		}
	}
}

// TestMoverAfterAKill stores what a mover does that is killed before it deletes
// a message. Another one recognises it inside the duplicate window; beyond it the
// record is doubled with equal origin, and readers can tell.
func TestMoverAfterAKill(t *testing.T) {
	for _, c := range []struct {
		name   string
		window time.Duration
		stored int
	}{{"Inside", duplicateWindow, 1}, {"Beyond", 100 * time.Millisecond, 2}} {
		t.Run(c.name, func(t *testing.T) {
			p := openForMoving(t, t.TempDir())
			js := p.JetStream()
			cfg, err := streamConfig(deadline(t), js, "caliper-enriched")
			if err != nil {
				t.Fatal(err)
			}
			cfg.Duplicates = c.window
			if _, err := js.UpdateStream(deadline(t), cfg); err != nil {
				t.Fatal(err)
			}
			record := waitingRecord("a", "63", time.Now())
			publish(t, p, message("quarantine", "1", record))
			const origin = "caliper-quarantine:1:1"
			line := moved([]byte(record), "enriched", origin, []byte(`{"course":"C63"}`))
			publish(t, p, message("enriched", origin, string(line[:len(line)-1])))
			time.Sleep(2 * min(c.window, time.Second))
			importRows(t, js, course("63", "C63"))
			startMover(t, p, time.Hour)
			eventually(t, "it moves", count(t, js, "quarantine")(0))
			dedup, unique := NewDedup(10), 0
			dedup.Seen([]byte(record))
			all := records(t, js, "enriched")
			for _, r := range all {
				if r.Origin != origin {
					t.Errorf("origin %q, want %q", r.Origin, origin)
				}
			}
			err = Tail(deadline(t), js, moverLayout(), "enriched", TailOptions{}, func(line []byte, _ Address) error {
				if !dedup.Seen(line) {
					unique++
				}
				return nil
			})
			if err != nil || len(all) != c.stored || unique != 0 {
				t.Errorf("%d records, want %d; %d of them are new to one who has read quarantine, %v", len(all), c.stored, unique, err)
			}
		})
	}
}

// killedMover takes the messages of quarantine into its hands as a mover does,
// and does nothing with them.
func killedMover(t *testing.T, js jetstream.JetStream, n int) []jetstream.Msg {
	t.Helper()
	cons, err := js.CreateOrUpdateConsumer(deadline(t), "caliper-quarantine", moverConsumerConfig)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := cons.Fetch(n)
	if err != nil {
		t.Fatal(err)
	}
	var msgs []jetstream.Msg
	for msg := range batch.Messages() {
		msgs = append(msgs, msg)
	}
	if len(msgs) != n {
		t.Fatalf("%d messages, want %d, %v", len(msgs), n, batch.Error())
	}
	return msgs
}

// TestMoverAloneTakesOver is that a mover that knows to be alone does not wait
// for the server to miss the one before: nothing is delivered a second time.
func TestMoverAloneTakesOver(t *testing.T) {
	p := openForMoving(t, t.TempDir())
	js := p.JetStream()
	publish(t, p, message("quarantine", "1", waitingRecord("a", "63", time.Now())))
	killedMover(t, js, 1)
	importRows(t, js, course("63", "C63"))
	startMoverWith(t, p, MoverConfig{MaxAge: time.Hour, Alone: true})
	eventually(t, "it moves", count(t, js, "enriched")(1))
	cons, err := js.Consumer(deadline(t), "caliper-quarantine", moverConsumer)
	if err != nil || cons.CachedInfo().Delivered.Consumer != 1 {
		t.Errorf("delivered %d times, %v", cons.CachedInfo().Delivered.Consumer, err)
	}
}

// TestMoverCountsWhatOthersHold is that the numbers are of the topic, whoever
// has its messages.
func TestMoverCountsWhatOthersHold(t *testing.T) {
	p := openForMoving(t, t.TempDir())
	js := p.JetStream()
	publish(t, p, message("quarantine", "1", waitingRecord("a", "63", time.Now()), waitingRecord("b", "63", time.Now()), waitingRecord("c", "63", time.Now())))
	held := killedMover(t, js, 1)[0] // one that lives, until it ends
	publish(t, p, message("quarantine", "2", waitingRecord("d", "63", time.Now()), waitingRecord("e", "63", time.Now())))
	m := startMover(t, p, time.Hour)
	waiting := func(records, messages int) func() bool {
		return func() bool {
			if held != nil && held.InProgress() != nil {
				t.Error("the message is no longer in hand")
			}
			s := m.Stats()
			return s.Waiting == records && s.Messages == messages && s.Oldest.IsZero() == (records == 0)
		}
	}
	eventually(t, "both messages count", waiting(5, 2))
	if err := held.Nak(); err != nil {
		t.Fatal(err)
	}
	held = nil
	eventually(t, "both are in hand", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return len(m.held) == 2 })
	eventually(t, "each counts once", waiting(5, 2))
	importRows(t, js, course("63", "C63"))
	eventually(t, "all move", count(t, js, "enriched")(5))
	eventually(t, "nothing waits", waiting(0, 0))
}

// stillKeys answer when they are let go on.
type stillKeys struct{ goOn chan struct{} }

func (k stillKeys) Lookup(string, string, []byte) (string, bool) {
	<-k.goOn
	return "", false
}

func TestMoverCountsWhatIsInWork(t *testing.T) {
	p := openForMoving(t, t.TempDir())
	keys := stillKeys{make(chan struct{})}
	publish(t, p, message("quarantine", "1", waitingRecord("a", "63", time.Now()), waitingRecord("b", "63", time.Now())))
	m := startMoverWith(t, p, MoverConfig{MaxAge: time.Hour, Keys: keys})
	eventually(t, "the message is in work", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return len(m.held) == 1 })
	if s := m.Stats(); s.Waiting != 2 || s.Messages != 1 {
		t.Errorf("%d records wait in %d messages, want 2 in 1", s.Waiting, s.Messages)
	}
	close(keys.goOn)
}

// once demands that events 0 to n-1 are each once in enriched or standard, or
// again with equal origin, and returns how many are doubled.
func once(t *testing.T, js jetstream.JetStream, n int) (doubled int) {
	t.Helper()
	origins := map[string]string{}
	for _, topic := range []string{"enriched", "standard"} {
		for _, r := range records(t, js, topic) {
			switch origin, again := origins[r.ID]; {
			case !again:
				origins[r.ID] = r.Origin
			case origin == r.Origin:
				doubled++
			default:
				t.Errorf("event %s stands twice, with origins %s and %s", r.ID, origin, r.Origin)
			}
		}
	}
	if len(origins) != n {
		t.Errorf("%d events have arrived, want %d", len(origins), n)
	}
	return doubled
}

// TestTwoMovers shares the work among edges on one external server, of which
// one goes away and comes back all the time.
func TestTwoMovers(t *testing.T) {
	dir := t.TempDir()
	srv := openForMoving(t, dir)
	edge := func() *Publisher {
		p, err := OpenRemote(deadline(t), RemoteConfig{Server: Server{URL: ownURL(t, dir)}, Layout: moverLayout(), Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		return p
	}
	one, two := edge(), edge()
	first, second := startMover(t, one, time.Hour), startMover(t, two, time.Hour)
	const courses, events = 20, 600
	n := 0
	for round := range 6 {
		for range events / 6 / 5 {
			var lines []string
			for range 5 {
				lines = append(lines, waitingRecord(fmt.Sprint(n), fmt.Sprint(rand.IntN(courses)), time.Now()))
				n++
			}
			publish(t, srv, message("quarantine", fmt.Sprint(n), lines...))
		}
		importRows(t, srv.JetStream(), course(fmt.Sprint(3*round), "C"), course(fmt.Sprint(3*round+1), "C"))
		second.close()
		second = startMover(t, two, time.Hour)
	}
	var rows []keymap.Row
	for i := range courses {
		rows = append(rows, course(fmt.Sprint(i), "C"))
	}
	importRows(t, srv.JetStream(), rows...)
	// What was on its way to a mover that went away comes again after a while.
	for end := time.Now().Add(4 * moverAckWait); !count(t, srv.JetStream(), "quarantine")(0)(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d records still wait; first %+v, second %+v", len(records(t, srv.JetStream(), "quarantine")), first.Stats(), second.Stats())
		}
	}
	if doubled := once(t, srv.JetStream(), n); doubled > 0 {
		t.Errorf("%d events are doubled", doubled)
	}
	if f := first.Stats(); f.Enriched == 0 {
		t.Errorf("the first mover has moved nothing")
	}
}

// TestMoverAndReplays is that records that a replay took from one refused body,
// and which share its address, do not pass for repetitions of each other.
func TestMoverAndReplays(t *testing.T) {
	p := openForMoving(t, t.TempDir())
	js := p.JetStream()
	replayed := func(id string) string {
		return strings.Replace(waitingRecord(id, "63", time.Now()), `,"event":`, `,"origin":"caliper-rejected:7:1","event":`, 1)
	}
	publish(t, p, message("quarantine", "1", replayed("0"), replayed("1"), replayed("2")))
	publish(t, p, message("quarantine", "2", replayed("0"))) // replayed again
	// What is no message of ours is left alone.
	if _, err := js.Publish(deadline(t), "caliper.quarantine", []byte("stranger")); err != nil {
		t.Fatal(err)
	}
	importRows(t, js, course("63", "C63"))
	startMover(t, p, time.Hour)
	eventually(t, "they move", count(t, js, "enriched")(3))
	eventually(t, "the stranger stays alone", func() bool {
		list, err := p.Status(deadline(t))
		return err == nil && list[3].Topic == "quarantine" && list[3].Messages == 1
	})
	once(t, js, 3)
	for _, r := range records(t, js, "enriched") {
		if r.Origin != "caliper-rejected:7:1" {
			t.Errorf("record %s has origin %s", r.ID, r.Origin)
		}
	}
}

// TestMoverRate moves as many records as MOVER_RECORDS says and tells how long
// that took.
func TestMoverRate(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("MOVER_RECORDS"))
	if err != nil {
		t.Skip("MOVER_RECORDS says how many")
	}
	p := openForMoving(t, t.TempDir())
	importRows(t, p.JetStream(), course("63", "C63"))
	for i := 0; i < n; i += 100 {
		var lines []string
		for k := range 100 {
			lines = append(lines, waitingRecord(fmt.Sprint(i+k), "63", time.Now()))
		}
		publish(t, p, message("quarantine", fmt.Sprint(i), lines...))
	}
	start := time.Now()
	m := startMover(t, p, time.Hour)
	eventually(t, "all move", func() bool { return m.Stats().Enriched == uint64(n) })
	t.Logf("%d records in %v: %.0f a second", n, time.Since(start), float64(n)/time.Since(start).Seconds())
}

// TestMoverDoesNotSpin is that waiting costs the store nothing: nothing is
// delivered again while the key map does not change, or changes elsewhere.
func TestMoverDoesNotSpin(t *testing.T) {
	p := openForMoving(t, t.TempDir())
	js := p.JetStream()
	m := startMover(t, p, time.Hour)
	publish(t, p, message("quarantine", "1", waitingRecord("a", "63", time.Now()), waitingRecord("b", "64", time.Now())))
	eventually(t, "it waits", func() bool { return m.Stats().Waiting == 2 })
	delivered := func() uint64 {
		c, err := js.Consumer(deadline(t), "caliper-quarantine", moverConsumer)
		if err != nil {
			t.Fatal(err)
		}
		return c.CachedInfo().Delivered.Consumer
	}
	before := delivered()
	importRows(t, js, course("70", "C70"))
	eventually(t, "the change was acted on", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.acted > 0 && m.first.IsZero()
	})
	touched := func() time.Time {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, h := range m.held {
			return h.touched
		}
		return time.Time{}
	}
	start := touched()
	eventually(t, "the server was told twice that it is in hand", func() bool { return touched().Sub(start) > moverTouch })
	if after := delivered(); after != before {
		t.Errorf("delivered %d times, was %d", after, before)
	}
	importRows(t, js, course("63", "C63"))
	eventually(t, "what matters is acted on", count(t, js, "enriched")(1))
}

// TestMoverWhenTopicsAreFull is that nothing is lost or doubled for want of room.
func TestMoverWhenTopicsAreFull(t *testing.T) {
	layout := moverLayout()
	for i, topic := range layout.Topics {
		if topic.Name == topicEnriched {
			layout.Topics[i].MaxBytes = 4 << 10
		}
	}
	p, err := OpenEmbedded(deadline(t), EmbeddedConfig{Dir: t.TempDir(), Layout: layout, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	js := p.JetStream()
	const n = 40
	var lines []string
	for i := range n {
		lines = append(lines, waitingRecord(fmt.Sprint(i), "63", time.Now()))
	}
	publish(t, p, message("quarantine", "1", lines...))
	importRows(t, js, course("63", "C63"))
	m := startMover(t, p, time.Hour)
	eventually(t, "the topic is full", func() bool { return m.Stats().Failures > 0 })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := Apply(ctx, js, moverLayout()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "with room all move", count(t, js, "enriched")(n))
	eventually(t, "nothing waits", count(t, js, "quarantine")(0))
	if doubled := once(t, js, n); doubled > 0 {
		t.Errorf("%d events are doubled", doubled)
	}
}

// A stream that lets nothing be deleted would have its records move again and
// again: none does.
func TestMoverOfAStreamThatDeniesDeletion(t *testing.T) {
	p := openForMoving(t, t.TempDir())
	js := p.JetStream()
	change := func(topic string, how func(c *jetstream.StreamConfig)) {
		t.Helper()
		c, err := streamConfig(deadline(t), js, p.layout.Stream(topic))
		if err != nil {
			t.Fatal(err)
		}
		how(&c)
		if _, err := js.UpdateStream(deadline(t), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.CheckQuarantine(deadline(t), time.Minute); err != nil {
		t.Errorf("an ordinary stream: %v", err)
	}
	if err := p.CheckQuarantine(deadline(t), time.Hour); err == nil || !strings.Contains(err.Error(), "maximum age is 1h0m0s, want more than the 1h0m0s of quarantine-age") {
		t.Errorf("records that would be gone before they move: %v", err)
	}
	change(topicQuarantine, func(c *jetstream.StreamConfig) { c.DenyDelete = true })
	change(topicStandard, func(c *jetstream.StreamConfig) { c.Duplicates = 100 * time.Millisecond }) // the server's least
	if err := p.CheckQuarantine(deadline(t), time.Minute); err == nil || !strings.Contains(err.Error(), "stream caliper-quarantine: deny_delete is true, want false") {
		t.Errorf("a stream that denies deletion: %v", err)
	}
	publish(t, p, message(topicQuarantine, "1", waitingRecord("a", "63", time.Now().Add(-time.Hour))))
	m := startMover(t, p, time.Minute)
	eventually(t, "it is tried twice", func() bool { return m.Stats().Failures >= 2 })
	if moved := records(t, js, topicStandard); len(moved) > 0 {
		t.Errorf("%d records moved, and would again", len(moved))
	}
	if waits := records(t, js, topicQuarantine); len(waits) != 1 {
		t.Errorf("%d records wait", len(waits))
	}
}
