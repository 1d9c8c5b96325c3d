package stream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// ackWait is how long a reader has to load one message of up to 10,000
	// records before it is delivered again.
	ackWait = time.Minute
	// maxAckPending bounds what a reader may have in hand: 128 messages of at
	// most 1 MiB.
	maxAckPending = 128
	// settle is how long the readers' file must be quiet before it is read.
	settle = 50 * time.Millisecond
)

// Credential lets a reader in. The password is shown once: only its digest is
// kept.
type Credential struct {
	// User is the reader's and its consumer's name.
	User string
	// Password is empty where the server is external and manages its own users.
	Password string
	// Stream and Consumer are what the reader names in its requests.
	Stream, Consumer string
}

// ReaderStatus is one durable consumer.
type ReaderStatus struct {
	Name, Topic string
	// Credential is true where the data folder has a digest for it.
	Credential bool
	// Missing is true where there is a digest but no consumer.
	Missing bool
	// Pending messages are still to be delivered, AckPending ones delivered and
	// not acknowledged, Redelivered ones of these delivered more than once.
	Pending     uint64
	AckPending  int
	Redelivered int
	// LastAck is when a message was last acknowledged, zero for never.
	LastAck time.Time
}

// readersFile is readers.json.
type readersFile struct {
	Readers []readerRecord `json:"readers"`
}

type readerRecord struct {
	Name   string `json:"name"`
	Topic  string `json:"topic"`
	SHA256 string `json:"sha256"` // of the password, hexadecimal
}

// readerEntry is a record of the file, checked.
type readerEntry struct {
	Name, Topic string
	digest      [sha256.Size]byte
}

// readerSubjects are all subjects on which a reader may send.
func readerSubjects(stream, consumer string) []string {
	return []string{
		"$JS.API.CONSUMER.MSG.NEXT." + stream + "." + consumer,
		"$JS.API.CONSUMER.INFO." + stream + "." + consumer,
		"$JS.API.STREAM.INFO." + stream,
		"$JS.ACK." + stream + "." + consumer + ".>",
	}
}

// AddReader creates the durable pull consumer name on topic, delivering from
// the first message on, and a credential for it whose digest goes into the data
// folder dir, where the running server finds it within a second. A reader that
// is there already keeps its position and gets a new password in place of the
// old. It is refused where the name is in use on another topic. With an empty
// dir, for an external server, it makes the consumer only.
func AddReader(ctx context.Context, js jetstream.JetStream, layout Layout, dir, name, topic string) (Credential, error) {
	if err := checkReader(name); err != nil {
		return Credential{}, err
	}
	if !hasTopic(layout, topic) {
		return Credential{}, fmt.Errorf("stream: reader %s: there is no topic %q, want one of %s", name, topic, topicNames(layout))
	}
	if err := addConsumer(ctx, js, layout, name, topic); err != nil {
		return Credential{}, err
	}
	cred := Credential{User: name, Stream: layout.Stream(topic), Consumer: name}
	if dir == "" {
		return cred, nil
	}
	cred.Password = newPassword()
	err := editReaders(dir, func(m map[string]readerEntry) error {
		if had, ok := m[name]; ok && had.Topic != topic {
			return fmt.Errorf("stream: reader %s has a credential for topic %s; remove it first", name, had.Topic)
		}
		m[name] = readerEntry{Name: name, Topic: topic, digest: sha256.Sum256([]byte(cred.Password))}
		return nil
	})
	if err != nil {
		return Credential{}, err
	}
	return cred, nil
}

// checkReader refuses what no reader can be called.
func checkReader(name string) error {
	if name == ownUser || name == moverConsumer {
		return fmt.Errorf("stream: reader %q: the name is the program's own", name)
	}
	return checkName("reader", name)
}

