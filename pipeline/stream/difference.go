package stream

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline"
)

// Difference is one property in which a stream is not what the layout says.
type Difference struct {
	// Stream is the name of the stream.
	Stream string
	// Field is the property in words, such as "byte limit".
	Field string
	// Have and Want are readable values.
	Have, Want string

	// grave is true where the stream cannot keep what its topic promises.
	grave bool
}

// String is one line such as `stream caliper-standard: byte limit is 10, want 20`.
func (d Difference) String() string {
	return fmt.Sprintf("stream %s: %s is %s, want %s", d.Stream, d.Field, d.Have, d.Want)
}

// aspect is one property of a stream that the layout decides. All others, such
// as placement, compression and description, are the operator's.
type aspect struct {
	field string
	show  func(c *jetstream.StreamConfig) string
	set   func(have, want *jetstream.StreamConfig)
	// breaks tells of a difference whether the stream cannot keep what its topic
	// promises: that what is acknowledged is stored, and is there until its age has
	// passed. Nil means that no difference does.
	breaks func(have, want *jetstream.StreamConfig) bool
}

func aspects() []aspect {
	type config = jetstream.StreamConfig
	always := func(_, _ *config) bool { return true }
	return []aspect{
		{"subjects", func(c *config) string { return cmp.Or(strings.Join(c.Subjects, " "), "none") }, func(h, w *config) { h.Subjects = w.Subjects },
			func(h, w *config) bool { return !binds(h.Subjects, w.Subjects[0]) }},
		{"storage", func(c *config) string { return c.Storage.String() }, func(h, w *config) { h.Storage = w.Storage }, always},
		{"retention", func(c *config) string { return c.Retention.String() }, func(h, w *config) { h.Retention = w.Retention }, always},
		{"discard", func(c *config) string { return c.Discard.String() }, func(h, w *config) { h.Discard = w.Discard },
			func(_, w *config) bool { return w.Discard == jetstream.DiscardNew }},
		{"maximum age", func(c *config) string { return c.MaxAge.String() }, func(h, w *config) { h.MaxAge = w.MaxAge }, nil},
		{"byte limit", func(c *config) string { return fmt.Sprint(c.MaxBytes) }, func(h, w *config) { h.MaxBytes = w.MaxBytes }, nil},
		{"message limit", func(c *config) string { return fmt.Sprint(c.MaxMsgs) }, func(h, w *config) { h.MaxMsgs = w.MaxMsgs }, nil},
		// This limit drops the oldest whatever discard says.
		{"message limit per subject", func(c *config) string { return fmt.Sprint(c.MaxMsgsPerSubject) },
			func(h, w *config) { h.MaxMsgsPerSubject = w.MaxMsgsPerSubject },
			func(h, _ *config) bool { return h.MaxMsgsPerSubject > 0 && !h.DiscardNewPerSubject }},
		{"message size limit", func(c *config) string { return fmt.Sprint(c.MaxMsgSize) }, func(h, w *config) { h.MaxMsgSize = w.MaxMsgSize },
			func(h, _ *config) bool { return h.MaxMsgSize > 0 && h.MaxMsgSize < pipeline.MaxMessageBytes }},
		{"duplicate window", func(c *config) string { return c.Duplicates.String() }, func(h, w *config) { h.Duplicates = w.Duplicates }, nil},
		{"replicas", func(c *config) string { return fmt.Sprint(c.Replicas) }, func(h, w *config) { h.Replicas = w.Replicas }, nil},
		{"consumer limit", func(c *config) string { return fmt.Sprint(cmp.Or(max(c.MaxConsumers, 0), -1)) }, func(h, w *config) { h.MaxConsumers = w.MaxConsumers }, nil},
		// These four bring in what is not ours, or have what is ours elsewhere too.
		{"mirror and sources", origins, func(h, w *config) { h.Mirror, h.Sources = w.Mirror, w.Sources }, nil},
		{"subject transform", transform, func(h, w *config) { h.SubjectTransform = w.SubjectTransform }, nil},
		{"republishing", republished, func(h, w *config) { h.RePublish = w.RePublish }, nil},
		{"roll-ups", func(c *config) string { return fmt.Sprint(c.AllowRollup) }, func(h, w *config) { h.AllowRollup = w.AllowRollup }, nil},
		// Such a stream takes numbers alone.
		{"message counter", func(c *config) string { return fmt.Sprint(c.AllowMsgCounter) }, func(h, w *config) { h.AllowMsgCounter = w.AllowMsgCounter }, always},
		// These three would turn an acknowledgement into a promise that nobody keeps.
		{"no acknowledgements", func(c *config) string { return fmt.Sprint(c.NoAck) }, func(h, w *config) { h.NoAck = w.NoAck }, always},
		{"asynchronous persistence", func(c *config) string { return fmt.Sprint(c.PersistMode == jetstream.AsyncPersistMode) },
			func(h, w *config) { h.PersistMode = w.PersistMode }, always},
		{"sealed", func(c *config) string { return fmt.Sprint(c.Sealed) }, func(h, w *config) { h.Sealed = w.Sealed }, always},
	}
}

// origins are the streams that a stream copies.
func origins(c *jetstream.StreamConfig) string {
	var names []string
	for _, from := range append([]*jetstream.StreamSource{c.Mirror}, c.Sources...) {
		if from != nil {
			names = append(names, from.Name)
		}
	}
	return cmp.Or(strings.Join(names, " "), "none")
}

func transform(c *jetstream.StreamConfig) string {
	if t := c.SubjectTransform; t != nil {
		return t.Source + " to " + t.Destination
	}
	return "none"
}

func republished(c *jetstream.StreamConfig) string {
	if r := c.RePublish; r != nil {
		return r.Source + " to " + r.Destination
	}
	return "none"
}

// binds tells whether a stream with those subjects takes what is published on
// subject, which has no wildcard.
func binds(subjects []string, subject string) bool {
	tokens := strings.Split(subject, ".")
	return slices.ContainsFunc(subjects, func(s string) bool {
		filter := strings.Split(s, ".")
		for i, f := range filter {
			if f == ">" {
				return i < len(tokens)
			}
			if i >= len(tokens) || f != "*" && f != tokens[i] {
				return false
			}
		}
		return len(filter) == len(tokens)
	})
}

// differences compares have, as the server reports it, with want.
func differences(have, want jetstream.StreamConfig) []Difference {
	var ds []Difference
	for _, a := range aspects() {
		if h, w := a.show(&have), a.show(&want); h != w {
			ds = append(ds, Difference{Stream: want.Name, Field: a.field, Have: h, Want: w, grave: a.breaks != nil && a.breaks(&have, &want)})
		}
	}
	return ds
}
