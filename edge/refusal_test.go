package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"caliperedge/internal/journal"
	"caliperedge/pipeline"
	"caliperedge/pipeline/pipelinetest"
)

// TestRefusedByHeader announces bodies that never come: checks 1 to 3 are made
// all the same, and nothing is reserved for the body.
func TestRefusedByHeader(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{Config: Config{BodyTimeout: time.Hour}})
	for name, c := range map[string]struct {
		start, authorization string
		status               int
	}{
		"path":          {"POST /nowhere", "Bearer " + testToken, 404},
		"method":        {"PUT /", "Bearer " + testToken, 405},
		"no token":      {"POST /", "", 401},
		"unknown token": {"POST /caliper-endpoint", "Bearer " + unknownToken, 401},
	} {
		for _, length := range []string{"Content-Length: 3145728", "Transfer-Encoding: chunked", "Content-Length: 3145728\r\nExpect: 100-continue"} {
			t.Run(name+", "+length, func(t *testing.T) {
				t.Parallel()
				conn := dial(t, s)
				fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: edge.example\r\nAuthorization: %s\r\nContent-Type: application/json\r\n%s\r\n\r\n",
					c.start, c.authorization, length)
				a, err := conn.read(http.MethodPost)
				if err != nil {
					t.Fatal(err)
				}
				if a.StatusCode != c.status || !a.Close {
					t.Errorf("status %d, Connection: close %v; want %d and true", a.StatusCode, a.Close, c.status)
				}
				if used := s.pipeline.Budget().Used(); used != 0 {
					t.Errorf("%d bytes are reserved for a refused body", used)
				}
				if err := conn.ended(); err != nil {
					t.Errorf("end of the connection: %v", err)
				}
			})
		}
	}
}

// TestRefusalIsReadByOneWhoWritesOn has sensors write a whole body, as simple
// clients do, before they look for the answer, which was given long before: it
// must be there, and not a reset.
func TestRefusalIsReadByOneWhoWritesOn(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	s := serve(t, serving{Config: Config{MaxBodyBytes: 1 << 20}})
	piece := []byte(strings.Repeat("x", 32<<10))
	for name, c := range map[string]struct {
		token, media, length string
		status               int
	}{
		"401":                 {unknownToken, "application/json", fmt.Sprint("Content-Length: ", size), 401},
		"401 of a chunked":    {unknownToken, "application/json", "Transfer-Encoding: chunked", 401},
		"413":                 {testToken, "application/json", fmt.Sprint("Content-Length: ", size), 413},
		"413 of a chunked":    {testToken, "application/json", "Transfer-Encoding: chunked", 413},
		"415":                 {testToken, "text/plain", fmt.Sprint("Content-Length: ", size), 415},
		"415 of a chunked":    {testToken, "text/plain", "Transfer-Encoding: chunked", 415},
		"401 in spite of 100": {unknownToken, "application/json", fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d", size), 401},
	} {
		for _, pause := range []time.Duration{0, 10 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s, pause %v", name, pause), func(t *testing.T) {
				t.Parallel()
				conn := dial(t, s)
				fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: edge.example\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\n%s\r\n\r\n", c.token, c.media, c.length)
				chunked := strings.HasPrefix(c.length, "Transfer")
				for range size / len(piece) {
					part := piece
					if chunked {
						part = fmt.Appendf(nil, "%x\r\n%s\r\n", len(piece), piece)
					}
					if _, err := conn.Write(part); err != nil {
						t.Fatalf("writing the body: %v", err)
					}
					time.Sleep(pause)
				}
				if chunked {
					io.WriteString(conn, "0\r\n\r\n")
				}
				a, err := conn.read(http.MethodPost)
				if err != nil {
					t.Fatalf("reading the answer: %v", err)
				}
				if a.StatusCode != c.status {
					t.Errorf("status %d, want %d", a.StatusCode, c.status)
				}
				if a.Close {
					if err := conn.ended(); err != nil {
						t.Errorf("end of the connection: %v", err)
					}
				}
			})
		}
	}
}

// TestBodyThatEndsEarly has sensors go while they send: those that still listen
// are told, and nothing is stored.
func TestBodyThatEndsEarly(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{})
	whole := request(testToken, envelope(events(200)...))
	chunked := "POST / HTTP/1.1\r\nHost: edge.example\r\nAuthorization: Bearer " + testToken +
		"\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	for name, sent := range map[string]string{
		"early in the body": whole[:1000],
		"late in the body":  whole[:len(whole)-1],
		"in a chunk":        chunked + "ffff\r\n" + envelope(events(20)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, s)
			io.WriteString(c, sent)
			if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			a, err := c.read(http.MethodPost)
			if err != nil {
				t.Fatal(err)
			}
			if a.StatusCode != 400 || !a.Close || a.body != `{"error":"Bad Request","message":"Malformed HTTP request."}` {
				t.Errorf("%d, Connection: close %v, %s", a.StatusCode, a.Close, a.body)
			}
			if n := len(s.records(t)); n != 0 {
				t.Errorf("%d records are stored", n)
			}
		})
	}
}

