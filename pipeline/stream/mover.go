package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline"
	"caliperedge/pipeline/keymap"
)

// The topics that the mover moves between.
const (
	topicQuarantine = "quarantine"
	topicEnriched   = "enriched"
	topicStandard   = "standard"
)

const (
	// moverConsumer is the durable consumer that all movers share.
	moverConsumer = "mover"
	// moverAckWait is how long the messages of a mover that is gone wait for
	// another, where there can be others. With a restart it must be well below the streams' duplicate window,
	// in which what was moved already is recognised. A mover that lives says so
	// every moverTouch.
	moverAckWait = 30 * time.Second
	moverTouch   = 8 * time.Second
	// moverCount is how often there is a look at what others have in hand.
	moverCount = 5 * time.Second
	// moverPending is how many messages may wait in the movers' hands. Each takes
	// about 700 bytes of memory.
	moverPending = 20_000
	// moverFetch and moverFetchBytes bound what is looked at at once.
	moverFetch      = 256
	moverFetchBytes = 4 << 20
	// moverPublishes is how many records move at once, and deletions likewise.
	moverPublishes = 16
	// moverPause is after what failed, fullPause after there was no room in
	// quarantine itself, and moverTick how often there is a look at
	// what waits.
	moverPause = 5 * time.Second
	fullPause  = time.Minute
	moverTick  = time.Second / 2
	// A change of the key map is acted on when there has been none for
	// changeQuiet, but no later than changeLatest.
	changeQuiet  = time.Second
	changeLatest = 15 * time.Second
	// Messages with less than smallBytes of waiting records are joined into one
	// when mergeHeld of them wait, so that there are few however slowly they came.
	smallBytes = 256 << 10
	mergeHeld  = 64
	mergeLeast = 8
	// moverTimeout bounds one request.
	moverTimeout = 10 * time.Second
)

// Keys knows the institution's keys.
type Keys interface {
	// Lookup returns the key of a value that a tool uses for a kind of thing.
	Lookup(tool, kind string, value []byte) (key string, known bool)
}

// MoverConfig says what a Mover does.
type MoverConfig struct {
	// Keys are asked for the keys that records wait for.
	Keys Keys
	// MaxAge is how long after it was received a record moves to standard all the
	// same.
	MaxAge time.Duration
	// Encoding is the Content-Encoding of messages, as in pipeline.Config.
	Encoding string
	// Alone says that no other mover can be on this store: what one that was killed
	// had in hand is then taken over at once.
	Alone bool
	// Logger takes failures. Nil means slog.Default().
	Logger *slog.Logger
}

// MoverStats are the numbers of a Mover.
type MoverStats struct {
	// Enriched and Standard are the records moved there, and Merged those that
	// were written into another message of the topic quarantine.
	Enriched, Standard, Merged uint64
	// Failures are messages that could not be dealt with, and were tried again.
	Failures uint64
	// Waiting are the records in the topic, in so many Messages, and Oldest is when
	// the first of them was received; zero without any. Of those that are not in
	// this mover's hands it is known some seconds late, and their time is that of
	// their message.
	Waiting, Messages int
	Oldest            time.Time
}

// Mover moves records from the topic quarantine to enriched when the key map
// knows their keys, and to standard when they have waited for too long. All
// movers of all edges share one durable consumer.
//
// A record moves as a message of its own, whose ID is made of the address where
// it was first stored, so that the streams recognise a repetition whatever happened
// between. Only when all records of a message are stored elsewhere is it deleted;
// those that stay, if others move, are first written into a new message, each
// with its origin. So nothing is lost, and a record is doubled only where the
// repetition comes later than the duplicate window, and then with equal origin.
//
// A message that waits stays unacknowledged: the mover keeps which partitions of
// the key map would matter to it and tells the server that it is still there.
// When one of these changes, or the first of its records is due, it gives the
// message back, on which it is delivered again.
type Mover struct {
	p   *Publisher
	cfg MoverConfig

	stop context.CancelFunc
	done chan struct{}

	enriched, standard, merged, failures atomic.Uint64

	packing sync.Mutex // guards packer
	packer  *pipeline.Packer

	mu      sync.Mutex // guards what follows
	held    map[uint64]*heldMessage
	others  map[uint64]otherMessage // not in hand, by sequence
	taken   map[uint64]bool         // into hand while there is a count; else nil
	changed partitionSet            // since the last time held messages were looked through
	first   time.Time               // of these changes
	last    time.Time
	acted   uint64 // counts the times
	// mergeAfter is when small messages may be joined again, after there was no
	// room for it.
	mergeAfter time.Time
}

