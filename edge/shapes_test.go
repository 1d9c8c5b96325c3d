package edge

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"caliperedge/pipeline"
	"caliperedge/validate"

	"github.com/VictoriaMetrics/metrics"
)

// A tool's first events tell what it sends; what differs later is counted and
// logged, once, without any of its content.
func TestNewShapes(t *testing.T) {
	m := newEdgeMetrics(metrics.NewSet(), pipeline.NewBudget(1<<20)).tool("Engage")
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	send := func(n int, more string) {
		t.Helper()
		for i := range n {
			item := strings.Replace(event(i), `"actor"`, more+`"actor"`, 1)
			env, err := validate.Parse([]byte(envelope(item)), validate.Options{})
			if err != nil || env.Conformant() != 1 {
				t.Fatalf("%s: %v", item, err)
			}
			m.observeShapes(env, "Engage", log)
			env.Release()
		}
	}
	want := func(shapes uint64, lines int) {
		t.Helper()
		if got := m.newShapes.Get(); got != shapes || strings.Count(out.String(), "\n") != lines {
			t.Errorf("%d new shapes, want %d, and %d lines:\n%s", got, shapes, lines, out.String())
		}
	}
	send(200, "")
	want(1, 0)
	send(56, `"group":"urn:g",`)
	want(2, 0)
	send(3*shapeEvery, `"secret-name":"secret",`)
	want(3, 1)
	send(100, "")
	send(100, `"secret-name":"secret",`)
	want(3, 1)
	if strings.Contains(out.String(), "secret") || !strings.Contains(out.String(), "tool=Engage") {
		t.Errorf("the line: %s", out.String())
	}
	for i := range maxShapes {
		send(3*shapeEvery, fmt.Sprintf(`"m%d":1,`, i))
	}
	want(maxShapes, maxShapes-2)
}

// A shape that always stands at the same place of a tool's envelopes is found, whatever
// their size.
func TestNewShapeInEnvelopesThatAreAlike(t *testing.T) {
	for items := 1; items <= 128; items++ {
		for place := range items {
			found := 0
			for envelope := range 100 * shapeEvery {
				if chosen(uint64(firstShapes + envelope*items + place)) {
					found++
				}
			}
			if found < 50 || found > 200 {
				t.Errorf("of 1,600 envelopes of %d events, %d were looked at at place %d, want about 100", items, found, place)
			}
		}
	}
}
