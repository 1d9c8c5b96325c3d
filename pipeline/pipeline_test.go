package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"caliperedge/validate"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// script is a Publisher whose every answer the test gives.
type script struct {
	calls  chan *call
	probes chan chan error
}

type call struct {
	ctx   context.Context
	msg   Message // with a Body of its own
	reply chan<- reply
}

type reply struct {
	ack   Ack
	err   error
	panic bool
}

func newScript() *script {
	return &script{calls: make(chan *call), probes: make(chan chan error)}
}

func (s *script) Publish(ctx context.Context, m *Message) (Ack, error) {
	answer := make(chan reply, 1)
	c := &call{ctx: ctx, msg: *m, reply: answer}
	c.msg.Body = bytes.Clone(m.Body)
	select {
	case s.calls <- c:
	case <-ctx.Done():
		return Ack{}, ctx.Err()
	}
	select {
	case r := <-answer:
		if r.panic {
			panic("publisher: a panic of the test's")
		}
		return r.ack, r.err
	case <-ctx.Done():
		return Ack{}, ctx.Err()
	}
}

func (s *script) Probe(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case s.probes <- answer:
		return <-answer
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ids are the event ids in a call's message, in order.
func (c *call) ids(t *testing.T) []string {
	t.Helper()
	var ids []string
	for _, line := range strings.SplitAfter(string(unpack(t, &c.msg)), "\n") {
		if line != "" {
			ids = append(ids, strings.SplitN(line, `"`, 5)[3])
		}
	}
	if len(ids) != c.msg.Records {
		t.Errorf("message says %d records and has %d", c.msg.Records, len(ids))
	}
	return ids
}

func unpack(t *testing.T, m *Message) []byte {
	t.Helper()
	body, err := m.Body, error(nil)
	switch m.Encoding {
	case EncodingSnappy:
		body, err = s2.Decode(nil, m.Body)
	case EncodingZstd:
		var d *zstd.Decoder
		if d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1)); err == nil {
			defer d.Close()
			body, err = d.DecodeAll(m.Body, nil)
		}
	}
	if err != nil || len(body) != m.Bytes {
		t.Fatalf("message of %d bytes unpacked has %d: %v", m.Bytes, len(body), err)
	}
	return body
}

func newPipeline(t *testing.T, cfg Config, pub Publisher) *Pipeline {
	t.Helper()
	if cfg.Topics == nil {
		cfg.Topics = []string{TopicStandard, TopicEntities}
	}
	p, err := New(cfg, pub, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func drain(t *testing.T, p *Pipeline) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.Drain(ctx); err != nil {
		t.Error(err)
	}
	if used := p.Budget().Used(); used != 0 {
		t.Errorf("%d bytes of the budget are still taken", used)
	}
}

// send takes an envelope to Submit, and spoils the body afterwards, as the next
// request would. The channel gets what Wait says.
func send(t *testing.T, p *Pipeline, items ...string) (<-chan error, *Receipt) {
	t.Helper()
	body := envelopeOf(items...)
	env := parse(t, body)
	r, err := p.Route(env, "tool", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	if err := p.Submit(r, time.Now().Add(5*time.Second)); err != nil {
		done <- err
	} else {
		go func() { done <- r.Wait() }()
	}
	env.Release()
	for i := range body {
		body[i] = 'x'
	}
	return done, r
}

func want(t *testing.T, done <-chan error, sentinel error) {
	t.Helper()
	select {
	case err := <-done:
		if !errors.Is(err, sentinel) {
			t.Errorf("envelope ended with %v, want %v", err, sentinel)
		}
	case <-time.After(time.Minute):
		t.Fatal("envelope was not settled")
	}
}

func wantIDs(t *testing.T, c *call, ids ...string) {
	t.Helper()
	if got := c.ids(t); strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Errorf("message holds %q, want %q", got, ids)
	}
}

func ok(seq uint64) reply { return reply{ack: Ack{Sequence: seq, Level: LevelFsync}} }

// What gathers while a publish is under way leaves as one batch when it ends.
func TestNaturalGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		first, _ := send(t, p, eventOf("a", ""))
		c := <-pub.calls
		wantIDs(t, c, "a")
		second, r2 := send(t, p, eventOf("b", ""), eventOf("c", ""))
		third, r3 := send(t, p, eventOf("d", ""))
		synctest.Wait()
		select {
		case c := <-pub.calls:
			t.Fatalf("message %q left beside the one under way", c.ids(t))
		case <-second:
			t.Fatal("settled before it was published")
		default:
		}
		c.reply <- ok(7)
		want(t, first, nil)
		c = <-pub.calls
		wantIDs(t, c, "b", "c", "d")
		c.reply <- ok(8)
		want(t, second, nil)
		want(t, third, nil)
		for _, r := range []*Receipt{r2, r3} {
			if got := r.Parts(); len(got) != 1 || got[0].Sequence != 8 || got[0].Topic != TopicStandard || got[0].Level != LevelFsync {
				t.Errorf("parts are %+v", got)
			}
			r.Release()
		}
		drain(t, p)
	})
}

