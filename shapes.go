package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"caliperedge/pipeline/stream"
	"caliperedge/shapes"
	"caliperedge/validate"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/pflag"
)

func shapesFlags(fs *pflag.FlagSet) {
	choiceFlags(fs)
	fs.String("compare-since", "", "tell what changed since events received from a time, a date, or within a duration")
	fs.String("compare-until", "", "and before a time, a date, or so long ago (default what --since begins with)")
	fs.Bool("values", false, "show values as they are: the report may then hold personal data")
	fs.String("format", "text", "text, json or html")
}

// shapeReader takes events from topics and files.
type shapeReader struct {
	inv       *invocation
	collector *shapes.Collector
	now       choice
	before    *choice // nil where nothing is compared
	progress  *progress
	undated   int
}

// showShapes reports what the events of topics or files look like.
func showShapes(inv *invocation) error {
	values, err := inv.flags.GetBool("values")
	if err != nil {
		return err
	}
	format, err := inv.flags.GetString("format")
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"text", "json", "html"}, format) {
		return fmt.Errorf("--format: %q, expected text, json or html\n%w", format, errUsage)
	}
	r := &shapeReader{inv: inv, collector: shapes.New(values, validate.IsTerm), progress: inv.progress("reading")}
	if err := r.readChoices(time.Now()); err != nil {
		return err
	}
	for _, name := range inv.args {
		if err := r.read(name); err != nil {
			return err
		}
	}
	r.progress.tell()
	if r.undated > 0 {
		fmt.Fprintf(inv.stderr, "%d events have no time and were taken as of now\n", r.undated)
	}
	var names []string
	for _, name := range inv.args {
		names = append(names, filepath.Base(name)) // where it was is nobody's business
	}
	report := r.collector.Report(strings.Join(names, ", "), r.before != nil)
	report.Ranges[shapes.Now] = r.now.String()
	if r.before != nil {
		report.Ranges[shapes.Before] = r.before.String()
	}
	switch format {
	case "json":
		e := json.NewEncoder(inv.stdout)
		e.SetIndent("", "  ")
		return e.Encode(report)
	case "html":
		return report.WriteHTML(inv.stdout)
	}
	return report.WriteText(inv.stdout)
}

func (r *shapeReader) readChoices(now time.Time) (err error) {
	if r.now, err = readChoice(r.inv.flags, now); err != nil {
		return err
	}
	before := choice{tools: r.now.tools, until: r.now.since}
	for name, at := range map[string]*time.Time{"compare-since": &before.since, "compare-until": &before.until} {
		text, err := r.inv.flags.GetString(name)
		if err != nil {
			return err
		}
		if text == "" {
			continue
		}
		r.before = &before
		if text == "start" && name == "compare-since" {
			continue
		}
		if *at, err = parseMoment(text, now); err != nil {
			return fmt.Errorf("--%s: %w\n%w", name, err, errUsage)
		}
	}
	if r.before != nil && before.until.IsZero() {
		return fmt.Errorf("--compare-since: the period before has no end; set --compare-until or --since\n%w", errUsage)
	}
	if r.before != nil && before.isEmpty() {
		return fmt.Errorf("--compare-since: the period before has no time in it: it ends before it begins\n%w", errUsage)
	}
	return nil
}

// String is the range of time of c.
func (c *choice) String() string {
	switch {
	case c.since.IsZero() && c.until.IsZero():
		return ""
	case c.since.IsZero():
		return "before " + moment(c.until, "")
	case c.until.IsZero():
		return "since " + moment(c.since, "")
	}
	return moment(c.since, "") + " to " + moment(c.until, "")
}

