package room

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// An Intake says how much each open channel takes. In every window a channel has
// room for so many messages of any class, so many more of high ones, and so many
// more of allowlisted ones. What finds no room is shed, before anything is kept of
// it; what was taken in is never put out again.
type Intake struct {
	now    func() time.Time
	shards [shards]intakeShard
}

// Budgets are how many messages a channel takes in one window (open channel
// message priority). A Window of 0 takes everything.
type Budgets struct {
	Window      time.Duration
	Shared      int // low, and high ones beyond their own
	High        int // high, and allowlisted ones beyond their own
	Allowlisted int
}

type intakeShard struct {
	mu      sync.Mutex // nothing is taken inside
	windows map[Key]*window
	sweepAt time.Time
}

// A window is what a channel has taken since it began.
type window struct {
	began                     time.Time
	shared, high, allowlisted int32
}

// intakeSweep is how often windows that are over are forgotten.
const intakeSweep = 10 * time.Second

// NewIntake makes an intake that has taken nothing.
func NewIntake(now func() time.Time) *Intake {
	in := &Intake{now: now}
	for i := range in.shards {
		in.shards[i].windows = map[Key]*window{}
	}
	return in
}

// Admit takes a message of the class in, or reports that there is no room for it.
// A standard message is as a high one: what is low was declared so.
func (in *Intake) Admit(key Key, class chat.Priority, b Budgets) bool {
	if b.Window <= 0 {
		return true
	}
	now := in.now()
	s := &in.shards[maphash.Comparable(seed, key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if !now.Before(s.sweepAt) {
		s.sweepAt = now.Add(intakeSweep)
		for k, w := range s.windows {
			if now.Sub(w.began) >= b.Window && now.Sub(w.began) >= intakeSweep {
				delete(s.windows, k)
			}
		}
	}
	w := s.windows[key]
	if w == nil {
		w = &window{began: now}
		s.windows[key] = w
	} else if age := now.Sub(w.began); age >= b.Window || age < 0 {
		*w = window{began: now}
	}
	// Each class takes of its own first, so that it leaves the others theirs.
	switch class {
	case chat.PriorityAllowlisted:
		return take(&w.allowlisted, b.Allowlisted) || take(&w.high, b.High) || take(&w.shared, b.Shared)
	case chat.PriorityLow:
		return take(&w.shared, b.Shared)
	}
	return take(&w.high, b.High) || take(&w.shared, b.Shared)
}

func take(used *int32, budget int) bool {
	if int(*used) >= budget {
		return false
	}
	*used++
	return true
}
