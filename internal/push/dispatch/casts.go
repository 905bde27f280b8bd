package dispatch

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// casts are the broadcasts that live for days, in memory: which of them are
// recalled, and which messages are made of them. Whoever asks looks for new ones
// first, if that was not done just now.
type casts struct {
	store  Store
	now    func() time.Time
	asking chan struct{} // has room for the one who looks

	mu       sync.Mutex
	looked   time.Time // on the machine's clock; zero for never
	list     []*chat.Broadcast
	recalled map[chat.UID]bool
	copies   map[copyKey]chat.UID
}

// copyKey is what the messages that a broadcast becomes have in common with it.
type copyKey struct {
	app             chat.AppID
	from, requestID string
}

const (
	castPage  = 500                    // broadcasts read at once
	castTick  = 500 * time.Millisecond // between looks of the follower
	castFresh = 100 * time.Millisecond // and of those who are about to notify
)

func newCasts(o *Options) *casts {
	return &casts{
		store: o.Store, now: o.Now, asking: make(chan struct{}, 1),
		recalled: map[chat.UID]bool{}, copies: map[copyKey]chat.UID{},
	}
}

// look looks for new ones unless that was done within age.
func (c *casts) look(ctx context.Context, age time.Duration) error {
	fresh := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.looked.IsZero() && time.Since(c.looked) < age
	}
	if fresh() {
		return nil
	}
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if fresh() {
		return nil
	}
	began := time.Now()
	oldest := chat.UIDsBefore(c.now().Add(-chat.BroadcastLife).UnixMilli())
	for {
		c.mu.Lock()
		behind := oldest
		if n := len(c.list); n > 0 && c.list[n-1].UID.Compare(behind) > 0 {
			behind = c.list[n-1].UID
		}
		c.mu.Unlock()
		page, err := c.store.BroadcastsBehind(ctx, behind, castPage)
		if err != nil {
			return err
		}
		c.add(page, oldest)
		if len(page) < castPage {
			break
		}
	}
	c.mu.Lock()
	c.looked = began
	c.mu.Unlock()
	return nil
}

// add takes in new ones, and forgets those before oldest.
func (c *casts) add(page []*chat.Broadcast, oldest chat.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := 0
	for gone < len(c.list) && c.list[gone].UID.Compare(oldest) < 0 {
		b := c.list[gone]
		delete(c.recalled, b.Recalls) // which was earlier
		if k := keyOfCopies(b); c.copies[k] == b.UID {
			delete(c.copies, k)
		}
		gone++
	}
	c.list = append(slices.Clone(c.list[gone:]), page...)
	for _, b := range page {
		if b.Kind == chat.BroadcastRecall {
			c.recalled[b.Recalls] = true
		} else if b.RequestID != "" {
			c.copies[keyOfCopies(b)] = b.UID
		}
	}
}

func keyOfCopies(b *chat.Broadcast) copyKey { return copyKey{b.App, b.From, b.RequestID} }

// behind are those after one, oldest first.
func (c *casts) behind(uid chat.UID) []*chat.Broadcast {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, found := slices.BinarySearchFunc(c.list, uid, func(b *chat.Broadcast, uid chat.UID) int { return b.UID.Compare(uid) })
	if found {
		i++
	}
	return c.list[i:]
}

// isRecalled reports whether a broadcast was recalled.
func (c *casts) isRecalled(ctx context.Context, uid chat.UID) (bool, error) {
	if err := c.look(ctx, castFresh); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recalled[uid], nil
}

// of is the broadcast that the message could have been made of; zero when there is
// none.
func (c *casts) of(m *chat.Message) chat.UID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copies[copyKey{m.App, m.From, m.RequestID}]
}

const (
	// castBatch is how many users a pass comes to at a time.
	castBatch = 500
	// castWait is how long those who are connected are given to get a broadcast:
	// within so long it has come to all of them.
	castWait = 3 * time.Minute
	// castOwn is for how long after a broadcast the messages that are made of it
	// notify by themselves, as all messages do: they go to who was connected then.
	// Who is given it later was notified of it when it came, or was not to be.
	castOwn = 5 * time.Minute
	// castMet is how far back the first look for broadcasts goes.
	castMet = time.Minute
)

