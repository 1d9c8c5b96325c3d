package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"caliperedge/internal/accounting"
)

// answer is an HTTP answer, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

// envelope is a conformant one with an event of each id. extra is put into
// each event as content.
func envelope(extra string, ids ...string) string {
	events := make([]string, len(ids))
	for i, id := range ids {
		events[i] = fmt.Sprintf(`{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":%q,"type":"NavigationEvent",`+
			`"actor":"https://example.edu/%[2]s/1","action":"NavigatedTo","object":"https://example.edu/%[2]s/2",`+
			`"eventTime":"2018-10-03T18:21:08.897Z","edApp":"https://example.edu","extensions":{"note":%[3]q}}`, id, secretMark, extra)
	}
	return `{"sensor":"https://example.edu/` + secretMark + `","sendTime":"2018-10-03T18:21:08.897Z",` +
		`"dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1","data":[` + strings.Join(events, ",") + `]}`
}

// eventID names an event of a test.
func eventID(parts ...any) string {
	id := "urn:" + secretMark
	for _, p := range parts {
		id += fmt.Sprintf(":%v", p)
	}
	return id
}

// post posts body with the demo token, unless header has another.
func (s *server) post(body string, header ...string) answer {
	s.t.Helper()
	a, err := s.tryPost(body, header...)
	if err != nil {
		s.t.Fatalf("post: %v", err)
	}
	return a
}

// tryPost is post for where no answer is expected for certain. header has names
// and values in turn.
func (s *server) tryPost(body string, header ...string) (answer, error) {
	req, err := http.NewRequest("POST", s.url+"/caliper-endpoint", strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return do(s.client, req)
}

// get reads url.
func (s *server) get(url string) answer {
	s.t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := do(s.client, req)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func do(client *http.Client, req *http.Request) (answer, error) {
	start := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.Close {
		resp.Header.Set("Connection", "close") // the client takes it out
	}
	return answer{resp.StatusCode, resp.Header, string(body), time.Since(start)}, err
}

func (a answer) want(t *testing.T, status int, text string) {
	t.Helper()
	if a.status != status || !strings.Contains(a.body, text) {
		t.Fatalf("answered %d %s, want %d with %q", a.status, a.body, status, text)
	}
}

// stored posts events of the ids and demands that they are stored.
func (s *server) stored(ids ...string) answer {
	s.t.Helper()
	a := s.post(envelope("", ids...))
	a.want(s.t, 200, fmt.Sprintf(`"accepted":%d`, len(ids)))
	return a
}

// tail returns the ids in a topic, with how often each is there.
func (h *home) tail(topic string) map[string]int {
	h.t.Helper()
	return recordIDs(h.t, h.must("tail", topic, "--no-follow"))
}

func recordIDs(t *testing.T, lines string) map[string]int {
	t.Helper()
	ids := make(map[string]int)
	for line := range strings.Lines(lines) {
		var record struct{ ID string }
		if err := json.Unmarshal([]byte(line), &record); err != nil || record.ID == "" {
			t.Fatalf("no record: %v: %.200s", err, line)
		}
		ids[record.ID]++
	}
	return ids
}

// missing says how many of ids are not in found, with one of them.
func missing(found map[string]int, ids []string) string {
	var lost []string
	for _, id := range ids {
		if found[id] == 0 {
			lost = append(lost, id)
		}
	}
	if len(lost) == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d acknowledged events are missing, such as %s", len(lost), len(ids), lost[0])
}

// metric reads one sample of /metrics; 0 where there is none.
func (s *server) metric(sample string) float64 {
	s.t.Helper()
	return s.numbers()[sample]
}

// numbers are those of /metrics.
func (s *server) numbers() accounting.Numbers {
	s.t.Helper()
	n, err := accounting.Read(strings.NewReader(s.get(s.admin + "/metrics").body))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
