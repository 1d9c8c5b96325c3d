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

	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline/keymap"
)

const (
	// followPause is between two attempts to follow the key map.
	followPause = time.Second
	// followLooks is after how many pauses a follower asks whether the bucket is
	// still the same.
	followLooks = 5
	// followBytes is how much of the key map may be under way to a follower.
	followBytes = 8 << 20
)

// FollowConfig says what is followed.
type FollowConfig struct {
	// JetStream is asked for the connection before each attempt. It may return
	// nil while there is none.
	JetStream func() jetstream.JetStream
	Layout    Layout
	// VerifyOnly never makes the bucket: while there is none, the key map is empty.
	VerifyOnly bool
	// Map becomes what the bucket says.
	Map *keymap.Map
	// Changed is called after each change of a partition, from one goroutine. It
	// must not block, and may be nil.
	Changed func(part int)
	// Logger takes faults and losses of the connection. Nil means slog.Default().
	Logger *slog.Logger
}

// KeymapFollower keeps a keymap.Map what the bucket says.
type KeymapFollower struct {
	cfg    FollowConfig
	stop   context.CancelFunc
	done   chan struct{}
	loaded chan struct{}

	revision atomic.Uint64
	changes  atomic.Uint64
	faults   atomic.Uint64

	// What follows belongs to the goroutine that follows.
	created time.Time // of the bucket that revision is of
	held    [keymap.Partitions]bool
}

// FollowKeymap fills cfg.Map from the bucket of the key map, which it makes where
// there is none, and keeps following it until Close, over losses of the
// connection and of the bucket.
func FollowKeymap(cfg FollowConfig) *KeymapFollower {
	if cfg.Changed == nil {
		cfg.Changed = func(int) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	ctx, stop := context.WithCancel(context.Background())
	f := &KeymapFollower{cfg: cfg, stop: stop, done: make(chan struct{}), loaded: make(chan struct{})}
	go f.run(ctx)
	return f
}

// Loaded is closed once the map holds what the bucket held when following began.
func (f *KeymapFollower) Loaded() <-chan struct{} { return f.loaded }

// Revision is the bucket's revision that the map has, Changes counts the partitions
// taken over and Faults those that were damaged, of which it keeps the old.
func (f *KeymapFollower) Revision() uint64 { return f.revision.Load() }
func (f *KeymapFollower) Changes() uint64  { return f.changes.Load() }
func (f *KeymapFollower) Faults() uint64   { return f.faults.Load() }

// Close ends following and waits until it has ended.
func (f *KeymapFollower) Close() {
	f.stop()
	<-f.done
}

func (f *KeymapFollower) run(ctx context.Context) {
	defer close(f.done)
	missing := false
	for ctx.Err() == nil {
		err := errNotConnected
		if js := f.cfg.JetStream(); js != nil {
			err = f.follow(ctx, js)
		}
		was := missing
		missing = errors.Is(err, jetstream.ErrBucketNotFound)
		if ctx.Err() == nil && !(missing && was) { // that there is none may last
			f.cfg.Logger.Warn("the key map is not followed at the moment", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(followPause):
		}
	}
}

// follow follows on one connection until it or ctx ends.
func (f *KeymapFollower) follow(ctx context.Context, js jetstream.JetStream) error {
	limited, cancel := context.WithTimeout(ctx, keymapTimeout)
	defer cancel()
	open := EnsureKeymap
	if f.cfg.VerifyOnly {
		open = OpenKeymap
	}
	if _, err := open(limited, js, f.cfg.Layout); err != nil {
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			held := f.held
			f.complete(time.Time{}, &held)
		}
		return err
	}
	name := keymapStream(f.cfg.Layout)
	s, err := js.Stream(limited, name)
	if err != nil {
		return fmt.Errorf("stream: follow the key map: %w", err)
	}
	info := s.CachedInfo()
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubjects: []string{"$KV." + f.cfg.Layout.KeymapBucket() + ".>"}}
	var stale *[keymap.Partitions]bool // those of a bucket that is gone, until the new one is read
	if info.Created.Equal(f.created) && info.State.LastSeq >= f.revision.Load() {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, f.revision.Load()+1
	} else {
		held := f.held
		stale = &held
	}
	cons, err := js.OrderedConsumer(limited, name, cfg)
	if err != nil {
		return fmt.Errorf("stream: follow the key map: %w", err)
	}
	defer deleteOrdered(js, name, cons)
	msgs, err := cons.Messages(jetstream.PullMaxBytes(followBytes))
	if err != nil {
		return fmt.Errorf("stream: follow the key map: %w", err)
	}
	end := sync.OnceFunc(msgs.Stop)
	defer end()
	done := make(chan struct{})
	defer close(done)
	go f.watch(ctx, js, s, done, end)
	if cons.CachedInfo().NumPending == 0 {
		f.complete(info.Created, stale)
		stale = nil
	}
	for {
		msg, err := msgs.Next()
		if err != nil {
			return fmt.Errorf("stream: follow the key map: %w", err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("stream: follow the key map: %w", err)
		}
		f.take(msg, stale)
		f.revision.Store(meta.Sequence.Stream)
		if meta.NumPending == 0 {
			f.complete(info.Created, stale)
			stale = nil
		}
	}
}

// watch calls end when the connection was closed for good or the bucket is
// another one, which the iterator does not notice.
func (f *KeymapFollower) watch(ctx context.Context, js jetstream.JetStream, s jetstream.Stream, done <-chan struct{}, end func()) {
	defer end()
	created := s.CachedInfo().Created
	for looks := 0; ; looks++ {
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-time.After(followPause):
		}
		if f.cfg.JetStream() != js {
			return
		}
		if looks%followLooks > 0 {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, keymapTimeout)
		info, err := s.Info(limited)
		cancel()
		if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && !info.Created.Equal(created) {
			return
		}
	}
}

// take takes one key of the bucket over.
func (f *KeymapFollower) take(msg jetstream.Msg, stale *[keymap.Partitions]bool) {
	part, ok := partitionOf(strings.TrimPrefix(msg.Subject(), "$KV."+f.cfg.Layout.KeymapBucket()+"."))
	if !ok {
		return // nothing of ours
	}
	packed := msg.Data()
	if msg.Headers().Get("KV-Operation") != "" { // somebody has deleted it
		packed = nil
	}
	if stale != nil {
		stale[part] = false
	}
	f.set(part, packed)
}

func (f *KeymapFollower) set(part int, packed []byte) {
	if err := f.cfg.Map.Set(part, packed); err != nil {
		f.faults.Add(1)
		f.cfg.Logger.Error("a partition of the key map is not taken over, the old one stays in force", "key", partitionKey(part), "error", err)
		return
	}
	f.held[part] = len(packed) > 0
	f.changes.Add(1)
	f.cfg.Changed(part)
}

// complete is called when all that the bucket, of that age, holds was taken over.
func (f *KeymapFollower) complete(created time.Time, stale *[keymap.Partitions]bool) {
	f.created = created
	if stale != nil {
		for part, old := range stale {
			if old {
				f.set(part, nil)
			}
		}
	}
	select {
	case <-f.loaded:
	default:
		close(f.loaded)
	}
}
