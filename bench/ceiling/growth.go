//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"caliperedge/bench/corpus"
)

// growthRows are those of -growth: the embedded endpoint with ever larger envelopes and ever more connections, and beside
// endpoints of which more, or less, is asked.
func growthRows() []row {
	var rows []row
	plain := subject{name: "plain"} // embedded, for which there are no bars here
	for _, kind := range []corpus.Kind{corpus.Mix, corpus.Engage} {
		for _, items := range []int{1, 10, 100, 1000} {
			rows = append(rows, row{load{kind, items}, 64, closed, []subject{plain}})
		}
		for _, connections := range []int{8, 256, 1024, 4096, 15000} {
			subjects := []subject{plain}
			if connections == 1024 { // there is a bar for its memory
				subjects = append(subjects, noWindow)
			}
			rows = append(rows, row{load{kind, 1}, connections, closed, subjects})
		}
	}
	asked := []subject{
		plain,
		{name: "copies=1", config: copies(1)}, {name: "copies=2", config: copies(2)}, {name: "copies=4", config: copies(4)},
		{name: "encrypted", config: "store_key: ${DIR}/" + storeKeyFile + "\n"},
		noWindow,
		{name: "servers=1", servers: 1}, {name: "servers=3", servers: 3},
	}
	for _, kind := range []corpus.Kind{corpus.Mix, corpus.Engage} {
		rows = append(rows, row{load{kind, 1}, 256, closed, asked}, row{load{kind, 100}, 64, closed, asked})
	}
	return rows
}

// copies is a configuration by which so many further topics take a copy of every event.
func copies(n int) string {
	var topics, also []string
	for i := range n {
		name := fmt.Sprintf("copy%d", i+1)
		topics = append(topics, fmt.Sprintf("  %s: {max_age: 1h, max_bytes: 2%%}\n", name))
		also = append(also, name)
	}
	return "topics:\n  standard: {max_age: 720h, max_bytes: 30%}\n" + strings.Join(topics, "") +
		"rules:\n  - name: copies\n    when: {present: type}\n    also: [" + strings.Join(also, ", ") + "]\n"
}

// storeKeyFile is in the folder of every endpoint with a configuration.
const storeKeyFile = "store.key"

// startConfigured starts caliper-edge with the subject's configuration, in which ${DIR} is dir.
func (b *bench) startConfigured(s subject, dir string) (*endpoint, error) {
	if err := os.WriteFile(filepath.Join(dir, storeKeyFile), []byte(strings.Repeat("key", 12)), 0o600); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "caliper-edge.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(s.config, "${DIR}", dir)), 0o600); err != nil {
		return nil, err
	}
	return b.startEdge(s, plainTool, dir, "--config", file)
}