// read reads a file, or a topic where no file has the name; - is stdin.
func (r *shapeReader) read(name string) error {
	if name == "-" {
		return r.readFile(name, r.inv.stdin)
	}
	if info, err := os.Stat(name); err == nil && !info.IsDir() {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return r.readFile(name, f)
	}
	layout, js, disconnect, err := connect(r.inv)
	if err != nil {
		return fmt.Errorf("%s is no file, and topics cannot be read: %w", name, err)
	}
	defer disconnect()
	if err := checkTopic(layout, name); err != nil {
		return fmt.Errorf("%s is no file: %w", name, err)
	}
	return r.readTopic(js, layout, name)
}

func (r *shapeReader) readTopic(js jetstream.JetStream, layout stream.Layout, topic string) error {
	from := r.now.since
	if r.before != nil && (r.before.since.Before(from) || from.IsZero()) {
		from = r.before.since
	}
	return stream.Tail(r.inv.ctx, js, layout, topic, stream.TailOptions{From: from}, func(record []byte, at stream.Address) error {
		if err := r.value(record); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		return nil
	})
}

// readFile reads JSON values: records, envelopes or events.
func (r *shapeReader) readFile(name string, in io.Reader) error {
	d := json.NewDecoder(in)
	for {
		var value json.RawMessage
		err := d.Decode(&value)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = r.value(value)
		}
		if err == nil {
			err = r.inv.ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%s: behind byte %d: %w", name, d.InputOffset(), err)
		}
	}
}

// shapedValue is what is looked at of a record, an envelope or an event.
type shapedValue struct {
	Tool     string            `json:"tool"`
	Received time.Time         `json:"received"`
	Event    json.RawMessage   `json:"event"`
	Raw      *string           `json:"raw"`
	Data     []json.RawMessage `json:"data"`
	// Of an event.
	Type      string          `json:"type"`
	Action    string          `json:"action"`
	EventTime time.Time       `json:"eventTime"`
	EdApp     json.RawMessage `json:"edApp"`
}

// look decodes what it can: an event may have anything in these members.
func look(value []byte) (v shapedValue) {
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil {
		return v
	}
	for name, to := range map[string]any{"tool": &v.Tool, "received": &v.Received, "event": &v.Event, "raw": &v.Raw, "data": &v.Data,
		"type": &v.Type, "action": &v.Action, "eventTime": &v.EventTime, "edApp": &v.EdApp} {
		if member := members[name]; member != nil && !bytes.Equal(member, []byte("null")) {
			_ = json.Unmarshal(member, to) // what is of another type is not known
		}
	}
	return v
}

// value takes a record, an envelope or an event.
func (r *shapeReader) value(value []byte) error {
	v := look(value)
	switch {
	case v.Tool != "" && v.Raw != nil:
		return nil // no JSON, or cut: it has no shape
	case v.Tool != "" && v.Event != nil:
		return r.events(v.Event, v.Tool, v.Received)
	}
	return r.events(value, "", time.Time{})
}

// events takes an event, or those of an envelope.
func (r *shapeReader) events(value []byte, tool string, received time.Time) error {
	v := look(value)
	if v.Data != nil && v.Type == "" {
		for _, event := range v.Data {
			if err := r.event(event, look(event), tool, received); err != nil {
				return err
			}
		}
		return nil
	}
	return r.event(value, v, tool, received)
}

func (r *shapeReader) event(event []byte, v shapedValue, tool string, received time.Time) error {
	r.progress.step()
	at := received
	if at.IsZero() {
		at = v.EventTime
	}
	if at.IsZero() {
		r.undated++
		at = time.Now()
	}
	period := shapes.Now
	if !r.now.takes(tool, at) {
		if period = shapes.Before; r.before == nil || !r.before.takes(tool, at) {
			return nil
		}
	}
	return r.collector.Add(period, shapes.Key{Tool: tool, EdApp: nameOf(v.EdApp), Type: v.Type, Action: v.Action}, event)
}

// nameOf is the id of an edApp, or the string that it is.
func nameOf(edApp json.RawMessage) string {
	var s string
	var object struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(edApp, &s)
	_ = json.Unmarshal(edApp, &object)
	return cmp.Or(s, object.ID)
}
