// Write puts envelopes of the corpus into a file, for load generators that are not written in Go. Each line is a JSON
// object:
//
//	{"status":200,"items":2,"rejected":0,"parts":["{\"sensor\":…\"id\":\"urn:uuid:","\",\"type\":…","…"]}
//
// The body is the parts with a fresh UUID between one and the next: a generator never needs to look for ids, nor to know
// whether its strings are counted in bytes or in characters. status is what must be answered, rejected how many of the
// items do not conform.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"caliperedge/bench/corpus"
)

// line is one envelope.
type line struct {
	Status   int      `json:"status"`
	Items    int      `json:"items"`
	Rejected int      `json:"rejected"`
	Parts    []string `json:"parts"`
}

type settings struct {
	kind           corpus.Kind
	seed           uint64
	items, count   int
	faulty, broken float64
}

func main() {
	var s settings
	flag.TextVar(&s.kind, "kind", corpus.Mix, "`kind` of events: engage or mix")
	flag.Uint64Var(&s.seed, "seed", 1, "equal seeds give equal bytes")
	flag.IntVar(&s.items, "items", 1, "items of each envelope")
	flag.IntVar(&s.count, "count", 1000, "envelopes")
	flag.Float64Var(&s.faulty, "faulty", 0, "share of items that must be rejected")
	flag.Float64Var(&s.broken, "broken", 0, "share of bodies that must be refused as a whole")
	out := flag.String("out", "-", "`file` to write, - for standard output")
	flag.Parse()
	if err := run(s, *out); err != nil {
		fmt.Fprintln(os.Stderr, "write:", err)
		os.Exit(1)
	}
}

func run(s settings, out string) error {
	if s.items < 1 || s.count < 0 || flag.NArg() > 0 {
		return fmt.Errorf("want -items of at least 1, -count of at least 0, and no arguments")
	}
	if out == "-" {
		return write(os.Stdout, s)
	}
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	if err := write(file, s); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

// write leaves broken bodies that are no UTF-8 out, for a line of JSON cannot hold them.
func write(out io.Writer, s settings) error {
	g := corpus.New(s.kind, s.seed)
	buffered := bufio.NewWriter(out)
	lines := json.NewEncoder(buffered)
	lines.SetEscapeHTML(false)
	due := 0.0 // of broken bodies
	for range s.count {
		var e corpus.Envelope
		if due += s.broken; due >= 1 {
			due--
			for e = g.Broken(); !utf8.Valid(e.Body); {
				e = g.Broken()
			}
		} else {
			e = g.Envelope(s.items, s.faulty)
		}
		if err := lines.Encode(lineOf(&e)); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

func lineOf(e *corpus.Envelope) line {
	l := line{Status: e.Status, Items: e.Items, Rejected: e.Rejected()}
	from := 0
	for _, at := range e.IDs {
		l.Parts = append(l.Parts, string(e.Body[from:at]))
		from = at + corpus.IDBytes
	}
	l.Parts = append(l.Parts, string(e.Body[from:]))
	return l
}
