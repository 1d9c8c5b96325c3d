package stream

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"caliperedge/pipeline"
)

// recordOf is a record of tool and id.
func recordOf(tool, id, event string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"type":"ViewEvent","action":"Viewed","tool":%q,"topic":"standard","event":%s}`, id, tool, event)
}

// Recent reads topics from their ends, until it is told that it is enough.
func TestRecent(t *testing.T) {
	p := openDir(t, t.TempDir())
	const messages = 3 * minChunk
	publish := func(topic string, n int) {
		t.Helper()
		body := append(recordOf("tool", fmt.Sprintf("%s-%d", topic, n), "{}"), '\n')
		body = append(body, body...)
		m := pipeline.Message{Topic: topic, ID: fmt.Sprint(topic, n), Records: 2, Bytes: len(body), Body: body}
		if _, err := p.Publish(t.Context(), &m); err != nil {
			t.Fatal(err)
		}
	}
	for n := range messages {
		publish("standard", n+1)
	}
	between := time.Now()
	publish("tight", 1)

	read := func(ctx context.Context, since time.Time, limit int) (seen map[string][]uint64, reached time.Time) {
		t.Helper()
		seen, records := make(map[string][]uint64), 0
		reached, err := p.Recent(ctx, []string{"standard", "tight"}, since, func(topic string, sequence uint64, stored time.Time, record []byte) bool {
			if who, ok := pipeline.IdentityOf(record); !ok || string(who.ID) != fmt.Sprintf("%q", fmt.Sprintf("%s-%d", topic, sequence)) || time.Since(stored) > time.Hour {
				t.Errorf("%s:%d, stored %v, is %s", topic, sequence, stored, record)
			}
			seen[topic] = append(seen[topic], sequence)
			records++
			return records < limit
		})
		if err != nil {
			t.Fatal(err)
		}
		return seen, reached
	}
	everything := time.Now().Add(-time.Hour)
	seen, reached := read(t.Context(), everything, 1000)
	if len(seen["tight"]) != 2 || !reached.Equal(everything) {
		t.Errorf("read %v, reached %v", seen, reached)
	}
	slices.Sort(seen["standard"])
	if all := slices.Compact(seen["standard"]); len(all) != messages {
		t.Errorf("read %d messages of %d", len(all), messages)
	}
	seen, reached = read(t.Context(), everything, minChunk)
	if len(seen["tight"]) != 2 || len(seen["standard"]) != 2*minChunk || !slices.Contains(seen["standard"], messages) || !reached.After(everything) {
		t.Errorf("told to stop: read %v, reached %v", seen, reached)
	}
	if seen, _ = read(t.Context(), between, 1000); len(seen["tight"]) != 2 || len(seen["standard"]) != 0 {
		t.Errorf("read %v for what was stored last", seen)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Recent(ended, []string{"standard"}, everything, nil); err == nil {
		t.Error("no error where the streams cannot be asked")
	}
}

// The end of ctx in the middle of a chunk is no error: Recent stops there, and
// tells of the chunks that it has read to their ends.
func TestRecentEndsWhileReading(t *testing.T) {
	p := openDir(t, t.TempDir())
	const messages = 8 * minChunk // at first minChunk are read, then four times as many
	for n := range messages {
		publish(t, p, message("standard", fmt.Sprint(n), `"standard"`))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stored := make(map[uint64]time.Time)
	since := time.Now().Add(-time.Hour)
	reached, err := p.Recent(ctx, []string{"standard"}, since, func(_ string, sequence uint64, at time.Time, _ []byte) bool {
		stored[sequence] = at
		if len(stored) > minChunk {
			cancel()
			time.Sleep(20 * time.Millisecond) // time enough for one of those that follow to be the last
		}
		return true
	})
	if err != nil {
		t.Errorf("the end of the context is an error: %v", err)
	}
	if whole := stored[messages-minChunk+1]; whole.IsZero() || !reached.Equal(whole) {
		t.Errorf("reached %v, want %v, when the first message of the only whole chunk was stored", reached, whole)
	}
	if len(stored) <= minChunk || len(stored) >= 5*minChunk {
		t.Errorf("read %d messages, want some of the %d behind the first %d", len(stored), 4*minChunk, minChunk)
	}
}

// A topic of which nearly all has been deleted, as quarantine is, keeps Recent from
// none of the others: it does not wait for what is gone.
func TestRecentPassesOverGaps(t *testing.T) {
	defer func(d time.Duration) { tailPause = d }(tailPause)
	tailPause = time.Hour
	p := openDir(t, t.TempDir())
	publish(t, p, message("standard", "1", `"standard"`))
	s, err := p.JetStream().Stream(deadline(t), "caliper-tight")
	if err != nil {
		t.Fatal(err)
	}
	for n := range 8 * minChunk {
		ack := publish(t, p, message("tight", fmt.Sprint(n), `"tight"`))
		if n == 0 {
			continue
		}
		if err := s.DeleteMsg(deadline(t), ack.Sequence); err != nil {
			t.Fatal(err)
		}
	}
	var seen []string
	since := time.Now().Add(-time.Hour)
	reached, err := p.Recent(deadline(t), []string{"standard", "tight"}, since, func(_ string, _ uint64, _ time.Time, record []byte) bool {
		seen = append(seen, string(record))
		return true
	})
	if slices.Sort(seen); err != nil || !reached.Equal(since) || !slices.Equal(seen, []string{`"standard"`, `"tight"`}) {
		t.Errorf("read %v back to %v, %v, want both records back to %v", seen, reached, err, since)
	}
}

func TestDedup(t *testing.T) {
	d := NewDedup(3)
	for i, c := range []struct {
		record []byte
		seen   bool
	}{
		{recordOf("t", "a", "{}"), false},
		{recordOf("t", "a", "{}"), true},
		{recordOf("u", "a", "{}"), false},
		{recordOf("t", "a", "[]"), false},
		{recordOf("t", "b", "{}"), false}, // the generation before has three
		{recordOf("t", "a", "{}"), true},
		{recordOf("t", "c", "{}"), false},
		{recordOf("t", "d", "{}"), false},
		{recordOf("u", "a", "{}"), false}, // forgotten
		{[]byte(`{"tool":"t","reasons":[],"raw":"AA=="}`), false},
		{[]byte(`{"tool":"t","reasons":[],"raw":"AA=="}`), false},
		{[]byte(`{`), false},
	} {
		if got := d.Seen(c.record); got != c.seen {
			t.Errorf("%d: %s was seen: %v", i, c.record, got)
		}
	}
}
