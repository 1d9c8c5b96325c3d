package pipeline

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"caliperedge/validate"
)

// river is a Publisher that takes so many bytes a second, one message after the
// other, and may stand still for a while.
type river struct {
	speed atomic.Int64 // bytes of records per second

	mu   sync.Mutex
	free time.Time // when it has taken all that it was given
	seq  uint64
}

func newRiver(speed int64) *river {
	r := new(river)
	r.speed.Store(speed)
	return r
}

// stall takes nothing for so long.
func (r *river) stall(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free = time.Now().Add(d)
}

func (r *river) Publish(ctx context.Context, m *Message) (Ack, error) {
	r.mu.Lock()
	if now := time.Now(); r.free.Before(now) {
		r.free = now
	}
	r.free = r.free.Add(time.Duration(int64(m.Bytes) * int64(time.Second) / r.speed.Load()))
	r.seq++
	ack, wait := Ack{Sequence: r.seq, Level: LevelFsync}, time.Until(r.free)
	r.mu.Unlock()
	select {
	case <-ctx.Done():
		return Ack{}, ctx.Err()
	case <-time.After(wait):
		return ack, nil
	}
}

func (r *river) Probe(context.Context) error { return nil }

// crowd sends for tools, through the budget as the edge does.
type crowd struct {
	t                       *testing.T
	p                       *Pipeline
	env                     *validate.Envelope
	size                    int64
	posts                   sync.WaitGroup
	stored, refused, failed atomic.Int64
	most                    atomic.Int64 // the longest that one took, in nanoseconds
}

// newCrowd returns one whose envelopes are of about so many bytes.
func newCrowd(t *testing.T, p *Pipeline, size int) *crowd {
	body := envelopeOf(eventOf("e", fmt.Sprintf(`,"extensions":{"x":%q}`, strings.Repeat("x", size))))
	return &crowd{t: t, p: p, env: parse(t, body), size: int64(len(body))}
}

// send posts so many envelopes of a tool, evenly over a time that begins now.
func (c *crowd) send(tool string, posts int, over time.Duration) {
	for i := range posts {
		c.posts.Go(func() {
			time.Sleep(over * time.Duration(i) / time.Duration(posts))
			c.post(tool)
		})
	}
}

func (c *crowd) post(tool string) {
	start := time.Now()
	room := c.p.Budget().Share(tool)
	if !room.Begin(c.size, 1250*time.Millisecond) {
		c.refused.Add(1)
		return
	}
	now := time.Now()
	r, err := c.p.Route(c.env, tool, now)
	if err != nil {
		panic(err)
	}
	err = c.p.Submit(r, now.Add(5*time.Second))
	room.Release(c.size)
	if err == nil {
		err = r.Wait()
	}
	r.Release()
	if err != nil {
		c.failed.Add(1)
		return
	}
	c.stored.Add(1)
	if took := int64(time.Since(start)); took > c.most.Load() {
		c.most.Store(took)
	}
}

func (c *crowd) tell(name string) {
	c.t.Logf("%s: %d stored, %d refused, %d failed, %v at most", name, c.stored.Load(), c.refused.Load(), c.failed.Load(), time.Duration(c.most.Load()))
}

// A store that is slow gets what it can take in time, and no more; who sends
// little does not notice; when it is fast again, it has the whole budget.
func TestPaceOfASlowStore(t *testing.T) {
	for _, floods := range []int{1, 3, 100} {
		t.Run(fmt.Sprint(floods), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const speed = 6 << 20
				store := newRiver(speed)
				p := newPipeline(t, Config{BudgetBytes: 64 << 20, Encoding: EncodingNone}, store)
				b := p.Budget()
				flood, quiet := newCrowd(t, p, 50_000), newCrowd(t, p, 500)
				for i := range floods {
					flood.send(fmt.Sprint("flood", i), 7200/floods, 15*time.Second) // 24 MB/s
				}
				if floods < lightPart/2 {
					quiet.send("quiet", 150, 15*time.Second)
				}
				time.Sleep(6 * time.Second) // what came before it was known is gone
				late := flood.failed.Load()
				for range 90 {
					time.Sleep(100 * time.Millisecond)
					if pace := b.Pace(); pace < speed || pace > 4*speed {
						t.Errorf("the pace is %d, the store takes %d bytes a second", pace, speed)
					}
					if used := b.Used(); used > 3*speed {
						t.Errorf("%d bytes are in flight", used)
					}
				}
				flood.posts.Wait()
				quiet.posts.Wait()
				flood.tell("flood")
				quiet.tell("quiet")
				if flood.failed.Load() > late || flood.refused.Load() == 0 {
					t.Error("of what was let in not all was stored in time, or nothing was refused")
				}
				if stored := flood.stored.Load() * flood.size; stored < 12*speed {
					t.Errorf("%d bytes were stored in 15 seconds", stored)
				}
				if quiet.refused.Load()+quiet.failed.Load() > 0 || quiet.most.Load() > int64(time.Second) {
					t.Error("the quiet tool was turned away, or had to wait")
				}
				store.speed.Store(100 << 20)
				time.Sleep(5 * time.Second)
				if b.Pace() != b.Limit() {
					t.Errorf("the pace is still %d of %d", b.Pace(), b.Limit())
				}
				drain(t, p)
			})
		})
	}
}

