package pebble

import (
	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// tuned are Pebble's options for this load: large sorted batches, few reads from
// disk, everything dropped by time.
func tuned(fs vfs.FS, cacheBytes int64, logger pdb.Logger) *pdb.Options {
	return &pdb.Options{
		FS:                          fs,
		Logger:                      logger,
		FormatMajorVersion:          pdb.FormatNewest,
		CacheSize:                   cacheBytes,
		MemTableSize:                64 << 20,
		MemTableStopWritesThreshold: 6,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               256 << 20,
		MaxOpenFiles:                512,
		WALBytesPerSync:             0,
		BytesPerSync:                1 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
	}
}
