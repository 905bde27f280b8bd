package pebble

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
