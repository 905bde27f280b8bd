// Package turn lets one at a time work on a thing, for any number of things.
package turn

import (
	"context"
	"hash/maphash"
	"slices"

	"github.com/parleychat/parley/internal/chat"
)

// Turns are shared by all things, so that there is one for each without keeping
// one for each. Waiting for a turn can be given up, and a turn may be held over
// I/O and ended by another goroutine: neither can be said of a lock.
type Turns struct {
	seed  maphash.Seed
	slots [256]chan struct{}
}

// New makes turns that nobody has.
func New() *Turns {
	t := &Turns{seed: maphash.MakeSeed()}
	for i := range t.slots {
		t.slots[i] = make(chan struct{}, 1)
	}
	return t
}

// Take waits for the turn of the thing that key names, and gives what ends it.
// Who has one must not wait for another of the same Turns.
func Take[K comparable](ctx context.Context, t *Turns, key K) (end func(), err error) {
	slot := t.slots[slotOf(t, key)]
	select {
	case slot <- struct{}{}:
		return func() { <-slot }, nil
	case <-ctx.Done():
		return nil, chat.Because(chat.KindUnavailable, "canceled before it was begun", ctx.Err())
	}
}

// TakeAll waits for the turns of all the things that keys name, and gives what
// ends them. They are taken in one order, so that two who want several cannot
// wait for each other.
func TakeAll[K comparable](ctx context.Context, t *Turns, keys []K) (end func(), err error) {
	which := make([]int, len(keys))
	for i, key := range keys {
		which[i] = slotOf(t, key)
	}
	slices.Sort(which)
	which = slices.Compact(which)
	for i, n := range which {
		select {
		case t.slots[n] <- struct{}{}:
		case <-ctx.Done():
			t.end(which[:i])
			return nil, chat.Because(chat.KindUnavailable, "canceled before it was begun", ctx.Err())
		}
	}
	return func() { t.end(which) }, nil
}

func (t *Turns) end(which []int) {
	for _, n := range which {
		<-t.slots[n]
	}
}

func slotOf[K comparable](t *Turns, key K) int {
	return int(maphash.Comparable(t.seed, key) % uint64(len(t.slots)))
}
