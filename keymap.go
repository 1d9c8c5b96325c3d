package main

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"caliperedge/pipeline/keymap"
	"caliperedge/pipeline/stream"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// maxFaultsShown bounds the faulty lines of a file that are listed.
	maxFaultsShown = 20
	// rowsPerProgress is after how many lines read there is a word of progress.
	rowsPerProgress = 1_000_000
)

// keymapImport applies a file to the key map.
func keymapImport(inv *invocation) error {
	strict, err := inv.flags.GetBool("strict")
	if err != nil {
		return err
	}
	file := inv.stdin
	if name := inv.args[0]; name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		file = f
	}
	layout, js, disconnect, err := connect(inv)
	if err != nil {
		return err
	}
	defer disconnect()
	open := stream.EnsureKeymap
	if inv.cfg.Streams == streamsVerify {
		open = stream.OpenKeymap
	}
	kv, err := open(inv.ctx, js, layout)
	if err != nil {
		return err
	}
	w := stream.NewKeymapWriter(kv)
	w.Progress = func(done, total int) {
		fmt.Fprintf(inv.stderr, "written: %d of %d partitions\n", done, total)
	}
	rows, faults := 0, 0
	faulty, shown := 0, 0 // lines: a fault may have several
	err = keymap.ReadCSV(bufio.NewReaderSize(file, 1<<20), func(r keymap.Row) error {
		if rows++; rows%rowsPerProgress == 0 {
			fmt.Fprintf(inv.stderr, "read: %d rows\n", rows)
		}
		return w.Add(inv.ctx, r)
	}, func(f keymap.Fault) error {
		if strict {
			return f
		}
		faulty += f.Lines
		if faults++; faults <= maxFaultsShown {
			shown += f.Lines
			fmt.Fprintf(inv.stderr, "%s: %v\n", inv.args[0], f)
		}
		return nil
	})
	if fault := (keymap.Fault{}); errors.As(err, &fault) {
		return fmt.Errorf("%s: %w; imported until then: %s", inv.args[0], fault, counts(w.Counts(), fault.Lines))
	}
	if err == nil {
		err = w.Flush(inv.ctx)
	}
	if faulty > shown {
		fmt.Fprintf(inv.stderr, "%s: and %d more faulty lines\n", inv.args[0], faulty-shown)
	}
	_, printed := fmt.Fprintln(inv.stdout, counts(w.Counts(), faulty))
	if err == nil && faulty > 0 {
		err = fmt.Errorf("%s: %d faulty lines were left out", inv.args[0], faulty)
	}
	return errors.Join(err, printed)
}

func counts(c keymap.Counts, faults int) string {
	return fmt.Sprintf("added %d, changed %d, same %d, removed %d, repeated %d, faulty %d", c.Added, c.Changed, c.Same, c.Removed, c.Repeated, faults)
}

// eachPartition calls do for the rows of every partition.
func eachPartition(inv *invocation, do func([]keymap.Row) error) error {
	layout, js, disconnect, err := connect(inv)
	if err != nil {
		return err
	}
	defer disconnect()
	kv, err := stream.OpenKeymap(inv.ctx, js, layout)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil // nothing was imported yet
	}
	for part := 0; part < keymap.Partitions && err == nil; part++ {
		var rows []keymap.Row
		if rows, err = stream.ReadPartition(inv.ctx, kv, part); err == nil {
			err = do(rows)
		}
	}
	return err
}

// loadKeys returns the key map as it is now.
func loadKeys(inv *invocation, js jetstream.JetStream, layout stream.Layout) (*keymap.Map, error) {
	table := new(keymap.Map)
	f := stream.FollowKeymap(stream.FollowConfig{JetStream: func() jetstream.JetStream { return js }, Layout: layout, VerifyOnly: true,
		Map: table, Logger: slog.New(slog.DiscardHandler)})
	defer f.Close()
	select {
	case <-f.Loaded():
		return table, nil
	case <-time.After(inv.cfg.KeymapWait):
		return nil, fmt.Errorf("the key map was not loaded in %v; --keymap-wait allows more", inv.cfg.KeymapWait)
	case <-inv.ctx.Done():
		return nil, inv.ctx.Err()
	}
}

// keymapList prints the table as keymap import reads it.
func keymapList(inv *invocation) error {
	out := csv.NewWriter(inv.stdout)
	err := out.Write([]string{"tool", "kind", "value", "key"})
	if err != nil {
		return err
	}
	err = eachPartition(inv, func(rows []keymap.Row) error {
		for _, r := range rows {
			if err := out.Write([]string{r.Tool, r.Kind, r.Value, r.Key}); err != nil {
				return err
			}
		}
		return nil
	})
	out.Flush()
	return errors.Join(err, out.Error())
}

// keymapStats prints how many rows there are of each tool and kind.
func keymapStats(inv *invocation) error {
	type group struct{ tool, kind string }
	sums := make(map[group]int)
	err := eachPartition(inv, func(rows []keymap.Row) error {
		for _, r := range rows {
			sums[group{r.Tool, r.Kind}]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	w := table(inv.stdout, "TOOL", "KIND", "ROWS")
	for _, g := range slices.SortedFunc(maps.Keys(sums), func(a, b group) int {
		return cmp.Or(cmp.Compare(a.tool, b.tool), cmp.Compare(a.kind, b.kind))
	}) {
		row(w, g.tool, g.kind, sums[g])
	}
	return w.Flush()
}

// keymapGet prints the key of one value.
func keymapGet(inv *invocation) error {
	r := keymap.Row{Tool: inv.args[0], Kind: inv.args[1], Value: inv.args[2]}
	if err := r.Check(); err != nil {
		return fmt.Errorf("%w\n%w", err, errUsage)
	}
	layout, js, disconnect, err := connect(inv)
	if err != nil {
		return err
	}
	defer disconnect()
	var rows []keymap.Row
	kv, err := stream.OpenKeymap(inv.ctx, js, layout)
	if err == nil {
		rows, err = stream.ReadPartition(inv.ctx, kv, keymap.Partition(r.Tool, r.Kind, []byte(r.Value)))
	}
	if err != nil && !errors.Is(err, jetstream.ErrBucketNotFound) {
		return err
	}
	for _, known := range rows {
		if r.Key = known.Key; r == known {
			_, err = fmt.Fprintln(inv.stdout, r.Key)
			return err
		}
	}
	return fmt.Errorf("the key map has no %s %q of tool %s", r.Kind, r.Value, r.Tool)
}
