package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// write writes a file into the folder of the installation.
func (h *home) write(name, content string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// setting is the value that config prints for key.
func setting(printed, key string) string {
	m := regexp.MustCompile(`(?m)^` + key + `: (.*)$`).FindStringSubmatch(printed)
	if m == nil {
		return "(absent)"
	}
	return m[1]
}

func TestConfigPrecedence(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("edge.yaml", `# where things are
prefix: fromfile
drain_delay: 3s
paths: [/events]
request_timeout: 7s
topics:
  standard: {max_age: 24h, max_bytes: 40%}
  mine:
    max_bytes: 1MiB
tools:
  Engage: {rejected: off}
`)
	h.env = append(h.env, "CALIPER_CONFIG=edge.yaml", "CALIPER_DRAIN_DELAY=4s", "CALIPER_REQUEST_TIMEOUT=8s")
	out := h.must("config", "--request-timeout", "9s")
	for key, want := range map[string]string{
		"prefix": "fromfile", "drain_delay": "4s", "request_timeout": "9s", "paths": `["/events"]`, "debug": "on", "body_timeout": "30s",
	} {
		if got := setting(out, key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	for _, want := range []string{"standard: {max_age: 24h0m0s,", "mine: {max_age: 720h0m0s, max_bytes: 1048576}", `"Engage": {rejected: off}`} {
		if !strings.Contains(out, want) {
			t.Errorf("config does not print %s:\n%s", want, out)
		}
	}

	// Every flag of the program is a setting that config prints.
	for _, m := range regexp.MustCompile(`(?m)^ +--([a-z-]+)`).FindAllStringSubmatch(h.must("config", "--help"), -1) {
		if key := strings.ReplaceAll(m[1], "-", "_"); key != "config" && setting(out, key) == "(absent)" {
			t.Errorf("config does not print %s", key)
		}
	}

	// What config prints is a configuration file.
	h.write("printed.yaml", out)
	bare := &home{t: t, dir: h.dir, env: []string{"CALIPER_CONFIG=printed.yaml"}}
	again := bare.must("config")
	strip := func(s string) string { return regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(s, "") }
	if strip(again) != strip(out) {
		t.Errorf("config of what config printed:\n%s\nwant:\n%s", again, out)
	}
}

func TestConfigHidesSecrets(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	for url, code := range map[string]int{"nats://edge:hush%s@127.0.0.1:4222": 0, "nats://edge:hush%%s@[::1": 2, "edge:hush%s@host": 0} {
		url = strings.Replace(url, "%s", secretMark, 1)
		h.env = append(h.env, "CALIPER_NATS_URL="+url, "CALIPER_TOKENS_IDENTITY=AGE-SECRET-KEY-"+secretMark)
		r := h.run("config")
		if all := r.stdout + r.stderr; strings.Contains(all, "hush") || strings.Contains(all, secretMark) || r.code != code {
			t.Errorf("exit %d, want %d; config shows a secret or nothing:\n%s", r.code, code, all)
		}
	}
	for _, url := range []string{"nats://edge:hush@one:4222,nats://edge:hush@two:4222", "nats://hush@one:4222,hush@two"} { // a password, a token
		h.env = append(h.env, "CALIPER_NATS_URL="+url)
		if r := h.run("config"); r.code != 0 || strings.Contains(r.stdout+r.stderr, "hush") || !strings.Contains(r.stdout, "two") {
			t.Errorf("several URLs: exit %d, %s%s", r.code, r.stdout, r.stderr)
		}
	}
	h.env = append(h.env, "CALIPER_NATS_URL=nats://edge:hush@one:4222,")
	if r := h.run("serve", "--init"); r.code != 2 || strings.Contains(r.stderr, "hush") || !strings.Contains(r.stderr, "CALIPER_NATS_URL") {
		t.Errorf("an empty URL: exit %d, %s", r.code, r.stderr)
	}
}

func TestConfigFaultsNameTheirPlace(t *testing.T) {
	t.Parallel()
	f := func(file, want string) {
		t.Helper()
		h := newHome(t)
		h.env = []string{"CALIPER_CONFIG=edge.yaml"}
		h.write("edge.yaml", file)
		if r := h.run("config"); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("exit %d, %s want 2 and %q", r.code, r.stderr, want)
		}
	}
	f("debug: on\nlissten: x\n", "edge.yaml:2: lissten: unknown setting")
	f("# a comment\ndrain-delay: 1s\n", "edge.yaml:2: drain-delay: unknown setting")
	f("debug: perhaps\n", `edge.yaml:1: debug: "perhaps", expected on or off`)
	f("debug: on\n\nmax_body_bytes: 4 lots\n", `edge.yaml:3: max_body_bytes: "4 lots", expected bytes`)
	f("debug: on\nlisten: here\n", `edge.yaml:2: listen: "here", expected host:port`)
	f("log_level: loud\n", `edge.yaml:1: log_level: "loud", expected debug`)
	f("replicas: 3\n", "edge.yaml:1: replicas: 3, but the embedded server has one copy")
	f("listen: a:1\nlisten: b:2\n", "edge.yaml:2: listen: set twice")
	f("listen: {a: 1}\n", "edge.yaml:1: listen: expected a value")
	f("topics:\n  standard:\n    max_agee: 1h\n", "edge.yaml:3: topic standard: max_agee: unknown setting")
	f("topics:\n  standard:\n    max_age: soon\n", `edge.yaml:3: topic standard: max_age: "soon", expected a duration`)
	f("topics:\n  standard:\n    max_age: 1h\n    max_bytes: 200%\n", `edge.yaml:4: topic standard: max_bytes: "200%", expected a share`)
	f("topics:\n  live: {max_age: 1h}\n", "edge.yaml:2: topic live: max_bytes is missing")
	f("debug: on\n---\ndebug: off\n", "edge.yaml:3: a second document begins here")
	f("topics: [standard]\n", "edge.yaml:1: expected a mapping")
	f("a: [\n", "edge.yaml:1: did not find")

	h := newHome(t, "CALIPER_REQUEST_TIMEOUT=soon")
	if r := h.run("config"); r.code != 2 || !strings.Contains(r.stderr, "environment variable CALIPER_REQUEST_TIMEOUT") {
		t.Errorf("a bad variable: exit %d, %s", r.code, r.stderr)
	}
	h = newHome(t, "CALIPER_CONFIG=absent.yaml")
	if r := h.run("config"); r.code != 2 || !strings.Contains(r.stderr, "absent.yaml") {
		t.Errorf("no configuration file: exit %d, %s", r.code, r.stderr)
	}
	h = newHome(t)
	if r := h.run("config", "--drain-delay=-1s"); r.code != 2 || !strings.Contains(r.stderr, "--drain-delay: -1s") {
		t.Errorf("a bad flag: exit %d, %s", r.code, r.stderr)
	}
}

func TestUnknownVariablesAreToldOf(t *testing.T) {
	t.Parallel()
	h := newHome(t, "CALIPER_LISTENN=127.0.0.1:1", "CALIPER_INIT=true")
	s := h.serve()
	for _, name := range []string{"CALIPER_LISTENN", "CALIPER_INIT"} {
		if !strings.Contains(s.stderr.String(), name) {
			t.Errorf("serve did not warn of %s", name)
		}
	}
}

// A rule for a tool that nobody has a token of is never used, so a misspelt name
// is told of.
func TestUnknownToolsAreToldOf(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("edge.yaml", "tools:\n  demo: {rejected: off}\n  Engaeg: {rejected: off}\nrules:\n  - {name: a, when: {tool: [demo, Cavnas]}, topic: enriched}\n")
	s := h.serve("--config", "edge.yaml")
	if !strings.Contains(s.stderr.String(), `"tools":"Cavnas,Engaeg"`) {
		t.Errorf("serve did not warn of exactly Cavnas and Engaeg: %s", s.stderr.String())
	}
}

func TestVersionHelpAndUnknownCommands(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	if out := h.must("version"); !regexp.MustCompile(`^caliper-edge \S+\n$`).MatchString(out) {
		t.Errorf("version printed %q", out)
	}
	help := h.must("--help")
	for _, command := range []string{"serve", "token add", "token list", "token revoke", "token rotate", "token check", "validate", "tail",
		"topics list", "topics apply", "topics purge", "replay", "shapes", "consumer add", "consumer list", "consumer remove", "config", "version"} {
		if !strings.Contains(help, "\n  "+command+" ") {
			t.Errorf("--help does not name %s", command)
		}
		if out := h.must(append(strings.Fields(command), "--help")...); !strings.Contains(out, "Flags of \""+command+`"`) {
			t.Errorf("%s --help printed:\n%s", command, out)
		}
	}
	for _, args := range [][]string{{"sreve"}, {"token"}, {"token", "ad", "x"}, {"token", "add"}, {"token", "add", "a", "b"}, {"tail"}, {"--unknown"}, {"serve", "now"}} {
		if r := h.run(args...); r.code != 2 || r.stdout != "" || r.stderr == "" {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", args, r.code, r.stdout, r.stderr)
		}
	}
	if entries, err := os.ReadDir(h.dir); err != nil || len(entries) > 0 {
		t.Errorf("commands that only tell left %v, %v", entries, err)
	}
}
