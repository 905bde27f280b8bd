// Package turn lets one at a time work on a thing, for any number of things.
package turn

import (
	"context"
	"hash/maphash"

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
// Who has one must not wait for another.
func Take[K comparable](ctx context.Context, t *Turns, key K) (end func(), err error) {
	slot := t.slots[maphash.Comparable(t.seed, key)%uint64(len(t.slots))]
	select {
	case slot <- struct{}{}:
		return func() { <-slot }, nil
	case <-ctx.Done():
		return nil, chat.Because(chat.KindUnavailable, "canceled before it was begun", ctx.Err())
	}
}
