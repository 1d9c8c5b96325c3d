package stream

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"caliperedge/pipeline"
)

const (
	// maxStoreBytes is no limit: where the streams have byte limits, their sum is,
	// and those can be changed on a running server.
	maxStoreBytes = 1 << 60
	// startTimeout bounds what is left of a start after the store is recovered.
	startTimeout = 10 * time.Second
	// pullThreshold is how long the server remembers where the answers to a
	// reader's pull go, and maxPullExpires the longest pull a reader's consumer
	// takes. The pull must end first: what comes later would go nowhere.
	pullThreshold  = 5 * time.Minute
	maxPullExpires = 4 * time.Minute
	// healthTimeout bounds a question to the server that it answers out of memory.
	healthTimeout = 200 * time.Millisecond
)

// stopTimeout is how long a server may take to end; a test makes it short.
var stopTimeout = time.Minute

// EmbeddedConfig is what the server inside this process needs.
type EmbeddedConfig struct {
	// Dir is the data folder. It must exist; the store is in Dir/jetstream.
	Dir string
	// Listen is host:port for readers. Empty opens no port; port 0 takes any.
	// Beyond loopback TLS must be set.
	Listen string
	// TLS is the server side configuration of the port, or nil. It may change the
	// certificate that it shows, see Publisher.CertificateChanged.
	TLS *tls.Config
	// Key encrypts the store: messages, consumers and what the server notes of
	// them, not the names of streams and consumers. Empty means no encryption.
	// A store keeps to what it began with. OldKey is the key before, where the
	// key has changed: what is under it is put under Key.
	Key, OldKey string
	// MaxBytes is the most that all streams together may hold. Zero means that
	// they have limits of their own alone.
	MaxBytes int64
	// Layout says which streams there must be. Replicas is ignored.
	Layout Layout
	// Logger takes the server's warnings and errors. Nil means slog.Default().
	Logger *slog.Logger
	// Stuck, where it is set, is called when the server has not ended a minute after
	// it was told to: the disk stands still, or the server waits for itself. Nothing
	// can be stored then until the process is started anew.
	Stuck func()
}

// embedded is a server inside this process.
type embedded struct {
	cfg    EmbeddedConfig
	p      *Publisher
	lock   *os.File
	own    localAccess
	auth   *authenticator
	follow func()                 // stops following the readers' file
	names  map[string]*blockNames // by stream

	mu     sync.Mutex // guards what follows
	srv    *server.Server
	listen string // with the real port, once known
	again  *attempt
	closed bool
}

// attempt is one reopening of the store, shared by all who wait for it.
type attempt struct {
	done chan struct{}
	err  error // valid once done is closed
}

// OpenEmbedded starts a JetStream server inside this process on the store of
// the data folder, creates the streams that are missing and lets the readers of
// the folder in. It blocks while the store is recovered, which ctx does not
// bound. Two processes cannot open one folder.
func OpenEmbedded(ctx context.Context, cfg EmbeddedConfig) (*Publisher, error) {
	cfg.Layout.Replicas = 1
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if err := errors.Join(cfg.Layout.Check(), checkListen(cfg.Listen, cfg.TLS)); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(cfg.Dir, lockName), false)
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("stream: data folder %s is in use by another process", cfg.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("stream: lock data folder %s: %w", cfg.Dir, err)
	}
	e := &embedded{cfg: cfg, lock: lock, listen: cfg.Listen, p: newPublisher(cfg.Layout), follow: func() {}, names: map[string]*blockNames{}}
	for _, t := range cfg.Layout.Topics {
		stream := cfg.Layout.Stream(t.Name)
		e.names[stream] = newBlockNames(cfg.Dir, stream)
	}
	e.p.store = e
	if err := e.start(ctx); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e.p, nil
}

