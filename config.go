package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"caliperedge/edge"
	"caliperedge/edge/tokenmap"
	"caliperedge/internal/names"
	"caliperedge/pipeline"
	"caliperedge/pipeline/rules"
	"caliperedge/pipeline/stream"

	"github.com/spf13/pflag"
)

// config is the effective configuration. Every scalar of it is a flag, an
// environment variable and a key of the configuration file, in that order of
// precedence: --listen is CALIPER_LISTEN is listen.
type config struct {
	Listen, AdminListen, NATSListen, NATSURL string
	DataDir                                  string
	Tokens, TokensKey, TokensIdentity        string
	File                                     string
	Debug, Rejected                          onOff
	Paths, CORSOrigins                       []string
	MaxBodyBytes, BudgetBytes, StoreBytes    byteSize
	RequestTimeout, BodyTimeout, DrainDelay  time.Duration
	RateRequests, RateEvents                 float64
	RateBurst                                time.Duration
	DuplicatesIDs                            int
	DuplicatesAge                            time.Duration
	KeymapWait, QuarantineAge                time.Duration
	TLSCert, TLSKey                          string
	StoreKey, StoreKeyOld                    string
	Prefix                                   string
	Replicas                                 int
	ContentEncoding                          string
	BareTokens, CheckObject, InheritContext  onOff
	LogFormat, LogLevel                      string

	// What belongs to an external server, beside its URL.
	NATS       stream.Server
	NATSSynced onOff
	Streams    string
	SpoolDir   string
	SpoolBytes byteSize

	// Topics come from the file alone.
	Topics map[string]topicSetting
	// Tools come from the file alone.
	Tools map[string]toolSetting
	// Rules come from the file alone; nil where there are none.
	Rules   *rules.Rules
	routing rules.Config // what they are compiled of

	// origin is where settings come from that are no flags, for errors.
	origin map[string]string
}

// topicSetting is the retention of a topic. Empty fields have their default.
type topicSetting struct {
	MaxAge   time.Duration
	MaxBytes string // bytes with an optional unit, or a share of the store limit such as 50%
}

const (
	// maxRequestTimeout keeps the repetitions of a publish well inside the
	// streams' duplicate window of 2 minutes.
	maxRequestTimeout = time.Minute
	// maxDuplicatesAge is as long as a topic keeps records by default.
	maxDuplicatesAge = 30 * 24 * time.Hour
	// streamsVerify is the value of streams that never creates one.
	streamsVerify = "verify"
	// minSpoolBytes has room for a few messages of each topic.
	minSpoolBytes = 16 << 20
)

// envPrefix begins the name of every environment variable of ours.
const envPrefix = "CALIPER_"

