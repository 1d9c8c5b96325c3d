//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"caliperedge/internal/resident"
	"caliperedge/pipeline"
	"caliperedge/pipeline/stream"
	"caliperedge/validate"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

// floorCommand, a folder, a Content-Encoding, what is left out, "" where nothing is, and where groups go, make this program the
// floor instead.
const floorCommand = "serve-floor"

// What the floor may leave out, to show what it costs.
const (
	withoutPass = "pass"
	withoutPack = "pack"
	withoutSync = "sync"
	withoutAll  = "all"
)

// onJetStream has the floor publish each group as one message to the embedded JetStream, instead of writing it to a file.
const onJetStream = "jetstream"

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
	groups
	packer  *pipeline.Packer
	without string
	file    *os.File
	at      int64             // where the next group goes
	store   *stream.Publisher // instead of the file
	message uint64            // the last one
}

// serveFloor takes bodies and keeps them in dir, packed as encoding says, until ctx ends.
func serveFloor(ctx context.Context, dir, encoding, without, on string, out io.Writer) error {
	// As in caliper-edge: a sync keeps one scheduling slot busy doing nothing.
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	f := &floorServer{without: without, groups: groups{wake: make(chan struct{}, 1)}}
	if f.leavesOut(withoutPack) {
		encoding = "none"
	}
	var err error
	if f.packer, err = newPacker(encoding); err != nil {
		return err
	}
	store := f.write
	if on == onJetStream {
		store = f.publish
		f.most = pipeline.MaxMessageBytes - pipeline.HeaderRoomBytes
		if encoding != "none" {
			f.most *= 2 // the corpus is packed to less than half; a group that is not would be refused, and answered 503
		}
		if f.store, err = openStore(ctx, dir); err != nil {
			return err
		}
		defer f.store.Close()
	} else {
		if f.file, err = os.Create(filepath.Join(dir, floorFile)); err != nil {
			return err
		}
		defer f.file.Close()
		if err := f.fill(); err != nil {
			return err
		}
	}
	resident.Heap(floorHeap)
	return f.serve(ctx, f.handle, store, out)
}

// newPacker returns the packer for an encoding's name as -encoding takes it.
func newPacker(name string) (*pipeline.Packer, error) {
	encoding, err := pipeline.ParseEncoding(name)
	if err != nil {
		return nil, err
	}
	return pipeline.NewPacker(encoding)
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
	f.mu.Lock()
	g := f.room(len(body))
	g.bodies = append(g.bodies, body...)
	f.mu.Unlock()
	g.answer(c)
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

// write packs a group, writes it to the file and syncs it.
func (f *floorServer) write(bodies []byte) error {
	packed, _ := f.packer.Pack(bodies)
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

// publish packs a group and publishes it.
func (f *floorServer) publish(bodies []byte) error {
	packed, encoding := f.packer.Pack(bodies)
	f.message++
	_, err := f.store.Publish(context.Background(), &pipeline.Message{
		Topic: ownTopic, ID: strconv.FormatUint(f.message, 10), Encoding: encoding, Bytes: len(bodies), Body: packed})
	return err
}
