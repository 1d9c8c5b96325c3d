//go:build linux

// Ceiling measures caliper-edge against the most that any HTTP server of its kind could do on the same machine at the
// same time, and against the bars that the project has set itself.
//
//	go run ./bench/ceiling                          everything, about forty minutes
//	go run ./bench/ceiling -rows 'kind=mix/items=1/.*closed' -rounds 3
//	go run ./bench/ceiling -encoding snappy         messages, and what floor and prototype store, packed otherwise than by default
//	go run ./bench/ceiling -base main               another revision's endpoint in the same rounds, beside embedded
//	go run ./bench/ceiling -growth                  instead: how cost grows with what is sent and asked, about half an hour
//	go run ./bench/ceiling -limit                   instead: what each part of the floor costs, and what it is over JetStream
//	go run ./bench/ceiling -prototype               instead: the prototype from which the bars were derived, beside caliper-edge
//	go run ./bench/ceiling -sync-delays 1ms,3ms     instead: what a disk would cost that syncs more slowly
//
// The endpoints of a row take the same load in turns, each in a process of its own, started for this measurement on an empty folder:
//
//	ceiling    fasthttp with its defaults: it reads the body and answers 65 constant bytes
//	floor      the same, and before the answer the least that durability costs: one strict pass over the body, a copy into a
//	           group, packed, written to a file and synced
//	floor-jetstream  in open loops: the floor with the embedded JetStream in place of its file
//	embedded   caliper-edge as make build builds it, with its defaults: every event is synced before the answer
//	base       with -base: embedded as that revision has it, built from a worktree of git and given the same flags
//	rules      embedded with the rules of examples/caliper-edge.yaml: Engage's events are enriched, with keys from the key map
//	external   embedded's program with a nats-server beside it, which syncs before it acknowledges too
//
// The load is that of loadtest, with a new id in every event. All rows are measured once in each round, and the order of
// the endpoints changes from round to round, so that a machine which is slow for a minute slows all of them; a share is
// that of one round, and what is printed is the median of the rounds. The generator runs on the same processors and its
// part of them is printed: the dearer the generator, the smaller the difference between the endpoints that is left. Embedded and
// base change places in every other round, so that neither always comes after the other; bars are not for base.
//
// The parts:
//
//	rows.go       which loads, which endpoints, which bars
//	measure.go    one endpoint under one load: a sample
//	endpoint.go   starting the endpoints; process.go the processes behind them
//	rules.go      the endpoint with rules, and its keys
//	base.go       the endpoint of another revision
//	growth.go     how cost grows: larger envelopes, more connections, copies to further topics, encryption, a cluster
//	floor.go      the floor
//	prototype.go  the naive endpoint from which the bars were derived
//	groups.go     what floor and prototype have in common
//	wrk.go        the same by another generator, where wrk is installed
//	sonic.go      the yardstick for processor time: one strict pass of sonic over the same bodies
//	machine.go    what it was measured on
//	report.go     medians, tables, JSON
//
// Exit status: 0 when everything was measured, whatever the figures; 1 when an answer was not the one that its envelope
// deserves, or a measurement could not be made. It reads /proc, so it is for Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"caliperedge/bench/corpus"
	"caliperedge/pipeline"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program: tables go to stdout, progress and errors to stderr. When ctx ends, so does the measurement; what was
// measured until then is reported.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	switch {
	case len(args) == 1 && args[0] == constantCommand:
		return exitCode(serveConstant(ctx, stdout), stderr)
	case len(args) == 5 && args[0] == floorCommand:
		return exitCode(serveFloor(ctx, args[1], args[2], args[3], args[4], stdout), stderr)
	case len(args) == 3 && args[0] == prototypeCommand:
		return exitCode(servePrototype(ctx, args[1], args[2], stdout), stderr)
	}
	set, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return exitCode(err, stderr)
	}
	report, err := measureAll(ctx, set, stderr)
	if report != nil {
		report.judgeAll()
		report.writeText(stdout)
		err = errors.Join(err, report.writeJSON(set.json))
	}
	return exitCode(err, stderr)
}

func exitCode(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "ceiling:", err)
	return 1
}

