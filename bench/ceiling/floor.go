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
	"syscall"

	"caliperedge/bench/yardstick"
	"caliperedge/pipeline"

	"github.com/valyala/fasthttp"
)

// floorCommand, a folder, and a Content-Encoding make this program the floor instead.
const floorCommand = "serve-floor"

// floorFile holds the groups that the floor has written: the size of each as a varint, then the group as it is packed, or as it is where that is smaller.
const floorFile = "bodies"

// floorServer does the least that an endpoint must do which promises what caliper-edge promises: it reads the body, looks
// at all of its JSON once, strictly, and answers only after the body is packed and synced to disk. Bodies that arrive while
// a group is being written are the next group, so that one sync pays for many. It judges nothing and knows nobody.
type floorServer struct {
	file   *os.File
	packer *pipeline.Packer
	passes sync.Pool
	wake   chan struct{} // has a token where a group is open

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
func serveFloor(ctx context.Context, dir, encoding string, out io.Writer) error {
	// As in caliper-edge: a sync keeps one scheduling slot busy doing nothing.
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	encoding, err := pipeline.ParseEncoding(encoding)
	if err != nil {
		return err
	}
	packer, err := pipeline.NewPacker(encoding)
	if err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, floorFile))
	if err != nil {
		return err
	}
	defer file.Close()
	f := &floorServer{file: file, packer: packer, wake: make(chan struct{}, 1)}
	f.passes.New = func() any { return yardstick.New() }
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := fasthttp.Server{Handler: f.handle}
	failed, written := make(chan error, 1), make(chan error, 1)
	go func() { failed <- server.Serve(ln) }()
	go func() { written <- f.write(ctx) }()
	fmt.Fprintln(out, "listening on", ln.Addr())
	select {
	case err := <-failed:
		return err
	case err := <-written: // ctx has ended; connections end with the process
		return err
	}
}

func (f *floorServer) handle(c *fasthttp.RequestCtx) {
	body := c.PostBody()
	pass := f.passes.Get().(*yardstick.Pass)
	n, err := pass.Items(body)
	f.passes.Put(pass)
	if err != nil || n == 0 {
		c.SetStatusCode(fasthttp.StatusBadRequest)
		return
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

// store appends a packed group and syncs it.
func (f *floorServer) store(packed []byte) error {
	_, err := f.file.Write(binary.AppendUvarint(nil, uint64(len(packed))))
	if err == nil {
		_, err = f.file.Write(packed)
	}
	if err == nil {
		err = syscall.Fdatasync(int(f.file.Fd()))
	}
	return err
}
