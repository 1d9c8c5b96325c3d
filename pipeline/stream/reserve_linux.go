package stream

import (
	"os"

	"golang.org/x/sys/unix"
)

// reserve sets aside room on the disk for the first n bytes of f. The error says
// that the filesystem cannot, or has too little.
func reserve(f *os.File, n int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, n)
}
