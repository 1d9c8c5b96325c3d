// Package pipeline takes validated envelopes and has their records stored
// durably, many envelopes at a time.
//
//	Route ──▶ Submit ──▶ open batch of each topic      request lane: the caller's goroutine
//	                       │  a publish slot is free │ the batch is full │ drain
//	                       ▼
//	                     run ──▶ Publisher.Publish     batch lane: ants workers
//	                       │
//	Wait ◀───────────── settle
//
// The two lanes meet at Submit (down) and at the Receipt (up), nowhere else.
// What the package promises:
//
//   - Wait returns nil only after the store has acknowledged every record of
//     the envelope.
//   - An envelope is admitted whole or refused whole: Submit takes the bytes of
//     all its records from the budget before it appends the first.
//   - Every admitted record is settled exactly once, also when a worker panics,
//     and a wait ends by the deadline given to Submit, settled or not.
//   - Memory in flight is bounded by the budget.
//   - After Drain has begun nothing is admitted, and everything admitted before
//     gets its answer.
//   - The bytes of a request are not read after Submit has returned, nor those
//     of a batch after its last record was settled.
package pipeline

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"caliperedge/pipeline/rules"
	"caliperedge/validate"

	"github.com/VictoriaMetrics/metrics"
	"github.com/panjf2000/ants/v2"
)

// Errors of Submit and Wait, beside ErrStoreFull and ErrRefused.
var (
	// ErrBusy: the budget has no room for the envelope. Nothing was admitted.
	ErrBusy = errors.New("pipeline: too much in flight")
	// ErrUnavailable: the store is known to be away. Nothing was stored.
	ErrUnavailable = errors.New("pipeline: store is unavailable")
	// ErrUnacknowledged: the store did not acknowledge in time. Records of the
	// envelope may be stored all the same.
	ErrUnacknowledged = errors.New("pipeline: not acknowledged in time")
	// ErrClosed: Drain has begun.
	ErrClosed = errors.New("pipeline: draining")
)

// TooLargeError says which limit the records of an envelope exceed (contract,
// check 13).
type TooLargeError struct {
	// Index is the item of data whose record exceeds Limit, or -1 where all
	// records together do.
	Index int
	// Limit is in bytes.
	Limit int64
}

func (e *TooLargeError) Error() string {
	if e.Index < 0 {
		return fmt.Sprintf("pipeline: records of the envelope exceed %d bytes", e.Limit)
	}
	return fmt.Sprintf("pipeline: record of item %d exceeds %d bytes", e.Index, e.Limit)
}

// Limits of the message format (contract, section 4).
const (
	// MaxRecordBytes is the size a record may have, without its line break.
	// It leaves room for the headers in a message of 1 MiB.
	MaxRecordBytes = 1_000_000
	// MaxMessageBytes is the size a message may have as sent, headers included.
	MaxMessageBytes = 1 << 20
	// MaxBatchRecords is how many records a message may hold.
	MaxBatchRecords = 10_000
	// MaxBatchBytes is the size a message may have unpacked.
	MaxBatchBytes = 8 << 20
	// HeaderRoomBytes is room enough for the headers of a message, which take
	// about 250 bytes with the longest ID in use.
	HeaderRoomBytes = 1 << 10
)

