package edge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"caliperedge/pipeline"

	"github.com/VictoriaMetrics/metrics"
)

// FuzzExchange gives any bytes to a connection, at once and in two pieces, and
// then ends the sending. Whatever they are, nothing crashes, what comes back is
// HTTP with a status and a body of the table, and nothing of it is a 5xx: the
// store is instant and the budget is free.
func FuzzExchange(f *testing.F) {
	for _, x := range shapes() {
		f.Add([]byte(x.raw), 9)
	}
	for _, x := range hostileBodies() {
		if len(x.body) < 10_000 {
			f.Add([]byte(request(testToken, x.body, "Content-Encoding: "+x.encoding)), 300)
		}
	}
	for _, body := range []string{envelope(event(1), badEvent(2), entity(3)), "{}", "[1]"} {
		f.Add([]byte(request(testToken, body, "X-DEBUG: 1")+request(unknownToken, body)), 100)
		f.Add([]byte(request(testToken, gzipped(body), "Content-Encoding: gzip", "Expect: 100-continue")), 250)
		f.Add([]byte(request(testToken, zstandard(body), "Content-Encoding: zstd", "Origin: https://lms.example")), 1)
	}
	f.Add([]byte("OPTIONS / HTTP/1.1\r\nHost: e\r\nOrigin: https://lms.example\r\n\r\nHEAD / HTTP/1.1\r\nHost: e\r\n\r\nGET /livez HTTP/1.1\r\nHost: e\r\n\r\n"), 40)
	e, panics := fuzzed(f)
	f.Fuzz(func(t *testing.T, sent []byte, cut int) {
		if len(sent) > 1<<20 {
			return
		}
		cut = max(0, min(cut, len(sent)))
		back := exchangeInMemory(t, e, sent[:cut], sent[cut:])
		if n := panics.Get(); n != 0 {
			panics.Set(0)
			t.Fatalf("%d handlers panicked", n)
		}
		checkAnswers(t, sent, back)
	})
}

// fuzzed is an endpoint with a store that keeps nothing, and its count of panics.
func fuzzed(f *testing.F) (*Endpoint, *metrics.Counter) {
	set := metrics.NewSet()
	p, err := pipeline.New(pipeline.Config{Topics: testTopics, Metrics: set}, &instant{}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := p.Drain(context.Background()); err != nil {
			f.Error(err)
		}
		if used := p.Budget().Used(); used != 0 {
			f.Errorf("%d bytes of the budget were not given back", used)
		}
	})
	e, err := New(Config{CORSOrigins: []string{"https://lms.example"}, Metrics: set, RequestTimeout: time.Minute}, newKnownTokens(), p, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	return e, set.GetOrCreateCounter("caliper_handler_panics_total")
}

// bytesConn is a connection on which pieces arrive, one with each read at most,
// and then no more.
type bytesConn struct {
	pieces [][]byte
	back   bytes.Buffer
}

func (c *bytesConn) Read(b []byte) (int, error) {
	for len(c.pieces) > 0 {
		n := copy(b, c.pieces[0])
		if c.pieces[0] = c.pieces[0][n:]; len(c.pieces[0]) == 0 {
			c.pieces = c.pieces[1:]
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, io.EOF
}

func (c *bytesConn) Write(b []byte) (int, error)      { return c.back.Write(b) }
func (c *bytesConn) Close() error                     { return nil }
func (c *bytesConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *bytesConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *bytesConn) SetDeadline(time.Time) error      { return nil }
func (c *bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (c *bytesConn) SetWriteDeadline(time.Time) error { return nil }

// exchangeInMemory serves a connection to its end and returns what it wrote.
func exchangeInMemory(t *testing.T, e *Endpoint, pieces ...[]byte) []byte {
	c := &bytesConn{pieces: pieces}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.server.ServeConn(c)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the connection is still served")
	}
	return c.back.Bytes()
}

// checkAnswers reads what came back to its end.
func checkAnswers(t *testing.T, sent, back []byte) {
	// Answers to HEAD have no body, and which of them are is not to be seen: the
	// reader is told by what is left.
	for r := bufio.NewReader(bytes.NewReader(back)); ; {
		if _, err := r.Peek(1); errors.Is(err, io.EOF) {
			return
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: "HEAD"})
		if err != nil {
			t.Fatalf("what came back is no HTTP: %v\nsent %q\nback %q", err, sent, back)
		}
		length, _ := strconv.Atoi(resp.Header.Get("Content-Length"))
		var body []byte
		if next, err := r.Peek(1); err == nil && length > 0 && next[0] != 'H' { // none begins like a status line
			body = make([]byte, length)
			if _, err := io.ReadFull(r, body); err != nil {
				t.Fatalf("a body of %d bytes: %v\nsent %q\nback %q", length, err, sent, back)
			}
		}
		if fault := notOurs(resp, body); fault != "" {
			t.Fatalf("%s\nsent %q\nback %q", fault, sent, back)
		}
	}
}

// notOurs says what of an answer is not of the table.
func notOurs(resp *http.Response, body []byte) string {
	switch resp.StatusCode {
	case http.StatusContinue, http.StatusNoContent, http.StatusOK, http.StatusAccepted:
		if len(body) > 0 && string(body) != "ok\n" && !json.Valid(body) {
			return "a body that is no JSON"
		}
		return ""
	}
	for _, r := range refusals {
		if r.status == resp.StatusCode && r.status < 500 {
			if len(body) == 0 || strings.HasPrefix(string(body), `{"error":"`+r.phrase) || strings.HasPrefix(string(body), `{"accepted_events":`) && json.Valid(body) {
				return ""
			}
			return "a body that is not of the table"
		}
	}
	return "a status that is not of the table, or a defect"
}
