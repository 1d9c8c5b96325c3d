package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"caliperedge/bench/corpus"
	"caliperedge/pipeline"
)

// maxConnections is how many sensors one run can be: there are so many source ports for one destination, less a margin,
// and so many sender numbers in an id.
const maxConnections = 15_000

// config is what the flags say.
type config struct {
	url         *url.URL
	token       string
	allowRemote bool

	connections      int
	rate             float64 // requests per second of all senders; 0 is the closed loop
	duration, warmup time.Duration
	timeout          time.Duration
	engage           bool
	online, offline  time.Duration
	kind             corpus.Kind
	items            []portion
	faulty           float64
	gzip, zstd       float64
	distinct         int
	seed             uint64
	ledger           bool
	sinceStart       bool
	dataDir, natsURL string
	prefix           string
	topics           []string
	maxErrors        float64
	pids             []int // of processes whose processor time and memory are reported too
	json, html       string
}

// portion is a size of envelope and its weight in the mix.
type portion struct {
	items  int
	weight float64
}

// parseFlags reads the command line and checks it as a whole.
func parseFlags(args []string, stderr io.Writer) (config, error) {
	var c config
	var address, items, topics string
	fs := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&address, "url", "http://127.0.0.1:8080/", "where to post; plain HTTP")
	fs.StringVar(&c.token, "token", "", "bearer token")
	fs.BoolVar(&c.allowRemote, "allow-remote", false, "allow a target that is not this host")
	fs.IntVar(&c.connections, "connections", 64, fmt.Sprintf("connections, 1 to %d", maxConnections))
	fs.Float64Var(&c.rate, "rate", 0, "requests per second, over all connections and whether they are answered or not; 0 sends the next when the last is answered")
	fs.DurationVar(&c.duration, "duration", 10*time.Second, "how long to measure")
	fs.DurationVar(&c.warmup, "warmup", 2*time.Second, "how long to send before that")
	fs.DurationVar(&c.timeout, "timeout", 10*time.Second, "give a request up after this time")
	fs.BoolVar(&c.engage, "engage", false, "each connection is a reader of Engage: one event of -kind engage per envelope, at random moments that make up -rate, held back while offline and sent in a burst on return")
	fs.DurationVar(&c.online, "online", 30*time.Second, "with -engage: mean time before a reader goes offline")
	fs.DurationVar(&c.offline, "offline", 3*time.Second, "with -engage: mean time until the return")
	fs.TextVar(&c.kind, "kind", corpus.Engage, "events: engage (one form, about 1.2 KB) or mix (all types, 0.5 to 8 KB)")
	fs.StringVar(&items, "items", "1", "items per envelope; with weights as in 1:80,10:15,100:5")
	fs.Float64Var(&c.faulty, "faulty", 0, "share of items that do not conform, 0 to 1")
	fs.Float64Var(&c.gzip, "gzip", 0, "share of requests packed with gzip, 0 to 1")
	fs.Float64Var(&c.zstd, "zstd", 0, "share of requests packed with zstd, 0 to 1")
	fs.IntVar(&c.distinct, "distinct", 4096, "different events for each size of envelope; 1 repeats one event, but for its id")
	fs.Uint64Var(&c.seed, "seed", 1, "of events, mix and readers; ids are new in each run")
	fs.BoolVar(&c.ledger, "ledger", false, "read the topics back and prove that every acknowledged event is stored in the topics that its answer names; four bytes of memory per event. Ids of what is amiss are listed up to 100,000, the rest is counted. Events stored twice are told and do not change the exit status: delivery is at least once, since a publish that timed out may be stored all the same")
	fs.StringVar(&c.dataDir, "data-dir", "data", "with -ledger: data folder of the endpoint, for its embedded server")
	fs.StringVar(&c.natsURL, "nats-url", "", "with -ledger: the external server instead")
	fs.StringVar(&c.prefix, "prefix", "caliper", "with -ledger: begins the names of streams")
	fs.BoolVar(&c.sinceStart, "since-start", false, "with -ledger: read the topics from their first message, for when the clocks of store and host disagree")
	fs.StringVar(&topics, "topics", pipeline.TopicStandard+","+pipeline.TopicEntities, "with -ledger: topics to read beside those that answers name")
	fs.Float64Var(&c.maxErrors, "max-errors", 0, "share of requests that may fail for a good verdict, 0 to 1")
	fs.Func("pid", "report what this process takes of the processors and of memory in the window too, such as the endpoint; may be repeated (Linux)", func(text string) error {
		pid, err := strconv.Atoi(text)
		c.pids = append(c.pids, pid)
		return err
	})
	fs.StringVar(&c.json, "json", "", "write the report to this file as JSON")
	fs.StringVar(&c.html, "html", "", "write the report to this file as a page with charts")
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	if fs.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	itemsGiven := false
	fs.Visit(func(f *flag.Flag) { itemsGiven = itemsGiven || f.Name == "items" })
	c.topics = strings.Split(topics, ",")
	var errs [3]error
	c.items, errs[0] = parsePortions(items)
	c.url, errs[1] = parseTarget(address, c.allowRemote)
	if c.engage && itemsGiven {
		errs[2] = errors.New("-engage sends one event per envelope: leave -items away")
	}
	return c, errors.Join(append(errs[:], c.check())...)
}

