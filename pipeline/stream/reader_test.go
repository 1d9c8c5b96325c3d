package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"

	"caliperedge/pipeline"
)

func pack(t *testing.T, encoding string, b []byte) []byte {
	t.Helper()
	switch encoding {
	case pipeline.EncodingSnappy:
		return s2.EncodeSnappy(nil, b)
	case pipeline.EncodingZstd:
		z, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true)) // which keeps the size of short ones too
		if err != nil {
			t.Fatal(err)
		}
		return z.EncodeAll(b, nil)
	}
	return b
}

func TestRecords(t *testing.T) {
	var d Decoder
	for _, encoding := range []string{pipeline.EncodingNone, pipeline.EncodingSnappy, pipeline.EncodingZstd} {
		for _, lines := range [][]string{{`{"a":1}`}, {`{"a":1}`, `{"b":2}`, `{"c":"` + strings.Repeat("x", 100_000) + `"}`}} {
			m := message("standard", "1", lines...)
			m.Encoding = encoding
			got, err := d.Records(header(m), pack(t, encoding, m.Body))
			if err != nil || fmt.Sprintf("%s", got) != fmt.Sprintf("%s", lines) {
				t.Errorf("%d records, encoding %q: got %d, %v", len(lines), encoding, len(got), err)
			}
		}
	}
	// The format's limits: 10,000 records, 8 MiB.
	m := message("standard", "1", strings.Split(strings.Repeat(strings.Repeat("x", 837)+",", 9999)+"x", ",")...)
	for _, m.Encoding = range []string{pipeline.EncodingNone, pipeline.EncodingSnappy, pipeline.EncodingZstd} {
		if got, err := d.Records(header(m), pack(t, m.Encoding, m.Body)); err != nil || len(got) != 10_000 || m.Bytes > 8<<20 {
			t.Errorf("10,000 records of %d bytes, encoding %q: got %d, %v", m.Bytes, m.Encoding, len(got), err)
		}
	}
}

func TestRecordsOfOthers(t *testing.T) {
	var d Decoder
	for _, h := range []nats.Header{nil, {}, {"Content-Type": {"text/plain"}}} {
		if got, err := d.Records(h, []byte("anything")); err != nil || len(got) != 0 {
			t.Errorf("header %v: %q, %v, want neither records nor an error", h, got, err)
		}
	}
}

func TestRecordsRefused(t *testing.T) {
	body := []byte("{}\n{}\n")
	bomb := bytes.Repeat([]byte("\n"), 9<<20)
	streamed := func(b []byte) []byte { // a frame without its content size
		var out bytes.Buffer
		z, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = z.Write(b)
		_ = z.Flush()
		_ = z.Close()
		return out.Bytes()
	}
	for _, c := range []struct {
		name    string
		changed map[string]string
		data    []byte
		want    string
	}{
		{"version", map[string]string{"Caliper-Record": "2"}, body, "version"},
		{"no count", map[string]string{"Caliper-Events": ""}, body, "Caliper-Events"},
		{"other count", map[string]string{"Caliper-Events": "3"}, body, "2 records"},
		{"negative count", map[string]string{"Caliper-Events": "-2"}, body, "Caliper-Events"},
		{"too many", map[string]string{"Caliper-Events": "10001"}, body, "Caliper-Events"},
		{"no size", map[string]string{"Caliper-Bytes": ""}, body, "Caliper-Bytes"},
		{"other size", map[string]string{"Caliper-Bytes": "7"}, body, "6 bytes"},
		{"too large", map[string]string{"Caliper-Bytes": fmt.Sprint(8<<20 + 1)}, body, "Caliper-Bytes"},
		{"encoding", map[string]string{"Content-Encoding": "gzip"}, body, "gzip"},
		{"snappy bomb", map[string]string{"Content-Encoding": "snappy"}, s2.EncodeSnappy(nil, bomb), "snappy"},
		{"zstd bomb", map[string]string{"Content-Encoding": "zstd"}, pack(t, "zstd", bomb), "zstd"},
		{"zstd without size", map[string]string{"Content-Encoding": "zstd"}, streamed(body), "zstd"},
		{"zstd, a second frame", map[string]string{"Content-Encoding": "zstd"}, append(pack(t, "zstd", body), pack(t, "zstd", bomb)...), ""},
		{"no snappy", map[string]string{"Content-Encoding": "snappy"}, body, "snappy"},
		{"no zstd", map[string]string{"Content-Encoding": "zstd"}, body, "zstd"},
		{"cut snappy", map[string]string{"Content-Encoding": "snappy"}, s2.EncodeSnappy(nil, body)[:5], "snappy"},
	} {
		h := header(&pipeline.Message{ID: "1", Records: 2, Bytes: len(body)})
		for k, v := range c.changed {
			h[k] = []string{v}
		}
		var d Decoder
		got, err := d.Records(h, c.data)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d records, %v, want an error with %q", c.name, len(got), err, c.want)
		}
	}
}

