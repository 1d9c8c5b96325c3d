package edge

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"caliperedge/pipeline"
	"caliperedge/pipeline/stream"
)

// openStore opens an embedded JetStream store whose topic standard is limited
// to so many bytes.
func openStore(t *testing.T, standard int64) *stream.Publisher {
	t.Helper()
	layout := stream.Layout{Prefix: "caliper"}
	for _, name := range testTopics {
		topic := stream.Topic{Name: name, MaxAge: time.Hour, MaxBytes: 1 << 20}
		if name == pipeline.TopicStandard {
			topic.MaxBytes = standard
		}
		layout.Topics = append(layout.Topics, topic)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	p, err := stream.OpenEmbedded(ctx, stream.EmbeddedConfig{Dir: t.TempDir(), Layout: layout, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close of the store: %v", err)
		}
	})
	return p
}

// TestReceiptFindsTheEvent stores in JetStream and follows the receipt to the
// record.
func TestReceiptFindsTheEvent(t *testing.T) {
	t.Parallel()
	store := openStore(t, 1<<20)
	s := serve(t, serving{publisher: store})
	c := dial(t, s)
	for i := range 3 {
		a := c.exchange(t, envelope(event(i), badEvent(100), entity(i)))
		want := strings.ReplaceAll(`{"accepted":2,"rejected":1,"topics":{"standard":"standard:N","entities":"entities:N"},"routes":["standard",null,"entities"]}`,
			"N", strconv.Itoa(i+1))
		if a.StatusCode != 202 || a.body != want || a.Header.Get("Caliper-Durability") != "fsync" {
			t.Fatalf("%d %v %s, want %s", a.StatusCode, a.Header, a.body, want)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for topic, item := range map[string]string{"standard": event(i), "entities": entity(i)} {
			st, err := store.JetStream().Stream(ctx, "caliper-"+topic)
			if err != nil {
				t.Fatal(err)
			}
			m, err := st.GetMsg(ctx, uint64(i+1))
			if err != nil {
				t.Fatalf("the message of the receipt: %v", err)
			}
			if !bytes.Contains(m.Data, []byte(item)) || bytes.Count(m.Data, []byte("\n")) != 1 {
				t.Errorf("message %s:%d is %s", topic, i+1, m.Data)
			}
		}
	}
}

// TestFullStore fills a topic: refused within milliseconds, and taken again as
// soon as there is room, without a restart.
func TestFullStore(t *testing.T) {
	t.Parallel()
	store := openStore(t, 64<<10)
	s := serve(t, serving{publisher: store})
	c := dial(t, s)
	body := envelope(events(20)...)
	var a *answer
	for range 100 {
		start := time.Now()
		if a = c.exchange(t, body); a.StatusCode != http.StatusOK {
			if took := time.Since(start); took > 10*time.Second { // it did not wait for the request's deadline
				t.Errorf("a full store took %v to say so", took)
			}
			break
		}
	}
	const want = `{"error":"Service Unavailable","message":"Store is full."}`
	if a.StatusCode != 503 || a.body != want || a.Header.Get("Retry-After") == "" || a.Header.Get("Caliper-Durability") != "" {
		t.Fatalf("%d %v %s, want 503 %s", a.StatusCode, a.Header, a.body, want)
	}
	// Another topic has room.
	if a := c.exchange(t, envelope(entity(1))); a.StatusCode != 200 {
		t.Errorf("an entity describe: %d %s", a.StatusCode, a.body)
	}
	// An envelope for both is not accepted by halves.
	if a := c.exchange(t, envelope(append(events(20), entity(1))...)); a.StatusCode != 503 || a.body != want {
		t.Errorf("an envelope for both: %d %s", a.StatusCode, a.body)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	st, err := store.JetStream().Stream(ctx, "caliper-standard")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.GetMsg(ctx, 1); err != nil {
		t.Errorf("the full store is not readable: %v", err)
	}
	if err := st.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	if a := c.exchange(t, body); a.StatusCode != 200 {
		t.Errorf("with room again: %d %s", a.StatusCode, a.body)
	}
}
