package courier

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// tagPiece is how many views at most are changed in one commit.
const tagPiece = 500

// A TagRequest is about tags of one user, or about channels with one of them.
type TagRequest struct {
	User      string
	RequestID string
	Tag       string
	Channels  []chat.Channel
}

// SetTags makes tags for the user's channels, or gives those that are there other
// names. All or none: a user has at most chat.MaxTags.
func (c *Courier) SetTags(ctx context.Context, app *chat.App, q *TagRequest, tags []chat.Tag) error {
	return c.changePreferences(ctx, app, q.User, func(p chat.Preferences) (*store.Append, error) {
		now := c.now().UnixMilli()
		list := slices.Clone(p.Tags)
		for _, t := range tags {
			if i := tagIn(list, t.ID); i >= 0 {
				list[i].Name = t.Name
			} else {
				list = append(list, chat.Tag{ID: t.ID, Name: t.Name, At: now})
			}
		}
		if n := len(list); n > chat.MaxTags {
			return nil, chat.Invalidf("tags", "at most %d of one user, would be %d", chat.MaxTags, n)
		}
		if slices.Equal(list, p.Tags) {
			return nil, nil
		}
		p.Tags = list
		return q.tellTags(app, p, now), nil
	})
}

func (q *TagRequest) tellTags(app *chat.App, p chat.Preferences, at int64) *store.Append {
	return prefer(app, q.User, q.RequestID, p, &chat.Event{
		Kind: chat.EventChannel, At: at, Own: &chat.OwnChange{Part: chat.OwnTags, Tags: p.Tags},
	})
}

func tagIn(tags []chat.Tag, id string) int {
	return slices.IndexFunc(tags, func(t chat.Tag) bool { return t.ID == id })
}