// A second publish begins beside the first only for much, and its worker leaves
// what is little to the other.
func TestSeveralPublishesPerTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{PublishesPerTopic: 2}, pub)
		first, _ := send(t, p, eventOf("a", ""))
		c1 := <-pub.calls
		second, _ := send(t, p, eventOf("b", fmt.Sprintf(`,"extensions":{"x":%q}`, strings.Repeat("x", muchBytes))))
		c2 := <-pub.calls
		third, _ := send(t, p, eventOf("c", ""))
		c2.reply <- ok(1)
		want(t, second, nil)
		fourth, _ := send(t, p, eventOf("d", ""))
		synctest.Wait()
		select {
		case <-pub.calls:
			t.Fatal("a second publish for a few bytes")
		default:
		}
		c1.reply <- ok(2)
		c3 := <-pub.calls
		wantIDs(t, c3, "c", "d")
		c3.reply <- ok(3)
		for _, done := range []<-chan error{first, third, fourth} {
			want(t, done, nil)
		}
		drain(t, p)
	})
}

// A full batch is sealed, in order, and an envelope stays whole.
func TestSealOnRecordsAndBytes(t *testing.T) {
	record := len(`{"id":"x1",`) + len(eventOf("x1", "")) // a lower bound
	for name, cfg := range map[string]Config{
		"records": {MaxBatchRecords: 3},
		"bytes":   {MaxBatchBytes: 3*record + 3*330},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pub := newScript()
				cfg.PublishesPerTopic = 1 // two would leave in either order
				p := newPipeline(t, cfg, pub)
				var all []<-chan error
				add := func(items ...string) {
					done, _ := send(t, p, items...)
					all = append(all, done)
				}
				add(eventOf("x0", ""))
				c := <-pub.calls
				add(eventOf("a1", ""), eventOf("a2", ""))
				add(eventOf("b1", ""), eventOf("b2", "")) // does not fit beside a
				add(eventOf("c1", ""))
				add(eventOf("d1", ""), eventOf("d2", ""), eventOf("d3", ""), eventOf("d4", "")) // is larger than any batch
				for _, ids := range [][]string{{"x0"}, {"a1", "a2"}, {"b1", "b2", "c1"}, {"d1", "d2", "d3"}, {"d4"}} {
					wantIDs(t, c, ids...)
					c.reply <- ok(1)
					if ids[0] != "d4" {
						c = <-pub.calls
					}
				}
				for _, done := range all {
					want(t, done, nil)
				}
				drain(t, p)
			})
		})
	}
}

