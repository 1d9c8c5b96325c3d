package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"caliperedge/pipeline"
	"caliperedge/pipeline/keymap"
	"caliperedge/pipeline/rules"
	"caliperedge/pipeline/stream"

	"github.com/VictoriaMetrics/metrics"
)

// topicQuarantine is where events wait for keys.
const topicQuarantine = "quarantine"

// keys are the parts that know the institution's keys and move what waits for
// them. Where no rule demands a key and nothing waits, there are none.
type keys struct {
	table    keymap.Map
	follower *stream.KeymapFollower
	mover    *stream.Mover
}

// followKeys starts following the key map and moving out of quarantine. Where a
// rule demands keys it waits for the key map to be loaded; where that takes longer
// than it may, or the server is away, serving begins all the same: events that
// demand keys then go to quarantine.
func (s *server) followKeys(ctx context.Context) error {
	if !s.needsKeys(ctx) {
		return nil
	}
	for _, t := range s.layout.Topics {
		if t.Name == topicQuarantine && t.MaxAge <= s.cfg.QuarantineAge {
			where := cmp.Or(s.cfg.origin["quarantine-age"], s.cfg.origin["topic quarantine"], "--quarantine-age")
			return fmt.Errorf("%s: quarantine-age %v is not below the max_age of the topic quarantine, %v: records would be gone before they move", where, s.cfg.QuarantineAge, t.MaxAge)
		}
	}
	if err := s.publisher.CheckQuarantine(ctx, s.cfg.QuarantineAge); err != nil {
		if s.cfg.Streams == streamsVerify {
			return err
		}
		s.log.Error("records cannot move out of quarantine as they should", "error", err)
	}
	k := &s.keys
	var err error
	k.mover, err = stream.NewMover(s.publisher, stream.MoverConfig{
		Keys: &k.table, MaxAge: s.cfg.QuarantineAge, Encoding: s.cfg.messageEncoding(), Alone: s.cfg.NATSURL == "", Logger: s.log})
	if err != nil {
		return err
	}
	k.follower = stream.FollowKeymap(stream.FollowConfig{
		JetStream: s.publisher.JetStream, Layout: s.layout, VerifyOnly: s.cfg.Streams == streamsVerify,
		Map: &k.table, Changed: k.mover.Changed, Logger: s.log})
	k.mover.Start(k.follower.Loaded())
	if !s.cfg.demandKeys() || s.spool != nil && s.spool.Level(topicQuarantine) == pipeline.LevelSpooled {
		return nil // nobody asks, or nobody answers and the spool takes what comes
	}
	select {
	case <-k.follower.Loaded():
		s.log.Info("key map loaded", "rows", k.table.Rows(), "bytes", k.table.Bytes())
	case <-time.After(s.cfg.KeymapWait):
		s.log.Warn("the key map is not loaded yet; events that demand keys go to quarantine until it is", "waited", s.cfg.KeymapWait.String())
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// demandKeys tells whether a rule demands keys.
func (c *config) demandKeys() bool {
	return slices.ContainsFunc(c.routing.Rules, func(r rules.Rule) bool { return len(r.Keys) > 0 })
}

// needsKeys tells whether a rule demands keys, or records wait for some.
func (s *server) needsKeys(ctx context.Context) bool {
	if s.cfg.demandKeys() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
	defer cancel()
	topics, err := s.publisher.Status(ctx)
	if err != nil {
		return true // away at the moment: something may wait there
	}
	for _, t := range topics {
		if t.Topic == topicQuarantine && t.Messages > 0 {
			return true
		}
	}
	return false
}

func (k *keys) close() {
	if k.follower != nil {
		k.mover.Close()
		k.follower.Close()
	}
}

func (k *keys) writeMetrics(w io.Writer) {
	if k.follower == nil {
		return
	}
	metrics.WriteGaugeUint64(w, "caliper_keymap_rows", uint64(k.table.Rows()))
	metrics.WriteGaugeUint64(w, "caliper_keymap_bytes", uint64(k.table.Bytes()))
	metrics.WriteGaugeUint64(w, "caliper_keymap_revision", k.follower.Revision())
	metrics.WriteCounterUint64(w, "caliper_keymap_changes_total", k.follower.Changes())
	metrics.WriteCounterUint64(w, "caliper_keymap_faults_total", k.follower.Faults())
	loaded := uint64(0)
	select {
	case <-k.follower.Loaded():
		loaded = 1
	default:
	}
	metrics.WriteGaugeUint64(w, "caliper_keymap_loaded", loaded)
	m := k.mover.Stats()
	metrics.WriteCounterUint64(w, `caliper_quarantine_moved_total{topic="enriched"}`, m.Enriched)
	metrics.WriteCounterUint64(w, `caliper_quarantine_moved_total{topic="standard"}`, m.Standard)
	metrics.WriteCounterUint64(w, "caliper_quarantine_rewritten_total", m.Merged)
	metrics.WriteCounterUint64(w, "caliper_quarantine_failures_total", m.Failures)
	metrics.WriteGaugeUint64(w, "caliper_quarantine_waiting_records", uint64(m.Waiting))
	metrics.WriteGaugeUint64(w, "caliper_quarantine_waiting_messages", uint64(m.Messages))
	age := 0.0
	if !m.Oldest.IsZero() {
		age = time.Since(m.Oldest).Seconds()
	}
	metrics.WriteGaugeFloat64(w, "caliper_quarantine_oldest_seconds", age)
}
