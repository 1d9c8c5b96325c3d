package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// takeover is how long a running program may need for a changed token map, on a
// busy machine. It polls every 10 s; within all of these waits it has to notice.
const takeover = 5 * time.Second

// newToken runs a command that prints a token, and nothing else, to stdout.
func (h *home) newToken(args ...string) string {
	h.t.Helper()
	out := h.must(args...)
	if !regexp.MustCompile(`^[A-Za-z0-9._~+/-]{32,}=*\n$`).MatchString(out) {
		h.t.Fatalf("%v printed to stdout %d bytes that are not one token", args, len(out))
	}
	return secret(strings.TrimSpace(out), "a token")
}

func fingerprint(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:4])
}

// status is how a token is answered now.
func (s *server) status(token string) int {
	s.t.Helper()
	return s.post(envelope("", eventID("token")), "Authorization", "Bearer "+token).status
}

func TestTokensOfARunningProgram(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve()
	if out := h.must("token", "check"); !strings.Contains(out, "1 tokens") {
		t.Errorf("token check: %s", out)
	}

	added := h.newToken("token", "add", "Engage")
	within(t, takeover, "an added token works", func() bool { return s.status(added) == 200 })
	if r := h.run("token", "rotate", "nobody"); r.code == 0 || r.stdout != "" {
		t.Errorf("rotating the token of an unknown tool: exit %d, %s", r.code, r.stderr)
	}
	rotated := h.newToken("token", "rotate", "Engage")
	within(t, takeover, "a rotated token works", func() bool { return s.status(rotated) == 200 })
	if status := s.status(added); status != 200 {
		t.Errorf("the token before the rotation: %d", status)
	}

	out := h.must("token", "revoke", fingerprint(added))
	if !strings.Contains(out, "Engage") {
		t.Errorf("token revoke: %s", out)
	}
	within(t, takeover, "a revoked token is refused", func() bool { return s.status(added) == 401 })
	if status := s.status(rotated); status != 200 {
		t.Errorf("the other token of the tool is answered %d", status)
	}
	if r := h.run("token", "revoke", fingerprint(added)); r.code == 0 {
		t.Error("a token was revoked twice")
	}
	if r := h.run("token", "add", "no tool"); r.code == 0 || r.stdout != "" {
		t.Errorf("a tool with a blank in its name: exit %d, %s", r.code, r.stderr)
	}

	unused := h.newToken("token", "add", "later")
	eventually(t, "token list tells of last uses", func() bool {
		list := h.must("token", "list")
		return regexp.MustCompile(`(?m)^Engage +`+fingerprint(rotated)+` +20\S+Z$`).MatchString(list) &&
			regexp.MustCompile(`(?m)^later +`+fingerprint(unused)+` +never$`).MatchString(list)
	})
	if list := h.must("token", "list"); strings.Contains(list, rotated) || strings.Contains(list, fingerprint(added)) {
		t.Error("token list shows a token, or a revoked one")
	}
	s.stop()
	if list := h.must("token", "list"); !regexp.MustCompile(`(?m)^Engage .*Z$`).MatchString(list) {
		t.Errorf("last uses after the end of the program:\n%s", list)
	}
}

func TestABrokenTokenMapKeepsTheOldOne(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	s := h.serve()
	path := h.data("tokens.yaml.age")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	failures := func() float64 { return s.metric("caliper_token_map_failures_total") }
	write := func(content []byte) {
		t.Helper()
		// At once: what is read of a file half written counts as another failure.
		err := os.WriteFile(path+".new", content, 0o600)
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	write([]byte("- id: demo\n  token: " + s.token + "\n")) // not encrypted
	within(t, takeover, "a broken map is counted", func() bool { return failures() == 1 })
	s.signal(syscall.SIGHUP)
	within(t, takeover, "SIGHUP has the broken map read again", func() bool { return failures() == 2 })
	if status := s.status(s.token); status != 200 {
		t.Errorf("with a broken map the old token is answered %d", status)
	}
	if r := h.run("token", "check"); r.code == 0 || !strings.Contains(r.stderr, "tokens.yaml.age") {
		t.Errorf("token check of a broken map: exit %d, %s", r.code, r.stderr)
	}
	if !strings.Contains(s.stderr.String(), "the former one stays in force") {
		t.Error("the log does not tell of the broken map")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	within(t, takeover, "a missing map is counted", func() bool { return failures() == 3 })

	write(good)
	s.signal(syscall.SIGHUP)
	within(t, takeover, "SIGHUP has the mended map read", func() bool {
		return strings.Contains(s.stderr.String(), "token map read again")
	})
	if status := s.status(s.token); status != 200 {
		t.Errorf("with the mended map the token is answered %d", status)
	}
	added := h.newToken("token", "add", "Engage")
	within(t, takeover, "an added token works", func() bool { return s.status(added) == 200 })
	if n := failures(); n != 3 {
		t.Errorf("%v failures at the end, want 3", n)
	}
}

func TestTokenMapWithoutAServer(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	if r := h.run("token", "list"); r.code == 0 || !strings.Contains(r.stderr, "tokens.yaml.age") {
		t.Errorf("token list of nothing: exit %d, %s", r.code, r.stderr)
	}
	token := h.newToken("token", "add", "Engage") // creates folder, key and map
	if out := h.must("token", "check"); !strings.Contains(out, "1 tokens") {
		t.Errorf("token check: %s", out)
	}
	s := launch(t, h.command("serve"))
	eventually(t, "serve starts without --init", func() bool { return strings.Contains(s.stderr.String(), `"serving"`) })
	s.stop()

	// The key in the environment instead of a file.
	key, err := os.ReadFile(h.data("tokens.key"))
	if err != nil {
		t.Fatal(err)
	}
	identity := regexp.MustCompile(`(?m)^AGE-SECRET-KEY-\S+`).FindString(string(key))
	if err := os.Remove(h.data("tokens.key")); err != nil {
		t.Fatal(err)
	}
	if r := h.run("serve"); r.code == 0 || !strings.Contains(r.stderr, "tokens.key") {
		t.Errorf("serve without the key: exit %d, %s", r.code, r.stderr)
	}
	h.env = append(h.env, "CALIPER_TOKENS_IDENTITY="+secret(identity, "the key of the token map"))
	if out := h.must("config"); strings.Contains(out, identity) || !strings.Contains(out, "tokens_identity: (hidden)") {
		t.Error("config does not hide the key")
	}
	with := h.serve()
	if status := with.status(token); status != 200 {
		t.Errorf("with the key from the environment the token is answered %d", status)
	}
}
