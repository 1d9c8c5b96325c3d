package e2e_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var idInBlock = regexp.MustCompile(`{"id":"(urn:uuid:[0-9a-f-]{36})"`)

// lastBlock is the newest block file of the topic standard, and what it holds.
func (h *home) lastBlock() (path string, content []byte) {
	h.t.Helper()
	files, err := filepath.Glob(h.data("jetstream/$G/streams/caliper-standard/msgs/*.blk"))
	if err != nil || len(files) == 0 {
		h.t.Fatalf("no block files: %v", err)
	}
	number := func(path string) int {
		n, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".blk"))
		return n
	}
	path = slices.MaxFunc(files, func(a, b string) int { return number(a) - number(b) })
	if content, err = os.ReadFile(path); err != nil {
		h.t.Fatal(err)
	}
	return path, content
}

// TestFaultTorn damages the newest file after a kill: what a crash in a write,
// or a disk that lies, leaves behind. The program starts, whatever lies there,
// and has all messages but those that were damaged.
func TestFaultTorn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		// damage returns the block as it is left, and where the damage begins; what
		// stands before that must be kept.
		damage func(block []byte) ([]byte, int)
	}{
		{"half a record behind the last", func(b []byte) ([]byte, int) {
			last := bytes.LastIndex(b, []byte("NATS/1.0"))
			return append(b, b[last-30:last+200]...), len(b)
		}},
		{"zeros behind the last record", func(b []byte) ([]byte, int) { return append(b, make([]byte, 4096)...), len(b) }},
		{"last bytes cut off", func(b []byte) ([]byte, int) { return b[:len(b)-5], len(b) - 5 }},
		{"cut in half", func(b []byte) ([]byte, int) { return b[:len(b)/2], len(b) / 2 }},
		{"last bytes flipped", func(b []byte) ([]byte, int) { b[len(b)-100] ^= 0xff; return b, len(b) - 100 }},
		{"emptied", func(b []byte) ([]byte, int) { return nil, 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newFaultHome(t, "CALIPER_CONTENT_ENCODING=none")
			s := h.serve()
			load := h.sensors(s)
			s.flows(400)
			s.kill()
			path, block := h.lastBlock()
			left, from := c.damage(slices.Clone(block))
			if err := os.WriteFile(path, left, 0o600); err != nil {
				t.Fatal(err)
			}
			// A message that is damaged is gone as a whole.
			if from < len(block) {
				from = max(0, bytes.LastIndex(block[:from], []byte("NATS/1.0")))
			}
			kept := make(map[string]bool)
			for _, m := range idInBlock.FindAllSubmatch(block[:from], -1) {
				kept[string(m[1])] = true
			}
			s = h.serve()
			s.flows(200)
			r := load.ended()
			lost := 0
			for _, span := range r.Ledger.Missing.Spans {
				for _, id := range span.IDs {
					if kept[id] || from == len(block) {
						lost++
					}
				}
			}
			if lost > 0 {
				t.Errorf("%d events are lost that stand before the damage", lost)
			}
			t.Logf("%d events stand before the damage, %d behind it are gone", len(kept), r.Ledger.Missing.Events)
			s.addsUp()
			s.stop()
		})
	}
}
