// Package resident has memory there before it is needed, rather than page by
// page under the first requests: in a virtual machine each page that is touched for the
// first time may cost more than a request does.
package resident

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Heap has so many bytes there, besides what the heap may grow by as things are
// before the collector runs, or as much again as is live where that is less. It runs the
// collector, twice. Where the process has a limit of memory (GOMEMLIMIT), or the
// collector is off, it does nothing.
func Heap(spare int) {
	gogc := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(gogc)
	if debug.SetMemoryLimit(-1) != noLimit || gogc[0].Value.Uint64() > math.MaxInt32 {
		return
	}
	runtime.GC()
	sizes := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(sizes)
	if goal, live := sizes[0].Value.Uint64(), sizes[1].Value.Uint64(); goal > live {
		spare += int(min(goal-live, live))
	}
	Slice(make([]byte, spare))
	runtime.GC() // gives it to the heap
}

// noLimit is the limit of memory that the runtime has where there is none.
const noLimit = 1<<63 - 1
