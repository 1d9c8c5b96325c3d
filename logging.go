package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// newLogger returns the program's logger: structured, to w, with repeated
// warnings and errors throttled.
func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	l, err := logLevel(level)
	if err != nil {
		return nil, err
	}
	opts := &slog.HandlerOptions{Level: l}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if format == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	return slog.New(&throttle{Handler: h, seen: &sightings{last: make(map[string]*sighting)}}), nil
}

func logLevel(name string) (l slog.Level, err error) {
	if l.UnmarshalText([]byte(name)) != nil {
		err = fmt.Errorf("%q, expected debug, info, warn or error", name)
	}
	return l, err
}

const (
	// throttleFor is how long a warning or error keeps its like quiet.
	throttleFor = 10 * time.Second
	// maxSightings bounds what is remembered of messages; they are constants
	// of the program, so it is never reached.
	maxSightings = 1000
)

// throttle lets a warning or error of one message through every throttleFor,
// with the number of those it held back. A store that is away must not fill
// the disk with what is said about it.
type throttle struct {
	slog.Handler
	seen *sightings
}

type sightings struct {
	mu   sync.Mutex
	last map[string]*sighting
}

type sighting struct {
	at   time.Time
	held int
}

func (t *throttle) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		held, pass := t.seen.pass(r.Message, r.Time)
		if !pass {
			return nil
		}
		if held > 0 {
			r = r.Clone()
			r.AddAttrs(slog.Int("held_back", held))
		}
	}
	return t.Handler.Handle(ctx, r)
}

func (s *sightings) pass(message string, now time.Time) (held int, pass bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.last[message]
	if last == nil {
		if len(s.last) >= maxSightings {
			return 0, true
		}
		s.last[message] = &sighting{at: now}
		return 0, true
	}
	if now.Sub(last.at) < throttleFor {
		last.held++
		return 0, false
	}
	held = last.held
	*last = sighting{at: now}
	return held, true
}

func (t *throttle) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &throttle{Handler: t.Handler.WithAttrs(attrs), seen: t.seen}
}

func (t *throttle) WithGroup(name string) slog.Handler {
	return &throttle{Handler: t.Handler.WithGroup(name), seen: t.seen}
}
