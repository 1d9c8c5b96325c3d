package stream

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// login connects an ordinary client. It waits for the server to have taken the
// credential over.
func login(t *testing.T, p *Publisher, c Credential) *nats.Conn {
	t.Helper()
	var nc *nats.Conn
	eventually(t, "reader "+c.User+" is let in", func() bool {
		var err error
		nc, err = nats.Connect("nats://"+p.Addr(), nats.UserInfo(c.User, c.Password), nats.Timeout(20*time.Second),
			nats.ReconnectWait(20*time.Millisecond), nats.MaxReconnects(-1), // however long the store takes to open
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		return err == nil
	})
	t.Cleanup(nc.Close)
	return nc
}

func addReader(t *testing.T, js jetstream.JetStream, dir, name, topic string) Credential {
	t.Helper()
	c, err := AddReader(deadline(t), js, testLayout(), dir, name, topic)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fetch fetches up to n messages as an ordinary client does and acknowledges
// them; it returns their sequences.
func fetch(t *testing.T, nc *nats.Conn, c Credential, n int) []uint64 {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	cons, err := js.Consumer(deadline(t), c.Stream, c.Consumer)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := cons.Fetch(n, jetstream.FetchMaxWait(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var seqs []uint64
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.DoubleAck(deadline(t)); err != nil {
			t.Fatalf("acknowledge %d: %v", meta.Sequence.Stream, err)
		}
		seqs = append(seqs, meta.Sequence.Stream)
	}
	if err := batch.Error(); err != nil {
		t.Fatal(err)
	}
	return seqs
}

func TestReaderReads(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	for i := range 6 {
		publish(t, p, message("standard", fmt.Sprint(i), fmt.Sprintf(`{"n":%d}`, i)))
	}
	_, js := connectOwn(t, dir)
	c := addReader(t, js, dir, "warehouse", "standard")
	if c.User != "warehouse" || c.Stream != "caliper-standard" || c.Consumer != "warehouse" || len(c.Password) < 32 {
		t.Errorf("credential of user %q, stream %q, consumer %q, password of %d characters", c.User, c.Stream, c.Consumer, len(c.Password))
	}
	nc := login(t, p, c)
	if got := fmt.Sprint(fetch(t, nc, c, 2)); got != "[1 2]" {
		t.Fatalf("first fetch: %s, want [1 2]", got)
	}
	// What was acknowledged is so after the store was opened again, and the
	// client comes back by itself.
	if err := p.Probe(deadline(t)); err != nil {
		t.Fatal(err)
	}
	// Connected alone would also be true of a client that has not yet noticed.
	eventually(t, "client is connected again", func() bool { return nc.Stats().Reconnects > 0 && nc.IsConnected() })
	if got := fmt.Sprint(fetch(t, nc, c, 4)); got != "[3 4 5 6]" {
		t.Fatalf("fetch after the restart: %s, want [3 4 5 6]", got)
	}
	// The style of most clients: messages as they come.
	rjs, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	cons, err := rjs.Consumer(deadline(t), c.Stream, c.Consumer)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	cc, err := cons.Consume(func(m jetstream.Msg) {
		_ = m.Ack()
		got <- string(m.Data())
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Stop()
	publish(t, p, message("standard", "live", `{"live":true}`))
	select {
	case s := <-got:
		if s != "{\"live\":true}\n" {
			t.Errorf("consumed %q", s)
		}
	case <-time.After(30 * time.Second):
		t.Error("nothing consumed")
	}
}

func TestRedeliveryAfterRestart(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	publish(t, p, message("standard", "1", `{}`))
	nc, js := connectOwn(t, dir)
	c := addReader(t, js, dir, "warehouse", "standard")
	rc := login(t, p, c)
	rjs, err := jetstream.New(rc)
	if err != nil {
		t.Fatal(err)
	}
	cons, err := rjs.Consumer(deadline(t), c.Stream, c.Consumer)
	if err != nil {
		t.Fatal(err)
	}
	first, err := cons.Next()
	if err != nil {
		t.Fatal(err)
	}
	_ = first // delivered and not acknowledged
	rc.Close()
	nc.Close()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	p = openDir(t, dir)
	_, js = connectOwn(t, dir)
	list, err := ListReaders(deadline(t), js, testLayout(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].AckPending != 1 || list[0].Pending != 0 || !list[0].Credential || list[0].Missing {
		t.Errorf("after a restart: %+v, want one message delivered and not acknowledged", list)
	}
	login(t, p, c) // the password is the same
}

func TestStrangersAreRefused(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	_, js := connectOwn(t, dir)
	c := addReader(t, js, dir, "warehouse", "standard")
	login(t, p, c)
	for _, opts := range [][]nats.Option{
		nil,
		{nats.UserInfo("", "")},
		{nats.UserInfo("warehouse", "")},
		{nats.UserInfo("warehouse", c.Password+"x")},
		{nats.UserInfo("Warehouse", c.Password)},
		{nats.UserInfo("nobody", c.Password)},
		{nats.UserInfo(ownUser, c.Password)},
		{nats.UserInfo(ownUser, "")},
		{nats.UserInfo("admin", "s3cr3t!")},
		{nats.Token(c.Password)},
	} {
		nc, err := nats.Connect("nats://"+p.Addr(), append(opts, nats.Timeout(20*time.Second))...)
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("a stranger got %v, want an authorization error", err)
		}
		if err == nil {
			nc.Close()
		}
	}
}

// TestReaderCanDoNothingElse tries with a reader's credential every way around
// that is known. None may be answered with success, and none may change a
// message, a configuration or another reader's consumer.
func TestReaderCanDoNothingElse(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	// More than the pulls below could take if they were answered.
	for i := range 40 {
		publish(t, p, message("standard", fmt.Sprint(i), fmt.Sprintf(`{"n":%d}`, i)))
	}
	publish(t, p, message("rejected", "r", `{}`))
	_, js := connectOwn(t, dir)
	importRows(t, js, course("63", "C1")) // which is in part.55d
	mine := addReader(t, js, dir, "mine", "standard")
	other := addReader(t, js, dir, "other", "standard")
	nc := login(t, p, mine)
	otherConn := login(t, p, other)
	// The other reader has message 1 in hand.
	ojs, err := jetstream.New(otherConn)
	if err != nil {
		t.Fatal(err)
	}
	ocons, err := ojs.Consumer(deadline(t), other.Stream, other.Consumer)
	if err != nil {
		t.Fatal(err)
	}
	inHand, err := ocons.Next()
	if err != nil {
		t.Fatal(err)
	}

	state := func() string { return everything(t, js, other) }
	before := state()

	t.Run("Subscribe", func(t *testing.T) { testSubscribe(t, p, nc, otherConn) })
	// What is allowed is answered on this connection, so silence means refusal.
	if _, err := nc.Request("$JS.API.STREAM.INFO.caliper-standard", nil, 30*time.Second); err != nil {
		t.Fatalf("allowed request: %v", err)
	}
	t.Run("Request", func(t *testing.T) { testRequests(t, nc, inHand.Reply()) })
	t.Run("Reply", func(t *testing.T) { testReplies(t, nc, inHand.Reply()) })
	t.Run("Header", func(t *testing.T) { testHeaders(t, nc) })
	t.Run("KeyValue", func(t *testing.T) {
		mjs, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		if _, err := mjs.KeyValue(ctx, "caliper-keymap"); err == nil {
			t.Error("a reader opened the key-value bucket")
		}
	})

	// Everything a reader sent is through when its own consumer has answered.
	// A connection that broke a rule of the protocol was closed, hence a new one.
	eventually(t, "reader can still read", func() bool {
		again := login(t, p, mine)
		return len(fetch(t, again, mine, 1)) == 1
	})
	if after := state(); after != before {
		t.Errorf("a reader changed something:\nbefore\n%s\nafter\n%s", before, after)
	}
	if err := inHand.DoubleAck(deadline(t)); err != nil {
		t.Errorf("the other reader cannot acknowledge: %v", err)
	}
}

// everything is the state of all streams and of the consumer of reader other.
func everything(t *testing.T, js jetstream.JetStream, other Credential) string {
	t.Helper()
	var b strings.Builder
	for _, s := range []string{"caliper-standard", "caliper-tight", "caliper-rejected", "KV_caliper-keymap"} {
		fmt.Fprintln(&b, s, streamState(t, js, s))
	}
	names, n := js.StreamNames(deadline(t)), 0
	for range names.Name() {
		n++
	}
	c, err := js.Consumer(deadline(t), other.Stream, other.Consumer)
	if err != nil {
		t.Fatal(err)
	}
	i := c.CachedInfo()
	fmt.Fprintln(&b, n, "streams, other:", i.NumAckPending, i.NumPending, i.NumRedelivered, i.Delivered.Consumer, i.AckFloor.Consumer, i.Config)
	return b.String()
}

func testSubscribe(t *testing.T, p *Publisher, nc, other *nats.Conn) {
	var mu sync.Mutex
	var seen []string
	for _, subject := range []string{">", "$JS.>", "$SYS.>", "_INBOX.>", "_R_.>", "caliper.>", "caliper.standard", "$KV.>", "$JS.EVENT.>", "$JS.ACK.>"} {
		_, err := nc.Subscribe(subject, func(m *nats.Msg) {
			mu.Lock()
			seen = append(seen, m.Subject)
			mu.Unlock()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	// Traffic of another reader and of the program.
	if _, err := other.Request("$JS.API.CONSUMER.INFO.caliper-standard.other", nil, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := p.JetStream().Stream(deadline(t), "caliper-tight"); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) > 0 {
		t.Errorf("a reader saw messages on %q", seen)
	}
}

// testRequests sends what is to be refused and takes an answer without an error
// for a success.
func testRequests(t *testing.T, nc *nats.Conn, otherAck string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	push := `{"stream_name":"caliper-standard","config":{"name":"p","durable_name":"p","deliver_subject":"caliper.standard","ack_policy":"none","deliver_policy":"all"}}`
	pull := `{"stream_name":"caliper-standard","config":{"name":"q","durable_name":"q","ack_policy":"explicit"}}`
	change := `{"name":"caliper-standard","subjects":["caliper.standard"],"max_bytes":1,"discard":"old","storage":"file","num_replicas":1}`
	for _, r := range []struct{ subject, body string }{
		{"caliper.standard", `{"forged":true}`},
		{"caliper.standard.x", `{"forged":true}`},
		{"$JS.API.INFO", ""},
		{"$JS.API.STREAM.NAMES", ""},
		{"$JS.API.STREAM.LIST", ""},
		{"$JS.API.STREAM.INFO.caliper-tight", ""},
		{"$JS.API.STREAM.INFO.KV_caliper-keymap", ""},
		{"$JS.API.STREAM.CREATE.mine", `{"name":"mine","subjects":["mine"],"storage":"memory"}`},
		{"$JS.API.STREAM.CREATE.mirror", `{"name":"mirror","mirror":{"name":"caliper-standard"},"storage":"memory"}`},
		{"$JS.API.STREAM.UPDATE.caliper-standard", change},
		{"$JS.API.STREAM.PURGE.caliper-standard", ""},
		{"$JS.API.STREAM.DELETE.caliper-standard", ""},
		{"$JS.API.STREAM.SNAPSHOT.caliper-standard", `{"deliver_subject":"caliper.standard"}`},
		{"$JS.API.STREAM.RESTORE.caliper-standard", "{}"},
		{"$JS.API.STREAM.MSG.DELETE.caliper-standard", `{"seq":1}`},
		{"$JS.API.STREAM.MSG.GET.caliper-standard", `{"seq":1}`},
		{"$JS.API.STREAM.MSG.GET.caliper-rejected", `{"seq":1}`},
		{"$JS.API.DIRECT.GET.caliper-standard", `{"seq":1}`},
		{"$JS.API.DIRECT.GET.KV_caliper-keymap.$KV.caliper-keymap.part.55d", ""},
		{"$JS.API.CONSUMER.NAMES.caliper-standard", ""},
		{"$JS.API.CONSUMER.LIST.caliper-standard", ""},
		{"$JS.API.CONSUMER.INFO.caliper-standard.other", ""},
		{"$JS.API.CONSUMER.MSG.NEXT.caliper-standard.other", "1"},
		{"$JS.API.CONSUMER.MSG.NEXT.caliper-rejected.mine", "1"},
		{"$JS.API.CONSUMER.CREATE.caliper-standard", push},
		{"$JS.API.CONSUMER.CREATE.caliper-standard.p", push},
		{"$JS.API.CONSUMER.CREATE.caliper-standard.p.caliper.standard", push},
		{"$JS.API.CONSUMER.CREATE.caliper-standard.mine", strings.ReplaceAll(push, `"p"`, `"mine"`)},
		{"$JS.API.CONSUMER.CREATE.caliper-standard.q", pull},
		{"$JS.API.CONSUMER.DURABLE.CREATE.caliper-standard.p", push},
		{"$JS.API.CONSUMER.DELETE.caliper-standard.mine", ""},
		{"$JS.API.CONSUMER.DELETE.caliper-standard.other", ""},
		{"$JS.API.CONSUMER.PAUSE.caliper-standard.other", `{"pause_until":"2100-01-01T00:00:00Z"}`},
		{"$JS.API.CONSUMER.RESET.caliper-standard.other", ""},
		{"$JS.API.CONSUMER.UNPIN.caliper-standard.other", `{"group":"g"}`},
		{"$JS.API.SERVER.REMOVE", "{}"},
		{"$JS.API.ACCOUNT.PURGE.$G", ""},
		{"$KV.caliper-keymap.part.55d", "forged"},
		{otherAck, "+ACK"},
		{otherAck, "+TERM"},
		{otherAck, "+NXT"},
		{"$SYS.REQ.USER.INFO", ""},
		{"$SYS.REQ.SERVER.PING", ""},
		{"$SYS.REQ.SERVER.PING.CONNZ", ""},
		{"$SYS.REQ.SERVER.PING.JSZ", ""},
		{"$SYS.REQ.ACCOUNT.PING.CONNZ", ""},
		{"$SYS.REQ.ACCOUNT.$G.CONNZ", ""},
		{"$SYS.REQ.ACCOUNT.$G.JSZ", ""},
	} {
		wg.Go(func() {
			m, err := nc.Request(r.subject, []byte(r.body), 300*time.Millisecond)
			if err != nil {
				return
			}
			var answer struct{ Error json.RawMessage }
			if json.Unmarshal(m.Data, &answer) != nil || answer.Error == nil {
				t.Errorf("%s %s was answered by %q %q", r.subject, r.body, m.Header, m.Data)
			}
		})
	}
}

// testReplies names subjects of the streams as the place for the answer to a
// request that is allowed, and to some that are not.
func testReplies(t *testing.T, nc *nats.Conn, otherAck string) {
	for _, reply := range []string{
		"caliper.standard", "caliper.rejected", "caliper.standard.x", "$KV.caliper-keymap.part.55d",
		"$JS.API.STREAM.PURGE.caliper-standard", "$JS.API.CONSUMER.DELETE.caliper-standard.other",
		"$JS.API.CONSUMER.MSG.NEXT.caliper-standard.other", otherAck,
	} {
		for _, r := range []struct{ subject, body string }{
			{"$JS.API.CONSUMER.MSG.NEXT.caliper-standard.mine", `{"batch":1,"no_wait":true}`},
			{"$JS.API.CONSUMER.MSG.NEXT.caliper-standard.mine", `no json`},
			{"$JS.API.CONSUMER.INFO.caliper-standard.mine", ""},
			{"$JS.API.STREAM.INFO.caliper-standard", ""},
			{"$JS.API.STREAM.MSG.GET.caliper-standard", `{"seq":1}`},
			{"$JS.API.DIRECT.GET.caliper-standard", `{"seq":1}`},
			{"$JS.ACK.caliper-standard.mine.1.1.1.1.1", "+NXT"},
			{"$JS.ACK.caliper-standard.mine.1.1.1.1.1", "+ACK"},
		} {
			_ = nc.PublishRequest(r.subject, reply, []byte(r.body))
			// The server ends a connection for the reserved reply subjects, after
			// which a client can say for a while that it is connected, and what it
			// sends is lost. Once the server has answered, it has dealt with all
			// that was sent before.
			eventually(t, "the server answers", func() bool { return nc.FlushTimeout(5*time.Second) == nil })
		}
	}
}

// testHeaders has the server report on a message to a subject of the streams.
func testHeaders(t *testing.T, nc *nats.Conn) {
	for _, subject := range []string{"$JS.API.CONSUMER.INFO.caliper-standard.mine", "$JS.API.STREAM.INFO.caliper-standard",
		"$JS.API.CONSUMER.MSG.NEXT.caliper-standard.mine", "$JS.ACK.caliper-standard.mine.1.1.1.1.1"} {
		for _, only := range []string{"", "true"} {
			m := nats.NewMsg(subject)
			m.Reply = "caliper.standard"
			m.Header.Set("Nats-Trace-Dest", "caliper.standard")
			m.Header.Set("Nats-Trace-Only", only)
			m.Header.Set("Nats-Request-Info", `{"acc":"$G","svc":"$G"}`)
			if err := nc.PublishMsg(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := nc.FlushTimeout(30 * time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestRemovedReaderIsDisconnected(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	publish(t, p, message("standard", "1", `{}`))
	_, js := connectOwn(t, dir)
	gone := addReader(t, js, dir, "gone", "standard")
	stays := addReader(t, js, dir, "stays", "standard")
	ncGone, ncStays := login(t, p, gone), login(t, p, stays)
	if err := RemoveReader(deadline(t), js, testLayout(), dir, "gone"); err != nil {
		t.Fatal(err)
	}
	// It is disconnected, tries again, is refused and gives up.
	eventually(t, "removed reader is out for good", ncGone.IsClosed)
	if got := fetch(t, ncStays, stays, 1); len(got) != 1 || ncStays.Statistics.Reconnects != 0 {
		t.Errorf("the other reader got %v after %d reconnects", got, ncStays.Statistics.Reconnects)
	}
	if _, err := js.Consumer(deadline(t), "caliper-standard", "gone"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("consumer of the removed reader: %v", err)
	}
	if err := RemoveReader(deadline(t), js, testLayout(), dir, "gone"); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("removing it again: %v, want an error with its name", err)
	}
	// The name is free again, on any topic.
	again := addReader(t, js, dir, "gone", "rejected")
	publish(t, p, message("rejected", "1", `{}`))
	if got := fetch(t, login(t, p, again), again, 1); len(got) != 1 {
		t.Errorf("reader of the same name on another topic fetched %v", got)
	}
}

func TestAddReaderAgain(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	publish(t, p, message("standard", "1", `{}`))
	publish(t, p, message("standard", "2", `{}`))
	_, js := connectOwn(t, dir)
	first := addReader(t, js, dir, "warehouse", "standard")
	nc := login(t, p, first)
	fetch(t, nc, first, 1)
	second := addReader(t, js, dir, "warehouse", "standard")
	eventually(t, "the old password is out", nc.IsClosed)
	if got := fmt.Sprint(fetch(t, login(t, p, second), second, 1)); got != "[2]" {
		t.Errorf("fetch with the new password: %s, want [2]: the position stays", got)
	}
	for _, c := range []struct{ name, topic, want string }{
		{"warehouse", "rejected", "standard"},
		{"caliper", "standard", "program's own"},
		{"mover", "standard", "program's own"},
		{"a b", "standard", "expected 1 to 32"},
		{"", "standard", "expected 1 to 32"},
		{"x", "nowhere", "standard, tight, rejected"},
	} {
		if _, err := AddReader(deadline(t), js, testLayout(), dir, c.name, c.topic); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("AddReader(%q, %q): %v, want an error with %q", c.name, c.topic, err, c.want)
		}
	}
}

// The consumer by which records move is nobody's to remove.
func TestMoverIsNoReader(t *testing.T) {
	p := openForMoving(t, t.TempDir())
	js := p.JetStream()
	if _, err := js.CreateConsumer(deadline(t), "caliper-quarantine", moverConsumerConfig); err != nil {
		t.Fatal(err)
	}
	if err := RemoveReader(deadline(t), js, moverLayout(), "", moverConsumer); err == nil || !strings.Contains(err.Error(), "program's own") {
		t.Errorf("RemoveReader: %v, want a refusal", err)
	}
	if _, err := js.Consumer(deadline(t), "caliper-quarantine", moverConsumer); err != nil {
		t.Error(err)
	}
}

func TestReaderOfAnExternalServer(t *testing.T) {
	_, _, remote := openRemote(t)
	c, err := AddReader(deadline(t), remote.JetStream(), testLayout(), "", "warehouse", "standard")
	if err != nil || c.Password != "" || c.Consumer != "warehouse" {
		t.Fatalf("AddReader without a data folder: password of %d characters, %v", len(c.Password), err)
	}
	list, err := ListReaders(deadline(t), remote.JetStream(), testLayout(), "")
	if err != nil || len(list) != 1 || list[0].Name != "warehouse" || list[0].Topic != "standard" || list[0].Credential {
		t.Errorf("ListReaders: %+v, %v", list, err)
	}
	if err := RemoveReader(deadline(t), remote.JetStream(), testLayout(), "", "warehouse"); err != nil {
		t.Error(err)
	}
}

func TestBrokenReadersFile(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	_, js := connectOwn(t, dir)
	c := addReader(t, js, dir, "warehouse", "standard")
	nc := login(t, p, c)
	path := filepath.Join(dir, readersName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(good), c.Password) {
		t.Error("the password is in the file")
	}
	if fi, _ := os.Stat(path); fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", fi.Mode())
	}
	digest := strings.Repeat("0", 64)
	for _, broken := range []string{
		`{"readers":[`,
		`{"readers":[{"name":"a","topic":"standard","sha256":"abc"}]}`,
		`{"readers":[{"name":"a b","topic":"standard","sha256":"` + digest + `"}]}`,
		`{"readers":[{"name":"caliper","topic":"standard","sha256":"` + digest + `"}]}`,
		`{"readers":[{"name":"a","topic":"b","sha256":"` + digest + `"},{"name":"a","topic":"c","sha256":"` + digest + `"}]}`,
	} {
		if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadReaders(dir); err == nil {
			t.Errorf("loadReaders takes %s", broken)
		}
		if _, err := AddReader(deadline(t), js, testLayout(), dir, "second", "standard"); err == nil {
			t.Errorf("AddReader overwrites %s", broken)
		}
	}
	// A file that is good again is taken over, and the reader has been there all
	// the time.
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	second := addReader(t, js, dir, "second", "standard")
	login(t, p, second)
	if nc.Statistics.Reconnects != 0 || !nc.IsConnected() {
		t.Errorf("the reader was disconnected by a broken file")
	}
}

func TestConcurrentAddReader(t *testing.T) {
	dir := t.TempDir()
	openDir(t, dir)
	_, js := connectOwn(t, dir)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := AddReader(deadline(t), js, testLayout(), dir, fmt.Sprint("r", i), "standard"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	m, err := loadReaders(dir)
	if err != nil || len(m) != 8 {
		t.Errorf("%d readers after 8 concurrent additions, %v", len(m), err)
	}
}

// A second kind of credential in CONNECT would be what the server takes for
// the client's name, and with it a connection would outlive its password.
func TestOtherCredentialsAreRefused(t *testing.T) {
	dir := t.TempDir()
	p := openDir(t, dir)
	_, js := connectOwn(t, dir)
	c := addReader(t, js, dir, "warehouse", "standard")
	login(t, p, c) // waits until the reader is known
	try := func(more string) string {
		conn, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "CONNECT {\"verbose\":false,\"user\":%q,\"pass\":%q%s}\r\nPING\r\n", c.User, c.Password, more)
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		in := bufio.NewReader(conn)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return "closed"
			}
			if !strings.HasPrefix(line, "INFO") {
				return strings.TrimSpace(line)
			}
		}
	}
	if got := try(""); got != "PONG" {
		t.Fatalf("user and password alone: %s", got)
	}
	for _, more := range []string{`,"nkey":"UEVADES"`, `,"auth_token":"x"`} {
		if got := try(more); !strings.Contains(got, "Authorization Violation") && got != "closed" {
			t.Errorf("with %s: %s", more, got)
		}
	}
}
