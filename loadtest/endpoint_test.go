package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"caliperedge/edge"
	"caliperedge/edge/tokenmap"
	"caliperedge/pipeline"
	"caliperedge/pipeline/rules"
	"caliperedge/pipeline/stream"
)

const testToken = "LDbzS7lOirWY4FPeoT2RdHq77jfCFPNj"

// oneTool knows the test token alone.
type oneTool struct{ principal tokenmap.Principal }

func (o *oneTool) Lookup(token []byte) (*tokenmap.Principal, bool) {
	return &o.principal, string(token) == testToken
}

// endpoint is a real one, with a real store on disk.
type endpoint struct {
	url     string
	dataDir string
}

func startEndpoint(t *testing.T) *endpoint { return startCopying(t, "[]") }

// startCopying has further topics, and rules as a configuration file has them.
func startCopying(t *testing.T, text string) *endpoint {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	layout := stream.Layout{Prefix: "caliper"}
	topics := []string{pipeline.TopicStandard, pipeline.TopicEntities, "enriched", "quarantine", "live", "other"}
	for _, name := range topics {
		layout.Topics = append(layout.Topics, stream.Topic{Name: name, MaxAge: time.Hour, MaxBytes: 1 << 30})
	}
	store, err := stream.OpenEmbedded(t.Context(), stream.EmbeddedConfig{Dir: dir, Listen: "127.0.0.1:0", Layout: layout, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	list, err := rules.ReadRules(doc.Content[0], "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	copies, err := rules.Compile(rules.Config{Rules: list, Topics: topics})
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.New(pipeline.Config{Topics: topics, Rules: copies, Encoding: pipeline.EncodingSnappy, MaxMessageBytes: store.MaxMessageBytes(),
		PublishTimeout: 20 * time.Second}, store, quiet) // a disk shared with other tests stalls for seconds
	if err != nil {
		t.Fatal(err)
	}
	e, err := edge.New(edge.Config{RequestTimeout: 25 * time.Second}, &oneTool{tokenmap.Principal{Tool: "test"}}, p, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(ln.(*net.TCPListener), nil) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		e.StartDrain()
		if err := e.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
		<-served
		if err := p.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
	})
	return &endpoint{"http://" + ln.Addr().String() + "/", dir}
}

// liar stands between the sensors and an endpoint and does what it likes with the n-th request, counted from 1.
type liar struct {
	t      *testing.T
	target string
	n      atomic.Int64
	client http.Client
}

// startLiar returns the URL at which sensors meet it.
func startLiar(t *testing.T, target string, lie func(l *liar, n int64, w http.ResponseWriter, r *http.Request, body []byte)) string {
	t.Helper()
	l := &liar{t: t, target: target}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the sensor has gone
		}
		lie(l, l.n.Add(1), w, r, body)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(l.client.CloseIdleConnections)
	return s.URL + "/"
}

// forward sends a request to the endpoint and returns its answer.
func (l *liar) forward(r *http.Request, body []byte) (int, []byte) {
	req, err := http.NewRequest("POST", l.target, bytes.NewReader(body))
	if err != nil {
		l.t.Error(err)
		return 500, nil
	}
	req.Header = r.Header.Clone()
	resp, err := l.client.Do(req)
	if err != nil {
		l.t.Errorf("the endpoint behind the liar: %v", err)
		return 500, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Error(err)
	}
	return resp.StatusCode, text
}

func reply(w http.ResponseWriter, status int, body []byte) {
	w.WriteHeader(status)
	w.Write(body) // a sensor may have gone
}

// loadtest runs the program on a target and returns its exit status and report.
func loadtest(t *testing.T, ctx context.Context, url string, args ...string) (int, *Result) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	args = append([]string{"-url", url, "-token", testToken, "-json", file, "-timeout", "30s", "-distinct", "64"}, args...)
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, &stdout, &stderr)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("loadtest %v: exit %d\n%s\n%s", args[10:], code, &stdout, &stderr)
		}
	})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("exit %d, no report: %s", code, &stderr)
	}
	var r Result
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return code, &r
}
