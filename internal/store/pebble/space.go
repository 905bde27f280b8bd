package pebble

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parleychat/parley/internal/chat"
)

const (
	ballastName = "ballast"
	spaceEvery  = time.Second
	retrySpace  = 5 * time.Second
)

// A spaceWatch refuses writes while the disk is nearly full, before Pebble meets
// a full one, which it does not survive. The ballast is a file that only takes up
// room: it is removed when space is short, so that there is room for expiry and
// compaction to win some back.
type spaceWatch struct {
	fs      vfs.FS // below the layer that reacts to a full disk
	dir     string
	min     uint64
	ballast uint64
	logger  *slog.Logger
	free    atomic.Uint64
	low     atomic.Bool

	mu   sync.Mutex // tier 1; guards the ballast
	have bool
}

// health is nil while there is room to write.
func (w *spaceWatch) health() error {
	if !w.low.Load() {
		return nil
	}
	err := chat.Fail(chat.KindUnavailable, "little free disk space, writes are refused until there is more")
	err.RetryAfter = retrySpace
	return err
}

func (s *Store) runSpace(ctx context.Context) {
	ticker := time.NewTicker(spaceEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.space.check()
		}
	}
}

// check looks at the free space and acts on it.
func (w *spaceWatch) check() {
	usage, err := w.fs.GetDiskUsage(w.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		w.free.Store(1 << 62)
		return
	}
	if err != nil {
		w.logger.Warn("store: cannot see the free disk space", "error", err)
		return
	}
	free := usage.AvailBytes
	w.free.Store(free)
	// Half again as much to come back, so that writes are not let in and refused
	// from second to second.
	low := free < w.min || w.low.Load() && free < w.min+w.min/2
	if w.low.Swap(low) != low {
		if low {
			w.logger.Warn("store: little free disk space, refusing writes", "free", free, "min", w.min)
		} else {
			w.logger.Info("store: enough free disk space again", "free", free)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case free < w.min/2:
		w.dropBallast()
	case !low && free > w.min*2+w.ballast:
		w.makeBallast()
	}
}

// diskFull is called by the file layer when a write found no room; the write is
// tried again afterwards.
func (w *spaceWatch) diskFull() {
	w.low.Store(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropBallast()
}

func (w *spaceWatch) dropBallast() {
	if !w.have {
		return
	}
	w.have = false
	if err := w.fs.Remove(w.fs.PathJoin(w.dir, ballastName)); err != nil {
		w.logger.Error("store: cannot remove the ballast file", "error", err)
		return
	}
	w.logger.Warn("store: the disk is full, ballast file removed to make room")
}

func (w *spaceWatch) makeBallast() {
	if w.have || w.ballast == 0 {
		return
	}
	f, err := w.fs.Create(w.fs.PathJoin(w.dir, ballastName), vfs.WriteCategoryUnspecified)
	if err == nil {
		// Reserved, not written: the blocks count, their content does not.
		err = errors.Join(f.Preallocate(0, int64(w.ballast)), f.Close())
	}
	w.have = err == nil
	if err != nil {
		w.ballast = 0 // a disk that cannot do this now will not learn it
		w.logger.Warn("store: no ballast file, the disk does not reserve room", "error", err)
	}
}
