package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"caliperedge/internal/natstest"
)

// mountDisk mounts a filesystem of its own at dir: ext4 in a file, so that it
// can be full, break, and be mended.
func mountDisk(t *testing.T, dir string, megabytes string) (image string) {
	t.Helper()
	needsRoot(t)
	needsTools(t, "mkfs.ext4")
	image = filepath.Join(t.TempDir(), "disk")
	if out, err := exec.Command("mkfs.ext4", "-q", "-b", "4096", image, megabytes+"M").CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := mount(image, dir); err != nil {
		lacking(t, "needs to mount a filesystem of its own: %v", err)
	}
	t.Cleanup(func() { _ = run("umount", "--lazy", dir) })
	return image
}

func mount(image, dir string) error { return run("mount", "-o", "loop,errors=remount-ro", image, dir) }

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return &os.PathError{Op: name, Path: strings.Join(args, " "), Err: &exec.Error{Name: strings.TrimSpace(string(out)), Err: err}}
	}
	return nil
}

// fillDisk writes a file of somebody else until nothing more fits.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// A disk that somebody else fills: the stream freezes on the first write that
// fails. It comes back by itself when there is room.
func TestFaultDiskFullOfOthers(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t)
	mountDisk(t, h.data(""), "128")
	s := h.serve()
	load := h.sensors(s)
	for range rounds(1, 5) {
		s.flows(300)
		fillDisk(t, h.data("filler"))
		s.ready(503)
		s.post(envelope("", eventID("disk", "full"))).want(t, 503, "Events cannot be stored now.")
		if err := os.Remove(h.data("filler")); err != nil {
			t.Fatal(err)
		}
		s.ready(200)
		s.flows(300)
	}
	s.livedThrough(load, 0)
}

// A store folder in which nobody may write any more. It comes back by itself
// when that is allowed again.
func TestFaultStoreReadOnly(t *testing.T) {
	t.Parallel()
	needsTools(t, "chattr")
	h := newFaultHome(t)
	mountDisk(t, h.data(""), "128")
	s := h.serve()
	load := h.sensors(s)
	for range rounds(1, 5) {
		s.flows(300)
		if err := run("chattr", "-R", "+i", h.data("jetstream")); err != nil {
			lacking(t, "needs to forbid writing: %v", err)
		}
		s.ready(503)
		s.post(envelope("", eventID("disk", "read-only"))).want(t, 503, "Events cannot be stored now.")
		if err := run("chattr", "-R", "-i", h.data("jetstream")); err != nil {
			t.Fatal(err)
		}
		s.ready(200)
		s.flows(300)
	}
	s.livedThrough(load, 0)
}

// A filesystem that met an error and is read-only until somebody mends it, as
// ext4 makes itself. It cannot be mended while the program has files there: the
// program refuses at once until it is told to end, and ends.
//
// In the moment of the error the kernel may report syncs as done that are not,
// so an acknowledged event may be missing. The trace then has to show that it
// was written and that its sync returned without an error.
func TestFaultDiskError(t *testing.T) {
	t.Parallel()
	needsAll(t)
	needsTools(t, "strace", "findmnt")
	h := newFaultHome(t, "CALIPER_CONTENT_ENCODING=none")
	image := mountDisk(t, h.data(""), "128")
	trace := filepath.Join(t.TempDir(), "trace")
	s := h.serveAs(h.traced(trace, "serve", "--init"))
	load := h.sensors(s)
	s.flows(300)
	breakDisk(t, h.data(""))
	s.ready(503)
	for range 3 {
		a := s.post(envelope("", eventID("disk", "error")))
		a.want(t, 503, "Events cannot be stored now.")
		if a.took > 4*time.Second {
			t.Errorf("refused after %v by a store that is known to be broken", a.took)
		}
	}
	load.signal(syscall.SIGSTOP) // so that the numbers are the last ones
	first := s.settled()
	s.signal(syscall.SIGTERM)
	t.Logf("exit %d after SIGTERM", s.wait())
	load.signal(syscall.SIGCONT)
	if err := run("umount", h.data("")); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("fsck.ext4", "-p", image).CombinedOutput() // its exit code tells that it mended something
	t.Logf("fsck: %s", out)
	if err := mount(image, h.data("")); err != nil {
		t.Fatal(err)
	}
	s = h.serve()
	s.flows(300)
	r := load.ended()
	synced := syncedEvents(t, h, trace)
	for _, span := range r.Ledger.Missing.Spans {
		for _, id := range span.IDs {
			if !synced[id] {
				t.Errorf("%s was acknowledged without a sync, and is missing", id)
			}
		}
	}
	if n := r.Ledger.Missing.Events; n > 0 {
		t.Logf("the filesystem lost %d events whose sync it had reported as done", n)
	}
	s.accounts(r, int(r.Ledger.Missing.Events), first) // what is missing had been stored
	s.stop()
}

