package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// clockName is the environment variable that names the file with the seconds by
// which a clocked program's clock is wrong.
const clockName = "CALIPERTEST_CLOCK"

// skewed is put in the place of time.Now's first line. It sets the wall clock
// alone, as the system's clock is set: what has elapsed is measured by the
// monotonic one. The C library's tricks with clocks do nothing to a Go program.
const skewed = `
	sec, nsec, mono := runtimeNow()
	sec += clockSkew.Load()
`

const skewSource = `
var clockSkew atomic.Int64

// The file is read again and again, not by Now: that is called where no system
// call may be made.
func init() {
	name, _ := syscall.Getenv("` + clockName + `")
	if name == "" {
		return
	}
	readClock(name)
	go func() {
		for {
			Sleep(10 * Millisecond)
			readClock(name)
		}
	}()
}

func readClock(name string) {
	fd, err := open(name)
	if err != nil {
		return
	}
	defer closefd(fd)
	var text [32]byte
	n, _ := read(fd, text[:])
	var seconds, sign int64 = 0, 1
	for _, c := range text[:max(n, 0)] {
		switch {
		case c == '-':
			sign = -1
		case c >= '0' && c <= '9':
			seconds = seconds*10 + int64(c-'0')
		}
	}
	clockSkew.Store(sign * seconds)
}
`

// clockedBinary builds the program with a clock that can be set, once: all of it,
// its libraries and the server in it, asks the time of the standard library.
var clockedBinary = sync.OnceValues(func() (string, error) {
	root, err := goEnv("GOROOT")
	if err != nil {
		return "", err
	}
	original := filepath.Join(root, "src", "time", "time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	const first = "\n\tsec, nsec, mono := runtimeNow()\n"
	source := string(text)
	now := strings.Index(source, "func Now() Time {"+first)
	if now < 0 {
		return "", fmt.Errorf("%s does not look as expected", original)
	}
	source = source[:now] + strings.Replace(source[now:], first, skewed, 1) + skewSource
	source = strings.Replace(source, "import (", "import (\n\t\"sync/atomic\"\n\t\"syscall\"", 1)
	changed := filepath.Join(suite.dir, "time.go")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	list := filepath.Join(suite.dir, "overlay.json")
	if err := os.WriteFile(changed, []byte(source), 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	path := filepath.Join(suite.dir, "caliper-edge-clocked")
	return path, goBuild(path, "caliperedge", "-overlay", list)
})

// clocked is a home whose program has a clock that can be set.
type clocked struct {
	*home
	binary, file string
}

func newClocked(t *testing.T) *clocked {
	t.Helper()
	binary, err := clockedBinary()
	if err != nil {
		t.Fatal(err)
	}
	c := &clocked{binary: binary, file: filepath.Join(t.TempDir(), "clock")}
	c.home = newFaultHome(t, clockName+"="+c.file)
	c.set(0)
	return c
}

// set makes the clock wrong by d.
func (c *clocked) set(d time.Duration) {
	c.t.Helper()
	next := c.file + ".next"
	if err := os.WriteFile(next, []byte(fmt.Sprint(int64(d.Seconds()))), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(next, c.file); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clocked) serve() *server { return c.serveAs([]string{c.binary, "serve", "--init"}) }

// The clock is set back and forth under load. Nothing is refused for that, and
// nothing is lost.
func TestFaultClock(t *testing.T) {
	t.Parallel()
	needsAll(t)
	c := newClocked(t)
	s := c.serve()
	load := c.sensors(s, "-since-start")
	const day = 24 * time.Hour
	for _, d := range []time.Duration{-time.Minute, -7 * day, 10 * time.Second, 7 * day, -365 * day, 0} {
		c.set(d)
		eventually(t, "the program sees the clock", func() bool { return c.clockIs(s, d) })
		s.flows(300)
	}
	r := load.proved()
	if r.Statuses["503"] > 0 || len(r.Failures) > 0 {
		t.Errorf("answers %v, without an answer %v", r.Statuses, r.Failures)
	}
	s.accounts(r, 0)
	s.stop()
}

// clockIs tells whether the Date of an answer is so wrong.
func (c *clocked) clockIs(s *server, d time.Duration) bool {
	date, err := time.Parse(time.RFC1123, s.get(s.url+"/livez").header.Get("Date"))
	return err == nil && time.Until(date.Add(-d)).Abs() < 5*time.Second
}

// A store that was written by a clock that went ahead is opened, read and
// written by one that is right.
func TestFaultStoreOfTheFuture(t *testing.T) {
	t.Parallel()
	needsAll(t)
	c := newClocked(t)
	c.set(20 * 24 * time.Hour)
	s := c.serve()
	load := c.sensors(s, "-since-start")
	s.flows(500)
	s.kill()
	c.set(0)
	s = c.serve()
	s.flows(500)
	s.stop()
	s = c.serve()
	s.flows(500)
	load.proved()
	s.addsUp()
	s.stop()
}