// Config bounds what a Pipeline may hold and how long it may take. The zero
// value of every field but Topics is ready to use.
type Config struct {
	// Topics is the closed set of topics, TopicStandard and TopicEntities among
	// them, at most MaxTopics.
	Topics []string
	// BudgetBytes bounds the bytes in flight: bodies and records. Zero means
	// DefaultBudgetBytes.
	BudgetBytes int64
	// MaxEnvelopeBytes bounds all records of one envelope together. Zero means
	// DefaultMaxEnvelopeBytes.
	MaxEnvelopeBytes int64
	// MaxBatchBytes seals a batch at so many bytes, unpacked. At most the
	// constant MaxBatchBytes; zero means DefaultMaxBatchBytes.
	MaxBatchBytes int
	// MaxBatchRecords seals a batch at so many records. At most the constant
	// MaxBatchRecords, which zero means too.
	MaxBatchRecords int
	// MaxMessageBytes is how large a message body may be as sent. A batch that
	// is larger once packed is halved. Zero means MaxMessageBytes less
	// HeaderRoomBytes; at least MaxRecordBytes and a line break.
	MaxMessageBytes int
	// DuplicateIDs and DuplicateAge bound the window in which an event that is
	// sent again is not stored again. Each ID takes about 44 bytes, which are
	// allocated at once. Zero of either means that there is no window.
	DuplicateIDs int
	DuplicateAge time.Duration
	// Encoding is the Content-Encoding of messages: EncodingNone,
	// EncodingSnappy or EncodingZstd.
	Encoding string
	// PublishesPerTopic is how many publishes of one topic may be under way at
	// once, all but the first only while much has gathered. Zero means 2.
	PublishesPerTopic int
	// AttemptTimeout bounds one attempt to publish. Zero means 1.5 s. It must
	// be well below the streams' duplicate window of 2 minutes, in which a
	// repetition is recognised.
	AttemptTimeout time.Duration
	// PublishTimeout bounds a publish with its repetitions. Zero means 4 s.
	PublishTimeout time.Duration
	// ProbeInterval is the time between probes of a store that failed. Zero
	// means 1 s.
	ProbeInterval time.Duration
	// Rules decide about events. Nil means that all are standard.
	Rules *rules.Rules
	// Metrics takes the numbers. Nil means a set of the pipeline's own.
	Metrics *metrics.Set
}

// Defaults of Config.
const (
	DefaultBudgetBytes      = 256 << 20
	DefaultMaxEnvelopeBytes = 16 << 20
	DefaultMaxBatchBytes    = 4 << 20
)

// MaxDuplicateIDs is how many IDs a window may hold: 44 GB.
const MaxDuplicateIDs = 1_000_000_000

func (c Config) withDefaults() Config {
	c.BudgetBytes = either(c.BudgetBytes, DefaultBudgetBytes)
	c.MaxEnvelopeBytes = either(c.MaxEnvelopeBytes, DefaultMaxEnvelopeBytes)
	c.MaxBatchBytes = either(c.MaxBatchBytes, DefaultMaxBatchBytes)
	c.MaxBatchRecords = either(c.MaxBatchRecords, MaxBatchRecords)
	c.MaxMessageBytes = either(c.MaxMessageBytes, MaxMessageBytes-HeaderRoomBytes)
	c.PublishesPerTopic = either(c.PublishesPerTopic, 2)
	c.AttemptTimeout = either(c.AttemptTimeout, 1500*time.Millisecond)
	c.PublishTimeout = either(c.PublishTimeout, 4*time.Second)
	c.ProbeInterval = either(c.ProbeInterval, time.Second)
	if c.Metrics == nil {
		c.Metrics = metrics.NewSet()
	}
	return c
}

func either[T int | int64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

func (c Config) check() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("pipeline: "+format, args...))
		}
	}
	fault(len(c.Topics) > MaxTopics, "%d topics, at most %d can be told apart", len(c.Topics), MaxTopics)
	fault(c.MaxBatchBytes < 1 || c.MaxBatchBytes > MaxBatchBytes, "batch of %d bytes, expected 1 to %d", c.MaxBatchBytes, MaxBatchBytes)
	fault(c.MaxBatchRecords < 1 || c.MaxBatchRecords > MaxBatchRecords, "batch of %d records, expected 1 to %d", c.MaxBatchRecords, MaxBatchRecords)
	fault(c.MaxMessageBytes <= MaxRecordBytes, "message of %d bytes, a record may have %d and a line break", c.MaxMessageBytes, MaxRecordBytes)
	fault(c.BudgetBytes/2 < c.MaxEnvelopeBytes, "budget of %d bytes, of which a tool may hold half, is below twice the %d bytes that the records of one envelope may have", c.BudgetBytes, c.MaxEnvelopeBytes)
	fault(c.DuplicateIDs < 0 || c.DuplicateIDs > MaxDuplicateIDs, "window of %d ids for duplicates, expected 0 to %d", c.DuplicateIDs, MaxDuplicateIDs)
	fault(c.DuplicateAge < 0, "window of %v for duplicates, expected 0 or more", c.DuplicateAge)
	fault(c.PublishesPerTopic < 1, "%d publishes per topic, expected at least 1", c.PublishesPerTopic)
	fault(c.AttemptTimeout > c.PublishTimeout, "attempt timeout %v is above the publish timeout %v", c.AttemptTimeout, c.PublishTimeout)
	errs = append(errs, checkEncoding(c.Encoding))
	return errors.Join(errs...)
}

