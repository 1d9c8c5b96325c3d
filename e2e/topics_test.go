package e2e_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxAge is that of a stream as it is now.
func maxAge(t *testing.T, js jetstream.JetStream, stream string) time.Duration {
	t.Helper()
	s, err := js.Stream(context.Background(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config.MaxAge
}

func TestAStreamChangedBehindOurBack(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve()
	s.stored(eventID("topics"))
	if out := h.must("topics", "list"); strings.Contains(out, "differs") || !strings.Contains(out, "caliper-standard") {
		t.Errorf("topics list of new streams:\n%s", out)
	}
	if out := h.must("topics", "apply"); !strings.Contains(out, "nothing to change") {
		t.Errorf("topics apply with nothing to do:\n%s", out)
	}

	js := h.operator()
	for _, name := range []string{"caliper-standard", "caliper-entities"} {
		stream, err := js.Stream(context.Background(), name)
		if err != nil {
			t.Fatal(err)
		}
		c := stream.CachedInfo().Config
		c.MaxAge = time.Hour
		if _, err := js.UpdateStream(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	s.stop()
	s = h.serve()
	log, list := s.stderr.String(), h.must("topics", "list")
	for _, want := range []string{"stream caliper-standard: maximum age is 1h0m0s, want 720h0m0s", "stream caliper-entities: maximum age is 1h0m0s"} {
		if !strings.Contains(log, want) {
			t.Errorf("the start did not tell: %s", want)
		}
		if !strings.Contains(list, "differs: "+want) {
			t.Errorf("topics list did not tell: %s", want)
		}
	}
	js = h.operator()
	if age := maxAge(t, js, "caliper-standard"); age != time.Hour {
		t.Errorf("serve made the maximum age %v", age)
	}

	if r := h.runWith("n\n", "topics", "apply"); r.code == 0 || !strings.Contains(r.stdout, "maximum age") || !strings.Contains(r.stderr, "nothing was changed") {
		t.Errorf("topics apply answered with n: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
	if age := maxAge(t, js, "caliper-standard"); age != time.Hour {
		t.Errorf("topics apply answered with n made the maximum age %v", age)
	}
	if r := h.runWith("y\n", "topics", "apply"); r.code != 0 || !strings.Contains(r.stdout, "applied") {
		t.Errorf("topics apply answered with y: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
	if age := maxAge(t, js, "caliper-standard"); age != 720*time.Hour {
		t.Errorf("topics apply made the maximum age %v", age)
	}
	if out := h.must("topics", "list"); strings.Contains(out, "differs") {
		t.Errorf("topics list after topics apply:\n%s", out)
	}
	if ids := h.tail("standard"); ids[eventID("topics")] != 1 {
		t.Errorf("the topic has %v", ids)
	}
}

// credential is what consumer add prints.
func credential(t *testing.T, printed string) map[string]string {
	t.Helper()
	c := make(map[string]string)
	for line := range strings.Lines(printed) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		c[name] = value
	}
	for _, name := range []string{"server", "user", "password", "stream", "consumer"} {
		if c[name] == "" {
			t.Fatalf("consumer add printed no %s", name)
		}
	}
	secret(c["password"], "the password of a reader")
	return c
}

// fetch reads and acknowledges up to n messages as an ordinary client.
func fetch(t *testing.T, js jetstream.JetStream, c map[string]string, n int) (got int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	consumer, err := js.Consumer(ctx, c["stream"], c["consumer"])
	if err != nil {
		t.Fatal(err)
	}
	batch, err := consumer.Fetch(n, jetstream.FetchMaxWait(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for m := range batch.Messages() {
		if m.Headers().Get("Caliper-Record") != "1" {
			t.Errorf("a message without Caliper-Record: %v", m.Headers())
		}
		if err := m.DoubleAck(ctx); err != nil {
			t.Errorf("acknowledge: %v", err)
		}
		got++
	}
	return got
}

func TestConsumersOfARunningProgram(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve()
	for n := range 5 {
		s.stored(eventID("consumer", n))
	}
	c := credential(t, h.must("consumer", "add", "loader", "standard"))
	user := nats.UserInfo(c["user"], c["password"])
	eventually(t, "the new credential is let in", func() bool {
		nc, err := nats.Connect(c["server"], user)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	refused := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}) // expected below
	js := natsClient(t, c["server"], user, refused)
	if got := fetch(t, js, c, 3); got != 3 {
		t.Errorf("fetched %d messages of 3", got)
	}
	if got := fetch(t, js, c, 10); got != 2 {
		t.Errorf("fetched %d messages of the other 2", got)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond) // a refused publish is not answered
	defer cancel()
	if _, err := js.Publish(ctx, "caliper.standard", []byte("x")); err == nil {
		t.Error("a reader could publish into its topic")
	}
	if ids := h.tail("standard"); len(ids) != 5 {
		t.Errorf("after a reader's attempt to publish the topic has %d records", len(ids))
	}

	list := h.must("consumer", "list")
	if !strings.Contains(list, "loader") || !strings.Contains(list, "standard") || strings.Contains(list, "never") {
		t.Errorf("consumer list:\n%s", list)
	}
	if r := h.run("consumer", "add", "loader", "entities"); r.code == 0 {
		t.Error("a name was given to a second consumer")
	}
	if r := h.run("consumer", "add", "other", "nothing"); r.code == 0 || !strings.Contains(r.stderr, "standard") {
		t.Errorf("a consumer of an unknown topic: exit %d, %s", r.code, r.stderr)
	}
	h.must("consumer", "remove", "loader")
	eventually(t, "a removed reader is kept out", func() bool {
		nc, err := nats.Connect(c["server"], user)
		if err == nil {
			nc.Close()
		}
		return err != nil
	})
	if list := h.must("consumer", "list"); strings.Contains(list, "loader") {
		t.Errorf("consumer list after the removal:\n%s", list)
	}
	if r := h.run("consumer", "remove", "loader"); r.code == 0 {
		t.Error("a consumer was removed twice")
	}
}

func TestCommandsWithoutAServer(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.serve().stop()
	for _, args := range [][]string{{"tail", "standard"}, {"topics", "list"}, {"consumer", "list"}} {
		if r := h.run(args...); r.code != 1 || !strings.Contains(r.stderr, "caliper-edge serve") {
			t.Errorf("%v: exit %d, %s", args, r.code, r.stderr)
		}
	}
}
