// Package certificate keeps the TLS certificate of a running program up to date:
// the files are followed, also when Kubernetes swaps the volume that holds them,
// and a pair that cannot be used leaves the one before in force.
package certificate

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Files is a certificate chain and its key, both PEM.
type Files struct{ Chain, Key string }

// pace is the rhythm of a Live.
type pace struct {
	// settle passes between the last change seen in a folder and reading, so
	// that chain and key are mostly read when both are there.
	settle time.Duration
	// poll is how often the files are looked at without a sign of change: it
	// finds what a watch cannot, such as a link that leads elsewhere.
	poll time.Duration
}

var defaultPace = pace{settle: 100 * time.Millisecond, poll: 10 * time.Second}

// Status is the state of a Live, for metrics.
type Status struct {
	// Loaded is when the certificate in force was read, NotAfter when it expires.
	Loaded, NotAfter time.Time
	// Failures counts the contents that were refused since the start, and
	// explicit reloads that failed.
	Failures uint64
}

// A Live is the certificate of two files, and stays so. Safe for concurrent use.
type Live struct {
	files   Files
	changed func()
	lg      *slog.Logger
	pace    pace

	current atomic.Pointer[tls.Certificate]

	loading sync.Mutex        // held while files are read; guards seen
	seen    [sha256.Size]byte // what was last read, good or bad

	mu     sync.Mutex // guards status
	status Status

	closing   chan struct{}
	closeOnce sync.Once
	closed    chan struct{} // closed when follow has returned
}

// Watch loads the pair and follows its files until Close. Whenever another is in
// force it calls changed, if that is not nil. A pair that cannot be loaded now is
// an error; later it is a log line and a count.
func Watch(f Files, changed func(), lg *slog.Logger) (*Live, error) {
	return watch(f, changed, lg, defaultPace)
}

func watch(f Files, changed func(), lg *slog.Logger, p pace) (*Live, error) {
	if changed == nil {
		changed = func() {}
	}
	l := &Live{files: f, changed: changed, lg: lg, pace: p, closing: make(chan struct{}), closed: make(chan struct{})}
	// The watch comes before the first reading, so that no change falls between.
	w, err := fsnotify.NewWatcher()
	if err != nil {
		lg.Warn("no watch on the certificate; it is looked at from time to time", "file", f.Chain, "every", p.poll, "error", err)
		w = nil
	}
	l.watchFolders(w)
	if err := l.load(true); err != nil {
		if w != nil {
			w.Close()
		}
		return nil, err
	}
	if st, err := os.Stat(f.Key); err == nil && st.Mode().Perm()&0o007 != 0 {
		lg.Warn("the key of the certificate is open to every user of this host", "file", f.Key, "mode", st.Mode().Perm())
	}
	if at := l.Status().NotAfter; at.Before(time.Now()) {
		lg.Warn("the certificate has expired", "file", f.Chain, "at", at)
	}
	go l.follow(w)
	return l, nil
}

// Config is for a server: TLS 1.2 and later, with forward secrecy and
// authenticated encryption only, and always the certificate in force.
func (l *Live) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return l.current.Load(), nil },
		CipherSuites: []uint16{ // of TLS 1.2; those of 1.3 are all of the kind
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// Status never waits for the disk.
func (l *Live) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Reload reads the files now, also if they look unchanged. An error is logged
// and counted, too, and leaves the certificate in force.
func (l *Live) Reload() error { return l.load(true) }

// Close stops following the files. The certificate in force stays in use.
func (l *Live) Close() {
	l.closeOnce.Do(func() { close(l.closing) })
	<-l.closed
}

// load reads the files and, if they are new or force is set, puts them in force.
func (l *Live) load(force bool) error {
	l.loading.Lock()
	defer l.loading.Unlock()
	chain, chainErr := os.ReadFile(l.files.Chain)
	key, keyErr := os.ReadFile(l.files.Key)
	err := errors.Join(chainErr, keyErr)
	h := sha256.New()
	fmt.Fprintf(h, "%d %v ", len(chain), err)
	h.Write(chain)
	h.Write(key)
	sum := [sha256.Size]byte(h.Sum(nil))
	known := sum == l.seen
	if known && !force {
		return nil
	}
	l.seen = sum
	var next *tls.Certificate
	if err == nil {
		next, err = parse(chain, key)
	}
	before := l.current.Load()
	if now := time.Now(); err == nil && before != nil && next.Leaf.NotAfter.Before(now) && before.Leaf.NotAfter.After(now) {
		err = fmt.Errorf("expired at %s", next.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return l.refuse(fmt.Errorf("certificate %s with key %s: %w", l.files.Chain, l.files.Key, err), before == nil)
	}
	l.current.Store(next)
	l.mu.Lock()
	l.status = Status{Loaded: time.Now(), NotAfter: next.Leaf.NotAfter, Failures: l.status.Failures}
	l.mu.Unlock()
	if before != nil && !known {
		l.lg.Info("certificate taken over", "file", l.files.Chain, "expires", next.Leaf.NotAfter)
		l.changed()
	}
	return nil
}

func parse(chain, key []byte) (*tls.Certificate, error) {
	c, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	if c.Leaf == nil {
		c.Leaf, err = x509.ParseCertificate(c.Certificate[0])
	}
	return &c, err
}

// refuse counts a failure and logs it, unless quiet.
func (l *Live) refuse(err error, quiet bool) error {
	l.mu.Lock()
	l.status.Failures++
	l.mu.Unlock()
	if !quiet {
		l.lg.Error("certificate not taken over, the former one stays in force", "error", err)
	}
	return err
}

// watchFolders watches the folders, not the files: a file that is replaced takes
// its watch along. To name a folder again is harmless and finds one that was put
// in anew. Errors leave it to the polling.
func (l *Live) watchFolders(w *fsnotify.Watcher) {
	if w != nil {
		_ = w.Add(filepath.Dir(l.files.Chain))
		_ = w.Add(filepath.Dir(l.files.Key))
	}
}

// follow is the goroutine of a Live. It owns the watcher.
func (l *Live) follow(w *fsnotify.Watcher) {
	defer close(l.closed)
	var events <-chan fsnotify.Event
	var faults <-chan error
	if w != nil {
		defer w.Close()
		events, faults = w.Events, w.Errors
	}
	poll := time.NewTicker(l.pace.poll)
	defer poll.Stop()
	settled := time.NewTimer(time.Hour)
	settled.Stop()
	defer settled.Stop()
	for {
		select {
		case _, ok := <-events:
			if !ok {
				events = nil // the watch broke down; the polling goes on
			}
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
		case <-l.closing:
			return
		}
	}
}
