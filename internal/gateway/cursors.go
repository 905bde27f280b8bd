package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/store"
)

// A deviceKey names a device of a user.
type deviceKey struct {
	userKey
	device string
}

func (c *conn) deviceKey() deviceKey { return deviceKey{c.key(), c.device} }

// cursors gathers how far devices have come and stores it in bulk: a pong of
// each of thousands of connections is not worth a write of its own, and a
// cursor that is lost costs repeats only.
type cursors struct {
	store Store
	now   func() time.Time

	mu       sync.Mutex // tier 3
	dirty    map[deviceKey]cursor
	flushing map[deviceKey]cursor // being written; nil when nothing is

	// flushMu is held while the store is written: it is there to make flushes
	// wait for each other, and nobody else takes it. Before mu.
	flushMu sync.Mutex
}

type cursor struct {
	offset uint64
	seen   int64 // Unix ms
}

func newCursors(s Store, now func() time.Time) *cursors {
	return &cursors{store: s, now: now, dirty: map[deviceKey]cursor{}}
}

// note says that the device has acknowledged everything up to offset. Of
// several sessions of a device the furthest counts.
func (cs *cursors) note(k deviceKey, offset uint64) {
	seen := cs.now().UnixMilli()
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.dirty[k] = cursor{max(offset, cs.dirty[k].offset), seen}
}

// read is how far the device has come. A device whose cursor is of another
// epoch is not known.
func (cs *cursors) read(ctx context.Context, k deviceKey) (offset uint64, known bool, err error) {
	// Memory is looked at before the store: what is written meanwhile is then
	// in one of the two.
	cs.mu.Lock()
	for _, m := range []map[deviceKey]cursor{cs.dirty, cs.flushing} {
		if c, ok := m[k]; ok {
			offset, known = max(offset, c.offset), true
		}
	}
	cs.mu.Unlock()
	devices, err := cs.store.Devices(ctx, k.app, k.user)
	if err != nil {
		return 0, false, err
	}
	for i := range devices {
		if d := &devices[i]; d.ID == k.device && d.Epoch == cs.store.Epoch() {
			offset, known = max(offset, d.Offset), true
		}
	}
	return offset, known, nil
}

// flush stores what has gathered. What could not be stored is kept for the next
// time.
func (cs *cursors) flush(ctx context.Context) error {
	cs.flushMu.Lock()
	defer cs.flushMu.Unlock()
	cs.mu.Lock()
	if len(cs.dirty) == 0 {
		cs.mu.Unlock()
		return nil
	}
	batch := cs.dirty
	cs.dirty, cs.flushing = map[deviceKey]cursor{}, batch
	cs.mu.Unlock()

	epoch := cs.store.Epoch()
	devices := make([]store.UserDevice, 0, len(batch))
	for k, c := range batch {
		devices = append(devices, store.UserDevice{
			App: k.app, User: k.user,
			Device: store.Device{ID: k.device, Epoch: epoch, Offset: c.offset, SeenAt: c.seen},
		})
	}
	err := cs.store.PutDevices(ctx, devices)

	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.flushing = nil
	if err != nil {
		for k, c := range batch {
			newer := cs.dirty[k]
			cs.dirty[k] = cursor{max(c.offset, newer.offset), max(c.seen, newer.seen)}
		}
	}
	return err
}
