package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
)

// A failure is how the store ended, if it did.
type failure struct {
	once  sync.Once
	err   error // set before done is closed
	done  chan struct{}
	fatal chan struct{} // closed when Pebble itself gave up
	last  sync.Once
}

func newFailure() *failure {
	return &failure{done: make(chan struct{}), fatal: make(chan struct{})}
}

func (f *failure) set(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.done)
	})
}

// setFatal is for failures after which Pebble may hold its locks for ever.
func (f *failure) setFatal(err error) {
	f.set(err)
	f.last.Do(func() { close(f.fatal) })
}

// Failed is closed when the store broke and must be opened again: a node should
// say so and exit.
func (s *Store) Failed() <-chan struct{} { return s.failure.done }

// broken is nil while the store works.
func (s *Store) broken() error {
	select {
	case <-s.failure.done:
		return s.failure.err
	default:
		return nil
	}
}

// fail breaks the store: what is durable can still be read, nothing is written.
func (s *Store) fail(err error) {
	s.failure.set(err)
	s.logger.Error("store: broken until opened again", "error", err)
}

// Health implements store.Store.
func (s *Store) Health() error {
	if err := s.broken(); err != nil {
		return errBroken(err)
	}
	return s.space.health()
}

func errBroken(cause error) error {
	return chat.Because(chat.KindUnavailable, "the store failed and must be opened again", cause)
}

func errUnknown() error {
	return chat.Fail(chat.KindUnknown, "the store failed while the commit was under way")
}

// apply commits a batch that need not be synced at once, or with pdb.Sync waits
// for it.
func (s *Store) apply(b *pdb.Batch, o *pdb.WriteOptions) error {
	if err := s.broken(); err != nil {
		return errBroken(err)
	}
	if b.Empty() {
		return b.Close()
	}
	if o.GetSync() {
		if err := s.applyAhead(b); err != nil {
			return errUnknown()
		}
		// Not a synced Apply, which ends the process when the disk fails.
		if err := s.syncWait(b); err != nil {
			s.fail(fmt.Errorf("sync: %w", err))
			return errUnknown()
		}
		return b.Close()
	}
	if err := s.guard(func() error { return s.db.Apply(b, o) }); err != nil {
		return errBroken(err)
	}
	return b.Close()
}

// applyAhead puts a batch in the database's log and memory. It is durable once
// syncWait has returned.
func (s *Store) applyAhead(b *pdb.Batch) error {
	if s.noSync {
		return s.guard(func() error { return s.db.Apply(b, pdb.NoSync) })
	}
	return s.guard(func() error { return s.db.ApplyNoSyncWait(b, pdb.Sync) })
}

func (s *Store) syncWait(b *pdb.Batch) error {
	if s.noSync {
		return nil
	}
	return b.SyncWait()
}

// guard runs a commit. Pebble panics when it finds that its log has failed
// before; its locks stay taken then, so this is as final as its Fatalf.
func (s *Store) guard(commit func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("pebble: %v", p)
			s.failure.setFatal(err)
			s.logger.Error("store: broken until opened again", "error", err)
		}
	}()
	if err = commit(); err != nil {
		s.fail(err)
	}
	return err
}

// runUndertaker answers for all appends when Pebble gave up and the goroutines
// that should have may never return from it.
func (s *Store) runUndertaker() {
	select {
	case <-s.stopped:
		return
	case <-s.failure.fatal:
	}
	w := s.writer
	w.mu.Lock()
	w.closing = true
	queue, flying := w.queue, w.flying
	w.queue, w.flying = nil, nil
	w.mu.Unlock()
	w.signal()
	for _, c := range flying {
		for _, j := range c.jobs {
			s.settle(j, errUnknown())
		}
	}
	for _, j := range queue {
		if j.state.CompareAndSwap(jobQueued, jobTaken) {
			s.settle(j, errBroken(s.failure.err))
		}
	}
}

// A pebbleLog passes on what Pebble logs. Its Fatalf must not return, as Pebble
// goes on from it into states it does not expect, and must not end the process,
// which has clients to say goodbye to. So it marks the store broken and parks
// the goroutine, with whatever locks it holds, until the process ends.
type pebbleLog struct {
	logger  *slog.Logger
	failure *failure
}

var errFatal = errors.New("pebble gave up")

func (l pebbleLog) Infof(format string, args ...any) {}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.logger.Error("store: pebble", "error", fmt.Sprintf(format, args...))
}

func (l pebbleLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf("%w: %s", errFatal, fmt.Sprintf(format, args...))
	l.logger.Error("store: pebble gave up", "error", err)
	l.failure.setFatal(err)
	select {}
}
