package stream

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Whole messages go, oldest first, up to the first with a record that was
// received at the time or later.
func TestPurgeBefore(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	_, js := connectOwn(t, dir)
	record := func(at time.Time) string {
		return fmt.Sprintf(`{"received":%q}`, at.UTC().Format("2006-01-02T15:04:05.000000000Z"))
	}
	stored := func() []TopicStatus {
		t.Helper()
		list, err := p.Status(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	old := time.Now().Add(-time.Hour)
	publish(t, p, message("standard", "1", record(old), record(old)))
	publish(t, p, message("standard", "2", record(old)))
	before := stored()[0].Newest.Add(time.Nanosecond)
	publish(t, p, message("standard", "3", record(old), record(before.Add(-time.Nanosecond)))) // stored later, received before
	publish(t, p, message("standard", "4", record(old), record(before)))                       // as new as the time itself
	publish(t, p, message("standard", "5", record(old)))                                       // behind one that stays
	for name, floor := range map[string]uint64{"reader": 2, "done": 3} {
		c, err := js.CreateConsumer(deadline(t), "caliper-standard", jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			t.Fatal(err)
		}
		for range floor {
			m, err := c.Next(jetstream.FetchMaxWait(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			if err := m.DoubleAck(deadline(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		before time.Time
		want   string
	}{{old, "0 0 0 0 []"}, {before, fmt.Sprintf("3 5 %d 4 [reader]", 5*(len(record(old))+1))}} {
		plan, err := PlanPurge(deadline(t), js, testLayout(), "standard", c.before)
		if got := fmt.Sprint(plan.Messages, plan.Records, plan.Bytes, plan.Keep, plan.Unread); err != nil || got != c.want {
			t.Errorf("before %v: %s, %v, want %s", c.before, got, err, c.want)
		}
		if n := stored()[0].Messages; n != 5 {
			t.Fatalf("a plan left %d messages", n)
		}
	}
	plan, err := PlanPurge(deadline(t), js, testLayout(), "standard", before)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, p, message("standard", "6", record(old)))
	if err := plan.Do(deadline(t), js, ""); err != nil {
		t.Fatal(err)
	}
	each, got := collect()
	if err := Tail(deadline(t), js, testLayout(), "standard", TailOptions{}, each); err != nil {
		t.Fatal(err)
	}
	if len(*got) != 4 || (*got)[0][:len("caliper-standard:4:1")] != "caliper-standard:4:1" {
		t.Errorf("what is left is %q", *got)
	}
}

// A topic of which everything is old is emptied; an empty one stays.
func TestPurgeAll(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	_, js := connectOwn(t, dir)
	publish(t, p, message("standard", "1", `{"received":"2020-01-01T00:00:00.000Z"}`))
	for _, messages := range []uint64{1, 0} {
		plan, err := PlanPurge(deadline(t), js, testLayout(), "standard", time.Now().Add(time.Second))
		if err != nil || plan.Messages != messages {
			t.Fatalf("plan %+v, %v, want %d messages", plan, err, messages)
		}
		if err := plan.Do(deadline(t), js, ""); err != nil {
			t.Fatal(err)
		}
		if list, err := p.Status(deadline(t)); err != nil || list[0].Messages != 0 {
			t.Fatalf("%d messages are left, %v", list[0].Messages, err)
		}
	}
	if _, err := PlanPurge(deadline(t), js, testLayout(), "nowhere", time.Now()); err == nil {
		t.Error("an unknown topic is taken")
	}
}