// Pipeline is the way of envelopes into the store. All methods may be called
// concurrently.
type Pipeline struct {
	cfg       Config
	log       *slog.Logger
	publisher Publisher
	router    router
	topics    []*topic
	rejected  *topic // nil where there is no TopicRejected
	budget    *Budget
	window    *window // nil where there is none
	metrics   *pipelineMetrics

	pool     *ants.PoolWithFuncGeneric[*topic]
	workers  sync.WaitGroup
	receipts sync.Pool
	batches  freeList[*batch]
	packers  freeList[*Packer]

	idPrefix string
	ids      atomic.Uint64

	round      round
	pace       pace
	publishing atomic.Int64 // attempts under way

	failing atomic.Bool   // a publish failed, and no probe has succeeded since
	opened  atomic.Uint64 // counts the probes that succeeded: after each the store may be another opening
	failed  chan struct{} // wakes the prober
	prober  sync.WaitGroup
	quit    context.CancelFunc // ends the prober
	idle    chan struct{}      // closed when everything is settled after a drain

	drain    sync.RWMutex // held for reading while an envelope joins its topics
	draining bool
}

// New returns a Pipeline that stores through publisher. It is to be ended by
// Drain.
func New(cfg Config, publisher Publisher, log *slog.Logger) (*Pipeline, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	router, err := newRouter(cfg.Topics)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{
		cfg: cfg, log: log, publisher: publisher, router: router,
		budget: NewBudget(cfg.BudgetBytes),
		pace:   newPace(cfg.BudgetBytes, cfg.PublishTimeout/paceShare, time.Now()),
		window: newWindow(cfg.DuplicateIDs, cfg.DuplicateAge, cfg.Topics),
		failed: make(chan struct{}, 1),
		idle:   make(chan struct{}),
	}
	var instance [8]byte
	rand.Read(instance[:]) // never fails
	p.idPrefix = hex.EncodeToString(instance[:]) + "-"
	for place, name := range cfg.Topics {
		t := &topic{p: p, name: name, place: place}
		if name == TopicRejected {
			t.aside = &aside{budget: NewBudget(cfg.BudgetBytes / rejectedShare)}
			p.rejected = t
		}
		p.topics = append(p.topics, t)
	}
	p.receipts.New = func() any {
		return &Receipt{p: p, done: make(chan struct{}, 1), share: make([]topicShare, len(p.topics))}
	}
	p.batches.fresh = func() *batch { return new(batch) }
	if _, err := NewPacker(cfg.Encoding); err != nil {
		return nil, err
	}
	p.packers.fresh = func() *Packer {
		packer, _ := NewPacker(cfg.Encoding) // tried above
		return packer
	}
	// Twice as many places as publishes: a worker that has left its topic may
	// not have returned to the pool when its successor starts.
	p.pool, err = ants.NewPoolWithFuncGeneric(2*len(p.topics)*(cfg.PublishesPerTopic+1), (*topic).run)
	if err != nil {
		return nil, fmt.Errorf("pipeline: worker pool: %w", err)
	}
	p.metrics = newPipelineMetrics(cfg.Metrics, p)
	var ctx context.Context
	ctx, p.quit = context.WithCancel(context.Background())
	p.prober.Go(func() { p.probe(ctx) })
	go p.watch()
	return p, nil
}

// Budget is what bodies are reserved from before they are buffered.
func (p *Pipeline) Budget() *Budget { return p.budget }