// RemoveTags takes tags off all of the user's channels, and then away. Ids of tags
// that are not there are no error. It is done in pieces, the tags themselves in
// the last one, so a repeat finishes what a crash has cut short.
func (c *Courier) RemoveTags(ctx context.Context, app *chat.App, q *TagRequest, ids []string) error {
	for more := true; more; {
		more = false
		if err := c.changePreferences(ctx, app, q.User, func(p chat.Preferences) (*store.Append, error) {
			left := slices.DeleteFunc(slices.Clone(p.Tags), func(t chat.Tag) bool { return slices.Contains(ids, t.ID) })
			if len(left) == len(p.Tags) {
				return nil, nil
			}
			views, err := c.archive.Views(ctx, app.ID, q.User)
			if err != nil {
				return nil, err
			}
			var changes []store.ViewChange
			for i := range views {
				v := *views[i].View
				v.Tags = slices.DeleteFunc(slices.Clone(v.Tags), func(t chat.ViewTag) bool { return slices.Contains(ids, t.ID) })
				if len(v.Tags) == len(views[i].View.Tags) {
					continue
				}
				if more = len(changes) == tagPiece; more {
					return &store.Append{
						Message: &chat.Message{App: app.ID, ChannelType: chat.Direct, From: q.User},
						Views:   changes,
					}, nil
				}
				changes = append(changes, viewed(q.ref(app, views[i].Type, views[i].Channel), v))
			}
			p.Tags = left
			a := q.tellTags(app, p, c.now().UnixMilli())
			a.Views = changes
			return a, nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func (q *TagRequest) ref(app *chat.App, t chat.ChannelType, channel string) store.ChannelRef {
	return store.ChannelRef{App: app.ID, Owner: q.User, Type: t, Channel: channel}
}

func (q *TagRequest) check() error {
	if err := chat.CheckTagID("tagId", q.Tag); err != nil {
		return err
	}
	if len(q.Channels) == 0 {
		return chat.Invalid("channels", "is required")
	}
	if n := len(q.Channels); n > chat.MaxTagPerCall {
		return chat.Invalidf("channels", "at most %d items, got %d", chat.MaxTagPerCall, n)
	}
	for i, ch := range q.Channels {
		if chat.CheckID("", ch.ID) != nil {
			return chat.CheckID("channels["+strconv.Itoa(i)+"].channelId", ch.ID)
		}
	}
	return nil
}

// A TaggedChannel is one with a tag, and since when (Unix ms).
type TaggedChannel struct {
	chat.Channel
	At int64
}

// Tagged lists the user's channels that have the tag, tagged last first.
func (c *Courier) Tagged(ctx context.Context, app *chat.App, q *TagRequest) ([]TaggedChannel, error) {
	if err := chat.CheckTagID("tagId", q.Tag); err != nil {
		return nil, err
	}
	p, err := c.Preferences(ctx, app, q.User)
	if err != nil {
		return nil, err
	}
	_, list, err := c.tagged(ctx, app, q, p)
	return list, err
}

// tagged reads all views of the user, by channel, and lists those that have the
// request's tag, tagged last first.
func (c *Courier) tagged(ctx context.Context, app *chat.App, q *TagRequest, p *chat.Preferences) (map[chat.Channel]*chat.View, []TaggedChannel, error) {
	if tagIn(p.Tags, q.Tag) < 0 {
		return nil, nil, chat.Invalid("tagId", "the user has no such tag")
	}
	list, err := c.archive.Views(ctx, app.ID, q.User)
	if err != nil {
		return nil, nil, err
	}
	views := make(map[chat.Channel]*chat.View, len(list))
	var tagged []TaggedChannel
	for i := range list {
		ch := chat.Channel{Type: list[i].Type, ID: list[i].Channel}
		views[ch] = list[i].View
		if j := viewTagIn(list[i].View, q.Tag); j >= 0 {
			tagged = append(tagged, TaggedChannel{ch, list[i].View.Tags[j].At})
		}
	}
	// Views come by type and channel, which is the order of those that were
	// tagged at once.
	slices.SortStableFunc(tagged, func(a, b TaggedChannel) int { return cmp.Compare(b.At, a.At) })
	return views, tagged, nil
}

func viewTagIn(v *chat.View, id string) int {
	return slices.IndexFunc(v.Tags, func(t chat.ViewTag) bool { return t.ID == id })
}

// TagChannels puts a tag of the user on channels, all or none. Those that have it
// keep their place. Beyond chat.MaxTagChannels those tagged first lose it.
func (c *Courier) TagChannels(ctx context.Context, app *chat.App, q *TagRequest) error {
	if err := q.check(); err != nil {
		return err
	}
	return c.changePreferences(ctx, app, q.User, func(p chat.Preferences) (*store.Append, error) {
		views, tagged, err := c.tagged(ctx, app, q, &p)
		if err != nil {
			return nil, err
		}
		now := c.now().UnixMilli()
		own := &chat.OwnChange{Part: chat.OwnTagged, Tag: q.Tag, TaggedAt: now}
		if len(tagged) > 0 { // the order of calls counts, whatever the clock does
			own.TaggedAt = max(now, tagged[0].At+1)
		}
		var changes []store.ViewChange
		asked := make(map[chat.Channel]bool, len(q.Channels))
		for _, ch := range q.Channels {
			var v chat.View
			if was := views[ch]; was != nil {
				v = *was
			}
			if asked[ch] || viewTagIn(&v, q.Tag) >= 0 {
				asked[ch] = true
				continue
			}
			asked[ch] = true
			v.Tags = append(slices.Clone(v.Tags), chat.ViewTag{ID: q.Tag, At: own.TaggedAt})
			changes = append(changes, viewed(q.ref(app, ch.Type, ch.ID), v))
			own.Tagged = append(own.Tagged, ch)
		}
		if len(changes) == 0 {
			return nil, nil
		}
		// What the call asks for is not what goes for it.
		tagged = slices.DeleteFunc(tagged, func(t TaggedChannel) bool { return asked[t.Channel] })
		for n := len(tagged) + len(asked) - chat.MaxTagChannels; n > 0; n-- {
			ch := tagged[len(tagged)-1].Channel
			tagged = tagged[:len(tagged)-1]
			changes = append(changes, q.untagged(app, ch, views[ch]))
			own.Untagged = append(own.Untagged, ch)
		}
		return q.tellTagged(app, own, now, changes), nil
	})
}

// UntagChannels takes a tag of the user off channels, all or none.
func (c *Courier) UntagChannels(ctx context.Context, app *chat.App, q *TagRequest) error {
	if err := q.check(); err != nil {
		return err
	}
	return c.changePreferences(ctx, app, q.User, func(p chat.Preferences) (*store.Append, error) {
		views, _, err := c.tagged(ctx, app, q, &p)
		if err != nil {
			return nil, err
		}
		own := &chat.OwnChange{Part: chat.OwnTagged, Tag: q.Tag}
		var changes []store.ViewChange
		for _, ch := range q.Channels {
			v := views[ch]
			if v == nil || viewTagIn(v, q.Tag) < 0 || slices.Contains(own.Untagged, ch) {
				continue
			}
			changes = append(changes, q.untagged(app, ch, v))
			own.Untagged = append(own.Untagged, ch)
		}
		if len(changes) == 0 {
			return nil, nil
		}
		return q.tellTagged(app, own, c.now().UnixMilli(), changes), nil
	})
}

func (q *TagRequest) untagged(app *chat.App, ch chat.Channel, v *chat.View) store.ViewChange {
	now := *v
	now.Tags = slices.DeleteFunc(slices.Clone(v.Tags), func(t chat.ViewTag) bool { return t.ID == q.Tag })
	return viewed(q.ref(app, ch.Type, ch.ID), now)
}

func (q *TagRequest) tellTagged(app *chat.App, own *chat.OwnChange, at int64, changes []store.ViewChange) *store.Append {
	return tellOwn(app.ID, q.User, q.RequestID, &chat.Event{Kind: chat.EventChannel, At: at, Own: own}, changes...)
}
