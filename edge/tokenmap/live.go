package tokenmap

import (
	"crypto/sha256"
	"errors"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// pace is the rhythm of a Live.
type pace struct {
	// settle passes between the last change seen in a folder and reading the files, so that a file written in place,
	// or map and key changed together, are mostly read when complete.
	settle time.Duration
	// poll is how often the files are looked at without a sign of change. It finds what a watch on the folder cannot:
	// a link that leads elsewhere, a network mount, a folder put in anew, a system out of inotify watches.
	poll time.Duration
	// save is how often last uses go to the disk.
	save time.Duration
}

var defaultPace = pace{settle: 100 * time.Millisecond, poll: 10 * time.Second, save: 5 * time.Second}

// A Live is the map of a file, and stays so: a changed file is taken up within a second, a bad or missing one leaves
// the map in force, with a log line and a count. Safe for concurrent use.
type Live struct {
	file File
	lg   *slog.Logger
	pace pace

	current atomic.Pointer[Map]

	loading sync.Mutex // held while files are read; guards seen
	seen    digest     // what was last read, good or bad, so that nothing is parsed or complained of twice

	mu     sync.Mutex // guards status
	status Status

	closing   chan struct{}
	closeOnce sync.Once
	closed    chan struct{} // closed when follow has returned
	closeErr  error         // set before closed is closed
}

// Status is the state of a [Live], for readiness and metrics.
type Status struct {
	// Tokens is how many the map in force holds.
	Tokens int
	// Loaded is when the map in force was read.
	Loaded time.Time
	// Failures counts the contents that were refused since the start, and explicit reloads that failed.
	Failures uint64
	// LastError says why what now lies on the disk is not in force; empty while it is.
	LastError string
}

// Watch loads the map and follows its file until [Live.Close]. A map that cannot be loaded now is an error ([*Error]);
// afterwards it is not.
func Watch(f File, lg *slog.Logger) (*Live, error) { return watch(f, lg, defaultPace) }

func watch(f File, lg *slog.Logger, p pace) (*Live, error) {
	l := &Live{file: f, lg: lg, pace: p, closing: make(chan struct{}), closed: make(chan struct{})}
	l.current.Store(new(Map))
	// The watch comes before the first reading, so that no change falls between.
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		lg.Warn("no watch on the token map; it is looked at from time to time", "file", f.Path, "every", p.poll, "error", err)
		watcher = nil
	}
	l.watchFolders(watcher)
	if err := l.load(false); err != nil {
		if watcher != nil {
			watcher.Close()
		}
		return nil, err
	}
	if f.Identity == "" {
		if st, err := os.Stat(f.KeyPath); err == nil && st.Mode().Perm()&0o007 != 0 {
			lg.Warn("the key of the token map is open to every user of this host", "file", f.KeyPath, "mode", st.Mode().Perm())
		}
	}
	used, err := readUsage(f.UsagePath)
	if err != nil {
		lg.Warn("last uses of tokens not known, begun anew", "error", err)
	}
	for p := range l.Principals() {
		if t, ok := used[p.Fingerprint]; ok {
			p.Touch(t)
		}
	}
	go l.follow(watcher, used)
	return l, nil
}

// Lookup is [Map.Lookup] on the map in force.
func (l *Live) Lookup(token []byte) (*Principal, bool) { return l.current.Load().Lookup(token) }

// Principals goes through the tokens of the map in force, in the order of the file.
func (l *Live) Principals() iter.Seq[*Principal] { return l.current.Load().Principals() }

// Status never waits for the disk.
func (l *Live) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Reload reads the files now, also if they look unchanged. An error ([*Error]) is logged and counted, too, and leaves
// the map in force.
func (l *Live) Reload() error { return l.load(true) }

// Close stops following the file and writes the last uses; its error is that of the writing. The map in force stays in
// use. Further calls return the same.
func (l *Live) Close() error {
	l.closeOnce.Do(func() { close(l.closing) })
	<-l.closed
	return l.closeErr
}