// settings binds every scalar setting to c. The flag set is the one table of
// them: names, defaults and explanations.
func (c *config) settings() *pflag.FlagSet {
	fs := pflag.NewFlagSet("caliper-edge", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.SetOutput(io.Discard)
	c.Debug, c.Rejected = true, true
	c.MaxBodyBytes, c.BudgetBytes = 4<<20, pipeline.DefaultBudgetBytes
	fs.StringVar(&c.Listen, "listen", "127.0.0.1:8080", "where sensors post")
	fs.StringVar(&c.AdminListen, "admin-listen", "127.0.0.1:8081", "where /livez, /readyz, /metrics and profiling are")
	fs.StringVar(&c.NATSListen, "nats-listen", "127.0.0.1:4222", "port of the embedded server for consumers; empty closes it")
	fs.StringVar(&c.NATSURL, "nats-url", "", "use this external nats-server instead of the embedded one; servers of a cluster with commas between")
	fs.StringVar(&c.NATS.Creds, "nats-creds", "", "credentials file for the external server")
	fs.StringVar(&c.NATS.NKey, "nats-nkey", "", "file with the NKey seed for the external server")
	fs.StringVar(&c.NATS.CA, "nats-ca", "", "certificates, PEM, by which the external server is known instead of the system's")
	fs.StringVar(&c.NATS.Cert, "nats-cert", "", "client certificate, PEM, for the external server")
	fs.StringVar(&c.NATS.Key, "nats-key", "", "its key, PEM")
	fs.Var(&c.NATSSynced, "nats-synced", "the external servers sync before they acknowledge (sync_interval: always): on or off")
	fs.StringVar(&c.Streams, "streams", "create", "of the external server: create what is missing, or verify only")
	fs.StringVar(&c.SpoolDir, "spool-dir", "", "folder that takes events while the external server is out of reach")
	fs.Var(&c.SpoolBytes, "spool-bytes", "the most the spool may hold (default 50 % of the free space)")
	fs.StringVar(&c.DataDir, "data-dir", "data", "folder of the store, the token map and what belongs to them")
	fs.StringVar(&c.Tokens, "tokens", "", "the encrypted token map (default tokens.yaml.age in the data folder)")
	fs.StringVar(&c.TokensKey, "tokens-key", "", "the key of the token map (default tokens.key in the data folder)")
	fs.StringVar(&c.TokensIdentity, "tokens-identity", "", "the key itself, an age identity, instead of a key file")
	fs.StringVar(&c.File, "config", "", "the configuration file")
	fs.Var(&c.Debug, "debug", "answer X-DEBUG requests verbosely: on or off")
	fs.Var(&c.Rejected, "rejected", "keep what is refused of a tool in the topic rejected: on or off")
	fs.StringSliceVar(&c.Paths, "paths", []string{"/", "/caliper-endpoint"}, "where events are taken")
	fs.Var(&c.MaxBodyBytes, "max-body-bytes", "largest body, as sent and unpacked")
	fs.DurationVar(&c.RequestTimeout, "request-timeout", 5*time.Second, "an answer comes so long after its body was read, or sooner")
	fs.DurationVar(&c.BodyTimeout, "body-timeout", 30*time.Second, "a body arrives in so long")
	fs.Var(&c.BudgetBytes, "budget-bytes", "bodies and records in flight")
	fs.Float64Var(&c.RateRequests, "rate-requests", 0, "requests per second that each tool may send; 0 means no bound")
	fs.Float64Var(&c.RateEvents, "rate-events", 0, "events per second that each tool may send; 0 means no bound")
	fs.DurationVar(&c.RateBurst, "rate-burst", 5*time.Second, "for how long a tool may save up what it did not send")
	fs.IntVar(&c.DuplicatesIDs, "duplicates-ids", 2_000_000, "how many event ids are remembered, so that an event sent again is not stored again; 0 means none")
	fs.DurationVar(&c.DuplicatesAge, "duplicates-age", 2*time.Hour, "for how long they are remembered; 0 means not at all")
	fs.DurationVar(&c.DrainDelay, "drain-delay", 0, "after SIGTERM, keep accepting for so long")
	fs.StringSliceVar(&c.CORSOrigins, "cors-origins", nil, "origins whose pages may post; * means all")
	fs.StringVar(&c.TLSCert, "tls-cert", "", "certificate chain, PEM: serve sensors and consumers by TLS")
	fs.StringVar(&c.TLSKey, "tls-key", "", "its key, PEM")
	fs.StringVar(&c.StoreKey, "store-key", "", "a file whose content encrypts the store, or the spool")
	fs.StringVar(&c.StoreKeyOld, "store-key-old", "", "the file before it, where the key has changed")
	fs.StringVar(&c.Prefix, "prefix", "caliper", "begins the names of streams and subjects")
	fs.IntVar(&c.Replicas, "replicas", 1, "copies of each stream, on an external cluster")
	fs.Var(&c.StoreBytes, "store-bytes", "store limit at first creation (default 75 % of the free space, or 10GiB on an external server)")
	fs.StringVar(&c.ContentEncoding, "content-encoding", pipeline.DefaultEncoding, "of stored messages: none, snappy or zstd")
	fs.DurationVar(&c.KeymapWait, "keymap-wait", 30*time.Second, "a start waits so long for the key map to be loaded")
	fs.DurationVar(&c.QuarantineAge, "quarantine-age", 24*time.Hour, "a record in quarantine moves to standard so long after it was received")
	fs.Var(&c.BareTokens, "bare-tokens", "accept an Authorization without the scheme Bearer: on or off")
	fs.Var(&c.CheckObject, "check-object", "require object of every event: on or off")
	fs.Var(&c.InheritContext, "inherit-context", "let an event without @context have that of the item before: on or off")
	fs.StringVar(&c.LogFormat, "log-format", "text", "text or json")
	fs.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
	return fs
}

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func keyName(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// loadConfig reads args, then the environment, then the file. extra may bind
// flags of a command to the same set. It returns what is left of args, and the
// names of environment variables that look like ours and are not.
func loadConfig(args, environ []string, extra func(*pflag.FlagSet)) (c *config, rest, strangers []string, err error) {
	c = &config{origin: make(map[string]string)}
	fs := c.settings()
	known := func(name string) bool { return fs.Lookup(name) != nil }
	var scalars []string
	fs.VisitAll(func(f *pflag.Flag) { scalars = append(scalars, f.Name) })
	if extra != nil {
		extra(fs)
	}
	if err := fs.Parse(args); err != nil {
		return nil, nil, nil, err
	}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, envPrefix), "_", "-"))
		if !known(flag) || !slices.Contains(scalars, flag) {
			strangers = append(strangers, name)
			continue
		}
		if !fs.Lookup(flag).Changed {
			c.origin[flag] = "environment variable " + name
			if err := fs.Set(flag, value); err != nil {
				return nil, nil, nil, fmt.Errorf("%s: %w", c.origin[flag], plain(err))
			}
		}
	}
	if c.File != "" {
		if err := c.readFile(fs, scalars); err != nil {
			return nil, nil, nil, err
		}
	}
	c.complete()
	return c, fs.Args(), strangers, errors.Join(c.check(), c.compileRules())
}

