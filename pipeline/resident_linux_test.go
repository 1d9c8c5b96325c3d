package pipeline

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a window needs is there before the first event.
func TestWindowIsResident(t *testing.T) {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	if err := unix.Madvise(page, unix.MADV_POPULATE_WRITE); err != nil {
		t.Skipf("this kernel maps pages as they are used: %v", err)
	}
	before := residentBytes(t)
	w := newWindow(2_000_000, time.Hour, []string{TopicStandard})
	// The ends of a table, up to a huge page at each, come as they are used.
	if grown, least := residentBytes(t)-before, w.bytes()-8*hugePage; grown < least {
		t.Errorf("the process grew by %d bytes, want at least %d of the window's %d", grown, least, w.bytes())
	}
	if w.limit() < 2_000_000 {
		t.Errorf("room for %d ids", w.limit())
	}
}

func residentBytes(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
