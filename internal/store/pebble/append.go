package pebble

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// The bounds of the queue before the writer. At the measured speeds this is
// well under a second of work.
const (
	maxQueued      = 16 << 10
	maxQueuedBytes = 32 << 20
	retryQueue     = time.Second
)

// The states of a job. Whoever moves it on owns the right to do what follows:
// the writer takes it or the caller drops it; then one of the finisher and the
// undertaker settles it.
const (
	jobQueued uint32 = iota
	jobTaken
	jobDropped
	jobSettled
)

// A job is an append on its way through the writer.
type job struct {
	a       *store.Append
	heads   []*head // of each target, then of the sender when it gets copies
	size    int
	state   atomic.Uint32
	settled chan error
}

var jobs = sync.Pool{New: func() any { return &job{settled: make(chan error, 1)} }}

func (j *job) release() {
	for _, h := range j.heads {
		h.unpin()
	}
	clear(j.heads) // a pooled job must not hold heads in memory
	j.heads = j.heads[:0]
}

// echoes reports whether the sender's timeline gets copies.
func echoes(m *chat.Message) bool { return m.Echo && m.ChannelType != chat.Open && !m.Ephemeral() }

// Append implements store.Appender.
func (s *Store) Append(ctx context.Context, a *store.Append) error {
	j, err := s.admit(ctx, a)
	if err != nil {
		s.metrics.refused.WithLabelValues(refusal(err)).Inc()
		if a.Done != nil {
			a.Done(err)
		}
		return err
	}
	select {
	case err = <-j.settled:
		return s.recycle(j, err)
	case <-ctx.Done():
		if j.state.CompareAndSwap(jobQueued, jobDropped) {
			err = chat.Because(chat.KindUnavailable, "canceled before it was begun", ctx.Err())
			if a.Done != nil {
				a.Done(err)
			}
			return err
		}
		select {
		case err = <-j.settled:
			return s.recycle(j, err)
		default:
		}
		return chat.Because(chat.KindUnknown, "canceled while the commit was under way", ctx.Err())
	}
}

// recycle keeps the job for another append. Not in a broken store, where the
// undertaker may still look at it.
func (s *Store) recycle(j *job, err error) error {
	if s.broken() == nil {
		j.a = nil
		jobs.Put(j)
	}
	return err
}

// admit checks the append, pins the heads it needs and puts it in the queue.
func (s *Store) admit(ctx context.Context, a *store.Append) (*job, error) {
	if err := ctx.Err(); err != nil {
		return nil, chat.Because(chat.KindUnavailable, "canceled before it was begun", err)
	}
	if err := s.Health(); err != nil {
		return nil, err
	}
	if err := checkAppend(a); err != nil {
		return nil, err
	}
	j := jobs.Get().(*job)
	j.a = a
	j.state.Store(jobQueued)
	// A target costs its pinned head as well as its rows.
	j.size = len(a.Message.Content) + 256 + 128*len(a.Targets)
	if a.Once != nil {
		for _, id := range a.Once.Left {
			j.size += 2 + len(id)
		}
	}
	for _, id := range a.Left {
		j.size += 2 + len(id)
	}
	if a.Message.Event != nil || changes(a) {
		j.size += changeSize(a)
	}
	if err := s.pinHeads(j); err != nil {
		j.release()
		return nil, err
	}
	if err := s.writer.put(j); err != nil {
		j.release()
		return nil, err
	}
	return j, nil
}

func checkAppend(a *store.Append) error {
	if a.Message == nil {
		return chat.Invalid("message", "is required")
	}
	if n := len(a.Targets); n == 0 && a.Once == nil && !changes(a) || n > chat.MaxUIDBlock {
		return chat.Invalidf("targets", "from 1 to %d, got %d", chat.MaxUIDBlock, n)
	}
	if a.Broadcast != nil && len(a.Targets) > 0 {
		return chat.Invalid("targets", "a broadcast has none")
	}
	if len(a.Message.From) > maxIDLength {
		return chat.TooLong("fromUserId", maxIDLength, len(a.Message.From), "bytes")
	}
	for _, t := range a.Targets {
		if t == "" || len(t) > maxIDLength {
			return chat.Invalidf("targets", "ids of 1 to %d bytes, got %d", maxIDLength, len(t))
		}
	}
	for i := range a.Views {
		if err := checkChannelRef(&a.Views[i].Channel); err != nil {
			return err
		}
	}
	if p := a.Preferences; p != nil {
		if err := checkChannelRef(&store.ChannelRef{Owner: p.User}); err != nil {
			return err
		}
	}
	for i := range a.Marks {
		if err := checkChannelRef(&a.Marks[i].Channel); err != nil {
			return err
		}
	}
	return nil
}

// pinHeads gets all heads the append will move into memory, so that the writer
// never waits for a read.
func (s *Store) pinHeads(j *job) error {
	m := j.a.Message
	if m.ChannelType == chat.Open || m.Ephemeral() || len(j.a.Targets) == 0 {
		return nil
	}
	for _, t := range j.a.Targets {
		h, err := s.heads.pin(m.App, t)
		if err != nil {
			return fmt.Errorf("append: %w", err)
		}
		j.heads = append(j.heads, h)
	}
	if echoes(m) {
		h, err := s.heads.pin(m.App, m.From)
		if err != nil {
			return fmt.Errorf("append: %w", err)
		}
		j.heads = append(j.heads, h)
	}
	return nil
}
