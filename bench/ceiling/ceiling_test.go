//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"caliperedge/bench/corpus"
	"caliperedge/validate"
)

// TestMain is ceiling, floor or prototype where the program under test starts itself as that.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{constantCommand, floorCommand, prototypeCommand}, os.Args[1]) {
		main()
	}
	os.Exit(m.Run())
}

// outcome is how a run of the program has ended.
type outcome struct {
	code           int
	report         Report // as its JSON has it
	stdout, stderr string
}

// runProgram runs the program and sees that nothing is left of its folder.
func runProgram(t *testing.T, ctx context.Context, args ...string) outcome {
	t.Helper()
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "report.json")
	var stdout, stderr bytes.Buffer
	o := outcome{code: run(ctx, append([]string{"-dir", dir, "-json", file}, args...), &stdout, &stderr)}
	o.stdout, o.stderr = stdout.String(), stderr.String()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("exit %d\n%s\n%s", o.code, o.stdout, o.stderr)
		}
	})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, o.stderr)
	}
	if err := json.Unmarshal(text, &o.report); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return o
}

// medians are those of a row's subjects, by their names.
func (r *Row) medians() map[string]sample {
	out := map[string]sample{}
	for _, s := range r.Subjects {
		out[s.Name] = sample{}
		for f, v := range s.Figures {
			out[s.Name][f] = v.Median
		}
	}
	return out
}

// TestMeasurements measures all that there is, but for a moment: all endpoints, and one that syncs slowly.
func TestMeasurements(t *testing.T) {
	t.Parallel()
	const name = "kind=mix/items=1/connections=64/load=closed"
	dir := t.TempDir()
	set, err := parseFlags([]string{"-rounds", "1", "-duration", "300ms", "-warmup", "50ms", "-dir", dir, "-json", dir + "/json", "-rows", name}, io.Discard)
	if err != nil || len(set.rows) != 1 {
		t.Fatalf("%v, %v", set.rows, err)
	}
	set.buildFlags = nil // as the tests are built: most of it is in the build cache
	traces := exec.Command("strace", "-D", "-f", "--seccomp-bpf", "-o", os.DevNull, "-e", "trace=fsync", "true").Run() == nil
	if traces {
		slow, err := slowSyncRows("30ms")
		if err != nil {
			t.Fatal(err)
		}
		set.rows = append(set.rows, slow[0])
	}
	var progress bytes.Buffer
	report, err := measureAll(t.Context(), set, &progress)
	if err != nil || report.Rows[0].Name != name || len(report.Errors) > 0 {
		t.Fatalf("%v\n%s", err, &progress)
	}
	checkEndpoints(t, report.Rows[0].medians())
	if m := report.Machine; m.Processors < 1 || m.CPU == "" || m.Kernel == "" || m.Go == "" || m.LoadAverage == "" || !(m.SyncMillis > 0) {
		t.Errorf("%+v", m)
	}
	// The share, memory and bytes on disk are judged; here the share and the bytes on disk.
	report.judgeAll()
	if b := report.Bars; len(b) != 6 || b[0].Row != name || b[0].Subject != embedded.name || b[0].Want != ">= 0.45" {
		t.Errorf("%+v", b)
	}
	if !traces {
		t.Skip("strace is not here, or may not trace: no slow sync")
	}
	// No answer comes before the sync that it waits for.
	found := report.Rows[1].medians()
	if s := found["sync+30ms"]; s[p50] < 30 || !(s[batchRecords] >= 1) || len(found) != 2 {
		t.Errorf("%v", found)
	}
}

