package pebble

import (
	"context"
)

// Arenas is how many bytes of the Go heap are Pebble's own memory: what is not yet
// in files, and blocks read from them. They live long and hold no pointers, so they
// are no reason for the garbage collector to run later. 0 where they are elsewhere.
func (s *Store) Arenas() int64 {
	if !arenasInHeap {
		return 0
	}
	m := s.db.Metrics()
	return int64(m.MemTable.Size+m.MemTable.ZombieSize) + m.BlockCache.Size
}

// Rest is called when there is little to do, by one at a time. It has Pebble let
// go of memtables that are in files, and reports whether there may have been any.
//
// Pebble cuts them off the front of the queue that they wait in. Whatever is cut
// off a slice is still held by what is left of it until that has to grow, and when
// a load is over it does not: up to a dozen memtables would stay in the heap.
// Where they are not of the heap they are freed all the same.
func (s *Store) Rest(ctx context.Context) bool {
	if !arenasInHeap || s.Health() != nil || s.db.Metrics().Flush.Count == s.rested {
		return false
	}
	// New memtables are put into the queue until it has grown. But for the first they
	// are empty, and make no file. What grows is at most doubled, so that there is
	// never room for more than the queue's longest.
	for range maxMemTables {
		var flushed <-chan struct{}
		if err := s.guard(func() (err error) {
			flushed, err = s.db.AsyncFlush()
			return err
		}); err != nil {
			return false
		}
		select {
		case <-flushed:
		case <-ctx.Done():
			return false
		case <-s.failure.done:
			return false
		}
	}
	s.rested = s.db.Metrics().Flush.Count
	return true
}
