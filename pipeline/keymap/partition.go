package keymap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A partition is stored as formatVersion and a zstd frame. Unpacked it begins
// with its pairs of tool and kind: their number, then for each the tool and the
// kind. Its rows follow, in order of tool, kind and value: the number of the
// pair, the value and the key. Numbers are varints, and strings have their
// length before them.
const formatVersion = 1

// ErrFull is that a partition has become too large: the table holds far more
// than it is made for.
var ErrFull = errors.New("keymap: a partition is full")

var errDamaged = errors.New("keymap: damaged partition")

// number takes a number off the front of s. The result is -1 where there is none.
func number(s string) (int, string) {
	n := 0
	for i := 0; i < len(s) && i < 4; i++ {
		n |= int(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			return n, s[i+1:]
		}
	}
	return -1, s
}

// text takes a string of up to limit bytes off the front of s.
func text(s string, limit int) (string, string, bool) {
	n, s := number(s)
	if n < 0 || n > limit || n > len(s) {
		return "", "", false
	}
	return s[:n], s[n:], true
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// check reads an arena through and returns its pairs and the number of its
// rows, so that afterwards it can be read without looking for faults.
func check(arena string) ([]group, int, error) {
	if len(arena) > MaxPartitionBytes {
		return nil, 0, fmt.Errorf("%w: %d bytes", errDamaged, len(arena))
	}
	groups, rest, ok := pairs(arena)
	if !ok {
		return nil, 0, errDamaged
	}
	count := 0
	for ; rest != ""; count++ {
		g, after := number(rest)
		_, after, okValue := text(after, MaxValueBytes)
		_, after, okKey := text(after, MaxKeyBytes)
		if g < 0 || g >= len(groups) || !okValue || !okKey {
			return nil, 0, errDamaged
		}
		rest = after
	}
	return groups, count, nil
}

// pairs takes the pairs off the front of an arena.
func pairs(arena string) ([]group, string, bool) {
	n, rest := number(arena)
	if n < 0 || n > len(arena) {
		return nil, "", false
	}
	groups := make([]group, n)
	for i := range groups {
		var okTool, okKind bool
		groups[i].tool, rest, okTool = text(rest, MaxNameBytes)
		groups[i].kind, rest, okKind = text(rest, MaxNameBytes)
		if !okTool || !okKind {
			return nil, "", false
		}
	}
	return groups, rest, true
}

// rows yields the rows of an arena that was checked, each with its place.
func rows(arena string, groups []group) iter.Seq2[int, Row] {
	return func(yield func(int, Row) bool) {
		_, rest, _ := pairs(arena)
		for rest != "" {
			at := len(arena) - len(rest)
			var g int
			var r Row
			g, rest = number(rest)
			r.Tool, r.Kind = groups[g].tool, groups[g].kind
			r.Value, rest, _ = text(rest, MaxValueBytes)
			r.Key, rest, _ = text(rest, MaxKeyBytes)
			if !yield(at, r) {
				return
			}
		}
	}
}

// Rows returns the rows of a packed partition in order of tool, kind and value.
func Rows(packed []byte) ([]Row, error) {
	if len(packed) == 0 {
		return nil, nil
	}
	arena, err := unpack(packed)
	if err != nil {
		return nil, err
	}
	groups, n, err := check(arena)
	if err != nil {
		return nil, err
	}
	all := make([]Row, 0, n)
	for _, r := range rows(arena, groups) {
		all = append(all, r)
	}
	return all, nil
}

// Counts says what became of edits.
type Counts struct {
	// Added rows are new, Changed ones have another key than before, Same ones
	// had it already, Removed ones are gone. Repeated edits had another edit of
	// the same row after them, which counted.
	Added, Changed, Same, Removed, Repeated int
}

// Add adds what o counts.
func (c *Counts) Add(o Counts) {
	c.Added += o.Added
	c.Changed += o.Changed
	c.Same += o.Same
	c.Removed += o.Removed
	c.Repeated += o.Repeated
}

// Merge applies edits, which all belong to one partition, to its packed form
// and returns the new one, empty where no row is left. Of several edits of one
// row the last one counts. Where there is nothing to change the result is
// packed itself. edits are put in order.
func Merge(packed []byte, edits []Row) ([]byte, Counts, error) {
	var c Counts
	old, err := Rows(packed)
	if err != nil {
		return nil, c, err
	}
	slices.SortStableFunc(edits, compareRows)
	merged := make([]Row, 0, len(old)+len(edits))
	for i, e := range edits {
		if i+1 < len(edits) && compareRows(e, edits[i+1]) == 0 {
			c.Repeated++
			continue
		}
		for len(old) > 0 && compareRows(old[0], e) < 0 {
			merged, old = append(merged, old[0]), old[1:]
		}
		known := len(old) > 0 && compareRows(old[0], e) == 0
		switch {
		case known && e.Key == "":
			c.Removed++
		case known && e.Key == old[0].Key, !known && e.Key == "":
			c.Same++
		case known:
			c.Changed++
		default:
			c.Added++
		}
		if known {
			old = old[1:]
		}
		if e.Key != "" {
			merged = append(merged, e)
		}
	}
	if c.Added+c.Changed+c.Removed == 0 {
		return packed, c, nil
	}
	packed, err = pack(append(merged, old...))
	return packed, c, err
}

func compareRows(a, b Row) int {
	if c := strings.Compare(a.Tool, b.Tool); c != 0 {
		return c
	}
	if c := strings.Compare(a.Kind, b.Kind); c != 0 {
		return c
	}
	return strings.Compare(a.Value, b.Value)
}

// pack packs rows, which are in order.
func pack(all []Row) ([]byte, error) {
	if len(all) == 0 {
		return nil, nil
	}
	var groups []group
	size := 16
	for _, r := range all {
		if g := (group{r.Tool, r.Kind}); len(groups) == 0 || groups[len(groups)-1] != g {
			groups = append(groups, g)
			size += len(r.Tool) + len(r.Kind) + 2
		}
		size += len(r.Value) + len(r.Key) + 8
	}
	arena := binary.AppendUvarint(make([]byte, 0, size), uint64(len(groups)))
	for _, g := range groups {
		arena = appendText(appendText(arena, g.tool), g.kind)
	}
	at := 0
	for _, r := range all {
		if groups[at] != (group{r.Tool, r.Kind}) {
			at++
		}
		arena = appendText(appendText(binary.AppendUvarint(arena, uint64(at)), r.Value), r.Key)
	}
	if len(arena) > MaxPartitionBytes {
		return nil, fmt.Errorf("%w: %d rows have %d bytes, expected at most %d", ErrFull, len(all), len(arena), MaxPartitionBytes)
	}
	packed := encoder().EncodeAll(arena, []byte{formatVersion})
	if len(packed) > MaxPackedBytes {
		return nil, fmt.Errorf("%w: %d rows have %d bytes packed, expected at most %d", ErrFull, len(all), len(packed), MaxPackedBytes)
	}
	return packed, nil
}

// unpack returns the arena of a packed partition, unchecked.
func unpack(packed []byte) (string, error) {
	if packed[0] != formatVersion {
		return "", fmt.Errorf("keymap: partition of format version %d, only %d is known", packed[0], formatVersion)
	}
	arena, err := decoder().DecodeAll(packed[1:], nil)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errDamaged, err)
	}
	return string(arena), nil
}

// The coders are shared: both may be used concurrently for whole blocks.
var encoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithSingleSegment(true))
	if err != nil {
		panic(fmt.Sprintf("keymap: zstd encoder: %v", err)) // the options are constants
	}
	return e
})

var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxPartitionBytes))
	if err != nil {
		panic(fmt.Sprintf("keymap: zstd decoder: %v", err)) // the options are constants
	}
	return d
})