// A batch that does not fit in a message once packed is halved: between
// envelopes where it can be, and the receipt of an envelope in two messages
// names both.
func TestHalving(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := func(bytes int) string { // hardly to be packed
		const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
		b := make([]byte, bytes)
		for i := range b {
			b[i] = digits[rng.IntN(len(digits))]
		}
		return `,"extensions":"` + string(b) + `"`
	}
	for _, encoding := range []string{EncodingNone, EncodingSnappy, EncodingZstd} {
		t.Run("encoding="+encoding, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pub := newScript()
				p := newPipeline(t, Config{Encoding: encoding}, pub)
				first, _ := send(t, p, eventOf("x0", ""))
				c := <-pub.calls
				a, _ := send(t, p, eventOf("a1", noise(400_000)), eventOf("a2", noise(400_000)))
				b, _ := send(t, p, eventOf("b1", noise(700_000)))
				d, rd := send(t, p, eventOf("d1", noise(900_000)), eventOf("d2", noise(900_000)))
				c.reply <- ok(1)
				want(t, first, nil)
				got := map[string]uint64{}
				for seq := uint64(2); len(got) < 5; seq++ {
					c := <-pub.calls
					if len(c.msg.Body) > MaxMessageBytes-HeaderRoomBytes {
						t.Errorf("message of %d bytes", len(c.msg.Body))
					}
					for _, id := range c.ids(t) {
						got[id] = seq
					}
					c.reply <- ok(seq)
				}
				for _, done := range []<-chan error{a, b, d} {
					want(t, done, nil)
				}
				if got["a1"] != got["a2"] {
					t.Errorf("an envelope that fits in a message was cut: %v", got)
				}
				if parts := rd.Parts(); len(parts) != 2 || parts[0].Sequence != got["d1"] || parts[1].Sequence != got["d2"] {
					t.Errorf("parts of the cut envelope are %+v, messages are %v", parts, got)
				}
				drain(t, p)
			})
		})
	}
}

// A refusal for good settles at once, is not repeated, and trips nothing.
func TestDefiniteRefusals(t *testing.T) {
	for _, sentinel := range []error{ErrStoreFull, ErrRefused} {
		synctest.Test(t, func(t *testing.T) {
			pub := newScript()
			p := newPipeline(t, Config{}, pub)
			done, _ := send(t, p, eventOf("a", ""))
			(<-pub.calls).reply <- reply{err: fmt.Errorf("no: %w", sentinel)}
			want(t, done, sentinel)
			if err := p.Ready(); err != nil {
				t.Errorf("not ready: %v", err)
			}
			done, _ = send(t, p, eventOf("b", ""))
			(<-pub.calls).reply <- ok(1)
			want(t, done, nil)
			drain(t, p)
		})
	}
}

// A publish whose outcome is unknown is repeated under the same ID; when the
// time is up, everything waiting fails at once, until a probe succeeds and the
// next batch decides.
func TestUnclearPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		start := time.Now()
		a, _ := send(t, p, eventOf("a", ""))
		c := <-pub.calls
		b, _ := send(t, p, eventOf("b", ""))
		id := c.msg.ID
		repeats := 0
		for done := false; !done; {
			select {
			case c := <-pub.calls:
				repeats++
				if c.msg.ID != id || string(c.msg.Body) == "" {
					t.Errorf("repeated as %q, first %q", c.msg.ID, id)
				}
			case err := <-a:
				done = true
				if !errors.Is(err, ErrUnacknowledged) {
					t.Errorf("ended with %v", err)
				}
			}
		}
		if took := time.Since(start); repeats == 0 || took > 5*time.Second {
			t.Errorf("%d repetitions in %v", repeats, took)
		}
		want(t, b, ErrUnavailable) // nothing was sent: the script got no call
		if err := p.Ready(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Ready says %v", err)
		}
		refused, _ := send(t, p, eventOf("c", ""))
		want(t, refused, ErrUnavailable)

		(<-pub.probes) <- errors.New("still away")
		(<-pub.probes) <- nil
		synctest.Wait()
		if err := p.Ready(); err != nil {
			t.Errorf("Ready says %v after a good probe", err)
		}
		d, _ := send(t, p, eventOf("d", ""))
		(<-pub.calls).reply <- ok(1)
		want(t, d, nil)
		drain(t, p)
	})
}

// A refusal after an unclear attempt leaves it unclear: the first may have
// been stored.
func TestRefusalAfterUnclearAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		done, _ := send(t, p, eventOf("a", ""))
		(<-pub.calls).reply <- reply{err: errors.New("connection lost")}
		(<-pub.calls).reply <- reply{err: ErrStoreFull}
		want(t, done, ErrUnacknowledged)
		if err := p.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		drain(t, p)
	})
}

