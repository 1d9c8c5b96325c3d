package e2e_test

import (
	"slices"
	"strings"
	"testing"
)

func TestNumbersAddUp(t *testing.T) {
	t.Parallel()
	h := newHome(t, "CALIPER_STORE_BYTES=4MiB", "CALIPER_CONTENT_ENCODING=none", "CALIPER_MAX_BODY_BYTES=1MiB")
	s := h.serve()
	other := h.newToken("token", "add", "Engage")
	eventually(t, "the other tool is known", func() bool { return s.get(s.admin+"/metrics").status == 200 && s.metric("caliper_tokens") == 2 })

	bad := strings.Replace(envelope("", eventID("m", 1), eventID("m", 2)), "NavigatedTo", "Unheard", 1)
	allBad := strings.ReplaceAll(bad, "NavigatedTo", "Unheard")
	s.post(envelope("", eventID("m", 3), eventID("m", 4))).want(t, 200, "")
	s.post(bad).want(t, 202, "")
	s.post(allBad).want(t, 400, "No event in the Caliper envelope is conformant.")
	s.post(bad, "X-DEBUG", "TRUE").want(t, 202, "")
	s.post(strings.Replace(bad, "v1p1", "v0", 1)).want(t, 422, "")
	s.post("no JSON").want(t, 415, "")
	s.post(`{"data":[]}`).want(t, 422, "")
	s.post("{}", "Content-Type", "text/plain").want(t, 415, "")
	s.post(strings.Repeat(" ", 2<<20)).want(t, 413, "")
	s.post(envelope("", eventID("m")), "Authorization", "Bearer nobody").want(t, 401, "")
	s.post(envelope("", eventID("m", 5)), "Authorization", "Bearer "+other).want(t, 200, "")
	full := s.fill("metrics")

	n := s.numbers()
	if err := n.Check(); err != nil {
		t.Error(err)
	}
	if tools := n.Tools(); !slices.Equal(tools, []string{"Engage", "demo"}) {
		t.Errorf("numbers of the tools %q", tools)
	}
	for sample, want := range map[string]float64{
		`caliper_events_accepted_total{tool="demo"}`:              3 + float64(len(full)),
		`caliper_events_rejected_total{tool="demo"}`:              1 + 2 + 2,
		`caliper_events_refused_total{tool="demo"}`:               1,
		`caliper_events_debug_total{tool="demo"}`:                 2,
		`caliper_requests_total{tool="Engage"}`:                   1,
		`caliper_responses_total{status="401"}`:                   1,
		`caliper_requests_refused_total{reason="full"}`:           1,
		`caliper_requests_ended_total{tool="demo",as="rejected"}`: 6,
		`caliper_durability{level="fsync"}`:                       1,
		`caliper_store_available`:                                 1,
		`caliper_budget_used_bytes`:                               0,
	} {
		if got := s.metric(sample); got != want {
			t.Errorf("%s is %v, want %v", sample, got, want)
		}
	}
}

func TestAdminListener(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve()
	f := func(url string, status int, text string) {
		t.Helper()
		if a := s.get(url); a.status != status || !strings.Contains(a.body, text) {
			t.Errorf("%s: %d %.100s, want %d with %q", strings.TrimPrefix(url, s.url), a.status, a.body, status, text)
		}
	}
	f(s.url+"/livez", 200, "ok")
	f(s.admin+"/livez", 200, "ok")
	f(s.admin+"/readyz", 200, "fsync")
	f(s.admin+"/debug/pprof/", 200, "goroutine")
	f(s.admin+"/debug/pprof/goroutine?debug=1", 200, "goroutine profile")
	f(s.admin+"/debug/pprof/profile?seconds=1", 200, "")
	f(s.admin+"/", 404, "")
	f(s.url+"/metrics", 404, "No endpoint at this path.")
	f(s.url+"/readyz", 404, "")
	f(s.url+"/debug/pprof/", 404, "")
}
