package stream

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What keeps a stream from what its topic promises is refused where streams are
// only verified; whatever else differs is told, and no more.
func TestVerify(t *testing.T) {
	p := openDir(t, t.TempDir())
	js := p.JetStream()
	if _, err := js.CreateStream(deadline(t), jetstream.StreamConfig{Name: "elsewhere", Subjects: []string{"elsewhere"}}); err != nil {
		t.Fatal(err)
	}
	layout := Layout{Prefix: "v", Topics: []Topic{{Name: "t", MaxAge: time.Hour, MaxBytes: 32 << 20}}}
	type config = jetstream.StreamConfig
	for name, c := range map[string]struct {
		change func(c *config)
		tells  string // what is told; with "refuses " before it, what is refused
	}{
		"nothing":           {func(c *config) {}, ""},
		"memory":            {func(c *config) { c.Storage = jetstream.MemoryStorage }, "refuses storage is Memory, want File"},
		"interest":          {func(c *config) { c.Retention = jetstream.InterestPolicy }, "refuses retention is Interest, want Limits"},
		"queue":             {func(c *config) { c.Retention = jetstream.WorkQueuePolicy }, "refuses retention is WorkQueue, want Limits"},
		"oldest goes":       {func(c *config) { c.Discard = jetstream.DiscardOld }, "refuses discard is DiscardOld, want DiscardNew"},
		"no acks":           {func(c *config) { c.NoAck = true }, "refuses no acknowledgements is true, want false"},
		"later on disk":     {func(c *config) { c.PersistMode = jetstream.AsyncPersistMode }, "refuses asynchronous persistence is true, want false"},
		"other subject":     {func(c *config) { c.Subjects = []string{"x"} }, "refuses subjects is x, want v.t v.t.>"},
		"reserved subjects": {func(c *config) { c.Subjects = []string{"v.t.>"} }, "refuses subjects is v.t.>, want v.t v.t.>"},
		"mirror":            {func(c *config) { c.Subjects, c.Mirror = nil, &jetstream.StreamSource{Name: "elsewhere"} }, "refuses subjects is none, want v.t v.t.>"},
		"the newest alone":  {func(c *config) { c.MaxMsgsPerSubject = 1 }, "refuses message limit per subject is 1, want -1"},
		"small messages":    {func(c *config) { c.MaxMsgSize = 1000 }, "refuses message size limit is 1000, want -1"},
		"counter":           {func(c *config) { c.AllowMsgCounter, c.Discard = true, jetstream.DiscardOld }, "refuses message counter is true, want false"},
		"wider subject":     {func(c *config) { c.Subjects = []string{"v.>"} }, "subjects is v.>, want v.t v.t.>"},
		"few for a subject": {func(c *config) { c.MaxMsgsPerSubject, c.DiscardNewPerSubject = 9, true }, "message limit per subject is 9, want -1"},
		"few messages":      {func(c *config) { c.MaxMsgs = 9 }, "message limit is 9, want -1"},
		"few bytes":         {func(c *config) { c.MaxBytes = 1 << 20 }, "byte limit is 1048576, want 33554432"},
		"young":             {func(c *config) { c.MaxAge = time.Minute * 30 }, "maximum age is 30m0s, want 1h0m0s"},
		"window":            {func(c *config) { c.Duplicates = time.Second }, "duplicate window is 1s, want 2m0s"},
		"largest messages":  {func(c *config) { c.MaxMsgSize = 1 << 20 }, "message size limit is 1048576, want -1"},
		"few consumers":     {func(c *config) { c.MaxConsumers = 1 }, "consumer limit is 1, want -1"},
		"sources":           {func(c *config) { c.Sources = []*jetstream.StreamSource{{Name: "elsewhere"}} }, "mirror and sources is elsewhere, want none"},
		"transform": {func(c *config) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "v.t", Destination: "v.t.x"}
		}, "subject transform is v.t to v.t.x, want none"},
		"republished":        {func(c *config) { c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"} }, "republishing is > to copy.>, want none"},
		"roll-ups":           {func(c *config) { c.AllowRollup = true }, "roll-ups is true, want false"},
		"time of life":       {func(c *config) { c.AllowMsgTTL = true }, ""},
		"compressed, direct": {func(c *config) { c.Compression, c.AllowDirect, c.Description = jetstream.S2Compression, true, "mine" }, ""},
	} {
		made := layout.config(layout.Topics[0])
		c.change(&made)
		if _, err := js.CreateStream(deadline(t), made); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ds, err := Verify(deadline(t), js, layout)
		refused, grave := strings.CutPrefix(c.tells, "refuses ")
		switch {
		case grave && (err == nil || !strings.Contains(err.Error(), "stream v-t: "+refused) || isAway(err)):
			t.Errorf("%s: %v, %v, want an error with %q", name, ds, err, refused)
		case !grave && (err != nil || (len(ds) > 0) != (c.tells != "")):
			t.Errorf("%s: %v, %v, want no more told than %q", name, ds, err, c.tells)
		case !grave && len(ds) > 0 && ds[0].String() != "stream v-t: "+c.tells:
			t.Errorf("%s: told %q, want %q", name, ds[0], c.tells)
		}
		if err := js.DeleteStream(deadline(t), made.Name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Verify(deadline(t), js, layout); err == nil || !strings.Contains(err.Error(), "stream v-t is missing") || isAway(err) {
		t.Errorf("no stream: %v", err)
	}
	made, err := js.CreateStream(deadline(t), layout.config(layout.Topics[0]))
	if err != nil {
		t.Fatal(err)
	}
	sealed := made.CachedInfo().Config
	sealed.Sealed = true
	if _, err := js.UpdateStream(deadline(t), sealed); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(deadline(t), js, layout); err == nil || !strings.Contains(err.Error(), "sealed is true, want false") {
		t.Errorf("a sealed stream: %v", err)
	}
}

// Whatever of a stream can be changed, Apply changes to what the layout says.
func TestApplyTakesBack(t *testing.T) {
	p := openDir(t, t.TempDir())
	js := p.JetStream()
	if _, err := js.CreateStream(deadline(t), jetstream.StreamConfig{Name: "elsewhere", Subjects: []string{"elsewhere"}}); err != nil {
		t.Fatal(err)
	}
	layout := Layout{Prefix: "v", Topics: []Topic{{Name: "t", MaxAge: time.Hour, MaxBytes: 32 << 20}}}
	c := layout.config(layout.Topics[0])
	c.MaxBytes, c.Discard, c.MaxMsgs, c.AllowRollup = 1<<20, jetstream.DiscardOld, 9, true
	c.Sources = []*jetstream.StreamSource{{Name: "elsewhere"}}
	c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "v.t", Destination: "v.t.x"}
	c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
	if _, err := js.CreateStream(deadline(t), c); err != nil {
		t.Fatal(err)
	}
	if err := Apply(deadline(t), js, layout); err != nil {
		t.Fatal(err)
	}
	if ds, err := Verify(deadline(t), js, layout); err != nil || len(ds) > 0 {
		t.Errorf("after Apply: %v, %v", ds, err)
	}
}