// A repetition that is acknowledged makes the envelope stored.
func TestRepetitionSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		done, r := send(t, p, eventOf("a", ""))
		c := <-pub.calls
		c.reply <- reply{err: errors.New("connection lost")}
		again := <-pub.calls
		if again.msg.ID != c.msg.ID {
			t.Errorf("repeated as %q, first %q", again.msg.ID, c.msg.ID)
		}
		again.reply <- reply{ack: Ack{Sequence: 3, Duplicate: true, Level: LevelFsync}}
		want(t, done, nil)
		if r.Parts()[0].Sequence != 3 {
			t.Errorf("parts are %+v", r.Parts())
		}
		drain(t, p)
	})
}

// A panic in a worker fails its batch, and only that.
func TestWorkerPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		first, _ := send(t, p, eventOf("a", ""))
		c := <-pub.calls
		second, _ := send(t, p, eventOf("b", ""))
		third, _ := send(t, p, eventOf("c", ""))
		c.reply <- reply{panic: true}
		want(t, first, ErrUnacknowledged)
		want(t, second, ErrUnavailable)
		want(t, third, ErrUnavailable)
		(<-pub.probes) <- nil
		synctest.Wait()
		again, _ := send(t, p, eventOf("d", ""))
		(<-pub.calls).reply <- ok(1)
		want(t, again, nil)
		if n := p.metrics.panics.Get(); n != 1 {
			t.Errorf("%d panics counted", n)
		}
		drain(t, p)
	})
}

// An envelope is accepted only if all of its topics have stored it.
func TestSeveralTopics(t *testing.T) {
	for _, c := range []struct {
		entities error
		want     error
	}{{nil, nil}, {ErrStoreFull, ErrStoreFull}} {
		synctest.Test(t, func(t *testing.T) {
			pub := newScript()
			p := newPipeline(t, Config{}, pub)
			done, r := send(t, p, personDescribe, eventOf("a", ""), `{"id":"faulty"}`)
			for range 2 {
				call := <-pub.calls
				if call.msg.Topic == TopicEntities {
					wantIDs(t, call, "urn:p:1")
					call.reply <- reply{ack: Ack{Sequence: 5}, err: c.entities}
				} else {
					wantIDs(t, call, "a")
					call.reply <- ok(9)
				}
			}
			want(t, done, c.want)
			if routes := fmt.Sprint(r.Routes()); routes != "[2 1 0]" {
				t.Errorf("routes are %v", routes)
			}
			if c.want == nil {
				if parts := r.Parts(); len(parts) != 2 || parts[0].Topic != TopicStandard || parts[0].Sequence != 9 || parts[1].Sequence != 5 {
					t.Errorf("parts are %+v", parts)
				}
			}
			drain(t, p)
		})
	}
}

// The budget admits whole envelopes only, and gets everything back.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		env := parse(t, envelopeOf(eventOf("a", "")))
		probe := newPipeline(t, Config{}, pub)
		r, err := probe.Route(env, "tool", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		size := r.bytes
		r.Release()
		drain(t, probe)

		p := newPipeline(t, Config{BudgetBytes: 2 * (2*(size+8) + 1), MaxEnvelopeBytes: 2 * size}, pub) // of which a tool has half
		first, _ := send(t, p, eventOf("a", ""))
		c := <-pub.calls
		second, _ := send(t, p, eventOf("b", ""))
		third, _ := send(t, p, eventOf("c", ""))
		want(t, third, ErrBusy)
		if used := p.Budget().Used(); used != 2*(size+8) { // and 8 for the route of its item
			t.Errorf("%d bytes taken, want %d", used, 2*(size+8))
		}
		c.reply <- ok(1)
		want(t, first, nil)
		c = <-pub.calls
		wantIDs(t, c, "b")
		fourth, _ := send(t, p, eventOf("d", ""))
		c.reply <- ok(2)
		want(t, second, nil)
		(<-pub.calls).reply <- ok(3)
		want(t, fourth, nil)
		drain(t, p)
	})
}

