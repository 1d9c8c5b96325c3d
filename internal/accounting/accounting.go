// Package accounting reads the numbers of /metrics and checks that they add up,
// for every tool: what came in is what was answered, and what was answered is
// what is stored. It is for tests, and for whoever wants to watch a running
// endpoint.
package accounting

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Numbers are the samples of one scrape, by name with labels as written.
type Numbers map[string]float64

// Read reads the text format of Prometheus.
func Read(text io.Reader) (Numbers, error) {
	n := make(Numbers)
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			return nil, fmt.Errorf("accounting: sample %q has no value", line)
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("accounting: sample %q: %w", line, err)
		}
		n[line[:i]] = v
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("accounting: read samples: %w", err)
	}
	return n, nil
}

// Tools are the tools that have sent anything, in order.
func (n Numbers) Tools() []string {
	var tools []string
	for sample := range n {
		if rest, ok := strings.CutPrefix(sample, `caliper_requests_total{tool="`); ok {
			tools = append(tools, strings.TrimSuffix(rest, `"}`))
		}
	}
	slices.Sort(tools)
	return tools
}

// Events is a number of one tool's events: received, accepted, stored,
// duplicate, rejected, refused, debug, unclear or conflict.
func (n Numbers) Events(tool, what string) float64 {
	return n[fmt.Sprintf("caliper_events_%s_total{tool=%q}", what, tool)]
}

// Ended is how many of a tool's requests ended as stored, duplicate, rejected,
// refused or debug.
func (n Numbers) Ended(tool, as string) float64 {
	return n[fmt.Sprintf("caliper_requests_ended_total{tool=%q,as=%q}", tool, as)]
}

// Check tells for which tools the numbers do not add up:
//
//	received = accepted + rejected + refused + debug               in events
//	accepted = stored + duplicate                                  in events
//	requests = stored + duplicate + rejected + refused + debug     in requests
//
// They do whenever no request is being answered.
func (n Numbers) Check() error {
	var errs []error
	for _, tool := range n.Tools() {
		events := func(what string) float64 { return n.Events(tool, what) }
		ended := func(as string) float64 { return n.Ended(tool, as) }
		equal := func(what string, in, out float64) {
			if in != out {
				errs = append(errs, fmt.Errorf("accounting: tool %s: %v %s, %v accounted for", tool, in, what, out))
			}
		}
		equal("events received", events("received"), events("accepted")+events("rejected")+events("refused")+events("debug"))
		equal("events accepted", events("accepted"), events("stored")+events("duplicate"))
		equal("requests", n[fmt.Sprintf("caliper_requests_total{tool=%q}", tool)],
			ended("stored")+ended("duplicate")+ended("rejected")+ended("refused")+ended("debug"))
	}
	return errors.Join(errs...)
}

// CheckFound tells whether so many of a tool's events, found in the streams, can
// be: no fewer than were acknowledged as stored, and no more than that and the
// unclear ones. An event that went to several topics is found once. The numbers
// are those of one process, so the streams must have been empty when it started.
func (n Numbers) CheckFound(tool string, found int) error {
	stored, unclear := n.Events(tool, "stored"), n.Events(tool, "unclear")
	switch f := float64(found); {
	case f < stored:
		return fmt.Errorf("accounting: tool %s: %d events found, %v acknowledged", tool, found, stored)
	case f > stored+unclear:
		return fmt.Errorf("accounting: tool %s: %d events found, %v acknowledged and %v unclear", tool, found, stored, unclear)
	}
	return nil
}