// TestGrowth: what is asked of the endpoints beside plain is what their names say.
func TestGrowth(t *testing.T) {
	t.Parallel()
	args := []string{"-growth", "-rounds", "1", "-duration", "500ms", "-warmup", "200ms", "-dir", t.TempDir(), "-json", t.TempDir() + "/json"}
	set, err := parseFlags(append(args, "-rows", "kind=engage/items=100/"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	set.buildFlags, set.rows = nil, set.rows[1:] // the first is of plain alone
	var progress bytes.Buffer
	report, err := measureAll(t.Context(), set, &progress)
	if err != nil || len(report.Rows) != 1 {
		t.Fatalf("%v\n%s", err, &progress)
	}
	found := report.Rows[0].medians()
	for subject, times := range map[string]float64{"plain": 1, "copies=1": 2, "copies=2": 3, "copies=4": 5, "encrypted": 1, "no-window": 1, "servers=1": 1, "servers=3": 3} {
		most := 1.4 * times
		if subject == "servers=3" { // their logs may have everything once more
			most *= 2
		}
		s := found[subject]
		if grown := s[diskShare] / found["plain"][diskShare]; !(grown > 0.6*times && grown < most) {
			t.Errorf("%s: %v, %.2f times the disk of plain, want about %v", subject, s, grown, times)
		}
	}
	if less := found["plain"][residentMiB] - found["no-window"][residentMiB]; less < 50 {
		t.Errorf("without a window the endpoint takes %.0f MiB less, want the window's", less)
	}
}

// checkEndpoints checks a closed loop on all endpoints.
func checkEndpoints(t *testing.T, found map[string]sample) {
	t.Helper()
	first := found[ceiling.name]
	for subject, s := range found {
		for _, f := range []figure{requestRate, eventRate, endpointMicros, serversMicros, generatorMicros, generatorShare, busyShare, p50, residentMiB} {
			if !(s[f] > 0) {
				t.Errorf("%s: %s is %v", subject, f, s[f])
			}
		}
		if s[p99] < s[p50] || s[peakMiB] < s[residentMiB] {
			t.Errorf("%s: %v", subject, s)
		}
		same(t, subject+": "+string(serversMicros), s[serversMicros], s[endpointMicros]+s[storeMicros])
		if subject == ceiling.name {
			if _, stores := s[diskShare]; stores {
				t.Errorf("%s: %v", subject, s)
			}
			continue
		}
		same(t, subject+": "+string(share), s[share], s[requestRate]/first[requestRate])
		same(t, subject+": "+string(aboveCeiling), s[aboveCeiling], (s[serversMicros]-first[serversMicros])/s[sonicMicros])
		if subject == floor.name {
			if _, shared := s[floorShare]; shared || !(s[share] > 0) {
				t.Errorf("%s: %v", subject, s)
			}
			continue
		}
		same(t, subject+": "+string(floorShare), s[floorShare], s[requestRate]/found[floor.name][requestRate])
		if !(s[diskShare] > 0.05 && s[diskShare] < 2) || !(s[batchRecords] >= 1) || !(s[sonicMicros] > 0) {
			t.Errorf("%s: %v", subject, s)
		}
	}
	if len(found) != 5 || !(found[external.name][storeMicros] > 0) {
		t.Errorf("%v", found)
	}
}

// TestRules: every event of Engage is enriched, with keys of both kinds, and rules apply to the mix.
func TestRules(t *testing.T) {
	t.Parallel()
	set, err := parseFlags([]string{"-dir", t.TempDir(), "-json", t.TempDir() + "/json", "-rows", "kind=engage/items=100/"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	set.buildFlags, set.rows = nil, nil // no external server
	b, err := prepare(t.Context(), set, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	for _, l := range []load{{corpus.Engage, 100}, {corpus.Mix, 100}} {
		dir := t.TempDir()
		e, err := b.start(t.Context(), l, withRules, dir)
		if err != nil {
			t.Fatal(err)
		}
		topics := map[string]int{}
		for _, body := range b.envelopes(l) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url, bytes.NewReader(body.Body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer "+e.token)
			request.Header.Set("Content-Type", "application/json")
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			var said struct{ Topics map[string]string }
			if err := json.NewDecoder(answer.Body).Decode(&said); err != nil || answer.StatusCode != http.StatusOK {
				t.Errorf("%v: %d, %v", l, answer.StatusCode, err)
			}
			answer.Body.Close()
			for topic := range said.Topics {
				topics[topic]++
			}
		}
		if err := e.stop(); err != nil {
			t.Error(err)
		}
		if all := len(b.envelopes(l)); l.kind == corpus.Engage && (topics["enriched"] != all || len(topics) != 1) {
			t.Errorf("%d envelopes of Engage went to %v", all, topics)
		} else if l.kind == corpus.Mix && (topics["standard"] != all || topics["live"] == 0) {
			t.Errorf("%d envelopes of the mix went to %v", all, topics)
		}
	}
}

func same(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-9*math.Abs(want)) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// fakePrograms has the program build a load generator that is a script.
func fakePrograms(t *testing.T, script string) {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	goBinary := filepath.Join(strings.TrimSpace(string(root)), "bin", "go")
	fake := filepath.Join(t.TempDir(), "go")
	text := fmt.Sprintf(`#!/bin/sh
case "$1 $3" in
build*/loadtest) mkdir -p "${3%%/*}" && printf '#!/bin/sh\n%%s\n' '%[2]s' >"$3" && chmod +x "$3" ;;
build*) mkdir -p "${3%%/*}" && cp '%[1]s' "$3" ;;
*) exec '%[1]s' "$@" ;;
esac
`, goBinary, script)
	if err := os.WriteFile(fake, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GO", fake)
}

// TestBadAnswers: they make the exit status, and their figures count for nothing.
func TestBadAnswers(t *testing.T) {
	fakePrograms(t, "echo verdict: BAD; exit 1")
	o := runProgram(t, t.Context(), "-rounds", "2", "-rows", "kind=mix/items=1/connections=64/load=closed")
	if o.code != 1 || len(o.report.Errors) != 2 || !strings.Contains(o.report.Errors[0], "verdict: BAD") || o.report.Rows[0].Subjects[0].Figures != nil {
		t.Errorf("exit %d, errors %q, %v", o.code, o.report.Errors, o.report.Rows[0])
	}
}

// TestInterrupt: nothing stays behind.
func TestInterrupt(t *testing.T) {
	began := filepath.Join(t.TempDir(), "began")
	fakePrograms(t, "touch "+began+"; exec sleep 60")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(began); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	o := runProgram(t, ctx, "-rounds", "2", "-rows", "load=closed")
	if o.code != 1 || !strings.Contains(o.stderr, context.Canceled.Error()) {
		t.Errorf("exit %d", o.code)
	}
}

func TestFlags(t *testing.T) {
	for _, args := range []string{"-rows nothing", "-rows (", "-rounds 0", "-duration 0s", "-sync-delays 2s", "-sync-delays x", "-prototype -limit", "-encoding lz4", "-base no-such-revision", "-base HEAD -sync-delays 1ms", "more"} {
		var stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), io.Discard, &stderr); code != 1 || stderr.Len() == 0 {
			t.Errorf("%s: exit %d, %q", args, code, stderr.String())
		}
	}
}

// TestWrk has wrk post its scripts to a server that reads what comes: envelopes that conform, no id twice, or all of them.
func TestWrk(t *testing.T) {
	path, err := exec.LookPath("wrk")
	if err != nil {
		if os.Getenv("CALIPERTEST_NOSKIP") != "" { // as in e2e: what is said to be tested is
			t.Fatal("needs wrk, which is not installed")
		}
		t.Skip("needs wrk, which is not installed")
	}
	for _, generator := range []string{wrk, wrkRepeated} {
		t.Run(generator, func(t *testing.T) {
			t.Parallel()
			testWrk(t, path, generator)
		})
	}
}

func testWrk(t *testing.T, path, generator string) {
	const items = 20
	var mu sync.Mutex
	ids, faults := map[string]int{}, 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // wrk has ended
		}
		envelope, err := validate.Parse(body, validate.Options{})
		mu.Lock()
		defer mu.Unlock()
		if err != nil || r.Method != http.MethodPost || envelope.Conformant() != items || r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("Content-Type") != "application/json" {
			faults++
			return
		}
		for _, item := range envelope.Items() {
			ids[string(item.ID)]++
		}
		envelope.Release()
	}))
	defer s.Close()
	b := &bench{settings: settings{duration: time.Second}, wrk: path, bodies: map[load][]corpus.Envelope{}}
	e := &endpoint{url: s.URL + "/", token: "secret", server: &process{log: filepath.Join(t.TempDir(), "log")}}
	found, err := b.runWrk(t.Context(), e, row{load: load{corpus.Mix, items}, connections: 2, generator: generator})
	if err != nil || !(found[requestRate] > 0) || !(found[generatorMicros] > 0) {
		t.Errorf("%v, %v", found, err)
	}
	mu.Lock()
	defer mu.Unlock()
	twice := 0
	for _, n := range ids {
		if n > 1 {
			twice++
		}
	}
	if want := map[string]int{wrk: 0, wrkRepeated: items}[generator]; len(ids) < items || faults > 0 || twice != want || generator == wrkRepeated && len(ids) != items {
		t.Errorf("%d ids, %d of them more than once, %d faulty requests", len(ids), twice, faults)
	}
}

