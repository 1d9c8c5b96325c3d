//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"caliperedge/bench/corpus"
)

// exampleFile is the configuration that ships with the program, with rules.
const exampleFile = "examples/caliper-edge.yaml"

// plainTool sends where nothing depends on who does. The rules of the example for tools of no name apply to it.
const plainTool = "ceiling"

// engageKey finds what the example's rules demand keys for in a body of Engage.
var engageKey = regexp.MustCompile(`:(course|user):(\d+)`)

// startRules starts caliper-edge with the example's rules. Engage's events come from the tool that they are for: it is
// tied to its sensors, identifiers are taken out, and as the key map has all keys, each event is enriched. The mix comes
// from a tool of no name, as its events are of many.
func (b *bench) startRules(ctx context.Context, l load, dir string) (*endpoint, error) {
	tool := plainTool
	if l.kind == corpus.Engage {
		tool = "Engage"
	}
	e, err := b.startEdge(withRules, tool, dir, "--config", filepath.Join(b.root, exampleFile))
	if err == nil && l.kind == corpus.Engage {
		if err = b.importKeys(ctx, e, l, dir); err != nil {
			return nil, errors.Join(err, e.stop())
		}
	}
	return e, err
}

// importKeys fills the key map with the keys of all bodies, and waits until the endpoint has them.
func (b *bench) importKeys(ctx context.Context, e *endpoint, l load, dir string) error {
	rows := map[string]bool{}
	for _, body := range b.envelopes(l) {
		for _, m := range engageKey.FindAllSubmatch(body.Body, -1) {
			kind := strings.Replace(string(m[1]), "user", "person", 1)
			rows[fmt.Sprintf("Engage,%s,%s,K-%[2]s\n", kind, m[2])] = true
		}
	}
	file := filepath.Join(dir, "keys.csv")
	text := "tool,kind,value,key\n" + strings.Join(slices.Sorted(maps.Keys(rows)), "")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	command := own(exec.CommandContext(ctx, b.program("caliper-edge"), "keymap", "import", file, "--data-dir", filepath.Join(dir, "data")))
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("keymap import: %w\n%s", err, tail(out))
	}
	for deadline := time.Now().Add(startPatience); ; {
		counters, err := scrape(ctx, e.admin)
		switch known := counters["caliper_keymap_rows"]; {
		case err != nil:
			return err
		case known == float64(len(rows)):
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("the endpoint has %.0f of %d keys after %v", known, len(rows), startPatience)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
