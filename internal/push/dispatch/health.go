package dispatch

import (
	"context"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

const (
	breakAfter   = 10               // failures in a row
	probePause   = 10 * time.Second // between attempts while the breaker is open
	haltPause    = 10 * time.Minute // between attempts while the lane is halted
	doubtPause   = 30 * time.Second // and while it is because of its tokens
	standstill   = 10 * time.Second // after which a lane begins slowly, whatever held it up
	maxUnsettled = 20_000           // jobs whose end is not written yet, until lanes wait
)

// closed says for how long nothing may be sent, or that only one may, to see
// whether it goes.
func (l *lane) closed(now time.Time) (nap time.Duration, one bool) {
	if n := l.d.settler.behind(); n >= maxUnsettled {
		return 100 * time.Millisecond, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	nap, one = l.closedLocked(now)
	if nap > 0 && l.standSince.IsZero() {
		l.standSince = now
	}
	if nap <= 0 && !one && !l.standSince.IsZero() {
		if now.Sub(l.standSince) >= standstill && l.opening.width == 0 {
			l.opening.narrow(2 * l.d.InFlight)
		}
		l.standSince = time.Time{}
	}
	return nap, one
}

// closedLocked is closed as far as it is the provider's doing.
func (l *lane) closedLocked(now time.Time) (nap time.Duration, one bool) {
	switch {
	case l.seat == nil:
		return time.Minute, false
	case l.usedUpLocked(now):
		return time.UnixMilli(l.halt.Until).Sub(now), false
	case now.Before(l.pause):
		return l.pause.Sub(now), false
	case l.halt.Since != 0 && l.halt.Until == 0 || l.failures >= breakAfter:
		if l.probing {
			return longestNap, false
		}
		nap = max(l.probeAt.Sub(now), 0)
		return nap, nap == 0
	}
	return 0, false
}

// usedUpLocked reports whether the quota of the day is used up. A day that is longer
// than days are was found out by a wrong clock.
func (l *lane) usedUpLocked(now time.Time) bool {
	left := time.UnixMilli(l.halt.Until).Sub(now)
	return l.halt.Since != 0 && left > 0 && left <= 24*time.Hour
}

// providersDay is where the days of those end that have quotas.
var providersDay = time.FixedZone("UTC+8", 8*60*60)

func nextMidnight(now time.Time) time.Time {
	y, m, d := now.In(providersDay).Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, providersDay)
}

// succeeded notes that the provider has taken a notification for the token.
func (l *lane) succeeded(ctx context.Context, now time.Time, began beginning, token string) {
	l.mu.Lock()
	l.successes++
	l.lastGood = now
	l.gate.lives(token)
	l.failures = 0
	if began.spell == l.opening.spell {
		l.pauses = 0 // what was under way when it asked for a pause says nothing of it
	}
	guilty, spared := l.gate.good(now)
	halted := l.halt.Since != 0
	l.mu.Unlock()
	if len(guilty)+len(spared) > 0 {
		l.judge(ctx, guilty, spared)
	}
	if halted {
		l.resume()
	}
}

// passed reports whether others got through since.
func (l *lane) passed(began beginning) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.successes != began.successes
}

// reached notes that the provider is there and answers.
func (l *lane) reached() {
	l.mu.Lock()
	l.failures = 0
	l.mu.Unlock()
}

// failed counts an attempt that never got an answer worth having, and reports
// whether it was the notification's own trouble: others got through meanwhile. One
// that fails with all others is not held against it, or a provider that is down
// would cost notifications.
func (l *lane) failed(now time.Time, began beginning) (alone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures++; l.failures == breakAfter {
		l.d.Logger.Warn("push: the provider does not answer", "lane", l.name())
		l.probeAt = now.Add(probePause)
		l.opening.narrow(2 * l.d.InFlight)
		l.releaseLocked()
	}
	return l.successes != began.successes
}

// rest has the lane wait, and gives until when.
func (l *lane) rest(now time.Time, began beginning, after time.Duration) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if began.spell == l.opening.spell {
		l.opening.narrow(l.flight) // once for all that were under way
	}
	if after <= 0 {
		base := time.Second
		if l.id.Provider == chat.FCM {
			base = time.Minute
		}
		if !now.Before(l.pause) {
			l.pauses++
		}
		after = min(base<<min(max(l.pauses-1, 0), 16), maxBackoff)
	}
	if until := now.Add(after); until.After(l.pause) {
		l.pause = until
		l.releaseLocked()
	}
	return l.pause
}

// stop halts the lane, until a time (Unix ms) or until its credential is another.
func (l *lane) stop(now time.Time, code string, until int64) {
	l.mu.Lock()
	was := l.halt
	l.halt = store.PushHalt{Lane: l.id, Since: now.UnixMilli(), Until: until, Code: code}
	if was.Since != 0 {
		l.halt.Since = was.Since
	} else {
		l.probeAt = now.Add(pauseOf(&l.halt))
		l.opening.narrow(2 * l.d.InFlight)
	}
	h := l.halt
	l.releaseLocked()
	if was != h {
		l.d.settler.halted(&h)
	}
	l.mu.Unlock()
	if was != h {
		l.d.Logger.Error("push: the lane is halted", "lane", l.name(), "code", code)
	}
}

// doubted begins the codes of halts that are the gate's: it may be the tokens after all.
const doubted = "tokens: "

// pauseOf is the time between attempts while the lane is halted.
func pauseOf(h *store.PushHalt) time.Duration {
	if strings.HasPrefix(h.Code, doubted) {
		return doubtPause
	}
	return haltPause
}

// resume lets a halted lane go on.
func (l *lane) resume() {
	l.mu.Lock()
	l.halt, l.failures = store.PushHalt{}, 0
	l.gate = gate{}
	l.d.settler.halted(&store.PushHalt{Lane: l.id})
	l.mu.Unlock()
	l.d.Logger.Info("push: the lane goes on", "lane", l.name())
}