func TestSonicPass(t *testing.T) {
	b := &bench{bodies: map[load][]corpus.Envelope{}}
	one, err := sonicPass(b.envelopes(load{corpus.Mix, 1}))
	if err != nil || !(one > 0) {
		t.Errorf("%v, %v", one, err)
	}
	broken := []corpus.Envelope{{Body: []byte("{\"data\":[{\"id\":\"\x01\"}]}"), Items: 1}}
	if _, err := sonicPass(broken); err == nil {
		t.Error("a raw control character passes: the yardstick is not strict")
	}
}

func TestHalfRate(t *testing.T) {
	r := row{load{corpus.Mix, 1}, 256, half + external.name, []subject{ceiling, external}}
	b := &bench{maxima: map[maximum]float64{{r.load, 256, embedded.name}: 7, {r.load, 256, external.name}: 5000, {r.load, 64, external.name}: 9}}
	if rate, err := b.halfRate(t.Context(), r); rate != 2500 || err != nil {
		t.Errorf("%v, %v", rate, err)
	}
	r.generator = closed
	if rate, err := b.halfRate(t.Context(), r); rate != 0 || err != nil {
		t.Errorf("%v, %v", rate, err)
	}
}

// TestArithmetic: shares are of the same round, medians of the rounds, and bars look at medians.
func TestArithmetic(t *testing.T) {
	r := row{load{corpus.Mix, 100}, 64, closed, []subject{ceiling, embedded}}
	report := &Report{Rows: []*Row{{Name: r.String(), row: r, Subjects: []Subject{{Name: ceiling.name}, {Name: embedded.name}}}}}
	for _, round := range []struct{ ceiling, embedded float64 }{{1000, 500}, {400, 80}, {600, 180}, {2000, 200}} {
		samples := map[string]sample{
			ceiling.name:  {requestRate: round.ceiling, serversMicros: 10},
			embedded.name: {requestRate: round.embedded, serversMicros: 110, eventRate: 800_000},
		}
		samples[embedded.name].compare(samples[ceiling.name], r, 40)
		report.Rows[0].add(samples)
	}
	report.judgeAll()
	figures := report.Rows[0].Subjects[1].Figures
	if s := figures[share]; s != (Spread{0.25, 0.1, 0.5}) {
		t.Errorf("share %v", s)
	}
	if s := figures[requestRate]; s != (Spread{190, 80, 500}) {
		t.Errorf("requests %v", s)
	}
	if s := figures[aboveCeiling]; s.Median != 2.5 {
		t.Errorf("above the ceiling %v", s)
	}
	met := map[string]bool{}
	for _, b := range report.Bars {
		met[string(b.Name)+" "+b.Want] = b.Met
	}
	want := map[string]bool{
		"share of the ceiling's requests/s >= 0.25":                             true,
		"processor time above the ceiling's, in strict passes of sonic <= 2.00": false,
		"durable events/s >= 700000":                                            true,
		"durable events/s >= 1000000":                                           false,
	}
	if fmt.Sprint(met) != fmt.Sprint(want) {
		t.Errorf("bars %v, want %v", met, want)
	}

	open := row{load{corpus.Mix, 1}, 256, half + embedded.name, []subject{ceiling, embedded}}
	s := sample{requestRate: 100, p99: 14}
	s.compare(sample{requestRate: 100, p99: 1}, open, 0)
	if _, shared := s[share]; shared || s[p99OfAllowed] != 2 {
		t.Errorf("open loop: %v", s)
	}
}

func TestMedian(t *testing.T) {
	for want, values := range map[float64][]float64{3: {3}, 2.5: {1, 2, 3, 9}, 7: {1, 7, 8}} {
		if got := median(values); got != want {
			t.Errorf("median of %v is %v", values, got)
		}
	}
}