func FuzzRecords(f *testing.F) {
	f.Add("1", "2", "6", "", []byte("{}\n{}\n"))
	f.Add("1", "2", "6", "snappy", s2.EncodeSnappy(nil, []byte("{}\n{}\n")))
	f.Add("1", "0", "0", "zstd", []byte{})
	f.Fuzz(func(t *testing.T, version, events, size, encoding string, data []byte) {
		h := nats.Header{"Caliper-Record": {version}, "Caliper-Events": {events}, "Caliper-Bytes": {size}, "Content-Encoding": {encoding}}
		var d Decoder
		lines, err := d.Records(h, data)
		if err == nil && version != "" && fmt.Sprint(len(lines)) != strings.TrimLeft(strings.TrimPrefix(events, "+"), "0") && len(lines) > 0 {
			t.Errorf("%d lines for Caliper-Events %q", len(lines), events)
		}
		if cap(d.buf) > pipeline.MaxBatchBytes {
			t.Errorf("buffer of %d bytes", cap(d.buf))
		}
	})
}

// collect returns a callback for Tail and what it saw.
func collect() (func([]byte, Address) error, *[]string) {
	var got []string
	return func(r []byte, at Address) error {
		got = append(got, fmt.Sprintf("%s %s", at, r))
		return nil
	}, &got
}

func TestTailToTheEnd(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	nc, js := connectOwn(t, dir)
	tail := func(topic string, opts TailOptions) string {
		t.Helper()
		each, got := collect()
		if err := Tail(deadline(t), js, testLayout(), topic, opts, each); err != nil {
			t.Fatal(err)
		}
		return strings.Join(*got, "|")
	}
	if got := tail("standard", TailOptions{}); got != "" {
		t.Errorf("empty topic: %s", got)
	}
	m := message("standard", "1", `{"a":1}`, `{"b":2}`)
	m.Body, m.Encoding = pack(t, "zstd", m.Body), "zstd"
	publish(t, p, m)
	if err := nc.Publish("caliper.standard.reserved", []byte("not ours")); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "foreign message is stored", func() bool {
		list, err := p.Status(deadline(t))
		return err == nil && list[0].Messages == 2
	})
	publish(t, p, message("standard", "2", `{"c":3}`))
	const all = `caliper-standard:1:1 {"a":1}|caliper-standard:1:2 {"b":2}|caliper-standard:3:1 {"c":3}`
	for since, want := range map[string]string{"": all, "start": all, "1h": all, "now": "", "0s": ""} {
		if got := tail("standard", TailOptions{Since: since}); got != want {
			t.Errorf("since %q: %s\nwant %s", since, got, want)
		}
	}
	// It leaves no consumer.
	eventually(t, "consumers are gone", func() bool {
		list, err := p.Status(deadline(t))
		return err == nil && list[0].Consumers == 0
	})
	each, _ := collect()
	for _, since := range []string{"yesterday", "-1h"} {
		if err := Tail(deadline(t), js, testLayout(), "standard", TailOptions{Since: since}, each); err == nil {
			t.Errorf("since %q is taken", since)
		}
	}
	if err := Tail(deadline(t), js, testLayout(), "nowhere", TailOptions{}, each); err == nil {
		t.Error("an unknown topic is taken")
	}
	stop := errors.New("stop")
	err := Tail(deadline(t), js, testLayout(), "standard", TailOptions{}, func([]byte, Address) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("the callback's error became %v", err)
	}
	future := nats.NewMsg("caliper.standard")
	future.Header.Set("Caliper-Record", "2")
	if _, err := js.PublishMsg(deadline(t), future); err != nil {
		t.Fatal(err)
	}
	if err := Tail(deadline(t), js, testLayout(), "standard", TailOptions{}, each); err == nil || !strings.Contains(err.Error(), "caliper-standard:4") {
		t.Errorf("unknown version: %v, want an error with its address", err)
	}
}

