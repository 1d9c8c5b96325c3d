package e2e_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// call is a system call out of a trace.
type call struct {
	name string
	args string // as strace prints them
	ret  int64
	// entered and left say which end of the call this is. In most it is both: no
	// other thread came between.
	entered, left bool
	thread        string
}

// traceCalls are those that change files, and those that carry requests and
// answers.
const traceCalls = "openat,read,write,pread64,pwrite64,writev,lseek,fsync,fdatasync,ftruncate,renameat,renameat2,unlinkat,mkdirat,close,accept4"

// traced is a command that runs another under strace, which writes to path. The
// traced program is the child, strace a grandchild.
func (h *home) traced(path string, args ...string) []string {
	return append([]string{"strace", "-D", "-f", "--seccomp-bpf", "-y", "-s", "10000000", "-o", path, "-e", "trace=" + traceCalls, suite.edge}, args...)
}

var callLine = regexp.MustCompile(`(?s)^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$`)

// readTrace calls f for each end of each call in the order in which they
// happened.
func readTrace(t *testing.T, path string, f func(c call)) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begun := make(map[string]string) // by thread: what has been printed of its call
	for line := range bytes.Lines(text) {
		m := callLine.FindStringSubmatch(strings.TrimSuffix(string(line), "\n"))
		if m == nil {
			continue // a signal, or the end of a thread
		}
		c := call{thread: m[1], name: m[2] + m[3], args: m[4]}
		if m[2] != "" {
			c.args = begun[c.thread] + c.args
		} else {
			c.entered = true
		}
		if rest, ok := strings.CutSuffix(c.args, "<unfinished ...>"); ok {
			begun[c.thread] = rest
			c.args = rest
			f(c)
			continue
		}
		i := strings.LastIndex(c.args, ") = ")
		if i < 0 {
			i = strings.LastIndex(c.args, ")") // padded, or of a call that never returned
		}
		if i < 0 {
			continue
		}
		_, ret, _ := strings.Cut(c.args[i:], "= ")
		digits := strings.IndexFunc(ret+" ", func(r rune) bool { return r != '-' && (r < '0' || r > '9') })
		if c.ret, err = strconv.ParseInt(ret[:digits], 10, 64); err != nil {
			continue // killed in it
		}
		c.args, c.left = c.args[:i], true
		f(c)
	}
}

// fd is the descriptor that is the first argument.
func (c call) fd() string {
	digits, _, _ := strings.Cut(c.args, "<")
	return digits
}

// file is the path of that descriptor.
func (c call) file() string { return between(c.args, "<", ">") }

// text is the n-th string among the arguments, counted from 0.
func (c call) text(n int) []byte {
	rest := c.args
	for ; ; n-- {
		_, after, ok := strings.Cut(rest, `"`)
		if !ok {
			return nil
		}
		end := 0
		for end < len(after) && after[end] != '"' {
			if after[end] == '\\' {
				end++
			}
			end++
		}
		if n == 0 {
			return unescape(after[:min(end, len(after))])
		}
		rest = after[min(end+1, len(after)):]
	}
}

// paths are those among the arguments, each joined to the folder before it.
func (c call) paths() []string {
	var all []string
	rest := c.args
	for n := 0; ; n++ {
		name := c.text(n)
		if name == nil {
			return all
		}
		path := string(name)
		if !filepath.IsAbs(path) {
			path = filepath.Join(between(rest, "<", ">"), path)
		}
		all = append(all, path)
		_, rest, _ = strings.Cut(rest, `"`)
		_, rest, _ = strings.Cut(rest, `"`)
	}
}

// number is the last argument.
func (c call) number() int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(c.args[strings.LastIndexByte(c.args, ',')+1:]), 0, 64)
	return n
}

// unescape reads a string as C has it.
func unescape(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = append(out, s[i])
			continue
		}
		i++
		if at := strings.IndexByte(`ntrvf"\`, s[i]); at >= 0 {
			out = append(out, "\n\t\r\v\f\"\\"[at])
			continue
		}
		n, digits := 0, 0
		for ; digits < 3 && i < len(s) && s[i] >= '0' && s[i] <= '7'; digits++ {
			n = n*8 + int(s[i]-'0')
			i++
		}
		i--
		out = append(out, byte(n))
	}
	return out
}
