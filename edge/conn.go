package edge

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// drainIdle is how long a connection without a request is still listened
	// to when draining: a request that is under way arrives in it.
	drainIdle = 250 * time.Millisecond
	// acceptQuiet ends the acceptance of connections that the kernel has
	// already taken: closing the listener earlier would reset them.
	acceptQuiet = 20 * time.Millisecond
	// acceptMost bounds the same where connections keep coming.
	acceptMost = 2 * time.Second
	// sweepMost is no less than what the kernel queues by default.
	sweepMost = 4096
	// lingerIdle, lingerTime and lingerBytes bound what is still read from a
	// connection that we close first: as long as bytes keep coming, so that a
	// sensor that writes its whole body before it reads finds our answer.
	// Closing with unread bytes would reset the connection, and the reset would
	// overtake the answer.
	lingerIdle  = 500 * time.Millisecond
	lingerTime  = 10 * time.Second
	lingerBytes = 64 << 20
)

// listener gives out connections that close without a reset, and that know
// whether a request has arrived on them.
type listener struct {
	*net.TCPListener
	writeTime time.Duration // that a peer has to take what is written
	log       *slog.Logger
	acceptBy  atomic.Int64   // unix nanoseconds when accepting ends; 0 while serving
	open      sync.WaitGroup // connections, and the accepting of them

	swept  []*net.TCPConn // taken from the kernel's queue at the very end
	closed bool           // nothing more can be accepted

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func newListener(ln *net.TCPListener, writeTime time.Duration, log *slog.Logger) *listener {
	return &listener{TCPListener: ln, writeTime: writeTime, log: log, conns: make(map[*conn]struct{})}
}

// Accept returns the next connection, and io.EOF once drain has emptied the
// kernel's queue. It is called by one goroutine.
func (l *listener) Accept() (net.Conn, error) {
	tc, err := l.next()
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: tc, l: l, waiting: true}
	l.open.Add(1)
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	return c, nil
}

func (l *listener) next() (*net.TCPConn, error) {
	if !l.closed {
		tc, err := l.AcceptTCP()
		for isShortage(err) {
			// The server would end. Connections that close make room.
			l.log.Warn("a connection waits for resources of the system", "error", err)
			time.Sleep(acceptQuiet)
			tc, err = l.AcceptTCP()
		}
		if err == nil {
			l.extend()
			return tc, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		l.sweep()
	}
	if len(l.swept) == 0 {
		return nil, io.EOF
	}
	tc := l.swept[0]
	l.swept = l.swept[1:]
	return tc, nil
}

// isShortage reports whether accepting failed for want of file descriptors or
// memory.
func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// sweep takes what is in the kernel's queue without waiting, and closes the
// listener right after: a time-out of Accept does not say that the queue is
// empty where connections keep coming.
func (l *listener) sweep() {
	if raw, err := l.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			for len(l.swept) < sweepMost {
				nfd, _, err := syscall.Accept(int(fd)) // does not block: nor does the listener
				if err != nil {
					return
				}
				syscall.CloseOnExec(nfd)
				f := os.NewFile(uintptr(nfd), "accepted")
				c, err := net.FileConn(f) // a duplicate
				f.Close()
				if tc, ok := c.(*net.TCPConn); err == nil && ok {
					l.swept = append(l.swept, tc)
				}
			}
		})
	}
	l.TCPListener.Close()
	l.closed = true
}

// drain has Accept take what is already in the kernel's queue and then close
// the listener, and gives waiting connections drainIdle before they close.
// Connections with a request finish it.
func (l *listener) drain() {
	l.acceptBy.Store(time.Now().Add(acceptMost).UnixNano())
	l.extend()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.hurry()
	}
}

// count is the number of open connections.
func (l *listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// extend lets a draining listener wait a little for the next connection.
func (l *listener) extend() {
	if l.draining() {
		until := time.Now().Add(acceptQuiet)
		if end := time.Unix(0, l.acceptBy.Load()); end.Before(until) {
			until = end
		}
		l.SetDeadline(until)
	}
}

func (l *listener) draining() bool { return l.acceptBy.Load() != 0 }

// conn is a connection of a listener.
type conn struct {
	*net.TCPConn
	l     *listener
	read  bool // it was served, not turned away
	ended bool // the peer is gone: nothing to linger for

	// readBy is what the server asked for, several times for a request. Nearly
	// always the bytes are there before anything has to wait, and to move a
	// socket's deadline costs as much as a look at the header. So the socket's
	// own is moved before a read only if it must come nearer; one that turns
	// out to have been too near is moved and the read repeated. It is the same
	// with writes.
	readBy time.Time
	writes bool // the socket has a write deadline

	mu        sync.Mutex
	waiting   bool      // no byte of a request has arrived
	drainBy   time.Time // ends the waiting, where draining
	readArmed time.Time // of the socket
	closed    bool
}

// stateChanged is the server's ConnState hook.
func stateChanged(nc net.Conn, state fasthttp.ConnState) {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		nc = t.NetConn()
	}
	if c, ok := nc.(*conn); ok {
		c.mu.Lock()
		c.waiting = state == fasthttp.StateNew || state == fasthttp.StateIdle
		c.drainBy = time.Time{}
		c.mu.Unlock()
	}
}

