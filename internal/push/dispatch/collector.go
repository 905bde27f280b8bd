package dispatch

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// What a lane does, the worse the more.
const (
	laneOpen    = iota
	laneSlow    // its provider has just come back, and is given ever more
	lanePaused  // as its provider asked for, or that the store may keep up
	laneBroken  // its provider does not answer: one request at a time tries
	laneStopped // halted, out of quota, or without a credential that is of use
)

// collectTime bounds what looking at all lanes may take.
const collectTime = 2 * time.Second

// A collector tells how lanes are when it is asked. Lanes of one app and provider
// are told of together: their sum, or the worst of them.
type collector struct {
	d *Dispatcher

	jobs, oldest, inFlight, state, tokenAge *prometheus.Desc
}

func newCollector(d *Dispatcher) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("parley_push_"+name, help, append([]string{"app", "provider"}, labels...), nil)
	}
	return &collector{
		d:        d,
		jobs:     desc("jobs", "Notifications that wait for their provider, by priority.", "priority"),
		oldest:   desc("oldest_seconds", "How long ago the first notification that waits was due, by priority.", "priority"),
		inFlight: desc("in_flight", "Requests under way to the provider."),
		state:    desc("lane_state", "0 open, 1 slow as the provider has just come back, 2 paused, 3 the provider does not answer, 4 halted; the worst of the app's lanes to the provider."),
		tokenAge: desc("access_token_age_seconds", "Age of the access token, of providers that have such."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{c.jobs, c.oldest, c.inFlight, c.state, c.tokenAge} {
		to <- d
	}
}

var priorityWords = [store.PushPriorities]string{priorityCall: "call", priorityMention: "mention", priorityUsual: "usual", prioritySilent: "silent"}

// laneSum is what is told of an app's lanes to a provider.
type laneSum struct {
	jobs          [store.PushPriorities]int
	late          [store.PushPriorities]time.Duration
	flight, state int
	age           time.Duration
	aged          bool
}

// Collect implements prometheus.Collector. Nothing is read while a lock is held.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTime)
	defer cancel()
	c.d.lanes.mu.Lock()
	all := make([]*lane, 0, len(c.d.lanes.all))
	for _, l := range c.d.lanes.all {
		all = append(all, l)
	}
	c.d.lanes.mu.Unlock()

	type key struct {
		app      chat.AppID
		provider chat.PushProvider
	}
	sums := map[key]*laneSum{}
	now := c.d.Now()
	for _, l := range all {
		k := key{l.id.App, l.id.Provider}
		if sums[k] == nil {
			sums[k] = &laneSum{}
		}
		c.add(ctx, sums[k], l, now)
	}
	for k, s := range sums {
		app, provider := strconv.FormatUint(uint64(k.app), 10), k.provider.String()
		gauge := func(d *prometheus.Desc, v float64, more ...string) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{app, provider}, more...)...)
		}
		for p, word := range priorityWords {
			gauge(c.jobs, float64(s.jobs[p]), word)
			gauge(c.oldest, s.late[p].Seconds(), word)
		}
		gauge(c.inFlight, float64(s.flight))
		gauge(c.state, float64(s.state))
		if s.aged {
			gauge(c.tokenAge, s.age.Seconds())
		}
	}
}

func (c *collector) add(ctx context.Context, s *laneSum, l *lane, now time.Time) {
	l.mu.Lock()
	waiting, flight, state := l.waiting, l.flight, l.stateLocked(now)
	var holder push.PassHolder
	if l.seat != nil {
		holder, _ = l.seat.Adapter.(push.PassHolder)
	}
	l.mu.Unlock()
	s.flight += flight
	s.state = max(s.state, state)
	for p, n := range waiting {
		s.jobs[p] += n
		if n == 0 {
			continue
		}
		first, err := c.d.Store.PushJobs(ctx, &l.id, uint8(p), store.PushPlace{}, math.MaxInt64, 1)
		if err == nil && len(first) > 0 {
			s.late[p] = max(s.late[p], now.Sub(time.UnixMilli(first[0].Due)))
		}
	}
	if holder != nil {
		if age, has := holder.PassAge(); has {
			s.age, s.aged = max(s.age, age), true
		}
	}
}

// stateLocked is what the lane does, as closed would have it.
func (l *lane) stateLocked(now time.Time) int {
	switch {
	case l.seat == nil && l.haveSeat, l.halt.Since != 0 && l.halt.Until == 0, l.usedUpLocked(now):
		return laneStopped
	case l.failures >= breakAfter:
		return laneBroken
	case now.Before(l.pause), l.d.settler.behind() >= maxUnsettled:
		return lanePaused
	case l.opening.width > 0 && l.allLocked() > l.opening.width:
		return laneSlow
	}
	return laneOpen
}