// Check 13 of the contract, at the limit and one above.
func TestTooLarge(t *testing.T) {
	p := newPipeline(t, Config{}, nil)
	defer drain(t, p)
	route := func(items ...string) error {
		env := parse(t, envelopeOf(items...))
		defer env.Release()
		r, err := p.Route(env, "tool", time.Now())
		if err == nil {
			r.Release()
		}
		return err
	}
	padded := func(pad int) string { return eventOf("a", `,"x":"`+strings.Repeat("y", pad)+`"`) }
	env := parse(t, envelopeOf(padded(0)))
	r, err := p.Route(env, "tool", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	fits := MaxRecordBytes - int(r.bytes-1)
	if err := route(padded(fits)); err != nil {
		t.Errorf("a record at the limit: %v", err)
	}
	var large *TooLargeError
	if err := route(eventOf("b", ""), padded(fits+1)); !errors.As(err, &large) || large.Index != 1 || large.Limit != MaxRecordBytes {
		t.Errorf("a record one above the limit: %v", err)
	}
	q := newPipeline(t, Config{MaxEnvelopeBytes: r.bytes}, nil)
	defer drain(t, q)
	if _, err := q.Route(env, "tool", time.Now()); err != nil {
		t.Errorf("an envelope at the limit: %v", err)
	}
	q.cfg.MaxEnvelopeBytes--
	if _, err := q.Route(env, "tool", time.Now()); !errors.As(err, &large) || large.Index != -1 {
		t.Errorf("an envelope one above the limit: %v", err)
	}
}

// Drain lets what was admitted out, and nothing in.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		first, _ := send(t, p, eventOf("a", ""))
		c := <-pub.calls
		second, _ := send(t, p, eventOf("b", ""))
		drained := make(chan error, 1)
		go func() { drained <- p.Drain(t.Context()) }()
		synctest.Wait()
		late, _ := send(t, p, eventOf("c", ""))
		want(t, late, ErrClosed)
		select {
		case <-drained:
			t.Fatal("drained with an envelope under way")
		default:
		}
		c.reply <- ok(1)
		(<-pub.calls).reply <- ok(2)
		want(t, first, nil)
		want(t, second, nil)
		want(t, drained, nil)
	})
}

// instant is a Publisher that stores everything at once.
type instant struct{ seq atomic.Uint64 }

func (i *instant) Publish(context.Context, *Message) (Ack, error) {
	return Ack{Sequence: i.seq.Add(1), Level: LevelFsync}, nil
}
func (i *instant) Probe(context.Context) error { return nil }

// A drain that begins while envelopes join several topics finds each of them
// admitted whole or refused whole.
func TestDrainAmongSubmits(t *testing.T) {
	for range 200 {
		p := newPipeline(t, Config{}, &instant{})
		env := parse(t, envelopeOf(eventOf("a", ""), personDescribe))
		var senders sync.WaitGroup
		for range 4 {
			senders.Go(func() {
				for {
					r, err := p.Route(env, "tool", time.Now())
					if err != nil {
						panic(err)
					}
					err = p.Submit(r, time.Now().Add(time.Minute))
					if err == nil {
						if err := r.Wait(); err != nil || len(r.Parts()) != 2 {
							t.Errorf("admitted and then %v with %d parts", err, len(r.Parts()))
						}
					}
					r.Release()
					if err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Errorf("refused with %v", err)
						}
						return
					}
				}
			})
		}
		if err := p.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		senders.Wait() // one that is refused has taken room for a moment
		if used := p.Budget().Used(); used != 0 {
			t.Errorf("%d bytes of the budget are still taken", used)
		}
	}
}

// A drain does not wait for a store that does not answer its probe.
func TestDrainDuringProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		done, _ := send(t, p, eventOf("a", ""))
		(<-pub.calls).reply <- reply{panic: true}
		want(t, done, ErrUnacknowledged)
		time.Sleep(2 * time.Second) // the probe is under way, and the script does not answer it
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Drain(ctx); err != nil {
			t.Error(err)
		}
	})
}

