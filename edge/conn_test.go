package edge

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
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
	l := newListener(tcp, time.Minute, slog.New(slog.DiscardHandler))
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
		c.l.writeTime = time.Second
		write := func(n int) error {
			_, err := c.Write(bytes.Repeat([]byte("x"), n))
			return err
		}
		if err := write(1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(c.l.writeTime + near)
		if err := write(1); err != nil {
			t.Fatalf("past the deadline of the write before: %v", err)
		}
		time.Sleep(c.l.writeTime - near)
		const large = 32 << 20 // more than the kernel takes
		got := make(chan int64, 1)
		time.AfterFunc(soon, func() {
			n, _ := io.CopyN(io.Discard, peer, 2+large)
			got <- n
		})
		if err := write(large); err != nil {
			t.Fatalf("meanwhile the deadline of the write before passed: %v", err)
		}
		if n := <-got; n != 2+large {
			t.Fatalf("%d bytes arrived, want %d", n, 2+large)
		}
		var err error
		for range 16 { // the kernel takes more than before, now that so much was read
			if err = write(large); err != nil {
				break
			}
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a peer that takes nothing: %v, want a time-out", err)
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
	stateChanged(c, fasthttp.StateActive)
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the rest of the request does not come: %v, want a time-out", err)
	}
}

// What is answered outside of a handler arrives also where the answer before
// was long ago, and over TLS.
func TestAnswersAfterAPause(t *testing.T) {
	const limit = 2 * time.Second
	head := "POST / HTTP/1.1\r\nHost: edge.example\r\n"
	for name, tt := range map[string]struct {
		text   string
		status int
	}{
		"100": {head + "Authorization: Bearer " + testToken + "\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n", 100},
		"408": {head, 408},
		"431": {head + "X: " + strings.Repeat("x", 9000) + "\r\n\r\n", 431},
	} {
		for _, secured := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tls=%t", name, secured), func(t *testing.T) {
				t.Parallel()
				s := serving{Config: Config{HeaderTimeout: limit, BodyTimeout: limit, IdleTimeout: time.Minute}}
				conf, pool := certificate(t)
				if secured {
					s.tls = conf
				}
				c := dial(t, serve(t, s)).Conn
				if secured {
					c = tls.Client(c, &tls.Config{RootCAs: pool, ServerName: "edge.example"})
				}
				c.SetDeadline(time.Now().Add(20 * time.Second))
				r := bufio.NewReader(c)
				status := func(text string) int {
					t.Helper()
					if _, err := io.WriteString(c, text); err != nil {
						t.Fatal(err)
					}
					a, err := http.ReadResponse(r, nil)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, a.Body); err != nil {
						t.Fatal(err)
					}
					return a.StatusCode
				}
				if got := status(request(testToken, envelope(event(1)))); got != 200 {
					t.Fatal(got)
				}
				time.Sleep(2 * limit)
				if got := status(tt.text); got != tt.status {
					t.Errorf("status %d, want %d", got, tt.status)
				}
			})
		}
	}
}

// An answer does not wait for what was pipelined behind its request.
func TestPipelinedAnswersComeAtOnce(t *testing.T) {
	s := serve(t, serving{Config: Config{BodyTimeout: time.Hour}})
	c := dial(t, s)
	one := request(testToken, envelope(event(1)))
	if _, err := io.WriteString(c, one+one[:len(one)-10]); err != nil {
		t.Fatal(err)
	}
	a, err := c.read(http.MethodPost)
	if err != nil || a.StatusCode != 200 {
		t.Fatalf("%v, %v", a, err)
	}
}

// Want of file descriptors makes connections wait, and does not end the server.
func TestNoDescriptors(t *testing.T) {
	s := serve(t, serving{})
	dial(t, s).exchange(t, envelope(event(1)))
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("the descriptors in use cannot be counted here")
	}
	low := limit
	low.Cur = uint64(len(open) + 20)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	for range 40 { // each takes two of this process
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			break
		}
		conns = append(conns, c)
	}
	time.Sleep(100 * time.Millisecond)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for _, c := range conns {
		c.Close()
	}
	dial(t, s).exchange(t, envelope(event(2)))
}
