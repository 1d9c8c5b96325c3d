//go:build linux

package main

import (
	"fmt"
	"os/exec"
	"strings"
	"time"

	"caliperedge/bench/corpus"
)

// row is a load, and the endpoints that take it in turns.
type row struct {
	load
	connections int
	// generator is how the load is made: closed and wrk send as fast as they are answered, and so does wrk-repeated, which sends
	// one body again and again; half-X is loadtest's open loop at half of the most that X did in a closed loop of as many
	// connections in the same round.
	generator string
	// subjects take turns. The first is what the others are compared with.
	subjects []subject
}

// load is what the envelopes are like.
type load struct {
	kind  corpus.Kind
	items int
}

// subject is an endpoint to measure.
type subject struct {
	name string
	// traced runs the endpoint below strace, which makes every sync longer by delay.
	traced bool
	delay  time.Duration
	// config is a configuration file for the endpoint, see startConfigured.
	config string
	// servers is how many nats-servers stand beside the endpoint; none where the store is embedded.
	servers int
	// without is what a floor leaves out, and on where it stores, where that is no file.
	without, on string
}

var (
	ceiling   = subject{name: "ceiling"}
	floor     = subject{name: "floor"}
	floorOnJS = subject{name: "floor-jetstream", on: onJetStream}
	embedded  = subject{name: "embedded"}
	base      = subject{name: "base"} // embedded of another revision, beside it
	withRules = subject{name: "rules"}
	external  = subject{name: "external", servers: 1}
	noWindow  = subject{name: "no-window", config: "duplicates_ids: 0\n"}
	prototype = subject{name: "prototype"}
)

// program is what the subject runs as, where that is caliper-edge.
func (s subject) program() string {
	if s == base {
		return "caliper-edge-base"
	}
	return "caliper-edge"
}

const (
	closed = "closed"
	half   = "half-" // and the subject whose maximum is meant
	wrk    = "wrk"

	wrkRepeated = "wrk-repeated"
)

func (r row) byWrk() bool { return r.generator == wrk || r.generator == wrkRepeated }

func (r row) String() string {
	return fmt.Sprintf("kind=%v/items=%d/connections=%d/load=%s", r.kind, r.items, r.connections, r.generator)
}

func names(rows []row) string {
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}

// shape is a load of any kind.
type shape struct {
	items, connections int
	generator          string
}

// closedShapes are those of the bars in a closed loop.
var closedShapes = []shape{{1, 64, closed}, {1, 256, closed}, {1, 1024, closed}, {100, 64, closed}}

// ceilingRows are the rows of an ordinary run. The mix decides; Engage's events, all alike, stand beside it.
func ceilingRows() []row {
	var rows []row
	for _, kind := range []corpus.Kind{corpus.Mix, corpus.Engage} {
		for _, s := range closedShapes {
			rows = append(rows, row{load{kind, s.items}, s.connections, s.generator, []subject{ceiling, floor, embedded, withRules, external}})
		}
		for _, s := range []subject{embedded, withRules, external} {
			rows = append(rows, row{load{kind, 1}, 256, half + s.name, []subject{ceiling, floor, floorOnJS, s}})
		}
	}
	for _, s := range []shape{{1, 64, wrk}, {1, 256, wrk}, {1, 1024, wrk}, {100, 64, wrk}} {
		rows = append(rows, row{load{corpus.Mix, s.items}, s.connections, s.generator, []subject{ceiling, embedded}})
	}
	return rows
}

// slowSyncRows are those of -sync-delays. What is not delayed is traced too, so that the difference is the delay's.
func slowSyncRows(delays string) ([]row, error) {
	if _, err := exec.LookPath("strace"); err != nil {
		return nil, err
	}
	subjects := []subject{{name: "sync", traced: true}}
	for text := range strings.SplitSeq(delays, ",") {
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, err
		}
		if d <= 0 || d > time.Second {
			return nil, fmt.Errorf("%v, want up to 1s", d)
		}
		subjects = append(subjects, subject{name: "sync+" + d.String(), traced: true, delay: d})
	}
	var rows []row
	for _, connections := range []int{64, 256, 1024, 4096} {
		rows = append(rows, row{load{corpus.Mix, 1}, connections, closed, subjects})
	}
	return rows, nil
}

// limitRows are those of -limit: what the floor is without each of the things that make it dearer than the ceiling, and without
// all; and what it is over JetStream.
func limitRows() []row {
	subjects := []subject{ceiling, floor}
	for _, without := range []string{withoutPass, withoutPack, withoutSync, withoutAll} {
		subjects = append(subjects, subject{name: "no-" + without, without: without})
	}
	subjects = append(subjects, floorOnJS, embedded)
	var rows []row
	for _, kind := range []corpus.Kind{corpus.Mix, corpus.Engage} {
		for _, s := range closedShapes {
			rows = append(rows, row{load{kind, s.items}, s.connections, s.generator, subjects})
		}
	}
	return rows
}

func needsExternal(rows []row) bool {
	for _, r := range rows {
		for _, s := range r.subjects {
			if s.servers > 0 {
				return true
			}
		}
	}
	return false
}

// A bar is what a figure should be at least, or at most.
type bar struct {
	what    string
	figure  figure
	shape   shape // half is that of the endpoint's own maximum
	atLeast bool
	want    float64
}

var bars = []bar{
	{"share of the ceiling's requests/s", share, shape{1, 64, closed}, true, 0.45},
	{"share of the ceiling's requests/s", share, shape{1, 256, closed}, true, 0.70},
	{"share of the ceiling's requests/s", share, shape{1, 1024, closed}, true, 0.88},
	{"share of the ceiling's requests/s", share, shape{100, 64, closed}, true, 0.25},
	{"processor time above the ceiling's, in strict passes of sonic", aboveCeiling, shape{100, 64, closed}, false, 2},
	{"durable events/s", eventRate, shape{100, 64, closed}, true, 700_000},
	{"durable events/s", eventRate, shape{100, 64, closed}, true, 1_000_000},
	{"p99 as a part of 2 x the ceiling's + 5 ms", p99OfAllowed, shape{1, 256, half}, false, 1},
	{"resident memory at its peak, MiB", peakMiB, shape{1, 1024, closed}, false, 300},
	{"bytes on disk per byte of body", diskShare, shape{1, 64, closed}, false, 0.25},
	{"bytes on disk per byte of body", diskShare, shape{1, 256, closed}, false, 0.25},
	{"bytes on disk per byte of body", diskShare, shape{1, 1024, closed}, false, 0.25},
	{"bytes on disk per byte of body", diskShare, shape{100, 64, closed}, false, 0.25},
}

func (b bar) met(value float64) bool {
	if b.atLeast {
		return value >= b.want
	}
	return value <= b.want
}
