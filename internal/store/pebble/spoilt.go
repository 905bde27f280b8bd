package pebble

import (
	"encoding/hex"
	"sync"

	"github.com/parleychat/parley/internal/store"
)

// errRow is of rows that do not hold what they should.
var errRow = store.ErrRow

// mostSpoilt is how many rows are remembered for having been told of. Beyond that
// they are counted alone.
const mostSpoilt = 1000

// spoilt knows which rows could not be read and were passed over: who reads rows of
// many must not stop at the one that a mistake of ours, or a later release, has left
// there. Each is told of once.
type spoilt struct {
	mu    sync.Mutex // tier 3
	known map[string]struct{}
}

// passOver tells of a row that could not be read, and of what kind it is. What it
// holds is told of nowhere, as it may be secret.
func (s *Store) passOver(kind string, key []byte) {
	s.spoilt.mu.Lock()
	_, known := s.spoilt.known[string(key)]
	first := !known && len(s.spoilt.known) < mostSpoilt
	if first {
		if s.spoilt.known == nil {
			s.spoilt.known = map[string]struct{}{}
		}
		s.spoilt.known[string(key)] = struct{}{}
	}
	s.spoilt.mu.Unlock()
	if known {
		return
	}
	s.metrics.spoilt.WithLabelValues(kind).Inc()
	if first {
		s.logger.Error("store: a row cannot be read and is passed over", "of", kind, "key", hex.EncodeToString(key))
	}
}
