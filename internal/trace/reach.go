package trace

import (
	"context"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// reach gathers how many members open channel messages were queued for. A row
// per message of a busy room would cost as much as the message's own; twenty
// thousand in one batch cost little.
type reach struct {
	mu   sync.Mutex
	list []store.Reach

	// flushMu is held while the store is written. Before mu.
	flushMu sync.Mutex
}

const (
	reachFlush = 5 * time.Second
	// maxReach bounds what waits for the next flush. What comes beyond it is not
	// known to traces.
	maxReach = 64 << 10
	// lastFlush is what the flush at the end may take.
	lastFlush = 5 * time.Second
)

// Queued notes how many members an open channel message was queued for.
func (t *Tracer) Queued(uid chat.UID, members int) {
	t.reach.mu.Lock()
	defer t.reach.mu.Unlock()
	if len(t.reach.list) < maxReach {
		t.reach.list = append(t.reach.list, store.Reach{UID: uid, Members: members})
	}
}

// Flush stores what has gathered. What the store does not take is forgotten.
func (t *Tracer) Flush(ctx context.Context) error {
	t.reach.flushMu.Lock()
	defer t.reach.flushMu.Unlock()
	t.reach.mu.Lock()
	list := t.reach.list
	t.reach.list = nil
	t.reach.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	return t.store.PutReach(ctx, list)
}

// Run stores what gathers until ctx ends, and then what is left.
func (t *Tracer) Run(ctx context.Context) {
	tick := time.NewTicker(reachFlush)
	defer tick.Stop()
	for {
		last := false
		select {
		case <-ctx.Done():
			last = true
		case <-tick.C:
		}
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
		// A store that refuses says so itself; what is lost is a number in traces.
		_ = t.Flush(flush)
		cancel()
		if last {
			return
		}
	}
}
