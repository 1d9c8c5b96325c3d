package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"caliperedge/pipeline"
	"caliperedge/pipeline/rules"
	"caliperedge/pipeline/stream"
)

// replay runs records of a topic through validation and routing again, and
// stores what now belongs to another topic there. Nothing is taken out of the
// topic that it reads.
func replay(inv *invocation) error {
	dry, err := inv.flags.GetBool("dry-run")
	if err != nil {
		return err
	}
	yes, err := inv.flags.GetBool("yes")
	if err != nil {
		return err
	}
	r := newReplayer(inv, inv.args[0])
	if r.choice, err = readChoice(inv.flags, time.Now()); err != nil {
		return err
	}
	layout, js, disconnect, err := connect(inv)
	if err != nil {
		return err
	}
	defer disconnect()
	r.layout, r.js = layout, js
	if err := checkTopic(layout, r.source); err != nil {
		return err
	}
	cfg := pipeline.Config{Rules: inv.cfg.Rules, MaxEnvelopeBytes: 4 * int64(inv.cfg.MaxBodyBytes), BudgetBytes: int64(inv.cfg.BudgetBytes)}
	for _, t := range layout.Topics {
		cfg.Topics = append(cfg.Topics, t.Name)
	}
	if inv.cfg.demandKeys() {
		table, err := loadKeys(inv, js, layout)
		if err != nil {
			return err
		}
		cfg.Rules = cfg.Rules.WithKeys(table)
	}
	if r.pipeline, err = pipeline.New(cfg, nil, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	defer r.pipeline.Drain(inv.ctx)
	if r.packer, err = pipeline.NewPacker(inv.cfg.messageEncoding()); err != nil {
		return err
	}
	if err := r.plan(); err != nil {
		return err
	}
	writes := r.report(inv.stdout)
	switch {
	case dry:
		return nil
	case writes == 0:
		fmt.Fprintln(inv.stdout, "nothing to write")
		return nil
	case !yes:
		if err := inv.ask(fmt.Sprintf("write %d records?", writes)); err != nil {
			return err
		}
	}
	written, err := r.write()
	fmt.Fprintf(inv.stdout, "%d records written\n", written)
	if err != nil && inv.ctx.Err() != nil {
		return errors.New("interrupted; run it again to go on")
	}
	return err
}

// report prints what is to become of the records, and returns how many are to
// be written.
func (r *replayer) report(out io.Writer) (writes int) {
	keys := slices.SortedFunc(maps.Keys(r.tallies), func(a, b outcome) int {
		return cmp.Or(cmp.Compare(a.tool, b.tool), cmp.Compare(a.to, b.to), cmp.Compare(a.why, b.why))
	})
	w := table(out, "TOOL", "TO", "RECORDS", "ALREADY THERE", "STAY BECAUSE OF")
	for _, o := range keys {
		t := r.tallies[o]
		writes += t.write
		row(w, o.tool, cmp.Or(o.to, "-"), t.write+t.stay, t.there, o.why)
	}
	w.Flush()
	fmt.Fprintf(out, "%d records of %s read\n", r.read, r.source)
	return writes
}

// outcome is what becomes of records of a tool: they go to a topic, or stay.
type outcome struct{ tool, to, why string }

// tally counts the records of an outcome.
type tally struct {
	write int // to be written
	there int // in the topic already, or twice among what is replayed
	stay  int
}

// progress tells on stderr how far a long reading is, every few seconds.
type progress struct {
	w    io.Writer
	what string
	n    int
	told time.Time
}

func (inv *invocation) progress(what string) *progress {
	return &progress{w: inv.stderr, what: what, told: time.Now()}
}

func (p *progress) step() {
	if p.n++; p.n%1024 == 0 && time.Since(p.told) > 2*time.Second {
		p.tell()
		p.told = time.Now()
	}
}

func (p *progress) tell() { fmt.Fprintf(p.w, "%s: %d records\n", p.what, p.n) }

var errTooManyEvents = errors.New("more than 4,000,000 events to be written; take fewer at a time with --since, --until and --tool")

// maxEvents bounds the memory of a replay: so many take 485 MB, 121 bytes each
// (TestReplayMemory).
const maxEvents = 4_000_000

// readTargets looks which of the events that are to be written their topics
// have already, and which have others of the same id. What is for quarantine may
// have been there before and have moved on: it is looked for in all three.
func (r *replayer) readTargets() error {
	targets := make(map[string][]string) // by the topic that is read
	add := func(topic, target string) {
		if !slices.Contains(targets[topic], target) {
			targets[topic] = append(targets[topic], target)
		}
	}
	for o, t := range r.tallies {
		if t.write > 0 {
			add(o.to, o.to)
		}
		if t.write > 0 && o.to == topicQuarantine {
			add(pipeline.TopicStandard, o.to)
			add(rules.Enriched, o.to)
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(targets)) {
		p := r.inv.progress("looking for the same events in " + topic)
		err := stream.Tail(r.inv.ctx, r.js, r.layout, topic, stream.TailOptions{}, func(record []byte, _ stream.Address) error {
			p.step()
			for _, target := range targets[topic] {
				r.find(target, record)
			}
			return nil
		})
		if err != nil {
			return err
		}
		p.tell()
	}
	return nil
}
