package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"caliperedge/pipeline"
)

// spoolPrefix begins the names of the spool's streams. It is not that of the
// topics, which may change while the spool holds something.
const spoolPrefix = "spool"

// repetitionWindow is longer than a batch is repeated.
const repetitionWindow = time.Minute

// Spool is a pipeline.Publisher to an external server that may be out of reach.
// While all is well a message goes straight to the server. One that the server
// does not acknowledge, and from then on every message of its topic, is stored
// in a local, synced store and acknowledged as pipeline.LevelSpooled, without a
// sequence. A forwarder per topic takes them to the server in order, and a
// message leaves the spool only after the server's acknowledgement. When it
// finds the spool empty, the topic goes straight again.
//
// All methods may be called concurrently.
type Spool struct {
	remote, local *Publisher
	dir           string
	log           *slog.Logger
	names         []string // of the topics, in order
	topics        map[string]*spoolTopic
	maxBytes      int64

	first *link // that to the local store as it was opened at the start

	suspect atomic.Bool           // a write or read failed, and the store was not opened anew since
	broken  atomic.Pointer[error] // why the store could not be opened anew
	full    atomic.Bool           // the last write found no room

	quit       context.CancelFunc
	forwarders sync.WaitGroup
}

// OpenSpool opens the spool in cfg.Dir for the topics of remote and begins to
// forward what it holds. Of cfg, Listen and Layout are ignored; MaxBytes bounds
// all topics together. The spool is to be closed before remote. A folder that
// holds messages of a topic that remote does not have is an error: they would
// never leave it.
func OpenSpool(ctx context.Context, remote *Publisher, cfg EmbeddedConfig) (*Spool, error) {
	cfg.Listen, cfg.Layout = "", Layout{Prefix: spoolPrefix, spool: true}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Spool{remote: remote, dir: cfg.Dir, log: cfg.Logger, topics: make(map[string]*spoolTopic), maxBytes: cfg.MaxBytes}
	for _, t := range remote.layout.Topics {
		cfg.Layout.Topics = append(cfg.Layout.Topics, Topic{Name: t.Name})
		s.names = append(s.names, t.Name)
		s.topics[t.Name] = &spoolTopic{name: t.Name, log: cfg.Logger, changed: make(chan struct{}), work: make(chan struct{}, 1)}
	}
	var err error
	if s.local, err = OpenEmbedded(ctx, cfg); err != nil {
		return nil, fmt.Errorf("stream: spool: %w", err)
	}
	s.first = s.local.link.Load()
	if err := s.recover(ctx, cfg.Layout); err != nil {
		return nil, errors.Join(fmt.Errorf("stream: spool in %s: %w", cfg.Dir, err), s.local.Close())
	}
	ctx, s.quit = context.WithCancel(context.Background())
	for _, name := range s.names {
		f := &forwarder{s: s, t: s.topics[name], acked: make(map[string]bool)}
		s.forwarders.Go(func() { f.run(ctx) })
	}
	return s, nil
}

// recover finds out which topics have something in the spool.
func (s *Spool) recover(ctx context.Context, layout Layout) error {
	streams := s.local.JetStream().ListStreams(ctx)
	for info := range streams.Info() {
		name := strings.TrimPrefix(info.Config.Name, layout.Stream(""))
		if info.State.Msgs == 0 {
			continue
		}
		t := s.topics[name]
		if t == nil {
			return fmt.Errorf("it holds %d messages of topic %s, which is not configured: configure it until they are forwarded", info.State.Msgs, name)
		}
		t.spooling = true
		s.log.Info("the spool holds messages to be forwarded", "topic", name, "messages", info.State.Msgs)
	}
	return streams.Err()
}

// Publish implements pipeline.Publisher. It stores m on the server, or in the
// spool while the server does not acknowledge or the spool holds anything of the
// topic. The server's ErrStoreFull and ErrRefused are answers, and not spooled.
func (s *Spool) Publish(ctx context.Context, m *pipeline.Message) (pipeline.Ack, error) {
	t := s.topics[m.Topic]
	if t == nil {
		return pipeline.Ack{}, fmt.Errorf("%w: there is no topic %q", pipeline.ErrRefused, m.Topic)
	}
	for {
		straight, err := t.enter(ctx)
		if err != nil {
			return pipeline.Ack{}, err
		}
		if !straight {
			return s.store(ctx, t, m)
		}
		ack, err := s.remote.Publish(ctx, m)
		if err == nil || errors.Is(err, pipeline.ErrStoreFull) || errors.Is(err, pipeline.ErrRefused) || errors.Is(ctx.Err(), context.Canceled) {
			return ack, err
		}
		t.divert(err)
		if ctx.Err() != nil {
			return pipeline.Ack{}, err // the repetition goes to the spool
		}
	}
}

