package edge

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// pair returns both ends of a connection of a listener, ours in the state of
// one whose request has begun.
func pair(t *testing.T) (ours *conn, peer net.Conn) {
	t.Helper()
	tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	l := newListener(tcp)
	if peer, err = net.Dial("tcp4", tcp.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	stateChanged(accepted, fasthttp.StateActive)
	return accepted.(*conn), peer
}

// A deadline holds as it was last asked for, whatever the socket's is.
func TestDeadlines(t *testing.T) {
	const near, soon = 30 * time.Millisecond, 150 * time.Millisecond
	var b [1]byte

	t.Run("read", func(t *testing.T) {
		c, peer := pair(t)
		read := func(within time.Duration) error {
			c.SetReadDeadline(time.Now().Add(within))
			_, err := c.Read(b[:])
			return err
		}
		peer.Write([]byte("a"))
		if err := read(near); err != nil { // sets the socket's
			t.Fatal(err)
		}
		time.AfterFunc(soon, func() { peer.Write([]byte("b")) })
		if err := read(time.Minute); err != nil {
			t.Fatalf("a later deadline: %v", err)
		}
		if err := read(near); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a nearer deadline: %v, want a time-out", err)
		}
		time.AfterFunc(soon, func() { peer.Write([]byte("c")) })
		c.SetDeadline(time.Time{})
		if _, err := c.Read(b[:]); err != nil {
			t.Fatalf("no deadline: %v", err)
		}
	})
	t.Run("write", func(t *testing.T) {
		c, peer := pair(t)
		write := func(n int, within time.Duration) error {
			c.SetWriteDeadline(time.Now().Add(within))
			_, err := c.Write(bytes.Repeat([]byte("x"), n))
			return err
		}
		if err := write(1, near); err != nil {
			t.Fatal(err)
		}
		const large = 32 << 20 // more than the kernel takes
		got := make(chan int64, 1)
		time.AfterFunc(soon, func() {
			n, _ := io.CopyN(io.Discard, peer, 1+large)
			got <- n
		})
		if err := write(large, time.Minute); err != nil {
			t.Fatalf("a later deadline: %v", err)
		}
		if n := <-got; n != 1+large {
			t.Fatalf("%d bytes arrived, want %d", n, 1+large)
		}
		if err := write(large, near); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a nearer deadline: %v, want a time-out", err)
		}
	})
}

// A request that is in the kernel before the drain ends the wait for it is
// read, however long the goroutine that reads was stopped.
func TestDrainFindsWhatHasArrived(t *testing.T) {
	c, peer := pair(t)
	stateChanged(c, fasthttp.StateNew)
	if _, err := peer.Write([]byte("POST / HTTP/1.1\r\n")); err != nil {
		t.Fatal(err)
	}
	c.l.drain()
	time.Sleep(drainIdle + 50*time.Millisecond)
	if n, err := c.Read(make([]byte, 100)); n == 0 {
		t.Errorf("read %d bytes, %v; the request has arrived", n, err)
	}
}
