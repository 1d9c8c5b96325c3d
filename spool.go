package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"caliperedge/pipeline"
	"caliperedge/pipeline/stream"

	"github.com/VictoriaMetrics/metrics"
)

// spoolMark is the file by which a spool folder is known. Events in it belong to
// the streams of one prefix.
type spoolMark struct {
	Prefix string `json:"prefix"`
}

func (c *config) spoolMarkPath() string { return filepath.Join(c.SpoolDir, "spool.json") }

// prepareSpool sees to it that the spool folder is there and ours: created with
// initialise, demanded without. A folder that holds something else is refused
// in any case.
func (c *config) prepareSpool(initialise bool) error {
	if c.SpoolDir == "" {
		return nil
	}
	text, err := os.ReadFile(c.spoolMarkPath())
	if err == nil {
		return c.checkSpool(text, initialise)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool folder: %w", err)
	}
	empty, err := isEmpty(c.SpoolDir)
	switch {
	case err == nil && !empty:
		return fmt.Errorf("spool folder: %s holds something else, expected a folder of its own", c.SpoolDir)
	case !initialise && err != nil:
		return fmt.Errorf("spool folder: %w; serve --init creates what is missing", err)
	case !initialise:
		return fmt.Errorf("spool folder: %s is empty, is its volume mounted; serve --init creates what is missing", c.SpoolDir)
	}
	if err := os.MkdirAll(c.SpoolDir, 0o700); err != nil {
		return fmt.Errorf("spool folder: %w", err)
	}
	if text, err = json.Marshal(spoolMark{c.Prefix}); err != nil {
		return err
	}
	if err := replaceFile(c.spoolMarkPath(), append(text, '\n')); err != nil {
		return fmt.Errorf("spool folder: %w", err)
	}
	return nil
}

// checkSpool looks whether a folder with that mark can be our spool.
func (c *config) checkSpool(text []byte, initialise bool) error {
	var mark spoolMark
	if err := json.Unmarshal(text, &mark); err != nil || mark.Prefix == "" {
		return fmt.Errorf("spool folder: %s is damaged, expected {\"prefix\":%q}", c.spoolMarkPath(), c.Prefix)
	}
	if mark.Prefix != c.Prefix {
		return fmt.Errorf("spool folder: %s belongs to the prefix %q, and this is %q: forward it with that, or name another folder", c.SpoolDir, mark.Prefix, c.Prefix)
	}
	if _, err := os.Stat(filepath.Join(c.SpoolDir, "jetstream")); err != nil && !initialise {
		return fmt.Errorf("spool folder: the store of %s is gone: %w; serve --init begins an empty one", c.SpoolDir, err)
	}
	return nil
}

// spoolBytes is the limit of the spool: half of the free space and its own,
// unless the configuration says otherwise.
func (c *config) spoolBytes() (int64, error) {
	if c.SpoolBytes > 0 {
		return int64(c.SpoolBytes), nil
	}
	room, err := roomBytes(c.SpoolDir)
	return max(room/2, minSpoolBytes), err
}

// openSpool opens the spool, if there is to be one.
func (s *server) openSpool(ctx context.Context) error {
	if s.cfg.SpoolDir == "" {
		return nil
	}
	bytes, err := s.cfg.spoolBytes()
	if err != nil {
		return err
	}
	key, old, err := s.storeKeys()
	if err != nil {
		return err
	}
	s.spool, err = stream.OpenSpool(ctx, s.publisher, stream.EmbeddedConfig{
		Dir: s.cfg.SpoolDir, MaxBytes: bytes, Key: key, OldKey: old, Logger: s.log, Stuck: s.stuck(s.cfg.SpoolDir)})
	return err
}

// store is what batches are published to.
func (s *server) store() pipeline.Publisher {
	if s.spool != nil {
		return s.spool
	}
	return s.publisher
}

// level is what an acknowledgement survives now.
func (s *server) level() pipeline.Level {
	if s.spool != nil {
		return s.spool.Level(pipeline.TopicStandard)
	}
	return s.publisher.Level(pipeline.TopicStandard)
}

// durability is level in words, for people.
func (s *server) durability() string {
	text := string(s.level())
	if s.cfg.NATSSynced {
		text += ", NATS synced"
	}
	if s.spool != nil {
		if waiting := s.spool.Waiting(); len(waiting) > 0 {
			text += ", the spool takes " + strings.Join(waiting, " and ")
		}
	}
	return text
}

func (s *server) writeSpoolMetrics(w io.Writer) {
	if s.spool == nil {
		return
	}
	metrics.WriteGaugeUint64(w, "caliper_spool_limit_bytes", uint64(s.spool.MaxBytes()))
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	topics, err := s.spool.Status(ctx)
	for _, t := range topics {
		label := fmt.Sprintf("{topic=%q}", t.Topic)
		metrics.WriteCounterUint64(w, "caliper_spooled_messages_total"+label, t.Spooled)
		metrics.WriteCounterUint64(w, "caliper_spool_forwarded_total"+label, t.Forwarded)
		metrics.WriteCounterUint64(w, "caliper_spool_forward_failures_total"+label, t.Failures)
		if err != nil {
			continue // a spool that cannot be read
		}
		metrics.WriteGaugeUint64(w, "caliper_spool_messages"+label, t.Messages)
		metrics.WriteGaugeUint64(w, "caliper_spool_bytes"+label, t.Bytes)
		age := 0.0
		if !t.Oldest.IsZero() {
			age = time.Since(t.Oldest).Seconds()
		}
		metrics.WriteGaugeFloat64(w, "caliper_spool_oldest_age_seconds"+label, age)
	}
}