// An envelope that comes too late to be stored is refused before it joins
// others; one whose time ends while it waits does not take others with it; and
// a store that is merely slow is not reopened.
func TestLateEnvelope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		submit := func(id string, left time.Duration) (<-chan error, error) {
			env := parse(t, envelopeOf(eventOf(id, "")))
			r, err := p.Route(env, "tool", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Submit(r, time.Now().Add(left)); err != nil {
				return nil, err
			}
			done := make(chan error, 1)
			go func() { done <- r.Wait() }()
			return done, nil
		}
		if _, err := submit("late", 200*time.Millisecond); !errors.Is(err, ErrUnavailable) {
			t.Errorf("an envelope without time was taken: %v", err)
		}
		first, _ := submit("a", 5*time.Second)
		c := <-pub.calls
		hasty, err := submit("b", 300*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		patient, _ := submit("c", 5*time.Second)
		time.Sleep(time.Second)
		c.reply <- ok(1)
		want(t, first, nil)
		want(t, hasty, ErrUnacknowledged)
		(<-pub.calls).reply <- ok(2)
		want(t, patient, nil)
		if err := p.Ready(); err != nil {
			t.Errorf("a slow store counts as away: %v", err)
		}
		drain(t, p)
	})
}

// What a store knows only after it was reopened may never have been synced.
func TestDuplicateAfterReopening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		done, _ := send(t, p, eventOf("a", ""))
		c := <-pub.calls
		p.opened.Add(1) // a probe for another topic's sake
		c.reply <- reply{err: errors.New("server closed")}
		(<-pub.calls).reply <- reply{ack: Ack{Sequence: 1, Duplicate: true, Level: LevelFsync}}
		want(t, done, ErrUnacknowledged)
		drain(t, p)
	})
}

func TestLevelIsTheWeakest(t *testing.T) {
	r := &Receipt{parts: []Part{{Level: LevelReplicated}, {Level: LevelStored}, {Level: LevelReplicated}}}
	if got := r.Level(); got != LevelStored {
		t.Errorf("level is %s", got)
	}
	r.parts = r.parts[:1]
	if got := r.Level(); got != LevelReplicated {
		t.Errorf("level is %s", got)
	}
}

// stuck is a Publisher that does not listen to its context.
type stuck struct{ release chan struct{} }

func (s *stuck) Publish(context.Context, *Message) (Ack, error) {
	<-s.release
	return Ack{Sequence: 1, Level: LevelFsync}, nil
}
func (s *stuck) Probe(context.Context) error { return nil }

// The answer comes by the deadline whatever happens, and a settlement that
// comes too late is never taken for that of another envelope.
func TestDeadlineWithoutThePublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := &stuck{make(chan struct{})}
		p := newPipeline(t, Config{}, pub)
		start := time.Now()
		done, r := send(t, p, eventOf("a", ""))
		want(t, done, ErrUnacknowledged)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("answer took %v", took)
		}
		r.Release()
		close(pub.release)
		synctest.Wait()
		for range 10 {
			env := parse(t, envelopeOf(eventOf("b", "")))
			other, err := p.Route(env, "tool", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if other == r || len(other.done) != 0 {
				t.Fatal("the late receipt is in use again")
			}
		}
		drain(t, p)
	})
}

// The watch may hold an entry of a receipt that was settled since and is in use
// again for another envelope.
func TestExpiryOfAnEarlierUse(t *testing.T) {
	p := newPipeline(t, Config{}, newScript())
	var b batch
	r := p.receipts.Get().(*Receipt)
	r.room = p.budget.Share("tool")
	r.use.Add(1) // as Submit does
	r.deadline = time.Now().Add(-time.Second)
	r.expect(1)
	b.join(r, 0, 1)
	r.settle(nil, Part{}, nil)
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	r.use.Add(1) // and again for the next envelope
	r.expect(1)
	b.expire(time.Now())
	if len(r.done) != 0 {
		t.Error("an entry of the envelope before ended the wait of this one")
	}
	r.settle(nil, Part{}, nil)
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, p)
}

// flaky fails, stalls and panics now and then, and remembers what it stored.
type flaky struct {
	mu     sync.Mutex
	rng    *rand.Rand
	seq    uint64
	stored map[string]int // by event id
	seen   map[string]uint64
}

