//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"caliperedge/bench/corpus"
)

// wrkBytes of different bodies, at least one, are in wrk's script: so many that a store which compresses does not find
// what was sent a moment ago.
const wrkBytes = 2 << 20

var wrkRate = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)

// runWrk makes a closed loop by wrk with one thread. It has no warm-up, counts whole seconds, and tells less than loadtest:
// whether shares are much the same with another generator is the question.
func (b *bench) runWrk(ctx context.Context, e *endpoint, r row) (sample, error) {
	script := filepath.Join(filepath.Dir(e.server.log), "post.lua")
	envelopes := b.envelopes(r.load)
	var text []byte
	if r.generator == wrkRepeated {
		text = wrkRepeatedScript(e.token, envelopes[0])
	} else {
		text = wrkScript(e.token, envelopes)
	}
	if err := os.WriteFile(script, text, 0o644); err != nil {
		return nil, err
	}
	seconds := max(1, math.Ceil((b.warmup + b.duration).Seconds()))
	cmd := own(exec.CommandContext(ctx, b.wrk, "-t1", "-c"+strconv.Itoa(r.connections), fmt.Sprintf("-d%.0fs", seconds),
		"--timeout", "10s", "-s", script, e.url))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("wrk: %w\n%s", err, tail(out))
	}
	rate := wrkRate.FindSubmatch(out)
	if rate == nil || bytes.Contains(out, []byte("Non-2xx")) || bytes.Contains(out, []byte("Socket errors")) {
		return nil, fmt.Errorf("wrk was not answered as it should be:\n%s", tail(out))
	}
	n, err := strconv.ParseFloat(string(rate[1]), 64)
	if err != nil {
		return nil, err
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return sample{requestRate: n, generatorMicros: float64(used.Microseconds()) / (n * seconds)}, nil
}

// wrkScript is the script by which wrk posts the envelopes one after the other, with a new id in each event: of the 36
// characters of an id the last 12 count up.
func wrkScript(token string, envelopes []corpus.Envelope) []byte {
	const counted = 12
	s := wrkHeaders(token)
	s.WriteString("local parcels = {\n")
	sum := 0
	for i, e := range envelopes {
		if sum += len(e.Body); i > 0 && sum > wrkBytes {
			break
		}
		s.WriteString("{")
		from := 0
		for _, at := range e.IDs {
			end := at + corpus.IDBytes
			writeLua(s, e.Body[from:end-counted])
			s.WriteString("\"\", ")
			from = end
		}
		writeLua(s, e.Body[from:])
		s.WriteString("},\n")
	}
	s.WriteString(`}
local turn, n = 0, 0
function request()
  turn = turn % #parcels + 1
  local parts = parcels[turn]
  for i = 2, #parts, 2 do
    n = n + 1
    parts[i] = string.format("%012x", n)
  end
  return wrk.format("POST", nil, nil, table.concat(parts))
end
`)
	return s.Bytes()
}

// wrkRepeatedScript is the script by which wrk posts one envelope as it is, again and again. It costs wrk nothing.
func wrkRepeatedScript(token string, e corpus.Envelope) []byte {
	s := wrkHeaders(token)
	s.WriteString("wrk.method = \"POST\"\nlocal parts = {")
	writeLua(s, e.Body)
	s.WriteString("}\nwrk.body = parts[1]\n")
	return s.Bytes()
}

// wrkHeaders is a script's beginning.
func wrkHeaders(token string) *bytes.Buffer {
	var s bytes.Buffer
	fmt.Fprintf(&s, "wrk.headers[\"Authorization\"] = \"Bearer %s\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\n", token)
	return &s
}

// writeLua writes bytes as a string of Lua, and a comma.
func writeLua(s *bytes.Buffer, text []byte) {
	s.WriteByte('"')
	for _, c := range text {
		if c < ' ' || c == '"' || c == '\\' || c == 0x7f {
			fmt.Fprintf(s, "\\%03d", c)
		} else {
			s.WriteByte(c)
		}
	}
	s.WriteString("\", ")
}
