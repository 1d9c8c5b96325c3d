//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"caliperedge/internal/resident"
	"caliperedge/pipeline"
	"caliperedge/validate"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

// floorCommand, a folder, a Content-Encoding and what is left out, "" where nothing is, make this program the floor instead.
const floorCommand = "serve-floor"

// What the floor may leave out, to show what it costs.
const (
	withoutPass = "pass"
	withoutPack = "pack"
	withoutSync = "sync"
	withoutAll  = "all"
)

// floorFile holds the groups that the floor has written: the size of each as a varint, then the group as it is packed, or as
// it is where that is smaller. It has its size from the start and begins again at its end, as logs of databases do: a sync
// has no more to write than the group.
const (
	floorFile  = "bodies"
	floorBytes = 256 << 20
)

// floorHeap is as much as caliper-edge has ready.
const floorHeap = 48 << 20

// floorServer does the least that an endpoint must do which promises what caliper-edge promises: it reads the body, looks
// at all of its JSON once, strictly, and answers only after the body is packed and synced to disk. The look is that of
// caliper-edge, which takes less time than a strict pass of sonic. Bodies that arrive while a group is being written are the
// next group, so that one sync pays for many. It routes nothing and knows nobody.
//
// Two goroutines that write, so that one packs while the other syncs, make it slower: groups halve.
type floorServer struct {
	file    *os.File
	at      int64 // where the next group goes
	packer  *pipeline.Packer
	without string
	wake    chan struct{} // has a token where a group is open

	mu    sync.Mutex
	open  *group
	spare []byte // of the group before, for the next
}

// group is what is packed, written and synced at once.
type group struct {
	bodies []byte
	synced chan struct{} // closed when it is on the disk, or err says why it is not
	err    error         // then
}

// serveFloor takes bodies and keeps them in dir, packed as encoding says, until ctx ends.
func serveFloor(ctx context.Context, dir, encoding, without string, out io.Writer) error {
	// As in caliper-edge: a sync keeps one scheduling slot busy doing nothing.
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	encoding, err := pipeline.ParseEncoding(encoding)
	if err != nil {
		return err
	}
	f := &floorServer{without: without, wake: make(chan struct{}, 1)}
	if f.leavesOut(withoutPack) {
		encoding = pipeline.EncodingNone
	}
	f.packer, err = pipeline.NewPacker(encoding)
	if err != nil {
		return err
	}
	f.file, err = os.Create(filepath.Join(dir, floorFile))
	if err != nil {
		return err
	}
	defer f.file.Close()
	if err := f.fill(); err != nil {
		return err
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := fasthttp.Server{Handler: f.handle}
	failed, written := make(chan error, 1), make(chan error, 1)
	go func() { failed <- server.Serve(ln) }()
	go func() { written <- f.write(ctx) }()
	resident.Heap(floorHeap)
	fmt.Fprintln(out, "listening on", ln.Addr())
	select {
	case err := <-failed:
		return err
	case err := <-written: // ctx has ended; connections end with the process
		return err
	}
}

func (f *floorServer) leavesOut(part string) bool {
	return f.without == part || f.without == withoutAll
}

func (f *floorServer) handle(c *fasthttp.RequestCtx) {
	body := c.PostBody()
	if !f.leavesOut(withoutPass) {
		envelope, err := validate.Parse(body, validate.Options{})
		if err != nil {
			c.SetStatusCode(fasthttp.StatusBadRequest)
			return
		}
		envelope.Release()
	}
	g := f.join(body)
	<-g.synced
	if g.err != nil {
		c.SetStatusCode(fasthttp.StatusServiceUnavailable)
		return
	}
	c.SetContentType("application/json")
	c.SetBodyString(constantBody)
}

// join copies body into the open group.
func (f *floorServer) join(body []byte) *group {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		f.open = &group{bodies: f.spare, synced: make(chan struct{})}
		f.spare = nil
		f.wake <- struct{}{}
	}
	f.open.bodies = append(f.open.bodies, body...)
	return f.open
}

// write writes one group after the other.
func (f *floorServer) write(ctx context.Context) error {
	var done []byte
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		}
		f.mu.Lock()
		g := f.open
		f.open, f.spare = nil, done
		f.mu.Unlock()
		packed, _ := f.packer.Pack(g.bodies)
		g.err = f.store(packed)
		close(g.synced)
		done = g.bodies[:0]
	}
}

// fill writes all of the file once.
func (f *floorServer) fill() error {
	zeros := make([]byte, 1<<20)
	for range floorBytes / len(zeros) {
		if _, err := f.file.Write(zeros); err != nil {
			return err
		}
	}
	return f.file.Sync()
}

// store writes a packed group and syncs it.
func (f *floorServer) store(packed []byte) error {
	size := binary.AppendUvarint(nil, uint64(len(packed)))
	n := int64(len(size) + len(packed))
	if f.at+n > floorBytes {
		f.at = 0
	}
	fd := int(f.file.Fd())
	if _, err := unix.Pwritev(fd, [][]byte{size, packed}, f.at); err != nil { // whole: the file is a plain one
		return err
	}
	f.at += n
	if f.leavesOut(withoutSync) {
		return nil
	}
	return unix.Fdatasync(fd)
}