// Topics returns the names of the topics, each at its place. The slice is the
// pipeline's own.
func (p *Pipeline) Topics() []string { return p.cfg.Topics }

// Ready returns nil when a Submit has a chance: ErrClosed while draining,
// ErrUnavailable while the store is known to be away.
func (p *Pipeline) Ready() error {
	p.drain.RLock()
	defer p.drain.RUnlock()
	return p.readyLocked()
}

func (p *Pipeline) readyLocked() error {
	switch {
	case p.draining:
		return ErrClosed
	case p.failing.Load():
		return ErrUnavailable
	}
	return nil
}

// Route decides which topics take the items of env, and how large their
// records are, for the tool of that name (1 to 64 of A-Z a-z 0-9 _ -) and an
// envelope received at that time. Nothing is copied and nothing is stored.
//
// The error is a *TooLargeError (check 13). The Receipt reads env until Submit
// has returned; it is to be released.
func (p *Pipeline) Route(env *validate.Envelope, tool string, received time.Time) (*Receipt, error) {
	r := p.receipts.Get().(*Receipt)
	r.env = env
	if r.room == nil || r.room.tool != tool {
		r.room = p.budget.Share(tool)
	}
	r.head = newRecordHead(env, tool, received)
	r.routes = r.routes[:0]
	r.bytes, r.mismatches = 0, 0
	clear(r.share)
	view := p.cfg.Rules.For(tool, env.Sensor(), &r.ruling)
	items := env.Items()
	for i := range items {
		set := r.route(view, i, &items[i])
		r.routes = append(r.routes, set)
		for place := range set.All {
			n := recordBytes(&r.head, &items[i], r.notes.of(i), p.topics[place].name)
			if n-len("\n") > MaxRecordBytes {
				r.Release()
				return nil, &TooLargeError{Index: i, Limit: MaxRecordBytes}
			}
			r.share[place].bytes += n
			r.share[place].records++
			r.bytes += int64(n)
		}
	}
	if r.bytes > p.cfg.MaxEnvelopeBytes {
		r.Release()
		return nil, &TooLargeError{Index: -1, Limit: p.cfg.MaxEnvelopeBytes}
	}
	return r, nil
}

// Submit hands the records of r in; the wait for them ends by deadline. Without an
// error all of them are admitted, and Wait tells what became of them. With
// ErrBusy, ErrUnavailable or ErrClosed none is; a deadline too near to publish
// anything before it is ErrUnavailable as well. An envelope of nothing but
// duplicates that are stored needs no store.
//
// Submit copies what it needs: the envelope of r and the body that it lies in
// are free once it has returned. Where the budget has no room it waits for some,
// a quarter of the publish timeout at most; else it blocks no longer than copying
// takes.
func (p *Pipeline) Submit(r *Receipt, deadline time.Time) error {
	now := time.Now()
	look := look{w: p.window, r: r}
	if look.known(now) {
		return p.admit(r, deadline, 0, &look)
	}
	if p.failing.Load() || deadline.Sub(now) < answerMargin+minAttempt {
		return cmp.Or(p.Ready(), ErrUnavailable)
	}
	patience := min(p.cfg.PublishTimeout/4, deadline.Sub(now)-answerMargin-minAttempt)
	need := r.bytes + r.keepBytes()
	if !r.room.Records(need, patience) {
		return ErrBusy
	}
	err := p.admit(r, deadline, need, &look)
	if err != nil {
		r.room.Release(need)
	}
	return err
}

// admit has the records of r join their topics, unless a drain has begun or the
// store is away. reserved was taken for them; with 0 everything is known.
func (p *Pipeline) admit(r *Receipt, deadline time.Time, reserved int64, look *look) error {
	p.drain.RLock()
	defer p.drain.RUnlock()
	if err := p.readyLocked(); err == ErrClosed || err != nil && reserved > 0 {
		return err
	}
	r.begin(deadline)
	defer r.finish()
	if reserved == 0 {
		return nil
	}
	r.todo = r.routes
	defer look.end()
	look.claim()
	r.held = r.keepBytes()
	r.room.Release(reserved - r.bytes - r.held) // of duplicates, and for marks that are not needed
	// None of several topics waits for another, where nothing is under way.
	if r.topics() > 1 && p.round.begin() {
		defer p.round.close()
	}
	for place := range r.share {
		if r.share[place].records > 0 {
			p.topics[place].submit(r)
		}
	}
	look.joined = true
	return nil
}