// plain takes pflag's mention of a flag off an error about a variable or key.
func plain(err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return errors.Unwrap(invalid)
	}
	return err
}

// complete fills in what depends on other settings.
func (c *config) complete() {
	c.NATS.URL = c.NATSURL
	if c.Tokens == "" {
		c.Tokens = filepath.Join(c.DataDir, "tokens.yaml.age")
	}
	if c.TokensKey == "" && c.TokensIdentity == "" {
		c.TokensKey = filepath.Join(c.DataDir, "tokens.key")
	}
}

// check names every fault with the place where it was set.
func (c *config) check() error {
	var errs []error
	fault := func(bad bool, name, format string, args ...any) {
		if !bad {
			return
		}
		where := c.origin[name]
		if where == "" {
			where = "--" + name
		}
		errs = append(errs, fmt.Errorf("%s: %w", where, fmt.Errorf(format, args...)))
	}
	for _, a := range []struct{ name, addr string }{
		{"listen", c.Listen}, {"admin-listen", c.AdminListen}, {"nats-listen", c.NATSListen},
	} {
		_, _, err := net.SplitHostPort(a.addr)
		closed := a.addr == "" && a.name == "nats-listen"
		fault(err != nil && !closed, a.name, "%q, expected host:port", a.addr)
	}
	fault(c.TLSCert != "" && c.TLSKey == "", "tls-cert", "set, but tls-key is not")
	fault(c.TLSKey != "" && c.TLSCert == "", "tls-key", "set, but tls-cert is not")
	fault(c.StoreKey != "" && c.NATSURL != "" && c.SpoolDir == "", "store-key", "set, but nothing is stored on this host: nats-url is set, and spool-dir is not")
	fault(c.StoreKeyOld != "" && c.StoreKey == "", "store-key-old", "set, but store-key is not")
	_, err := pipeline.ParseEncoding(c.ContentEncoding)
	fault(err != nil, "content-encoding", "%w", err)
	fault(!slices.Contains([]string{"text", "json"}, c.LogFormat), "log-format", "%q, expected text or json", c.LogFormat)
	_, err = logLevel(c.LogLevel)
	fault(err != nil, "log-level", "%w", err)
	fault(c.Replicas < 1 || c.Replicas > 5, "replicas", "%d, expected 1 to 5", c.Replicas)
	fault(c.Replicas > 1 && c.NATSURL == "", "replicas", "%d, but the embedded server has one copy; set nats-url to use a cluster", c.Replicas)
	c.checkExternal(fault)
	fault(c.RequestTimeout < edge.MinRequestTimeout || c.RequestTimeout > maxRequestTimeout, "request-timeout", "%v, expected %v to %v", c.RequestTimeout, edge.MinRequestTimeout, maxRequestTimeout)
	fault(!(c.RateRequests >= 0), "rate-requests", "%v, expected 0 or more", c.RateRequests)
	fault(!(c.RateEvents >= 0), "rate-events", "%v, expected 0 or more", c.RateEvents)
	fault(c.RateBurst < time.Second, "rate-burst", "%v, expected at least 1s", c.RateBurst)
	fault(c.DuplicatesIDs < 0 || c.DuplicatesIDs > pipeline.MaxDuplicateIDs, "duplicates-ids", "%d, expected 0 to %d", c.DuplicatesIDs, pipeline.MaxDuplicateIDs)
	fault(c.DuplicatesAge < 0 || c.DuplicatesAge > maxDuplicatesAge, "duplicates-age", "%v, expected 0 to %v", c.DuplicatesAge, maxDuplicatesAge)
	fault(c.KeymapWait < 0, "keymap-wait", "%v, expected 0 or more", c.KeymapWait)
	fault(c.QuarantineAge < time.Second, "quarantine-age", "%v, expected at least 1s", c.QuarantineAge)
	fault(c.BodyTimeout < time.Second, "body-timeout", "%v, expected at least 1s", c.BodyTimeout)
	fault(c.MaxBodyBytes < edge.MinBodyBytes || c.MaxBodyBytes > 1<<30, "max-body-bytes", "%v, expected 1KiB to 1GiB", &c.MaxBodyBytes)
	need := edge.MinBudgetBytes(int(c.MaxBodyBytes))
	fault(int64(c.BudgetBytes) < need, "budget-bytes", "%v, expected at least %d: ten times max-body-bytes and a little", &c.BudgetBytes, need)
	fault(!names.OK(c.Prefix, names.TopicBytes), "prefix", "%q, expected %s", c.Prefix, names.Rule(names.TopicBytes))
	fault(c.StoreBytes > 0 && c.StoreBytes < 1<<20, "store-bytes", "%v, expected at least 1MiB", &c.StoreBytes)
	fault(len(c.Paths) == 0, "paths", "expected at least one path")
	fault(c.DrainDelay < 0, "drain-delay", "%v, expected 0 or more", c.DrainDelay)
	for _, p := range c.Paths {
		fault(!strings.HasPrefix(p, "/"), "paths", "%q, expected a path that begins with /", p)
	}
	return errors.Join(errs...)
}