// settings are what the flags say.
type settings struct {
	root             string // of the module
	rounds           int
	duration, warmup time.Duration
	rows             []row
	dir, json        string
	encoding         string   // of messages: none, snappy or zstd
	base             revision // zero without -base
	buildFlags       []string // of the endpoint
}

func parseFlags(args []string, stderr io.Writer) (settings, error) {
	set := settings{buildFlags: []string{"-trimpath"}}
	var delays, other string
	fs := flag.NewFlagSet("ceiling", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&set.rounds, "rounds", 5, "how often each row is measured")
	fs.DurationVar(&set.duration, "duration", 4*time.Second, "how long to measure an endpoint in a round")
	fs.DurationVar(&set.warmup, "warmup", time.Second, "how long to load it before that; three times as long for an open loop")
	chosen := fs.String("rows", ".", "regular expression: rows to measure, such as kind=mix/items=1/connections=64/load=closed")
	fs.StringVar(&set.dir, "dir", "", "folder on the disk to measure; a new one is made in it, and removed (default bench/out)")
	fs.StringVar(&set.json, "json", "", "write the report to this file as JSON (default ceiling.json, or the name of what is measured instead, in bench/out)")
	fs.StringVar(&set.encoding, "encoding", pipeline.DefaultEncoding, "what messages, and what floor and prototype store, are packed with: none, snappy or zstd")
	fs.StringVar(&other, "base", "", "measure the embedded endpoint of this revision too, built from a temporary worktree of git")
	growth := fs.Bool("growth", false, "instead: the embedded endpoint with larger envelopes, more connections, copies to more topics, encryption, a cluster of three")
	limit := fs.Bool("limit", false, "instead: the floor without the pass over the JSON, without packing, without the sync, without all three, and over JetStream")
	naive := fs.Bool("prototype", false, "instead: the prototype beside ceiling, floor and the embedded endpoint, as it was measured once (needs wrk) and under the load of the rest")
	fs.StringVar(&delays, "sync-delays", "", "instead: the embedded endpoint with every sync so much longer, as in 1ms,3ms, and with no delay (needs strace)")
	if err := fs.Parse(args); err != nil {
		return set, err
	}
	choose, err := regexp.Compile(*chosen)
	instead := 0
	for _, wanted := range []bool{*growth, *limit, *naive, delays != ""} {
		if wanted {
			instead++
		}
	}
	switch {
	case err != nil:
		return set, fmt.Errorf("-rows: %w", err)
	case fs.NArg() > 0:
		return set, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case set.rounds < 1 || set.duration <= 0 || set.warmup < 0:
		return set, fmt.Errorf("-rounds %d, -duration %v, -warmup %v: want at least one round and a duration", set.rounds, set.duration, set.warmup)
	case instead > 1:
		return set, errors.New("-growth, -limit, -prototype, -sync-delays: want one of them")
	case other != "" && delays != "":
		return set, errors.New("-base: not with -sync-delays")
	}
	if _, err := pipeline.ParseEncoding(set.encoding); err != nil {
		return set, fmt.Errorf("-encoding: %w", err)
	}
	file, all := "ceiling.json", ceilingRows()
	switch {
	case *growth:
		file, all = "growth.json", growthRows()
	case *limit:
		file, all = "limit.json", limitRows()
	case *naive:
		file, all = "prototype.json", prototypeRows()
	case delays != "":
		file = "slow-sync.json"
		if all, err = slowSyncRows(delays); err != nil {
			return set, fmt.Errorf("-sync-delays: %w", err)
		}
	}
	for _, r := range all {
		if choose.MatchString(r.String()) {
			set.rows = append(set.rows, r)
		}
	}
	if len(set.rows) == 0 {
		return set, fmt.Errorf("-rows %s: no such row; there are\n%v", *chosen, names(all))
	}
	mod, err := exec.Command(goCommand(), "env", "GOMOD").Output()
	if err != nil {
		return set, fmt.Errorf("go env GOMOD: %w", err)
	}
	set.root = filepath.Dir(strings.TrimSpace(string(mod)))
	if other != "" {
		if set.base, err = findRevision(set.root, other); err == nil {
			set.rows, err = withBase(set.rows)
		}
		if err != nil {
			return set, fmt.Errorf("-base %s: %w", other, err)
		}
	}
	out := filepath.Join(set.root, "bench", "out")
	if set.dir == "" {
		set.dir = out
	}
	if set.dir, err = filepath.Abs(set.dir); err != nil { // programs are built from several folders
		return set, err
	}
	if set.json == "" {
		set.json = filepath.Join(out, file)
	}
	return set, errors.Join(os.MkdirAll(set.dir, 0o755), os.MkdirAll(filepath.Dir(set.json), 0o755))
}

