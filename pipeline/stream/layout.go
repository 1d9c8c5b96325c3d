package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/internal/names"
)

// duplicateWindow is how long a stream remembers a Nats-Msg-Id (contract
// section 4). A repetition of an unclear publish comes within seconds.
const duplicateWindow = 2 * time.Minute

// Topic describes one topic and with it one stream.
type Topic struct {
	// Name is 1 to 32 of A-Z a-z 0-9 _ -.
	Name string
	// MaxAge is how long a message is kept. It must be positive: topics are
	// transport, not archive.
	MaxAge time.Duration
	// MaxBytes is the most the stream may hold, as JetStream counts it (about
	// 30 bytes, subject and headers on top of each body). It must be positive.
	MaxBytes int64
	// DiscardOld makes a full topic drop its oldest messages. Otherwise a full
	// topic refuses new ones.
	DiscardOld bool
}

// Layout is the closed set of topics and how their streams are named. It is a
// value; nothing in this package changes one.
type Layout struct {
	// Prefix begins every stream and subject name, so that several instances
	// can share a cluster. Same alphabet as a topic's name.
	Prefix string
	// Replicas is the number of copies of each stream, 1 to 5. Zero means 1.
	// The embedded server has no peers and always keeps 1.
	Replicas int
	// Topics are the topics, each name once.
	Topics []Topic
	// KeymapBytes is the most that the bucket of the key map may hold. Zero
	// means no limit.
	KeymapBytes int64

	// spool makes streams that keep everything until it is taken out. Their age
	// and byte limits are none.
	spool bool
}

// Stream returns the name of the stream that holds topic.
func (l Layout) Stream(topic string) string { return l.Prefix + "-" + topic }

// Subject returns the subject on which topic is published.
func (l Layout) Subject(topic string) string { return l.Prefix + "." + topic }

// Check returns all faults of l, joined, or nil.
func (l Layout) Check() error {
	var errs []error
	if err := checkName("prefix", l.Prefix); err != nil {
		errs = append(errs, err)
	}
	if l.Replicas < 0 || l.Replicas > 5 {
		errs = append(errs, fmt.Errorf("stream: replicas %d, want 1 to 5", l.Replicas))
	}
	if len(l.Topics) == 0 {
		errs = append(errs, errors.New("stream: layout without a topic"))
	}
	seen := make(map[string]bool, len(l.Topics))
	for _, t := range l.Topics {
		if err := checkName("topic", t.Name); err != nil {
			errs = append(errs, err)
		}
		if seen[t.Name] {
			errs = append(errs, fmt.Errorf("stream: topic %q occurs twice", t.Name))
		}
		seen[t.Name] = true
		if l.spool {
			continue
		}
		if t.MaxAge <= 0 {
			errs = append(errs, fmt.Errorf("stream: topic %q: maximum age %v, want more than 0", t.Name, t.MaxAge))
		}
		if t.MaxBytes <= 0 {
			errs = append(errs, fmt.Errorf("stream: topic %q: byte limit %d, want more than 0", t.Name, t.MaxBytes))
		}
	}
	return errors.Join(errs...)
}

// checkName returns an error about what cannot be called name.
func checkName(what, name string) error {
	if err := names.Check(what, name, names.TopicBytes); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	return nil
}

// config is what the stream of t has to be.
func (l Layout) config(t Topic) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:              l.Stream(t.Name),
		Description:       "Caliper topic " + t.Name,
		Subjects:          []string{l.Subject(t.Name), l.Subject(t.Name) + ".>"},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew,
		MaxAge:            t.MaxAge,
		MaxBytes:          t.MaxBytes,
		MaxMsgs:           -1,
		MaxMsgsPerSubject: -1,
		MaxMsgSize:        -1,
		Duplicates:        min(duplicateWindow, t.MaxAge), // the server refuses a longer one
		Replicas:          max(l.Replicas, 1),
	}
	if t.DiscardOld {
		c.Discard = jetstream.DiscardOld
	}
	if l.spool {
		c.Description, c.MaxAge, c.MaxBytes, c.Duplicates, c.AllowDirect = "Caliper spool "+t.Name, 0, -1, duplicateWindow, true
	}
	return c
}

// Verify looks at the streams of layout and changes nothing. A stream that is
// missing, or that cannot keep what its topic promises, is an error; it returns
// in what else they differ.
func Verify(ctx context.Context, js jetstream.JetStream, layout Layout) ([]Difference, error) {
	var ds []Difference
	var errs []error
	for _, t := range layout.Topics {
		want := layout.config(t)
		have, err := streamConfig(ctx, js, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			errs = append(errs, &permanentError{fmt.Errorf("stream: stream %s is missing, and streams are only verified: create it on %s", want.Name, strings.Join(want.Subjects, " and "))})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("stream: look at stream %s: %w", want.Name, err)
		}
		for _, d := range differences(have, want) {
			if d.grave {
				errs = append(errs, &permanentError{errors.New(d.String())})
			} else {
				ds = append(ds, d)
			}
		}
	}
	return ds, errors.Join(errs...)
}

