package keymap

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// edit applies rows to the packed partitions of a table and to m.
func edit(t testing.TB, m *Map, packed map[int][]byte, rows ...Row) Counts {
	t.Helper()
	parts := make(map[int][]Row)
	for _, r := range rows {
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		p := Partition(r.Tool, r.Kind, []byte(r.Value))
		parts[p] = append(parts[p], r)
	}
	var all Counts
	for p, edits := range parts {
		next, c, err := Merge(packed[p], edits)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Set(p, next); err != nil {
			t.Fatal(err)
		}
		packed[p] = next
		all.Add(c)
	}
	return all
}

func TestLookup(t *testing.T) {
	var m Map
	f := func(tool, kind, value, want string) {
		t.Helper()
		if key, known := m.Lookup(tool, kind, []byte(value)); key != want || known != (want != "") {
			t.Errorf("Lookup(%q, %q, %.20q) is %q, %v, want %q", tool, kind, value, key, known, want)
		}
	}
	f("Engage", "course", "63", "")
	long := strings.Repeat("v", MaxValueBytes)
	c := edit(t, &m, map[int][]byte{},
		Row{"Engage", "course", "63", "C1"},
		Row{"Engage", "person", "63", "P1"},
		Row{"Canvas", "course", "63", "C2"},
		Row{"Engage", "course", "é *.> \u00a0", "C3"},
		Row{"Engage", "course", long, "C4"},
	)
	if c.Added != 5 || m.Rows() != 5 {
		t.Errorf("counted %+v, %d rows", c, m.Rows())
	}
	f("Engage", "course", "63", "C1")
	f("Engage", "person", "63", "P1")
	f("Canvas", "course", "63", "C2")
	f("Engage", "course", "é *.> \u00a0", "C3")
	f("Engage", "course", long, "C4")
	f("Engage", "course", long+"v", "")
	f("Engage", "course", long[1:], "")
	f("Engage", "course", "", "")
	f("", "", "63", "")
	f("Enga", "gecourse", "63", "")
}

// TestAgainstAMap edits at random and compares with Go's own map, repeated,
// changed and removed rows included.
func TestAgainstAMap(t *testing.T) {
	var m Map
	rng := rand.New(rand.NewPCG(1, 2))
	want, packed := map[Row]string{}, map[int][]byte{}
	of := func() Row {
		return Row{Tool: fmt.Sprint("t", rng.IntN(3)), Kind: fmt.Sprint("k", rng.IntN(3)), Value: fmt.Sprint(rng.IntN(3000))}
	}
	for range 40 {
		var rows []Row
		var expect Counts
		last := map[Row]string{}
		for range 500 {
			r := of()
			key := ""
			if rng.IntN(4) > 0 {
				key = fmt.Sprint("key", rng.IntN(3))
			}
			if _, again := last[r]; again {
				expect.Repeated++
			}
			last[r] = key
			r.Key = key
			rows = append(rows, r)
		}
		for r, key := range last {
			had, known := want[r]
			switch {
			case known && key == "":
				expect.Removed++
				delete(want, r)
			case known && had == key, !known && key == "":
				expect.Same++
			case known:
				expect.Changed++
				want[r] = key
			default:
				expect.Added++
				want[r] = key
			}
		}
		if got := edit(t, &m, packed, rows...); got != expect {
			t.Fatalf("counted %+v, want %+v", got, expect)
		}
	}
	if m.Rows() != len(want) || m.Rows() == 0 {
		t.Errorf("%d rows, want %d", m.Rows(), len(want))
	}
	for tool := range 3 {
		for kind := range 3 {
			for value := range 3000 {
				r := Row{Tool: fmt.Sprint("t", tool), Kind: fmt.Sprint("k", kind), Value: fmt.Sprint(value)}
				key, known := m.Lookup(r.Tool, r.Kind, []byte(r.Value))
				if w, ok := want[r]; key != w || known != ok {
					t.Fatalf("Lookup of %v is %q, %v, want %q, %v", r, key, known, w, ok)
				}
			}
		}
	}
	// Everything removed again leaves nothing behind.
	var all []Row
	for r := range maps.Keys(want) {
		all = append(all, r)
	}
	edit(t, &m, packed, all...)
	if m.Rows() != 0 || m.Bytes() != 0 {
		t.Errorf("after the last row was removed: %d rows, %d bytes", m.Rows(), m.Bytes())
	}
}

