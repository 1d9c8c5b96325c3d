// Command caliper-edge receives learning events in the IMS Caliper standard
// and hands them durably to NATS JetStream. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"caliperedge/internal/visible"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/pflag"
)

// command is one of the program's.
type command struct {
	name, args, help string
	run              func(*invocation) error
	flags            func(*pflag.FlagSet)
}

// invocation is one call of a command.
type invocation struct {
	ctx            context.Context
	cfg            *config
	flags          *pflag.FlagSet // all of the call, the command's own among them
	args           []string       // what is left of the command line
	strangers      []string       // environment variables that look like ours
	stdin          io.Reader
	stdout, stderr io.Writer
}

var commands = []command{
	{name: "serve", help: "run the endpoint (the default); --init creates what is missing", run: serve, flags: func(fs *pflag.FlagSet) {
		fs.Bool("init", false, "create the data folder, a key and a token map where they are missing")
	}},
	{name: "token add", args: "TOOL", help: "generate a token for a tool, add it to the map and print it", run: tokenAdd},
	{name: "token list", help: "the tokens by fingerprint, and when each was last used", run: tokenList},
	{name: "token revoke", args: "FINGERPRINT", help: "take a token out of the map", run: tokenRevoke},
	{name: "token rotate", args: "TOOL", help: "add another token for a tool that has one", run: tokenRotate},
	{name: "token check", help: "check the token map", run: tokenCheck},
	{name: "validate", args: "FILE...", help: "the same verdicts offline; - is stdin", run: validateFiles, flags: func(fs *pflag.FlagSet) {
		fs.Bool("json", false, "print the answers a debug request would get")
		fs.String("tool", offlineTool, "whose they are")
	}},
	{name: "route", args: "FILE...", help: "which topic each event would take, and why; - is stdin", run: routeFiles, flags: func(fs *pflag.FlagSet) {
		fs.Bool("json", false, "print one object for each event")
		fs.String("tool", offlineTool, "whose they are")
	}},
	{name: "tail", args: "TOPIC", help: "records to stdout, one a line", run: tail, flags: func(fs *pflag.FlagSet) {
		fs.String("since", "start", "start, now or a duration such as 90m")
		fs.Bool("no-follow", false, "stop at the end")
		fs.Bool("unique", false, "leave out events that were printed before")
	}},
	{name: "shapes", args: "TOPIC|FILE...", help: "what events look like, and what changed; - is stdin", run: showShapes, flags: shapesFlags},
	{name: "replay", args: "TOPIC", help: "run records through validation and routing again", run: replay, flags: func(fs *pflag.FlagSet) {
		choiceFlags(fs)
		fs.Bool("dry-run", false, "only say what would go where")
		fs.Bool("yes", false, "do not ask")
	}},
	{name: "topics list", help: "what the streams are", run: topicsList},
	{name: "topics apply", help: "make the streams what the configuration says", run: topicsApply, flags: func(fs *pflag.FlagSet) {
		fs.Bool("yes", false, "do not ask")
	}},
	{name: "topics purge", args: "[TOPIC...]", help: "delete what was received before a time, of all topics unless some are named", run: topicsPurge, flags: func(fs *pflag.FlagSet) {
		fs.String("before", "", "a time (RFC 3339), a date, or how long ago, such as 720h")
		fs.Bool("yes", false, "do not ask")
	}},
	{name: "consumer add", args: "NAME TOPIC", help: "a durable consumer and the credential to read it", run: consumerAdd},
	{name: "consumer list", help: "the durable consumers", run: consumerList},
	{name: "consumer remove", args: "NAME", help: "remove a consumer and its credential", run: consumerRemove},
	{name: "keymap import", args: "FILE", help: "rows tool,kind,value,key into the key map; - is stdin; an empty key removes the row", run: keymapImport, flags: func(fs *pflag.FlagSet) {
		fs.Bool("strict", false, "stop at the first faulty line")
	}},
	{name: "keymap list", help: "the key map as keymap import reads it", run: keymapList},
	{name: "keymap stats", help: "how many rows there are of each tool and kind", run: keymapStats},
	{name: "keymap get", args: "TOOL KIND VALUE", help: "the key of one value", run: keymapGet},
	{name: "config", help: "print the effective configuration, secrets hidden", run: printConfig},
	{name: "version", help: "print the version", run: printVersion},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	err := run(ctx, os.Args[1:], os.Environ(), interruptible{ctx, os.Stdin}, shown(os.Stdout), shown(os.Stderr))
	switch {
	case err == nil:
	case errors.Is(err, errNonConformant):
		os.Exit(1)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		fmt.Fprintln(shown(os.Stderr), "caliper-edge: interrupted")
		os.Exit(1)
	case errors.Is(err, errUsage):
		fmt.Fprintln(shown(os.Stderr), err)
		os.Exit(2)
	default:
		fmt.Fprintln(shown(os.Stderr), "caliper-edge:", err)
		os.Exit(1)
	}
}

// interruptible is a reader of which a Read ends with ctx, also while nothing
// comes: a signal would not end one of a terminal. What comes then is lost.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(p []byte) (int, error) {
	var n int
	var err error
	own := make([]byte, min(len(p), 64<<10))
	done := make(chan struct{})
	go func() {
		defer close(done)
		n, err = i.r.Read(own)
	}()
	select {
	case <-done:
		return copy(p, own[:n]), err
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	}
}

