package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"caliperedge/pipeline/stream"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// errNonConformant ends validate with status 1 after its report.
var errNonConformant = errors.New("not everything conforms")

func tokenAdd(inv *invocation) error { return printToken(inv, inv.cfg.tokenFile().Add) }

func tokenRotate(inv *invocation) error { return printToken(inv, inv.cfg.tokenFile().Rotate) }

// printToken prints a new token, and nothing else, for scripts to take.
func printToken(inv *invocation, make func(tool string) (string, error)) error {
	token, err := make(inv.args[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(inv.stdout, token)
	return err
}

func tokenRevoke(inv *invocation) error {
	tool, err := inv.cfg.tokenFile().Revoke(inv.args[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(inv.stdout, "revoked %s of %s\n", strings.ToLower(inv.args[0]), tool)
	return err
}

func tokenList(inv *invocation) error {
	tokens, err := inv.cfg.tokenFile().List()
	if tokens == nil {
		return err
	}
	w := table(inv.stdout, "TOOL", "TOKEN", "LAST USED")
	for _, t := range tokens {
		row(w, t.Tool, t.Fingerprint, moment(t.LastUsed, "never"))
	}
	return errors.Join(w.Flush(), err) // the last uses alone may be unreadable
}

func tokenCheck(inv *invocation) error {
	m, err := inv.cfg.tokenFile().Load()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(inv.stdout, "%s: %d tokens\n", inv.cfg.Tokens, m.Len())
	if m.Len() == 0 {
		err = errors.Join(err, fmt.Errorf("%s has no token: nobody can send", inv.cfg.Tokens))
	}
	return err
}

// connect reaches the store that a running serve with the same configuration
// uses, whose layout it returns as well.
func connect(inv *invocation) (stream.Layout, jetstream.JetStream, func(), error) {
	layout, err := currentLayout(inv.cfg)
	if err != nil {
		return layout, nil, nil, err
	}
	var nc *nats.Conn
	var js jetstream.JetStream
	if inv.cfg.NATSURL != "" {
		nc, js, err = stream.ConnectServer(inv.ctx, inv.cfg.NATS)
	} else {
		nc, js, err = stream.Connect(inv.ctx, inv.cfg.DataDir)
	}
	if err != nil {
		return layout, nil, nil, err
	}
	return layout, js, nc.Close, nil
}

// currentLayout is the layout under the store limit in force.
func currentLayout(c *config) (stream.Layout, error) {
	bytes, _, err := c.keptStoreBytes()
	if err != nil {
		return stream.Layout{}, err
	}
	return c.layout(bytes)
}

// checkTopic refuses a topic that is none of the layout's.
func checkTopic(layout stream.Layout, name string) error {
	var names []string
	for _, t := range layout.Topics {
		if t.Name == name {
			return nil
		}
		names = append(names, t.Name)
	}
	return fmt.Errorf("unknown topic %q, expected one of: %s", name, strings.Join(names, ", "))
}

// dedupRecords is how many records tail --unique remembers: about 100 MB of them.
const dedupRecords = 1_000_000

func tail(inv *invocation) error {
	noFollow, err := inv.flags.GetBool("no-follow")
	if err != nil {
		return err
	}
	since, err := inv.flags.GetString("since")
	if err != nil {
		return err
	}
	unique, err := inv.flags.GetBool("unique")
	if err != nil {
		return err
	}
	layout, js, disconnect, err := connect(inv)
	if err != nil {
		return err
	}
	defer disconnect()
	if err := checkTopic(layout, inv.args[0]); err != nil {
		return err
	}
	dedup := stream.NewDedup(dedupRecords)
	out := bufio.NewWriter(inv.stdout)
	err = stream.Tail(inv.ctx, js, layout, inv.args[0], stream.TailOptions{Since: since, Follow: !noFollow},
		func(record []byte, _ stream.Address) error {
			if unique && dedup.Seen(record) {
				return nil
			}
			out.Write(record)
			out.WriteByte('\n')
			if noFollow {
				return nil
			}
			return out.Flush() // somebody is watching
		})
	return errors.Join(err, out.Flush())
}

func topicsList(inv *invocation) error {
	layout, js, disconnect, err := connect(inv)
	if err != nil {
		return err
	}
	defer disconnect()
	topics, differences, err := listStreams(inv.ctx, js, layout)
	if err != nil {
		return err
	}
	w := table(inv.stdout, "TOPIC", "STREAM", "MESSAGES", "BYTES", "LIMIT", "OLDEST", "NEWEST", "CONSUMERS")
	for _, t := range topics {
		if t.Missing {
			row(w, t.Topic, t.Stream, "missing")
			continue
		}
		row(w, t.Topic, t.Stream, t.Messages, t.Bytes, t.MaxBytes, moment(t.Oldest, "-"), moment(t.Newest, "-"), t.Consumers)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, d := range differences {
		fmt.Fprintln(inv.stdout, "differs:", d)
	}
	return nil
}

// listStreams returns the state of the topics, and in what they and the bucket
// of the key map differ from the layout.
func listStreams(ctx context.Context, js jetstream.JetStream, layout stream.Layout) ([]stream.TopicStatus, []stream.Difference, error) {
	topics, err := stream.List(ctx, js, layout)
	if err != nil {
		return nil, nil, err
	}
	keymap, err := stream.ShowKeymap(ctx, js, layout)
	var all []stream.Difference
	for _, t := range topics {
		all = append(all, t.Differences...)
	}
	return topics, append(all, keymap.Differences...), err
}

// topicsApply makes the streams what the configuration says, after having shown
// the difference. The store limit stays unless store-bytes is set.
func topicsApply(inv *invocation) error {
	yes, err := inv.flags.GetBool("yes")
	if err != nil {
		return err
	}
	if inv.cfg.Streams == streamsVerify {
		return errors.New("streams is verify: the streams are somebody else's to change; topics list shows in what they differ")
	}
	kept, known, err := inv.cfg.keptStoreBytes()
	bytes := kept
	if err != nil || inv.cfg.StoreBytes > 0 { // damaged, or to be changed
		known = known && err == nil
		if bytes, err = inv.cfg.wantedStoreBytes(); err != nil {
			return err
		}
	}
	layout, err := inv.cfg.layout(bytes)
	if err != nil {
		return err
	}
	_, js, disconnect, err := connect(inv)
	if err != nil {
		return err
	}
	defer disconnect()
	topics, differences, err := listStreams(inv.ctx, js, layout)
	if err != nil {
		return err
	}
	changes := 0
	if known && bytes != kept {
		changes++
		fmt.Fprintf(inv.stdout, "change store limit from %d to %d\n", kept, bytes)
	}
	for _, t := range topics {
		if t.Missing {
			changes++
			fmt.Fprintf(inv.stdout, "create %s\n", t.Stream)
		}
	}
	for _, d := range differences {
		changes++
		fmt.Fprintln(inv.stdout, "change", d)
	}
	if changes == 0 {
		fmt.Fprintln(inv.stdout, "nothing to change")
		return inv.cfg.keepStoreBytes(bytes)
	}
	if !yes {
		if err := inv.ask("apply?"); err != nil {
			return err
		}
	}
	if err := stream.Apply(inv.ctx, js, layout); err != nil {
		return err
	}
	fmt.Fprintln(inv.stdout, "applied")
	return inv.cfg.keepStoreBytes(bytes)
}

// readersDir is where the digests of readers are kept: nowhere for an external
// server, which has users of its own.
func readersDir(c *config) string {
	if c.NATSURL != "" {
		return ""
	}
	return c.DataDir
}

func consumerAdd(inv *invocation) error {
	layout, js, disconnect, err := connect(inv)
	if err != nil {
		return err
	}
	defer disconnect()
	readers, err := stream.ListReaders(inv.ctx, js, layout, readersDir(inv.cfg))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(readers, func(r stream.ReaderStatus) bool { return r.Credential && r.Name == inv.args[0] }) {
		fmt.Fprintf(inv.stderr, "%s is there already: it keeps its position and gets a new password, the old one ends\n", inv.args[0])
	}
	c, err := stream.AddReader(inv.ctx, js, layout, readersDir(inv.cfg), inv.args[0], inv.args[1])
	if err != nil {
		return err
	}
	if c.Password == "" {
		_, err = fmt.Fprintf(inv.stdout, "stream: %s\nconsumer: %s\nThe server is external: give the reader a credential there.\n", c.Stream, c.Consumer)
		return err
	}
	_, err = fmt.Fprintf(inv.stdout, "server: %s\nuser: %s\npassword: %s\nstream: %s\nconsumer: %s\n",
		js.Conn().ConnectedUrl(), c.User, c.Password, c.Stream, c.Consumer)
	return err
}

func consumerList(inv *invocation) error {
	layout, js, disconnect, err := connect(inv)
	if err != nil {
		return err
	}
	defer disconnect()
	readers, err := stream.ListReaders(inv.ctx, js, layout, readersDir(inv.cfg))
	if err != nil {
		return err
	}
	w := table(inv.stdout, "NAME", "TOPIC", "CREDENTIAL", "PENDING", "UNACKNOWLEDGED", "REDELIVERED", "LAST ACK")
	for _, r := range readers {
		if r.Missing {
			row(w, r.Name, r.Topic, r.Credential, "consumer is missing")
			continue
		}
		row(w, r.Name, r.Topic, r.Credential, r.Pending, r.AckPending, r.Redelivered, moment(r.LastAck, "never"))
	}
	return w.Flush()
}

func consumerRemove(inv *invocation) error {
	layout, js, disconnect, err := connect(inv)
	if err != nil {
		return err
	}
	defer disconnect()
	return stream.RemoveReader(inv.ctx, js, layout, readersDir(inv.cfg), inv.args[0])
}

func table(w io.Writer, head ...any) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row(t, head...)
	return t
}

func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			io.WriteString(w, "\t")
		}
		fmt.Fprint(w, c)
	}
	io.WriteString(w, "\n")
}

func moment(t time.Time, none string) string {
	if t.IsZero() {
		return none
	}
	return t.UTC().Format(time.RFC3339)
}
