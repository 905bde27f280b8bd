package gateway

import (
	"context"
	"sync"
	"time"
	"unique"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
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
	dirty    map[userKey]cursor
	flushing map[userKey]cursor // being written; nil when nothing is

	// flushMu is held while the store is written: it is there to make flushes
	// wait for each other, and nobody else takes it. Before mu.
	flushMu sync.Mutex
}

// A cursor is that of one device, and the first of its user's, who mostly have no
// other.
type cursor struct {
	device string
	client unique.Handle[chat.Client]
	offset uint64
	seen   int64 // Unix ms
	next   *cursor
}

func (c *cursor) platform() string { return platformOf(c.client) }

// platformOf is what the client said that it runs on, empty when it did not.
func platformOf(client unique.Handle[chat.Client]) string {
	if client == (unique.Handle[chat.Client]{}) {
		return ""
	}
	return client.Value().Platform
}

// of is the cursor of a device among those of its user, or nil.
func (c *cursor) of(device string) *cursor {
	for ; c != nil && c.device != device; c = c.next {
	}
	return c
}

func newCursors(s Store, now func() time.Time) *cursors {
	return &cursors{store: s, now: now, dirty: map[userKey]cursor{}}
}

// note says that the device has acknowledged everything up to offset. Of
// several sessions of a device the furthest counts.
func (cs *cursors) note(k deviceKey, client unique.Handle[chat.Client], offset uint64) {
	seen := cs.now().UnixMilli()
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.mergeLocked(k.userKey, cursor{device: k.device, client: client, offset: offset, seen: seen})
}

func (cs *cursors) mergeLocked(k userKey, c cursor) {
	first, known := cs.dirty[k]
	switch {
	case !known:
		cs.dirty[k] = c
		return
	case first.device == c.device:
		c.next, c.offset = first.next, max(c.offset, first.offset)
		c.seen = max(c.seen, first.seen)
		cs.dirty[k] = c
		return
	}
	if o := first.next.of(c.device); o != nil {
		c.next, c.offset, c.seen = o.next, max(c.offset, o.offset), max(c.seen, o.seen)
		*o = c
		return
	}
	another := c // so that c itself need not be on the heap
	another.next = first.next
	first.next = &another
	cs.dirty[k] = first
}

// read is how far the device has come. A device whose cursor is of another
// epoch is not known.
func (cs *cursors) read(ctx context.Context, k deviceKey) (offset uint64, known bool, err error) {
	// Memory is looked at before the store: what is written meanwhile is then
	// in one of the two.
	cs.mu.Lock()
	for _, m := range [...]map[userKey]cursor{cs.dirty, cs.flushing} {
		if first, ok := m[k.userKey]; ok {
			if c := first.of(k.device); c != nil {
				offset, known = max(offset, c.offset), true
			}
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

// append appends what is known of the user's devices that is not stored yet.
func (cs *cursors) append(list []push.Cursor, k userKey) []push.Cursor {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, m := range [...]map[userKey]cursor{cs.dirty, cs.flushing} {
		if first, ok := m[k]; ok {
			for c := &first; c != nil; c = c.next {
				list = append(list, push.Cursor{Platform: c.platform(), Offset: c.offset})
			}
		}
	}
	return list
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
	cs.dirty, cs.flushing = map[userKey]cursor{}, batch
	cs.mu.Unlock()

	epoch := cs.store.Epoch()
	devices := make([]store.UserDevice, 0, len(batch))
	for k, first := range batch {
		for c := &first; c != nil; c = c.next {
			devices = append(devices, store.UserDevice{
				App: k.app, User: k.user,
				Device: store.Device{ID: c.device, Epoch: epoch, Offset: c.offset, SeenAt: c.seen, Platform: c.platform()},
			})
		}
	}
	err := cs.store.PutDevices(ctx, devices)

	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.flushing = nil
	if err != nil {
		for k, first := range batch {
			for c := &first; c != nil; c = c.next {
				old := *c
				old.next = nil
				// What was noted meanwhile says more of the client.
				if now, ok := cs.dirty[k]; ok {
					if newer := now.of(c.device); newer != nil {
						old.client = newer.client
					}
				}
				cs.mergeLocked(k, old)
			}
		}
	}
	return err
}
