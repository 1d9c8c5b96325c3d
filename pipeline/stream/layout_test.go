package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/internal/natstest"
	"caliperedge/pipeline"
)

func TestLayoutCheck(t *testing.T) {
	ok := Topic{Name: "standard", MaxAge: time.Hour, MaxBytes: 1}
	long := strings.Repeat("x", 32)
	for _, c := range []struct {
		layout Layout
		want   string // part of the error, or empty for none
	}{
		{Layout{Prefix: "caliper", Topics: []Topic{ok}}, ""},
		{Layout{Prefix: long, Replicas: 5, Topics: []Topic{{Name: "A-z_0", MaxAge: 1, MaxBytes: 1}}}, ""},
		{Layout{Prefix: long + "x", Topics: []Topic{ok}}, "prefix"},
		{Layout{Topics: []Topic{ok}}, "prefix"},
		{Layout{Prefix: "a.b", Topics: []Topic{ok}}, "prefix"},
		{Layout{Prefix: "a", Topics: []Topic{{Name: ">", MaxAge: 1, MaxBytes: 1}}}, "topic"},
		{Layout{Prefix: "a", Topics: []Topic{{Name: "é", MaxAge: 1, MaxBytes: 1}}}, "topic"},
		{Layout{Prefix: "a"}, "without a topic"},
		{Layout{Prefix: "a", Topics: []Topic{ok, ok}}, "twice"},
		{Layout{Prefix: "a", Topics: []Topic{{Name: "b", MaxBytes: 1}}}, "maximum age"},
		{Layout{Prefix: "a", Topics: []Topic{{Name: "b", MaxAge: 1}}}, "byte limit"},
		{Layout{Prefix: "a", Replicas: 6, Topics: []Topic{ok}}, "replicas"},
	} {
		err := c.layout.Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("Check of %+v: %v, want an error with %q", c.layout, err, c.want)
		}
	}
}

func TestStreamIsWhatTheContractSays(t *testing.T) {
	p := openDir(t, t.TempDir())
	s, err := p.JetStream().Stream(deadline(t), "caliper-standard")
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	got := fmt.Sprint(c.Subjects, c.Storage, c.Retention, c.Discard, c.MaxAge, c.MaxBytes, c.MaxMsgs, c.Duplicates, c.Replicas, c.NoAck)
	want := "[caliper.standard caliper.standard.>] File Limits DiscardNew 1h0m0s 33554432 -1 2m0s 1 false"
	if got != want {
		t.Errorf("stream is %s\nwant      %s", got, want)
	}
	if ds := p.Differences(); len(ds) > 0 {
		t.Errorf("differences of new streams: %v", ds)
	}
}