// meet finds out which broadcasts there are that nobody was notified of, and begins
// a pass for each.
func (f *follower) meet(ctx context.Context) (err error) {
	if !f.metKnown {
		if f.passes, f.met, err = f.d.Store.PushPasses(ctx); err != nil {
			return err
		}
		if f.met.IsZero() {
			// What came before there was anybody to notify of it has been and gone.
			f.met = chat.UIDsBefore(f.d.Now().Add(-castMet).UnixMilli())
			f.change.Met = f.met
		}
		f.metKnown = true
	}
	if err := f.d.casts.look(ctx, castTick); err != nil {
		return err
	}
	for _, b := range f.d.casts.behind(f.met) {
		f.met, f.change.Met = b.UID, b.UID
		var q *request
		if _, err := f.alone(ctx, b.UID, func() (err error) {
			q, err = f.openCast(ctx, b)
			return err
		}); err != nil {
			return err
		}
		if q != nil {
			p := store.PushPass{App: b.App, UID: b.UID}
			f.passes, f.change.Passes = append(f.passes, p), append(f.change.Passes, p)
		}
	}
	return nil
}

// openCast reads a broadcast as far as it may notify anybody, or take back what it
// recalls; otherwise it is nil.
func (f *follower) openCast(ctx context.Context, b *chat.Broadcast) (*request, error) {
	q, err := f.d.pushing(ctx, b.App)
	if err != nil || q == nil {
		return nil, err
	}
	q.ref, q.due = b.UID, b.UID.Time().Add(f.d.Grace).UnixMilli()
	if b.Kind == chat.BroadcastRecall {
		if !q.app.Settings.PushWithdraw {
			return nil, nil
		}
		return q, nil
	}
	whole, err := f.d.Store.Broadcast(ctx, b.App, b.UID)
	if chat.KindOf(err) == chat.KindNotFound || err == nil && whole.Message == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	gone, err := f.d.casts.isRecalled(ctx, b.UID)
	if err != nil || gone {
		return nil, err
	}
	q.send = push.NewSend(whole.Message)
	if q.effect, _ = q.send.Decide(&q.rules); q.effect == push.None {
		return nil, nil
	}
	if f.d.Now().Sub(b.UID.Time()) >= push.Lifetime(q.send.Type(), q.effect, q.rules.Lifetime) {
		return nil, nil
	}
	return q, nil
}

// pass goes on with the passes, by turns, and reports whether it came to anybody.
func (f *follower) pass(ctx context.Context) (came bool, err error) {
	for range f.passes {
		p := f.passes[0]
		f.passes = append(f.passes[1:], p)
		if p.UID.Time().Add(f.d.Grace).After(f.d.Now()) || f.d.lanes.crowded(p.App) {
			continue
		}
		last := &f.passes[len(f.passes)-1]
		done, err := f.alone(ctx, p.UID, func() error { return f.comeTo(ctx, last) })
		if err == nil && !done {
			// Some users are passed over, or all that are left.
			last.Done = last.Behind == p.Behind
			f.came(last)
		}
		return true, err
	}
	return false, nil
}

// comeTo decides upon the next users of a pass.
func (f *follower) comeTo(ctx context.Context, p *store.PushPass) error {
	var b *chat.Broadcast
	if list := f.d.casts.behind(chat.UID{}); len(list) > 0 {
		if i, found := slices.BinarySearchFunc(list, p.UID, func(b *chat.Broadcast, uid chat.UID) int { return b.UID.Compare(uid) }); found {
			b = list[i]
		}
	}
	var q *request
	var err error
	if b != nil {
		if q, err = f.openCast(ctx, b); err != nil {
			return err
		}
	}
	p.Done = true
	if q != nil {
		page, err := f.d.Store.PushDevicesBehind(ctx, p.App, p.Behind, castBatch)
		if err != nil {
			return err
		}
		if p.Done = len(page) < castBatch; !p.Done {
			p.Behind = page[len(page)-1].User
		}
		if b.Kind == chat.BroadcastRecall {
			err = f.unshowCast(ctx, q, b, page)
		} else {
			err = f.tellOf(ctx, q, b, page, f.d.Now())
		}
		if err != nil {
			return err
		}
	}
	f.came(p)
	return nil
}

// came notes how far the last of the passes has come.
func (f *follower) came(p *store.PushPass) {
	f.change.Passes = append(f.change.Passes, *p)
	if p.Done {
		f.passes = f.passes[:len(f.passes)-1]
	}
}
