package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// step is a command of a page, and what the page says that it prints.
type step struct{ command, prints string }

// steps are the commands of the console blocks of a page, in order.
func steps(t *testing.T, page string) (all []step) {
	t.Helper()
	for _, b := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(b[1], "$ ") {
			t.Fatalf("a console block does not begin with a command:\n%s", b[1])
		}
		for line := range strings.Lines(b[1]) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				all = append(all, step{command: strings.TrimSpace(command)})
			} else {
				all[len(all)-1].prints += line
			}
		}
	}
	return all
}

// pattern is what output has to match: the page's, where … stands for anything
// in a line, or for any lines where it has a line to itself. Times of day differ.
func (s step) pattern() *regexp.Regexp {
	received := regexp.MustCompile(`"received":"[^"]*"`)
	text := regexp.QuoteMeta(received.ReplaceAllString(strings.TrimSuffix(s.prints, "\n"), `"received":"TIME"`))
	text = regexp.MustCompile(`(?m)^…$`).ReplaceAllLiteralString(text, `(?s:.*)`)
	text = strings.NewReplacer("…", ".*", `"received":"TIME"`, `"received":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`).Replace(text)
	return regexp.MustCompile(`^` + text + `\n?$`)
}

// terminal is a shell that runs one command after another. What they print is
// in files outside of the folder that they run in.
type terminal struct {
	*process
	in       io.Writer
	out, log string // what the last command prints, and what those in the background log
	n        int
}

func (h *home) terminal() *terminal {
	h.t.Helper()
	cmd := exec.Command("sh")
	cmd.Dir, cmd.Env = h.dir, append(h.env, "PATH="+filepath.Dir(suite.edge)+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	x := &terminal{process: launch(h.t, cmd), in: in, log: filepath.Join(h.t.TempDir(), "log")}
	h.t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with what it has started
		log, _ := os.ReadFile(x.log)                    // there is none where it failed early
		logged(string(log))
		if h.t.Failed() {
			h.t.Logf("the log:\n%s", log)
		}
	})
	return x
}

// run runs a command, which has to end well, and returns what it has printed to
// stdout and stderr, as they came. One in the background goes on, and logs.
func (x *terminal) run(command string) string {
	x.t.Helper()
	x.n++
	x.out = filepath.Join(filepath.Dir(x.log), fmt.Sprint(x.n))
	errors := "&1"
	if strings.HasSuffix(command, "&") {
		errors = x.log
	}
	fmt.Fprintf(x.in, "{ %s\n} </dev/null >%s 2>%s\necho end of %d: $?.\n", command, x.out, errors, x.n)
	status := ""
	eventually(x.t, command, func() bool {
		status = between(x.stdout.String(), fmt.Sprintf("end of %d: ", x.n), ".\n")
		return status != ""
	})
	if status != "0" {
		x.t.Fatalf("%s: exit %s\n%s", command, status, fileText(x.t, x.out))
	}
	return fileText(x.t, x.out)
}

// TestFirstEventPage does what docs/first-event.md says: its commands, in an
// empty folder with its files, print what it shows.
func TestFirstEventPage(t *testing.T) {
	t.Parallel()
	needsTools(t, "curl") // the page posts with it
	page := fileText(t, "../docs/first-event.md")
	h := newHome(t)
	for name, language := range map[string]string{"caliper.yaml": "yaml", "event.json": "json"} {
		block := between(page, "```"+language+"\n", "```")
		if block == "" || strings.Count(page, "```"+language+"\n") != 1 || !strings.Contains(page, "`"+name+"`") {
			t.Fatalf("the page does not have one block that is %s", name)
		}
		h.write(name, block)
	}
	all := steps(t, page)
	if len(all) < 12 {
		t.Fatalf("%d commands in the page", len(all))
	}
	x, url := h.terminal(), ""
	for _, s := range all {
		if file, ok := strings.CutPrefix(s.command, "cat "); ok {
			h.write(file, s.prints) // the page shows the file so
		}
		want, command := s.pattern(), strings.ReplaceAll(s.command, "http://127.0.0.1:8080", url)
		got := x.run(command)
		switch {
		case strings.HasSuffix(command, "&"):
			url = "http://" + logLine(t, x.log, "serving", 1).Listen
			got = fileText(t, x.out)
		case strings.Contains(command, "token add"):
			secret(strings.TrimSpace(x.run(`echo "$TOKEN"`)), "a token")
			logLine(t, x.log, "token map loaded", 2)
		case strings.Contains(command, "tail enriched"): // what moves by itself takes a moment
			for end := time.Now().Add(patience); got == "" && time.Now().Before(end); time.Sleep(pollEvery) {
				got = x.run(command)
			}
		}
		if !want.MatchString(got) {
			t.Errorf("%s printed:\n%s\nthe page has:\n%s", s.command, got, s.prints)
		}
	}
	x.run("kill $!; wait $!")
}

// logLine waits for a line with a message in a log, as JSON, that counts so many
// tokens.
func logLine(t *testing.T, file, msg string, tokens int) (line struct {
	Msg, Listen string
	Tokens      int
}) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q with %d tokens is logged", msg, tokens), func() bool {
		for text := range strings.Lines(fileText(t, file)) {
			if json.Unmarshal([]byte(text), &line) == nil && line.Msg == msg && line.Tokens >= tokens {
				return true
			}
		}
		return false
	})
	return line
}

func fileText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
