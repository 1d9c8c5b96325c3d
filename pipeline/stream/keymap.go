package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline/keymap"
)

// The key map is a JetStream key-value bucket. Each of its keys is a partition
// of the table, part.000 to part.fff, and the value its rows, packed. So nothing
// out of a row becomes part of a subject, ten million rows are four thousand
// messages, and a sync of the server pays for thousands of rows.
const keymapKey = "part."

// KeymapBucket returns the name of the bucket that holds the key map.
func (l Layout) KeymapBucket() string { return l.Prefix + "-keymap" }

func (l Layout) keymapConfig() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      l.KeymapBucket(),
		Description: "Caliper key map",
		History:     1,
		Storage:     jetstream.FileStorage,
		MaxBytes:    l.KeymapBytes,
		Replicas:    max(l.Replicas, 1),
	}
}

// EnsureKeymap returns the bucket of the key map, made where there is none. An
// existing one stays as it is.
func EnsureKeymap(ctx context.Context, js jetstream.JetStream, layout Layout) (jetstream.KeyValue, error) {
	kv, err := OpenKeymap(ctx, js, layout)
	if !errors.Is(err, jetstream.ErrBucketNotFound) {
		return kv, err
	}
	err = ask(ctx, js, keymapStream(layout), func(ctx context.Context) error {
		var err error
		kv, err = js.CreateKeyValue(ctx, layout.keymapConfig())
		return err
	})
	if errors.Is(err, jetstream.ErrBucketExists) { // another instance was faster
		return OpenKeymap(ctx, js, layout)
	}
	if err != nil {
		return nil, fmt.Errorf("stream: create bucket %s: %w", layout.KeymapBucket(), err)
	}
	return kv, nil
}

// OpenKeymap returns the bucket of the key map. The error is
// jetstream.ErrBucketNotFound where there is none.
func OpenKeymap(ctx context.Context, js jetstream.JetStream, layout Layout) (jetstream.KeyValue, error) {
	var kv jetstream.KeyValue
	err := ask(ctx, js, keymapStream(layout), func(ctx context.Context) error {
		var err error
		kv, err = js.KeyValue(ctx, layout.KeymapBucket())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("stream: open bucket %s: %w", layout.KeymapBucket(), err)
	}
	return kv, nil
}

// KeymapStatus is what the bucket of the key map is and holds.
type KeymapStatus struct {
	// Missing is true where there is none; the rest is then zero.
	Missing bool
	// Partitions and Bytes count what it holds, Revision its changes.
	Partitions, Bytes, Revision uint64
	// MaxBytes is the limit in force, -1 for none.
	MaxBytes int64
	// Differences are those to the layout.
	Differences []Difference
}

// ShowKeymap asks for the state of the bucket of the key map.
func ShowKeymap(ctx context.Context, js jetstream.JetStream, layout Layout) (KeymapStatus, error) {
	name := keymapStream(layout)
	s, err := askStream(ctx, js, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return KeymapStatus{Missing: true}, nil
	}
	if err != nil {
		return KeymapStatus{}, fmt.Errorf("stream: ask for the key map: %w", err)
	}
	info := s.CachedInfo()
	st := KeymapStatus{Partitions: info.State.Msgs, Bytes: info.State.Bytes, Revision: info.State.LastSeq, MaxBytes: info.Config.MaxBytes}
	if layout.KeymapBytes > 0 && st.MaxBytes != layout.KeymapBytes {
		st.Differences = []Difference{{Stream: name, Field: "byte limit", Have: fmt.Sprint(st.MaxBytes), Want: fmt.Sprint(layout.KeymapBytes)}}
	}
	return st, nil
}

// applyKeymap gives the bucket of the key map, where there is one, its byte limit.
func applyKeymap(ctx context.Context, js jetstream.JetStream, layout Layout) error {
	st, err := ShowKeymap(ctx, js, layout)
	if err != nil || len(st.Differences) == 0 {
		return err
	}
	have, err := streamConfig(ctx, js, keymapStream(layout))
	if err == nil {
		have.MaxBytes = layout.KeymapBytes
		err = updateStream(ctx, js, have)
	}
	if err != nil {
		return fmt.Errorf("stream: apply to stream %s: %w", keymapStream(layout), err)
	}
	return nil
}

// keymapStream is the name of the stream behind the bucket.
func keymapStream(layout Layout) string { return "KV_" + layout.KeymapBucket() }

func partitionKey(part int) string { return fmt.Sprintf("%s%03x", keymapKey, part) }

// partitionOf is the number of the partition at key, and whether there is one.
func partitionOf(key string) (int, bool) {
	digits, ok := strings.CutPrefix(key, keymapKey)
	n, err := strconv.ParseUint(digits, 16, 16)
	return int(n), ok && err == nil && n < keymap.Partitions
}

// ReadPartition returns the rows of partition part in order of tool, kind and
// value.
func ReadPartition(ctx context.Context, kv jetstream.KeyValue, part int) ([]keymap.Row, error) {
	packed, _, err := getPartition(ctx, kv, part)
	if err != nil {
		return nil, err
	}
	rows, err := keymap.Rows(packed)
	if err != nil {
		return nil, fmt.Errorf("stream: key %s of the key map: %w", partitionKey(part), err)
	}
	return rows, nil
}

// getPartition returns a packed partition, empty where there is none, and its
// revision.
func getPartition(ctx context.Context, kv jetstream.KeyValue, part int) ([]byte, uint64, error) {
	e, err := kv.Get(ctx, partitionKey(part))
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound): // also where somebody has deleted it
		return nil, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("stream: read key %s of the key map: %w", partitionKey(part), err)
	}
	return e.Value(), e.Revision(), nil
}

