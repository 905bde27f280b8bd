package budget

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ns.Store(time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func refused(t *testing.T, err error, retry time.Duration, left int, reset time.Duration) {
	t.Helper()
	e, ok := errors.AsType[*chat.Error](err)
	if !ok || e.Kind != chat.KindRate || e.Budget == nil {
		t.Fatalf("got %v", err)
	}
	if e.RetryAfter.Round(time.Microsecond) != retry || e.Budget.Remaining != left || e.Budget.Reset.Round(time.Microsecond) != reset {
		t.Errorf("retry after %v, %+v; want %v, %d left, reset %v", e.RetryAfter, *e.Budget, retry, left, reset)
	}
}

func TestTake(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := NewBook[string](c.now)
	perMinute := chat.Rate{N: 6, Per: time.Minute}
	take := func(n int) error { return b.Take("k", perMinute, n, "f") }

	// A new bucket is full.
	if err := take(6); err != nil {
		t.Fatal(err)
	}
	refused(t, take(1), 10*time.Second, 0, time.Minute)
	c.advance(25 * time.Second)
	// What does not fit is refused whole and costs nothing.
	for range 3 {
		refused(t, take(3), 5*time.Second, 2, 35*time.Second)
	}
	if err := take(2); err != nil {
		t.Fatal(err)
	}
	// Waiting as long as was said is enough.
	refused(t, take(1), 5*time.Second, 0, 55*time.Second)
	c.advance(5 * time.Second)
	if err := take(1); err != nil {
		t.Fatal(err)
	}
	// A bucket never holds more than one period.
	c.advance(time.Hour)
	if err := take(6); err != nil {
		t.Fatal(err)
	}
	refused(t, take(1), 10*time.Second, 0, time.Minute)
}

func TestNeverFits(t *testing.T) {
	t.Parallel()
	b := NewBook[string](newClock().now)
	err := b.Take("k", chat.Rate{N: 6, Per: time.Minute}, 7, "toUserIds")
	if err == nil || err.Error() != "toUserIds: 7 in one call can never fit the limit of 6/m" || chat.KindOf(err) != chat.KindInvalid {
		t.Error(err)
	}
	if err := b.Take("k", chat.Rate{N: 6, Per: time.Minute}, 6, "f"); err != nil {
		t.Error("it cost something:", err)
	}
}

func TestNoLimit(t *testing.T) {
	t.Parallel()
	b := NewBook[string](newClock().now)
	for range 1000 {
		if err := b.Take("k", chat.Rate{}, 1<<20, "f"); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.buckets) != 0 {
		t.Error("no limit takes memory")
	}
}

func TestKeysAreApart(t *testing.T) {
	t.Parallel()
	b := NewBook[int](newClock().now)
	r := chat.Rate{N: 1, Per: time.Second}
	for key := range 10 {
		if err := b.Take(key, r, 1, "f"); err != nil {
			t.Error(key, err)
		}
	}
	refused(t, b.Take(3, r, 1, "f"), time.Second, 0, time.Second)
}

// A new limit is in force with the next call.
func TestLimitChanges(t *testing.T) {
	t.Parallel()
	b := NewBook[string](newClock().now)
	if err := b.Take("k", chat.Rate{N: 1, Per: time.Second}, 1, "f"); err != nil {
		t.Fatal(err)
	}
	if err := b.Take("k", chat.Rate{N: 2, Per: time.Second}, 2, "f"); err != nil {
		t.Fatal(err)
	}
	refused(t, b.Take("k", chat.Rate{N: 2, Per: time.Second}, 2, "f"), time.Second, 0, time.Second)
}

// Full buckets are forgotten, others are not.
func TestSweep(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := NewBook[int](c.now)
	for key := range 100 {
		if err := b.Take(key, chat.Rate{N: 10, Per: time.Second}, 1, "f"); err != nil {
			t.Fatal(err)
		}
	}
	hour := chat.Rate{N: 1, Per: time.Hour}
	if err := b.Take(1000, hour, 1, "f"); err != nil {
		t.Fatal(err)
	}
	c.advance(2 * sweepEvery)
	refused(t, b.Take(1000, hour, 1, "f"), time.Hour-2*sweepEvery, 0, time.Hour-2*sweepEvery)
	if len(b.buckets) != 1 {
		t.Errorf("%d buckets are left", len(b.buckets))
	}
}

// However many take at once, no more than the limit get.
func TestTakeAtOnce(t *testing.T) {
	t.Parallel()
	b := NewBook[string](newClock().now)
	var got atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if b.Take("k", chat.Rate{N: 500, Per: time.Hour}, 1, "f") == nil {
					got.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got.Load() != 500 {
		t.Errorf("%d of 500 were taken", got.Load())
	}
}

func BenchmarkTake(b *testing.B) {
	book := NewBook[int](time.Now)
	r := chat.Rate{N: 1 << 30, Per: time.Second}
	b.ReportAllocs()
	for b.Loop() {
		if err := book.Take(1, r, 1, "f"); err != nil {
			b.Fatal(err)
		}
	}
}

func TestReturnGivesBack(t *testing.T) {
	t.Parallel()
	b := NewBook[string](newClock().now)
	r := chat.Rate{N: 10, Per: time.Minute}
	for range 100 {
		if err := b.Take("k", r, 10, "f"); err != nil {
			t.Fatalf("a returned budget is not there: %v", err)
		}
		b.Return("k", r, 10)
	}
	// What is given back does not make the bucket larger.
	b.Return("k", r, 10)
	if err := b.Take("k", r, 10, "f"); err != nil {
		t.Fatal(err)
	}
	if err := b.Take("k", r, 1, "f"); chat.KindOf(err) != chat.KindRate {
		t.Fatalf("more than a full bucket was given: %v", err)
	}
}