// load reads the files and, if they are new or force is set, puts them in force. Without force it returns nil for what
// it has seen before, good or bad.
func (l *Live) load(force bool) error {
	l.loading.Lock()
	defer l.loading.Unlock()
	snap, err := l.file.snapshot()
	sum := snap.sum()
	if err != nil {
		sum = sha256.Sum256([]byte(err.Error()))
	}
	known := sum == l.seen
	if known && !force {
		return nil
	}
	l.seen = sum
	var next *Map
	if err == nil {
		next, err = l.file.decode(snap)
	}
	if err != nil {
		l.refuse(err, known)
		return err
	}
	next.adopt(l.current.Load())
	l.current.Store(next)
	l.mu.Lock()
	l.status = Status{Tokens: next.Len(), Loaded: time.Now(), Failures: l.status.Failures}
	l.mu.Unlock()
	if next.Len() == 0 {
		l.lg.Warn("token map is empty: every request will be refused", "file", l.file.Path)
	} else if !known {
		l.lg.Info("token map loaded", "file", l.file.Path, "tokens", next.Len())
	}
	return nil
}

// refuse counts a failure and logs it, unless it is known or comes before the first map, when Watch returns it.
func (l *Live) refuse(err error, known bool) {
	l.mu.Lock()
	l.status.Failures++
	l.status.LastError = err.Error()
	inForce := l.status
	l.mu.Unlock()
	if known || inForce.Loaded.IsZero() {
		return
	}
	attrs := []any{"tokens", inForce.Tokens}
	if e := (*Error)(nil); !errors.As(err, &e) {
		attrs = append(attrs, "file", l.file.Path, "reason", err.Error())
	} else if attrs = append(attrs, "file", e.Path, "reason", e.Reason); e.Line > 0 {
		attrs = append(attrs, "line", e.Line)
	}
	l.lg.Error("token map not loaded, the former one stays in force", attrs...)
}

// watchFolders watches the folders of map and key, not the files: a file that is replaced takes its watch along. To
// name a folder again is harmless and finds one that was put in anew. Errors leave it to the polling.
func (l *Live) watchFolders(w *fsnotify.Watcher) {
	if w == nil {
		return
	}
	_ = w.Add(filepath.Dir(l.file.Path))
	if l.file.Identity == "" {
		_ = w.Add(filepath.Dir(l.file.KeyPath))
	}
}

// follow is the goroutine of a Live. It owns the watcher and the usage file.
func (l *Live) follow(w *fsnotify.Watcher, written usage) {
	defer close(l.closed)
	var events <-chan fsnotify.Event
	var faults <-chan error
	if w != nil {
		defer w.Close()
		events, faults = w.Events, w.Errors
	}
	poll, save := time.NewTicker(l.pace.poll), time.NewTicker(l.pace.save)
	defer poll.Stop()
	defer save.Stop()
	settled := time.NewTimer(time.Hour)
	settled.Stop()
	defer settled.Stop()
	var saveErr error
	for {
		select {
		case _, ok := <-events:
			if !ok {
				events = nil // the watch broke down; the polling goes on
			}
			// Whatever it is: with links in the path, what changed does not tell what it means for the map.
			settled.Reset(l.pace.settle)
		case _, ok := <-faults:
			if !ok {
				faults = nil
			}
			settled.Reset(l.pace.settle) // events may have been lost
		case <-settled.C:
			_ = l.load(false)
		case <-poll.C:
			l.watchFolders(w)
			_ = l.load(false)
		case <-save.C:
			written, saveErr = l.save(written, saveErr)
		case <-l.closing:
			_, l.closeErr = l.save(written, saveErr)
			return
		}
	}
}

// save writes the last uses if they differ from what was written. A failure is logged unless the last one failed, too.
func (l *Live) save(written usage, before error) (usage, error) {
	if l.file.UsagePath == "" {
		return nil, nil
	}
	now := usageOf(l.current.Load())
	if now.equal(written) {
		return written, nil
	}
	if err := now.write(l.file.UsagePath); err != nil {
		if before == nil {
			l.lg.Error("last uses of tokens not written; tried again from time to time", "error", err, "every", l.pace.save)
		}
		return written, err
	}
	return now, nil
}
