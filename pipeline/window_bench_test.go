package pipeline

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkWindow is one event that is new, found and settled, in a window of the
// default size: while there is room, and when each pushes out another.
func BenchmarkWindow(b *testing.B) {
	const ids = 2_000_000
	for _, full := range []bool{false, true} {
		b.Run(fmt.Sprintf("full=%v", full), func(b *testing.B) {
			w := newWindow(ids, time.Hour, []string{TopicStandard})
			now := w.clock(time.Now())
			var n uint64
			one := func() {
				n++
				key := n * 0x9e3779b97f4a7c15
				_, claim, _ := w.find(imprint{key: key ^ key>>29, key2: uint32(key * 0xbf58476d1ce4e5b9 >> 32), content: n}, 1, nil, now)
				w.settle(claim, Part{Sequence: n}, nil)
			}
			if full {
				for range ids + ids/8 {
					one()
				}
			}
			for i := 0; b.Loop(); i++ {
				if !full && i%(ids/2) == 0 {
					b.StopTimer()
					w = newWindow(ids, time.Hour, []string{TopicStandard})
					b.StartTimer()
				}
				one()
			}
		})
	}
}
