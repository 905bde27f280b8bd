package dispatch

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// decisions is what the follower tells of itself.
type decisions struct {
	oldest atomic.Int64 // Unix ms: of the first record that is not decided upon; 0 when there is none

	none          []prometheus.Counter // by reason
	silent, alert prometheus.Counter
}

func newDecisions(o *Options) *decisions {
	c := &decisions{}
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_push_decisions_total", Help: "Recipients decided upon, by what a notification does there and the reason. Messages that notify nobody count once.",
	}, []string{"effect", "reason"})
	// Looked up once: there are a thousand recipients to a message.
	for _, r := range push.Reasons() {
		c.none = append(c.none, total.WithLabelValues(push.None.String(), r.String()))
	}
	c.silent = total.WithLabelValues(push.Silent.String(), push.ReasonAway.String())
	c.alert = total.WithLabelValues(push.Alert.String(), push.ReasonAway.String())
	if o.Metrics != nil {
		o.Metrics.MustRegister(total, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_push_lag_seconds", Help: "How long ago the first message that is not decided upon should have been.",
		}, func() float64 { return c.lag(o.Now(), o.Grace).Seconds() }))
	}
	return c
}

// tell notes what waits to be decided upon.
func (c *decisions) tell(waiting []store.LogRecord) {
	if len(waiting) == 0 {
		c.oldest.Store(0)
	} else {
		c.oldest.Store(waiting[0].At)
	}
}

func (c *decisions) lag(now time.Time, grace time.Duration) time.Duration {
	at := c.oldest.Load()
	if at == 0 {
		return 0
	}
	return max(now.Sub(time.UnixMilli(at))-grace, 0)
}

// message counts one that notifies nobody.
func (c *decisions) message(r push.Reason) { c.none[r].Inc() }

// recipient counts one, of a message that does so much to who is away.
func (c *decisions) recipient(effect push.Effect, r push.Reason) {
	switch {
	case r != push.ReasonAway:
		c.none[r].Inc()
	case effect == push.Silent:
		c.silent.Inc()
	default:
		c.alert.Inc()
	}
}
