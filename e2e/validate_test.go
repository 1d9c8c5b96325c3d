package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caliperedge/internal/fixtures"
)

func TestValidateAgreesWithTheEndpoint(t *testing.T) {
	t.Parallel()
	all := fixtures.Load(t)
	h := newHome(t)
	s := h.serve()
	var files []string
	for _, f := range all {
		name := filepath.Join(h.dir, strings.ReplaceAll(f.File, "/", "_"))
		if err := os.WriteFile(name, f.Body, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	offline := h.run(append([]string{"validate", "--json"}, files...)...)
	if offline.code != 1 {
		t.Errorf("exit %d for fixtures of which some do not conform: %s", offline.code, offline.stderr)
	}
	verdicts := strings.Split(strings.TrimSuffix(offline.stdout, "\n"), "\n")
	if len(verdicts) != len(all) {
		t.Fatalf("%d verdicts for %d files", len(verdicts), len(all))
	}
	for i, f := range all {
		online := s.post(string(f.Body), "X-DEBUG", "TRUE")
		if online.status != f.Status || online.body != verdicts[i] {
			t.Errorf("%s: endpoint %d, expected %d\n endpoint: %s\n validate: %s", f.File, online.status, f.Status, online.body, verdicts[i])
		}
	}
	people := h.run(append([]string{"validate"}, files...)...)
	for i, name := range files {
		if !strings.Contains(people.stdout, fmt.Sprintf("%s: %d", name, all[i].Status)) {
			t.Errorf("validate does not say %d of %s", all[i].Status, name)
		}
	}
	if n := s.metric(`caliper_topic_messages{topic="standard"}`); n != 0 {
		t.Errorf("%v messages were stored", n)
	}
}

func TestValidateExitCodes(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	good, bad := envelope("", eventID("validate")), strings.Replace(envelope("", eventID("validate")), "NavigatedTo", "Unheard", 1)
	for name, content := range map[string]string{"good.json": good, "bad.json": bad, "text.json": "no JSON at all"} {
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := func(code int, stdin, stdout string, args ...string) {
		t.Helper()
		r := h.runWith(stdin, append([]string{"validate"}, args...)...)
		if r.code != code || !strings.Contains(r.stdout, stdout) {
			t.Errorf("validate %v: exit %d, want %d with %q: %s%s", args, r.code, code, stdout, r.stdout, r.stderr)
		}
	}
	f(0, "", "good.json: 200, 1 conformant, 0 not", "good.json")
	f(1, "", "must be valid for `type`", "bad.json")
	f(1, "", "good.json: 200", "bad.json", "good.json")
	f(1, "", "text.json: 415", "text.json")
	f(0, good, "-: 200", "-")
	f(1, bad, "type/action", "-")
	f(0, good, `{"accepted_events":[{"id":`, "--json", "-")
	// What a production endpoint has configured does not change the verdict.
	f(1, "", "must be valid for `type`", "--debug", "off", "bad.json")
	f(0, "", "good.json: 200", "--rate-requests", "0.1", "--rate-burst", "1s", "good.json", "good.json", "good.json")
	f(2, "", "", "absent.json")
	f(2, "", "")
	f(2, "", "", "--unknown", "good.json")
}
