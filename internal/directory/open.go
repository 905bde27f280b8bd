package directory

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/turn"
)

// maxOpenKnown is how many open channels are kept in memory. One in use comes
// back with its next use, at the price of a look into the store.
const maxOpenKnown = 1 << 16

// activeEvery is how often the activity of an open channel is stored at most.
const activeEvery = time.Minute

type openKey struct {
	app     chat.AppID
	channel string
}

// openBook keeps the open channels that are in use in memory, as every message
// of a client asks for what is known of its channel.
type openBook struct {
	turns   *turn.Turns
	started int64 // Unix ms: idle channels get one full period after a stop
	shards  [64]openShard
}

type openShard struct {
	mu    sync.Mutex // nothing is taken inside
	known map[openKey]*openEntry
}

type openEntry struct {
	now      atomic.Pointer[chat.OpenChannel]
	activeAt atomic.Int64 // Unix ms, ahead of what is stored
	due      int64        // what is stored; guarded by the turn
}

func newOpenBook(now func() time.Time) *openBook {
	b := &openBook{turns: turn.New(), started: now().UnixMilli()}
	for i := range b.shards {
		b.shards[i].known = map[openKey]*openEntry{}
	}
	return b
}

var openSeed = maphash.MakeSeed()

func (b *openBook) shard(k openKey) *openShard {
	return &b.shards[maphash.Comparable(openSeed, k)%uint64(len(b.shards))]
}

func (b *openBook) find(k openKey) *openEntry {
	s := b.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[k]
}

func (b *openBook) put(k openKey, e *openEntry) {
	s := b.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxOpenKnown/len(b.shards) {
		for other, o := range s.known { // any one whose activity is stored
			if c := o.now.Load(); o.activeAt.Load() <= c.ActiveAt {
				delete(s.known, other)
				break
			}
		}
	}
	s.known[k] = e
}

func (b *openBook) forget(k openKey) {
	s := b.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, k)
}

// OpenChannel is what is known of an open channel, nil when it does not exist.
// Of the channel without a name there is always something.
func (d *Directory) OpenChannel(ctx context.Context, app chat.AppID, id string) (*chat.OpenChannel, error) {
	k := openKey{app, id}
	if e := d.open.find(k); e != nil {
		return e.now.Load(), nil
	}
	end, err := turn.Take(ctx, d.open.turns, k)
	if err != nil {
		return nil, err
	}
	defer end()
	e, err := d.loadOpen(ctx, k)
	if err != nil || e == nil {
		return nil, err
	}
	return e.now.Load(), nil
}

// loadOpen finds the channel in memory or in the store, nil when it does not
// exist. The caller has its turn.
func (d *Directory) loadOpen(ctx context.Context, k openKey) (*openEntry, error) {
	if e := d.open.find(k); e != nil {
		return e, nil
	}
	facts, err := d.store.OpenFacts(ctx, k.app, k.channel)
	if err != nil {
		return nil, err
	}
	if len(facts) == 0 && k.channel != "" {
		return nil, nil
	}
	c, due, err := openOf(k.channel, facts)
	if err != nil {
		return nil, err
	}
	e := &openEntry{due: due}
	e.now.Store(c)
	e.activeAt.Store(c.ActiveAt)
	d.open.put(k, e)
	return e, nil
}

// errNoOpen says that an open channel does not exist.
func errNoOpen() error {
	return &chat.Error{Kind: chat.KindNoOpenChannel, Field: "channelId", Rule: "no such open channel"}
}

