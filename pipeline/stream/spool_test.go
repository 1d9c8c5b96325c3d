package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"caliperedge/internal/natstest"
	"caliperedge/pipeline"
	"caliperedge/pipeline/pipelinetest"
)

// prefixes gives each spool of a test streams of its own on a shared server.
var prefixes atomic.Int64

// spooled is a spool with what is behind it.
type spooled struct {
	*Spool
	t      *testing.T
	dir    string
	urls   string
	layout Layout
	remote *Publisher
}

func newSpooled(t *testing.T, urls string) *spooled {
	t.Helper()
	s := &spooled{t: t, dir: t.TempDir(), urls: urls, layout: testLayout()}
	s.layout.Prefix = fmt.Sprint("p", prefixes.Add(1))
	s.open(64 << 20)
	return s
}

// open opens publisher and spool, again after close.
func (s *spooled) open(maxBytes int64) {
	s.t.Helper()
	var err error
	s.remote, err = OpenRemote(deadline(s.t), RemoteConfig{Server: Server{URL: s.urls}, Layout: s.layout, MayBeAway: true, Logger: quiet()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Spool, err = OpenSpool(deadline(s.t), s.remote, EmbeddedConfig{Dir: s.dir, MaxBytes: maxBytes, Logger: quiet()})
	if err != nil {
		s.remote.Close()
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.close)
}

func (s *spooled) close() {
	if s.Spool == nil {
		return
	}
	if err := errors.Join(s.Spool.Close(), s.remote.Close()); err != nil {
		s.t.Errorf("close: %v", err)
	}
	s.Spool = nil
}

// take publishes and returns the level; the message has to be taken.
func (s *spooled) take(id string) pipeline.Level {
	s.t.Helper()
	ack, err := s.Publish(deadline(s.t), message("standard", id, fmt.Sprintf("%q", id)))
	if err != nil {
		s.t.Fatalf("publish %s: %v", id, err)
	}
	if (ack.Sequence == 0) != (ack.Level == pipeline.LevelSpooled) {
		s.t.Errorf("publish %s: %+v", id, ack)
	}
	return ack.Level
}

// straight waits until messages go straight to the server again.
func (s *spooled) straight() {
	s.t.Helper()
	eventually(s.t, "the spool is empty", func() bool { return len(s.Waiting()) == 0 })
}

// stored returns the IDs of the messages of standard on the server, in order,
// after having compared their headers.
func (s *spooled) stored() []string {
	s.t.Helper()
	js := natstest.JetStream(s.t, s.urls)
	str, err := js.Stream(deadline(s.t), s.layout.Stream("standard"))
	if err != nil {
		s.t.Fatal(err)
	}
	var ids []string
	for seq := uint64(1); seq <= str.CachedInfo().State.LastSeq; seq++ {
		m, err := str.GetMsg(deadline(s.t), seq)
		if err != nil {
			s.t.Fatal(err)
		}
		id := m.Header.Get(pipeline.HeaderMsgID)
		want := header(message("standard", id, fmt.Sprintf("%q", id)))
		if fmt.Sprint(map[string][]string(m.Header)) != fmt.Sprint(map[string][]string(want)) || string(m.Data) != fmt.Sprintf("%q\n", id) {
			s.t.Errorf("message %d has headers %v and body %q, want %v", seq, m.Header, m.Data, want)
		}
		ids = append(ids, id)
	}
	return ids
}

func TestSpoolConforms(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	t.Run("Straight", func(t *testing.T) {
		pipelinetest.TestPublisher(t, func(t *testing.T) pipeline.Publisher { return newSpooled(t, srv.URL()).Spool })
	})
	srv.Kill()
	t.Run("Spooled", func(t *testing.T) {
		pipelinetest.TestPublisher(t, func(t *testing.T) pipeline.Publisher { return newSpooled(t, srv.URL()).Spool })
	})
}

// TestSpoolForwardsInOrder: while the server is away messages are spooled at
// once, over a restart of the edge too, and reach the server in order, each once
// and as it was.
func TestSpoolForwardsInOrder(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	s := newSpooled(t, srv.URL())
	var want []string
	take := func(id string, level pipeline.Level) {
		t.Helper()
		if got := s.take(id); got != level {
			t.Errorf("%s is %s, want %s", id, got, level)
		}
		want = append(want, id)
	}
	take("first", pipeline.LevelStored)
	for round := range 2 {
		srv.Kill()
		eventually(t, "the loss of the connection is noticed", s.remote.link.Load().down.Load)
		start := time.Now()
		for i := range 40 {
			take(fmt.Sprint(round, "-", i), pipeline.LevelSpooled)
		}
		if took := time.Since(start); took > 20*time.Second { // waiting for the server each time would take a minute
			t.Errorf("40 messages took %v to be spooled", took)
		}
		if got := s.Level("standard"); got != pipeline.LevelSpooled {
			t.Errorf("level %s, want spooled", got)
		}
		list, err := s.Status(deadline(t))
		if err != nil || list[0].Messages != 40 || list[0].Bytes == 0 || list[0].Oldest.IsZero() {
			t.Errorf("status %+v, %v, want 40 messages", list[0], err)
		}
		if round == 1 { // the edge is started again while the server is away
			s.close()
			s.open(64 << 20)
			if waiting := s.Waiting(); !slices.Equal(waiting, []string{"standard"}) {
				t.Errorf("after a restart %v go through the spool, want standard", waiting)
			}
			take("restarted", pipeline.LevelSpooled)
		}
		srv.Restart()
		s.straight()
		take(fmt.Sprint(round, "-after"), pipeline.LevelStored)
	}
	if got := s.stored(); !slices.Equal(got, want) {
		t.Errorf("the server has %v,\nwant %v", got, want)
	}
	if list, err := s.Status(deadline(t)); err != nil || list[0].Messages != 0 || list[0].Forwarded != 41 || list[0].Failures == 0 {
		t.Errorf("status %+v, %v, want an empty spool and 41 forwarded", list[0], err)
	}
}

// TestSpoolOfAStalledServer: the first message waits for the server and is
// spooled when it is repeated; what follows does not wait. A message that the
// server took all the same is there once.
func TestSpoolOfAStalledServer(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	s := newSpooled(t, srv.URL())
	s.take("before")
	srv.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if ack, err := s.Publish(ctx, message("standard", "stalled", `"stalled"`)); err == nil {
		t.Errorf("a stalled server acknowledged: %+v", ack)
	}
	want := []string{"before"}
	start := time.Now()
	for _, id := range []string{"stalled", "1", "2", "3", "4", "5"} {
		if level := s.take(id); level != pipeline.LevelSpooled {
			t.Errorf("%s is %s", id, level)
		}
		want = append(want, id)
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("6 messages took %v to be spooled", took)
	}
	srv.Continue()
	s.straight()
	if got := s.stored(); !slices.Equal(got, want) {
		t.Errorf("the server has %v, want %v", got, want)
	}
}

// TestSpoolGetsEmptyUnderLoad: the server comes back while publishers go on
// without a pause. Everything acknowledged is on the server, once.
func TestSpoolGetsEmptyUnderLoad(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	s := newSpooled(t, srv.URL())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	acked := make(map[string]bool)
	levels := make(map[pipeline.Level]int)
	count := func(level pipeline.Level) int {
		mu.Lock()
		defer mu.Unlock()
		return levels[level]
	}
	var publishers sync.WaitGroup
	for c := range 2 { // as many as the pipeline has
		publishers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("%d-%d", c, i)
				for ctx.Err() == nil {
					one, end := context.WithTimeout(context.Background(), 1500*time.Millisecond)
					ack, err := s.Publish(one, message("standard", id, fmt.Sprintf("%q", id)))
					end()
					if err == nil {
						mu.Lock()
						acked[id] = true
						levels[ack.Level]++
						mu.Unlock()
						break
					}
				}
			}
		})
	}
	for round := range 2 {
		stored, spooled := count(pipeline.LevelStored), count(pipeline.LevelSpooled)
		eventually(t, "messages are stored", func() bool { return count(pipeline.LevelStored) > stored+50 })
		if round == 0 {
			srv.Kill()
		} else {
			srv.Pause()
		}
		eventually(t, "messages are spooled", func() bool { return count(pipeline.LevelSpooled) > spooled+300 })
		if round == 0 {
			srv.Restart()
		} else {
			srv.Continue()
		}
	}
	stored := count(pipeline.LevelStored)
	eventually(t, "messages are stored again", func() bool { return count(pipeline.LevelStored) > stored+50 })
	cancel()
	publishers.Wait()
	s.straight()
	found := make(map[string]int)
	for _, id := range s.stored() {
		found[id]++
	}
	for id := range acked {
		if found[id] != 1 {
			t.Errorf("%s is on the server %d times", id, found[id])
		}
	}
	t.Logf("%v", levels)
}

