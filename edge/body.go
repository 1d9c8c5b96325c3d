package edge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"

	"caliperedge/pipeline"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/valyala/fasthttp"
)

// body is a request's body in a buffer of our own, unpacked. Its bytes are
// taken from the budget before they are buffered and given back by release.
type body struct {
	buf      []byte
	reserved int64
	begun    bool            // something of the request is in the budget
	room     *pipeline.Share // of the budget: the tool's
	patience time.Duration   // in a wait for room
	spare    *sync.Pool      // where buffers of other bodies are
}

// bodies keeps buffers for reuse.
type bodies struct {
	pool sync.Pool
	gzip sync.Pool
	zstd chan *zstd.Decoder
}

func newBodies() (*bodies, error) {
	n := runtime.GOMAXPROCS(0)
	b := &bodies{zstd: make(chan *zstd.Decoder, n)}
	for range n {
		z, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true),
			// Bounds what comes out without bounding the window, which senders
			// make as large as 8 MiB for the smallest body (RFC 9659).
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, fmt.Errorf("edge: zstd decoder: %w", err)
		}
		b.zstd <- z
	}
	return b, nil
}

const (
	// roomShare is which part of the request timeout a body may wait for room.
	roomShare = 4
	// bodyStep is how much of a body of unknown length is reserved at a time.
	bodyStep = 64 << 10
	// keepBytes is the largest buffer that is kept for the next request.
	keepBytes = 1 << 20
	// blockBytes is the most that one block of a zstd frame unpacks to (RFC
	// 8878, section 3.1.1.2.4), and what the decoder wants beyond it.
	blockBytes = 129 << 10
)

// newBody returns an empty body of the tool that has room.
func (e *Endpoint) newBody(room *pipeline.Share) *body {
	b, _ := e.bodies.pool.Get().(*body)
	if b == nil {
		b = new(body)
	}
	b.begun, b.room, b.patience, b.spare = false, room, e.cfg.RequestTimeout/roomShare, &e.bodies.pool
	return b
}

// release gives the bytes back to the budget and the buffer to the pool.
func (e *Endpoint) release(b *body) {
	b.empty()
	if cap(b.buf) > keepBytes {
		b.buf = nil
	}
	e.bodies.pool.Put(b)
}

// grow makes room for n bytes more, for which it may wait, and reports whether the
// budget has them.
func (b *body) grow(n int) bool {
	if !b.reserve(n, 0) && !b.wait(n) {
		return false
	}
	b.begun = true
	b.reserved += int64(n)
	b.buf = slices.Grow(b.buf, n)
	return true
}

// reserve has the budget decide whether the request begins, once.
func (b *body) reserve(n int, patience time.Duration) bool {
	if b.begun {
		return b.room.Body(int64(n), patience)
	}
	return b.room.Begin(int64(n), patience)
}

// wait is grow where there is no room at once. The budget does not count a buffer
// that was kept from an earlier request, so whoever waits leaves it to the others:
// a buffer of up to keepBytes in each wait would be many times the budget.
func (b *body) wait(n int) bool {
	if len(b.buf) == 0 && cap(b.buf) > 0 {
		b.spare.Put(&body{buf: b.buf})
		b.buf = nil
	}
	if !b.reserve(n, b.patience) {
		return false
	}
	if b.buf == nil {
		if other, _ := b.spare.Get().(*body); other != nil {
			b.buf = other.buf
		}
	}
	return true
}

// empty gives the bytes back to the budget.
func (b *body) empty() {
	b.room.Release(b.reserved)
	b.reserved = 0
	b.buf = b.buf[:0]
}

// read makes checks 6 and 7 and reads the body into b, unpacked.
func (e *Endpoint) read(ctx *fasthttp.RequestCtx, b *body) refused {
	stream := ctx.RequestBodyStream()
	if stream == nil {
		return refused{} // no body: no JSON, says the parser
	}
	n := ctx.Request.Header.ContentLength()
	switch encodingOf(&ctx.Request.Header) {
	case encodingGzip:
		return e.readGzip(b, stream)
	case encodingZstd:
		packed := e.newBody(b.room)
		defer e.release(packed)
		if r := e.readPlain(packed, stream, n); r.refusal != accepted {
			return r
		}
		b.begun = true
		return e.unpackZstd(b, packed.buf)
	}
	return e.readPlain(b, stream, n)
}