func addConsumer(ctx context.Context, js jetstream.JetStream, layout Layout, name, topic string) error {
	for _, t := range layout.Topics {
		c, err := js.Consumer(ctx, layout.Stream(t.Name), name)
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		case err != nil:
			return fmt.Errorf("stream: ask for consumer %s of topic %s: %w", name, t.Name, err)
		case t.Name != topic:
			return fmt.Errorf("stream: reader %s exists and reads topic %s; remove it first", name, t.Name)
		case c.CachedInfo().Config.AckPolicy != jetstream.AckExplicitPolicy:
			return fmt.Errorf("stream: consumer %s of topic %s exists and does not acknowledge each message; remove it first", name, topic)
		default:
			return nil
		}
	}
	_, err := js.CreateConsumer(ctx, layout.Stream(topic), jetstream.ConsumerConfig{
		Durable:           name,
		Description:       "reader of Caliper topic " + topic,
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		AckPolicy:         jetstream.AckExplicitPolicy,
		AckWait:           ackWait,
		MaxAckPending:     maxAckPending,
		MaxRequestExpires: maxPullExpires,
	})
	if err != nil {
		return fmt.Errorf("stream: create consumer %s on stream %s: %w", name, layout.Stream(topic), err)
	}
	return nil
}

// RemoveReader takes the credential of reader name out of the data folder dir,
// on which the running server disconnects it, and deletes its consumer. It
// fails where there is neither. An empty dir is for an external server.
func RemoveReader(ctx context.Context, js jetstream.JetStream, layout Layout, dir, name string) error {
	if err := checkReader(name); err != nil {
		return err
	}
	found := false
	if dir != "" {
		err := editReaders(dir, func(m map[string]readerEntry) error {
			_, found = m[name]
			delete(m, name)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, t := range layout.Topics {
		err := js.DeleteConsumer(ctx, layout.Stream(t.Name), name)
		switch {
		case err == nil:
			found = true
		case !errors.Is(err, jetstream.ErrConsumerNotFound) && !errors.Is(err, jetstream.ErrStreamNotFound):
			return fmt.Errorf("stream: delete consumer %s of topic %s: %w", name, t.Name, err)
		}
	}
	if !found {
		return fmt.Errorf("stream: there is no reader %s", name)
	}
	return nil
}

// ListReaders returns the durable consumers of all topics and the credentials
// of the data folder dir, sorted by topic as in the layout, then by name.
func ListReaders(ctx context.Context, js jetstream.JetStream, layout Layout, dir string) ([]ReaderStatus, error) {
	creds := map[string]readerEntry{}
	if dir != "" {
		var err error
		if creds, err = loadReaders(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	var list []ReaderStatus
	for _, t := range layout.Topics {
		first := len(list)
		s, err := js.Stream(ctx, layout.Stream(t.Name))
		if err == nil {
			lister := s.ListConsumers(ctx)
			for info := range lister.Info() {
				if info.Config.Durable != "" && info.Name != moverConsumer {
					list = append(list, readerStatus(t.Name, info, creds))
				}
			}
			err = lister.Err()
		}
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil, fmt.Errorf("stream: list consumers of topic %s: %w", t.Name, err)
		}
		for name, r := range creds {
			if r.Topic == t.Name && !slices.ContainsFunc(list[first:], func(s ReaderStatus) bool { return s.Name == name }) {
				list = append(list, ReaderStatus{Name: name, Topic: t.Name, Credential: true, Missing: true})
			}
		}
		slices.SortFunc(list[first:], func(a, b ReaderStatus) int { return strings.Compare(a.Name, b.Name) })
	}
	return list, nil
}

func readerStatus(topic string, info *jetstream.ConsumerInfo, creds map[string]readerEntry) ReaderStatus {
	st := ReaderStatus{
		Name: info.Name, Topic: topic, Credential: creds[info.Name].Topic == topic,
		Pending: info.NumPending, AckPending: info.NumAckPending, Redelivered: info.NumRedelivered,
	}
	if info.AckFloor.Last != nil {
		st.LastAck = *info.AckFloor.Last
	}
	return st
}

func hasTopic(layout Layout, topic string) bool {
	return slices.ContainsFunc(layout.Topics, func(t Topic) bool { return t.Name == topic })
}

func topicNames(layout Layout) string {
	var names []string
	for _, t := range layout.Topics {
		names = append(names, t.Name)
	}
	return strings.Join(names, ", ")
}

// editReaders changes readers.json; concurrent editors wait for each other.
func editReaders(dir string, edit func(map[string]readerEntry) error) error {
	lock, err := lockFile(filepath.Join(dir, readersLockName), true)
	if err != nil {
		return fmt.Errorf("stream: lock the readers of %s: %w", dir, err)
	}
	defer lock.Close()
	m, err := loadReaders(dir)
	if errors.Is(err, fs.ErrNotExist) {
		m, err = map[string]readerEntry{}, nil
	}
	if err != nil {
		return err // a broken file is not ours to overwrite
	}
	if err := edit(m); err != nil {
		return err
	}
	f := readersFile{Readers: []readerRecord{}}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		r := m[name]
		f.Readers = append(f.Readers, readerRecord{Name: r.Name, Topic: r.Topic, SHA256: hex.EncodeToString(r.digest[:])})
	}
	return writeJSON(filepath.Join(dir, readersName), f)
}

// loadReaders reads readers.json. A file with a fault is refused as a whole.
func loadReaders(dir string) (map[string]readerEntry, error) {
	path := filepath.Join(dir, readersName)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("stream: %w", err)
	}
	var f readersFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("stream: %s: %w", path, err)
	}
	m := make(map[string]readerEntry, len(f.Readers))
	for i, r := range f.Readers {
		e := readerEntry{Name: r.Name, Topic: r.Topic}
		n, err := hex.Decode(e.digest[:], bytes.TrimSpace([]byte(r.SHA256[:min(len(r.SHA256), 2*sha256.Size)])))
		if err != nil || n != sha256.Size || len(r.SHA256) != 2*sha256.Size {
			return nil, fmt.Errorf("stream: %s: reader %d: sha256 is not 64 hexadecimal digits", path, i)
		}
		if err := errors.Join(checkReader(r.Name), checkName("topic", r.Topic)); err != nil {
			return nil, fmt.Errorf("stream: %s: reader %d: %w", path, i, err)
		}
		if _, twice := m[r.Name]; twice {
			return nil, fmt.Errorf("stream: %s: reader %d: name %q is taken", path, i, r.Name)
		}
		m[r.Name] = e
	}
	return m, nil
}

// followReaders loads readers.json of folder dir into set, now and whenever it
// changes, until the returned function is called, which waits for the last
// call of set. A file that is broken or gone later leaves the last good set in
// force; broken at the start, it is an error.
func followReaders(dir string, set func(map[string]readerEntry), lg *slog.Logger) (stop func(), err error) {
	stop = func() {}
	// The folder is watched, because a file that is replaced takes a watch of
	// its own with it; and before the first load, so that nothing falls between.
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return stop, fmt.Errorf("stream: watch data folder %s: %w", dir, err)
	}
	if err := w.Add(dir); err != nil {
		return stop, errors.Join(fmt.Errorf("stream: watch data folder %s: %w", dir, err), w.Close())
	}
	m, err := loadReaders(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return stop, errors.Join(err, w.Close())
	}
	set(m)
	done := make(chan struct{})
	go func() {
		defer close(done)
		watchReaders(w, dir, m, set, lg)
	}()
	return func() {
		_ = w.Close()
		<-done
	}, nil
}

func watchReaders(w *fsnotify.Watcher, dir string, last map[string]readerEntry, set func(map[string]readerEntry), lg *slog.Logger) {
	quiet := time.NewTimer(settle)
	defer quiet.Stop()
	for {
		select {
		case ev, ok := <-w.Events:
			if !ok {
				return
			}
			if filepath.Base(ev.Name) == readersName {
				quiet.Reset(settle)
			}
		case err, ok := <-w.Errors:
			if !ok {
				return
			}
			lg.Warn("watching the data folder", "error", err)
			quiet.Reset(settle) // events may have been lost
		case <-quiet.C:
			m, err := loadReaders(dir)
			switch {
			case errors.Is(err, fs.ErrNotExist) && len(last) == 0:
			case err != nil:
				lg.Error("readers of the data folder not taken over, the old ones stay in force", "error", err)
			case !maps.Equal(m, last):
				set(m)
				last = m
				lg.Info("readers of the data folder taken over", "readers", len(m))
			}
		}
	}
}
