package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A warning or error keeps its like quiet for a while, and then tells how many
// were held back; others, and information, are not touched.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, err := newLogger(&out, "json", "info")
		if err != nil {
			t.Fatal(err)
		}
		lines := func() int { return strings.Count(out.String(), "\n") }
		for range 5 {
			log.Error("store is away", "error", "x")
			log.With("topic", "standard").Error("store is away")
		}
		if lines() != 1 {
			t.Errorf("ten times the same error gave %d lines", lines())
		}
		log.Warn("another")
		for range 3 {
			log.Info("told")
		}
		if lines() != 5 {
			t.Errorf("a warning and three pieces of information gave %d lines more", lines()-1)
		}
		time.Sleep(throttleFor)
		out.Reset()
		log.Error("store is away", "error", "y")
		if got := out.String(); !strings.Contains(got, `"held_back":9`) || !strings.Contains(got, `"error":"y"`) {
			t.Errorf("after a while: %s", got)
		}
	})
}

func TestLoggerRefusesALevel(t *testing.T) {
	if _, err := newLogger(new(bytes.Buffer), "text", "loud"); err == nil || !strings.Contains(err.Error(), `"loud"`) {
		t.Errorf("error %v", err)
	}
	if log, err := newLogger(new(bytes.Buffer), "text", "warn"); err != nil || log.Enabled(t.Context(), slog.LevelInfo) {
		t.Errorf("level warn: %v", err)
	}
}
