package courier

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// dueEvery is how often is looked for what is due, and dueBatch how much of it is
// done at a time.
const (
	dueEvery = 250 * time.Millisecond
	dueBatch = 100

	// maxStranded is how much is looked through, earliest first, for news that a
	// clock that was set back would hold up.
	maxStranded = 1000
)

// newsDue is when changes of metadata can be told of that were not yet.
func newsDue(st *chat.State) int64 { return st.ToldAt + gatherMetadata.Milliseconds() }

// closeDue is when a stream has been left alone for too long.
func closeDue(s *chat.Stream) int64 { return s.LastAt + s.Idle }

// dueOf is when there is next something to do for a state, 0 for never.
func dueOf(st *chat.State) int64 {
	due := int64(0)
	if st.Told != st.Version {
		due = newsDue(st)
	}
	if st.Stream.Open() && (due == 0 || closeDue(st.Stream) < due) {
		due = closeDue(st.Stream)
	}
	return due
}

// RunDue does what is due, until ctx ends: tells of changes of metadata and closes
// streams that were left alone. What is due is in the store, so a crash delays it
// and loses nothing. It must have ended before the store is closed.
func (c *Courier) RunDue(ctx context.Context) {
	t := time.NewTicker(dueEvery)
	defer t.Stop()
	failed := func(err error) bool {
		if err != nil && ctx.Err() == nil {
			c.log.Error("telling of changed metadata and closing streams failed and will be tried again", "error", err)
		}
		return err != nil
	}
	last, setBack := int64(0), true // it may have been while nobody ran
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := c.now().UnixMilli()
		if setBack, last = setBack || now < last, now; setBack {
			setBack = failed(c.doStranded(ctx, now))
		}
		for more := true; more && ctx.Err() == nil; {
			n, err := c.doDue(ctx)
			more = !failed(err) && n == dueBatch
		}
	}
}

func (c *Courier) doDue(ctx context.Context) (int, error) {
	list, err := c.archive.Due(ctx, c.now().UnixMilli(), dueBatch)
	if err != nil {
		return 0, err
	}
	return len(list), c.do(ctx, list)
}

// doStranded tells the news that are due later than any that the clock as it is
// could make wait.
func (c *Courier) doStranded(ctx context.Context, now int64) error {
	list, err := c.archive.Due(ctx, math.MaxInt64, maxStranded)
	if err != nil {
		return err
	}
	return c.do(ctx, slices.DeleteFunc(list, func(d store.DueState) bool { return d.Due <= now+gatherMetadata.Milliseconds() }))
}

func (c *Courier) do(ctx context.Context, list []store.DueState) error {
	var errs []error
	for _, d := range list {
		err := c.change(ctx, d.App, d.UID, func(s *subject) (*store.Append, error) {
			if s.state.Due != d.Due {
				return nil, nil // somebody was quicker
			}
			return c.settle(ctx, s)
		})
		if errors.Is(err, &chat.Error{Kind: chat.KindNotFound}) {
			// The message has expired, and there is nothing to do any more.
			err = c.store.Append(ctx, &store.Append{
				Message: &chat.Message{App: d.App, ChannelType: d.UID.ChannelType()},
				States:  []store.StateChange{{UID: d.UID, WasDue: d.Due}},
			})
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// settle is the append that does the first of what is due for the subject. The
// rest is due again at once. When nothing is, the time was that of a stream that
// has grown since, and a later one is set.
func (c *Courier) settle(ctx context.Context, s *subject) (*store.Append, error) {
	st, now := s.state, c.now().UnixMilli()
	switch {
	// Told in the time to come: the clock was set back since, and must not hold the
	// news up.
	case st.Told != st.Version && (newsDue(&st) <= now || st.ToldAt > now):
		return s.tellMetadata(st, nil, c.after(s.uid), ""), nil
	case st.Stream.Open() && closeDue(st.Stream) <= now:
		return c.interrupt(ctx, s)
	}
	st.Due = dueOf(&st)
	if st.Due == s.state.Due {
		return nil, nil
	}
	return s.keep(s.next(st)), nil
}

// logger is where there is nobody to answer to.
func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
