package bench

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A load is requests made for a while, of which the first part warms up and the
// rest is measured.
type load struct {
	from, to time.Time // of the measured part
	latency  histogram
	done     atomic.Int64 // requests answered within it

	before, after moment // its ends
}

// warmUp is the part of the time that comes before the measured one.
const warmUp = 0.2

// run makes n callers and has each repeat request until the time is over. The
// first error ends all.
func (l *load) run(ctx context.Context, srv *server, n int, d time.Duration, request func(c *caller, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	callers := make([]*caller, n)
	for i := range callers {
		c, err := newCaller(ctx, srv, srv.callerID())
		if err != nil {
			return err
		}
		defer c.close()
		callers[i] = c
	}
	l.from = time.Now().Add(time.Duration(warmUp * float64(d)))
	l.to = l.from.Add(d)
	var wg sync.WaitGroup
	for i, c := range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				if start.After(l.to) {
					return
				}
				if err := request(c, i); err != nil {
					cancel(fmt.Errorf("request %d of caller %d: %w", c.calls, i, err))
					return
				}
				if end := time.Now(); end.After(l.from) && end.Before(l.to) {
					l.latency.add(end.Sub(start))
					l.done.Add(1)
				}
			}
		})
	}
	sleepUntil(ctx, l.from)
	l.before = srv.now()
	sleepUntil(ctx, l.to)
	l.after = srv.now()
	wg.Wait()
	return context.Cause(ctx)
}

func sleepUntil(ctx context.Context, t time.Time) { sleep(ctx, time.Until(t)) }

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (h *histogram) latency(of string) *Latency {
	ms := func(q float64) float64 { return float64(h.quantile(q)) / 1e6 }
	return &Latency{Of: of, P50: ms(0.5), P99: ms(0.99), P999: ms(0.999)}
}

func rate(unit string, n int64, d time.Duration) Rate {
	return Rate{Unit: unit, Count: n, Seconds: d.Seconds(), PerSecond: float64(n) / d.Seconds()}
}

// complaints are what was not as promised, the first few of them.
type complaints struct {
	mu    sync.Mutex
	first []string
	more  int
}

const maxComplaints = 10

func (c *complaints) add(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.first) < maxComplaints {
		c.first = append(c.first, fmt.Sprintf(format, args...))
	} else {
		c.more++
	}
}

func (c *complaints) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.more > 0 {
		return append(c.first[:len(c.first):len(c.first)], fmt.Sprintf("and %d more", c.more))
	}
	return c.first
}

// inParallel calls f with each of 0 to n-1, from a few goroutines that have a
// caller each. The first error ends it.
func inParallel(ctx context.Context, srv *server, n int, f func(ctx context.Context, c *caller, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, workers) {
		wg.Go(func() {
			c, err := newCaller(ctx, srv, srv.callerID())
			if err != nil {
				cancel(err)
				return
			}
			defer c.close()
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(ctx, c, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

const workers = 64

// tokens issues one for each of n users.
func tokens(ctx context.Context, srv *server, n int, user func(i int) string) ([]string, error) {
	list := make([]string, n)
	err := inParallel(ctx, srv, n, func(_ context.Context, c *caller, i int) (err error) {
		list[i], err = c.token(user(i))
		return err
	})
	return list, err
}

// source spreads connections over loopback addresses: each has less than 30,000
// ports to give, and one that was used rests for a minute.
func source(i int) net.Addr {
	if runtime.GOOS != "linux" {
		return nil // elsewhere only 127.0.0.1 is there
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%8))}
}
