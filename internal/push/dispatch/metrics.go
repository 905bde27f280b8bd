package dispatch

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// metrics are what lanes tell. Labels never hold a user or a token.
type metrics struct {
	results, unknown, retries, ends, tokens, cuts, feedback *prometheus.CounterVec
	age, requests                                           *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_push_results_total", Help: "Answers of providers, by class and code.",
		}, []string{"app", "provider", "class", "code"}),
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_push_unknown_total", Help: "Answers of providers with a code that is in no table.",
		}, []string{"app", "provider"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_push_retries_total", Help: "Attempts that were not the first.",
		}, []string{"app", "provider"}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_push_ends_total", Help: "Notifications that wait no more, by what became of them.",
		}, []string{"app", "provider", "class"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_push_tokens_total", Help: "Tokens said to be dead that were deleted, or spared since it was not the tokens.",
		}, []string{"app", "provider", "what"}),
		feedback: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_push_feedback_total", Help: "Times that providers were asked for the tokens they have found dead, answered or failed.",
		}, []string{"app", "provider", "result"}),
		cuts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_push_cut_total", Help: "Attempts with something left out to make them fit, by what: image, data, body, title.",
		}, []string{"app", "provider", "what"}),
		age: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "parley_push_age_seconds", Help: "Time from the accept of a message to an attempt to notify of it.",
			Buckets: []float64{1, 2, 3, 4, 5, 7.5, 10, 15, 30, 60, 300, 1800, 7200, 86400},
		}, []string{"app", "provider"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "parley_push_request_seconds", Help: "Time that a provider takes for an answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"app", "provider"}),
	}
	if r != nil {
		r.MustRegister(m.results, m.unknown, m.retries, m.ends, m.tokens, m.cuts, m.feedback, m.age, m.requests)
	}
	return m
}

func labels(l *lane) (app, provider string) {
	return strconv.FormatUint(uint64(l.id.App), 10), l.id.Provider.String()
}

func (m *metrics) request(l *lane, took time.Duration, _ int) {
	m.requests.WithLabelValues(labels(l)).Observe(took.Seconds())
}

func (m *metrics) result(l *lane, j *store.PushJob, a *push.Attempt, now time.Time) {
	app, provider := labels(l)
	code := a.Code
	if a.Unknown {
		code = "unknown"
		m.unknown.WithLabelValues(app, provider).Inc()
	}
	m.results.WithLabelValues(app, provider, a.Class.String(), code).Inc()
	if j.Attempts > 0 {
		m.retries.WithLabelValues(app, provider).Inc()
	}
	if a.Cut != 0 {
		for _, what := range a.Cut.Words() {
			m.cuts.WithLabelValues(app, provider, what).Inc()
		}
	}
	if j.Kind != store.PushMessage {
		return // what is taken back is as old as it may be
	}
	m.age.WithLabelValues(app, provider).Observe(now.Sub(time.UnixMilli(j.UID.Millis())).Seconds())
}

func (m *metrics) ended(l *lane, _ *store.PushJob, out *store.PushOutcome) {
	app, provider := labels(l)
	m.ends.WithLabelValues(app, provider, out.Class).Inc()
}

func (m *metrics) token(l *lane, what string, n int) {
	app, provider := labels(l)
	m.tokens.WithLabelValues(app, provider, what).Add(float64(n))
}

func (m *metrics) asked(l *lane, result string) {
	app, provider := labels(l)
	m.feedback.WithLabelValues(app, provider, result).Inc()
}

func (m *metrics) shed(j *store.PushJob) {
	m.ends.WithLabelValues(strconv.FormatUint(uint64(j.Lane.App), 10), j.Lane.Provider.String(), "shed").Inc()
}