// Ensure creates the streams of layout that are missing and leaves existing
// ones as they are, whatever they are. It returns in what existing streams
// differ. It blocks until the server has answered or ctx is done.
func Ensure(ctx context.Context, js jetstream.JetStream, layout Layout) ([]Difference, error) {
	var ds []Difference
	for _, t := range layout.Topics {
		want := layout.config(t)
		have, err := streamConfig(ctx, js, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			err = createStream(ctx, js, want)
			if err == nil {
				continue
			}
			// Another instance may have been faster.
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				have, err = streamConfig(ctx, js, want.Name)
			}
		}
		if err != nil {
			return ds, fmt.Errorf("stream: create stream %s: %w", want.Name, err)
		}
		ds = append(ds, differences(have, want)...)
	}
	return ds, nil
}

// Apply makes the streams of layout what it says: it creates those missing and
// changes those that differ, in the properties that a Difference can name. A
// smaller byte limit deletes nothing unless the topic discards its oldest; a
// smaller maximum age does. The bucket of the key map, where there is one, gets its
// byte limit. The server refuses some changes, such as that of the
// storage; Apply goes on with the next stream and returns all refusals joined.
func Apply(ctx context.Context, js jetstream.JetStream, layout Layout) error {
	if err := layout.Check(); err != nil {
		return err
	}
	var errs []error
	for _, t := range layout.Topics {
		want := layout.config(t)
		have, err := streamConfig(ctx, js, want.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			err = createStream(ctx, js, want)
		case err == nil && len(differences(have, want)) > 0:
			for _, a := range aspects() {
				a.set(&have, &want)
			}
			err = updateStream(ctx, js, have)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("stream: apply to stream %s: %w", want.Name, err))
		}
	}
	return errors.Join(append(errs, applyKeymap(ctx, js, layout))...)
}

// askStream asks for a stream and its state.
func askStream(ctx context.Context, js jetstream.JetStream, name string) (jetstream.Stream, error) {
	var s jetstream.Stream
	err := ask(ctx, js, name, func(ctx context.Context) error {
		var err error
		s, err = js.Stream(ctx, name)
		return err
	})
	return s, err
}

func streamConfig(ctx context.Context, js jetstream.JetStream, name string) (jetstream.StreamConfig, error) {
	s, err := askStream(ctx, js, name)
	if err != nil {
		return jetstream.StreamConfig{}, err
	}
	return s.CachedInfo().Config, nil
}

func createStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	return ask(ctx, js, want.Name, func(ctx context.Context) error {
		_, err := js.CreateStream(ctx, want)
		return err
	})
}

func updateStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	return ask(ctx, js, want.Name, func(ctx context.Context) error {
		_, err := js.UpdateStream(ctx, want)
		return err
	})
}

// TopicStatus is what the stream of a topic is and holds.
type TopicStatus struct {
	// Topic is the topic's name and Stream that of its stream.
	Topic, Stream string
	// Missing is true where there is no such stream; the rest is then zero.
	Missing bool
	// Messages, Bytes and Consumers count what the stream has.
	Messages, Bytes uint64
	Consumers       int
	// MaxBytes is the limit in force, -1 for none.
	MaxBytes int64
	// Replicas is the number of copies in force.
	Replicas int
	// Leaderless is true where a cluster has no leader for the stream, so that
	// nothing can be stored.
	Leaderless bool
	// Oldest and Newest are when the first and last message were stored; zero
	// where the stream is empty.
	Oldest, Newest time.Time
	// Differences are those to the layout.
	Differences []Difference
}

// List asks for the state of every topic of layout, one request each, and
// returns them in the order of the layout.
func List(ctx context.Context, js jetstream.JetStream, layout Layout) ([]TopicStatus, error) {
	list := make([]TopicStatus, 0, len(layout.Topics))
	for _, t := range layout.Topics {
		want := layout.config(t)
		st := TopicStatus{Topic: t.Name, Stream: want.Name}
		s, err := askStream(ctx, js, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			st.Missing = true
			list = append(list, st)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("stream: ask for stream %s: %w", want.Name, err)
		}
		info := s.CachedInfo()
		st.Messages, st.Bytes, st.Consumers = info.State.Msgs, info.State.Bytes, info.State.Consumers
		st.MaxBytes, st.Replicas = info.Config.MaxBytes, info.Config.Replicas
		st.Leaderless = info.Cluster != nil && info.Cluster.Leader == ""
		if st.Messages > 0 {
			st.Oldest, st.Newest = info.State.FirstTime, info.State.LastTime
		}
		st.Differences = differences(info.Config, want)
		list = append(list, st)
	}
	return list, nil
}
