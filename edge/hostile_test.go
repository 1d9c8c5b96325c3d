package edge

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"caliperedge/pipeline"

	"github.com/klauspost/compress/zstd"
)

func gzipped(body string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, body)
	w.Close()
	return b.String()
}

func zstandard(body string) string {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return string(w.EncodeAll([]byte(body), nil))
}

// with is a conformant event that holds extra as the value of a further member.
func with(n int, extra string) string {
	return strings.TrimSuffix(event(n), "}") + `,"extensions":` + extra + "}"
}

// hostileBody is one that shall do harm, and its status.
type hostileBody struct {
	name, encoding string
	status         int
	body           string
}

// bomb is 1 GiB of zeros, packed as it is made. The race detector makes that so
// slow that its bombs are smaller, and still larger than what they may cost.
func bomb(pack func(io.Writer) io.WriteCloser) string {
	size := 1 << 30
	if raceEnabled {
		size = 256 << 20
	}
	var b bytes.Buffer
	w := pack(&b)
	for zeros := make([]byte, 1<<20); size > 0; size -= len(zeros) {
		w.Write(zeros)
	}
	w.Close()
	if b.Len() > 2<<20 { // then it would be refused for what is sent of it
		panic(fmt.Sprintf("a bomb of %d bytes", b.Len()))
	}
	return b.String()
}

// bombs take a while to make, and are made once.
var bombs = sync.OnceValue(func() []hostileBody {
	packed := bomb(func(w io.Writer) io.WriteCloser {
		z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			panic(err)
		}
		return z
	})
	return []hostileBody{
		{"a gzip bomb", "gzip", 413, packed},
		{"a zstd bomb", "zstd", 413, bomb(func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
			if err != nil {
				panic(err)
			}
			return z
		})},
		{"a gzip bomb in a gzip bomb", "gzip", 415, gzipped(packed)},
	}
})

