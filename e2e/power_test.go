package e2e_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"caliperedge/internal/natstest"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

var idInRequest = regexp.MustCompile(`"id":\s*"(urn:uuid:[0-9a-f-]{36})"`)

// exchanges finds in a trace the answers that acknowledge events.
type exchanges struct {
	level    string            // the durability of those that count
	requests map[string][]byte // by descriptor: what was read since the last answer
}

// answered returns the ids of an envelope when c begins to write its 200.
func (e *exchanges) answered(c call) (ids []string, ok bool) {
	if !strings.HasPrefix(c.file(), "socket:") && !strings.HasPrefix(c.file(), "TCP:") {
		return nil, false
	}
	switch {
	case c.name == "read" && c.left && c.ret > 0:
		e.requests[c.fd()] = append(e.requests[c.fd()], c.text(0)[:c.ret]...)
	case c.name == "close" && c.entered:
		delete(e.requests, c.fd())
	case c.name == "write" && c.entered:
		request := e.requests[c.fd()]
		delete(e.requests, c.fd())
		if !bytes.HasPrefix(request, []byte("POST ")) || !strings.Contains(c.args, `"HTTP/1.1 200`) || !strings.Contains(c.args, "Caliper-Durability: "+e.level) {
			return nil, false
		}
		for _, m := range idInRequest.FindAllSubmatch(request, -1) {
			ids = append(ids, string(m[1]))
		}
		return ids, len(ids) > 0
	}
	return nil, false
}

// powerRun is a load on a traced endpoint.
func powerRun(t *testing.T, h *home, events float64) (trace string, acknowledged int64) {
	t.Helper()
	needsTools(t, "strace")
	trace = filepath.Join(t.TempDir(), "trace")
	s := h.serveAs(h.traced(trace, "serve", "--init"))
	load := h.powerSensors(s)
	s.flows(events)
	r := load.proved()
	s.accounts(r, 0)
	s.kill()
	return trace, r.Ledger.Acknowledged
}

// powerSensors are few, of readable requests, that a traced endpoint can follow.
func (h *home) powerSensors(s *server) *sensors {
	h.t.Helper()
	return h.sensors(s, "-gzip", "0", "-zstd", "0", "-faulty", "0", "-connections", "8", "-rate", "40", "-items", "1:50,50:50")
}

// TestFaultPowerLoss traces the system calls of an endpoint under load. Each
// answer must come after a sync of all it acknowledges; and a store that is made
// of nothing but what was synced when an answer was given must hold what had been
// acknowledged by then.
func TestFaultPowerLoss(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	h := newFaultHome(t, "CALIPER_CONTENT_ENCODING=none", "CALIPER_STORE_BYTES=32MiB")
	trace, told := powerRun(t, h, float64(rounds(4500, 9000)))
	powerLosses(t, random, h, trace, "fsync", told, func(d *lossyDisk, reading leave, acked []string) {
		afterPowerLoss(t, newFaultHome(t), d, reading, acked)
	})
}

// The same for the spool, while the server is away: what it has taken is there
// after a power loss, and goes to the server when there is one.
func TestFaultPowerLossSpool(t *testing.T) {
	t.Parallel()
	needsAll(t)
	needsTools(t, "strace")
	random := seeded(t)
	n := natstest.Start(t, natsAuthorization())
	env := []string{"CALIPER_CONTENT_ENCODING=none", "CALIPER_SPOOL_DIR=spool", "CALIPER_SPOOL_BYTES=32MiB"}
	h := externalHome(t, withUser(n), env...)
	trace := filepath.Join(t.TempDir(), "trace")
	s := h.serveAs(h.traced(trace, "serve", "--init"))
	load := h.powerSensors(s)
	s.flows(100)
	n.Kill()
	eventually(t, "the spool takes over", func() bool { return s.metric(`caliper_spooled_messages_total{topic="standard"}`) > 0 })
	const events = 9000
	s.flows(events)
	load.signal(syscall.SIGSTOP) // so that the numbers are the last ones
	first := s.settled()
	s.kill()
	load.signal(syscall.SIGCONT)
	n.Restart()
	s = h.serve()
	s.straight()
	s.accounts(load.proved(), 0, first)
	s.stop()

	powerLosses(t, random, h, trace, "spooled", events, func(d *lossyDisk, reading leave, acked []string) {
		n := natstest.Start(t, natsAuthorization())
		afterPowerLoss(t, externalHome(t, withUser(n), env...), d, reading, acked)
		n.Kill()
	})
}

