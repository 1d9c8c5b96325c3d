//go:build !race

package resident

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// What is allocated afterwards meets pages that are there. (The race detector has pages
// of its own for each of them.)
func TestHeap(t *testing.T) {
	const spare, piece = 64 << 20, 64 << 10
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	if err := unix.Madvise(page, unix.MADV_POPULATE_WRITE); err != nil {
		t.Skipf("this kernel maps pages as they are used: %v", err)
	}
	Heap(spare)
	before := faults(t)
	var kept [][]byte
	for range spare / piece / 2 {
		b := make([]byte, piece)
		for i := 0; i < len(b); i += os.Getpagesize() {
			b[i] = 1
		}
		kept = append(kept, b)
	}
	if n, pages := faults(t)-before, len(kept)*piece/os.Getpagesize(); n > int64(pages/4) {
		t.Errorf("%d page faults in %d pages of what was to be there", n, pages)
	}
}

// faults counts the pages that came as they were used.
func faults(t *testing.T) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return u.Minflt
}
