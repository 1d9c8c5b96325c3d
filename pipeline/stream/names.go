package stream

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// The server syncs every message before it acknowledges it, but not the folder
// in which it makes a new block file. A journaling filesystem keeps the file's
// name all the same, with the first sync of the file. One that does no more than
// POSIX demands may forget it in a power loss, and with it every message in the
// file. So the folders are synced here: all of them when the store has been
// opened, and that of a stream's blocks when it has a new one, before the first
// message in there is acknowledged.

// blockNames are the names of a stream's block files. The server counts them
// up: 1.blk, 2.blk, ….
type blockNames struct {
	dir string

	mu   sync.Mutex
	last int // the newest block whose name is synced; 0 where that is not known
}

// newBlockNames returns those of a stream of the embedded server on a data
// folder.
func newBlockNames(dataDir, stream string) *blockNames {
	return &blockNames{dir: filepath.Join(dataDir, "jetstream", "$G", "streams", stream, "msgs")}
}

// sync returns when the names of all blocks that there are at its beginning are
// synced. Where there is no new one, it takes two looks at the folder.
func (b *blockNames) sync() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next, err := b.exists(b.last + 1)
	if err != nil {
		return err
	}
	if !next && b.last > 0 {
		if same, err := b.exists(b.last); same || err != nil {
			return err
		}
	}
	newest, err := b.newest() // before the sync, so that one made meanwhile is found the next time
	if err != nil {
		return err
	}
	b.reserve(newest)
	if err := syncFolder(b.dir); err != nil {
		return err
	}
	b.last = newest
	return nil
}

// reserve has the filesystem set room aside for the newest block, as much as the
// block before it came to: its places on the disk then lie together, and a sync
// has less to write about them. Nobody else sees it: the size of the file stays
// what it is, by which the server goes. What the server truncates, replaces or
// removes gives it back.
func (b *blockNames) reserve(number int) {
	before, err := os.Lstat(b.path(number - 1))
	if err != nil {
		return
	}
	if free, err := freeBytes(b.dir); err != nil || free < plenty*uint64(before.Size()) {
		return
	}
	f, err := os.OpenFile(b.path(number), os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_ = reserve(f, before.Size()) // it goes without
}

// plenty is how many times the room that is set aside must be free on the disk.
// An allocation that finds too little keeps what it got: near its end the disk
// would be full for everybody.
const plenty = 64

func (b *blockNames) path(number int) string {
	return filepath.Join(b.dir, strconv.Itoa(number)+".blk")
}

// forget makes the next sync a real one, for a store that was opened anew.
func (b *blockNames) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = 0
}

func (b *blockNames) exists(number int) (bool, error) {
	_, err := os.Lstat(b.path(number))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (b *blockNames) newest() (int, error) {
	files, err := os.ReadDir(b.dir)
	newest := 0
	for _, f := range files {
		if number, ok := strings.CutSuffix(f.Name(), ".blk"); ok {
			if n, err := strconv.Atoi(number); err == nil {
				newest = max(newest, n)
			}
		}
	}
	return newest, err
}

// syncFolders syncs the folders of an embedded store, from the one that holds
// the data folder down.
func syncFolders(dataDir string) error {
	above := filepath.Dir(filepath.Clean(dataDir))
	if err := syncFolder(above); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err := syncFolder(dataDir); err != nil {
		return err
	}
	return filepath.WalkDir(filepath.Join(dataDir, "jetstream"), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone while we looked
		}
		if err != nil || !d.IsDir() {
			return err
		}
		return syncFolder(path)
	})
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("stream: sync folder: %w", err)
	}
	return nil
}
