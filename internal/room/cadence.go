package room

import "time"

const (
	// shortest is the least time between two batches of a room, and longest the
	// most that it grows to by itself: nobody in a chat notices the first, and few
	// the second.
	shortest = 5 * time.Millisecond
	longest  = 200 * time.Millisecond

	// restShare is how many times as long as handing out a batch takes its
	// interval is. Handing out is writing to sockets, and the more messages share
	// a write the less of it there is to do: at 2 the pumps are busy half of the
	// time at most, and the other half is for those whose messages these are.
	restShare = 2
)

// A cadence is how often a room hands out. The time is that since some start.
type cadence struct {
	interval time.Duration
	next     time.Duration // no batch before that
}

// flushed learns of a batch that was due, closed and completely handed out at
// the given times. Behind says that many members were not done with the one
// before.
//
// The time counts from when the batch was due, so that a node whose pumps are
// late because of many small rooms slows all of them down, as one large room
// slows itself down.
func (c *cadence) flushed(due, closed, done time.Duration, behind bool) {
	want := restShare * (done - due)
	if behind {
		want = max(want, 2*c.interval)
	}
	want = min(max(want, shortest), longest)
	if want >= c.interval {
		c.interval = want
	} else {
		// One quick batch among slow ones is no reason to hurry.
		c.interval -= (c.interval - want) / 4
	}
	c.next = closed + c.interval
}
