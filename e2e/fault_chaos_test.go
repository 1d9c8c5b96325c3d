package e2e_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"caliperedge/internal/natstest"
)

// chaosTime is how long faults come in random order.
const chaosTime = 5 * time.Minute

// chaos makes one fault after the other, as its random numbers have it.
type chaos struct {
	t      *testing.T
	h      *home
	serve  func() *server
	s      *server
	random *rand.Rand
	faults []chaosFault
	tools  int // that were added to the token map
}

func newChaos(t *testing.T, h *home, serve func() *server) *chaos {
	t.Helper()
	c := &chaos{t: t, h: h, serve: serve, random: seeded(t)}
	c.restart()
	return c
}

// chaosFault is something that breaks, and is mended.
type chaosFault struct {
	name string
	make func()
	mend func()
}

// edgeFaults are those of the endpoint itself.
func (c *chaos) edgeFaults() []chaosFault {
	return []chaosFault{
		{"endpoint killed", func() { c.s.kill() }, c.restart},
		{"endpoint told to end", func() { c.s.stop() }, c.restart},
		{"endpoint stopped", func() { c.s.signal(syscall.SIGSTOP) }, func() { c.s.signal(syscall.SIGCONT) }},
		{"token map broken", func() { c.tokens(func(b []byte) []byte { return b[:len(b)/2] }) }, func() { c.tokens(nil) }},
		{"token map emptied", func() { c.tokens(func([]byte) []byte { return nil }) }, func() { c.tokens(nil) }},
		{"token map replaced", c.addTool, func() {}},
	}
}

// addTool replaces the token map by another that is good and has the token of the
// sensors too, and waits until the endpoint lives by it.
func (c *chaos) addTool() {
	c.tools++
	c.h.newToken("token", "add", fmt.Sprint("tool", c.tools))
	eventually(c.t, "the new map is taken up", func() bool { return c.s.metric("caliper_tokens") == float64(1+c.tools) })
}

// tokens writes the token map as f has it, or again as it was.
func (c *chaos) tokens(f func([]byte) []byte) {
	path, kept := c.h.data("tokens.yaml.age"), c.h.data("tokens.kept")
	if f == nil {
		if err := os.Rename(kept, path); err != nil {
			c.t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(kept, text, 0o600)
	}
	if err == nil {
		err = os.WriteFile(path, f(text), 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// diskFaults are those of the folder of an embedded store.
func (c *chaos) diskFaults() []chaosFault {
	jetstream := c.h.data("jetstream")
	return []chaosFault{
		c.diskFull(c.h.data("filler")),
		{"store read-only", func() { c.must("chattr", "-R", "+i", jetstream) }, func() { c.must("chattr", "-R", "-i", jetstream) }},
		{"killed in a write", func() {
			c.s.kill()
			path, block := c.h.lastBlock()
			if last := bytes.LastIndex(block, []byte("NATS/1.0")); last >= 30 {
				block = append(block, block[last-30:min(last+200, len(block))]...)
			}
			if err := os.WriteFile(path, block, 0o600); err != nil {
				c.t.Fatal(err)
			}
		}, c.restart},
	}
}

func (c *chaos) diskFull(filler string) chaosFault {
	return chaosFault{"disk full", func() { fillDisk(c.t, filler) }, func() { os.Remove(filler) }}
}

// serverFaults are those of an external server and of the way there.
func (c *chaos) serverFaults(n *natstest.Server, between *network) []chaosFault {
	return []chaosFault{
		{"server killed", n.Kill, n.Restart},
		{"server stopped", n.Pause, n.Continue},
		{"network stalls", func() { between.still.Store(true) }, func() { between.still.Store(false) }},
		{"network resets", between.reset, func() {}},
		{"network gone", func() { between.refuse(true); between.reset() }, func() { between.refuse(false) }},
	}
}

// clockFaults are those of a clock that is set, and set right. It stays within
// what the topics keep.
func (c *chaos) clockFaults(clock *clocked) []chaosFault {
	var all []chaosFault
	for _, d := range []time.Duration{-24 * time.Hour, -time.Minute, time.Minute, 24 * time.Hour} {
		all = append(all, chaosFault{fmt.Sprint("clock set by ", d), func() {
			clock.set(d)
			eventually(c.t, "the program sees the clock", func() bool { return clock.clockIs(c.s, d) })
		}, func() { clock.set(0) }})
	}
	return all
}

func (c *chaos) restart() { c.s = c.serve() }

func (c *chaos) must(name string, args ...string) {
	if err := run(name, args...); err != nil {
		c.t.Fatal(err)
	}
}

// run makes faults until the time is up; a third of those that leave the
// endpoint running have it killed in their midst.
func (c *chaos) run(load *sensors) {
	made := map[string]int{}
	c.s.flows(100)
	for end := time.Now().Add(chaosTime); time.Now().Before(end); {
		f := c.faults[c.random.IntN(len(c.faults))]
		kill := c.random.IntN(3) == 0 && !strings.Contains(f.name, "endpoint") && !strings.Contains(f.name, "killed in")
		c.t.Logf("%s, and killed: %v", f.name, kill)
		pause(c.random, time.Second)
		f.make()
		pause(c.random, 4*time.Second)
		if kill {
			c.s.kill()
		}
		f.mend()
		if kill {
			c.restart()
		}
		made[f.name]++
		if c.random.IntN(2) == 0 {
			c.s.flows(100)
		}
	}
	c.s.ready(200)
	c.s.flows(100)
	c.s.straight() // where there is a spool, it has been emptied
	c.t.Logf("made: %v", made)
	r := load.proved()
	if n := r.Statuses["401"]; n > 0 {
		c.t.Errorf("%d answers of 401: the token was in every good map", n)
	}
	c.s.addsUp()
	c.s.stop()
}

func TestFaultChaosEmbedded(t *testing.T) {
	t.Parallel()
	needsAll(t)
	clock := newClocked(t)
	h := clock.home
	h.env = append(h.env, "CALIPER_REQUEST_TIMEOUT=2s")
	mountDisk(t, h.data(""), "512")
	c := newChaos(t, h, clock.serve)
	c.faults = append(append(c.edgeFaults(), c.diskFaults()...), c.clockFaults(clock)...)
	c.run(h.sensors(c.s, "-since-start"))
}

func TestFaultChaosExternal(t *testing.T) {
	t.Parallel()
	needsAll(t)
	n := natstest.Start(t, natsAuthorization())
	between := newNetwork(t, n.Addr())
	h := externalHome(t, between.url(), "CALIPER_REQUEST_TIMEOUT=2s")
	c := newChaos(t, h, func() *server { return h.serve() })
	c.faults = append(c.edgeFaults(), c.serverFaults(n, between)...)
	c.run(h.sensors(c.s))
}

// With a spool the endpoint may be killed while it holds what the server has
// not got yet, and its disk may be full.
func TestFaultChaosSpool(t *testing.T) {
	t.Parallel()
	needsAll(t)
	n := natstest.Start(t, natsAuthorization())
	between := newNetwork(t, n.Addr())
	h := externalHome(t, between.url(), "CALIPER_REQUEST_TIMEOUT=2s", "CALIPER_SPOOL_DIR=spool")
	spool := filepath.Join(h.dir, "spool")
	mountDisk(t, spool, "512")
	c := newChaos(t, h, func() *server { return h.serve() })
	c.faults = append(append(c.edgeFaults(), c.serverFaults(n, between)...), c.diskFull(filepath.Join(spool, "filler")))
	c.run(h.sensors(c.s))
}
