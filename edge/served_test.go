package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"caliperedge/edge/tokenmap"
	"caliperedge/pipeline"
	"caliperedge/pipeline/pipelinetest"

	"github.com/VictoriaMetrics/metrics"
)

// The tokens that the served endpoints know, and one that they do not.
const (
	testToken    = "LDbzS7lOirWY4FPeoT2RdHq77jfCFPNj"
	otherToken   = "nI0c94Sp0kDwjRDjcjU1JvEDr49UeL1n"
	unknownToken = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	testTool     = "Engage"
	otherTool    = "iClicker"
)

// knownTokens is a Tokens of two tools.
type knownTokens map[string]*tokenmap.Principal

func newKnownTokens() knownTokens {
	known := knownTokens{}
	for token, tool := range map[string]string{testToken: testTool, otherToken: otherTool} {
		sum := sha256.Sum256([]byte(token))
		known[token] = &tokenmap.Principal{Tool: tool, Fingerprint: hex.EncodeToString(sum[:4])}
	}
	return known
}

func (k knownTokens) Lookup(token []byte) (*tokenmap.Principal, bool) {
	p, ok := k[string(token)]
	return p, ok
}

var testTopics = []string{pipeline.TopicStandard, "enriched", "quarantine", pipeline.TopicEntities, "rejected"}

// served is an Endpoint that serves a TCP port, with a real pipeline.
type served struct {
	*Endpoint
	store   *pipelinetest.Memory // where publisher is not set
	metrics *metrics.Set
	addr    string
}

// serving says what is special about a served endpoint.
type serving struct {
	Config
	tokens    Tokens             // nil means knownTokens
	publisher pipeline.Publisher // nil means the store
	log       *slog.Logger       // nil means none
	store     *pipelinetest.Memory
	pipeline  pipeline.Config
	tls       *tls.Config // of the listener, or nil
}

// serve runs an endpoint until the end of the test, which it fails where the
// endpoint does not end in order.
func serve(t testing.TB, s serving) *served {
	t.Helper()
	out := build(t, s)
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	out.addr = ln.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- out.Serve(ln, s.tls) }()
	poll(t, "the endpoint to serve", func() bool { return out.listener.Load() != nil })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := out.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return out
}