// heldMessage is a message that waits, by its sequence.
type heldMessage struct {
	reply   string
	parts   partitionSet // that would matter
	due     time.Time    // of its first record; zero while it is in work
	oldest  time.Time
	records int
	bytes   int
	touched time.Time
}

// partitionSet is a set of partitions of the key map.
type partitionSet [keymap.Partitions / 64]uint64

func (s *partitionSet) add(part int) { s[part/64] |= 1 << (part % 64) }

func (s *partitionSet) meets(o *partitionSet) bool {
	for i := range s {
		if s[i]&o[i] != 0 {
			return true
		}
	}
	return false
}

// NewMover returns a mover on the streams of p, to be started and then closed
// before p is.
func NewMover(p *Publisher, cfg MoverConfig) (*Mover, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	packer, err := pipeline.NewPacker(cfg.Encoding)
	if err != nil {
		return nil, err
	}
	return &Mover{p: p, cfg: cfg, packer: packer, done: make(chan struct{}), held: make(map[uint64]*heldMessage)}, nil
}

// Start starts the mover as soon as ready is closed: when the key map is loaded.
func (m *Mover) Start(ready <-chan struct{}) {
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	go func() {
		defer close(m.done)
		select {
		case <-ready:
			m.run(ctx)
		case <-ctx.Done():
		}
	}()
}

// Changed tells the mover that a partition of the key map has changed.
func (m *Mover) Changed(part int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = time.Now()
	if m.first.IsZero() {
		m.first = m.last
	}
	m.changed.add(part)
}

// Close ends the mover and gives back what it has in hand.
func (m *Mover) Close() {
	m.stop()
	<-m.done
}

// Stats returns the numbers so far.
func (m *Mover) Stats() MoverStats {
	s := MoverStats{Enriched: m.enriched.Load(), Standard: m.standard.Load(), Merged: m.merged.Load(), Failures: m.failures.Load()}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.held {
		s.Waiting += h.records
		s.Messages++
		s.Oldest = earlier(s.Oldest, h.oldest)
	}
	for _, o := range m.others {
		s.Waiting += o.records
		s.Messages++
		s.Oldest = earlier(s.Oldest, o.stored)
	}
	return s
}

func (m *Mover) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := errNotConnected
		if js := m.p.JetStream(); js != nil {
			err = m.session(ctx, js)
		}
		if ctx.Err() == nil {
			m.failed("nothing moves out of quarantine at the moment", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(moverPause):
		}
	}
}

func (m *Mover) failed(what string, err error) {
	m.failures.Add(1)
	m.cfg.Logger.Error(what, "error", err)
}

// moverConsumerConfig is that of the consumer.
var moverConsumerConfig = jetstream.ConsumerConfig{
	Durable:       moverConsumer,
	Description:   "moves records out of quarantine",
	DeliverPolicy: jetstream.DeliverAllPolicy,
	AckPolicy:     jetstream.AckExplicitPolicy,
	AckWait:       moverAckWait,
	MaxAckPending: moverPending,
}

