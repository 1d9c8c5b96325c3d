package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"caliperedge/edge"
	"caliperedge/edge/certificate"
	"caliperedge/edge/tokenmap"
	"caliperedge/internal/resident"
	"caliperedge/pipeline"
	"caliperedge/pipeline/stream"

	"github.com/VictoriaMetrics/metrics"
)

// spareHeap is about what a full load holds beyond what stands at the start.
const spareHeap = 48 << 20

// demoTool is the tool of the token that --init makes.
const demoTool = "demo"

// serve runs the endpoint until a signal ends it.
func serve(inv *invocation) error {
	// From here on, so that one that comes during the start does not end it.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	log, err := newLogger(inv.stderr, inv.cfg.LogFormat, inv.cfg.LogLevel)
	if err != nil {
		return err
	}
	if os.Getenv("GOMAXPROCS") == "" && (inv.cfg.NATSURL == "" || inv.cfg.SpoolDir != "") {
		// A goroutine that syncs a file keeps one of these until the runtime
		// notices. One more than there are processors and none stands idle. The
		// runtime no longer follows when the limit of a container changes.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
	if os.Getenv("GOGC") == "" && inv.cfg.DuplicatesIDs > 0 && inv.cfg.DuplicatesAge > 0 {
		// The window for duplicates is most of the heap and never garbage. With 100
		// as much again would be filled with garbage before the collector runs.
		debug.SetGCPercent(50)
	}
	if len(inv.strangers) > 0 {
		log.Warn("unknown environment variables are ignored", "names", inv.strangers)
	}
	initialise, err := inv.flags.GetBool("init")
	if err != nil {
		return err
	}
	if err := inv.cfg.prepare(initialise); err != nil {
		return err
	}
	s, err := build(inv.ctx, inv.cfg, log)
	if err != nil {
		return err
	}
	if initialise {
		greet(inv.stdout, inv, s)
	}
	return s.run(inv.ctx, hangups)
}

// prepare sees to it that data folder and token map are there: created with
// initialise, demanded without, so that an unmounted volume never becomes an
// empty store in silence.
func (c *config) prepare(initialise bool) error {
	if err := c.prepareSpool(initialise); err != nil {
		return err
	}
	if !initialise {
		if empty, err := isEmpty(c.DataDir); err != nil || empty {
			if empty {
				err = fmt.Errorf("%s is empty, is its volume mounted", c.DataDir)
			}
			return fmt.Errorf("data folder: %w; serve --init creates what is missing", err)
		}
		if _, err := os.Stat(c.Tokens); err != nil {
			return fmt.Errorf("token map: %w; serve --init creates what is missing", err)
		}
		return c.checkStore()
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if _, err := os.Stat(c.Tokens); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := c.tokenFile().Add(demoTool); err != nil {
		return fmt.Errorf("token map: %w", err)
	}
	return nil
}

// checkStore refuses a data folder that is somebody else's, or whose store is
// gone. One with a token map of its own was prepared for this program.
func (c *config) checkStore() error {
	if c.NATSURL != "" {
		return nil // the store is elsewhere
	}
	_, served := os.Stat(c.storeLimitPath())
	_, store := os.Stat(filepath.Join(c.DataDir, "jetstream"))
	_, own := os.Stat(filepath.Join(c.DataDir, "tokens.yaml.age"))
	switch {
	case served == nil && store == nil, served != nil && own == nil:
		return nil
	case served == nil:
		return fmt.Errorf("data folder: the store of %s is gone: %w; serve --init begins an empty one", c.DataDir, store)
	}
	return fmt.Errorf("data folder: %s holds no store of caliper-edge, is it the right one; serve --init begins an empty one", c.DataDir)
}

// isEmpty tells whether a folder holds nothing but what a new volume does.
func isEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != "lost+found" {
			return false, err
		}
	}
	return err == nil, err
}

// server holds the parts of a running endpoint, in the order in which they
// are built; they end in the opposite order.
type server struct {
	cfg       *config
	log       *slog.Logger
	metrics   *metrics.Set
	tls       *certificate.Live // nil without TLS
	layout    stream.Layout
	publisher *stream.Publisher
	opened    atomic.Pointer[stream.Publisher] // the same, for the certificate's goroutine
	spool     *stream.Spool                    // nil without one
	keys      keys
	pipeline  *pipeline.Pipeline
	tokens    *tokenmap.Live
	endpoint  *edge.Endpoint
	remember  func() // ends the reading of what was stored
	watch     func() // ends the looking after the store
	admin     *http.Server
	listen    *net.TCPListener
	adminAddr net.Listener
}

