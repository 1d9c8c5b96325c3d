// Package importrules holds the house to its plan: who imports whom, and where
// each library is at home.
package importrules

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "caliperedge"

// allowed are the packages of ours that each package may import. The way is
// main → edge → pipeline → validate, and main → stream → pipeline: never back.
var allowed = map[string][]string{
	// wires the parts
	"": {"edge", "edge/certificate", "edge/tokenmap", "pipeline", "pipeline/keymap", "pipeline/rules", "pipeline/stream", "shapes", "validate", "internal/names", "internal/resident", "internal/visible"},

	"edge":                  {"edge/tokenmap", "pipeline", "validate"},           // the request lane
	"edge/certificate":      {},                                                  // two files, and TLS
	"edge/tokenmap":         {"internal/names"},                                  // knows nothing of requests
	"pipeline/rules":        {"validate", "internal/names"},                      // decides about what Parse built
	"pipeline":              {"pipeline/rules", "validate", "internal/resident"}, // only what Parse built can be stored
	"pipeline/keymap":       {"internal/names"},                                  // a table; where it is stored is not its matter
	"pipeline/stream":       {"pipeline", "pipeline/keymap", "internal/names"},   // implements pipeline.Publisher, keeps the key map
	"pipeline/pipelinetest": {"pipeline"},                                        // its twin
	"shapes":                {"internal/visible"},                                // a function of events, to be shown to others
	"validate":              {},                                                  // a function of bytes
	"internal/accounting":   {},                                                  // numbers as text, for tests of every kind
	"internal/fixtures":     {},
	"internal/importrules":  {},
	"internal/journal":      {},                    // for tests alone
	"internal/loopback":     {},                    // likewise, and for measurements
	"internal/natstest":     {"internal/loopback"}, // for tests alone
	"internal/names":        {},                    // functions of text
	"internal/resident":     {},                    // pages, and the collector
	"internal/visible":      {},                    // functions of text
	"internal/syncloss":     {},                    // shows what the kernel does without us
	"e2e":                   {},
	"bench":                 {},                                                                                                                       // tests only
	"bench/corpus":          {},                                                                                                                       // standard library only: everything that sends shares it
	"bench/corpus/write":    {"bench/corpus"},                                                                                                         // for senders in other languages
	"bench/yardstick":       {},                                                                                                                       // one pass of sonic, to hold others against
	"bench/ceiling":         {"bench/corpus", "bench/yardstick", "internal/loopback", "internal/resident", "pipeline", "pipeline/stream", "validate"}, // starts programs and measures them; the floor, the prototype
	"loadtest":              {"bench/corpus", "pipeline", "pipeline/stream"},                                                                          // sends, and reads the topics back
}

// homes are the packages in which a library may be imported.
var homes = map[string][]string{
	"github.com/valyala/fasthttp":             {"edge", "bench/ceiling"},                        // HTTP
	"github.com/bytedance/sonic":              {"validate", "bench/yardstick", "bench/ceiling"}, // JSON; the yardstick, the prototype
	"github.com/panjf2000/ants":               {"pipeline"},                                     // workers
	"github.com/nats-io/nats.go":              {"pipeline/stream", "", "internal/natstest"},     // JetStream; commands hold its connection
	"github.com/nats-io/nats-server":          {"pipeline/stream"},
	"github.com/VictoriaMetrics/metrics":      {"edge", "pipeline", ""},
	"github.com/klauspost/compress":           {"edge", "pipeline", "pipeline/keymap", "pipeline/stream", "loadtest", "bench/ceiling"},
	"github.com/HdrHistogram/hdrhistogram-go": {"loadtest"},
	"github.com/fsnotify/fsnotify":            {"edge/tokenmap", "edge/certificate", "pipeline/stream"},
	"filippo.io/age":                          {"edge/tokenmap"},
	"go.yaml.in/yaml":                         {"edge/tokenmap", "pipeline/rules", ""},
	"github.com/spf13/pflag":                  {""},
	"golang.org/x/sys":                        {"bench/ceiling", "edge/tokenmap", "internal/resident", "pipeline", "pipeline/stream", "validate", ""}, // validate asks what the processor has
}

type listed struct {
	ImportPath string
	Imports    []string
	GoFiles    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,GoFiles", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		may, known := allowed[name]
		if !known {
			t.Errorf("package %q has no rule: say in allowed what it may import, and why", name)
		}
		for _, imported := range p.Imports {
			if ours, ok := strings.CutPrefix(imported, module); ok {
				if ours = strings.TrimPrefix(ours, "/"); known && !slices.Contains(may, ours) {
					t.Errorf("%q imports %q, which its rule does not allow", name, ours)
				}
				continue
			}
			if !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
				continue // standard library
			}
			at := false
			for library, in := range homes {
				if imported == library || strings.HasPrefix(imported, library+"/") {
					at = true
					if !slices.Contains(in, name) {
						t.Errorf("%q imports %s, which is at home in %q", name, imported, in)
					}
				}
			}
			if !at {
				t.Errorf("%q imports %s, which has no home in the list", name, imported)
			}
		}
	}
}

// The server is needed for the embedded default alone: one file imports it.
func TestServerInOneFile(t *testing.T) {
	out, err := exec.Command("grep", "-rlF", "--include=*.go", `"github.com/nats-io/nats-server`, "../../pipeline", "../../edge", "../../validate").Output()
	if err != nil {
		t.Fatalf("grep: %v", err)
	}
	var files []string
	for _, f := range strings.Fields(string(out)) {
		if !strings.HasSuffix(f, "_test.go") {
			files = append(files, f)
		}
	}
	if len(files) != 1 || !strings.HasSuffix(files[0], "pipeline/stream/embedded.go") {
		t.Errorf("nats-server is imported by %q, want pipeline/stream/embedded.go alone", files)
	}
}
