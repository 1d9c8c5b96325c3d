package edge

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"caliperedge/edge/tokenmap"
	"caliperedge/pipeline"
	"caliperedge/pipeline/pipelinetest"

	"github.com/klauspost/compress/zstd"
)

func parseExchanges(t testing.TB, file string) *exchangeFile {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f := &exchangeFile{stored: -1, prepare: func(testing.TB, *served) {}}
	var block []string
	var kind string
	var x *exchange
	var req *requestText
	flush := func() {
		switch kind {
		case "", "!":
		case "<<<":
			if req != nil {
				x.steps = append(x.steps, step{send: req.bytes(t), methods: req.methods})
				req = nil
			}
			x.steps = append(x.steps, step{want: parseWanted(t, file, x.title, block)})
		default:
			if req == nil {
				req = new(requestText)
			}
			req.add(t, kind, strings.Join(block, "\n")+"\n")
		}
		block = nil
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case word == "---" || word == "+++":
			flush()
			kind = "&&&"
			x = &exchange{title: rest, line: i + 1, same: word == "+++"}
			f.exchanges = append(f.exchanges, x)
		case word == ">>>" || word == "&&&" || word == "<<<":
			flush()
			kind = word
		case x == nil && word == "!":
			f.set(t, file, rest)
		case x == nil && (line == "" || word == "#"):
		case x == nil:
			t.Fatalf("%s:%d: expected a setting or an exchange", file, i+1)
		default:
			block = append(block, line)
		}
	}
	flush()
	return f
}

// set applies a setting of a file.
func (f *exchangeFile) set(t testing.TB, file, setting string) {
	t.Helper()
	name, value, _ := strings.Cut(setting, " ")
	number := func() int {
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatalf("%s: %s: %v", file, name, err)
		}
		return n
	}
	duration := func() time.Duration {
		d, err := time.ParseDuration(value)
		if err != nil {
			t.Fatalf("%s: %s: %v", file, name, err)
		}
		return d
	}
	switch name {
	case "stored": // how many records are stored in the end
		f.stored = number()
	case "paths":
		f.Paths = strings.Fields(value)
	case "max-body":
		f.MaxBodyBytes = number()
	case "max-items":
		f.Validate.MaxItems = number()
	case "header-timeout":
		f.HeaderTimeout = duration()
	case "body-timeout":
		f.BodyTimeout = duration()
	case "request-timeout":
		f.RequestTimeout = duration()
	case "rate-requests": // in 1,000 seconds, ten times as many to be saved up: next to nothing comes while the test runs
		f.Rate = Rate{Requests: float64(number()) / 1000, Burst: 10_000 * time.Second}
	case "rate-events":
		f.Rate = Rate{Events: float64(number()) / 1000, Burst: 10_000 * time.Second}
	case "rejected": // is kept
		f.KeepRejected = func(string) bool { return true }
	case "cors":
		f.CORSOrigins = strings.Fields(value)
	case "terse":
		f.Terse = true
	case "bare-tokens":
		f.AcceptBareTokens = true
	case "check-object":
		f.Validate.CheckObject = true
	case "inherit-context":
		f.Validate.InheritContext = true
	case "level": // of durability
		f.store = pipelinetest.NewMemory(testTopics...)
		f.store.Level = pipeline.Level(value)
	case "duplicates": // are known
		f.serving.pipeline.DuplicateIDs, f.serving.pipeline.DuplicateAge = 1000, time.Hour
	case "small-batches": // an envelope needs several messages
		f.serving.pipeline.MaxBatchRecords = 2
	default:
		f.setState(t, file, name, value)
	}
}