// shown is where output goes: at a terminal what sensors have sent cannot command
// it, in files and pipes every byte is what it was.
func shown(f *os.File) io.Writer {
	if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		return visible.NewWriter(f)
	}
	return f
}

// errUsage marks errors of the command line itself.
var errUsage = errors.New("see caliper-edge --help")

// run is the program: everything it touches outside comes in as a parameter.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) error {
	cmd, args, err := findCommand(args)
	if err != nil {
		return err
	}
	inv := &invocation{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr}
	inv.cfg, inv.args, inv.strangers, err = loadConfig(args, environ, func(fs *pflag.FlagSet) {
		inv.flags = fs
		if cmd.flags != nil {
			cmd.flags(fs)
		}
	})
	if errors.Is(err, pflag.ErrHelp) {
		help(stdout, cmd, inv.flags)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w\n%w", err, errUsage)
	}
	if !takes(cmd.args, len(inv.args)) {
		return fmt.Errorf("usage: caliper-edge %s %s [flags]\n%w", cmd.name, cmd.args, errUsage)
	}
	err = cmd.run(inv)
	if errors.Is(err, jetstream.ErrStreamNotFound) && inv.cfg.Streams != streamsVerify {
		err = fmt.Errorf("%w; caliper-edge topics apply creates the streams of the configuration", err)
	}
	return err
}

// takes tells whether a command with such arguments takes n of them.
func takes(args string, n int) bool {
	switch {
	case strings.HasSuffix(args, "...]"):
		return true
	case strings.HasSuffix(args, "..."):
		return n > 0
	}
	return n == len(strings.Fields(args))
}

// findCommand takes the command off args: one word or two, serve where there
// is none.
func findCommand(args []string) (*command, []string, error) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return &commands[0], args, nil
	}
	if args[0] == "help" {
		return &commands[0], []string{"--help"}, nil
	}
	for n := min(2, len(args)); n > 0; n-- {
		name := strings.Join(args[:n], " ")
		if i := slices.IndexFunc(commands, func(c command) bool { return c.name == name }); i >= 0 {
			return &commands[i], args[n:], nil
		}
	}
	var known []string
	for _, c := range commands {
		known = append(known, c.name)
	}
	return nil, nil, fmt.Errorf("unknown command %q, expected one of: %s\n%w", args[0], strings.Join(known, ", "), errUsage)
}

func help(w io.Writer, cmd *command, fs *pflag.FlagSet) {
	fmt.Fprintf(w, "caliper-edge receives IMS Caliper events and stores them durably in NATS JetStream.\n\nCommands:\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-28s %s\n", c.name+" "+c.args, c.help)
	}
	fmt.Fprintf(w, "\nFlags of %q. Each setting is also an environment variable (--data-dir: CALIPER_DATA_DIR)\nand a key of the configuration file (data_dir); flags win over variables, variables over the file.\n\n%s",
		cmd.name, fs.FlagUsages())
}

func printVersion(inv *invocation) error {
	_, err := fmt.Fprintln(inv.stdout, "caliper-edge", version())
	return err
}

// release is the version that make release builds in.
var release string

// version is what the build says of itself.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	if revision == "" {
		return info.Main.Version
	}
	return revision[:min(12, len(revision))] + dirty
}

// hidePassword hides the passwords of URLs, and what stands before the host of
// an address that is none.
func hidePassword(addresses string) string {
	list := strings.Split(addresses, ",")
	for i, address := range list {
		if u, err := url.Parse(strings.TrimSpace(address)); err == nil && u.Host != "" {
			if _, has := u.User.Password(); u.User != nil && !has {
				u.User = url.User("xxxxx") // a user without a password is a token
			}
			list[i] = u.Redacted()
		} else if at := strings.LastIndexByte(address, '@'); at >= 0 {
			list[i] = "(hidden)" + address[at:]
		}
	}
	return strings.Join(list, ",")
}

// printConfig prints every setting as the configuration file would have it.
func printConfig(inv *invocation) error {
	inv.flags.VisitAll(func(f *pflag.Flag) {
		value := f.Value.String()
		switch f.Name {
		case "tokens-identity":
			if value != "" {
				value = "(hidden)"
			}
		case "nats-url":
			value = hidePassword(value)
		case "config":
			if value != "" {
				fmt.Fprintf(inv.stdout, "# with the file %s\n", value)
			}
			return // no setting of the file
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = "[]"
			if len(list.GetSlice()) > 0 {
				value = `["` + strings.Join(list.GetSlice(), `", "`) + `"]`
			}
		}
		fmt.Fprintf(inv.stdout, "%s: %s\n", keyName(f.Name), value)
	})
	layout, err := currentLayout(inv.cfg)
	if err != nil {
		return err
	}
	fmt.Fprintln(inv.stdout, "topics:")
	for _, t := range layout.Topics {
		fmt.Fprintf(inv.stdout, "  %s: {max_age: %v, max_bytes: %d}\n", t.Name, t.MaxAge, t.MaxBytes)
	}
	inv.cfg.printTools(inv.stdout)
	inv.cfg.printRules(inv.stdout)
	return nil
}