// store writes m into the spool; t was entered.
func (s *Spool) store(ctx context.Context, t *spoolTopic, m *pipeline.Message) (pipeline.Ack, error) {
	defer t.leave()
	if err := s.broken.Load(); err != nil {
		return pipeline.Ack{}, fmt.Errorf("%w: the spool is broken: %v", pipeline.ErrRefused, *err)
	}
	ack, err := s.local.Publish(ctx, m)
	if l := s.local.link.Load(); err == nil && ack.Duplicate && l != s.first && (l == nil || time.Since(l.since) < repetitionWindow) {
		// The spool was opened anew a moment ago, and may know the message from a
		// file that was never synced.
		err = errors.New("recognised only after the spool was opened anew")
	}
	switch {
	case err == nil:
		s.suspect.Store(false)
		s.full.Store(false)
		t.spooled.Add(1)
		return pipeline.Ack{Duplicate: ack.Duplicate, Level: pipeline.LevelSpooled}, nil
	case errors.Is(err, pipeline.ErrStoreFull):
		s.full.Store(true)
	case !errors.Is(err, pipeline.ErrRefused):
		s.suspect.Store(true)
	}
	return pipeline.Ack{}, fmt.Errorf("spool: %w", err)
}

// Probe implements pipeline.Publisher. It opens the spool anew where a write to
// it failed, because a stream that met an I/O error stays frozen until then. An
// error means that neither the spool nor the server can be used.
func (s *Spool) Probe(ctx context.Context) error {
	failed := s.suspect.Load()
	err := s.mend(ctx)
	if err == nil {
		if failed {
			s.catchUp(ctx)
		}
		return nil
	}
	if s.remote.Probe(ctx) == nil {
		return nil // topics of which the spool holds nothing can go on
	}
	return fmt.Errorf("spool: %w", err)
}

// catchUp gives the forwarders a moment in which nothing is written. Where the
// disk is full the next write would freeze the spool again, and they can read it
// only until then; once all is forwarded, messages go straight again.
func (s *Spool) catchUp(ctx context.Context) {
	for end := time.Now().Add(catchUpWait); time.Now().Before(end) && len(s.Waiting()) > 0; {
		if _, away := s.remote.open(); away != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(drainPoll):
		}
	}
}

// mend opens the local store anew if that is needed.
func (s *Spool) mend(ctx context.Context) error {
	if !s.suspect.Load() {
		return s.local.check(ctx)
	}
	err := s.local.Probe(ctx)
	if err != nil {
		s.broken.Store(&err)
		return err
	}
	s.suspect.Store(false)
	s.broken.Store(nil)
	return nil
}

// Ready returns an error when nothing can be stored: the server is out of reach,
// and the spool is full or broken.
func (s *Spool) Ready() error {
	if _, away := s.remote.open(); away == nil {
		return nil
	}
	if err := s.broken.Load(); err != nil {
		return fmt.Errorf("the NATS server is out of reach and the spool is broken: %w", *err)
	}
	if s.full.Load() {
		return errors.New("the NATS server is out of reach and the spool is full")
	}
	return nil
}

// Level is what the acknowledgement of a message to topic survives now.
func (s *Spool) Level(topic string) pipeline.Level {
	t := s.topics[topic]
	if t == nil {
		return ""
	}
	if _, away := s.remote.open(); away != nil || t.isSpooling() {
		return pipeline.LevelSpooled
	}
	return s.remote.Level(topic)
}

// Waiting returns the topics that go through the spool, in order.
func (s *Spool) Waiting() []string {
	var names []string
	for _, name := range s.names {
		if s.topics[name].isSpooling() {
			names = append(names, name)
		}
	}
	return names
}

// MaxBytes is the limit of what all topics together may have in the spool.
func (s *Spool) MaxBytes() int64 { return s.maxBytes }

// SpoolStatus is what the spool holds of a topic, and what went through it since
// the start.
type SpoolStatus struct {
	Topic string
	// Messages and Bytes are in the spool; the last few may be on the server
	// already. Oldest is when the first of them was stored, zero for none.
	Messages, Bytes uint64
	Oldest          time.Time
	// Spooled and Forwarded count messages, Failures attempts to forward one.
	Spooled, Forwarded, Failures uint64
}

// Status returns the state of every topic in the order of the layout. With an
// error the counters alone are known.
func (s *Spool) Status(ctx context.Context) ([]SpoolStatus, error) {
	streams, err := s.local.Status(ctx)
	list := make([]SpoolStatus, len(s.names))
	for i, name := range s.names {
		t := s.topics[name]
		list[i] = SpoolStatus{Topic: name, Spooled: t.spooled.Load(), Forwarded: t.forwarded.Load(), Failures: t.failures.Load()}
		if err == nil {
			list[i].Messages, list[i].Bytes, list[i].Oldest = streams[i].Messages, streams[i].Bytes, streams[i].Oldest
		}
	}
	return list, err
}

