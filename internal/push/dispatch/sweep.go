package dispatch

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

const sweepPause = 10 * time.Second // between looks for what has expired in a lane that stands still

// timeToSweep reports whether a lane that stands still is to look at what waits.
func (l *lane) timeToSweep(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.sweepAt) {
		return false
	}
	l.sweepAt = now.Add(sweepPause)
	return true
}

// rows gives all that waits to f, page by page, of each priority until f wants no more
// of it, and reports whether it came to the end. It stops when more was taken in hand
// than can be written soon, and is to go on then.
func (l *lane) rows(ctx context.Context, f func(page []store.PushJob) (more bool)) bool {
	for p := range uint8(store.PushPriorities) {
		var behind store.PushPlace
		for more := true; more; {
			full := l.d.settler.behind() >= maxUnsettled
			l.mu.Lock()
			if full {
				l.sweepAt = time.Time{}
				l.mu.Unlock()
				return false
			}
			l.reading = true
			l.mu.Unlock()
			page, err := l.d.Store.PushJobs(ctx, &l.id, p, behind, math.MaxInt64, pageSize)
			if more = len(page) == pageSize; len(page) > 0 {
				behind = page[len(page)-1].PushPlace
				more = f(page) && more
			}
			l.doneReading()
			if err != nil {
				return false
			}
		}
	}
	return true
}

// sweep ends what has expired in a lane that stands still.
func (l *lane) sweep(ctx context.Context, now time.Time) {
	l.rows(ctx, func(page []store.PushJob) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		quota := l.usedUpLocked(now)
		ended := false
		for i := range page {
			j := &page[i]
			class, code := "expired", j.Code
			switch {
			case !l.mineLocked(keyOf(j)):
				continue
			case j.Expires <= now.UnixMilli():
			case quota:
				// To go on asking for what is used up has it made less.
				class, code = push.QuotaDay.String(), l.halt.Code
			default:
				continue
			}
			l.inHand[keyOf(j)] = struct{}{}
			l.end(j, &store.PushOutcome{Class: class, Code: code}, nil)
			ended = true
		}
		// Jobs that expire stand at the beginning, calls aside, which are soon gone.
		return ended
	})
}

// rehome moves the jobs of a lane without a credential to the lanes of those by which
// their devices are notified now, if there are any.
func (l *lane) rehome(ctx context.Context) {
	app := l.d.Directory.AppByID(l.id.App)
	l.mu.Lock()
	homeless := l.homeless && app != nil
	l.mu.Unlock()
	if !homeless {
		return
	}
	s, err := l.d.setupOf(ctx, app)
	if err != nil {
		l.d.warn("moving push jobs", err)
		return
	}
	whole := true
	if slices.ContainsFunc(s.credentials, func(c chat.PushCredential) bool { return c.Provider == l.id.Provider }) {
		whole = l.rows(ctx, func(page []store.PushJob) bool {
			for i := range page {
				j := &page[i]
				var to *chat.PushDevice
				if to, err = l.d.Store.PushDevice(ctx, app.ID, j.User, j.Device); err != nil {
					return false
				}
				if to == nil {
					continue
				}
				c := s.credential(to)
				if c == nil || laneOf(app.ID, c, to) == l.id {
					continue
				}
				l.mu.Lock()
				if k := keyOf(j); l.mineLocked(k) {
					l.inHand[k] = struct{}{}
					l.moveLocked(j, laneOf(app.ID, c, to))
				}
				l.mu.Unlock()
			}
			return true
		})
	}
	l.mu.Lock()
	// What is under way may be put back.
	l.homeless = l.homeless && (!whole || err != nil || len(l.inHand) > 0)
	l.mu.Unlock()
}
