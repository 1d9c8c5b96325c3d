package stream

import (
	"os"

	"golang.org/x/sys/unix"
)

// reserve sets aside room on the disk for the first n bytes of f, where the
// filesystem can.
func reserve(f *os.File, n int64) {
	unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, n)
}