func TestTailFollows(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	_, js := connectOwn(t, dir)
	publish(t, p, message("standard", "1", `"old"`))
	for since, want := range map[string]string{"now": `"new" "newer"`, "start": `"old" "new" "newer"`} {
		t.Run(since, func(t *testing.T) {
			ctx, cancel := context.WithCancel(deadline(t))
			records, done := make(chan string, 10), make(chan error, 1)
			go func() {
				done <- Tail(ctx, js, testLayout(), "standard", TailOptions{Since: since, Follow: true}, func(r []byte, _ Address) error {
					records <- string(r)
					return nil
				})
			}()
			// It has begun when its consumer is there.
			eventually(t, "tail has begun", func() bool {
				list, err := p.Status(deadline(t))
				return err == nil && list[0].Consumers == 1
			})
			publish(t, p, message("standard", since+"2", `"new"`))
			var got []string
			next := func() {
				select {
				case r := <-records:
					got = append(got, r)
				case <-time.After(30 * time.Second):
					t.Fatalf("nothing after %q", got)
				}
			}
			for range strings.Count(want, " ") {
				next()
			}
			// Over a restart of the server, whose consumers in memory are lost.
			if err := p.Probe(deadline(t)); err != nil {
				t.Fatal(err)
			}
			publish(t, p, message("standard", since+"3", `"newer"`))
			next()
			if s := strings.Join(got, " "); s != want {
				t.Errorf("got %s, want %s", s, want)
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("end of the context: %v, want nil", err)
			}
			s, err := p.JetStream().Stream(deadline(t), "caliper-standard")
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Purge(deadline(t)); err != nil {
				t.Fatal(err)
			}
			publish(t, p, message("standard", since+"1", `"old"`))
		})
	}
}

// A connection that stalls for longer than tailPause while records are under way.
func TestTailOverAStall(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	const messages = 700
	for i := range messages {
		publish(t, p, message("standard", fmt.Sprint(i), fmt.Sprintf(`{"n":%d}`, i)))
	}
	access, err := readAccess(dir)
	if err != nil {
		t.Fatal(err)
	}
	proxy := newProxy(t, strings.TrimPrefix(access.URL, "nats://"))
	nc, js, err := Connect(deadline(t), "nats://"+access.User+":"+access.Password+"@"+proxy.address())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	n := 0
	err = Tail(deadline(t), js, testLayout(), "standard", TailOptions{}, func([]byte, Address) error {
		if n++; n == 100 { // before the client asks for more than its first 500
			proxy.frozen.Store(true)
			time.AfterFunc(1500*time.Millisecond, func() { proxy.frozen.Store(false) })
		}
		return nil
	})
	if err != nil || n != messages {
		t.Errorf("%d of %d records, %v", n, messages, err)
	}
}

// TestTailOfWhatGoes has messages deleted while a reader is on its way to the
// end, as the mover does: it ends all the same.
func TestTailOfWhatGoes(t *testing.T) {
	p := openDir(t, t.TempDir())
	js := p.JetStream()
	s, err := js.Stream(deadline(t), "caliper-standard")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(deadline(t))
	var coming sync.WaitGroup
	coming.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = p.Publish(ctx, message("standard", fmt.Sprint(i), `{}`))
			_ = s.Purge(ctx)
		}
	})
	defer coming.Wait()
	defer cancel()
	for round := range 60 {
		if err := Tail(ctx, js, testLayout(), "standard", TailOptions{}, func([]byte, Address) error { return nil }); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}
