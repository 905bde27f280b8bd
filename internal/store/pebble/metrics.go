package pebble

import (
	"errors"
	"fmt"

	"github.com/parleychat/parley/internal/chat"
	"github.com/prometheus/client_golang/prometheus"
)

// storeMetrics are the store's numbers for Prometheus.
type storeMetrics struct {
	appends, entries prometheus.Counter
	refused, spoilt  *prometheus.CounterVec
	batch, fsync     prometheus.Histogram

	registered []prometheus.Collector
	registerer prometheus.Registerer
}

func newMetrics() *storeMetrics {
	return &storeMetrics{
		appends: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_store_appends_total", Help: "Requests committed.",
		}),
		entries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_store_entries_total", Help: "Timeline entries committed.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_store_refused_total", Help: "Requests refused before anything was written, by reason.",
		}, []string{"reason"}),
		spoilt: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_store_spoilt_rows_total", Help: "Rows that could not be read and were passed over, each once, by what they are of.",
		}, []string{"of"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_store_commit_requests", Help: "Requests per commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}),
		fsync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_store_sync_seconds", Help: "How long a built commit waited for the disk.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
	}
}

// register makes the numbers of s visible.
func (m *storeMetrics) register(r prometheus.Registerer, s *Store) error {
	if r == nil {
		return nil
	}
	gauge := func(name, help string, labels prometheus.Labels, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, f)
	}
	all := []prometheus.Collector{m.appends, m.entries, m.refused, m.spoilt, m.batch, m.fsync,
		gauge("parley_store_queue", "Requests waiting for the writer.", nil, func() float64 { return float64(s.writer.depth()) }),
		gauge("parley_store_heads", "Timeline heads in memory.", nil, func() float64 { return float64(s.heads.count.Load()) }),
		gauge("parley_store_log_head", "Newest record of the batch log.", nil, func() float64 { return float64(s.log.head.Load()) }),
		gauge("parley_store_free_bytes", "Free space of the disk.", nil, func() float64 { return float64(s.space.free.Load()) }),
		gauge("parley_store_healthy", "1 while writes are accepted.", nil, func() float64 {
			if s.Health() != nil {
				return 0
			}
			return 1
		}),
	}
	for name, mark := range s.marks {
		all = append(all, gauge("parley_store_log_lag", "Records a consumer has not come by yet.",
			prometheus.Labels{"consumer": name}, func() float64 {
				return float64(s.log.head.Load()) - float64(mark.Load())
			}))
	}
	m.registerer = r
	for _, c := range all {
		if err := r.Register(c); err != nil {
			m.unregister()
			return fmt.Errorf("store metrics: %w", err)
		}
		m.registered = append(m.registered, c)
	}
	return nil
}

func (m *storeMetrics) unregister() {
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
	m.registered = nil
}

// refusal is the reason an append was refused, as a metric label.
func refusal(err error) string {
	var e *chat.Error
	switch {
	case !errors.As(err, &e):
		return "internal"
	case e.Kind == chat.KindInvalid || e.Kind == chat.KindTooLong:
		return "invalid"
	case e.RetryAfter == retrySpace:
		return "space"
	case e.RetryAfter == retryQueue:
		return "queue"
	}
	return "unavailable"
}