// A disk that stands still under the store: the store can neither write nor end.
// The program refuses meanwhile, and ends itself, so that its supervisor starts
// it on a disk that works.
func TestFaultDiskStandsStill(t *testing.T) {
	t.Parallel()
	needsAll(t)
	h := newFaultHome(t)
	mountDisk(t, h.data(""), "128")
	s := h.serve()
	load := h.sensors(s)
	s.flows(300)
	thaw := freeze(t, h.data(""))
	s.ready(503)
	// Of a program that has given up nobody can ask the last numbers. So its
	// numbers and those of the next one add up, and the ledger alone says what the
	// two have stored.
	s.settledUnder(load)
	givesUp(t, s, thaw)
	s = h.serve()
	s.flows(300)
	load.proved()
	s.addsUp()
	s.stop()
}

// freeze has the disk mounted at dir stand still until it is thawed.
func freeze(t *testing.T, dir string) (thaw func() error) {
	t.Helper()
	needsTools(t, "fsfreeze")
	if err := run("fsfreeze", "-f", dir); err != nil {
		lacking(t, "needs to have a disk stand still: %v", err)
	}
	thaw = sync.OnceValue(func() error { return run("fsfreeze", "-u", dir) })
	t.Cleanup(func() { _ = thaw() }) // or nothing could be unmounted
	return thaw
}

// givesUp demands that s ends by itself, on a disk that stands still and is then
// thawed.
func givesUp(t *testing.T, s *server, thaw func() error) {
	t.Helper()
	within(t, 3*patience, "the program gives up", func() bool { return strings.Contains(s.stderr.String(), "the store does not end") })
	if err := thaw(); err != nil { // what waits for the disk ends only then
		t.Fatal(err)
	}
	if code := s.wait(); code == 0 {
		t.Error("exit 0 of a program that gave up")
	}
}

// The same where nobody sends anything: the program finds it out by itself.
func TestFaultDiskStandsStillIdle(t *testing.T) {
	t.Parallel()
	needsAll(t)
	h := newFaultHome(t)
	mountDisk(t, h.data(""), "64")
	s := h.serve()
	s.stored(eventID("disk", "idle"))
	thaw := freeze(t, h.data(""))
	within(t, 3*patience, "it is noticed", func() bool { return strings.Contains(s.stderr.String(), "the disk stands still") })
	s.ready(503)
	s.holds(1)
	givesUp(t, s, thaw)
	s = h.serve()
	s.stored(eventID("disk", "idle", "again"))
	s.addsUp()
	if n := len(h.tail("standard")); n != 2 {
		t.Errorf("%d events are stored, 2 were acknowledged", n)
	}
	s.stop()
}

// breakDisk makes ext4 meet an error, after which it is read-only.
func breakDisk(t *testing.T, dir string) {
	t.Helper()
	out, err := exec.Command("findmnt", "-no", "SOURCE", dir).Output()
	if err != nil {
		t.Fatalf("findmnt: %v", err)
	}
	device := filepath.Base(strings.TrimSpace(string(out)))
	if err := os.WriteFile("/sys/fs/ext4/"+device+"/trigger_fs_error", []byte("made by a test"), 0); err != nil {
		lacking(t, "needs a kernel that can break ext4: %v", err)
	}
}