// check returns all faults of the numbers, joined.
func (c config) check() error {
	var errs []error
	demand := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	share := func(name string, v float64) { demand(v >= 0 && v <= 1, "-%s %v, want 0 to 1", name, v) }
	demand(c.token != "" && !strings.ContainsAny(c.token, "\r\n"), "-token is missing or has a line break")
	demand(c.connections >= 1 && c.connections <= maxConnections, "-connections %d, want 1 to %d", c.connections, maxConnections)
	demand(c.rate >= 0 && c.rate <= 1e7, "-rate %v, want 0 to 10 million", c.rate)
	demand(c.duration > 0 && c.warmup >= 0, "-duration %v and -warmup %v, want more than 0, and 0 or more", c.duration, c.warmup)
	demand(c.timeout >= 10*time.Millisecond, "-timeout %v, want at least 10ms", c.timeout)
	demand(!c.engage || c.kind == corpus.Engage, "-engage sends the events of Engage: leave -kind %v away", c.kind)
	demand(!c.engage || c.rate > 0, "-engage needs a -rate")
	demand(!c.engage || c.online > 0 && c.offline > 0, "-online %v and -offline %v, want more than 0", c.online, c.offline)
	share("faulty", c.faulty)
	share("gzip + zstd", c.gzip+c.zstd)
	share("gzip", c.gzip)
	share("zstd", c.zstd)
	share("max-errors", c.maxErrors)
	demand(!slices.Contains(c.topics, pipeline.TopicRejected), "-topics %s holds what was refused: leave it away", pipeline.TopicRejected)
	demand(c.distinct >= 1 && c.distinct <= 1<<20, "-distinct %d, want 1 to %d", c.distinct, 1<<20)
	return errors.Join(errs...)
}

// store is where the topics are: an URL, or the data folder of an embedded server.
func (c config) store() string {
	if c.natsURL != "" {
		return c.natsURL
	}
	return c.dataDir
}

// parsePortions reads 1:80,10:15,100:5. A weight that is left out is 1.
func parsePortions(text string) ([]portion, error) {
	var all []portion
	for part := range strings.SplitSeq(text, ",") {
		items, weight, weighted := strings.Cut(part, ":")
		p := portion{weight: 1}
		var err error
		if p.items, err = strconv.Atoi(items); err == nil && weighted {
			p.weight, err = strconv.ParseFloat(weight, 64)
		}
		if err != nil || p.items < 1 || p.items > 10_000 || !(p.weight > 0 && p.weight < 1e9) {
			return nil, fmt.Errorf("-items %q: %q is not ITEMS:WEIGHT with 1 to 10,000 items and a weight above 0", text, part)
		}
		all = append(all, p)
	}
	return all, nil
}

// parseTarget reads the URL and refuses a host that is not this one: a load test that goes astray is an attack.
func parseTarget(address string, allowRemote bool) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("-url: %w", err)
	}
	if u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		return nil, fmt.Errorf("-url %s, want http://host:port/path", u.Redacted())
	}
	if u.Path == "" {
		u.Path = "/"
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "80")
	}
	if ip := net.ParseIP(u.Hostname()); !allowRemote && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("-url %s is not on this host: say -allow-remote if that is meant", u.Redacted())
	}
	return u, nil
}