// setState applies a setting of what the endpoint relies on.
func (f *exchangeFile) setState(t testing.TB, file, name, value string) {
	t.Helper()
	fail := func(err error) {
		f.store = pipelinetest.NewMemory(testTopics...)
		f.store.Before = func(context.Context, *pipeline.Message) error { return err }
	}
	switch name {
	case "store":
		switch value {
		case "full":
			fail(pipeline.ErrStoreFull)
		case "refuses":
			fail(pipeline.ErrRefused)
		case "away":
			fail(errors.New("connection lost"))
		default:
			t.Fatalf("%s: store %q", file, value)
		}
	case "budget": // used up
		f.prepare = func(t testing.TB, s *served) {
			b := s.pipeline.Budget()
			if !b.Reserve(b.Limit()) {
				t.Fatal("the budget is in use already")
			}
			t.Cleanup(func() { b.Release(b.Limit()) })
		}
	case "pipeline": // drained
		f.prepare = func(t testing.TB, s *served) {
			if err := s.pipeline.Drain(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	case "draining":
		f.prepare = func(_ testing.TB, s *served) { s.StartDrain() }
	case "tokens": // panic
		f.tokens = panickyTokens{newKnownTokens()}
	default:
		t.Fatalf("%s: unknown setting %q", file, name)
	}
}

// panickyTokens panics where it does not know a token.
type panickyTokens struct{ knownTokens }

func (p panickyTokens) Lookup(token []byte) (*tokenmap.Principal, bool) {
	found, ok := p.knownTokens.Lookup(token)
	if !ok {
		panic("the token map is broken at " + string(token))
	}
	return found, ok
}

// requestText is what is sent before an answer is expected: requests, each a
// header and parts of a body.
type requestText struct {
	out     []byte
	header  string
	body    []byte
	begun   bool
	methods []string
}

func (r *requestText) add(t testing.TB, kind, text string) {
	if kind == ">>>" {
		if !r.begun { // the request was sent before an answer
			r.out = append(r.out, bodyOf(t, text)...)
			return
		}
		r.body = append(r.body, bodyOf(t, text)...)
		return
	}
	r.end()
	r.begun = true
	method, _, _ := strings.Cut(text, " ")
	r.methods = append(r.methods, method)
	header, body, complete := strings.Cut(text, "\n\n")
	if !complete {
		r.header = strings.ReplaceAll(string(expand(t, strings.TrimSuffix(text, "\n"))), "\n", "\r\n")
		return
	}
	r.header = strings.ReplaceAll(string(expand(t, header)), "\n", "\r\n") + "\r\n\r\n"
	r.body = bodyOf(t, body)
}

func (r *requestText) end() {
	if r.begun {
		r.out = append(r.out, strings.ReplaceAll(r.header, lengthMark, strconv.Itoa(len(r.body)))...)
		r.out = append(r.out, r.body...)
	}
	r.header, r.body, r.begun = "", nil, false
}

func (r *requestText) bytes(testing.TB) []byte {
	r.end()
	return r.out
}

// lengthMark is what is left of {{length}} until the body is known.
const lengthMark = "\x00length\x00"

// bodyOf is the text of a body, filtered.
func bodyOf(t testing.TB, text string) []byte {
	t.Helper()
	text = strings.TrimSuffix(text, "\n")
	filters, rest, _ := strings.Cut(text, "\n")
	filters, filtered := strings.CutPrefix(filters, "% ")
	if !filtered {
		return expand(t, text)
	}
	body := expand(t, rest)
	for f := range strings.SplitSeq(filters, "|") {
		name, value, _ := strings.Cut(strings.TrimSpace(f), " ")
		n, _ := strconv.Atoi(value)
		switch name {
		case "fill": // with blanks, up to n bytes
			body = append(body, bytes.Repeat([]byte{' '}, n-len(body))...)
		case "cut": // the last n bytes
			body = body[:len(body)-n]
		case "flip": // a bit in the n-th byte
			body[n] ^= 1
		case "gzip":
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			w.Write(body)
			w.Close()
			body = b.Bytes()
		case "gzip-each": // n bytes in a member of their own
			var b bytes.Buffer
			for part := range slices.Chunk(body, n) {
				w := gzip.NewWriter(&b)
				w.Write(part)
				w.Close()
			}
			body = b.Bytes()
		case "zstd": // a frame without its content size, as streams have it
			var b bytes.Buffer
			w, err := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
			if err != nil {
				t.Fatal(err)
			}
			w.Write(body)
			w.Close()
			body = b.Bytes()
		case "zstd-sized": // a frame with its content size
			w, err := zstd.NewWriter(nil)
			if err != nil {
				t.Fatal(err)
			}
			body = w.EncodeAll(body, nil)
		case "zstd-each": // n bytes in a frame of their own, which tells its content size
			w, err := zstd.NewWriter(nil)
			if err != nil {
				t.Fatal(err)
			}
			var frames []byte
			for part := range slices.Chunk(body, n) {
				frames = w.EncodeAll(part, frames)
			}
			body = frames
		case "chunk": // in chunks of n bytes
			var b bytes.Buffer
			for part := range slices.Chunk(body, n) {
				fmt.Fprintf(&b, "%x\r\n%s\r\n", len(part), part)
			}
			body = append(b.Bytes(), "0\r\n\r\n"...)
		default:
			t.Fatalf("unknown filter %q", name)
		}
	}
	return body
}

var macro = regexp.MustCompile(`\{\{([a-z]+)((?: [^{} ]+)*)\}\}`)

// expand replaces the macros of text.
func expand(t testing.TB, text string) []byte {
	t.Helper()
	return macro.ReplaceAllFunc([]byte(text), func(m []byte) []byte {
		parts := macro.FindSubmatch(m)
		args := strings.Fields(string(parts[2]))
		n := 0
		if len(args) > 0 {
			n, _ = strconv.Atoi(args[0])
		}
		switch string(parts[1]) {
		case "token":
			return []byte(testToken)
		case "other":
			return []byte(otherToken)
		case "unknown":
			return []byte(unknownToken)
		case "length":
			return []byte(lengthMark)
		case "repeat":
			return bytes.Repeat([]byte(args[1]), n)
		case "head":
			return []byte(testHead)
		case "version":
			return []byte(testVersion)
		case "id":
			return []byte(eventID(n))
		case "event":
			return []byte(event(n))
		case "same": // with the id of event n
			return []byte(strings.Replace(event(n), "/pages/1", "/pages/2", 1))
		case "bad":
			return []byte(badEvent(n))
		case "entity":
			return []byte(entity(n))
		case "events":
			return []byte(strings.Join(events(n), ","))
		case "hex":
			b, err := hex.DecodeString(args[0])
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		t.Fatalf("unknown macro %s", m)
		return nil
	})
}

func parseWanted(t testing.TB, file, title string, lines []string) *wanted {
	t.Helper()
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) == 0 {
		t.Fatalf("%s: %s: no answer", file, title)
	}
	w := &wanted{status: lines[0], headers: make(map[string]string)}
	for i, line := range lines[1:] {
		switch name, value, _ := strings.Cut(line, ": "); {
		case line == "":
			text := string(expand(t, strings.Join(lines[i+2:], "\n")))
			if text == "(nothing)" {
				text = ""
			}
			if rest, ok := strings.CutPrefix(text, "~"); ok {
				if err := json.Unmarshal([]byte(rest), &w.subset); err != nil {
					t.Fatalf("%s: %s: %v: %s", file, title, err, rest)
				}
			} else {
				w.body = &text
			}
			return w
		case line == "!closed":
			w.closed = true
		case line[0] == '-':
			w.absent = append(w.absent, line[1:])
		case line[0] == '*':
			w.any = append(w.any, line[1:])
		default:
			w.headers[name] = value
		}
	}
	return w
}