func TestPartitionsArePartOfTheFormat(t *testing.T) {
	// Other programs may rely on them; they can never change.
	for value, want := range map[string]int{"63": 1373, "": 2453, "urn:umich:engin:leccap:session:T7Lzgsmtq0x2e1204jut6sop6": 1218} {
		if got := Partition("Engage", "course", []byte(value)); got != want {
			t.Errorf("partition of %q is %d, want %d", value, got, want)
		}
	}
}

func TestReadersDuringChanges(t *testing.T) {
	var m Map
	packed := map[int][]byte{}
	r := Row{"Engage", "course", "63", "even"}
	edit(t, &m, packed, r)
	quit := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				if key, known := m.Lookup("Engage", "course", []byte("63")); !known || key != "even" && key != "odd" {
					t.Errorf("found %q, %v", key, known)
					return
				}
			}
		})
	}
	for i := range 300 {
		r.Key = []string{"odd", "even"}[i%2]
		edit(t, &m, packed, r)
	}
	close(quit)
	readers.Wait()
}

func TestLookupAllocatesNothing(t *testing.T) {
	var m Map
	edit(t, &m, map[int][]byte{}, Row{"Engage", "course", "63", "C1"})
	yes, no := []byte("63"), []byte("64")
	if n := testing.AllocsPerRun(100, func() {
		m.Lookup("Engage", "course", yes)
		m.Lookup("Engage", "course", no)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDamagedPartitionsAreRefused(t *testing.T) {
	var m Map
	row := Row{"Engage", "course", "63", "C1"}
	part := Partition(row.Tool, row.Kind, []byte(row.Value))
	packed := map[int][]byte{}
	edit(t, &m, packed, row)
	good := packed[part]
	for i := range good {
		for _, flip := range []byte{1, 0x80} {
			bad := slices.Clone(good)
			bad[i] ^= flip
			_ = m.Set(part, bad) // an error or not, but never a panic
			m.Lookup("Engage", "course", []byte("63"))
		}
		if err := m.Set(part, good[:i]); err == nil && i > 0 {
			t.Errorf("cut after %d bytes it was taken", i)
		}
	}
	if err := m.Set(part, good); err != nil {
		t.Fatal(err)
	}
	if err := m.Set(part+1, good); err == nil {
		t.Error("a partition in another's place was taken")
	}
	if err := m.Set(part, append([]byte{formatVersion + 1}, good[1:]...)); err == nil {
		t.Error("an unknown version was taken")
	}
	if key, known := m.Lookup("Engage", "course", []byte("63")); !known || key != "C1" {
		t.Errorf("after refusals: %q, %v", key, known)
	}
}

// FuzzArena is that no arena makes the reader leave it, and that one which is
// taken can be searched.
func FuzzArena(f *testing.F) {
	f.Add([]byte("\x01\x06Engage\x06course\x00\x0263\x02C1"), "63")
	f.Add([]byte("\x00"), "")
	f.Add([]byte("\xff\xff\xff\x7f"), "")
	f.Fuzz(func(t *testing.T, arena []byte, value string) {
		for part := range 3 {
			s, err := newShard(part, string(arena))
			if err != nil {
				continue
			}
			var m Map
			m.shards[part].Store(s)
			for _, r := range rows(s.arena, s.groups) {
				if _, known := m.Lookup(r.Tool, r.Kind, []byte(r.Value)); !known {
					t.Errorf("row %v is not found", r)
				}
			}
			m.Lookup("Engage", "course", []byte(value))
		}
	})
}

func TestAFullPartition(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var edits []Row
	for len(edits) < 100 {
		var b strings.Builder
		for b.Len() < MaxValueBytes {
			b.WriteByte('!' + byte(rng.IntN(90)))
		}
		edits = append(edits, Row{"t", "k", b.String(), "key"})
	}
	if _, _, err := Merge(nil, edits); !errors.Is(err, ErrFull) {
		t.Errorf("merging %d values of %d bytes: %v, want %v", len(edits), MaxValueBytes, err, ErrFull)
	}
}
