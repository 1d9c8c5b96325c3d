// Package keymap is the table from (tool, kind, value) to an institution's own
// key, such as from the course "63" of the tool Engage to the course's key in
// the student information system.
//
// The table is cut into Partitions, of which each is packed as a whole: a
// partition is what is stored, sent and replaced. A row belongs to the
// partition that its hash says, everywhere and for ever. Map holds all of them
// unpacked, for lookups on the way of an event; Merge applies edits to one;
// ReadCSV takes edits from a file. Where partitions are stored is not this
// package's matter.
package keymap

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"caliperedge/internal/names"
)

const (
	partitionBits = 12
	// Partitions is into how many parts the table is cut. With ten million rows
	// one has about 2,400, a tenth of a megabyte: few enough to replace for a
	// single row, and the parts few enough for a sync each.
	Partitions = 1 << partitionBits

	// MaxPartitionBytes is how large a partition may be unpacked: a place in it
	// fits in offsetBits. MaxPackedBytes is how large it may be packed, so that
	// it fits in a message with its headers.
	MaxPartitionBytes = 1 << offsetBits
	MaxPackedBytes    = 1<<20 - 1<<10

	// MaxNameBytes bounds a tool and a kind, MaxValueBytes a value and
	// MaxKeyBytes a key.
	MaxNameBytes  = names.ToolBytes
	MaxValueBytes = 16 << 10
	MaxKeyBytes   = 1 << 10
)

// Row is one row of the table. In an edit an empty Key removes the row.
type Row struct {
	// Tool is 1 to 64 of A-Z a-z 0-9 _ - and Kind is too.
	Tool, Kind string
	// Value is 1 to 16,384 bytes of UTF-8, whatever the tool makes of them.
	Value string
	// Key is up to 1,024 bytes of UTF-8 without control characters, quotation
	// marks and backslashes, so that it stands in JSON as it is.
	Key string
}

// Partition is the number of the partition that the row of (tool, kind, value)
// belongs to.
func Partition(tool, kind string, value []byte) int {
	return int(hash(tool, kind, value) >> (64 - partitionBits))
}

// hash is FNV-1a of tool, kind and value with a zero byte between them, finished
// as in MurmurHash3 because its high bits alone are poor. It is part of the
// stored format.
func hash[V string | []byte](tool, kind string, value V) uint64 {
	const prime = 1099511628211
	h := uint64(14695981039346656037)
	for i := 0; i < len(tool); i++ {
		h = (h ^ uint64(tool[i])) * prime
	}
	h *= prime
	for i := 0; i < len(kind); i++ {
		h = (h ^ uint64(kind[i])) * prime
	}
	h *= prime
	for i := 0; i < len(value); i++ {
		h = (h ^ uint64(value[i])) * prime
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// Map is the table in memory. The zero Map is empty and ready to use. All
// methods may be called concurrently; readers take no lock and never wait.
type Map struct {
	shards [Partitions]atomic.Pointer[shard]
	rows   atomic.Int64
	bytes  atomic.Int64
}

// Lookup returns the key of (tool, kind, value), and whether there is one. It
// compares the whole value and allocates nothing.
func (m *Map) Lookup(tool, kind string, value []byte) (key string, known bool) {
	h := hash(tool, kind, value)
	s := m.shards[h>>(64-partitionBits)].Load()
	if s == nil {
		return "", false
	}
	for i := s.slot(h); ; i++ {
		if i == len(s.slots) {
			i = 0
		}
		e := s.slots[i]
		if e == 0 {
			return "", false
		}
		if e>>offsetBits == fingerprint(h) {
			if key, same := s.compare(e&offsetMask, tool, kind, value); same {
				return key, true
			}
		}
	}
}

// Set replaces partition number part by packed, as Merge made it; empty means
// no rows. Where packed is damaged it says so and leaves the partition as it is.
func (m *Map) Set(part int, packed []byte) error {
	var s *shard
	if len(packed) > 0 {
		arena, err := unpack(packed)
		if err != nil {
			return err
		}
		if s, err = newShard(part, arena); err != nil {
			return err
		}
	}
	was := m.shards[part].Swap(s)
	m.rows.Add(int64(s.count() - was.count()))
	m.bytes.Add(int64(s.size() - was.size()))
	return nil
}

// Rows is how many rows the table has, and Bytes what they take in memory.
func (m *Map) Rows() int  { return int(m.rows.Load()) }
func (m *Map) Bytes() int { return int(m.bytes.Load()) }

// A slot of a shard is the place of a row in the arena and above it a few bits
// of the row's hash, which spare nearly all comparisons that would fail. Zero is
// an empty slot: no row begins at place 0.
const (
	offsetBits = 23
	offsetMask = 1<<offsetBits - 1
)

func fingerprint(h uint64) uint32 { return uint32(h) & (1<<(32-offsetBits) - 1) }

// shard is a partition in memory. Nothing in it ever changes, and it holds no
// pointer for each row, so the garbage collector does not look inside.
type shard struct {
	groups []group
	arena  string
	slots  []uint32 // open addressing, linear probing, a quarter empty
	rows   int
}

// group is a pair of tool and kind, which many rows share.
type group struct{ tool, kind string }

func (s *shard) count() int {
	if s == nil {
		return 0
	}
	return s.rows
}

func (s *shard) size() int {
	if s == nil {
		return 0
	}
	return len(s.arena) + 4*cap(s.slots) + 32*cap(s.groups)
}

// slot is where the search for a row of hash h begins.
func (s *shard) slot(h uint64) int {
	high, _ := bits.Mul64(h<<partitionBits, uint64(len(s.slots)))
	return int(high)
}

// compare returns the key of the row at place at if it is the one asked for.
func (s *shard) compare(at uint32, tool, kind string, value []byte) (string, bool) {
	row := s.arena[at:]
	g, row := number(row)
	if of := &s.groups[g]; of.tool != tool || of.kind != kind {
		return "", false
	}
	size, row := number(row)
	if size != len(value) || row[:size] != string(value) {
		return "", false
	}
	size, row = number(row[size:])
	return row[:size], true
}

// newShard indexes the rows of an arena, which it checks.
func newShard(part int, arena string) (*shard, error) {
	s := &shard{arena: arena}
	var err error
	if s.groups, s.rows, err = check(arena); err != nil {
		return nil, err
	}
	s.slots = make([]uint32, s.rows+s.rows/3+1)
	for at, row := range rows(arena, s.groups) {
		h := hash(row.Tool, row.Kind, row.Value)
		if h>>(64-partitionBits) != uint64(part) {
			return nil, fmt.Errorf("keymap: a row of partition %d stands in partition %d", h>>(64-partitionBits), part)
		}
		i := s.slot(h)
		for s.slots[i] != 0 {
			if i++; i == len(s.slots) {
				i = 0
			}
		}
		s.slots[i] = uint32(at) | fingerprint(h)<<offsetBits
	}
	return s, nil
}