// session moves over one connection until that fails or ctx ends.
func (m *Mover) session(ctx context.Context, js jetstream.JetStream) error {
	name := m.p.layout.Stream(topicQuarantine)
	limited, cancel := context.WithTimeout(ctx, moverTimeout)
	defer cancel()
	s, err := js.Stream(limited, name)
	if err != nil {
		return fmt.Errorf("stream: stream %s: %w", name, err)
	}
	if err := checkDeletable(s.CachedInfo().Config); err != nil {
		return err
	}
	if m.cfg.Alone {
		if err := s.DeleteConsumer(limited, moverConsumer); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("stream: delete consumer %s of stream %s: %w", moverConsumer, name, err)
		}
	}
	cons, err := s.CreateOrUpdateConsumer(limited, moverConsumerConfig)
	if err != nil {
		return fmt.Errorf("stream: consumer %s of stream %s: %w", moverConsumer, name, err)
	}
	var tending sync.WaitGroup
	ctx, end := context.WithCancel(ctx)
	tending.Go(func() { m.tend(ctx, js) })
	tending.Go(func() { m.count(ctx, js, cons) })
	defer func() {
		end()
		tending.Wait()
		m.giveBack(js)
	}()
	for ctx.Err() == nil && m.p.JetStream() == js {
		msgs, err := pull(ctx, cons)
		if len(msgs) > 0 {
			m.work(ctx, js, s, msgs)
		}
		if err != nil {
			return err
		}
	}
	return errNotConnected
}

// pull waits for a message and takes those that are there with it. It may
// return messages and an error.
func pull(ctx context.Context, cons jetstream.Consumer) ([]jetstream.Msg, error) {
	var msgs []jetstream.Msg
	for _, f := range []struct {
		messages int
		wait     time.Duration
	}{{1, 10 * time.Second}, {moverFetch, 200 * time.Millisecond}} {
		limited, cancel := context.WithTimeout(ctx, f.wait)
		batch, err := cons.Fetch(f.messages, jetstream.FetchContext(limited), jetstream.FetchMaxBytes(moverFetchBytes))
		if err == nil {
			for msg := range batch.Messages() {
				msgs = append(msgs, msg)
			}
			err = batch.Error()
		}
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return msgs, fmt.Errorf("stream: fetch from quarantine: %w", err)
		}
		if len(msgs) == 0 {
			break
		}
	}
	return msgs, nil
}

// tend looks after the messages in hand until ctx ends: it tells the server that
// they are, and gives back those whose time has come.
func (m *Mover) tend(ctx context.Context, js jetstream.JetStream) {
	ticker := time.NewTicker(moverTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			m.look(js, time.Now())
		}
	}
}

// look is one look at the messages in hand.
func (m *Mover) look(js jetstream.JetStream, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	act := !m.first.IsZero() && (now.Sub(m.last) >= changeQuiet || now.Sub(m.first) >= changeLatest)
	small := 0
	for _, h := range m.held {
		if !h.due.IsZero() && h.bytes < smallBytes {
			small++
		}
	}
	merge := small >= mergeHeld && now.After(m.mergeAfter)
	for seq, h := range m.held {
		switch waits := !h.due.IsZero(); {
		case waits && (h.due.Before(now) || act && h.parts.meets(&m.changed) || merge && h.bytes < smallBytes):
			delete(m.held, seq)
			_ = js.Conn().Publish(h.reply, []byte("-NAK"))
		case now.Sub(h.touched) >= moverTouch:
			h.touched = now
			_ = js.Conn().Publish(h.reply, []byte("+WPI"))
		}
	}
	if act {
		m.changed, m.first = partitionSet{}, time.Time{}
		m.acted++
	}
}

// giveBack has all messages in hand delivered again, to whoever asks.
func (m *Mover) giveBack(js jetstream.JetStream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for seq, h := range m.held {
		delete(m.held, seq)
		_ = js.Conn().Publish(h.reply, []byte("-NAK"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = js.Conn().FlushWithContext(ctx)
}
