//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// figure is something that is measured, by its name in the report.
type figure string

const (
	requestRate figure = "requests_per_second"
	eventRate   figure = "durable_events_per_second"
	dueRate     figure = "due_requests_per_second" // of an open loop
	// Processor time per request, the kernel's work included, in microseconds: of the endpoint, of the nats-server
	// beside it, of all of them, of the generator. The last also as a part of all processors.
	endpointMicros  figure = "endpoint_us_per_request"
	storeMicros     figure = "nats_server_us_per_request"
	serversMicros   figure = "servers_us_per_request"
	generatorMicros figure = "generator_us_per_request"
	generatorShare  figure = "generator_share_of_processors"
	// busyShare is the part of all processors that servers and generator take together: where it is well below 1, requests
	// wait for each other or for the disk, and not for a processor.
	busyShare figure = "busy_share_of_processors"
	p50, p99  figure = "p50_ms", "p99_ms"
	// Resident memory of the endpoint's process, nats-server not included, when the load has just ended and at its peak.
	residentMiB, peakMiB figure = "resident_mib", "peak_resident_mib"
	// diskShare is what the store grew by on disk for each byte of the bodies, warm-up included.
	diskShare figure = "disk_bytes_per_body_byte"
	// batchRecords is the mean number of records in a stored message, warm-up included.
	batchRecords figure = "records_per_message"

	// What follows compares a sample with others of the row in the same round, most with that of the first subject.

	share          figure = "share_of_first_requests_per_second"
	floorShare     figure = "share_of_floor_requests_per_second"
	prototypeShare figure = "share_of_prototype_requests_per_second"
	baseShare      figure = "share_of_base_requests_per_second"
	baseMicros     figure = "share_of_base_servers_us_per_request"
	sonicMicros    figure = "sonic_pass_us_per_request" // a strict pass over the body, see sonic.go
	aboveCeiling   figure = "servers_us_above_ceiling_per_sonic_pass"
	p99OfAllowed   figure = "p99_per_twice_ceiling_plus_5_ms"
)

// shareOf are the subjects of whose requests those of the others in the row are shares too.
var shareOf = map[subject]figure{floor: floorShare, prototype: prototypeShare}

// sample is what one measurement found. A figure that does not apply is absent.
type sample map[figure]float64

// maximum names a largest rate: of a subject, under a load, in a closed loop.
type maximum struct {
	load
	connections int
	subject     string
}

