package pipeline

import (
	"os"
	"testing"
	"time"
	"unsafe"

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
	w := newWindow(2_000_000, time.Hour, []string{TopicStandard})
	absent := 0
	for i := range w.shards {
		absent += absentBytes(t, w.shards[i].ring) + absentBytes(t, w.shards[i].index)
	}
	// The ends of a table, up to a huge page at each, come as they are used.
	if absent > 4*(2<<20) {
		t.Errorf("%d of the window's %d bytes are not there", absent, w.bytes())
	}
}

// absentBytes counts what of s is not in memory, in whole pages.
func absentBytes[T any](t *testing.T, s []T) (absent int) {
	t.Helper()
	page := uintptr(os.Getpagesize())
	begin := uintptr(unsafe.Pointer(unsafe.SliceData(s)))
	end := begin + uintptr(len(s))*unsafe.Sizeof(s[0])
	begin = (begin + page - 1) &^ (page - 1)
	there := make([]byte, (end-begin)/page)
	if _, _, err := unix.Syscall(unix.SYS_MINCORE, begin, uintptr(len(there))*page, uintptr(unsafe.Pointer(&there[0]))); err != 0 {
		t.Fatal(err)
	}
	for _, b := range there {
		if b&1 == 0 {
			absent += int(page)
		}
	}
	return absent
}