// start sends a worker to t. The caller holds t.mu and has counted the worker.
func (p *Pipeline) start(t *topic) {
	p.workers.Add(1)
	if err := p.pool.Invoke(t); err != nil {
		go t.run() // what was admitted must be settled, with or without a pool
	}
}

func (p *Pipeline) newBatch() *batch {
	b := p.batches.get()
	b.opened = time.Now()
	return b
}

func (p *Pipeline) freeBatch(b *batch) {
	b.reset(2 * p.cfg.MaxBatchBytes)
	p.batches.put(b)
}

// nextID returns a message ID that no other message of any edge has.
func (p *Pipeline) nextID() string {
	return p.idPrefix + strconv.FormatUint(p.ids.Add(1), 36)
}

// trip makes further batches fail at once until a probe succeeds.
func (p *Pipeline) trip(topic string, cause error) {
	p.log.Error("a batch was not acknowledged; refusing events until the store answers a probe",
		"topic", topic, "error", cause)
	p.refuse()
}

// Suspect tells that the store does not work, which was found out beside
// publishing. As after a batch that was not acknowledged, events are refused until
// a probe succeeds.
func (p *Pipeline) Suspect(cause error) {
	p.log.Error("the store does not work; refusing events until it answers a probe", "error", cause)
	p.refuse()
}

// refuse wakes the prober, until whose success nothing is admitted.
func (p *Pipeline) refuse() {
	if p.failing.Swap(true) {
		return
	}
	p.metrics.trips.Inc()
	select {
	case p.failed <- struct{}{}:
	default: // the prober has not taken the last wake-up yet, and will look again
	}
}

// watch ends waits at their deadlines, until the last record is settled. It
// costs a request nothing, where a timer in each would cost as much as the scan
// of its JSON.
func (p *Pipeline) watch() {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-p.idle:
			return
		case now := <-ticker.C:
			p.tick()
			p.keepPace(now)
			if p.round.ticks%ticksToTrim == 0 {
				p.batches.trim()
				p.packers.trim()
			}
			for _, t := range p.topics {
				t.expire(now.Add(watchInterval))
			}
			p.window.expire(now.Add(watchInterval))
		}
	}
}

const (
	// watchInterval is how much before its deadline a wait may end.
	watchInterval = 50 * time.Millisecond
	// ticksToTrim make ten seconds: for so long the memory of a burst is kept.
	ticksToTrim = 200
)

// probe tries to get a failed store back, until ctx ends.
func (p *Pipeline) probe(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.failed:
		}
		for p.failing.Load() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(p.cfg.ProbeInterval):
			}
			p.metrics.probes.Inc()
			limited, cancel := context.WithTimeout(ctx, probeTimeout)
			err := p.publisher.Probe(limited)
			cancel()
			if err != nil {
				p.log.Error("the store does not answer", "error", err)
				continue
			}
			p.opened.Add(1)
			p.failing.Store(false)
			p.log.Info("the store answers again; the next batch decides")
		}
	}
}

// probeTimeout is generous: a store of many gigabytes takes its time to open.
const probeTimeout = time.Minute

// Drain admits nothing more, waits until everything admitted is settled, and
// ends the pipeline. It returns an error where that takes longer than ctx; the
// workers go on then. It may be called again, to wait again.
func (p *Pipeline) Drain(ctx context.Context) error {
	p.drain.Lock()
	first := !p.draining
	p.draining = true
	p.drain.Unlock()
	if first {
		p.quit()
		go func() {
			p.workers.Wait()
			p.prober.Wait()
			p.pool.Release()
			close(p.idle)
		}()
	}
	select {
	case <-p.idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("pipeline: %d bytes are still in flight: %w", p.budget.Used(), ctx.Err())
	}
}