// measureRow lets the subjects take the load in turns and returns their samples by name; none where wrk is wanted and not
// there.
func (b *bench) measureRow(ctx context.Context, round int, r row) (map[string]sample, error) {
	if r.byWrk() && b.wrk == "" {
		return nil, nil
	}
	rate, err := b.halfRate(ctx, r)
	if err != nil {
		return nil, err
	}
	samples := map[string]sample{}
	for _, s := range turns(r.subjects, round) {
		if samples[s.name], err = b.measure(ctx, r, s, rate); err != nil {
			name := s.name
			if s == base {
				name += " " + b.base.given
			}
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(b.progress, "round %d/%d  %v  %s: %.0f requests/s\n", round+1, b.rounds, r, s.name, samples[s.name][requestRate])
		if r.generator == closed {
			b.maxima[maximum{r.load, r.connections, s.name}] = samples[s.name][requestRate]
		}
	}
	var pass float64
	if r.subjects[0] == ceiling && r.generator == closed {
		if pass, err = sonicPass(b.envelopes(r.load)); err != nil {
			return nil, err
		}
	}
	for _, s := range r.subjects[1:] {
		samples[s.name].compare(samples[r.subjects[0].name], r, pass)
		for of, f := range shareOf {
			if other := samples[of.name]; other[requestRate] > 0 && s != of && !strings.HasPrefix(r.generator, half) {
				samples[s.name][f] = samples[s.name][requestRate] / other[requestRate]
			}
		}
		if s == embedded {
			samples[s.name].compareBase(samples[base.name], r)
		}
	}
	return samples, nil
}

// turns is the order of the subjects in a round. It moves on by one in each and goes the other way in every other, so that
// none always comes after the same one, with whose pages the disk may still be busy. Of embedded and base, where both are there,
// base comes first in every other.
func turns(subjects []subject, round int) []subject {
	at := round % len(subjects)
	order := slices.Concat(subjects[at:], subjects[:at])
	if round%2 == 1 {
		slices.Reverse(order)
	}
	one, other := slices.Index(order, embedded), slices.Index(order, base)
	if other >= 0 && (other < one) != (round%2 == 1) {
		order[one], order[other] = base, embedded
	}
	return order
}

// compare sets the figures that are relative to the first subject of the row. pass is that of sonic, in microseconds, or 0.
func (s sample) compare(first sample, r row, pass float64) {
	if strings.HasPrefix(r.generator, half) {
		s[p99OfAllowed] = s[p99] / (2*first[p99] + 5)
		return
	}
	s[share] = s[requestRate] / first[requestRate]
	if pass > 0 {
		s[sonicMicros] = pass
		s[aboveCeiling] = (s[serversMicros] - first[serversMicros]) / pass
	}
}

// halfRate is half of the maximum that an open loop is meant to have, or 0 for other generators. The maximum is taken from
// this round, or measured.
func (b *bench) halfRate(ctx context.Context, r row) (float64, error) {
	name, open := strings.CutPrefix(r.generator, half)
	if !open {
		return 0, nil
	}
	most, known := b.maxima[maximum{r.load, r.connections, name}]
	for _, s := range r.subjects {
		if s.name == name && !known {
			found, err := b.measure(ctx, row{load: r.load, connections: r.connections, generator: closed}, s, 0)
			if err != nil {
				return 0, fmt.Errorf("maximum of %s: %w", name, err)
			}
			most = found[requestRate]
		}
	}
	return most / 2, nil
}

// measure starts a subject on an empty folder, loads it and stops it. A rate of 0 is a closed loop.
func (b *bench) measure(ctx context.Context, r row, s subject, rate float64) (sample, error) {
	dir, err := os.MkdirTemp(b.folder, "data-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	e, err := b.start(ctx, r.load, s, dir)
	if err != nil {
		return nil, err
	}
	before, err := diskBytes(e.storeDir)
	if err != nil {
		return nil, errors.Join(err, e.stop())
	}
	found, bodies, err := b.apply(ctx, e, r, rate)
	// Only what is stopped has written all that it will write.
	if err := errors.Join(err, e.stop()); err != nil {
		return nil, err
	}
	if e.storeDir != "" {
		after, err := diskBytes(e.storeDir)
		if err != nil {
			return nil, err
		}
		if bodies > 0 {
			found[diskShare] = float64(after-before) / bodies
		}
	}
	return found, nil
}

// apply loads an endpoint and looks at it. bodies is how many bytes of bodies it has taken, where it has a store.
func (b *bench) apply(ctx context.Context, e *endpoint, r row, rate float64) (found sample, bodies float64, err error) {
	if r.byWrk() {
		found, err = b.runWrk(ctx, e, r)
	} else {
		found, err = b.runLoadtest(ctx, e, r, rate)
	}
	if err != nil {
		return nil, 0, err
	}
	if found[residentMiB], found[peakMiB], err = e.server.memory(); err != nil || e.admin == "" {
		return found, 0, err
	}
	counters, err := scrape(ctx, e.admin)
	if n := counters["caliper_batch_records_count"]; n > 0 {
		found[batchRecords] = counters["caliper_batch_records_sum"] / n
	}
	return found, counters["caliper_body_bytes_total"], err
}

const (
	// seed and distinct make the bodies: those of loadtest's defaults.
	seed, distinct = 1, 4096
)

// runLoadtest makes the load. An answer that the envelope does not deserve is an error.
func (b *bench) runLoadtest(ctx context.Context, e *endpoint, r row, rate float64) (sample, error) {
	file := filepath.Join(filepath.Dir(e.server.log), "loadtest.json")
	warmup := b.warmup
	if rate > 0 {
		// A p99 is about the slowest moments, and those of a process that has just
		// started are others than those of one that serves: a block of the store grows
		// to its 8 MB only once.
		warmup *= 3
	}
	args := []string{
		"-url", e.url, "-token", e.token, "-connections", strconv.Itoa(r.connections), "-rate", strconv.FormatFloat(rate, 'f', -1, 64),
		"-duration", b.duration.String(), "-warmup", warmup.String(), "-kind", r.kind.String(), "-items", strconv.Itoa(r.items),
		"-seed", strconv.Itoa(seed), "-distinct", strconv.Itoa(distinct), "-json", file, "-pid", strconv.Itoa(e.server.cmd.Process.Pid),
	}
	for _, p := range e.stores {
		args = append(args, "-pid", strconv.Itoa(p.cmd.Process.Pid))
	}
	if out, err := own(exec.CommandContext(ctx, b.program("loadtest"), args...)).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("loadtest: %w\n%s", err, tail(out))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	type cost struct {
		Micros float64 `json:"processor_us_per_request"`
		Share  float64 `json:"share_of_processors"`
	}
	var report struct {
		Requests  float64 `json:"requests_per_second"`
		Events    float64 `json:"durable_events_per_second"`
		Generator cost
		Processes []cost
		Latency   struct {
			P50 float64 `json:"p50_ms"`
			P99 float64 `json:"p99_ms"`
		}
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, err
	}
	found := sample{
		requestRate: report.Requests, eventRate: report.Events, p50: report.Latency.P50, p99: report.Latency.P99,
		generatorMicros: report.Generator.Micros, generatorShare: report.Generator.Share,
		endpointMicros: report.Processes[0].Micros,
	}
	for _, p := range report.Processes {
		found[serversMicros] += p.Micros
	}
	if len(e.stores) > 0 {
		found[storeMicros] = found[serversMicros] - found[endpointMicros]
	}
	found[busyShare] = report.Requests * (found[serversMicros] + report.Generator.Micros) / 1e6 / float64(runtime.NumCPU())
	if rate > 0 {
		found[dueRate] = rate
	}
	return found, nil
}

// scrape reads the metrics of an endpoint. Those that differ only in labels are added up.
func scrape(ctx context.Context, admin string) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	sums := map[string]float64{}
	for line := range bytes.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), " ")
		if at := strings.IndexByte(string(line), '}'); at >= 0 { // a label may hold blanks
			name, _, _ = strings.Cut(string(line), "{")
			value = strings.TrimSpace(string(line[at+1:]))
		}
		if n, err := strconv.ParseFloat(value, 64); ok && err == nil {
			sums[name] += n
		}
	}
	return sums, nil
}

// diskBytes is what the files below dir take on the disk, nothing where dir is empty. Room that is set aside behind the end of a
// file is for what comes next, and not counted.
func diskBytes(dir string) (sum int64, err error) {
	if dir == "" {
		return 0, nil
	}
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				stat := info.Sys().(*syscall.Stat_t)
				sum += min(stat.Blocks*512, (stat.Size+int64(stat.Blksize)-1)/int64(stat.Blksize)*int64(stat.Blksize))
			}
		}
		if errors.Is(err, fs.ErrNotExist) { // gone while we looked
			return nil
		}
		return err
	})
	return sum, err
}