// build makes the parts bottom up. What was made is undone where a later part
// fails.
func build(ctx context.Context, cfg *config, log *slog.Logger) (_ *server, err error) {
	s := &server{cfg: cfg, log: log, metrics: metrics.NewSet()}
	defer func() {
		if err != nil {
			ended, cancel := context.WithCancel(context.Background())
			cancel() // nothing is in flight
			err = errors.Join(err, s.undo(ended))
		}
	}()
	if cfg.TLSCert != "" {
		files := certificate.Files{Chain: cfg.TLSCert, Key: cfg.TLSKey}
		if s.tls, err = certificate.Watch(files, s.certificateChanged, log); err != nil {
			return nil, fmt.Errorf("tls-cert and tls-key: %w", err)
		}
	}
	if err := s.openStore(ctx); err != nil {
		return nil, err
	}
	if err := s.followKeys(ctx); err != nil {
		return nil, err
	}
	if s.pipeline, err = pipeline.New(s.pipelineConfig(), s.store(), log); err != nil {
		return nil, err
	}
	s.rememberStored(ctx)
	s.watchStore()
	if s.tokens, err = tokenmap.Watch(cfg.tokenFile(), log); err != nil {
		return nil, err
	}
	if unknown := cfg.unknownTools(s.tokens.Principals()); len(unknown) > 0 {
		log.Warn("the configuration file names tools that have no token; what it says of them holds for nobody", "tools", strings.Join(unknown, ","))
	}
	if s.endpoint, err = edge.New(cfg.edge(s.metrics), s.tokens, s.pipeline, log); err != nil {
		return nil, err
	}
	s.admin = edge.NewAdmin(s.metrics, s.ready, s.durability)
	s.metrics.RegisterMetricsWriter(s.writeMetrics)
	if s.adminAddr, err = net.Listen("tcp", cfg.AdminListen); err != nil {
		return nil, fmt.Errorf("admin-listen: %w", err)
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s.listen = ln.(*net.TCPListener)
	return s, nil
}

// tlsConfig is for a listener, nil without TLS.
func (s *server) tlsConfig() *tls.Config {
	if s.tls == nil {
		return nil
	}
	return s.tls.Config()
}

// certificateChanged has the program's own commands know the new certificate.
func (s *server) certificateChanged() {
	if p := s.opened.Load(); p != nil {
		if err := p.CertificateChanged(); err != nil {
			s.log.Error("commands on this host cannot reach the readers' port", "error", err)
		}
	}
}

// openStore opens the store with the streams of the configuration, and
// reports where existing ones differ.
func (s *server) openStore(ctx context.Context) error {
	bytes, kept, err := s.cfg.keptStoreBytes()
	if err != nil {
		return err
	}
	if s.layout, err = s.cfg.layout(bytes); err != nil {
		return err
	}
	if s.cfg.NATSURL != "" {
		s.publisher, err = stream.OpenRemote(ctx, stream.RemoteConfig{
			Server: s.cfg.NATS, Layout: s.layout, VerifyOnly: s.cfg.Streams == streamsVerify, MayBeAway: s.cfg.SpoolDir != "", Logger: s.log})
	} else {
		var key, old string
		if key, old, err = s.storeKeys(); err != nil {
			return err
		}
		s.publisher, err = stream.OpenEmbedded(ctx, stream.EmbeddedConfig{
			Dir: s.cfg.DataDir, Listen: s.cfg.NATSListen, TLS: s.tlsConfig(), Key: key, OldKey: old, Layout: s.layout, Logger: s.log, Stuck: s.stuck(s.cfg.DataDir)})
	}
	if err != nil {
		return err
	}
	s.opened.Store(s.publisher)
	if !kept {
		if err := s.cfg.keepStoreBytes(bytes); err != nil {
			return err
		}
	} else if want := int64(s.cfg.StoreBytes); want > 0 && want != bytes {
		s.log.Warn("the store limit was fixed at first creation; topics apply changes it", "limit", bytes, "configured", want)
	}
	// One line for all: the log holds back what it has just said.
	if differences := s.publisher.Differences(); len(differences) > 0 {
		what := "streams differ from the configuration; topics apply changes them"
		if s.cfg.Streams == streamsVerify {
			what = "streams differ from the configuration"
		}
		s.log.Warn(what, "differences", fmt.Sprint(differences))
	}
	return s.openSpool(ctx)
}

// stuck ends the program, for its supervisor to start it anew: the store of a
// folder can neither be used nor opened again. What was acknowledged is synced,
// and requests have had their 503 long before.
func (s *server) stuck(folder string) func() {
	return func() {
		s.log.Error("the store does not end; the program does, to be started anew", "folder", folder)
		os.Exit(1)
	}
}

// storeKeys reads the keys of what is stored on this host; empty ones where it
// is not encrypted.
func (s *server) storeKeys() (key, old string, err error) {
	read := func(path string) (key string) {
		if path == "" || err != nil {
			return ""
		}
		if key, err = stream.ReadStoreKey(path); err != nil {
			return ""
		}
		if st, statErr := os.Stat(path); statErr == nil && st.Mode().Perm()&0o007 != 0 {
			s.log.Warn("a key of the store is open to every user of this host", "file", path, "mode", st.Mode().Perm())
		}
		return key
	}
	key, old = read(s.cfg.StoreKey), read(s.cfg.StoreKeyOld)
	return key, old, err
}

const (
	// rememberTime bounds the reading of what was stored, and rememberFirst for
	// how long it keeps the endpoint from serving: the newest is read first, and
	// a sensor that is refused may never send again.
	rememberTime  = 10 * time.Second
	rememberFirst = 2 * time.Second
)

// rememberStored fills the window for duplicates from the streams of the
// embedded server.
func (s *server) rememberStored(ctx context.Context) {
	if s.cfg.NATSURL != "" || s.cfg.DuplicatesIDs == 0 || s.cfg.DuplicatesAge == 0 {
		return
	}
	var topics []string
	for _, t := range s.layout.Topics {
		if t.Name != pipeline.TopicRejected {
			topics = append(topics, t.Name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, rememberTime)
	done := make(chan struct{})
	s.remember = func() {
		cancel()
		<-done
	}
	start, records := time.Now(), 0
	go func() {
		defer close(done)
		since, err := s.publisher.Recent(ctx, topics, start.Add(-s.cfg.DuplicatesAge), func(topic string, sequence uint64, stored time.Time, record []byte) bool {
			records++
			return s.pipeline.Remember(topic, sequence, time.Since(stored), record)
		})
		s.pipeline.Remembered(time.Since(since))
		if err != nil {
			s.log.Warn("not all of what was stored is known to the window for duplicates", "records", records, "error", err)
		} else if records > 0 {
			s.log.Info("what was stored is known to the window for duplicates", "records", records,
				"back", start.Sub(since).Round(time.Second).String(), "took", time.Since(start).Round(time.Millisecond).String())
		}
	}()
	select {
	case <-done:
	case <-time.After(rememberFirst):
	}
}

// watchStore has the pipeline told of a store that does not work, also while no
// event comes.
func (s *server) watchStore() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.watch = func() {
		cancel()
		<-done
	}
	go func() {
		defer close(done)
		s.publisher.Watch(ctx, s.pipeline.Suspect)
	}()
}

func (s *server) pipelineConfig() pipeline.Config {
	c := pipeline.Config{
		BudgetBytes:      int64(s.cfg.BudgetBytes),
		MaxEnvelopeBytes: 4 * int64(s.cfg.MaxBodyBytes),
		MaxMessageBytes:  s.publisher.MaxMessageBytes(),
		PublishTimeout:   s.cfg.RequestTimeout / 5 * 4,
		AttemptTimeout:   s.cfg.RequestTimeout / 10 * 3,
		Encoding:         s.cfg.messageEncoding(),
		DuplicateIDs:     s.cfg.DuplicatesIDs,
		DuplicateAge:     s.cfg.DuplicatesAge,
		Rules:            s.cfg.Rules.WithKeys(&s.keys.table),
		Metrics:          s.metrics,
	}
	for _, t := range s.layout.Topics {
		c.Topics = append(c.Topics, t.Name)
	}
	return c
}

// edge is the endpoint's part of the configuration.
func (c *config) edge(set *metrics.Set) edge.Config {
	return edge.Config{
		Paths:            c.Paths,
		MaxBodyBytes:     int(c.MaxBodyBytes),
		RequestTimeout:   c.RequestTimeout,
		BodyTimeout:      c.BodyTimeout,
		Terse:            !bool(c.Debug),
		CORSOrigins:      c.CORSOrigins,
		AcceptBareTokens: bool(c.BareTokens),
		KeepRejected:     c.keepsRejected,
		Rate:             c.rate(),
		Rates:            c.rates(),
		Validate:         c.validateOptions(""),
		Vocabularies:     c.vocabularies(),
		Version:          version(),
		Metrics:          set,
	}
}

// ready says why events cannot be taken now, or nil.
func (s *server) ready() error {
	if s.endpoint.Draining() {
		return pipeline.ErrClosed
	}
	var err error
	if s.spool != nil {
		err = s.spool.Ready()
	} else {
		err = s.publisher.Ready()
	}
	return cmp.Or(err, s.pipeline.Ready())
}

// run serves until ctx ends or a listener fails, then drains. At each of hangups
// it reads again what can be replaced.
func (s *server) run(ctx context.Context, hangups <-chan os.Signal) error {
	failed := make(chan error, 2)
	go func() { failed <- s.admin.Serve(s.adminAddr) }()
	go func() { failed <- s.endpoint.Serve(s.listen, s.tlsConfig()) }()
	s.log.Info("serving", "listen", s.listen.Addr().String(), "admin", s.adminAddr.Addr().String(),
		"nats", s.publisher.Addr(), "data", s.cfg.DataDir, "tokens", s.tokens.Status().Tokens,
		"durability", s.durability(), "version", version())
	go resident.Heap(spareHeap) // some tenths of a second, in which nobody is to be refused
	for {
		select {
		case <-hangups:
			if err := s.tokens.Reload(); err == nil {
				s.log.Info("token map read again", "tokens", s.tokens.Status().Tokens)
			}
			if s.tls != nil && s.tls.Reload() == nil {
				s.log.Info("certificate read again", "expires", s.tls.Status().NotAfter)
			}
		case err := <-failed:
			return errors.Join(fmt.Errorf("a listener failed: %w", err), s.drain())
		case <-ctx.Done():
			return s.drain()
		}
	}
}

// drainTimeout bounds the drain after its delay: a body may take its time to
// arrive, and its answer another.
func (s *server) drainTimeout() time.Duration {
	return s.cfg.BodyTimeout + s.cfg.RequestTimeout
}

// drain ends everything, top down (contract, section 5).
func (s *server) drain() error {
	s.endpoint.StartDrain()
	s.log.Info("draining", "delay", s.cfg.DrainDelay.String())
	time.Sleep(s.cfg.DrainDelay)
	ctx, cancel := context.WithTimeout(context.Background(), s.drainTimeout())
	defer cancel()
	err := errors.Join(s.endpoint.Drain(ctx), s.undo(ctx))
	s.log.Info("drained", "error", err)
	return err
}

// undo ends the parts that were built, but the endpoint. Until ctx is done it
// forwards what the spool holds.
func (s *server) undo(ctx context.Context) error {
	var errs []error
	if s.remember != nil {
		s.remember()
	}
	if s.watch != nil {
		s.watch()
	}
	if s.pipeline != nil {
		ctx, cancel := context.WithTimeout(context.Background(), s.cfg.RequestTimeout)
		errs = append(errs, s.pipeline.Drain(ctx))
		cancel()
	}
	if s.tokens != nil {
		errs = append(errs, s.tokens.Close())
	}
	if s.spool != nil {
		s.spool.Drain(ctx)
		errs = append(errs, s.spool.Close())
	}
	if s.tls != nil {
		s.tls.Close()
	}
	s.keys.close()
	if s.publisher != nil {
		errs = append(errs, s.publisher.Close())
	}
	if s.listen != nil {
		s.listen.Close()
	}
	if s.adminAddr != nil {
		s.admin.Close()
		s.adminAddr.Close()
	}
	return errors.Join(errs...)
}

// writeMetrics adds what is asked for at each scrape: tokens and topics.
func (s *server) writeMetrics(w io.Writer) {
	st := s.tokens.Status()
	metrics.WriteGaugeUint64(w, "caliper_tokens", uint64(st.Tokens))
	metrics.WriteCounterUint64(w, "caliper_token_map_failures_total", st.Failures)
	metrics.WriteGaugeUint64(w, "caliper_token_map_loaded_timestamp_seconds", uint64(st.Loaded.Unix()))
	for p := range s.tokens.Principals() {
		if used := p.LastUsed(); !used.IsZero() {
			metrics.WriteGaugeUint64(w, fmt.Sprintf("caliper_token_last_used_timestamp_seconds{tool=%q,token=%q}", p.Tool, p.Fingerprint), uint64(used.Unix()))
		}
	}
	if s.tls != nil {
		st := s.tls.Status()
		metrics.WriteGaugeUint64(w, "caliper_tls_certificate_loaded_timestamp_seconds", uint64(st.Loaded.Unix()))
		metrics.WriteGaugeUint64(w, "caliper_tls_certificate_expiry_timestamp_seconds", uint64(max(0, st.NotAfter.Unix())))
		metrics.WriteCounterUint64(w, "caliper_tls_certificate_failures_total", st.Failures)
	}
	metrics.WriteGaugeUint64(w, fmt.Sprintf("caliper_durability{level=%q}", s.level()), 1)
	if s.cfg.NATSSynced {
		metrics.WriteGaugeUint64(w, "caliper_nats_synced", 1)
	}
	s.writeSpoolMetrics(w)
	s.keys.writeMetrics(w)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	topics, err := s.publisher.Status(ctx)
	if err != nil {
		return // caliper_store_available tells
	}
	for _, t := range topics {
		if t.Missing {
			continue
		}
		label := fmt.Sprintf("{topic=%q}", t.Topic)
		metrics.WriteGaugeUint64(w, "caliper_topic_messages"+label, t.Messages)
		metrics.WriteGaugeUint64(w, "caliper_topic_bytes"+label, t.Bytes)
		metrics.WriteGaugeFloat64(w, "caliper_topic_limit_bytes"+label, float64(t.MaxBytes))
		age := 0.0
		if !t.Oldest.IsZero() {
			age = time.Since(t.Oldest).Seconds()
		}
		metrics.WriteGaugeFloat64(w, "caliper_topic_oldest_age_seconds"+label, age)
	}
}

// greet prints what to try first: lines that work as they stand.
func greet(w io.Writer, inv *invocation, s *server) {
	c := inv.cfg
	token, err := c.tokenFile().Reveal(demoTool)
	if err != nil {
		return // the demo token is gone from the map, as it should be in production
	}
	self, flags := os.Args[0], ""
	for _, name := range []string{"config", "data-dir", "prefix", "nats-url", "nats-creds", "nats-nkey", "nats-ca", "nats-cert", "nats-key"} {
		f := inv.flags.Lookup(name)
		if secret := name == "nats-url" && strings.Contains(c.NATSURL, "@"); f.Changed && !secret {
			flags += " --" + name + " " + quoteShell(f.Value.String())
		}
	}
	scheme := "http"
	if s.tls != nil {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(s.listen.Addr().String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	fmt.Fprintf(w, `
Send an event:

  curl -sS %s://%s%s \
    -H 'Authorization: Bearer %s' \
    -H 'Content-Type: application/json' \
    -d '%s'

Watch events arrive:

  %s tail standard%s

`, scheme, net.JoinHostPort(host, port), c.Paths[0], token, demoEnvelope(time.Now()), quoteShell(filepath.Clean(self)), flags)
}

// demoEnvelope is an envelope with one conformant event.
func demoEnvelope(now time.Time) string {
	at := now.UTC().Format("2006-01-02T15:04:05.000Z")
	return fmt.Sprintf(`{"sensor":"https://example.edu/sensors/demo","sendTime":"%s","dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1","data":[`+
		`{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":"urn:uuid:%s","type":"NavigationEvent","actor":"https://example.edu/users/1",`+
		`"action":"NavigatedTo","object":"https://example.edu/pages/1","eventTime":"%s","edApp":"https://example.edu"}]}`, at, newUUID(), at)
}

// newUUID returns a version 4 UUID (RFC 9562).
func newUUID() string {
	var u [16]byte
	rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// quoteShell makes s one word of a shell.
func quoteShell(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
