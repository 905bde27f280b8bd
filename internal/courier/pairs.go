package courier

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
)

// backFor is how long after a start users can come back to open channels without
// having left.
const backFor = 30 * time.Second

// A PairsRequest asks for pairs of an open channel's metadata to be set or
// removed: all or none.
type PairsRequest struct {
	Channel string
	User    string // who does it, and whose the pairs will be
	// Origin says by which rules: clients must be in the channel, and what is
	// somebody else's they change only with Overwrite.
	Origin     chat.Origin
	Set        map[string]string
	Remove     []string
	AutoDelete bool // the pairs go when the user leaves
	Overwrite  bool
	Extra      string // goes with the news
}

// ChangePairs sets and removes pairs and says since when those that were set are
// so: whoever repeats a call whose answer was lost changes nothing, and nobody is
// told again. It is durable when it returns.
func (c *Courier) ChangePairs(ctx context.Context, app *chat.App, q *PairsRequest) (at int64, err error) {
	if err := c.checkPresent(app, q.Channel, q.User, q.Origin); err != nil {
		return 0, err
	}
	// What is over makes room.
	if err := c.tidyPairs(ctx, app, q.Channel); err != nil {
		return 0, err
	}
	missing := q.Origin == chat.FromServer && len(q.Set) > 0 && !app.Settings.OpenStrict
	err = c.changeAndTell(ctx, app, q.Channel, missing, func(ch *chat.OpenChannel) (events []*chat.Event, err error) {
		// Who leaves after this is followed after this.
		if err := c.checkPresent(app, q.Channel, q.User, q.Origin); err != nil {
			return nil, err
		}
		stay := int64(0)
		if q.AutoDelete {
			stay = c.rooms.Since(room.Key{App: app.ID, Channel: q.Channel}, q.User)
		}
		events, at, err = q.apply(ch, c.now().UnixMilli(), stay)
		return events, err
	})
	if err == nil && q.AutoDelete {
		// The owner may have come while this was under way.
		err = c.tidyPairs(ctx, app, q.Channel)
	}
	return at, err
}

// apply makes the changes, and says of what to tell and since when the pairs that
// were asked for are so.
func (q *PairsRequest) apply(ch *chat.OpenChannel, now, stay int64) (events []*chat.Event, at int64, err error) {
	for _, p := range ch.Pairs {
		now = max(now, p.UpdatedAt) // a clock that was set back must not mix up changes
	}
	ev := pairsEvent(q.User, now, q.Extra)
	check := func(k string) error {
		if old, there := ch.Pairs[k]; there && old.Owner != q.User && q.Origin == chat.FromClient && !q.Overwrite {
			return &chat.Error{Kind: chat.KindPairTaken, Field: k, Rule: "was set by another user; overwrite is needed"}
		}
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(q.Set)) {
		if err := check(k); err != nil {
			return nil, 0, err
		}
		v := q.Set[k]
		old, there := ch.Pairs[k]
		p := chat.OpenPair{Value: v, Owner: q.User, AutoDelete: q.AutoDelete, UpdatedAt: now, Stay: stay}
		if there && old.Value == v && old.Owner == q.User && old.AutoDelete == q.AutoDelete {
			p.UpdatedAt = old.UpdatedAt
			if stay == 0 {
				p.Stay = old.Stay
			}
		} else {
			ev.Set[k] = v
		}
		ch.Pairs[k] = p
		at = max(at, p.UpdatedAt)
	}
	for _, k := range q.Remove {
		if err := check(k); err != nil {
			return nil, 0, err
		}
		if _, there := ch.Pairs[k]; there {
			delete(ch.Pairs, k)
			ev.Removed = append(ev.Removed, k)
		}
	}
	if got := len(ch.Pairs); got > chat.MaxOpenPairs {
		return nil, 0, chat.Failf(chat.KindPairsFull, "an open channel has at most %d pairs, these would make it %d", chat.MaxOpenPairs, got)
	}
	if len(ev.Set)+len(ev.Removed) > 0 {
		events = append(events, ev)
	}
	return events, at, nil
}

