package stream

import (
	"os"

	"golang.org/x/sys/unix"
)

// plenty is how many times the room that is set aside must be free on the disk.
// An allocation that finds too little keeps what it got: near its end the disk
// would be full for everybody.
const plenty = 64

// reserve sets aside room on the disk for the first n bytes of f, where there is
// plenty and the filesystem can.
func reserve(f *os.File, n int64) {
	fd := int(f.Fd())
	var disk unix.Statfs_t
	if err := unix.Fstatfs(fd, &disk); err != nil || int64(disk.Bavail)*int64(disk.Bsize) < plenty*n {
		return
	}
	unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, n)
}
