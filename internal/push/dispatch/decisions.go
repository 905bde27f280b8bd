package dispatch

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// decisions is what the follower tells of itself.
type decisions struct {
	// Unix ms: of the first record that is not decided upon, and of the first look
	// that is not done; math.MaxInt64 where there is none, 0 before anybody looked.
	oldest, look atomic.Int64

	none          []prometheus.Counter // by reason
	silent, alert prometheus.Counter
	passedOver    prometheus.Counter
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
	c.passedOver = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "parley_push_passed_over_total", Help: "Messages that nobody was notified of because what is stored of them cannot be read, or deciding failed; and such notifications.",
	})
	if o.Metrics != nil {
		o.Metrics.MustRegister(total, c.passedOver, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_push_lag_seconds", Help: "How long ago the first message that is not decided upon should have been.",
		}, func() float64 { return c.lag(o.Now(), o.Grace).Seconds() }))
	}
	return c
}

// tell notes what waits to be decided upon.
func (c *decisions) tell(waiting []store.LogRecord, look int64) {
	at := int64(math.MaxInt64)
	if len(waiting) > 0 {
		at = waiting[0].At
	}
	c.oldest.Store(at)
	c.look.Store(look)
}

func (c *decisions) lag(now time.Time, grace time.Duration) time.Duration {
	at := c.oldest.Load()
	if at == 0 || at == math.MaxInt64 {
		return 0
	}
	return max(now.Sub(time.UnixMilli(at))-grace, 0)
}

// PushRules are what the app has set about push, not enabled where it has nothing to
// push with.
func (d *Dispatcher) PushRules(ctx context.Context, app *chat.App) (push.Rules, error) {
	rules := push.RulesOf(&app.Settings)
	s, err := d.setupOf(ctx, app)
	if err != nil {
		return rules, err
	}
	rules.Enabled = rules.Enabled && len(s.credentials) > 0
	return rules, nil
}

// PushDecided reports whether all that was sent at the time (Unix ms) is decided
// upon by now.
func (d *Dispatcher) PushDecided(sentAt int64) bool {
	if d.deciding.oldest.Load() <= sentAt {
		return false
	}
	now := d.Now()
	age := now.Sub(time.UnixMilli(sentAt))
	return age > time.Hour || age > d.Grace+d.Patience && d.deciding.look.Load() > now.UnixMilli()
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