func TestFullSpool(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	s := newSpooled(t, srv.URL())
	s.close()
	srv.Kill()
	s.open(1 << 20)
	body := make([]byte, 100<<10)
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		topic := []string{"standard", "rejected"}[n%2] // the limit is of all together
		_, err = s.Publish(deadline(t), &pipeline.Message{Topic: topic, ID: fmt.Sprint(n), Records: 1, Bytes: len(body), Body: body})
	}
	if !errors.Is(err, pipeline.ErrStoreFull) || n < 8 || n > 13 {
		t.Fatalf("after %d messages of 100 KiB in 1 MiB: %v, want ErrStoreFull", n, err)
	}
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("readiness of a full spool without a server: %v", err)
	}
	// A smaller limit does not keep it from being emptied.
	s.close()
	s.open(512 << 10)
	if _, err = s.Publish(deadline(t), message("standard", "more", "{}")); !errors.Is(err, pipeline.ErrStoreFull) {
		t.Errorf("publish into a spool above its limit: %v, want ErrStoreFull", err)
	}
	srv.Restart()
	s.straight()
	if err := s.Ready(); err != nil {
		t.Errorf("readiness: %v", err)
	}
	if level := s.take("after"); level != pipeline.LevelStored {
		t.Errorf("level %s, want stored", level)
	}
}

