package stream

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"caliperedge/pipeline"
)

// TestBlocksHaveRoom fills blocks and finds that each but the first was given as
// much room on the disk as the one before it came to, and its size is that of
// its messages.
func TestBlocksHaveRoom(t *testing.T) {
	dir := t.TempDir()
	if f, err := os.Create(filepath.Join(dir, "probe")); err != nil {
		t.Fatal(err)
	} else if err := syscall.Fallocate(int(f.Fd()), 1, 0, 1<<20); err != nil {
		t.Skipf("the filesystem of %s sets no room aside: %v", dir, err)
	}
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
