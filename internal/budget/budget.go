// Package budget keeps rate limits: one token bucket per app, or finer key,
// and limit.
//
// A bucket holds one full period of its limit, so a limit of 6000 a minute
// allows a burst of 6000. A call that does not fit is refused whole and costs
// nothing.
package budget

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/parleychat/parley/internal/chat"
)

// A Book holds buckets by key. Buckets that have been full for a while are
// forgotten: a full bucket and a new one are the same.
type Book[K comparable] struct {
	now func() time.Time

	mu      sync.Mutex
	buckets map[K]*bucket
	sweepAt time.Time
}

type bucket struct {
	rate    chat.Rate
	limiter *rate.Limiter
}

// NewBook makes an empty book that reads the time from now.
func NewBook[K comparable](now func() time.Time) *Book[K] {
	return &Book[K]{now: now, buckets: map[K]*bucket{}}
}

// Take takes n tokens from key's bucket, whose limit is r, or says in the error
// why not: KindRate when they will be there later, KindInvalid when n is more
// than the bucket ever holds. A zero rate always fits. field names the limit
// in the error.
func (b *Book[K]) Take(key K, r chat.Rate, n int, field string) error {
	if r.N == 0 || n == 0 {
		return nil
	}
	if n > r.N {
		return chat.Invalidf(field, "%d in one call can never fit the limit of %s", n, r)
	}
	now := b.now()
	l := b.bucket(key, r, now).limiter
	if l.AllowN(now, n) {
		return nil
	}
	tokens := max(l.TokensAt(now), 0)
	perToken := float64(r.Per) / float64(r.N)
	err := chat.Failf(chat.KindRate, "over the limit of %s: %d asked, %d left", r, n, int(tokens))
	err.RetryAfter = time.Duration((float64(n) - tokens) * perToken)
	err.Budget = &chat.Budget{
		Limit:     r.N,
		Remaining: int(tokens),
		Reset:     time.Duration((float64(r.N) - tokens) * perToken),
	}
	return err
}

// Return gives back n tokens that Take took for a call which came to nothing.
func (b *Book[K]) Return(key K, r chat.Rate, n int) {
	if r.N == 0 || n == 0 {
		return
	}
	now := b.now()
	// Taking less than nothing adds, and a bucket never holds more than its
	// burst.
	b.bucket(key, r, now).limiter.AllowN(now, -n)
}

func (b *Book[K]) bucket(key K, r chat.Rate, now time.Time) *bucket {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sweep(now)
	if k := b.buckets[key]; k != nil && k.rate == r {
		return k
	}
	k := &bucket{rate: r, limiter: rate.NewLimiter(rate.Limit(float64(r.N)/r.Per.Seconds()), r.N)}
	b.buckets[key] = k
	return k
}

// sweepEvery bounds how long full buckets stay, and how often all are visited.
const sweepEvery = time.Minute

func (b *Book[K]) sweep(now time.Time) {
	if now.Before(b.sweepAt) {
		return
	}
	b.sweepAt = now.Add(sweepEvery)
	for key, k := range b.buckets {
		if k.limiter.TokensAt(now) >= float64(k.rate.N) {
			delete(b.buckets, key)
		}
	}
}