// start is the part of opening after which close has something to undo.
func (e *embedded) start(ctx context.Context) error {
	var err error
	if e.own, err = ownAccess(e.cfg.Dir); err != nil {
		return err
	}
	changed, err := unlockStore(e.cfg.Dir, e.cfg.Key, e.cfg.OldKey)
	if err != nil {
		return err
	}
	if changed > 0 {
		e.cfg.Logger.Info("store put under its new key; the old one is no longer needed", "folder", e.cfg.Dir, "files", changed)
	}
	e.auth = &authenticator{own: sha256.Sum256([]byte(e.own.Password)), layout: e.cfg.Layout}
	if err = e.open(); err != nil {
		return err
	}
	ds, err := Ensure(ctx, e.p.JetStream(), e.cfg.Layout)
	if err != nil {
		return err
	}
	e.p.diffs.Store(&ds)
	if err = syncFolders(e.cfg.Dir); err != nil {
		return err
	}
	if e.follow, err = followReaders(e.cfg.Dir, e.auth.set, e.cfg.Logger); err != nil {
		return err
	}
	e.own.URL = clientURL(e.listen, e.cfg.TLS != nil)
	return e.writeAccess()
}

// writeAccess tells the program's own commands how the server is reached.
func (e *embedded) writeAccess() error {
	own := e.own
	own.Certificate = certificateSum(e.cfg.TLS)
	return writeJSON(filepath.Join(e.cfg.Dir, accessName), own)
}

// CertificateChanged tells that the TLS configuration of an embedded server shows
// another certificate than at its start: the program's own commands know the
// server by it. One call at a time.
func (p *Publisher) CertificateChanged() error {
	if e, ok := p.store.(*embedded); ok {
		return e.writeAccess()
	}
	return nil
}

// open starts the server on the store and connects to it.
func (e *embedded) open() error {
	opts, err := e.options()
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("stream: configure the embedded server: %w", err)
	}
	log := &serverLog{lg: e.cfg.Logger}
	srv.SetLoggerV2(log, false, false, false)
	e.auth.serve(srv)
	srv.Start()
	l, err := e.connect(srv, log)
	if err != nil {
		stop(srv)
		return err
	}
	e.mu.Lock()
	e.srv = srv
	if a, ok := srv.Addr().(*net.TCPAddr); ok && e.cfg.Listen != "" {
		host, _, _ := net.SplitHostPort(e.listen)
		e.listen = net.JoinHostPort(host, strconv.Itoa(a.Port))
	}
	e.mu.Unlock()
	for _, b := range e.names {
		b.forget()
	}
	e.p.link.Store(l)
	return nil
}

func (e *embedded) options() (*server.Options, error) {
	opts := &server.Options{
		DontListen:                 e.listen == "",
		NoSigs:                     true, // signals are the program's
		JetStream:                  true,
		StoreDir:                   e.cfg.Dir,
		SyncAlways:                 true,
		JetStreamMaxStore:          cmp.Or(e.cfg.MaxBytes, maxStoreBytes),
		JetStreamKey:               e.cfg.Key,
		JetStreamCipher:            server.AES, // has instructions of its own on both architectures
		MaxPayload:                 pipeline.MaxMessageBytes,
		TLSConfig:                  e.cfg.TLS,
		TLS:                        e.cfg.TLS != nil,
		TLSTimeout:                 dialTimeout.Seconds(),
		CustomClientAuthentication: e.auth,
	}
	if opts.DontListen {
		return opts, nil
	}
	host, port, err := net.SplitHostPort(e.listen)
	if err != nil {
		return nil, fmt.Errorf("stream: listen address %q: %w", e.listen, err)
	}
	if opts.Port, err = net.LookupPort("tcp", port); err != nil {
		return nil, fmt.Errorf("stream: listen address %q: %w", e.listen, err)
	}
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	opts.Host = host
	return opts, nil
}

// connect waits until srv serves and connects in process.
func (e *embedded) connect(srv *server.Server, log *serverLog) (*link, error) {
	if s := log.fatal.Load(); s != nil {
		return nil, fmt.Errorf("stream: start the embedded server: %s", *s)
	}
	if !srv.ReadyForConnections(startTimeout) {
		return nil, fmt.Errorf("stream: embedded server is not ready after %v", startTimeout)
	}
	l, err := dial(context.Background(), "", e.cfg.Logger, nil, nats.InProcessServer(guardedServer{srv}), nats.UserInfo(ownUser, e.own.Password))
	if err != nil {
		return nil, fmt.Errorf("stream: connect to the embedded server: %w", err)
	}
	return l, nil
}