func (f *flaky) Publish(ctx context.Context, m *Message) (Ack, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dice := f.rng.IntN(100)
	switch {
	case dice < 3:
		return Ack{}, ErrStoreFull
	case dice < 4:
		panic("flaky")
	case dice < 8:
		return Ack{}, errors.New("away before storing")
	}
	seq, again := f.seen[m.ID]
	if !again {
		f.seq++
		seq = f.seq
		f.seen[m.ID] = seq
		for line := range strings.Lines(string(m.Body)) {
			f.stored[strings.SplitN(line, `"`, 5)[3]]++
		}
	}
	if dice < 12 {
		return Ack{}, errors.New("away after storing")
	}
	return Ack{Sequence: seq, Duplicate: again, Level: LevelFsync}, nil
}

func (f *flaky) Probe(context.Context) error { return nil }

// Whatever the store does: what was acknowledged is stored, what was refused
// for sure is not, and every envelope is settled.
func TestLedger(t *testing.T) {
	f := &flaky{rng: rand.New(rand.NewPCG(3, 4)), stored: map[string]int{}, seen: map[string]uint64{}}
	p := newPipeline(t, Config{ProbeInterval: time.Millisecond, Encoding: EncodingNone, MaxBatchRecords: 50}, f)
	var acknowledged, refused sync.Map
	var unclear atomic.Int64
	var senders sync.WaitGroup
	for sender := range 16 {
		senders.Go(func() {
			for n := range 200 {
				id := fmt.Sprintf("s%d-%d", sender, n)
				body := envelopeOf(eventOf(id+"-a", ""), eventOf(id+"-b", ""))
				env, err := validate.Parse(body, validate.Options{})
				if err != nil {
					panic(err)
				}
				r, err := p.Route(env, "tool", time.Now())
				if err != nil {
					panic(err)
				}
				if err = p.Submit(r, time.Now().Add(5*time.Second)); err == nil {
					err = r.Wait()
				}
				switch {
				case err == nil:
					acknowledged.Store(id, true)
				case errors.Is(err, ErrUnacknowledged):
					unclear.Add(1)
				default:
					refused.Store(id, err)
				}
				r.Release()
				env.Release()
			}
		})
	}
	senders.Wait()
	drain(t, p)
	count := func(m *sync.Map, each func(id string, why any)) (n int) {
		m.Range(func(id, why any) bool {
			n++
			each(id.(string), why)
			return true
		})
		return n
	}
	a := count(&acknowledged, func(id string, _ any) {
		if f.stored[id+"-a"] != 1 || f.stored[id+"-b"] != 1 {
			t.Errorf("%s was acknowledged and is stored %d and %d times", id, f.stored[id+"-a"], f.stored[id+"-b"])
		}
	})
	r := count(&refused, func(id string, why any) {
		if f.stored[id+"-a"] != 0 || f.stored[id+"-b"] != 0 {
			t.Errorf("%s was refused with %v and is stored", id, why)
		}
	})
	if a+r+int(unclear.Load()) != 16*200 || a == 0 || r == 0 {
		t.Errorf("%d acknowledged, %d refused, %d unclear of %d", a, r, unclear.Load(), 16*200)
	}
}

func TestConfigCheck(t *testing.T) {
	topics := []string{TopicStandard, TopicEntities}
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"no topics":       {Config{}, `"standard" is missing`},
		"no entities":     {Config{Topics: []string{"standard"}}, `"entities" is missing`},
		"encoding":        {Config{Topics: topics, Encoding: "lz4"}, `"lz4"`},
		"small budget":    {Config{Topics: topics, BudgetBytes: 1000}, "budget of 1000 bytes"},
		"small message":   {Config{Topics: topics, MaxMessageBytes: MaxRecordBytes}, "message of 1000000 bytes"},
		"large batch":     {Config{Topics: topics, MaxBatchBytes: MaxBatchBytes + 1}, "batch of 8388609 bytes"},
		"slow attempt":    {Config{Topics: topics, AttemptTimeout: 5 * time.Second}, "attempt timeout 5s"},
		"too many topics": {Config{Topics: append(make([]string, 63), topics...)}, "65 topics"},
	} {
		_, err := New(c.cfg, nil, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}
