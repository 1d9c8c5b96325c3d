//go:build !race

package validate

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

// TestGoodPathDoesNotAllocate holds the budget of the hot path, which is zero. The race detector changes it.
func TestGoodPathDoesNotAllocate(t *testing.T) {
	if os.Getenv("SONIC_USE_OPTDEC") != "" {
		t.Skip("the other decoder copies")
	}
	for _, c := range []struct {
		events  int
		slashes string // as the sensor writes them
	}{{1, "/"}, {100, "/"}, {100, `\/`}} {
		n := c.events
		t.Run(fmt.Sprintf("events=%d,slash=%s", n, c.slashes), func(t *testing.T) {
			body := bytes.ReplaceAll(engageEnvelope(n), []byte("/"), []byte(c.slashes))
			got := testing.AllocsPerRun(200, func() {
				e, err := Parse(body, Options{})
				if err != nil || e.Err() != nil || e.Conformant() != n {
					t.Fatal(err, e.Err(), e.Conformant())
				}
				e.Release()
			})
			if got != 0 {
				t.Errorf("%v allocations, want 0", got)
			}
		})
	}
}

// TestManyTinyItemsCostLittle sends two million items, which are refused for less memory than the body has.
func TestManyTinyItemsCostLittle(t *testing.T) {
	body := make([]byte, 0, 4<<20)
	body = append(body, `{"data":[0`...)
	for len(body) < 4<<20-2 {
		body = append(body, `,0`...)
	}
	body = append(body, `]}`...)
	got := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			e, err := Parse(body, Options{})
			if err != nil || e.Items() != nil {
				b.Fatal(err, len(e.Items()))
			}
			e.Release()
		}
	})
	if got.AllocedBytesPerOp() > int64(len(body))/4 {
		t.Errorf("%d bytes for a body of %d", got.AllocedBytesPerOp(), len(body))
	}
}