// probe opens the store again.
func (e *embedded) probe(ctx context.Context) error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return errClosed
	}
	if e.again == nil {
		e.again = &attempt{done: make(chan struct{})}
		go e.reopen(e.again)
	}
	a := e.again
	e.mu.Unlock()
	select {
	case <-a.done:
	case <-ctx.Done():
		return fmt.Errorf("stream: store is still being opened again: %w", ctx.Err())
	}
	if a.err != nil {
		return a.err
	}
	// Streams are not created here: an empty one in place of a stream that
	// could not be recovered would hide the loss.
	return e.p.check(ctx)
}

// reopen shuts the server down, which may take as long as the disk does, and
// starts another on the same store. The old one must be gone before: two
// servers on one store destroy it.
func (e *embedded) reopen(a *attempt) {
	e.shut()
	a.err = e.open()
	e.mu.Lock()
	e.again = nil
	e.mu.Unlock()
	close(a.done)
}

func (e *embedded) shut() {
	if l := e.p.link.Swap(nil); l != nil {
		l.nc.Close()
	}
	e.mu.Lock()
	srv := e.srv
	e.srv = nil
	e.mu.Unlock()
	if srv == nil {
		return
	}
	if e.cfg.Stuck != nil {
		defer time.AfterFunc(stopTimeout, e.cfg.Stuck).Stop()
	}
	stop(srv)
}

func stop(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}

func (e *embedded) close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	a := e.again
	e.mu.Unlock()
	if a != nil {
		<-a.done
	}
	e.follow()
	e.shut()
	return e.lock.Close() // which unlocks it
}

// level: the server syncs each message before it acknowledges it.
func (e *embedded) level(int) pipeline.Level { return pipeline.LevelFsync }

// settle: the server syncs the message, but not the name of the file it is in.
func (e *embedded) settle(stream string) error { return e.names[stream].sync() }

// frozen asks the server, which answers publishes to such a stream with silence.
// Where the disk stands still the server does not answer that either: then nothing
// is known.
func (e *embedded) frozen(stream string) bool {
	e.mu.Lock()
	srv := e.srv
	e.mu.Unlock()
	if srv == nil {
		return false // being opened anew
	}
	answer := make(chan int, 1)
	go func() {
		answer <- srv.Healthz(&server.HealthzOptions{Account: storeAccount, Stream: stream}).StatusCode
	}()
	select {
	case status := <-answer:
		return status == http.StatusServiceUnavailable
	case <-time.After(healthTimeout):
		return false
	}
}

func (e *embedded) addr() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listen
}

// guardedServer hands out guarded connections to the server.
type guardedServer struct{ srv *server.Server }

func (g guardedServer) InProcessConn() (net.Conn, error) {
	c, err := g.srv.InProcessConn()
	if err != nil {
		return nil, err
	}
	return guardedConn{c}, nil
}

// authenticator lets in the program itself and the readers. The program works
// in the server's global account, which has the streams; each reader gets an
// account of its own, into which nothing is imported but its consumer. So a
// reader's subjects are not those of the streams, and no reply or deliver
// subject it names can reach one.
type authenticator struct {
	own    [sha256.Size]byte
	layout Layout

	// mu is held for reading from the check of a password until the client
	// stands in its account, so that set, once it has the lock, sees every
	// client that an old set let in.
	mu      sync.RWMutex
	srv     *server.Server
	readers map[string]readerEntry

	making   sync.Mutex
	accounts map[string]*server.Account
}

// serve makes srv the server whose clients are checked, before it starts.
func (a *authenticator) serve(srv *server.Server) {
	streams := srv.GlobalAccount()
	for subject, kind := range map[string]server.ServiceRespType{
		"$JS.API.CONSUMER.MSG.NEXT.*.*": server.Streamed, // one request, many messages
		"$JS.API.CONSUMER.INFO.*.*":     server.Singleton,
		"$JS.API.STREAM.INFO.*":         server.Singleton,
		"$JS.ACK.*.*.>":                 server.Singleton,
	} {
		if err := streams.AddServiceExportWithResponse(subject, kind, nil); err != nil {
			panic(fmt.Sprintf("stream: export %s: %v", subject, err)) // the subjects are constants
		}
	}
	_ = streams.SetServiceExportResponseThreshold("$JS.API.CONSUMER.MSG.NEXT.*.*", pullThreshold)
	a.mu.Lock()
	a.srv, a.accounts = srv, make(map[string]*server.Account)
	a.mu.Unlock()
}

