package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"caliperedge/pipeline"
	"caliperedge/pipeline/stream"

	"golang.org/x/sys/unix"
)

// defaultTopics are the topics of every installation, each with its share of
// the store limit in percent. What is left of 100 is for internal buckets.
var defaultTopics = []struct {
	name    string
	percent int64
}{{pipeline.TopicStandard, 50}, {"enriched", 25}, {"quarantine", 10}, {pipeline.TopicEntities, 5}, {pipeline.TopicRejected, 5}}

const (
	// internalPercent of the store limit is for internal buckets.
	internalPercent = 5
	// defaultMaxAge is how long a topic keeps a record.
	defaultMaxAge = 30 * 24 * time.Hour
	// remoteStoreBytes is the store limit where an external server's space is
	// not ours to measure.
	remoteStoreBytes = 10 << 30
)

// layout is the set of topics with their retention below a store limit.
func (c *config) layout(storeBytes int64) (stream.Layout, error) {
	l := stream.Layout{Prefix: c.Prefix, Replicas: c.Replicas, KeymapBytes: storeBytes / 100 * internalPercent}
	settings := maps.Clone(c.Topics)
	var total int64
	var parts []string
	add := func(name string, set topicSetting, percent int64) error {
		t := stream.Topic{Name: name, MaxAge: set.MaxAge, MaxBytes: storeBytes / 100 * percent, DiscardOld: name == pipeline.TopicRejected}
		if t.MaxAge == 0 {
			t.MaxAge = defaultMaxAge
		}
		if set.MaxBytes != "" {
			var err error
			if t.MaxBytes, err = bytesOrShare(set.MaxBytes, storeBytes); err != nil {
				return fmt.Errorf("topic %s: max_bytes: %w", name, err)
			}
		}
		total += t.MaxBytes
		parts = append(parts, fmt.Sprintf("%s %d", name, t.MaxBytes))
		l.Topics = append(l.Topics, t)
		return nil
	}
	var errs []error
	for _, t := range defaultTopics {
		errs = append(errs, add(t.name, settings[t.name], t.percent))
		delete(settings, t.name)
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		errs = append(errs, add(name, settings[name], 0))
	}
	if most := storeBytes / 100 * (100 - internalPercent); total > most {
		errs = append(errs, fmt.Errorf("%s: their byte limits together are %d, expected at most %d, %d %% of the store limit of %d: %s",
			cmp.Or(c.origin["topics"], "topics"), total, most, 100-internalPercent, storeBytes, strings.Join(parts, ", ")))
	}
	return l, errors.Join(append(errs, l.Check())...)
}

func defaultNames() []string {
	var names []string
	for _, t := range defaultTopics {
		names = append(names, t.name)
	}
	return names
}

// bytesOrShare reads a number of bytes or a share such as 50%.
func bytesOrShare(s string, of int64) (int64, error) {
	if number, ok := strings.CutSuffix(s, "%"); ok {
		percent, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || percent < 1 || percent > 100 {
			return 0, fmt.Errorf("%q, expected a share from 1%% to 100%%", s)
		}
		return of / 100 * percent, nil
	}
	var v byteSize
	err := v.Set(s)
	return int64(v), err
}

// storeLimit is the file in the data folder that keeps the store limit of the
// first creation, so that a disk that fills up does not shrink the streams.
type storeLimit struct {
	Bytes int64 `json:"limit_bytes"`
}

func (c *config) storeLimitPath() string { return filepath.Join(c.DataDir, "store.json") }

// keptStoreBytes is the store limit in force: the kept one, or where there is
// none the one to keep.
func (c *config) keptStoreBytes() (bytes int64, kept bool, err error) {
	text, err := os.ReadFile(c.storeLimitPath())
	if errors.Is(err, fs.ErrNotExist) {
		bytes, err = c.wantedStoreBytes()
		return bytes, false, err
	}
	if err != nil {
		return 0, false, fmt.Errorf("store limit: %w", err)
	}
	var l storeLimit
	if err := json.Unmarshal(text, &l); err != nil || l.Bytes <= 0 {
		return 0, false, fmt.Errorf("store limit: %s is damaged, expected {\"limit_bytes\":N}; topics apply writes it anew", c.storeLimitPath())
	}
	return l.Bytes, true, nil
}

// wantedStoreBytes is what the configuration asks for: 75 % of the free space
// and the store's own, unless it says otherwise (contract, Retention).
func (c *config) wantedStoreBytes() (int64, error) {
	if c.StoreBytes > 0 {
		return int64(c.StoreBytes), nil
	}
	if c.NATSURL != "" {
		return remoteStoreBytes, nil
	}
	room, err := roomBytes(c.DataDir)
	return room / 4 * 3, err
}

// roomBytes is the free space where dir is, or is going to be, and what a store
// in it has already.
func roomBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	at := filepath.Clean(dir)
	err := unix.Statfs(at, &st)
	for errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		err = unix.Statfs(at, &st)
	}
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", at, err)
	}
	own, err := folderBytes(filepath.Join(dir, "jetstream"))
	if err != nil {
		return 0, err
	}
	return int64(st.Bavail)*int64(st.Bsize) + own, nil
}

// keepStoreBytes writes the store limit into the data folder, atomically.
func (c *config) keepStoreBytes(bytes int64) error {
	text, err := json.Marshal(storeLimit{Bytes: bytes})
	if err != nil {
		return err
	}
	if err := replaceFile(c.storeLimitPath(), append(text, '\n')); err != nil {
		return fmt.Errorf("store limit: %w", err)
	}
	return nil
}

// replaceFile gives the file at path a new content, readable by the owner only.
// Also after a power loss it has the old content or the new: without the syncs
// it can be empty, and the next start refuses it.
func replaceFile(path string, content []byte) error {
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// folderBytes is what the files below dir take; a missing dir takes nothing.
func folderBytes(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone while we looked, or not there yet
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum, err
}
