package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestNothingOfAnEventIsTold posts the mark in every place of requests of every
// kind, good and bad, to a program that logs all it can. Neither metrics nor
// readiness show it, nor a token; the log is searched at the end of all tests.
func TestNothingOfAnEventIsTold(t *testing.T) {
	t.Parallel()
	h := newHome(t, "CALIPER_LOG_LEVEL=debug", "CALIPER_MAX_BODY_BYTES=64KiB", "CALIPER_CORS_ORIGINS=https://lms.example", "CALIPER_RATE_REQUESTS=1000")
	s := h.serve()
	wrong := secret(strings.Repeat("wrong-"+secretMark, 4), "a token")
	good := envelope(secretMark, eventID("told"))
	faulty := strings.Replace(good, `"actor":`, `"`+secretMark+`":`, 1)
	mixed := strings.Replace(envelope("", eventID("told", 1), eventID("told", 2)), "NavigatedTo", secretMark, 1)
	for i, body := range []string{
		good, good, strings.Replace(good, "/2", "/3", 1), // stored, a duplicate, one in conflict
		faulty, mixed, strings.ReplaceAll(good, "NavigationEvent", secretMark),
		`{"` + secretMark + `":1}`, `"` + secretMark + `"`, good[:len(good)-3] + secretMark, strings.Replace(good, "v1p1", secretMark, 1),
		envelope(strings.Repeat(secretMark, 20_000)), strings.Repeat(secretMark, 10_000), "\x00" + secretMark,
	} {
		for _, extra := range [][]string{
			{"X-" + secretMark, secretMark}, {"X-DEBUG", secretMark}, {"Content-Type", "text/" + secretMark}, {"Content-Encoding", secretMark},
			{"Content-Encoding", "gzip"}, {"Authorization", "Bearer " + wrong}, {"Authorization", wrong}, {"Authorization", "Basic " + wrong},
			{"Origin", "https://" + secretMark}, {"User-Agent", secretMark},
		} {
			if a := s.post(body, extra...); a.status >= 500 {
				t.Errorf("body %d with %q is answered %d %s", i, extra, a.status, a.body)
			}
		}
	}
	s.get(s.url + "/" + secretMark + "?access_token=" + wrong)
	for _, raw := range []string{
		secretMark + "\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: " + secretMark + "\r\nAuthorization: Bearer " + wrong + "\x01\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: e\r\nAuthorization: Bearer\n " + s.token + "\r\nContent-Length: 0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: e\r\n" + secretMark + ": " + strings.Repeat(wrong, 100) + strings.Repeat("x", 9000) + "\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: e\r\nAuthorization: Bearer " + s.token + "\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + secretMark + "\r\n",
		secretMark + " /" + secretMark + " HTTP/1.1\r\nHost: e\r\n\r\n",
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(c, raw)
		c.(*net.TCPConn).CloseWrite()
		if back, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(back), "HTTP/1.1 4") || strings.Contains(string(back), secretMark) {
			t.Errorf("%.60q is answered %q, %v", raw, back, err)
		}
		c.Close()
	}
	for _, page := range []string{"/metrics", "/readyz", "/livez", "/" + secretMark} {
		a := s.get(s.admin + page)
		if page == "/metrics" && (a.status != http.StatusOK || !strings.Contains(a.body, `caliper_events_accepted_total{tool="demo"`)) {
			t.Fatalf("%s: %d %.200s", page, a.status, a.body)
		}
		for text, what := range map[string]string{secretMark: "event content", s.token: "a token", wrong: "a token"} {
			if strings.Contains(a.body, text) {
				t.Errorf("%s shows %s", page, what)
			}
		}
	}
	s.stop()
}