func TestSpoolKeepsToItsTopics(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	s := newSpooled(t, srv.URL())
	srv.Kill()
	s.take("kept")
	s.close()
	remote, err := OpenRemote(deadline(t), RemoteConfig{Server: Server{URL: srv.URL()}, MayBeAway: true, Logger: quiet(),
		Layout: Layout{Prefix: s.layout.Prefix, Topics: []Topic{{Name: "other", MaxAge: time.Hour, MaxBytes: 1 << 20}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	if _, err := OpenSpool(deadline(t), remote, EmbeddedConfig{Dir: s.dir, Logger: quiet()}); err == nil || !strings.Contains(err.Error(), "1 messages of topic standard") {
		t.Errorf("a spool with messages of a topic that is not configured: %v", err)
	}
	// Nothing was lost by that.
	s.open(64 << 20)
	srv.Restart()
	s.straight()
	if got := s.stored(); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("the server has %v", got)
	}
}

// TestSpoolIsMended: a local store that froze is opened anew by a probe, and what
// it held is forwarded.
func TestSpoolIsMended(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	s := newSpooled(t, srv.URL())
	srv.Kill()
	s.take("before")
	s.local.store.(*embedded).shut() // as an I/O error would, no write succeeds
	if ack, err := s.Publish(deadline(t), message("standard", "frozen", "{}")); err == nil || errors.Is(err, pipeline.ErrStoreFull) || errors.Is(err, pipeline.ErrRefused) {
		t.Errorf("publish: %+v, %v, want an unknown outcome", ack, err)
	}
	if err := s.Probe(deadline(t)); err != nil {
		t.Fatalf("probe: %v", err)
	}
	s.take("frozen")
	srv.Restart()
	s.straight()
	if got := s.stored(); !slices.Equal(got, []string{"before", "frozen"}) {
		t.Errorf("the server has %v", got)
	}
}

// TestSpoolDrain: at the end of the program what can be forwarded is, and what
// cannot does not hold it up.
func TestSpoolDrain(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	s := newSpooled(t, srv.URL())
	srv.Kill()
	s.take("1")
	start := time.Now()
	s.Drain(deadline(t))
	if took := time.Since(start); took > 20*time.Second { // its context has a minute
		t.Errorf("drain without a server took %v", took)
	}
	if len(s.Waiting()) != 1 {
		t.Error("the spool is empty without a server")
	}
	srv.Restart()
	eventually(t, "the connection stands", func() bool { return !s.remote.link.Load().down.Load() })
	s.Drain(deadline(t))
	s.straight()
	if got := s.stored(); !slices.Equal(got, []string{"1"}) {
		t.Errorf("the server has %v", got)
	}
}

// TestForgottenMessage: a message that came into the spool by a write of unknown
// outcome, after the spool was found empty, is forwarded too.
func TestForgottenMessage(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	s := newSpooled(t, srv.URL())
	publish(t, s.local, message("standard", "orphan", `"orphan"`))
	eventually(t, "it is on the server", func() bool { return slices.Equal(s.stored(), []string{"orphan"}) })
	s.straight()
}
