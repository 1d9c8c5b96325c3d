package edge

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// shape is a way to write a request.
type shape struct {
	name string
	want string // the answers: statuses, with a c where the connection closes after it
	raw  string
}

// shapes are requests of which somebody before us, or behind, might find another
// end than we do (RFC 9112, section 11.2), each of an envelope with one event.
func shapes() []shape {
	body := envelope(event(1))
	n := len(body)
	const auth = "Authorization: Bearer " + testToken + "\r\nContent-Type: application/json\r\n"
	h := "POST / HTTP/1.1\r\nHost: e\r\n" + auth
	cl := fmt.Sprintf("Content-Length: %d\r\n", n)
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", n, body)
	chunks := func(format string, args ...any) string {
		return h + "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf(format, args...)
	}
	return []shape{
		{"length before chunks", "200c", h + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked},
		{"chunks before length", "200c", h + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + chunked},
		{"a bad length and chunks", "400c", h + "Content-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked},
		{"two codings", "400c", h + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunked},
		{"identity with a length", "400c", h + "Transfer-Encoding: identity\r\n" + cl + "\r\n" + body},
		{"identity without a length", "400c", h + "Transfer-Encoding: identity\r\n\r\n" + body},
		{"xchunked", "400c", h + "Transfer-Encoding: xchunked\r\n\r\n" + chunked},
		{"chunked twice", "400c", h + "Transfer-Encoding: chunked, chunked\r\n\r\n" + chunked},
		{"chunked with a parameter", "400c", h + "Transfer-Encoding: chunked;q=1\r\n\r\n" + chunked},
		{"chunked and a blank", "200 200", h + "Transfer-Encoding: chunked \r\n\r\n" + chunked},
		{"a tab and chunked", "200 200", h + "Transfer-Encoding:\tchunked\r\n\r\n" + chunked},
		{"a vertical tab and chunked", "400c", h + "Transfer-Encoding: \x0bchunked\r\n\r\n" + chunked},
		{"CHUNKED", "200 200", h + "Transfer-Encoding: CHUNKED\r\n\r\n" + chunked},
		{"chunked in quotes", "400c", h + "Transfer-Encoding: \"chunked\"\r\n\r\n" + chunked},
		{"an empty coding", "400c", h + "Transfer-Encoding:\r\n" + cl + "\r\n" + body},
		{"a blank after Transfer-Encoding", "400c", h + "Transfer-Encoding : chunked\r\n\r\n" + chunked},
		{"Transfer_Encoding is another header", "200 200", h + "Transfer_Encoding: chunked\r\n" + cl + "\r\n" + body},
		{"a coding in the next line", "400c", h + "Transfer-Encoding:\r\n chunked\r\n\r\n" + chunked},
		{"chunks in HTTP/1.0", "400c", strings.Replace(h, "1.1", "1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n" + chunked},
		{"the length twice", "400c", h + cl + cl + "\r\n" + body},
		{"two lengths", "400c", h + cl + "Content-Length: 3\r\n\r\n" + body},
		{"a list of lengths", "400c", h + fmt.Sprintf("Content-Length: %d, %d\r\n\r\n", n, n) + body},
		{"length with a plus", "400c", h + fmt.Sprintf("Content-Length: +%d\r\n\r\n", n) + body},
		{"length with a minus", "400c", h + fmt.Sprintf("Content-Length: -%d\r\n\r\n", n) + body},
		{"length in hex", "400c", h + fmt.Sprintf("Content-Length: 0x%x\r\n\r\n", n) + body},
		{"length with zeros", "200 200", h + fmt.Sprintf("Content-Length: 000%d\r\n\r\n", n) + body},
		{"length and a blank", "200 200", h + fmt.Sprintf("Content-Length: %d \r\n\r\n", n) + body},
		{"a blank in the length", "400c", h + "Content-Length: 1 0\r\n\r\n" + body},
		{"an underscore in the length", "400c", h + "Content-Length: 1_0\r\n\r\n" + body},
		{"an empty length", "400c", h + "Content-Length:\r\n\r\n" + body},
		{"a fraction", "400c", h + fmt.Sprintf("Content-Length: %d.0\r\n\r\n", n) + body},
		{"a length beyond 64 bits", "400c", h + "Content-Length: 18446744073709551620\r\n\r\n" + body},
		{"a length of 2^63", "400c", h + "Content-Length: 9223372036854775808\r\n\r\n" + body},
		{"a length of 2^63-1, of which nothing comes", "408c", h + "Content-Length: 9223372036854775807\r\n\r\n" + body},
		{"a length in the next line", "400c", h + fmt.Sprintf("Content-Length:\r\n %d\r\n\r\n", n) + body},
		{"a NUL after the length", "400c", h + fmt.Sprintf("Content-Length: %d\x00\r\n\r\n", n) + body},
		{"GET with a body", "200c", "GET / HTTP/1.1\r\nHost: e\r\n" + auth + cl + "\r\n" + body},
		{"GET with chunks", "200c", "GET / HTTP/1.1\r\nHost: e\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\n" + chunked},
		{"HEAD with a body", "200c", "HEAD / HTTP/1.1\r\nHost: e\r\n" + auth + cl + "\r\n" + body},
		{"no length", "415 200", h + "\r\n"},
		{"line feeds alone", "400c", strings.ReplaceAll(h+cl+"\r\n", "\r\n", "\n") + body},
		{"a line feed alone", "400c", strings.Replace(h, "Host: e\r\n", "Host: e\n", 1) + cl + "\r\n" + body},
		{"a line feed after the length", "400c", h + strings.TrimSuffix(cl, "\r\n") + "\n\r\n" + body},
		{"a line feed ends the header", "400c", h + cl + "\n" + body},
		{"a carriage return in a value", "400c", h + "X: a\rTransfer-Encoding: chunked\r\n" + cl + "\r\n" + body},
		{"a NUL in a value", "400c", h + "X: a\x00b\r\n" + cl + "\r\n" + body},
		{"a NUL in a name", "400c", h + "X\x00: ab\r\n" + cl + "\r\n" + body},
		{"a folded line", "400c", h + "X: a\r\n b\r\n" + cl + "\r\n" + body},
		{"a folded first line", "400c", "POST / HTTP/1.1\r\n Host: e\r\nHost: e\r\n" + auth + cl + "\r\n" + body},
		{"a folded token", "400c", "POST / HTTP/1.1\r\nHost: e\r\nAuthorization: Bearer\r\n " + testToken + "\r\nContent-Type: application/json\r\n" + cl + "\r\n" + body},
		{"two hosts", "400c", strings.Replace(h, "Host: e\r\n", "Host: e\r\nHost: f\r\n", 1) + cl + "\r\n" + body},
		{"an empty host", "400c", strings.Replace(h, "Host: e\r\n", "Host:\r\n", 1) + cl + "\r\n" + body},
		{"no host", "400c", strings.Replace(h, "Host: e\r\n", "", 1) + cl + "\r\n" + body},
		{"a blank in the host", "400c", strings.Replace(h, "Host: e\r\n", "Host: e f\r\n", 1) + cl + "\r\n" + body},
		{"a blank after Host", "400c", strings.Replace(h, "Host: e\r\n", "Host : e\r\n", 1) + cl + "\r\n" + body},
		{"another host in the target", "200 200", strings.Replace(h, "POST / ", "POST http://other/ ", 1) + cl + "\r\n" + body},
		{"a blank before a colon", "400c", h + "X : a\r\n" + cl + "\r\n" + body},
		{"an empty name", "400c", h + ": a\r\n" + cl + "\r\n" + body},
		{"a blank in a name", "400c", h + "X Y: a\r\n" + cl + "\r\n" + body},
		{"HTTP/0.9", "400c", "GET /livez\r\n"},
		{"HTTP/2.0", "400c", strings.Replace(h, "1.1", "2.0", 1) + cl + "\r\n" + body},
		{"HTTP/1.2", "400c", strings.Replace(h, "1.1", "1.2", 1) + cl + "\r\n" + body},
		{"HTTP/1.10", "400c", strings.Replace(h, "1.1", "1.10", 1) + cl + "\r\n" + body},
		{"http/1.1", "400c", strings.Replace(h, "HTTP/1.1", "http/1.1", 1) + cl + "\r\n" + body},
		{"two blanks after the method", "400c", strings.Replace(h, "POST / ", "POST  / ", 1) + cl + "\r\n" + body},
		{"a tab after the method", "400c", strings.Replace(h, "POST / ", "POST\t/ ", 1) + cl + "\r\n" + body},
		{"the preface of HTTP/2", "400c", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
		{"empty lines before", "200 200", "\r\n\r\n" + h + cl + "\r\n" + body},
		{"a blank before", "400c", " " + h + cl + "\r\n" + body},
		{"an upgrade, which is ignored", "200 200", h + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n" + cl + "\r\n" + body},
		{"CONNECT", "404 200", "CONNECT e:443 HTTP/1.1\r\nHost: e\r\n\r\n"},
		{"a chunk extension", "200 200", chunks("%x;a=b\r\n%s\r\n0\r\n\r\n", n, body)},
		{"a line feed in an extension", "400c", chunks("%x;a\nb\r\n%s\r\n0\r\n\r\n", n, body)},
		{"a carriage return in an extension", "400c", chunks("%x;a\rb\r\n%s\r\n0\r\n\r\n", n, body)},
		{"a NUL in an extension", "200 200", chunks("%x;\x00\r\n%s\r\n0\r\n\r\n", n, body)},
		{"an extension of the last chunk", "200 200", chunks("%x\r\n%s\r\n0;x=y\r\n\r\n", n, body)},
		{"a line feed after a size", "400c", chunks("%x\n%s\r\n0\r\n\r\n", n, body)},
		{"a line feed after a chunk", "400c", chunks("%x\r\n%s\n0\r\n\r\n", n, body)},
		{"a line feed after the last chunk", "400c", chunks("%x\r\n%s\r\n0\n\n", n, body)},
		{"0x before a size", "400c", chunks("0x%x\r\n%s\r\n0\r\n\r\n", n, body)},
		{"a plus before a size", "400c", chunks("+%x\r\n%s\r\n0\r\n\r\n", n, body)},
		{"a minus before a size", "400c", chunks("-%x\r\n%s\r\n0\r\n\r\n", n, body)},
		{"a blank before a size", "400c", chunks(" %x\r\n%s\r\n0\r\n\r\n", n, body)},
		{"a blank after a size", "200 200", chunks("%x \r\n%s\r\n0\r\n\r\n", n, body)},
		{"zeros before a size", "200 200", chunks("0000%x\r\n%s\r\n0\r\n\r\n", n, body)},
		{"many zeros before a size", "400c", chunks("00000000000000000000000000%x\r\n%s\r\n0\r\n\r\n", n, body)},
		{"a size beyond 64 bits", "400c", chunks("1%016x\r\n%s\r\n0\r\n\r\n", n, body)},
		{"a size of 2^63-1", "400c", chunks("7fffffffffffffff\r\n%s\r\n0\r\n\r\n", body)},
		{"a size of 2^64-1", "400c", chunks("ffffffffffffffff\r\n%s\r\n0\r\n\r\n", body)},
		{"no end of a chunk", "400c", chunks("%x\r\n%s0\r\n\r\n", n, body)},
		{"a chunk longer than its size", "400c", chunks("%x\r\n%s\r\n0\r\n\r\n", n-1, body)},
		{"a chunk shorter than its size", "400c", chunks("%x\r\n%s\r\n0\r\n\r\n", n+1, body)},
		{"a trailer", "200 200", chunks("%x\r\n%s\r\n0\r\nX: y\r\n\r\n", n, body)},
		{"a length in the trailer", "400c", chunks("%x\r\n%s\r\n0\r\nContent-Length: 40\r\n\r\n", n, body)},
		{"a token in the trailer", "400c", h + "Trailer: Authorization\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\nAuthorization: Bearer x\r\n\r\n", n, body)},
		{"a large trailer", "400c", chunks("%x\r\n%s\r\n0\r\nX: %s\r\n\r\n", n, body, strings.Repeat("y", 20000))},
		{"a large extension", "200 200", chunks("%x;%s\r\n%s\r\n0\r\n\r\n", n, strings.Repeat("y", 200000), body)},
		{"as it should be", "200 200", h + cl + "\r\n" + body},
	}
}

// TestSmuggling sends each shape with another request right behind, at once and
// in small pieces. Where it is refused the connection ends, and what is behind is
// never taken for a request; where it is taken, the other one gets its answer.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	const next = "GET /livez HTTP/1.1\r\nHost: e\r\n\r\n"
	for _, x := range shapes() {
		for _, piece := range []int{1 << 20, 7} {
			t.Run(fmt.Sprintf("%s, in pieces of %d", x.name, piece), func(t *testing.T) {
				t.Parallel()
				s := serve(t, serving{Config: Config{BodyTimeout: 5 * time.Second}})
				c := dial(t, s)
				for rest := x.raw + next; rest != ""; {
					n := min(piece, len(rest))
					if _, err := io.WriteString(c, rest[:n]); err != nil {
						break // it was refused meanwhile
					}
					rest = rest[n:]
				}
				method, _, _ := strings.Cut(x.raw, " ")
				var got []string
				for {
					a, err := c.read(method)
					if err != nil {
						t.Fatalf("after %q: %v", got, err)
					}
					method = "GET"
					got = append(got, fmt.Sprint(a.StatusCode))
					if a.Close {
						got[len(got)-1] += "c"
						break
					}
					if a.body == "ok\n" {
						c.Conn.(interface{ CloseWrite() error }).CloseWrite()
						break
					}
				}
				if err := c.ended(); err != nil && !errors.Is(err, io.EOF) {
					t.Errorf("after the last answer: %v", err)
				}
				if answers := strings.Join(got, " "); answers != x.want {
					t.Errorf("answered %s, want %s", answers, x.want)
				}
				stored := 0
				if strings.HasPrefix(x.want, "200") && strings.HasPrefix(x.raw, "POST") || strings.HasPrefix(x.raw, "\r\n") {
					stored = 1
				}
				if n := len(s.records(t)); n != stored {
					t.Errorf("%d records are stored, want %d", n, stored)
				}
			})
		}
	}
}
