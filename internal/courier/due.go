package courier

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// dueEvery is how often is looked for what is due, and dueBatch how much of it is
// done at a time.
const (
	dueEvery = 250 * time.Millisecond
	dueBatch = 100
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
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for more := true; more && ctx.Err() == nil; {
			n, err := c.doDue(ctx)
			if err != nil && ctx.Err() == nil {
				c.log.Error("telling of changed metadata and closing streams failed and will be tried again", "error", err)
			}
			more = err == nil && n == dueBatch
		}
	}
}

func (c *Courier) doDue(ctx context.Context) (int, error) {
	list, err := c.archive.Due(ctx, c.now().UnixMilli(), dueBatch)
	if err != nil {
		return 0, err
	}
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
	return len(list), errors.Join(errs...)
}

// settle is the append that does the first of what is due for the subject. The
// rest is due again at once. When nothing is, the time was that of a stream that
// has grown since, and a later one is set.
func (c *Courier) settle(ctx context.Context, s *subject) (*store.Append, error) {
	st, now := s.state, c.now().UnixMilli()
	switch {
	case st.Told != st.Version && newsDue(&st) <= now:
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
