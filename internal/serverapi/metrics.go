package serverapi

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// unknownOperation stands for every path that is none, so that callers cannot
// make up labels.
const unknownOperation = "unknown"

type metrics struct {
	requests      *prometheus.CounterVec
	refused       map[string]prometheus.Counter
	replayEvicted prometheus.Counter

	// Looked up once: every call needs them.
	ok      map[string]prometheus.Counter
	elapsed map[string]prometheus.Observer
}

func newMetrics(reg prometheus.Registerer) metrics {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "parley_http_request_seconds", Help: "Time from a call's headers to its answer, by operation.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"operation"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_auth_refused_total", Help: "Calls refused for their signing headers, by reason.",
	}, []string{"reason"})
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_http_requests_total", Help: "Calls answered, by operation and HTTP status.",
		}, []string{"operation", "code"}),
		replayEvicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_replay_evicted_total", Help: "Signatures the replay guard forgot early because it was full.",
		}),
		refused: map[string]prometheus.Counter{},
		ok:      map[string]prometheus.Counter{},
		elapsed: map[string]prometheus.Observer{},
	}
	for _, reason := range refusedReasons {
		m.refused[reason] = refused.WithLabelValues(reason)
	}
	m.elapsed[unknownOperation] = seconds.WithLabelValues(unknownOperation)
	for i := range operations {
		name := operations[i].name
		m.ok[name] = m.requests.WithLabelValues(name, "200")
		m.elapsed[name] = seconds.WithLabelValues(name)
	}
	if reg != nil {
		reg.MustRegister(m.requests, seconds, refused, m.replayEvicted)
	}
	return m
}

func (m *metrics) served(op string, status int, took time.Duration) {
	if status == 200 {
		m.ok[op].Inc()
	} else {
		m.requests.WithLabelValues(op, strconv.Itoa(status)).Inc()
	}
	m.elapsed[op].Observe(took.Seconds())
}