// ChangeOpenChannel changes what is known of an open channel, durably, and gives
// it as it is now. Changes of one channel come one after the other. change edits
// a copy in place, from which restrictions that have ended are gone; with its
// error nothing changes. When there is no such channel, it is made if missing says
// so.
func (d *Directory) ChangeOpenChannel(ctx context.Context, app *chat.App, id string, missing bool, change func(*chat.OpenChannel) error) (*chat.OpenChannel, error) {
	k := openKey{app.ID, id}
	end, err := turn.Take(ctx, d.open.turns, k)
	if err != nil {
		return nil, err
	}
	defer end()
	e, err := d.loadOpen(ctx, k)
	if err != nil {
		return nil, err
	}
	if e == nil {
		if !missing {
			return nil, errNoOpen()
		}
		e = &openEntry{}
		e.now.Store(&chat.OpenChannel{ID: id})
	}
	old := e.now.Load()
	c := old.Clone()
	if c.CreatedAt == 0 && id != "" {
		now := d.now().UnixMilli()
		c.CreatedAt, c.ActiveAt, c.TTL = now, now, app.Settings.OpenIdle
	}
	over := func(_ string, r chat.Restriction) bool { return !r.Holds(d.now()) }
	maps.DeleteFunc(c.Muted, over)
	maps.DeleteFunc(c.Banned, over)
	if err := change(c); err != nil {
		return nil, err
	}
	c.ActiveAt = max(c.ActiveAt, e.activeAt.Load())
	if err := d.storeOpen(ctx, k, e, c); err != nil {
		return nil, err
	}
	return c, nil
}

// storeOpen makes c what is known of the channel. The caller has its turn.
func (d *Directory) storeOpen(ctx context.Context, k openKey, e *openEntry, c *chat.OpenChannel) error {
	old := e.now.Load()
	due := c.EndsAt(0)
	ch := store.OpenChange{WasDue: e.due, Due: due, Facts: differ(factsOf(old, e.due), factsOf(c, due))}
	if len(ch.Facts) > 0 || ch.WasDue != ch.Due {
		if err := d.store.PutOpenFacts(ctx, k.app, k.channel, ch); err != nil {
			// Whether it was kept is not known: the store says at the next look.
			d.open.forget(k)
			return err
		}
	}
	e.due = due
	e.now.Store(c)
	d.open.put(k, e)
	return nil
}

// listBatch is how many open channels are read at a time.
const listBatch = 1000

// ListOpenChannels are the app's open channels of which there is a fact of the
// kind: up to limit of them, behind the first skip.
func (d *Directory) ListOpenChannels(ctx context.Context, app chat.AppID, kind store.OpenKind, skip, limit int) (list []string, err error) {
	for after := ""; len(list) < limit; {
		batch, err := d.store.ListOpen(ctx, app, kind, after, listBatch)
		if err != nil {
			return nil, err
		}
		passed := min(skip, len(batch))
		skip -= passed
		list = append(list, batch[passed:min(len(batch), passed+limit-len(list))]...)
		if len(batch) < listBatch {
			break
		}
		after = batch[len(batch)-1]
	}
	return list, nil
}

// DropOpenChannel ends the channel's life: all that was known of it is gone. It
// gives what it was, nil when there was none. With a condition it stays unless
// that holds.
func (d *Directory) DropOpenChannel(ctx context.Context, app chat.AppID, id string, only func(*chat.OpenChannel) bool) (*chat.OpenChannel, error) {
	k := openKey{app, id}
	end, err := turn.Take(ctx, d.open.turns, k)
	if err != nil {
		return nil, err
	}
	defer end()
	e, err := d.loadOpen(ctx, k)
	if err != nil || e == nil {
		return nil, err
	}
	c := e.now.Load().Clone()
	c.ActiveAt = max(c.ActiveAt, e.activeAt.Load())
	if only != nil && !only(c) {
		return nil, nil
	}
	if err := d.store.PutOpenFacts(ctx, app, id, store.OpenChange{Drop: true, WasDue: e.due}); err != nil {
		d.open.forget(k)
		return nil, err
	}
	d.open.forget(k)
	return c, nil
}

// TouchOpenChannel notes that something has happened in the channel. It is in
// memory until [Directory.StoreOpenActivity]; a crash loses a minute of it.
func (d *Directory) TouchOpenChannel(app chat.AppID, id string) {
	if e := d.open.find(openKey{app, id}); e != nil {
		now := d.now().UnixMilli()
		// Once a second is enough, and keeps a busy channel's entry unshared.
		if at := e.activeAt.Load(); now-at >= 1000 {
			e.activeAt.CompareAndSwap(at, now)
		}
	}
}

