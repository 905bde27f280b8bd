package pebble

import (
	"context"
	"sync"
	"sync/atomic"
)

// A gate is a number that grows and can be waited for.
type gate struct {
	atomic.Uint64
	mu sync.Mutex
	ch chan struct{} // closed when the number grows; nil when nobody waits
}

// raise moves the number up to n; a lower n changes nothing.
func (g *gate) raise(n uint64) {
	for {
		old := g.Load()
		if n <= old {
			return
		}
		if g.CompareAndSwap(old, n) {
			break
		}
	}
	g.mu.Lock()
	if g.ch != nil {
		close(g.ch)
		g.ch = nil
	}
	g.mu.Unlock()
}

// waitAbove returns when the number is above n, or with ctx's error, or with
// that of fail.
func (g *gate) waitAbove(ctx context.Context, n uint64, fail <-chan struct{}, cause func() error) error {
	for g.Load() <= n {
		g.mu.Lock()
		if g.ch == nil {
			g.ch = make(chan struct{})
		}
		ch := g.ch
		g.mu.Unlock()
		// Raised between the look and the lock: nobody will close ch for it.
		if g.Load() > n {
			return nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		case <-fail:
			return cause()
		}
	}
	return nil
}
