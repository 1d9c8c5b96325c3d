package resident

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of one on amd64 and, most often, on arm64.
const hugePage = 2 << 20

// Slice has the memory of s there at once, in huge pages where the kernel has
// them. It is advice: a kernel that cannot follow it maps the pages as they are
// used, as it does with the ends of s, up to a huge page at each.
func Slice[T any](s []T) {
	if len(s) == 0 {
		return
	}
	begin := uintptr(unsafe.Pointer(unsafe.SliceData(s)))
	size := uintptr(len(s)) * unsafe.Sizeof(s[0])
	skip := -begin % hugePage
	if size < skip+hugePage {
		return // small, and soon there
	}
	whole := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), size)[skip : skip+(size-skip)/hugePage*hugePage]
	unix.Madvise(whole, unix.MADV_HUGEPAGE)
	unix.Madvise(whole, unix.MADV_POPULATE_WRITE)
}
