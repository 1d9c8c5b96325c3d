package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caliperedge/internal/natstest"
)

// TestKeymapCommands imports into a running endpoint's store, its own and an
// external one, and reads it back.
func TestKeymapCommands(t *testing.T) {
	t.Parallel()
	t.Run("Embedded", func(t *testing.T) {
		h := newHome(t)
		s := h.serve()
		testKeymapCommands(t, h)
		s.stop()
	})
	t.Run("External", func(t *testing.T) {
		n := natstest.Start(t, natsAuthorization())
		testKeymapCommands(t, newHome(t, "CALIPER_NATS_URL="+withUser(n)))
	})
}

func testKeymapCommands(t *testing.T, h *home) {
	odd := `"a, ""b"" *.>"`
	for _, c := range []struct {
		file           string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"tool,kind,value,key\nEngage,course,63,C1\nEngage,course,64,C2\nEngage,person," + odd + ",P1\n", nil,
			0, "added 3, changed 0, same 0, removed 0, repeated 0, faulty 0\n", "written: 3 of 3 partitions"},
		{"tool,kind,value,key\nEngage,course,63,C9\nEngage,course,64,C2\nEngage,course,65\nEngage,course,64,\nbad tool,a,b,c\nEngage,course,66,C6\n", nil,
			1, "added 1, changed 1, same 0, removed 1, repeated 1, faulty 2\n",
			"-: line 4: 3 fields, expected 4: tool,kind,value,key\n-: line 6: tool \"bad tool\""},
		{"tool,kind,value,key\nEngage,course,70,C7\nEngage\n", []string{"--strict"},
			1, "", "line 3: 1 fields, expected 4: tool,kind,value,key; imported until then: added 0"},
		{"tool,kind,value,key\n" + strings.Repeat("nothing\n", 30), nil,
			1, "added 0, changed 0, same 0, removed 0, repeated 0, faulty 30\n", "and 10 more faulty lines"},
		{"tool,kind,value,key\nEngage,course,\"72,C7\nEngage,course,73,C7\nEngage,course,\"74\",C7\nEngage,course,66,C6\n", nil,
			1, "added 0, changed 0, same 1, removed 0, repeated 0, faulty 3\n", "-: line 2: a quote is not closed in its line; nothing is taken of lines 2 to 4\n"},
		{"Engage,course,71,C7\n", nil, 1, "", "expected tool,kind,value,key"},
	} {
		r := h.runWith(c.file, append([]string{"keymap", "import", "-"}, c.args...)...)
		if r.code != c.code || !strings.HasSuffix(r.stdout, c.stdout) || !strings.Contains(r.stderr, c.stderr) {
			t.Errorf("import of %.80q: exit %d, %q, %q; want %d, %q, %q", c.file, r.code, r.stdout, r.stderr, c.code, c.stdout, c.stderr)
		}
	}
	for _, c := range []struct {
		value, want string
		code        int
	}{{"63", "C9\n", 0}, {"66", "C6\n", 0}, {"64", "", 1}, {"70", "", 1}, {"71", "", 1}} {
		if r := h.run("keymap", "get", "Engage", "course", c.value); r.code != c.code || r.stdout != c.want {
			t.Errorf("keymap get %s: exit %d, %q, %s", c.value, r.code, r.stdout, r.stderr)
		}
	}
	list := h.must("keymap", "list")
	for _, line := range []string{"tool,kind,value,key\n", "Engage,course,63,C9\n", "Engage,course,66,C6\n", "Engage,person," + odd + ",P1\n"} {
		if !strings.Contains(list, line) {
			t.Errorf("keymap list has not %q:\n%s", line, list)
		}
	}
	if n := strings.Count(list, "\n"); n != 4 {
		t.Errorf("keymap list has %d lines, want 4:\n%s", n, list)
	}
	if stats := strings.Fields(h.must("keymap", "stats")); strings.Join(stats, " ") != "TOOL KIND ROWS Engage course 2 Engage person 1" {
		t.Errorf("keymap stats: %q", stats)
	}
	// What is listed can be imported again, from a file.
	file := filepath.Join(h.dir, "keys.csv")
	if err := os.WriteFile(file, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := h.must("keymap", "import", file); out != "added 0, changed 0, same 3, removed 0, repeated 0, faulty 0\n" {
		t.Errorf("import of the list: %q", out)
	}
}
