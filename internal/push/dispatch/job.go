package dispatch

import (
	"hash/maphash"
	"time"

	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

var hashSeed = maphash.MakeSeed()

// hashOf tells devices apart in memory.
func hashOf(user, device string) uint64 {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	_, _ = h.WriteString(user)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(device)
	return h.Sum64()
}

// settle ends a job: nothing more is done for it.
func (l *lane) settle(j *store.PushJob, out *store.PushOutcome) {
	l.mu.Lock()
	l.freeLocked(j)
	l.end(j, out, nil)
	l.mu.Unlock()
}

// finish ends a job whose notification the provider took.
func (l *lane) finish(j *store.PushJob, n *push.Notification, out *store.PushOutcome) {
	var shown *store.PushShownOf
	if !n.Silent && l.d.withdraws(j.Lane.App, j.Lane.Provider) {
		shown = &store.PushShownOf{
			Channel: store.ChannelRef{App: j.Lane.App, Owner: j.User, Type: n.ChannelType, Channel: n.Channel}, UID: n.Shown(),
		}
	}
	l.mu.Lock()
	l.storms.took(j, l.now())
	l.freeLocked(j)
	l.end(j, out, shown)
	l.mu.Unlock()
}

// end has the job's row taken away and its outcome kept. The caller holds mu.
func (l *lane) end(j *store.PushJob, out *store.PushOutcome, shown *store.PushShownOf) {
	l.waiting[j.Priority]--
	e := l.ended(j, out)
	e.shown = shown
	l.d.settler.add(e)
}

// ended is the end of a job, which is still to be written. The caller holds mu.
func (l *lane) ended(j *store.PushJob, out *store.PushOutcome) settled {
	out.UID, out.Device, out.Provider, out.Kind, out.At = j.UID, j.Device, j.Lane.Provider, j.Kind, l.now().UnixMilli()
	out.User, out.Attempts = sharedBy(j), j.Attempts
	if reachedOut(out.Class) {
		out.Attempts++
	}
	l.storms.over(j)
	l.d.metrics.ended(l, j, out)
	taken := out.Class == push.Accepted.String()
	if taken {
		l.untold++
	}
	if j.Kind != store.PushMessage {
		out = nil // that of the notification which is taken back stays
	}
	return settled{lane: l, drop: *j, outcome: out, taken: taken}
}

// sharedBy is whose outcome it is where the UID does not say so: that of a broadcast
// is everybody's, and has no place in a timeline.
func sharedBy(j *store.PushJob) string {
	if j.Offset == 0 {
		return j.User
	}
	return ""
}

// reachedOut reports whether the class is of an attempt, and not of a job that
// ended without one.
func reachedOut(class string) bool {
	switch class {
	case "collapsed", "coalesced", "expired", "shed", "recalled", "read", "reached", "gone", "off",
		"deleted", "banned", "quiet_hours", "level":
		return false
	}
	return true
}

// put puts a job back, as next and to be done at the given time.
func (l *lane) put(j, next *store.PushJob, due time.Time) {
	n := *next
	n.Due = due.UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.freeLocked(j)
	if n.Due >= n.Expires {
		l.end(j, &store.PushOutcome{Class: "expired", Code: n.Code}, nil)
		return
	}
	if n.PushPlace == j.PushPlace {
		// Its row is where it should be.
		if n == *j {
			delete(l.inHand, keyOf(j))
			l.rewindLocked(j)
			return
		}
		n.Due++
	}
	l.d.settler.add(settled{lane: l, drop: *j, put: &n})
}

// moveLocked puts a job in the lane of the credential by which its device is notified
// now.
func (l *lane) moveLocked(j *store.PushJob, to store.PushLane) {
	n := *j
	n.Lane = to
	n.Due = l.now().UnixMilli()
	l.waiting[j.Priority]--
	l.storms.over(j)
	l.d.settler.add(settled{lane: l, drop: *j, put: &n})
}