const (
	// editBytes is how many bytes of edits gather before they are written: the
	// more, the fewer times a partition is packed anew.
	editBytes = 256 << 20
	// keymapWriters is how many partitions are written at once. It keeps the
	// server's disk busy while others are packed.
	keymapWriters = 8
	// keymapTimeout bounds one request to the bucket.
	keymapTimeout = 30 * time.Second
)

// KeymapWriter applies edits to the key map. Several may work on one key map
// at once: of two edits of the same row the later one holds, and none is lost.
type KeymapWriter struct {
	kv      jetstream.KeyValue
	edits   [keymap.Partitions][]byte // rows as appendRow writes them, in their order
	pending int                       // bytes in edits
	counts  keymap.Counts
	// Progress is called now and then while edits are written, with how many of
	// the partitions they touch are. It may be nil.
	Progress func(done, total int)
}

// NewKeymapWriter returns a writer to the bucket kv.
func NewKeymapWriter(kv jetstream.KeyValue) *KeymapWriter { return &KeymapWriter{kv: kv} }

// Counts says what became of the edits that were written.
func (w *KeymapWriter) Counts() keymap.Counts { return w.counts }

// Add takes an edit, which is written with many others, at the latest by Flush.
func (w *KeymapWriter) Add(ctx context.Context, r keymap.Row) error {
	part := keymap.Partition(r.Tool, r.Kind, []byte(r.Value))
	had := len(w.edits[part])
	w.edits[part] = appendRow(w.edits[part], r)
	w.pending += len(w.edits[part]) - had
	if w.pending < editBytes {
		return nil
	}
	return w.Flush(ctx)
}

// Flush writes what was added. After an error some of it may be written and the
// rest is not; the same edits can be made again.
func (w *KeymapWriter) Flush(ctx context.Context) error {
	var todo []int
	for part := range w.edits {
		if len(w.edits[part]) > 0 {
			todo = append(todo, part)
		}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next, done atomic.Int64
	var mu sync.Mutex // guards counts and calls of Progress
	var writers sync.WaitGroup
	for range keymapWriters {
		writers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(todo) {
					return
				}
				c, err := w.write(ctx, todo[i])
				if err != nil {
					stop(err)
					return
				}
				mu.Lock()
				w.counts.Add(c)
				if n := int(done.Add(1)); w.Progress != nil && (n%256 == 0 || n == len(todo)) {
					w.Progress(n, len(todo))
				}
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	w.pending = 0
	return context.Cause(ctx)
}

// write applies the edits of one partition, again and again where others write
// it too.
func (w *KeymapWriter) write(ctx context.Context, part int) (keymap.Counts, error) {
	edits := rowsOf(w.edits[part])
	w.edits[part] = nil
	for {
		c, again, err := w.tryWrite(ctx, part, edits)
		if !again || err != nil {
			return c, err
		}
	}
}

func (w *KeymapWriter) tryWrite(ctx context.Context, part int, edits []keymap.Row) (c keymap.Counts, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, keymapTimeout)
	defer cancel()
	packed, revision, err := getPartition(ctx, w.kv, part)
	if err != nil {
		return c, false, err
	}
	merged, c, err := keymap.Merge(packed, edits)
	if err != nil {
		return c, false, fmt.Errorf("stream: key %s of the key map: %w", partitionKey(part), err)
	}
	if c.Added+c.Changed+c.Removed == 0 {
		return c, false, nil
	}
	if revision == 0 {
		_, err = w.kv.Create(ctx, partitionKey(part), merged)
	} else {
		_, err = w.kv.Update(ctx, partitionKey(part), merged, revision)
	}
	var api *jetstream.APIError
	switch {
	case err == nil:
		return c, false, nil
	case errors.Is(err, jetstream.ErrKeyExists), errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence:
		return c, true, nil
	case errors.As(err, &api) && api.Description == textMaxBytes:
		return c, false, fmt.Errorf("stream: the key map has reached its byte limit, 5 %% of the store limit; raise CALIPER_STORE_BYTES and run topics apply: %w", err)
	}
	return c, false, fmt.Errorf("stream: write key %s of the key map: %w", partitionKey(part), err)
}

// appendRow appends r with the lengths of its fields before them, and rowsOf
// reads such rows.
func appendRow(b []byte, r keymap.Row) []byte {
	for _, s := range [...]string{r.Tool, r.Kind, r.Value, r.Key} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

func rowsOf(b []byte) []keymap.Row {
	text := string(b)
	var rows []keymap.Row
	for len(b) > 0 {
		var r keymap.Row
		for _, s := range [...]*string{&r.Tool, &r.Kind, &r.Value, &r.Key} {
			size, n := binary.Uvarint(b)
			at := len(text) - len(b) + n
			*s = text[at : at+int(size)]
			b = b[n+int(size):]
		}
		rows = append(rows, r)
	}
	return rows
}
