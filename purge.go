package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"time"

	"caliperedge/pipeline/stream"
)

// topicsPurge deletes what topics took before a time, all of them where none is
// named, after having said how much that is.
func topicsPurge(inv *invocation) error {
	yes, err := inv.flags.GetBool("yes")
	if err != nil {
		return err
	}
	text, err := inv.flags.GetString("before")
	if err != nil {
		return err
	}
	now := time.Now()
	before, err := parseMoment(text, now)
	if err != nil {
		return fmt.Errorf("--before: %w\n%w", err, errUsage)
	}
	if before.After(now) {
		return fmt.Errorf("--before: %s is in the future\n%w", text, errUsage)
	}
	layout, js, disconnect, err := connect(inv)
	if err != nil {
		return err
	}
	defer disconnect()
	topics := inv.args
	for _, topic := range topics {
		if err := checkTopic(layout, topic); err != nil {
			return err
		}
	}
	if len(topics) == 0 {
		for _, t := range layout.Topics {
			topics = append(topics, t.Name)
		}
	}
	var plans []stream.Purge
	w := table(inv.stdout, "TOPIC", "MESSAGES", "RECORDS", "BYTES", "NOT READ BY")
	total := uint64(0)
	for _, topic := range topics {
		p, err := stream.PlanPurge(inv.ctx, js, layout, topic, before)
		if err != nil {
			return err
		}
		plans = append(plans, p)
		total += p.Messages
		row(w, p.Topic, p.Messages, p.Records, p.Bytes, strings.Join(p.Unread, " "))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if total == 0 {
		fmt.Fprintf(inv.stdout, "nothing was received before %s\n", moment(before, ""))
		return nil
	}
	if !yes {
		if err := inv.ask(fmt.Sprintf("delete what was received before %s for ever?", moment(before, ""))); err != nil {
			return err
		}
	}
	for _, p := range plans {
		if err := p.Do(inv.ctx, js, inv.cfg.storeDir()); err != nil {
			return err
		}
	}
	fmt.Fprintln(inv.stdout, "deleted")
	return nil
}

// storeDir is the data folder of the embedded server, empty where there is an
// external one.
func (c *config) storeDir() string {
	if c.NATSURL != "" {
		return ""
	}
	return c.DataDir
}

// ask returns nil where the answer to a question is yes.
func (inv *invocation) ask(question string) error {
	fmt.Fprint(inv.stdout, question, " [y/N] ")
	answer, _ := bufio.NewReader(inv.stdin).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

// parseMoment reads a time, a date (in UTC), or how long before now.
func parseMoment(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("%q, expected a time such as 2026-11-22T20:00:00Z, a date such as 2026-11-22, or how long ago, such as 720h", s)
	}
	return now.Add(-d), nil
}