// powerLosses judges the answers of a level in a trace, of which there are events
// at least, and calls after with the disk at some of them.
func powerLosses(t *testing.T, random *rand.Rand, h *home, trace, level string, events int64, after func(d *lossyDisk, reading leave, acked []string)) {
	t.Helper()
	// The judge must be able to say no: without the syncs of data nothing is
	// synced, and without those of folders not the names.
	deaf := judge(t, h, trace, level, func(c call) bool { return c.name != "fsync" || !strings.HasSuffix(c.file(), ".blk") }, nil)
	if deaf.unsynced != deaf.events || deaf.events == 0 {
		t.Errorf("without the syncs, %d of %d events are found to be synced", deaf.events-deaf.unsynced, deaf.events)
	}
	blind := judge(t, h, trace, level, func(c call) bool { return c.name != "fsync" || !strings.HasSuffix(c.file(), "/msgs") }, nil)
	if blind.unnamed != blind.events || blind.unsynced > 0 {
		t.Errorf("without the syncs of folders, the names of %d of %d events are found to be synced", blind.events-blind.unnamed, blind.events)
	}

	cuts := make(map[int]bool)
	for range rounds(2, 12) {
		cuts[1+random.IntN(deaf.answers)] = true
	}
	v := judge(t, h, trace, level, func(call) bool { return true }, func(d *lossyDisk, answer int, acked []string) {
		if !cuts[answer] {
			return
		}
		for name, reading := range map[string]leave{"journal": leaveJournal, "posix": leavePOSIX, "some": leaveSome(random)} {
			t.Logf("power loss at answer %d, %d events acknowledged, reading %s", answer, len(acked), name)
			after(d, reading, acked)
		}
	})
	t.Logf("%d answers acknowledge %d events in %d files", v.answers, v.events, v.files)
	if int64(v.events) < events {
		t.Errorf("the trace has %d acknowledged events, want %d", v.events, events)
	}
	if v.files < 2 {
		t.Errorf("all events are in %d files: a new one has not been seen", v.files)
	}
	if v.unsynced > 0 {
		t.Errorf("%d events were acknowledged before they were synced", v.unsynced)
	}
	if v.unnamed > 0 {
		t.Errorf("%d events were acknowledged in a file whose name was not synced", v.unnamed)
	}
}

// The same for an encrypted store, whose blocks have keys in files of their own.
// Where its records were written cannot be seen, only whether they are there.
func TestFaultPowerLossEncrypted(t *testing.T) {
	t.Parallel()
	needsAll(t)
	random := seeded(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(secret(strings.Repeat("k3y"+secretMark, 8), "the key of the store")), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"CALIPER_STORE_BYTES=32MiB", "CALIPER_STORE_KEY=" + key}
	h := newFaultHome(t, env...)
	trace, _ := powerRun(t, h, 9000)
	answers := judge(t, h, trace, "fsync", func(call) bool { return false }, nil).answers
	cuts := make(map[int]bool)
	for range 8 {
		cuts[1+random.IntN(answers)] = true
	}
	judge(t, h, trace, "fsync", func(call) bool { return true }, func(d *lossyDisk, answer int, acked []string) {
		if cuts[answer] {
			for _, reading := range []leave{leaveJournal, leavePOSIX, leaveSome(random)} {
				afterPowerLoss(t, newFaultHome(t, env...), d, reading, acked)
			}
		}
	})
}

// verdict is what a trace shows.
type verdict struct {
	answers, events, files int
	unsynced               int // events whose data was not synced when they were acknowledged
	unnamed                int // and those whose data was, but not the names that lead to it
}

// judge goes through a trace, as far as heard lets it, and calls then at each
// answer of a level with all events acknowledged until then.
func judge(t *testing.T, h *home, trace, level string, heard func(call) bool, then func(d *lossyDisk, answer int, acked []string)) verdict {
	t.Helper()
	var v verdict
	var acked []string
	d := newLossyDisk(h.dir)
	e := &exchanges{level: level, requests: map[string][]byte{}}
	at := make(map[string]place)
	files := make(map[*node]bool)
	readTrace(t, trace, func(c call) {
		if heard(c) {
			d.apply(c)
		}
		d.note(c, at)
		ids, ok := e.answered(c)
		if !ok {
			return
		}
		v.answers++
		for _, id := range ids {
			p, known := at[id]
			switch {
			case !known || !p.synced():
				v.unsynced++
			case !d.named(p):
				v.unnamed++
			}
			files[p.node] = true
		}
		if acked = append(acked, ids...); then != nil {
			then(d, v.answers, acked)
		}
	})
	v.events, v.files = len(acked), len(files)
	return v
}

// syncedEvents are those of a trace that were written and then synced. The data
// folder was there before.
func syncedEvents(t *testing.T, h *home, trace string) map[string]bool {
	t.Helper()
	d, at := newLossyDisk(h.data("")), make(map[string]place)
	readTrace(t, trace, func(c call) {
		d.apply(c)
		d.note(c, at)
	})
	ids := make(map[string]bool)
	for id, p := range at {
		ids[id] = p.synced()
	}
	if len(ids) == 0 {
		t.Error("the trace knows of no event")
	}
	return ids
}

// place is where a record was written.
type place struct {
	path string
	node *node
	time int
}

// note keeps where the records of a write are.
func (d *lossyDisk) note(c call, at map[string]place) {
	if c.name != "pwrite64" || !c.left || c.ret < 0 || !strings.HasSuffix(c.file(), ".blk") {
		return
	}
	h := d.open[c.fd()]
	if h == nil {
		return
	}
	for _, m := range idInBlock.FindAllSubmatch(c.text(0), -1) {
		at[string(m[1])] = place{c.file(), h.node, d.clock}
	}
}

// synced tells whether the data is there after a power loss.
func (p place) synced() bool { return len(p.node.pending) == 0 || p.node.pending[0].time > p.time }

// named tells whether the file is, by the stricter reading.
func (d *lossyDisk) named(p place) bool {
	n := d.root
	for part := range strings.SplitSeq(strings.TrimPrefix(p.path, d.dir+"/"), "/") {
		if n = n.synced[part]; n == nil {
			return false
		}
	}
	return n == p.node
}

// afterPowerLoss starts an endpoint on what is left, and demands what was
// acknowledged.
func afterPowerLoss(t *testing.T, again *home, d *lossyDisk, left leave, acked []string) {
	t.Helper()
	d.root.rebuild(t, again.dir, left)
	s := again.serve()
	s.straight() // where there is a spool, it has been emptied
	if lost := missing(again.tail("standard"), acked); lost != "" {
		t.Error(lost)
	}
	s.stored(eventID("after power loss"))
	s.stop()
}