// readPlain reads a body of n bytes, or a chunked one, as it is.
func (e *Endpoint) readPlain(b *body, stream io.Reader, n int) refused {
	if n < 0 {
		wire := &wireReader{r: stream, left: e.cfg.MaxBodyBytes}
		return e.fill(b, wire, wire)
	}
	if !b.grow(n) {
		return refused{refusal: tooMuchInFlight}
	}
	b.buf = b.buf[:n]
	_, err := io.ReadFull(stream, b.buf)
	return e.refusalOfRead(err)
}

// readGzip unpacks as it reads: what is held is a window of 32 KiB.
func (e *Endpoint) readGzip(b *body, stream io.Reader) refused {
	wire := &wireReader{r: stream, left: e.cfg.MaxBodyBytes}
	z, _ := e.bodies.gzip.Get().(*gzip.Reader)
	if z == nil {
		z = new(gzip.Reader)
	}
	defer func() {
		z.Reset(noBytes{}) // lets go of the connection
		e.bodies.gzip.Put(z)
	}()
	if err := z.Reset(wire); err != nil {
		if wire.err != nil && wire.err != io.EOF {
			return e.refusalOfRead(wire.err)
		}
		return refused{refusal: damagedBody}
	}
	return e.fill(b, z, wire)
}

// unpackZstd unpacks what was read whole: a stream would hold the sender's
// window, of many megabytes, for each slow sender. As many bodies as there are
// decoders are unpacked at a time. Their room stays reserved until they are
// released, whatever of it they need.
func (e *Endpoint) unpackZstd(b *body, packed []byte) refused {
	// One block more than the limit: a decoder that finds too little room for
	// a block calls it damaged, so the limit must show in a block that fits.
	most := e.cfg.MaxBodyBytes + blockBytes
	room := most
	var frame zstd.Header
	if frame.Decode(packed) == nil && frame.HasFCS && frame.FrameContentSize < uint64(e.cfg.MaxBodyBytes) {
		room = int(frame.FrameContentSize) + blockBytes
	}
	for {
		if !b.grow(room) {
			return refused{refusal: tooMuchInFlight}
		}
		z := <-e.bodies.zstd // after the wait for room, in which it would be idle
		var err error
		b.buf, err = z.DecodeAll(packed, b.buf[:0:room])
		e.bodies.zstd <- z
		if err != nil && room < most { // its header told less than there is, or more frames follow
			b.empty()
			room = most
			continue
		}
		switch {
		case len(b.buf) > e.cfg.MaxBodyBytes, errors.Is(err, zstd.ErrDecoderSizeExceeded):
			return refused{refusal: bodyTooLarge, limit: int64(e.cfg.MaxBodyBytes)}
		case err != nil:
			return refused{refusal: damagedBody}
		}
		return refused{}
	}
}

// fill reads r to its end into b, which grows as it goes.
func (e *Endpoint) fill(b *body, r io.Reader, wire *wireReader) refused {
	limit := e.cfg.MaxBodyBytes
	room := 0 // reserved and not read yet
	for {
		if room == 0 {
			room = min(bodyStep, limit+1-len(b.buf))
			if !b.grow(room) {
				return refused{refusal: tooMuchInFlight}
			}
		}
		n, err := r.Read(b.buf[len(b.buf) : len(b.buf)+room])
		b.buf = b.buf[:len(b.buf)+n]
		room -= n
		switch {
		case len(b.buf) > limit || errors.Is(wire.err, errTooLong):
			return refused{refusal: bodyTooLarge, limit: int64(limit)}
		case err == io.EOF:
			return refused{}
		case err != nil && wire.err != nil && wire.err != io.EOF:
			return e.refusalOfRead(wire.err)
		case err != nil:
			return refused{refusal: damagedBody}
		}
	}
}

// refusalOfRead says why a body did not arrive.
func (e *Endpoint) refusalOfRead(err error) refused {
	if err == nil {
		return refused{}
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return refused{refusal: tooSlow}
	}
	return refused{refusal: malformedHTTP} // the peer has gone or broke the chunks
}

// noBytes is an empty body.
type noBytes struct{}

func (noBytes) Read([]byte) (int, error) { return 0, io.EOF }
func (noBytes) ReadByte() (byte, error)  { return 0, io.EOF }

var errTooLong = errors.New("body is too long")

// wireReader bounds what is read of a packed or chunked body, and remembers an
// error of the connection, which must not be taken for a damaged packing.
type wireReader struct {
	r    io.Reader
	left int
	err  error
}

func (w *wireReader) Read(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.r.Read(p[:min(len(p), w.left+1)])
	w.left -= n
	switch {
	case w.left < 0:
		w.err = errTooLong
	case err != nil:
		w.err = err
	}
	return n, w.err
}
