//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"caliperedge/pipeline/stream"

	"github.com/valyala/fasthttp"
)

// groups stores what arrives in groups, one after the other: what comes while a group is being stored is in the next one, so
// that one sync pays for many. Floor and prototype are made of it.
type groups struct {
	// most is how many bytes a group may have, where it is not that of a single request; 0 is no limit.
	most int
	// fresh is the room that each group is given anew; with 0 it is given that of a group which is stored.
	fresh int
	wake  chan struct{} // with room for one: a token where a group was begun

	mu      sync.Mutex
	waiting []*group // the last one is open
	spare   [][]byte
}

// group is what is packed, written and synced at once.
type group struct {
	bodies []byte
	synced chan struct{} // closed when it is on the disk, or err says why it is not
	err    error         // then
}

// room is the open group, with room for n bytes. The caller holds mu.
func (q *groups) room(n int) *group {
	if last := len(q.waiting) - 1; last >= 0 && (q.most == 0 || len(q.waiting[last].bodies)+n <= q.most) {
		return q.waiting[last]
	}
	g := &group{synced: make(chan struct{})}
	if q.fresh > 0 {
		g.bodies = make([]byte, 0, q.fresh)
	} else if last := len(q.spare) - 1; last >= 0 {
		g.bodies, q.spare = q.spare[last], q.spare[:last]
	}
	q.waiting = append(q.waiting, g)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return g
}

// take closes the group that has waited longest, if there is one.
func (q *groups) take() *group {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return nil
	}
	g := q.waiting[0]
	q.waiting = q.waiting[1:]
	return g
}

// answer waits until the group is stored, and says so.
func (g *group) answer(c *fasthttp.RequestCtx) {
	<-g.synced
	if g.err != nil {
		c.SetStatusCode(fasthttp.StatusServiceUnavailable)
		return
	}
	c.SetContentType("application/json")
	c.SetBodyString(constantBody)
}

// serve has handle answer requests, and store keep the groups, until ctx ends.
func (q *groups) serve(ctx context.Context, handle fasthttp.RequestHandler, store func([]byte) error, out io.Writer) error {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := fasthttp.Server{Handler: handle}
	failed, stored := make(chan error, 1), make(chan struct{})
	go func() { failed <- server.Serve(ln) }()
	go func() {
		defer close(stored)
		q.storeAll(ctx, store)
	}()
	fmt.Fprintln(out, "listening on", ln.Addr())
	select {
	case err := <-failed:
		return err
	case <-stored: // ctx has ended; connections end with the process
		return nil
	}
}

func (q *groups) storeAll(ctx context.Context, store func([]byte) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		for g := q.take(); g != nil; g = q.take() {
			g.err = store(g.bodies)
			close(g.synced)
			if q.fresh == 0 {
				q.mu.Lock()
				q.spare = append(q.spare, g.bodies[:0])
				q.mu.Unlock()
			}
		}
	}
}

// The stream of an endpoint of ours that stores in JetStream.
const ownTopic = "standard"

var ownLayout = stream.Layout{Prefix: "bench", Topics: []stream.Topic{{Name: ownTopic, MaxAge: time.Hour, MaxBytes: 16 << 30}}}

// openStore opens caliper-edge's embedded JetStream in dir, which syncs each message before it acknowledges it.
func openStore(ctx context.Context, dir string) (*stream.Publisher, error) {
	return stream.OpenEmbedded(ctx, stream.EmbeddedConfig{Dir: dir, Layout: ownLayout})
}
