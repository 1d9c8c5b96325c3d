package keymap

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestManyRows fills a Map with as many rows as KEYMAP_ROWS says and tells what
// memory they take and what lookups cost.
func TestManyRows(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("KEYMAP_ROWS"))
	if err != nil {
		t.Skip("KEYMAP_ROWS says how many")
	}
	value := func(i int) []byte { return fmt.Appendf(nil, "urn:example:customer:prod:course:%09d", i*7919) }
	parts := make([][]Row, Partitions)
	data := 0
	for i := range n {
		v := value(i)
		p := Partition("Engage", "course", v)
		parts[p] = append(parts[p], Row{"Engage", "course", string(v), fmt.Sprintf("CRS-%010d", i)})
		data += len(v) + 14
	}
	var m Map
	var packed int
	start := processorTime()
	all := make([][]byte, Partitions)
	for p := range parts {
		if all[p], _, err = Merge(nil, parts[p]); err != nil {
			t.Fatal(err)
		}
		packed += len(all[p])
		parts[p] = nil
	}
	merged := processorTime() - start
	start = processorTime()
	for p := range all {
		if err := m.Set(p, all[p]); err != nil {
			t.Fatal(err)
		}
		all[p] = nil
	}
	set := processorTime() - start
	parts, all = nil, nil
	runtime.GC()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	t.Logf("%d rows: values and keys %d MB, packed %d MB, Map.Bytes %d MB (%.1f a row), heap in use %d MB; merged and packed in %v of the processor, set in %v",
		m.Rows(), data>>20, packed>>20, m.Bytes()>>20, float64(m.Bytes())/float64(n), ms.HeapAlloc>>20, merged, set)
	runtime.KeepAlive(&m)
	for _, c := range []struct {
		name  string
		known bool
	}{{"known", true}, {"unknown", false}} {
		const asked = 1 << 20
		values := make([][]byte, asked)
		x := uint64(1)
		for i := range values {
			x = x*6364136223846793005 + 1442695040888963407
			values[i] = value(int(x>>33) % n)
			if !c.known {
				values[i][0] = 'x'
			}
		}
		start := processorTime()
		for _, v := range values {
			if _, known := m.Lookup("Engage", "course", v); known != c.known {
				t.Fatalf("%s: %s", v, c.name)
			}
		}
		t.Logf("lookup of %s values: %.0f ns of the processor", c.name, float64((processorTime()-start).Nanoseconds())/asked)
	}
}

// processorTime is what this process has computed so far, which other work on
// the machine changes little.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkLookup(b *testing.B) {
	var m Map
	packed := map[int][]byte{}
	var all []Row
	for i := range 10000 {
		all = append(all, Row{"Engage", "course", fmt.Sprintf("urn:example:course:%09d", i), "CRS-1"})
	}
	edit(b, &m, packed, all...)
	v := []byte("urn:example:course:000000077")
	b.ReportAllocs()
	for b.Loop() {
		if _, known := m.Lookup("Engage", "course", v); !known {
			b.Fatal("unknown")
		}
	}
}
