package pebble

import (
	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Memtables are many and small. What they take is taken from the cache, and two of
// them are always there: one is written to, and one is kept for when it is full.
const (
	memTableSize = 16 << 20
	maxMemTables = 24 // not in files yet, until commits wait for that
	// levelZero is for how many memtables' files, twice over, level 0 is merged:
	// with fewer, each would cost as much for less.
	levelZero = 16
)

// tuned are Pebble's options for this load: large sorted batches, few reads from
// disk, everything dropped by time.
func tuned(fs vfs.FS, cacheBytes int64, logger pdb.Logger) *pdb.Options {
	return &pdb.Options{
		FS:                          fs,
		Logger:                      logger,
		FormatMajorVersion:          pdb.FormatNewest,
		CacheSize:                   cacheBytes,
		MemTableSize:                memTableSize,
		MemTableStopWritesThreshold: maxMemTables,
		L0CompactionThreshold:       levelZero,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               256 << 20,
		MaxOpenFiles:                512,
		WALBytesPerSync:             0,
		BytesPerSync:                1 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
	}
}
