package pipeline

import (
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// pipelineMetrics are the numbers of the batch lane.
type pipelineMetrics struct {
	batchRecords, batchBytes      *metrics.PrometheusHistogram
	waitSeconds, publishSeconds   *metrics.PrometheusHistogram
	messageBytes                  *metrics.Counter
	failures, repeats, trips      *metrics.Counter
	expired, late, panics, probes *metrics.Counter
}

func newPipelineMetrics(set *metrics.Set, p *Pipeline) *pipelineMetrics {
	m := &pipelineMetrics{
		batchRecords:   set.NewPrometheusHistogramExt("caliper_batch_records", []float64{1, 3, 10, 30, 100, 300, 1000, 3000, 10000}),
		batchBytes:     set.NewPrometheusHistogramExt("caliper_batch_bytes", []float64{1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6, 16e6}),
		waitSeconds:    set.NewPrometheusHistogramExt("caliper_batch_wait_seconds", StageBuckets),
		publishSeconds: set.NewPrometheusHistogramExt("caliper_publish_seconds", StageBuckets),
		messageBytes:   set.NewCounter("caliper_message_bytes_total"),
		failures:       set.NewCounter("caliper_publish_failures_total"),
		repeats:        set.NewCounter("caliper_publish_repeats_total"),
		trips:          set.NewCounter("caliper_store_trips_total"),
		probes:         set.NewCounter("caliper_store_probes_total"),
		expired:        set.NewCounter("caliper_batches_expired_total"),
		late:           set.NewCounter("caliper_late_settlements_total"),
		panics:         set.NewCounter("caliper_worker_panics_total"),
	}
	set.NewGauge("caliper_budget_used_bytes", func() float64 { return float64(p.budget.Used()) })
	set.NewGauge("caliper_budget_limit_bytes", func() float64 { return float64(p.budget.Limit()) })
	set.NewGauge("caliper_budget_pace_bytes", func() float64 { return float64(p.budget.Pace()) })
	set.NewGauge("caliper_budget_waiting", func() float64 { return float64(p.budget.Waiting()) })
	set.NewGauge("caliper_publishes_in_flight", func() float64 { return float64(p.publishing.Load()) })
	set.NewGauge("caliper_publishes_limit", func() float64 { return float64(len(p.topics) * p.cfg.PublishesPerTopic) })
	set.NewGauge("caliper_store_available", func() float64 {
		if p.failing.Load() {
			return 0
		}
		return 1
	})
	if w := p.window; w != nil {
		set.NewGauge("caliper_duplicates_ids", func() float64 { ids, _ := w.held(); return float64(ids) })
		set.NewGauge("caliper_duplicates_limit_ids", func() float64 { return float64(w.limit()) })
		set.NewGauge("caliper_duplicates_window_seconds", func() float64 { _, back := w.held(); return back.Seconds() })
		set.NewGauge("caliper_duplicates_limit_seconds", func() float64 { return w.age.Seconds() })
		set.NewGauge("caliper_duplicates_bytes", func() float64 { return float64(w.bytes()) })
		set.NewGauge("caliper_duplicates_waiting", func() float64 { return float64(w.waiting.Load()) })
	}
	return m
}

// StageBuckets are the bounds, in seconds, of all histograms of a stage's
// latency: from a validation in memory to the request deadline.
var StageBuckets = []float64{.00001, .00003, .0001, .0003, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

func (m *pipelineMetrics) sealed(b *batch) {
	m.batchRecords.Update(float64(b.records))
	m.batchBytes.Update(float64(len(b.buf)))
	m.waitSeconds.UpdateDuration(b.opened)
}

func (m *pipelineMetrics) published(start time.Time, msg *Message) {
	m.publishSeconds.UpdateDuration(start)
	m.messageBytes.Add(len(msg.Body))
}
