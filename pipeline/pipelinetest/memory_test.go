package pipelinetest

import (
	"context"
	"errors"
	"testing"

	"caliperedge/pipeline"
)

func TestMemory(t *testing.T) {
	TestPublisher(t, func(*testing.T) pipeline.Publisher {
		return &Memory{Topics: map[string]int64{TopicRoomy: 16 << 20, TopicTight: TightBytes}}
	})
}

func TestMemoryKeepsACopy(t *testing.T) {
	p := NewMemory("standard")
	m := message("standard", "1", 20)
	want := string(m.Body)
	publish(t, p, m)
	clear(m.Body)
	if got := p.Messages("standard"); len(got) != 1 || string(got[0].Body) != want {
		t.Errorf("stored %d messages, want one with body %q", len(got), want)
	}
	p.Purge()
	if got := p.Messages("standard"); len(got) != 0 {
		t.Errorf("%d messages after Purge", len(got))
	}
}

func TestMemoryStoredButNotTold(t *testing.T) {
	lost := errors.New("lost")
	p := NewMemory("standard")
	p.After = func(_ context.Context, m *pipeline.Message) error {
		if m.ID == "1" {
			return lost
		}
		return nil
	}
	if _, err := p.Publish(context.Background(), message("standard", "1", 20)); !errors.Is(err, lost) {
		t.Fatalf("publish: %v, want %v", err, lost)
	}
	if n := len(p.Messages("standard")); n != 1 {
		t.Errorf("%d messages stored, want 1", n)
	}
	p.After = nil
	if ack := publish(t, p, message("standard", "1", 20)); !ack.Duplicate {
		t.Errorf("repetition: %+v, want a duplicate", ack)
	}
}