func TestDifferencesAreReportedAndApplied(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	publish(t, p, message("standard", "1", `{}`))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	want := testLayout()
	want.Topics[0].MaxBytes = 5 << 20
	want.Topics[0].MaxAge = time.Minute
	want.Topics[2].DiscardOld = false
	open := func() *Publisher {
		p, err := OpenEmbedded(deadline(t), EmbeddedConfig{Dir: dir, Layout: want, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		return p
	}
	p = open()
	const expected = `stream caliper-standard: maximum age is 1h0m0s, want 1m0s
stream caliper-standard: byte limit is 33554432, want 5242880
stream caliper-standard: duplicate window is 2m0s, want 1m0s
stream caliper-rejected: discard is DiscardOld, want DiscardNew
`
	report := func(ds []Difference) string {
		var b strings.Builder
		for _, d := range ds {
			fmt.Fprintln(&b, d)
		}
		return b.String()
	}
	if got := report(p.Differences()); got != expected {
		t.Errorf("differences\n%swant\n%s", got, expected)
	}
	// A second look finds the same: nothing was changed by the first.
	ds, err := Ensure(deadline(t), p.JetStream(), want)
	if got := report(ds); err != nil || got != expected {
		t.Errorf("second Ensure: %v\n%s", err, got)
	}
	if err := Apply(deadline(t), p.JetStream(), want); err != nil {
		t.Fatal(err)
	}
	list, err := List(deadline(t), p.JetStream(), want)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range list {
		if len(st.Differences) > 0 {
			t.Errorf("after Apply: %v", st.Differences)
		}
	}
	if st := list[0]; st.Messages != 1 || st.Bytes == 0 || st.MaxBytes != 5<<20 || st.Oldest.IsZero() || st.Newest.Before(st.Oldest) {
		t.Errorf("topic after Apply: %+v, want its message kept", st)
	}
	if st := list[1]; st.Messages != 0 || !st.Oldest.IsZero() || st.Missing {
		t.Errorf("empty topic: %+v", st)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if ds := open().Differences(); len(ds) > 0 {
		t.Errorf("after Apply and a restart: %v", ds)
	}
}

// TestWorthlessAcknowledgementsAreReported: such streams acknowledge what is not
// stored, or do not acknowledge.
func TestWorthlessAcknowledgementsAreReported(t *testing.T) {
	p := openDir(t, t.TempDir())
	layout := Layout{Prefix: "other", Topics: []Topic{{Name: "t", MaxAge: time.Hour, MaxBytes: 1 << 20}}}
	bad := layout.config(layout.Topics[0])
	bad.NoAck, bad.PersistMode, bad.Storage = true, jetstream.AsyncPersistMode, jetstream.FileStorage
	if _, err := p.JetStream().CreateStream(deadline(t), bad); err != nil {
		t.Fatal(err)
	}
	ds, err := Ensure(deadline(t), p.JetStream(), layout)
	if err != nil || len(ds) != 2 || ds[0].Field != "no acknowledgements" || ds[1].Field != "asynchronous persistence" {
		t.Errorf("Ensure: %v, %v", ds, err)
	}
}

func TestEnsureNamesTheStreamInTheWay(t *testing.T) {
	p := openDir(t, t.TempDir())
	_, err := p.JetStream().CreateStream(deadline(t), jetstream.StreamConfig{Name: "greedy", Subjects: []string{"other.>"}})
	if err != nil {
		t.Fatal(err)
	}
	layout := Layout{Prefix: "other", Topics: []Topic{{Name: "t", MaxAge: time.Hour, MaxBytes: 1 << 20}}}
	if _, err := Ensure(deadline(t), p.JetStream(), layout); err == nil || !strings.Contains(err.Error(), "other-t") {
		t.Errorf("Ensure with overlapping subjects: %v, want an error with other-t", err)
	}
}

func TestApplyChangesLimitsOfARunningServer(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	big := make([]byte, 40<<10)
	m := &pipeline.Message{Topic: "tight", Records: 1, Bytes: len(big), Body: big}
	m.ID = "1"
	publish(t, p, m)
	m.ID = "2"
	if _, err := p.Publish(deadline(t), m); err == nil {
		t.Fatal("topic is not full")
	}
	// Far beyond any disk: the limit is the operator's to choose.
	larger := testLayout()
	larger.Topics[1].MaxBytes = 1 << 50
	_, js := connectOwn(t, dir)
	if err := Apply(deadline(t), js, larger); err != nil {
		t.Fatal(err)
	}
	publish(t, p, m)
	// And back below what the topic holds: full, and nothing is lost.
	if err := Apply(deadline(t), js, testLayout()); err != nil {
		t.Fatal(err)
	}
	list, err := p.Status(deadline(t))
	if err != nil || list[1].Messages != 2 {
		t.Errorf("after a smaller limit: %+v, %v, want 2 messages", list, err)
	}
}

func TestBinds(t *testing.T) {
	for subjects, want := range map[string]bool{
		"caliper.standard": true, "caliper.*": true, "caliper.>": true, ">": true, "*.standard": true, "other caliper.standard": true,
		"": false, "caliper": false, "caliper.standard.>": false, "caliper.other": false, "*": false, "caliper.standard.x": false, "*.*.*": false,
	} {
		if got := binds(strings.Fields(subjects), "caliper.standard"); got != want {
			t.Errorf("%q takes caliper.standard: %v, want %v", subjects, got, want)
		}
	}
}

// A cluster that comes up, or elects its leaders, loses requests and refuses some.
// Here somebody between client and server loses the first of each kind about each
// stream, and refuses the first to create one.
func TestLostRequestsAreAskedAgain(t *testing.T) {
	defer func(d time.Duration) { askAttempt = d }(askAttempt)
	askAttempt = 500 * time.Millisecond
	dir := t.TempDir()
	openDir(t, dir)
	nc, _ := connectOwn(t, dir)
	var lost sync.Map
	_, err := nc.Subscribe("lossy.>", func(m *nats.Msg) {
		kind := m.Subject
		if words := strings.Split(kind, "."); words[1] == "CONSUMER" {
			kind = strings.Join(words[:4], ".") // without its name, which is another each time
		}
		if _, before := lost.LoadOrStore(kind, true); !before {
			if strings.HasPrefix(kind, "lossy.STREAM.CREATE.") {
				_ = m.Respond([]byte(`{"error":{"code":400,"err_code":10005,"description":"no suitable peers for placement"}}`))
			}
			return
		}
		api := strings.Replace(m.Subject, "lossy", "$JS.API", 1)
		if err := nc.PublishRequest(api, m.Reply, m.Data); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.NewWithAPIPrefix(nc, "lossy")
	if err != nil {
		t.Fatal(err)
	}
	layout := testLayout()
	layout.Prefix, layout.Topics = "young", layout.Topics[:1]
	if _, err := Ensure(deadline(t), js, layout); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureKeymap(deadline(t), js, layout); err != nil {
		t.Fatal(err)
	}
	lost.Clear()
	layout.Topics[0].MaxAge *= 2
	layout.KeymapBytes = 1 << 20
	if list, err := List(deadline(t), js, layout); err != nil || len(list[0].Differences) != 1 {
		t.Errorf("List: %+v, %v, want one difference", list, err)
	}
	if st, err := ShowKeymap(deadline(t), js, layout); err != nil || len(st.Differences) != 1 {
		t.Errorf("ShowKeymap: %+v, %v, want one difference", st, err)
	}
	if err := Apply(deadline(t), js, layout); err != nil {
		t.Fatal(err)
	}
	lost.Clear()
	if _, err := OpenKeymap(deadline(t), js, layout); err != nil {
		t.Error(err)
	}
	stream := layout.Stream(layout.Topics[0].Name)
	if _, err := js.Publish(deadline(t), layout.Subject(layout.Topics[0].Name), nil); err != nil {
		t.Fatal(err)
	}
	lost.Clear()
	read := 0
	err = scan(deadline(t), js, stream, jetstream.OrderedConsumerConfig{}, false, func(jetstream.Msg, *jetstream.MsgMetadata) error { read++; return nil })
	if err != nil || read != 1 {
		t.Errorf("scan: %d messages, %v, want one", read, err)
	}
}

// A request that is not permitted has no answer. It is not repeated, and its error
// says what is missing; one that is permitted later is not taken for it.
func TestDeniedRequests(t *testing.T) {
	const open, close = `authorization { users: [ { user: edge, password: hush, permissions: { `, ` } } ] }`
	const noInfo, noCreate, noInbox = `publish: { deny: "$JS.API.STREAM.INFO.>" }`, `publish: { deny: "$JS.API.STREAM.CREATE.KV_caliper-keymap" }`, `subscribe: { deny: "_INBOX.>" }`
	srv := natstest.Start(t, natstest.Options{Config: open + noInfo + close})
	s := Server{URL: "nats://edge:hush@" + srv.Addr()}
	denied := func(what string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, context.DeadlineExceeded) || isAway(err) {
			t.Errorf("%s: %v, want an error that nobody has waited for, with %q", what, err, want)
		}
	}
	const permitInfo = `to publish on $JS.API.STREAM.INFO.caliper-standard`
	for _, verify := range []bool{true, false} {
		_, err := OpenRemote(deadline(t), RemoteConfig{Server: s, Layout: testLayout(), VerifyOnly: verify, MayBeAway: true, Logger: quiet()})
		denied("OpenRemote", err, permitInfo)
	}
	commands := func() jetstream.JetStream {
		t.Helper()
		nc, js, err := ConnectServer(deadline(t), s)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return js
	}
	again := func(old, now string) {
		t.Helper()
		srv.Kill()
		srv.SetConfig(old, now)
		srv.Restart()
	}
	_, err := List(deadline(t), commands(), testLayout())
	denied("List", err, permitInfo)
	again(noInfo, noCreate)
	_, err = EnsureKeymap(deadline(t), commands(), testLayout())
	denied("EnsureKeymap", err, `to publish on $JS.API.STREAM.CREATE.KV_caliper-keymap`)
	again(noCreate, noInbox)
	js := commands()
	_, err = Ensure(deadline(t), js, testLayout())
	denied("Ensure", err, "to subscribe to _INBOX.>")
	_, err = OpenKeymap(deadline(t), js, testLayout()) // of which the server says nothing more
	denied("OpenKeymap", err, "to subscribe to _INBOX.>")
}