// A store that cannot be written to from the start is no store.
func TestFaultStartReadOnly(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t)
	mountDisk(t, h.data(""), "64")
	s := h.serve()
	s.stored(eventID("read-only"))
	s.stop()
	if err := run("mount", "-o", "remount,ro", h.data("")); err != nil {
		t.Fatal(err)
	}
	if r := h.run("serve"); r.code == 0 || !strings.Contains(r.stderr, "read-only") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

// refusedAsFull counts requests that were told so.
const refusedAsFull = `caliper_requests_refused_total{reason="full"}`

// A store that is full by its own limit refuses at once, keeps what it has, and
// goes on when an operator raises the limit.
func TestFaultStoreFull(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t, "CALIPER_STORE_BYTES=2MiB", "CALIPER_CONTENT_ENCODING=none")
	s := h.serve()
	load := h.sensors(s)
	eventually(t, "the store is full", func() bool { return s.metric(refusedAsFull) > 20 })
	h.env = append(h.env, "CALIPER_STORE_BYTES=256MiB")
	h.must("topics", "apply", "--yes")
	s.flows(300)
	r := load.proved()
	if len(r.Failures) > 0 || r.Ledger.UnclearStored > 0 {
		t.Errorf("requests without an answer: %v; %d events are stored of which a sensor was told that the store is full", r.Failures, r.Ledger.UnclearStored)
	}
	s.accounts(r, 0)
	s.stop()
}

// The topic that keeps what was refused meets an error alone. It has nobody to
// wait for it, and comes back all the same.
func TestFaultRejectedFrozen(t *testing.T) {
	t.Parallel()
	needsTools(t, "chattr")
	h := newFaultHome(t)
	mountDisk(t, h.data(""), "64")
	s := h.serve()
	kept := func() bool {
		a := s.post(strings.Replace(envelope("", eventID("faulty")), "NavigatedTo", "Unheard", 1))
		return strings.Contains(a.body, `"rejected:`)
	}
	eventually(t, "what is refused is kept", kept)
	files := h.data("jetstream/$G/streams/caliper-rejected/msgs")
	if err := run("chattr", "-R", "+i", files); err != nil {
		lacking(t, "needs to forbid writing: %v", err)
	}
	eventually(t, "what is refused is not kept", func() bool { return !kept() && s.metric("caliper_store_trips_total") > 0 })
	if err := run("chattr", "-R", "-i", files); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what is refused is kept again", kept)
	s.ready(200)
	s.stored(eventID("beside"))
	s.holds(len(h.tail("standard")))
	s.stop()
}

// The server is away and somebody else fills the disk under the spool.
func TestFaultSpoolDiskFull(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	h := externalHome(t, withUser(n), "CALIPER_SPOOL_DIR=spool")
	spool := filepath.Join(h.dir, "spool")
	mountDisk(t, spool, "128")
	s := h.serve()
	load := h.sensors(s)
	for range rounds(1, 5) {
		s.flows(200)
		n.Kill()
		s.flows(200) // into the spool
		filler := filepath.Join(spool, "filler")
		fillDisk(t, filler)
		s.ready(503)
		s.post(envelope("", eventID("spool", "full"))).want(t, 503, "Events cannot be stored now.")
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		s.ready(200)
		s.flows(200)
		n.Restart()
		s.straight()
	}
	s.livedThrough(load, 0)
}

// The server is away for longer than the spool has room.
func TestFaultSpoolFull(t *testing.T) {
	t.Parallel()
	n := natstest.Start(t, natsAuthorization())
	h := externalHome(t, withUser(n), "CALIPER_SPOOL_DIR=spool", "CALIPER_SPOOL_BYTES=16MiB", "CALIPER_CONTENT_ENCODING=none")
	s := h.serve()
	load := h.sensors(s, "-items", "50:1", "-faulty", "0")
	for range rounds(1, 4) {
		s.flows(200)
		full := s.metric(refusedAsFull)
		n.Kill()
		eventually(t, "the spool is full", func() bool { return s.metric(refusedAsFull) > full+20 })
		n.Restart()
		s.straight()
		s.flows(200)
	}
	s.livedThrough(load, 0)
}