// A store that stands still and is fast otherwise is not slow: all that the
// budget has room for gets in, again and again.
func TestPaceOfAStall(t *testing.T) {
	for _, size := range []int{1000, 50_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newRiver(24 << 20)
				p := newPipeline(t, Config{BudgetBytes: 64 << 20, Encoding: EncodingNone}, store)
				c := newCrowd(t, p, size)
				c.send("tool", 6_000_000/size, 15*time.Second)
				if size > 1000 {
					c.send("tool", 900, 15*time.Second) // 3 MB/s beside it
				}
				for _, stall := range []time.Duration{2000, 800, 3000, 1200, 3000} {
					time.Sleep(time.Second)
					store.stall(stall * time.Millisecond)
					time.Sleep(stall * time.Millisecond)
				}
				c.posts.Wait()
				c.tell("tool")
				if c.refused.Load()+c.failed.Load() > 0 {
					t.Error("not all that there was room for was stored")
				}
				drain(t, p)
			})
		})
	}
}

// A store that takes its time for a message, and more in a larger one, is not slow:
// the pace grows from little to what is sent.
func TestPaceOfADistantStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &distant{latency: 600 * time.Millisecond}
		p := newPipeline(t, Config{BudgetBytes: 64 << 20}, store)
		p.failing.Store(true) // it begins with little
		time.Sleep(2 * watchInterval)
		p.failing.Store(false)
		c := newCrowd(t, p, 50_000)
		c.send("tool", 400, 10*time.Second) // 2 MB/s
		c.posts.Wait()
		c.tell("tool")
		if c.refused.Load()+c.failed.Load() > 0 {
			t.Error("not all was stored")
		}
		drain(t, p)
	})
}

// distant is a Publisher that takes everything, after a while.
type distant struct {
	latency time.Duration
	instant
}

func (d *distant) Publish(ctx context.Context, m *Message) (Ack, error) {
	time.Sleep(d.latency)
	return d.instant.Publish(ctx, m)
}

// A store that did not answer gets little when it is back, and soon all again.
func TestPaceAfterATrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		done, _ := send(t, p, eventOf("a", ""))
		(<-pub.calls).reply <- reply{err: ErrFrozen}
		want(t, done, ErrUnacknowledged)
		probe := <-pub.probes
		if pace := p.Budget().Pace(); pace != p.Budget().Limit() {
			t.Errorf("while the store is away the pace is %d", pace)
		}
		probe <- nil
		time.Sleep(2 * watchInterval)
		if pace := p.Budget().Pace(); pace > 2*minPace {
			t.Errorf("when it is back the pace is %d", pace)
		}
		time.Sleep(6 * time.Second)
		if pace := p.Budget().Pace(); pace != p.Budget().Limit() {
			t.Errorf("the pace is still %d", pace)
		}
		drain(t, p)
	})
}

// While full batches wait, the next one will be full as well: it gets its room at
// once, and is not copied again and again while others wait for the topic.
func TestBatchesOfAFloodGrowOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{MaxBatchBytes: 100_000, PublishesPerTopic: 1}, pub)
		c := newCrowd(t, p, 40_000)
		c.send("tool", 6, 0)
		synctest.Wait()
		standard := p.topics[0]
		standard.mu.Lock()
		if len(standard.full) == 0 || cap(standard.open.buf) < 100_000 {
			t.Errorf("behind %d full batches is one with room for %d bytes", len(standard.full), cap(standard.open.buf))
		}
		standard.mu.Unlock()
		go func() {
			for call := range pub.calls {
				call.reply <- ok(1)
			}
		}()
		c.posts.Wait()
		drain(t, p)
		close(pub.calls)
	})
}