// pairsEvent is news of pairs that is still to be filled in.
func pairsEvent(user string, at int64, extra string) *chat.Event {
	return &chat.Event{Kind: chat.EventPairs, At: at, Operator: user, Set: map[string]string{}, Room: &chat.RoomNews{Extra: extra}}
}

// checkPresent says whether the user may use the open channel's metadata.
func (c *Courier) checkPresent(app *chat.App, channel, user string, origin chat.Origin) error {
	if origin == chat.FromClient && c.rooms.Since(room.Key{App: app.ID, Channel: channel}, user) == 0 {
		return &chat.Error{Kind: chat.KindNotInOpen, Field: "channelId", Rule: "you are not in this open channel"}
	}
	return nil
}

// A PairsQuery asks for pairs of an open channel's metadata.
type PairsQuery struct {
	Channel string
	User    string // who asks, of a client
	Origin  chat.Origin
	Keys    []string // all when empty
}

// A KeyedPair is a pair of an open channel's metadata and its key.
type KeyedPair struct {
	Key string
	chat.OpenPair
}

// Pairs lists pairs of an open channel, sorted by key. Keys it does not have are
// left out.
func (c *Courier) Pairs(ctx context.Context, app *chat.App, q *PairsQuery) (list []KeyedPair, err error) {
	if err := c.checkPresent(app, q.Channel, q.User, q.Origin); err != nil {
		return nil, err
	}
	if err := c.tidyPairs(ctx, app, q.Channel); err != nil {
		return nil, err
	}
	ch, err := c.open.OpenChannel(ctx, app.ID, q.Channel)
	if err != nil {
		return nil, err
	}
	if ch == nil {
		return nil, errNoOpen("channelId")
	}
	keys := slices.Compact(slices.Sorted(slices.Values(q.Keys)))
	if len(q.Keys) == 0 {
		keys = slices.Sorted(maps.Keys(ch.Pairs))
	}
	for _, k := range keys {
		if p, there := ch.Pairs[k]; there {
			list = append(list, KeyedPair{k, p})
		}
	}
	return list, nil
}

// tidyPairs removes the pairs of an open channel that went with their owners, and
// notes of others that their owners have come. It may be called at any time; what
// is not due changes nothing.
func (c *Courier) tidyPairs(ctx context.Context, app *chat.App, channel string) error {
	ch, err := c.open.OpenChannel(ctx, app.ID, channel)
	if err != nil || ch == nil {
		return err
	}
	key := room.Key{App: app.ID, Channel: channel}
	now := c.now().UnixMilli()
	tidy := true
	for _, p := range ch.Pairs {
		stay, over := c.stay(key, &p, now)
		tidy = tidy && !over && stay == p.Stay
	}
	if tidy {
		return nil
	}
	err = c.changeAndTell(ctx, app, channel, false, func(ch *chat.OpenChannel) (events []*chat.Event, _ error) {
		news := map[string]*chat.Event{} // by owner
		for _, k := range slices.Sorted(maps.Keys(ch.Pairs)) {
			p := ch.Pairs[k]
			var over bool
			if p.Stay, over = c.stay(key, &p, now); !over {
				ch.Pairs[k] = p
				continue
			}
			delete(ch.Pairs, k)
			if news[p.Owner] == nil {
				news[p.Owner] = pairsEvent(p.Owner, now, "")
			}
			ev := news[p.Owner]
			ev.Removed = append(ev.Removed, k)
		}
		for _, owner := range slices.Sorted(maps.Keys(news)) {
			events = append(events, news[owner])
		}
		return events, nil
	})
	if chat.KindOf(err) == chat.KindNoOpenChannel {
		return nil // it has ended meanwhile, and its pairs with it
	}
	return err
}

// stay is which stay of its owner the pair ends with now, or that it is over.
func (c *Courier) stay(key room.Key, p *chat.OpenPair, now int64) (at int64, over bool) {
	if !p.AutoDelete {
		return 0, false
	}
	at = c.rooms.Since(key, p.Owner)
	switch {
	case p.Stay == 0 || at == p.Stay:
		return at, false
	case p.Stay < c.began && now < c.began+backFor.Milliseconds():
		// A stop of the server ended the stay: the owner did not leave, and has
		// some time to come back.
		if at == 0 {
			at = p.Stay
		}
		return at, false
	}
	return 0, true
}
