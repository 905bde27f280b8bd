package dispatch

import (
	"context"
	"time"

	"github.com/parleychat/parley/internal/store"
)

const (
	steadyRate  = 1000 // notifications a second that a lane is to manage, however little waits
	steadyLeast = 32   // requests under way for that, at least
	repeatShare = 200  // one of so many that wait may be under way besides
)

// take takes what is to be sent next: at most as many as go in one request, and
// one only when that is asked for. Nothing comes with how long there may be
// nothing.
func (l *lane) take(ctx context.Context, now time.Time, one bool) (batch []store.PushJob, nap time.Duration) {
	if l.urgent(now) {
		_, _, _ = l.fill(ctx, now)
	}
	for {
		batch, nap = l.takeReady(now, one)
		if len(batch) > 0 {
			return batch, nap
		}
		if nap > 0 {
			// Who is under way goes on with what is at hand: it should not run out.
			if l.low() {
				_, _, _ = l.fill(ctx, now)
			}
			return nil, nap
		}
		read, wait, err := l.fill(ctx, now)
		if err != nil || !read {
			return nil, max(wait, time.Millisecond)
		}
	}
}

// takeReady is take among what was read. Nothing, and no time to wait, is that
// there is room for more than was read.
func (l *lane) takeReady(now time.Time, one bool) (batch []store.PushJob, nap time.Duration) {
	most, nap := l.reserve(now, one)
	if most == 0 {
		return nil, nap
	}
	for len(batch) < most {
		l.mu.Lock()
		j, ok := l.nextLocked()
		l.mu.Unlock()
		if !ok {
			break
		}
		if !l.hold(&j, now) {
			batch = append(batch, j)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.promised -= most
	if len(batch) == 0 {
		l.flight--
		return nil, 0
	}
	if l.limiter != nil {
		l.limiter.ReserveN(time.Now(), len(batch))
	}
	if one {
		l.probing = true
		l.probeAt = now.Add(probePause)
		if l.halt.Since != 0 {
			l.probeAt = now.Add(pauseOf(&l.halt))
		}
	}
	return batch, 0
}

// reserve counts a request as under way, and so many notifications as sent, before
// others look what there is room for: they take at the same time. 0 is that there is
// no room, for as long as nap.
func (l *lane) reserve(now time.Time, one bool) (most int, nap time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// It may have been closed since the lane was asked.
	if nap, only := l.closedLocked(now); nap > 0 || only && !one {
		return 0, longestNap
	}
	if l.flight+l.untold >= l.mostLocked() || !one && !l.opening.fits(l.flight) {
		return 0, longestNap
	}
	most = max(l.seat.Batch(), 1)
	if one {
		most = 1
	} else if l.opening.width > 0 {
		most = min(most, l.opening.width)
	}
	if l.limiter != nil {
		left := l.limiter.TokensAt(time.Now()) - float64(l.promised)
		if left < 1 {
			return 0, time.Duration((1 - left) / float64(l.limiter.Limit()) * float64(time.Second))
		}
		most = min(most, int(left))
	}
	l.flight++
	l.promised += most
	return most, 0
}

// more is the next batch for who has just sent one: as long as there is something
// at hand, it need not be told by run. The seat is the one that it sits on.
func (l *lane) more(at *seat) []store.PushJob {
	now := l.now()
	l.mu.Lock()
	same := l.seat == at && l.stopped.Err() == nil
	l.mu.Unlock()
	if !same {
		return nil
	}
	if nap, one := l.closed(now); nap > 0 || one {
		return nil
	}
	batch, _ := l.takeReady(now, false)
	if l.low() {
		l.nudge()
	}
	return batch
}

// nextLocked is the next job of a device that nothing is under way to.
func (l *lane) nextLocked() (store.PushJob, bool) {
	for p := range l.ready {
		for len(l.freed[p])+len(l.ready[p]) > 0 {
			var j store.PushJob
			if n := len(l.freed[p]); n > 0 {
				j = l.freed[p][n-1]
				l.freed[p] = l.freed[p][:n-1]
			} else {
				j = l.ready[p][0]
				l.ready[p] = l.ready[p][1:]
			}
			h := hashOf(j.User, j.Device)
			if q := l.devices[h]; q != nil {
				q.jobs = append(q.jobs, j)
				continue
			}
			l.devices[h] = &queueOfDevice{}
			return j, true
		}
		l.freed[p], l.ready[p] = nil, nil
	}
	return store.PushJob{}, false
}

// free says that nothing is under way any more to the device; what has waited for
// that comes next.
func (l *lane) freeLocked(j *store.PushJob) {
	h := hashOf(j.User, j.Device)
	q := l.devices[h]
	delete(l.devices, h)
	if q == nil || len(q.jobs) == 0 {
		return
	}
	// All of them: the first to be taken has the others wait again.
	for i := len(q.jobs) - 1; i >= 0; i-- {
		k := &q.jobs[i]
		l.freed[k.Priority] = append(l.freed[k.Priority], *k)
	}
}

// urgent reports whether something is to be read that comes before what was read.
func (l *lane) urgent(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.ready {
		if len(l.ready[p]) > 0 {
			return false
		}
		if l.next[p] <= now.UnixMilli() {
			return true
		}
	}
	return false
}

// low reports whether little is left of what was read.
func (l *lane) low() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for p := range l.ready {
		n += len(l.ready[p])
	}
	return n < pageSize/4
}

// mostLocked is how many requests may be under way now, those not counted out of
// which it is not written yet what came. All of them could be sent again after a
// crash, so there are not more than it takes: the quicker the provider the fewer,
// and the more the more waits anyway.
func (l *lane) mostLocked() int {
	steady := int(steadyRate * l.quick.least().Seconds())
	return min(l.d.InFlight, max(steadyLeast, steady, l.allLocked()/repeatShare))
}

// quickTurn is how often a lane forgets how quick its provider was before.
const quickTurn = 5 * time.Second

// A quick knows the shortest time in which a provider has lately taken a
// notification. It is of the provider; longer ones are of whoever is busy too.
type quick struct {
	since     time.Time
	now, last time.Duration // 0 is none
}

func (q *quick) took(d time.Duration, at time.Time) {
	switch age := at.Sub(q.since); {
	case age < quickTurn:
		q.now = min(q.now, d)
		return
	case age < 2*quickTurn:
		q.last = q.now
	default:
		q.last = d
	}
	q.now, q.since = d, at
}

func (q *quick) least() time.Duration { return min(q.now, q.last) }