// measureAll measures all rows in all rounds. With an error may come a report of what could be measured.
func measureAll(ctx context.Context, set settings, progress io.Writer) (*Report, error) {
	b, err := prepare(ctx, set, progress)
	if err != nil {
		return nil, err
	}
	defer b.close()
	report, err := newReport(b)
	if err != nil {
		return nil, err
	}
	var errs []error
	for round := range set.rounds {
		b.maxima = map[maximum]float64{}
		for i, r := range set.rows {
			samples, err := b.measureRow(ctx, round, r)
			if ctx.Err() != nil {
				return report, errors.Join(append(errs, context.Cause(ctx))...)
			}
			if err != nil {
				err = fmt.Errorf("round %d, %v: %w", round+1, r, err)
				fmt.Fprintln(progress, err)
				report.Errors = append(report.Errors, err.Error())
				errs = append(errs, err)
				continue
			}
			report.Rows[i].add(samples)
		}
	}
	return report, errors.Join(errs...)
}

// bench is what all measurements need. One goroutine uses it.
type bench struct {
	settings
	progress io.Writer
	folder   string              // of this run, removed at its end
	maxima   map[maximum]float64 // of this round, requests per second
	bodies   map[load][]corpus.Envelope
	wrk      string // path, empty where it is not installed
}

// prepare makes the folder and builds the programs.
func prepare(ctx context.Context, set settings, progress io.Writer) (_ *bench, err error) {
	b := &bench{settings: set, progress: progress, bodies: map[load][]corpus.Envelope{}}
	if b.folder, err = os.MkdirTemp(set.dir, "ceiling-"); err != nil {
		return nil, err
	}
	if err := errors.Join(raiseOpenFiles(), b.build(ctx)); err != nil {
		b.close()
		return nil, err
	}
	b.wrk, _ = exec.LookPath("wrk")
	measurements := 0
	for _, r := range set.rows {
		measurements += set.rounds * len(r.subjects)
	}
	fmt.Fprintf(progress, "%d measurements, about %v\n", measurements,
		(time.Duration(measurements) * (set.duration + set.warmup + time.Second)).Round(time.Minute))
	return b, nil
}

func (b *bench) close() { os.RemoveAll(b.folder) }

// build builds the programs that the rows need: the endpoint as make build does.
func (b *bench) build(ctx context.Context) error {
	programs := [][]string{
		append([]string{embedded.program()}, b.endpointBuild()...),
		{"loadtest", "./loadtest"},
	}
	if needsExternal(b.rows) {
		programs = append(programs, []string{"nats-server", "github.com/nats-io/nats-server/v2"})
	}
	for _, p := range programs {
		if err := b.goBuild(ctx, b.root, p[0], p[1:]...); err != nil {
			return err
		}
	}
	if b.base.given == "" {
		return nil
	}
	return b.buildBase(ctx)
}

// endpointBuild is what go build is told to make an endpoint.
func (b *bench) endpointBuild() []string { return append(slices.Clone(b.buildFlags), ".") }

// goBuild builds a program from the module in dir.
func (b *bench) goBuild(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, goCommand(), append([]string{"build", "-o", b.program(name)}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build of %s: %w\n%s", name, err, out)
	}
	return nil
}

// program is the path of a program that was built.
func (b *bench) program(name string) string { return filepath.Join(b.folder, "bin", name) }

func goCommand() string {
	if name := os.Getenv("GO"); name != "" {
		return name
	}
	return "go"
}
