package e2e_test

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lossyDisk follows the calls of a traced program and knows what of its files
// would be there after a power loss.
//
// Data is there once a sync of its file, entered after the write, has returned.
// For names there are two readings. An ordinary filesystem with a journal
// (ext4, xfs, btrfs) keeps all changes of names that precede any sync. One that
// does no more than POSIX says keeps a name only when its folder was synced.
type lossyDisk struct {
	root  *node
	dir   string // the path of root
	open  map[string]*handle
	syncs map[string]syncing // by thread: those under way
	clock int                // counts changes
}

// node is a file or a folder.
type node struct {
	names   map[string]*node // of a folder, now
	synced  map[string]*node // and after a sync of it
	journal map[string]*node // and after any sync

	content []byte  // of a file, as synced
	pending []write // and since
}

// write is a change of a file: data at a place, or with nil a new size.
type write struct {
	at   int64
	data []byte
	time int
}

// handle is an open file.
type handle struct {
	node   *node
	at     int64
	direct bool // O_SYNC
}

type syncing struct {
	node *node
	time int
}

func newLossyDisk(dir string) *lossyDisk {
	return &lossyDisk{root: newFolder(), dir: dir, open: map[string]*handle{}, syncs: map[string]syncing{}}
}

func newFolder() *node {
	return &node{names: map[string]*node{}, synced: map[string]*node{}, journal: map[string]*node{}}
}

// find returns the folder of path, and the name in it; nil outside of the disk.
func (d *lossyDisk) find(path string) (*node, string) {
	rest, ok := strings.CutPrefix(path, d.dir+"/")
	if !ok {
		return nil, ""
	}
	at := d.root
	parts := strings.Split(rest, "/")
	for _, p := range parts[:len(parts)-1] {
		if at = at.names[p]; at == nil {
			return nil, ""
		}
	}
	return at, parts[len(parts)-1]
}

func (d *lossyDisk) lookup(path string) *node {
	if path == d.dir {
		return d.root
	}
	folder, name := d.find(path)
	if folder == nil {
		return nil
	}
	return folder.names[name]
}

// apply takes a call in.
func (d *lossyDisk) apply(c call) {
	if c.entered {
		switch c.name {
		case "close":
			delete(d.open, c.fd())
		case "fsync", "fdatasync":
			if h := d.open[c.fd()]; h != nil {
				d.syncs[c.thread] = syncing{h.node, d.clock}
			}
		}
	}
	if !c.left || c.ret < 0 {
		return
	}
	d.clock++
	switch c.name {
	case "openat":
		d.openat(c)
	case "read", "lseek":
		if h := d.open[c.fd()]; h != nil && c.name == "read" {
			h.at += c.ret
		} else if h != nil {
			h.at = c.ret
		}
	case "write":
		if h := d.open[c.fd()]; h != nil {
			d.write(h, h.at, c)
			h.at += c.ret
		}
	case "pwrite64":
		if h := d.open[c.fd()]; h != nil {
			d.write(h, c.number(), c)
		}
	case "ftruncate":
		if h := d.open[c.fd()]; h != nil {
			h.node.pending = append(h.node.pending, write{c.number(), nil, d.clock})
		}
	case "fsync", "fdatasync":
		if s, ok := d.syncs[c.thread]; ok {
			delete(d.syncs, c.thread)
			d.sync(s.node, s.time)
		}
	case "mkdirat":
		if folder, name := d.find(c.paths()[0]); folder != nil {
			folder.names[name] = newFolder()
		}
	case "unlinkat":
		if folder, name := d.find(c.paths()[0]); folder != nil {
			delete(folder.names, name)
		}
	case "renameat", "renameat2":
		p := c.paths()
		from, old := d.find(p[0])
		to, name := d.find(p[1])
		if from != nil && to != nil {
			to.names[name] = from.names[old]
			delete(from.names, old)
		}
	}
}

func (d *lossyDisk) openat(c call) {
	n := d.lookup(c.paths()[0])
	if n == nil && strings.Contains(c.args, "O_CREAT") {
		if folder, name := d.find(c.paths()[0]); folder != nil {
			n = new(node)
			folder.names[name] = n
		}
	}
	if n == nil {
		return
	}
	if strings.Contains(c.args, "O_TRUNC") {
		n.pending = append(n.pending, write{0, nil, d.clock})
	}
	d.open[strings.TrimSpace(itoa(c.ret))] = &handle{node: n, direct: strings.Contains(c.args, "O_SYNC")}
}

func (d *lossyDisk) write(h *handle, at int64, c call) {
	h.node.pending = append(h.node.pending, write{at, c.text(0)[:c.ret], d.clock})
	if h.direct {
		d.sync(h.node, d.clock)
	}
}

// sync is a sync of n that was entered at a time, and has returned.
func (d *lossyDisk) sync(n *node, entered int) {
	for len(n.pending) > 0 && n.pending[0].time <= entered {
		n.content = n.pending[0].to(n.content)
		n.pending = n.pending[1:]
	}
	if n.names != nil {
		n.synced = maps.Clone(n.names)
	}
	d.root.commit()
}

func (n *node) commit() {
	for _, below := range n.names {
		below.commit()
	}
	if n.names != nil {
		n.journal = maps.Clone(n.names)
	}
}

// to makes the change.
func (w write) to(content []byte) []byte {
	end := w.at + int64(len(w.data))
	if grow := end - int64(len(content)); grow > 0 {
		content = append(content, make([]byte, grow)...)
	}
	if w.data == nil {
		return content[:w.at]
	}
	copy(content[w.at:], w.data)
	return content
}

// leave is what a power loss leaves of n, as a reading of the rules.
type leave func(n *node) (names map[string]*node, content []byte)

// Readings of what a power loss leaves.
var (
	leaveJournal leave = func(n *node) (map[string]*node, []byte) { return n.journal, n.content }
	leavePOSIX   leave = func(n *node) (map[string]*node, []byte) { return n.synced, n.content }
)

// leaveSome keeps, beside what must be there, any of what was written since, and
// half of a write too.
func leaveSome(random *rand.Rand) leave {
	return func(n *node) (map[string]*node, []byte) {
		content := slices.Clone(n.content)
		for _, w := range n.pending {
			switch random.IntN(3) {
			case 0:
				content = w.to(content)
			case 1:
				if w.data != nil {
					w.data = w.data[:random.IntN(len(w.data)+1)]
				}
				content = w.to(content)
			}
		}
		names := n.names
		if random.IntN(2) == 0 {
			names = n.journal
		}
		return names, content
	}
}

// rebuild writes what is left below n to dir.
func (n *node) rebuild(t *testing.T, dir string, left leave) {
	t.Helper()
	names, _ := left(n)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, below := range names {
		path := filepath.Join(dir, name)
		if below.names != nil {
			below.rebuild(t, path, left)
			continue
		}
		_, content := left(below)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