// TestAnswerInTime blocks the store for longer than a request may take.
func TestAnswerInTime(t *testing.T) {
	t.Parallel()
	released := make(chan struct{})
	store := pipelinetest.NewMemory(testTopics...)
	store.Before = func(context.Context, *pipeline.Message) error {
		<-released // deaf to its context
		return nil
	}
	s := serve(t, serving{Config: Config{RequestTimeout: 500 * time.Millisecond}, store: store})
	t.Cleanup(func() { close(released) })
	c := dial(t, s)
	start := time.Now()
	a := c.exchange(t, envelope(event(1)))
	if took := time.Since(start); took > 4*time.Second { // below the default
		t.Errorf("the answer took %v with a deadline of 500ms", took)
	}
	if a.StatusCode != 503 || !strings.Contains(a.body, "Events cannot be stored now.") || a.Header.Get("Retry-After") == "" || a.Header.Get("Caliper-Durability") != "" {
		t.Errorf("answer %d %v %s", a.StatusCode, a.Header, a.body)
	}
}

// TestMaxRecordBytes finds the limit of check 13 to the byte.
func TestMaxRecordBytes(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{})
	c := dial(t, s)
	padded := func(n int) string {
		return strings.Replace(event(1), `"object":"`, `"object":"`+strings.Repeat("p", n), 1)
	}
	if a := c.exchange(t, envelope(padded(0))); a.StatusCode != 200 {
		t.Fatalf("status %d: %s", a.StatusCode, a.body)
	}
	bare := len(s.store.Messages(pipeline.TopicStandard)[0].Body) - len("\n")
	if a := c.exchange(t, envelope(padded(pipeline.MaxRecordBytes-bare))); a.StatusCode != 200 {
		t.Errorf("a record of exactly %d bytes: status %d: %s", pipeline.MaxRecordBytes, a.StatusCode, a.body)
	}
	if n := len(s.store.Messages(pipeline.TopicStandard)[1].Body) - len("\n"); n != pipeline.MaxRecordBytes {
		t.Errorf("the record has %d bytes", n)
	}
	a := c.exchange(t, envelope(event(2), padded(pipeline.MaxRecordBytes-bare+1)))
	if want := `{"error":"Content Too Large","message":"Event at index 1 exceeds 1000000 bytes."}`; a.StatusCode != 413 || a.body != want {
		t.Errorf("a record of one byte more: %d %s, want 413 %s", a.StatusCode, a.body, want)
	}
	if n := len(s.records(t)); n != 2 {
		t.Errorf("%d records are stored, want 2", n)
	}
}

// TestMaxConnections sees to it that connections above the limit neither wait
// nor hold up those that come when there is room again.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	const limit = 4
	s := serve(t, serving{Config: Config{MaxConnections: limit}})
	var held []*client
	for range limit {
		c := dial(t, s)
		c.exchange(t, envelope(event(1)))
		held = append(held, c)
	}
	var above []*client
	for range 15 * limit {
		above = append(above, dial(t, s))
	}
	start := time.Now()
	for _, c := range above {
		if a, err := c.read(http.MethodPost); err == nil && a.StatusCode != 503 {
			t.Fatalf("one above the limit: status %d", a.StatusCode)
		}
	}
	held[0].Close()
	poll(t, "a place to become free", func() bool {
		c := dial(t, s)
		c.post(testToken, envelope(event(2)))
		a, err := c.read(http.MethodPost)
		return err == nil && a.StatusCode == 200
	})
	if took := time.Since(start); took > time.Duration(len(above))*lingerIdle/2 { // had each of them held up the next
		t.Errorf("it took %v until a free place was taken", took)
	}
}