// build makes an endpoint that is not served. Its pipeline ends with the test,
// after which nothing may be left of the budget in use.
func build(t testing.TB, s serving) *served {
	t.Helper()
	out := &served{store: s.store, metrics: metrics.NewSet()}
	if out.store == nil {
		out.store = pipelinetest.NewMemory(testTopics...)
	}
	if s.publisher == nil {
		s.publisher = out.store
	}
	if s.tokens == nil {
		s.tokens = newKnownTokens()
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.RequestTimeout == 0 { // no test is about it that does not set it, and a busy machine stalls for seconds
		s.RequestTimeout = 30 * time.Second
	}
	s.pipeline.PublishTimeout, s.pipeline.AttemptTimeout = 25*time.Second, 10*time.Second
	s.pipeline.Topics, s.pipeline.Metrics, s.Config.Metrics = testTopics, out.metrics, out.metrics
	if s.Config.MaxBodyBytes != 0 {
		s.pipeline.MaxEnvelopeBytes = 4 * int64(s.Config.MaxBodyBytes)
	}
	p, err := pipeline.New(s.pipeline, s.publisher, s.log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := p.Drain(ctx); err != nil {
			t.Errorf("drain of the pipeline: %v", err)
		}
		if used := p.Budget().Used(); used != 0 {
			t.Errorf("%d bytes of the budget were not given back", used)
		}
	})
	out.Endpoint, err = New(s.Config, s.tokens, p, s.log)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// poll waits until done, and fails the test where that takes too long.
func poll(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// record is what tests look at of a stored record.
type record struct {
	ID        string          `json:"id"`
	Tool      string          `json:"tool"`
	Topic     string          `json:"topic"`
	Type      string          `json:"type"`
	Action    string          `json:"action"`
	EventTime string          `json:"eventTime"`
	Actor     string          `json:"actor"`
	EdApp     string          `json:"edApp"`
	Sensor    string          `json:"sensor"`
	SendTime  string          `json:"sendTime"`
	Version   string          `json:"dataVersion"`
	Event     json.RawMessage `json:"event"`

	sequence int // of the message that holds it
}

// records returns what is stored in the topics, in order.
func (s *served) records(t testing.TB, topics ...string) []record {
	t.Helper()
	if len(topics) == 0 {
		topics = testTopics
	}
	var all []record
	for _, topic := range topics {
		for i, m := range s.store.Messages(topic) {
			if m.Encoding != pipeline.EncodingNone {
				t.Fatalf("message packed as %q", m.Encoding)
			}
			for line := range bytes.Lines(m.Body) {
				r := record{sequence: i + 1}
				if err := json.Unmarshal(line, &r); err != nil {
					t.Fatalf("record of %s: %v: %s", topic, err, line)
				}
				all = append(all, r)
			}
		}
	}
	return all
}

// client is one connection to a served endpoint.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, s *served) *client {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return newClient(c)
}

func newClient(c net.Conn) *client { return &client{Conn: c, r: bufio.NewReader(c)} }

// answer is a response, read to its end.
type answer struct {
	*http.Response
	body string
}

// read reads the answer to a request by method.
func (c *client) read(method string) (*answer, error) {
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusContinue {
		return &answer{Response: resp}, nil
	}
	body, err := io.ReadAll(resp.Body)
	return &answer{Response: resp, body: string(body)}, err
}

// post sends an envelope in one write. Lines of extra are further headers.
func (c *client) post(token, body string, extra ...string) error {
	_, err := io.WriteString(c, request(token, body, extra...))
	return err
}

func request(token, body string, extra ...string) string {
	return fmt.Sprintf("POST / HTTP/1.1\r\nHost: edge.example\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s",
		token, len(body), strings.Join(append(extra, ""), "\r\n"), body)
}

// exchange posts and reads the answer.
func (c *client) exchange(t testing.TB, body string, extra ...string) *answer {
	t.Helper()
	if err := c.post(testToken, body, extra...); err != nil {
		t.Fatalf("post: %v", err)
	}
	a, err := c.read(http.MethodPost)
	if err != nil {
		t.Fatalf("answer: %v", err)
	}
	return a
}

// ended reports nil where the server has closed the connection in order: an
// end of file, and nothing before it.
func (c *client) ended() error {
	rest, err := io.ReadAll(c.r)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes before the end: %q", len(rest), rest[:min(len(rest), 200)])
	}
	return err
}

// What the tests' envelopes are made of.
const (
	testHead    = `"sensor":"https://example.edu/sensors/1","sendTime":"2018-11-15T11:05:01.000Z","dataVersion":"` + testVersion + `"`
	testVersion = "http://purl.imsglobal.org/ctx/caliper/v1p1"
)

func eventID(n int) string { return fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012d", n) }

// event is a conformant event.
func event(n int) string {
	return fmt.Sprintf(`{"@context":"%s","id":"%s","type":"NavigationEvent","actor":"https://example.edu/users/%d","action":"NavigatedTo",`+
		`"object":"https://example.edu/pages/1","eventTime":"2018-10-03T18:21:08.897Z"}`, testVersion, eventID(n), n)
}

// badEvent is an event without an actor.
func badEvent(n int) string {
	return fmt.Sprintf(`{"@context":"%s","id":"%s","type":"NavigationEvent","action":"NavigatedTo",`+
		`"object":"https://example.edu/pages/1","eventTime":"2018-10-03T18:21:08.897Z"}`, testVersion, eventID(n))
}

// entity is a conformant entity describe.
func entity(n int) string {
	return fmt.Sprintf(`{"@context":"%s","id":"https://example.edu/users/%d","type":"Person"}`, testVersion, n)
}

func envelope(items ...string) string {
	return "{" + testHead + `,"data":[` + strings.Join(items, ",") + "]}"
}

// events is n conformant events.
func events(n int) []string {
	items := make([]string, n)
	for i := range items {
		items[i] = event(i)
	}
	return items
}

// certificate makes a certificate for edge.example and the pool that trusts it.
func certificate(t testing.TB) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"edge.example"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}
