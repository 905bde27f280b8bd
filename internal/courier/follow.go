package courier

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley/internal/store"
)

// A Follower does what must follow every accept and survive a crash: it reads
// the log of committed batches from its own watermark on, for ever.
//
// A record is handled at least once. After a crash the newest ones may come
// again, so Handle must bear repeats; whoever tells the outside world marks
// what it tells with the message's UID.
type Follower struct {
	Log    store.Log
	Name   string
	Logger *slog.Logger

	// Handle is given records in order. On an error the same records come
	// again after a pause.
	Handle func(ctx context.Context, records []store.LogRecord) error

	// Marks says that Handle moves the watermark itself, together with what
	// it writes.
	Marks bool

	// Gather is how long to wait for more once there is something, so that
	// work is done in bulk.
	Gather time.Duration
}

const (
	followBatch   = 1024 // records in one call of Handle
	followBackoff = 5 * time.Second
)

// Run follows the log until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	var at uint64
	known := false
	pause := time.Duration(0)
	for ctx.Err() == nil {
		err := func() (err error) {
			if !known {
				if at, err = f.Log.Watermark(ctx, f.Name); err != nil {
					return err
				}
				known = true
			}
			at, err = f.step(ctx, at)
			return err
		}()
		if err == nil || ctx.Err() != nil {
			pause = 0
			continue
		}
		// Full jitter, so that consumers that failed together do not come
		// back together.
		pause = min(max(2*pause, 100*time.Millisecond), followBackoff)
		f.Logger.Error("a consumer of the log failed and will try again", "consumer", f.Name, "watermark", at, "error", err)
		sleep(ctx, rand.N(pause))
	}
}

func (f *Follower) step(ctx context.Context, at uint64) (uint64, error) {
	if err := f.Log.WaitLog(ctx, at); err != nil {
		return at, err
	}
	if f.Gather > 0 && f.Log.LogHead() < at+followBatch {
		sleep(ctx, f.Gather)
	}
	records, err := f.Log.ReadLog(ctx, at, followBatch)
	if err != nil || len(records) == 0 {
		return at, err
	}
	if err := f.Handle(ctx, records); err != nil {
		return at, err
	}
	at = records[len(records)-1].Seq
	if f.Marks {
		return at, nil
	}
	return at, f.Log.SetWatermark(ctx, f.Name, at)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// NewIndexer makes the follower that keeps history and channel lists.
func NewIndexer(s interface {
	store.Log
	store.Index
}, logger *slog.Logger) *Follower {
	return &Follower{
		Log: s, Name: store.IndexConsumer, Logger: logger,
		Handle: s.IndexLog, Marks: true,
		// Readers of the index wait for it: this is the most they wait on a
		// quiet server.
		Gather: 20 * time.Millisecond,
	}
}

// A Counter is the simplest consumer of the log: it counts. What it has counted
// since it was made shows that nothing accepted is missing from the log.
type Counter struct {
	Follower
	batches, requests atomic.Uint64
}

// NewCounter makes a counting consumer. The store must know its name.
func NewCounter(log store.Log, name string, logger *slog.Logger) *Counter {
	c := &Counter{Follower: Follower{Log: log, Name: name, Logger: logger}}
	c.Handle = func(_ context.Context, records []store.LogRecord) error {
		for _, r := range records {
			c.batches.Add(1)
			c.requests.Add(uint64(len(r.Refs)))
		}
		return nil
	}
	return c
}

// Counted is how many batches and requests were seen so far.
func (c *Counter) Counted() (batches, requests uint64) { return c.batches.Load(), c.requests.Load() }