// StoreOpenActivity stores the activity of channels where it is a minute ahead
// of what is stored.
func (d *Directory) StoreOpenActivity(ctx context.Context) error {
	for i := range d.open.shards {
		s := &d.open.shards[i]
		var ahead []openKey
		s.mu.Lock()
		for k, e := range s.known {
			if e.activeAt.Load()-e.now.Load().ActiveAt >= activeEvery.Milliseconds() {
				ahead = append(ahead, k)
			}
		}
		s.mu.Unlock()
		for _, k := range ahead {
			if err := d.storeActivity(ctx, k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Directory) storeActivity(ctx context.Context, k openKey) error {
	end, err := turn.Take(ctx, d.open.turns, k)
	if err != nil {
		return err
	}
	defer end()
	e := d.open.find(k)
	if e == nil {
		return nil
	}
	c := *e.now.Load()
	c.ActiveAt = e.activeAt.Load()
	return d.storeOpen(ctx, k, e, &c)
}

// OpenEnded lists up to limit channels whose time has come, of all apps. Where it
// turns out that it has not, the time to look again is stored, and so every call
// gets further.
func (d *Directory) OpenEnded(ctx context.Context, limit int) (list []store.DueChannel, more bool, err error) {
	now := d.now().UnixMilli()
	due, err := d.store.OpenDue(ctx, now, limit)
	if err != nil {
		return nil, false, err
	}
	for _, q := range due {
		ended, err := d.openEnded(ctx, q, now)
		if err != nil {
			return list, false, err
		}
		if ended {
			list = append(list, q)
		}
	}
	return list, len(due) == limit, nil
}

// HasEnded reports whether the channel's time has come.
func (d *Directory) HasEnded(c *chat.OpenChannel) bool {
	at := c.EndsAt(d.open.started)
	return at != 0 && at <= d.now().UnixMilli()
}

func (d *Directory) openEnded(ctx context.Context, q store.DueChannel, now int64) (bool, error) {
	k := openKey{q.App, q.Channel}
	end, err := turn.Take(ctx, d.open.turns, k)
	if err != nil {
		return false, err
	}
	defer end()
	e, err := d.loadOpen(ctx, k)
	if err != nil {
		return false, err
	}
	again := int64(0)
	if e != nil {
		c := *e.now.Load()
		c.ActiveAt = max(c.ActiveAt, e.activeAt.Load())
		if again = c.EndsAt(d.open.started); again != 0 && again <= now {
			return true, nil
		}
	}
	if again == q.Due {
		return false, nil
	}
	// A row that nobody knows of any more goes, too.
	if err := d.store.PutOpenFacts(ctx, q.App, q.Channel, store.OpenChange{WasDue: q.Due, Due: again, Facts: dueFact(e, again)}); err != nil {
		return false, err
	}
	if e != nil {
		e.due = again
	}
	return false, nil
}

// A lifeFact is how a channel's own fact is stored. Its facts of other kinds are
// empty or what they say in a few numbers.
type lifeFact struct {
	CreatedAt int64 `json:"created"`
	Ends      uint8 `json:"ends,omitempty"`
	TTL       int64 `json:"ttl"` // ms
	ActiveAt  int64 `json:"active"`
	Due       int64 `json:"due,omitempty"`
}

type restrictionFact struct {
	Since int64 `json:"since"`
	Until int64 `json:"until"`
}

type pairFact struct {
	Value      string `json:"v"`
	Owner      string `json:"o,omitempty"`
	AutoDelete bool   `json:"d,omitempty"`
	UpdatedAt  int64  `json:"at"`
	Stay       int64  `json:"s,omitempty"`
}

// dueFact is the life of a channel that is due at another time.
func dueFact(e *openEntry, due int64) []store.OpenFact {
	if e == nil {
		return nil
	}
	return factsOf(e.now.Load(), due)[:1]
}

// factsOf are the facts that say what is known of a channel, its life first.
func factsOf(c *chat.OpenChannel, due int64) (list []store.OpenFact) {
	add := func(kind store.OpenKind, key string, v any) {
		value := []byte{}
		if v != nil {
			value, _ = json.Marshal(v) // of numbers, texts and truth values: it has one
		}
		list = append(list, store.OpenFact{Kind: kind, Key: key, Value: value})
	}
	if c.CreatedAt != 0 {
		add(store.OpenLife, "", lifeFact{c.CreatedAt, uint8(c.Ends), c.TTL.Milliseconds(), c.ActiveAt, due})
	}
	if c.Frozen {
		add(store.OpenFrozen, "", nil)
	}
	if c.KeepAlive {
		add(store.OpenKeepAlive, "", nil)
	}
	for kind, m := range map[store.OpenKind]map[string]chat.Restriction{store.OpenMuted: c.Muted, store.OpenBanned: c.Banned} {
		for user, r := range m {
			add(kind, user, restrictionFact(r))
		}
	}
	for kind, m := range map[store.OpenKind]map[string]int64{
		store.OpenAllowed: c.Allowed, store.OpenPriority: c.Priority,
		store.OpenPriorityType: c.PriorityTypes, store.OpenLowType: c.LowTypes,
	} {
		for key, at := range m {
			add(kind, key, at)
		}
	}
	for key, p := range c.Pairs {
		add(store.OpenPair, key, pairFact(p))
	}
	return list
}

// openOf is what facts say of a channel, and when it is due.
func openOf(id string, facts []store.OpenFact) (*chat.OpenChannel, int64, error) {
	c := (&chat.OpenChannel{ID: id}).Clone()
	var life lifeFact
	for _, f := range facts {
		var err error
		read := func(v any) { err = json.Unmarshal(f.Value, v) }
		var r restrictionFact
		var at int64
		switch f.Kind {
		case store.OpenLife:
			read(&life)
			c.CreatedAt, c.Ends, c.TTL, c.ActiveAt = life.CreatedAt, chat.Ending(life.Ends), time.Duration(life.TTL)*time.Millisecond, life.ActiveAt
		case store.OpenFrozen:
			c.Frozen = true
		case store.OpenKeepAlive:
			c.KeepAlive = true
		case store.OpenMuted:
			read(&r)
			c.Muted[f.Key] = chat.Restriction(r)
		case store.OpenBanned:
			read(&r)
			c.Banned[f.Key] = chat.Restriction(r)
		case store.OpenAllowed:
			read(&at)
			c.Allowed[f.Key] = at
		case store.OpenPriority:
			read(&at)
			c.Priority[f.Key] = at
		case store.OpenPriorityType:
			read(&at)
			c.PriorityTypes[f.Key] = at
		case store.OpenLowType:
			read(&at)
			c.LowTypes[f.Key] = at
		case store.OpenPair:
			var p pairFact
			read(&p)
			c.Pairs[f.Key] = chat.OpenPair(p)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("open channel: fact %d: %w", f.Kind, err)
		}
	}
	return c, life.Due, nil
}

// differ is what makes facts of what they were into what they are.
func differ(was, are []store.OpenFact) (list []store.OpenFact) {
	type id struct {
		kind store.OpenKind
		key  string
	}
	old := make(map[id]string, len(was))
	for _, f := range was {
		old[id{f.Kind, f.Key}] = string(f.Value)
	}
	for _, f := range are {
		k := id{f.Kind, f.Key}
		if v, ok := old[k]; !ok || v != string(f.Value) {
			list = append(list, f)
		}
		delete(old, k)
	}
	for k := range old {
		list = append(list, store.OpenFact{Kind: k.kind, Key: k.key})
	}
	slices.SortFunc(list, func(a, b store.OpenFact) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		return strings.Compare(a.Key, b.Key)
	})
	return list
}