// Drain waits until the spool is empty, ctx is done, or the server does not take
// what is left, which then stays in the spool. Nothing may be published meanwhile.
func (s *Spool) Drain(ctx context.Context) {
	before := make(map[string]uint64)
	for _, name := range s.names {
		before[name] = s.topics[name].failures.Load()
	}
	for {
		var left []string
		hope := false
		for _, name := range s.names {
			if t := s.topics[name]; t.isSpooling() {
				left = append(left, name)
				hope = hope || t.failures.Load() == before[name]
			}
		}
		if len(left) == 0 {
			return
		}
		if !hope || ctx.Err() != nil {
			s.log.Warn("the spool is not empty; the next start forwards what it holds", "topics", left)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(drainPoll):
		}
	}
}

const (
	drainPoll = 20 * time.Millisecond
	// catchUpWait is longer than a forwarder pauses.
	catchUpWait = 2 * longestPause
)

// Close ends the forwarders and shuts the local store down.
func (s *Spool) Close() error {
	s.quit()
	s.forwarders.Wait()
	return s.local.Close()
}

// spoolTopic decides for one topic whether a message goes straight.
type spoolTopic struct {
	name    string
	log     *slog.Logger
	changed chan struct{} // closed and made anew when what enter waits for has changed; under mu
	work    chan struct{} // wakes the forwarder

	mu       sync.Mutex
	spooling bool   // messages go through the spool
	catching bool   // the forwarder's last message was acknowledged
	closing  bool   // the forwarder is about to find the spool empty
	writing  int    // writes to the spool under way
	writes   uint64 // writes begun
	passed   int    // messages forwarded since a write was last let through

	spooled, forwarded, failures atomic.Uint64
}

const (
	// paceForwards is how many messages are forwarded for each that is spooled
	// meanwhile. So the spool gets empty under any load: the pipeline's batches
	// grow instead.
	paceForwards = 4
	// paceWait is the longest that a write waits for that.
	paceWait = 200 * time.Millisecond
)

func (t *spoolTopic) isSpooling() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.spooling
}

func (t *spoolTopic) isCatching() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.catching
}

// enter returns true where a message goes straight to the server. Otherwise it
// is to be written to the spool, and leave to be called after that.
func (t *spoolTopic) enter(ctx context.Context) (straight bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	var over <-chan time.Time
	for late := false; ; {
		t.mu.Lock()
		if !t.spooling {
			t.mu.Unlock()
			return true, nil
		}
		if late || !t.catching || !t.closing && t.passed >= paceForwards {
			t.passed = 0
			t.writing++
			t.writes++
			t.mu.Unlock()
			return false, nil
		}
		changed := t.changed
		t.mu.Unlock()
		if over == nil {
			timer := time.NewTimer(t.patience(ctx))
			defer timer.Stop()
			over = timer.C
		}
		select {
		case <-changed:
		case <-over:
			late = true
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// patience leaves most of the time of ctx for the write.
func (t *spoolTopic) patience(ctx context.Context) time.Duration {
	if d, ok := ctx.Deadline(); ok {
		return min(paceWait, time.Until(d)/4)
	}
	return paceWait
}

// leave ends what enter began.
func (t *spoolTopic) leave() {
	t.mu.Lock()
	t.writing--
	t.mu.Unlock()
	t.wake()
}

func (t *spoolTopic) wake() {
	select {
	case t.work <- struct{}{}:
	default:
	}
}

// divert has the messages of t go through the spool.
func (t *spoolTopic) divert(cause error) {
	t.mu.Lock()
	first := !t.spooling
	t.spooling = true
	t.mu.Unlock()
	if first {
		t.log.Warn("events go to the spool until the NATS server answers", "topic", t.name, "error", cause)
		t.wake()
	}
}

// advance notes that the server took a message, or answered.
func (t *spoolTopic) advance(messages int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.catching = true
	t.passed += messages
	t.signalLocked()
}

// stall notes that it did not.
func (t *spoolTopic) stall() {
	t.failures.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.catching, t.closing = false, false
	t.signalLocked()
}

func (t *spoolTopic) signalLocked() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// quiet returns the number of writes begun where none is under way, and holds
// back further ones for a moment.
func (t *spoolTopic) quiet() (writes uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closing = true
	return t.writes, t.writing == 0
}

// straighten ends the spooling, unless a write has begun since quiet told writes.
func (t *spoolTopic) straighten(writes uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writing > 0 || t.writes != writes {
		return false
	}
	t.spooling, t.catching, t.closing, t.passed = false, false, false, 0
	t.signalLocked()
	return true
}
