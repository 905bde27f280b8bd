package pebble

import (
	"context"
	"fmt"
	"sync"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
)

// headsConsumer is the checkpointer's name among the consumers of the log.
const headsConsumer = "heads"

const (
	// checkpointEvery bounds how much of the log is read again after a crash.
	checkpointEvery = 10 * time.Second
	// checkpointHeads bounds the memory of dirty heads: about half a kilobyte
	// each with a short tail.
	checkpointHeads = 100_000
	// maxDirty is where commits wait for the checkpointer, so that a load of ever
	// new users cannot outgrow the memory.
	maxDirty = 4 * checkpointHeads
	// checkpointRows is how many head rows go in one batch, so that the writer
	// is never held up for long.
	checkpointRows = 2000
)

// A dirtyList collects heads that are ahead of their rows. Each head on it is
// pinned.
type dirtyList struct {
	mu    sync.Mutex // tier 1
	room  sync.Cond  // on mu: the list was taken
	heads []*head
	full  chan struct{} // has a value once there are many
}

func (d *dirtyList) init() {
	d.room.L = &d.mu
	d.full = make(chan struct{}, 1)
}

// waitRoom waits while the list is too long.
func (d *dirtyList) waitRoom() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.heads) >= maxDirty {
		d.room.Wait()
	}
}

func (d *dirtyList) add(h *head) {
	h.pins.Add(1) // pinned already by the append under way
	d.mu.Lock()
	d.heads = append(d.heads, h)
	full := len(d.heads) == checkpointHeads
	d.mu.Unlock()
	if full {
		select {
		case d.full <- struct{}{}:
		default:
		}
	}
}

func (d *dirtyList) take() []*head {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := d.heads
	d.heads = nil
	d.room.Broadcast()
	return taken
}

func (s *Store) runCheckpoints(ctx context.Context) {
	ticker := time.NewTicker(checkpointEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.dirty.full:
		}
		if err := s.checkpointHeads(); err != nil && s.broken() == nil {
			s.logger.Error("store: cannot write head rows", "error", err)
		}
	}
}

// checkpointHeads writes the rows of all dirty heads and moves the checkpointer's
// watermark. Nothing is synced: the rows are derived from the log, and a crash
// that loses them loses the watermark with them.
func (s *Store) checkpointHeads() error {
	s.checkpointMu.Lock()
	defer s.checkpointMu.Unlock()
	// Read before the list is taken: a head is on the list before the log head
	// moves past its record, so every record up to seq is covered.
	seq := s.log.head.Load()
	taken := s.dirty.take()
	if len(taken) == 0 && seq == s.marks[headsConsumer].Load() {
		return nil
	}
	var key, value []byte
	for len(taken) > 0 {
		n := min(len(taken), checkpointRows)
		b := s.db.NewBatchWithSize(n * 48)
		for _, h := range taken[:n] {
			h.mu.Lock()
			state := h.state
			// What is committed from here on puts the head on the new list. The
			// tail goes: a clean head must be small, and a follower that needs
			// these entries once more finds them in the memtable.
			h.dirty, h.tail = false, nil
			h.mu.Unlock()
			key = appendUserKey(key[:0], spaceHead, h.app, h.user)
			value = appendHead(value[:0], state)
			if err := b.Set(key, value, nil); err != nil {
				return fmt.Errorf("head row: %w", err)
			}
		}
		if err := s.apply(b, pdb.NoSync); err != nil {
			return err
		}
		// Only now may a head be dropped and read again from its row.
		for _, h := range taken[:n] {
			h.unpin()
		}
		taken = taken[n:]
	}
	s.heads.trim()
	return s.setMark(headsConsumer, seq)
}
