package stream

import (
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"caliperedge/pipeline"
)

// TestBlocksHaveRoom fills blocks and finds that each but the first was given as
// much room on the disk as the one before it came to, and its size is that of
// its messages.
func TestBlocksHaveRoom(t *testing.T) {
	dir := t.TempDir()
	needsRoom(t, dir, 8<<20)
	p := openDir(t, dir)
	blocks := p.store.(*embedded).names[testLayout().Stream("standard")]
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
		size, room := blocks.sizeAndRoom(number)
		if size == 0 {
			continue
		}
		before, _ := blocks.sizeAndRoom(number - 1)
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
	blocks := &blockNames{dir: t.TempDir()}
	free := needsRoom(t, blocks.dir, 1<<20)
	for _, c := range []struct {
		before int64
		given  bool
	}{{1 << 20, true}, {int64(free / (plenty / 2)), false}} {
		for number, size := range map[int]int64{1: c.before, 2: 0} {
			os.Remove(blocks.path(number))
			if err := os.WriteFile(blocks.path(number), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(blocks.path(number), size); err != nil {
				t.Fatal(err)
			}
		}
		blocks.reserve(2)
		if size, room := blocks.sizeAndRoom(2); size != 0 || c.given && room < c.before || !c.given && room != 0 {
			t.Errorf("size %d, room for %d bytes after a block of %d, with %d free", size, room, c.before, free)
		}
	}
}

// sizeAndRoom is the size of a block, and what it has on the disk.
func (b *blockNames) sizeAndRoom(number int) (size, room int64) {
	info, err := os.Stat(b.path(number))
	if err != nil {
		return 0, 0
	}
	return info.Size(), info.Sys().(*syscall.Stat_t).Blocks * 512
}

// needsRoom skips a test where the disk of dir could not set n bytes aside, and
// returns what is free there.
func needsRoom(t *testing.T, dir string, n uint64) (free uint64) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := reserve(f, 1<<20); err != nil {
		t.Skipf("the filesystem of %s sets no room aside: %v", dir, err)
	}
	if free, err = freeBytes(dir); err != nil {
		t.Fatal(err)
	}
	if free < 2*plenty*n {
		t.Skipf("%d bytes are free on the disk of %s, too few for this test", free, dir)
	}
	return free
}
