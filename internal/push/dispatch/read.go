package dispatch

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

const (
	pageSize  = 1000          // jobs read at once
	mostAhead = 2 * time.Hour // nothing is put off for longer: what is due later was put by a wrong clock
)

// fill reads more jobs. Where there are none it says for how long that will be so.
func (l *lane) fill(ctx context.Context, now time.Time) (read bool, nap time.Duration, err error) {
	for p := range uint8(store.PushPriorities) {
		l.mu.Lock()
		until := now.UnixMilli()
		if next := l.next[p]; next != math.MaxInt64 && next > now.Add(mostAhead).UnixMilli() {
			until = math.MaxInt64
		}
		wanted := l.next[p] <= until && len(l.inHand) < l.most(p)
		l.mu.Unlock()
		if !wanted {
			continue
		}
		if read, err = l.read(ctx, p, until); err != nil {
			l.d.warn("reading push jobs", err)
			return false, time.Second, err
		}
		if read {
			return true, 0, nil
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	next := slices.Min(l.next[:])
	switch {
	case next == math.MaxInt64:
		if len(l.inHand) == 0 {
			l.waiting = [store.PushPriorities]int{} // for certain
		}
		return false, longestNap, nil
	case next <= now.UnixMilli(): // and as much is in hand as may be
		return false, longestNap, nil
	}
	return false, time.UnixMilli(next).Sub(now), nil
}

// most is how many jobs may be in hand to read more of the priority: what comes first
// is read though all the rest waits for one device.
func (l *lane) most(priority uint8) int {
	return l.d.InFlight + (4+store.PushPriorities-1-int(priority))*pageSize
}

// read reads more jobs of the priority, due by then, and reports whether there were
// any.
func (l *lane) read(ctx context.Context, p uint8, until int64) (some bool, err error) {
	for full := true; full; {
		l.mu.Lock()
		behind := l.behind[p]
		l.reading, l.early[p] = true, math.MaxInt64
		l.mu.Unlock()
		page, err := l.d.Store.PushJobs(ctx, &l.id, p, behind, until, pageSize)
		if err != nil {
			l.doneReading()
			return false, err
		}
		some, full = l.got(p, page), len(page) == pageSize
		if some && full {
			return true, nil
		}
	}
	l.mu.Lock()
	behind := l.behind[p]
	l.next[p] = math.MaxInt64 // lowered by what is put meanwhile
	l.mu.Unlock()
	first, err := l.d.Store.PushJobs(ctx, &l.id, p, behind, math.MaxInt64, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.next[p] = 0
	case len(first) > 0:
		l.next[p] = min(l.next[p], first[0].Due)
	}
	return some, err
}

// got takes in what was read, and reports whether anything of it was new.
func (l *lane) got(p uint8, page []store.PushJob) (some bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(page) == 0 {
		l.doneReadingLocked()
		return false
	}
	l.behind[p] = page[len(page)-1].PushPlace
	if due := l.early[p]; due <= l.behind[p].Due {
		// It need not be in the page.
		l.behind[p] = store.PushPlace{Due: due - 1}
	}
	return l.gotLocked(page) > 0
}

// gotLocked takes in what was read, but for what is in hand already.
func (l *lane) gotLocked(page []store.PushJob) (added int) {
	newest := map[collapseKey]chat.UID{}
	for i := range page {
		if j := &page[i]; j.Collapse != 0 {
			// What was tried in vain is due later, and is older nevertheless.
			if k := collapseIn(j); newest[k].Compare(j.UID) < 0 {
				newest[k] = j.UID
			}
		}
	}
	for i := range page {
		j := &page[i]
		k := keyOf(j)
		if !l.mineLocked(k) {
			continue
		}
		l.inHand[k] = struct{}{}
		if j.Collapse != 0 && newest[collapseIn(j)] != j.UID {
			l.end(j, &store.PushOutcome{Class: "collapsed"}, nil)
			continue
		}
		l.ready[j.Priority] = append(l.ready[j.Priority], *j)
		added++
	}
	l.doneReadingLocked()
	return added
}

// mineLocked reports whether a job that was read is neither in hand already nor
// done since.
func (l *lane) mineLocked(k placeKey) bool {
	_, held := l.inHand[k]
	_, gone := l.gone[k]
	return !held && !gone
}

func (l *lane) doneReading() {
	l.mu.Lock()
	l.doneReadingLocked()
	l.mu.Unlock()
}

func (l *lane) doneReadingLocked() {
	l.reading = false
	clear(l.gone)
}

type collapseKey struct{ device, collapse uint64 }

func collapseIn(j *store.PushJob) collapseKey {
	return collapseKey{hashOf(j.User, j.Device), j.Collapse}
}

// rewindLocked has the job read, though it may be behind what was read already.
func (l *lane) rewindLocked(j *store.PushJob) {
	p := j.Priority
	l.early[p] = min(l.early[p], j.Due)
	l.next[p] = min(l.next[p], j.Due)
	if at := &l.behind[p]; j.Due <= at.Due {
		*at = store.PushPlace{Due: j.Due - 1}
	}
}

// releaseLocked lets go of what was read and is not under way: a lane that stands
// still may do so for long, and what comes first may be another then.
func (l *lane) releaseLocked() {
	drop := func(j *store.PushJob) {
		delete(l.inHand, keyOf(j))
		l.rewindLocked(j)
	}
	for p := range l.ready {
		for i := range l.ready[p] {
			drop(&l.ready[p][i])
		}
		for i := range l.freed[p] {
			drop(&l.freed[p][i])
		}
		l.freed[p], l.ready[p] = nil, nil
	}
	for _, q := range l.devices {
		for i := range q.jobs {
			drop(&q.jobs[i])
		}
		q.jobs = nil
	}
	l.next = [store.PushPriorities]int64{}
}