// TestDefects has what an endpoint relies on break: the request gets 500, the
// process goes on.
func TestDefects(t *testing.T) {
	t.Parallel()
	var log journal.Journal
	s := serve(t, serving{tokens: panickyTokens{newKnownTokens()}, log: log.Logger()})
	c := dial(t, s)
	c.post(unknownToken, envelope(event(1)))
	a, err := c.read(http.MethodPost)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"error":"Internal Server Error","message":"Unexpected error."}`
	if a.StatusCode != 500 || a.body != want || !a.Close {
		t.Errorf("%d %s, Connection: close %v; want 500 %s and true", a.StatusCode, a.body, a.Close, want)
	}
	if err := c.ended(); err != nil {
		t.Errorf("end of the connection: %v", err)
	}
	if n := s.metrics.GetOrCreateCounter("caliper_handler_panics_total").Get(); n == 0 {
		t.Error("the panic was not counted")
	}
	if text := log.String(); !strings.Contains(text, "a handler panicked") || !strings.Contains(text, "panickyTokens") || strings.Contains(text, unknownToken) {
		t.Errorf("the log should tell of the panic and not of the token: %s", text)
	}
	if a := dial(t, s).exchange(t, envelope(event(1))); a.StatusCode != 200 {
		t.Errorf("the next connection: %d %s", a.StatusCode, a.body)
	}
}

// TestDefectInHandler panics behind the checks of the header.
func TestDefectInHandler(t *testing.T) {
	t.Parallel()
	known := newKnownTokens()
	known[unknownToken] = nil // a principal that is none
	s := serve(t, serving{tokens: known, Config: Config{CORSOrigins: []string{"*"}}})
	c := dial(t, s)
	c.post(unknownToken, envelope(event(1)), "Origin: https://lms.example")
	a, err := c.read(http.MethodPost)
	if err != nil {
		t.Fatal(err)
	}
	if a.StatusCode != 500 || !a.Close || a.Header.Get("Access-Control-Allow-Origin") != "https://lms.example" {
		t.Errorf("answer %d, Connection: close %v, %v", a.StatusCode, a.Close, a.Header)
	}
	if n := s.metrics.GetOrCreateCounter("caliper_handler_panics_total").Get(); n != 1 {
		t.Errorf("%d panics were counted, want 1", n)
	}
	if a := dial(t, s).exchange(t, envelope(event(1))); a.StatusCode != 200 {
		t.Errorf("the next connection: %d %s", a.StatusCode, a.body)
	}
}

// TestTLS serves TLS, with the same care for the ends of connections.
func TestTLS(t *testing.T) {
	t.Parallel()
	s := build(t, serving{Config: Config{IdleTimeout: time.Hour}}) // longer than the drain may take
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	conf, pool := certificate(t)
	var served sync.WaitGroup
	served.Go(func() {
		if err := s.Serve(ln, conf); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	var clients []*client
	for i := range 4 {
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "edge.example"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(time.Minute))
		c := newClient(conn)
		if a := c.exchange(t, envelope(event(i))); a.StatusCode != 200 || a.Close {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
		clients = append(clients, c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(ctx) }()
	for _, c := range clients {
		if err := c.ended(); err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("end of an idle connection: %v", err)
		}
		c.Close()
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	served.Wait()
}

// TestWaitingHoldsRecordsOnly: what waits for the store are the records. The
// body, and what was found in it, are given back before the wait, so that many
// small items, most of them faulty, do not fill the memory past the budget.
func TestWaitingHoldsRecordsOnly(t *testing.T) {
	t.Parallel()
	g := newGate(nil)
	s := serve(t, serving{store: g.Memory})
	const faulty = 9_000
	items := append([]string{event(1)}, strings.Split(strings.Repeat(`"a rather long item that is no event",`, faulty), ",")[:faulty]...)
	body := envelope(items...)
	c := dial(t, s)
	if err := c.post(testToken, body); err != nil {
		t.Fatal(err)
	}
	poll(t, "the record is at the store", func() bool { return g.arrived.Load() > 0 })
	budget := s.Endpoint.pipeline.Budget()
	poll(t, "the body was given back", func() bool { return budget.Used() < 8*(faulty+1)+2000 })
	if used := budget.Used(); used < 8*(faulty+1) || int(used) > len(body)/2 {
		t.Errorf("%d bytes are taken for a body of %d", used, len(body))
	}
	close(g.opened)
	if a, err := c.read("POST"); err != nil || a.StatusCode != 202 {
		t.Errorf("answer %v, %v", a, err)
	}
	poll(t, "everything was given back", func() bool { return budget.Used() == 0 })
}

// TestDamagedHeadersLeaveNoTrace: what the HTTP library says of a header that
// it cannot read quotes it, token and all. Nothing of that reaches the log.
func TestDamagedHeadersLeaveNoTrace(t *testing.T) {
	t.Parallel()
	var log journal.Journal
	s := serve(t, serving{log: log.Logger()})
	for _, header := range []string{
		"POST / HTTP/1.1\r\nHost: e\r\nAuthorization: Bearer\r\n" + testToken + "\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: e\r\nAuthorization: Bearer " + testToken + "\x01\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: e\r\nAuthorization Bearer " + testToken + "\r\n\r\n",
		"POST /?access_token=" + testToken + "\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: e\r\nAuthorization: Bearer " + testToken + strings.Repeat("x", 9<<10) + "\r\n\r\n",
	} {
		c := dial(t, s)
		if _, err := c.Write([]byte(header)); err != nil {
			t.Fatal(err)
		}
		if a, err := c.read("POST"); err != nil || a.StatusCode != 400 && a.StatusCode != 431 {
			t.Errorf("%.60q: answer %v, %v", header, a, err)
		}
		if err := c.ended(); err != nil {
			t.Errorf("%.60q: %v", header, err)
		}
	}
	if said := log.String(); strings.Contains(said, testToken) {
		t.Errorf("the log has the token: %s", said)
	}
}

// TestSilentConnectionGetsNoAnswer: an answer to nothing would be taken for the
// answer to the first request.
func TestSilentConnectionGetsNoAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t, serving{Config: Config{HeaderTimeout: 50 * time.Millisecond}})
	c := dial(t, s)
	if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
		t.Errorf("a connection that said nothing got %q, %v", got, err)
	}
}