// hostileBodies are those of them that need no bomb, and are made once.
var hostileBodies = sync.OnceValue(func() []hostileBody {
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"%07x":0`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	window := "\x28\xb5\x2f\xfd\x00\xa8" // a frame whose window is 2 GiB
	claims := "\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\x7f"
	skipped := "\x50\x2a\x4d\x18\xff\xff\xff\xff" // a skippable frame of 4 GiB
	many := strings.Repeat(gzipped(""), 3<<20/len(gzipped("")))
	return []hostileBody{
		{"as many events as may be", "gzip", 200, gzipped(envelope(events(10_000)...))},
		{"one more", "gzip", 413, gzipped(envelope(events(10_001)...))},
		{"as many items as fit", "", 413, envelope(strings.Split(strings.Repeat("0,", 2_000_000)+"0", ",")...)},
		{"no items", "", 400, envelope()},
		{"200,000 keys", "", 413, envelope(with(1, keys(200_000)))}, // too large for a record
		{"50,000 keys", "", 200, envelope(with(1, keys(50_000)))},
		{"50,000 times the same key", "", 200, envelope(with(1, "{"+strings.Repeat(`"k":0,`, 49_999)+`"k":0}`))},
		{"50,000 times the key that counts", "", 200, envelope(strings.Repeat(`{"id":0,`, 1) + strings.Repeat(`"id":0,`, 49_999) + event(1)[1:])},
		{"300,000 members of the envelope", "", 200, "{" + strings.Repeat(`"data":[],`, 300_000) + envelope(event(1))[1:]},
		{"a key of 900 kB", "", 200, envelope(with(1, `{"`+strings.Repeat("k", 900_000)+`":0}`))},
		{"a key of 3 MB", "", 413, envelope(with(1, `{"`+strings.Repeat("k", 3_000_000)+`":0}`))},
		{"an id of 900 kB", "", 413, envelope(strings.Replace(event(1), "urn:uuid:", "urn:"+strings.Repeat("x", 900_000), 1))}, // it is in the record twice
		{"as deep as may be", "", 200, envelope(with(1, strings.Repeat("[", 61)+strings.Repeat("]", 61)))},
		{"one deeper", "", 415, envelope(with(1, strings.Repeat("[", 62)+strings.Repeat("]", 62)))},
		{"four million brackets", "", 415, strings.Repeat("[", 4_000_000)},
		{"a million objects", "", 415, strings.Repeat(`{"":`, 1_000_000)},
		{"a bracket too few", "", 415, envelope(event(1)) + "]"},
		{"huge exponents", "", 200, envelope(with(1, "[1e999999999,-1e-999999999,1E+400]"))},
		{"a number of 900,000 digits", "", 200, envelope(with(1, strings.Repeat("7", 900_000)))},
		{"numbers that are none", "", 415, envelope(with(1, "[01]"))},
		{"infinity", "", 415, envelope(with(1, "Infinity"))},
		{"a number for an id", "", 400, envelope(strings.Replace(event(1), `"`+eventID(1)+`"`, "1e999999999", 1))},
		{"lone surrogates", "", 200, envelope(with(1, `{"\ud800":"\udfff\ud800\ud800x"}`))},
		{"a lone surrogate in what is lifted", "", 200, envelope(strings.Replace(event(1), "users/1", `users/\ud800`, 1))},
		{"surrogates as UTF-8", "", 415, envelope(with(1, "\"\xed\xa0\x80\""))},
		{"overlong UTF-8", "", 415, envelope(with(1, "\"\xc0\xaf\""))},
		{"a NUL", "", 415, envelope(with(1, "\"\x00\""))},
		{"an escaped NUL", "", 200, envelope(with(1, `"\u0000"`))},
		{"NULs behind", "", 415, envelope(event(1)) + "\x00\x00"},
		{"nothing but NULs", "", 415, strings.Repeat("\x00", 4<<20)},
		{"UTF-16", "", 415, "\xff\xfe{\x00}\x00"},
		{"time that overflows", "", 400, envelope(strings.Replace(event(1), "2018-10-03", "9223372036854775808-10-03", 1))},
		{"zeros, four times as many as may be", "gzip", 413, gzipped(strings.Repeat("\x00", 16<<20))},
		{"zeros in a frame that tells how many", "zstd", 413, zstandard(strings.Repeat("\x00", 16<<20))},
		{"gzip, said to be twice so", "gzip, gzip", 415, gzipped(gzipped(envelope(event(1))))},
		{"zstd in gzip", "zstd,gzip", 415, gzipped(zstandard(envelope(event(1))))},
		{"200,000 empty gzip members", "gzip", 415, many},
		{"a gzip header without end", "gzip", 415, "\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x00" + strings.Repeat("n", 4_000_000)},
		{"a window of 2 GiB", "zstd", 415, window + "\x01\x00\x00"},
		{"a frame that claims 8 EiB", "zstd", 413, claims + "\x01\x00\x00"},
		{"a skippable frame that claims 4 GiB", "zstd", 415, skipped},
		{"a million empty zstd blocks", "zstd", 415, "\x28\xb5\x2f\xfd\x20\x00" + strings.Repeat("\x00\x00\x00", 1_000_000) + "\x01\x00\x00"},
	}
})

// TestHostileBodies: bodies that shall crash a reader, blind it or fill its
// memory get their answer, what is stored of them is JSON, and a good event is
// taken right after.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	bodies := slices.Concat(hostileBodies(), bombs())
	s := serve(t, serving{})
	for _, x := range bodies {
		t.Run(x.name, func(t *testing.T) {
			var extra []string
			if x.encoding != "" {
				extra = []string{"Content-Encoding: " + x.encoding}
			}
			a := dial(t, s).exchange(t, x.body, extra...)
			if a.StatusCode != x.status {
				t.Errorf("answered %d %.200s, want %d", a.StatusCode, a.body, x.status)
			}
			if a := dial(t, s).exchange(t, envelope(event(1))); a.StatusCode != 200 {
				t.Errorf("a good envelope is answered %d %s", a.StatusCode, a.body)
			}
		})
	}
	for _, topic := range testTopics {
		for _, m := range s.store.Messages(topic) {
			for line := range bytes.Lines(m.Body) {
				if !json.Valid(line) {
					t.Fatalf("a record of %s is no JSON: %.300q", topic, line)
				}
			}
		}
	}
}

// TestBombsTogether: many bombs at once, and what else is hostile, stay inside a
// small budget, and so does the memory of the process: of any one bomb that was
// unpacked it would see more.
func TestBombsTogether(t *testing.T) {
	senders, rounds := 16, 6
	if raceEnabled {
		senders = 4 // it takes ten times as long
	}
	bodies, bombs := hostileBodies(), bombs()
	// Nobody is too slow here, however busy the machine is.
	s := serve(t, serving{Config: Config{BodyTimeout: time.Hour}, pipeline: pipeline.Config{BudgetBytes: 48 << 20}})
	budget := s.Endpoint.pipeline.Budget()
	runtime.GC()
	var before, m runtime.MemStats
	runtime.ReadMemStats(&before)
	done, peak, defused := make(chan struct{}), atomic.Uint64{}, atomic.Int64{}
	var watch, send sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
				runtime.ReadMemStats(&m)
				peak.Store(max(peak.Load(), m.HeapInuse))
				if used := budget.Used(); used > budget.Limit() {
					t.Errorf("%d bytes of %d are in use", used, budget.Limit())
				}
			}
		}
	})
	for i := range senders {
		send.Go(func() {
			for j := range rounds {
				x := bodies[(i*rounds+j)%len(bodies)]
				if j%2 == 0 {
					x = bombs[(i+j/2)%len(bombs)]
				}
				if x.status == 200 { // the memory twin would keep it
					continue
				}
				c := dial(t, s)
				if c.post(testToken, x.body, "Content-Encoding: "+x.encoding) != nil {
					continue
				}
				a, err := c.read(http.MethodPost)
				switch {
				case err != nil || a.StatusCode != x.status && a.StatusCode != 503:
					t.Errorf("%s: answered %v, %v", x.name, a, err)
				case a.StatusCode != 503 && j%2 == 0:
					defused.Add(1)
				}
				c.Close()
			}
		})
	}
	send.Wait()
	close(done)
	watch.Wait()
	if defused.Load() == 0 {
		t.Error("no bomb was looked into: nothing is shown")
	}
	// Beside the budget there is what the collector has not got round to.
	grown, most := int64(peak.Load())-int64(before.HeapInuse), 4*budget.Limit()
	t.Logf("%d bombs defused; the heap grew by %d MiB at most, the budget is %d MiB", defused.Load(), grown>>20, budget.Limit()>>20)
	if grown > most {
		t.Errorf("the heap grew by %d MiB, want at most %d", grown>>20, most>>20)
	}
}

// TestRefusedPeerCostsNothing: what is refused by its header costs a few
// hundred bytes that the garbage collector must clear, and nothing of the budget,
// however much body comes with it.
func TestRefusedPeerCostsNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := serve(t, serving{})
	const size = 1 << 20
	header := func(line string) string {
		return "POST / HTTP/1.1\r\nHost: e\r\n" + line + "\r\nContent-Type: application/json\r\nContent-Length: "
	}
	unknown, none := header("Authorization: Bearer "+unknownToken), header("Accept: */*")
	wrong := strings.Replace(unknown, "POST / ", "POST /elsewhere ", 1)
	body := strings.Repeat("x", size)
	buf := make([]byte, 4096)
	answered := func(c net.Conn, want string) bool {
		n, err := c.Read(buf)
		return err == nil && strings.HasPrefix(string(buf[:min(n, len(want))]), want)
	}
	for _, c := range []struct {
		name    string
		request string
		want    string
		again   bool // on one connection
		most    uint64
	}{
		{"unknown token", unknown + "0\r\n\r\n", "HTTP/1.1 401", true, 1 << 10},
		{"no token", none + "0\r\n\r\n", "HTTP/1.1 401", true, 1 << 10},
		{"wrong path", wrong + "0\r\n\r\n", "HTTP/1.1 404", true, 1 << 10},
		{"unknown token, a body of 1 MiB", unknown + fmt.Sprint(size) + "\r\n\r\n" + body, "HTTP/1.1 401", false, 8 << 10},
		{"unknown token, a body of 4 EiB is promised", unknown + "4611686018427387904\r\n\r\n", "HTTP/1.1 401", false, 8 << 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			const n = 200
			request := []byte(c.request)
			var conn net.Conn
			once := func() {
				if conn == nil || !c.again {
					var err error
					if conn, err = net.Dial("tcp", s.addr); err != nil {
						t.Fatal(err)
					}
				}
				conn.Write(request) // the server may close meanwhile
				if !answered(conn, c.want) {
					t.Fatalf("answered %.100q, want %s", buf, c.want)
				}
				if !c.again {
					conn.Close()
				}
			}
			for range 20 { // fills the pools
				once()
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range n {
				once()
				if used := s.Endpoint.pipeline.Budget().Used(); used != 0 {
					t.Fatalf("%d bytes of the budget are in use", used)
				}
			}
			runtime.ReadMemStats(&after)
			each := (after.TotalAlloc - before.TotalAlloc) / n
			t.Logf("%d bytes and %d allocations each, the client's included", each, (after.Mallocs-before.Mallocs)/n)
			if each > c.most {
				t.Errorf("%d bytes are allocated for each, want at most %d", each, c.most)
			}
			if conn != nil {
				conn.Close()
			}
		})
	}
}
