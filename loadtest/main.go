// Loadtest acts as many sensors that post to one endpoint, and tells how fast it answered and what became of the events.
//
//	go run ./loadtest -url http://127.0.0.1:8080/ -token … -connections 64              closed loop: as fast as it goes
//	go run ./loadtest -url http://127.0.0.1:8080/ -token … -rate 20000                  open loop: 20,000 requests a second
//	go run ./loadtest … -ledger -data-dir data                                          and prove that nothing was lost
//	make loadtest LOAD='-rate 2000 -duration 5m'                                        all of it, against an endpoint of its own
//
// In a closed loop each connection sends its next request when it has the answer to the last: that finds the largest
// throughput, and hides stalls, because nobody sends while all wait. In an open loop a schedule says when requests are
// due and does not wait for answers. Latency is then counted from the moment a request was due, not from when it
// could be sent, so a stall counts for everything that was due in it (no coordinated omission).
//
// Every event of every run has an id of its own, put into ready bodies in place. It names sender and counter, so that the
// ledger needs four bytes for an event, and can say of each one that is missing whose it was and when.
//
// The parts, in the order in which a request meets them:
//
//	schedule.go   when it is due
//	shelf.go      the envelope that is sent, and its HTTP head
//	sender.go     one connection: send, wait, judge the answer
//	wire.go       HTTP/1.1, as little of it as sensors need
//	answer.go     in which topics an answer says the items are
//	tally.go      what is counted, second by second
//	ledger.go     what each event was answered; audit.go reads the topics back and compares
//	report.go     text, JSON and verdict; html.go the page with charts
//
// It shares a machine with what it measures, so it takes as little of it as it can, and says how much that was. Exit status:
// 0 when the verdict is good, 1 when it is bad, 2 when the run could not be made.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"caliperedge/pipeline/stream"
)

const (
	exitGood   = 0
	exitBad    = 1
	exitFailed = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program: the report goes to stdout, progress and errors to stderr. The end of ctx ends the load early; the
// report and the ledger are made all the same.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitGood
	}
	var result *Result
	if err == nil {
		result, err = measure(ctx, cfg, stderr)
	}
	if err == nil {
		err = writeReports(result, cfg, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "loadtest:", err)
		return exitFailed
	}
	if len(result.Verdict) > 0 {
		return exitBad
	}
	return exitGood
}

// measure makes the load and, where asked for, the proof.
func measure(ctx context.Context, cfg config, stderr io.Writer) (*Result, error) {
	l, err := newLoad(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.ledger { // a store that cannot be read is better known now than later
		nc, _, err := stream.Connect(ctx, cfg.store())
		if err != nil {
			return nil, err
		}
		nc.Close()
	}
	began := time.Now()
	result, err := l.run(ctx, stderr)
	if err != nil {
		return nil, err
	}
	result.judge(cfg)
	if cfg.ledger {
		fmt.Fprintln(stderr, "reading the topics back")
		// An interrupted run is proved like any other.
		audit, err := l.ledger.audit(context.WithoutCancel(ctx), cfg, began, &l.topics)
		result.prove(audit, err)
	}
	return result, nil
}

func writeReports(r *Result, cfg config, stdout io.Writer) error {
	r.writeText(stdout)
	if cfg.json != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(cfg.json, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if cfg.html != "" {
		page, err := r.html()
		if err != nil {
			return err
		}
		return os.WriteFile(cfg.html, page, 0o644)
	}
	return nil
}
