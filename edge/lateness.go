package edge

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"caliperedge/validate"
)

// latenessBounds are the bounds, in seconds, of the histogram of how long after
// its eventTime an event arrived: negative for events of the future, in years
// for absurd ones.
var latenessBounds = [...]int64{-365 * day, -day, -hour, -60, -1, 0, 1, 10, 60, 600, hour, 6 * hour, day, 7 * day, 30 * day, 365 * day, 3650 * day}

const (
	hour = 3600
	day  = 24 * hour
)

// lateness is that histogram for one tool. The library's has no room for
// negative values. It may be used concurrently.
type lateness struct {
	buckets [len(latenessBounds) + 1]atomic.Uint64 // not cumulative; the last is beyond all bounds
	millis  atomic.Int64
}

// observe takes the conformant events of an envelope. It does not allocate.
func (l *lateness) observe(env *validate.Envelope, received time.Time) {
	now := received.UnixMilli()
	var counts [len(latenessBounds) + 1]uint64
	var sum int64
	items := env.Items()
	for i := range items {
		it := &items[i]
		if it.Faults != 0 || it.Entity {
			continue
		}
		late := now - it.UnixMilli()
		sum += late
		counts[latenessBucket(late)]++
	}
	l.millis.Add(sum)
	for i, n := range counts {
		if n > 0 {
			l.buckets[i].Add(n)
		}
	}
}

func latenessBucket(millis int64) int {
	for i, bound := range latenessBounds {
		if millis <= 1000*bound {
			return i
		}
	}
	return len(latenessBounds)
}

// write writes the samples of a tool as Prometheus reads them.
func (l *lateness) write(w io.Writer, tool string) {
	var b strings.Builder
	var count uint64
	for i := range l.buckets {
		count += l.buckets[i].Load()
		bound := "+Inf"
		if i < len(latenessBounds) {
			bound = fmt.Sprint(latenessBounds[i])
		}
		fmt.Fprintf(&b, "caliper_event_lateness_seconds_bucket{tool=%q,le=%q} %d\n", tool, bound, count)
	}
	fmt.Fprintf(&b, "caliper_event_lateness_seconds_sum{tool=%q} %v\n", tool, float64(l.millis.Load())/1000)
	fmt.Fprintf(&b, "caliper_event_lateness_seconds_count{tool=%q} %d\n", tool, count)
	io.WriteString(w, b.String())
}

// writeLateness writes the histograms of all tools.
func (m *edgeMetrics) writeLateness(w io.Writer) {
	m.tools.Range(func(name, t any) bool {
		t.(*toolMetrics).late.write(w, name.(string))
		return true
	})
}