// messageEncoding is content-encoding, which check has seen, as messages have it.
func (c *config) messageEncoding() string {
	encoding, _ := pipeline.ParseEncoding(c.ContentEncoding)
	return encoding
}

// checkExternal checks what belongs to an external server.
func (c *config) checkExternal(fault func(bad bool, name, format string, args ...any)) {
	if c.NATSURL != "" {
		err := stream.CheckURL(c.NATSURL)
		fault(err != nil, "nats-url", "%w", err)
	}
	fault(c.NATS.Creds != "" && c.NATS.NKey != "", "nats-nkey", "set beside nats-creds, expected one of them")
	fault(c.NATS.Cert != "" && c.NATS.Key == "", "nats-cert", "set, but nats-key is not")
	fault(c.NATS.Key != "" && c.NATS.Cert == "", "nats-key", "set, but nats-cert is not")
	fault(c.Streams != "create" && c.Streams != streamsVerify, "streams", "%q, expected create or verify", c.Streams)
	fault(c.SpoolDir != "" && filepath.Clean(c.SpoolDir) == filepath.Clean(c.DataDir), "spool-dir", "%q is the data folder, expected a folder of its own", c.SpoolDir)
	fault(c.SpoolBytes > 0 && c.SpoolBytes < minSpoolBytes, "spool-bytes", "%v, expected at least 16MiB", &c.SpoolBytes)
	if c.NATSURL != "" {
		return
	}
	for name, set := range map[string]bool{
		"nats-creds": c.NATS.Creds != "", "nats-nkey": c.NATS.NKey != "", "nats-ca": c.NATS.CA != "", "nats-cert": c.NATS.Cert != "",
		"nats-synced": bool(c.NATSSynced), "streams": c.Streams == streamsVerify, "spool-dir": c.SpoolDir != "",
	} {
		fault(set, name, "set, but nats-url is not: it is for an external server")
	}
}

func (c *config) tokenFile() tokenmap.File {
	return tokenmap.File{
		Path: c.Tokens, KeyPath: c.TokensKey, Identity: c.TokensIdentity,
		UsagePath: filepath.Join(c.DataDir, "tokens.used.json"),
	}
}

// onOff is a switch. It reads what people write.
type onOff bool

func (v *onOff) String() string {
	if *v {
		return "on"
	}
	return "off"
}

func (v *onOff) Set(s string) error {
	switch strings.ToLower(s) {
	case "on", "true", "yes", "1":
		*v = true
	case "off", "false", "no", "0":
		*v = false
	default:
		return fmt.Errorf("%q, expected on or off", s)
	}
	return nil
}

func (v *onOff) Type() string { return "on|off" }

// byteSize is a number of bytes, written as such or with a unit of 1024.
type byteSize int64

var byteUnits = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}}

func (v *byteSize) String() string { return formatBytes(int64(*v)) }

func formatBytes(n int64) string {
	for i := len(byteUnits) - 1; i >= 0; i-- {
		if u := byteUnits[i]; n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

func (v *byteSize) Set(s string) error {
	number, unit := s, int64(1)
	for _, u := range byteUnits {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			number, unit = n, u.bytes
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q, expected bytes such as 4194304 or 4MiB", s)
	}
	*v = byteSize(n * unit)
	return nil
}

func (v *byteSize) Type() string { return "bytes" }