// hurry ends the wait of a connection for its next request soon.
func (c *conn) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting {
		c.drainBy = time.Now().Add(drainIdle)
		c.armReadLocked(c.drainBy)
	}
}

// SetReadDeadline takes effect with the next Read.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.readBy = t
	return nil
}

// SetWriteDeadline does nothing: see Write.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// readUntil is the read deadline in force. The caller holds c.mu.
func (c *conn) readUntil() time.Time {
	if c.waiting && c.drainBy.IsZero() && c.l.draining() {
		c.drainBy = time.Now().Add(drainIdle)
	}
	if nearer(c.drainBy, c.readBy) {
		return c.drainBy
	}
	return c.readBy
}

func (c *conn) armReadLocked(t time.Time) {
	c.readArmed = t
	c.TCPConn.SetReadDeadline(t)
}

// nearer reports whether deadline a ends before b. The zero time never ends.
func nearer(a, b time.Time) bool {
	return !a.IsZero() && (b.IsZero() || a.Before(b))
}

// Read remembers whether the peer is gone. To a connection that waits in vain
// it gives io.EOF: a time-out would be answered by 408, which a sensor that
// just sends its first request would take for the answer to that.
func (c *conn) Read(b []byte) (int, error) {
	c.read = true
	c.mu.Lock()
	if by := c.readUntil(); nearer(by, c.readArmed) {
		c.armReadLocked(by)
	}
	c.mu.Unlock()
	for {
		n, err := c.TCPConn.Read(b)
		switch {
		case err == nil:
			return n, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			c.ended = true
			return n, err
		}
		c.mu.Lock()
		by, waiting := c.readUntil(), c.waiting
		over := nearer(by, time.Now())
		if !over {
			c.armReadLocked(by)
		}
		c.mu.Unlock()
		switch {
		case over && waiting:
			return c.readNow(b)
		case over:
			return n, err
		}
	}
}

// readNow reads what has arrived, without waiting; io.EOF where nothing has.
// Past its deadline a socket is not even looked at, and the goroutine that
// reads may have been stopped for so long.
func (c *conn) readNow(b []byte) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	c.armReadLocked(time.Time{})
	c.mu.Unlock()
	err = raw.Read(func(fd uintptr) bool {
		n, _ = syscall.Read(int(fd), b)
		return true
	})
	if err == nil && n <= 0 {
		n, err = 0, io.EOF
	}
	return n, err
}

// Write gives the peer the listener's time to take b. The server's own write
// deadlines begin when a handler has returned, so what is written outside of
// one, as 100 Continue, 408 and 431, would find that of an earlier answer.
func (c *conn) Write(b []byte) (int, error) {
	by := time.Now().Add(c.l.writeTime)
	if !c.writes {
		c.writes = true
		c.TCPConn.SetWriteDeadline(by)
	}
	n, err := c.TCPConn.Write(b)
	for errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(by) {
		c.TCPConn.SetWriteDeadline(by)
		var more int
		more, err = c.TCPConn.Write(b[n:])
		n += more
	}
	return n, err
}

// Close tells the peer that nothing more comes, reads on what it was still
// sending, and closes. It blocks for at most lingerTime, and not at all where
// the connection was never read: one above MaxConnections, which is closed by
// the one goroutine that accepts.
func (c *conn) Close() error {
	c.mu.Lock()
	again := c.closed
	c.closed = true
	c.mu.Unlock()
	if again {
		return net.ErrClosed
	}
	if c.read && !c.ended && c.CloseWrite() == nil {
		c.linger()
	}
	err := c.TCPConn.Close()
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.mu.Unlock()
	c.l.open.Done()
	return err
}

// linger reads what still comes.
func (c *conn) linger() {
	var buf [8 << 10]byte
	end := time.Now().Add(lingerTime)
	for left := lingerBytes; left > 0; {
		until := time.Now().Add(lingerIdle)
		if end.Before(until) {
			until = end
		}
		c.TCPConn.SetReadDeadline(until)
		n, err := c.TCPConn.Read(buf[:])
		if err != nil {
			return
		}
		left -= n
	}
}
