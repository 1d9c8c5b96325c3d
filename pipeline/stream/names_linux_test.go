package stream

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"caliperedge/pipeline"

	"golang.org/x/sys/unix"
)

// TestBlocksHaveRoom fills blocks and finds that each but the first was given as
// much room on the disk as the one before it came to, and its size is that of
// its messages.
func TestBlocksHaveRoom(t *testing.T) {
	needsRoom(t, 8<<20)
	dir := t.TempDir()
	p := openDir(t, dir)
	block := func(number int) (size, room int64) {
		info, err := os.Stat(p.store.(*embedded).names[testLayout().Stream("standard")].path(number))
		if err != nil {
			return 0, 0
		}
		return info.Size(), info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	random := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 200_000)
	for number, i := 1, 0; number <= 3; i++ {
		if i == 500 {
			t.Fatalf("no block %d after %d messages of %d bytes", number, i, len(noise))
		}
		random.Read(noise)
		m := message("standard", fmt.Sprint(i), "{}")
		m.Body, m.Encoding = noise, pipeline.EncodingZstd // nobody unpacks it
		publish(t, p, m)
		size, room := block(number)
		if size == 0 {
			continue
		}
		before, _ := block(number - 1)
		if size > int64(2*len(noise)) {
			t.Fatalf("block %d has %d bytes when it is first seen", number, size)
		}
		if room < before {
			t.Errorf("block %d has room for %d bytes, the one before it has %d", number, room, before)
		}
		number++
	}
}

// TestNearlyFullDiskIsLeftAlone asks for more than there is plenty of.
func TestNearlyFullDiskIsLeftAlone(t *testing.T) {
	free := needsRoom(t, 1<<20)
	f := newFile(t)
	reserve(f, 1<<20)
	if room := roomOf(t, f); room < 1<<20 {
		t.Errorf("room for %d bytes, asked for %d", room, 1<<20)
	}
	f = newFile(t)
	reserve(f, free/(plenty/2))
	if room := roomOf(t, f); room != 0 {
		t.Errorf("room for %d bytes was set aside of %d", room, free)
	}
}

// needsRoom skips a test whose disk could not set n bytes aside, and returns what
// is free there.
func needsRoom(t *testing.T, n int64) (free int64) {
	t.Helper()
	f := newFile(t)
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20); err != nil {
		t.Skipf("the filesystem of %s sets no room aside: %v", f.Name(), err)
	}
	var disk unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &disk); err != nil {
		t.Fatal(err)
	}
	free = int64(disk.Bavail) * int64(disk.Bsize)
	if free < 2*plenty*n {
		t.Skipf("%d bytes are free on the disk of %s, too few for this test", free, f.Name())
	}
	return free
}

func newFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func roomOf(t *testing.T, f *os.File) int64 {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}