// Check implements server.Authentication. User and password are the only
// credential: one of another kind beside them would be what the server takes
// for the client's name.
func (a *authenticator) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	if o.Nkey != "" || o.JWT != "" || o.Token != "" {
		return false
	}
	given := sha256.Sum256([]byte(o.Password))
	a.mu.RLock()
	defer a.mu.RUnlock()
	if o.Username == ownUser {
		return subtle.ConstantTimeCompare(given[:], a.own[:]) == 1
	}
	r, known := a.readers[o.Username]
	if same := subtle.ConstantTimeCompare(given[:], r.digest[:]) == 1; !same || !known {
		return false
	}
	acc, err := a.account(r)
	if err != nil {
		a.srv.Errorf("account of reader %s: %v", r.Name, err)
		return false
	}
	c.RegisterUser(&server.User{Username: r.Name, Account: acc, Permissions: permissions(r, a.layout)})
	return true
}

// account returns the account of r with its imports, made at its first use.
// The imports are a function of the account's name, so that one made for an
// earlier reader of the same name and topic serves again.
func (a *authenticator) account(r readerEntry) (*server.Account, error) {
	name := accountName(r)
	a.making.Lock()
	defer a.making.Unlock()
	if acc := a.accounts[name]; acc != nil {
		return acc, nil
	}
	acc, err := a.srv.RegisterAccount(name)
	if err != nil {
		return nil, err
	}
	for _, subject := range readerSubjects(a.layout.Stream(r.Topic), r.Name) {
		if err := acc.AddServiceImport(a.srv.GlobalAccount(), subject, subject); err != nil {
			return nil, err
		}
	}
	a.accounts[name] = acc
	return acc, nil
}

func accountName(r readerEntry) string { return "reader." + r.Topic + "." + r.Name }

// permissions are those of a reader inside its account. The account alone keeps
// it from the streams; they make a forbidden request fail with an error rather
// than go unanswered.
func permissions(r readerEntry, layout Layout) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: readerSubjects(layout.Stream(r.Topic), r.Name)},
		Subscribe: &server.SubjectPermission{Allow: []string{nats.InboxPrefix + ">"}},
	}
}

// set replaces the readers and disconnects those that are no longer let in with
// what they had.
func (a *authenticator) set(readers map[string]readerEntry) {
	a.mu.Lock()
	before, srv := a.readers, a.srv
	a.readers = readers
	a.mu.Unlock()
	for name, r := range before {
		if readers[name] == r {
			continue
		}
		conns, err := srv.Connz(&server.ConnzOptions{Account: accountName(r), Limit: server.DEFAULT_MAX_CONNECTIONS})
		if err != nil {
			continue
		}
		for _, c := range conns.Conns {
			_ = srv.DisconnectClientByID(c.Cid) // an error says that it is gone
		}
	}
}

// serverLog passes warnings and errors of the server on. The server's format,
// without what it is filled with, is part of the message, by which repetitions are
// told from other faults.
type serverLog struct {
	lg *slog.Logger
	// fatal is the last error after which the server would have ended a program
	// of its own.
	fatal atomic.Pointer[string]
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.lg.Warn(shared(format), "message", fmt.Sprintf(format, v...))
}

func (l *serverLog) Errorf(format string, v ...any) {
	l.lg.Error(shared(format), "message", fmt.Sprintf(format, v...))
}

// verbs are those of package fmt.
var verbs = regexp.MustCompile(`%[-+#0-9.]*[a-zA-Z%]`)

// shared is the message that all lines of a format have.
func shared(format string) string {
	return "embedded NATS server: " + verbs.ReplaceAllString(format, "…")
}

func (l *serverLog) Fatalf(format string, v ...any) {
	s := fmt.Sprintf(format, v...)
	l.fatal.Store(&s)
	l.Errorf("%s", s)
}

func (l *serverLog) Noticef(string, ...any) {}
func (l *serverLog) Debugf(string, ...any)  {}
func (l *serverLog) Tracef(string, ...any)  {}
