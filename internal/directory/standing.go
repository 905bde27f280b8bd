package directory

import (
	"context"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// How many users one call may be about (user/block, user/unblock,
// direct-channel/ban, user/deactivation/deactivate and reactivate).
const (
	MaxBan    = 20
	MaxMute   = 1000
	MaxDelete = 100

	MaxBanMinutes = 43200 // 30 days; nobody is banned for ever
)

// A Listed is a user in one of the lists.
type Listed = store.Listed

// UpdateUser changes name and avatar of a user who is registered. Of nil
// nothing changes.
func (d *Directory) UpdateUser(ctx context.Context, app *chat.App, id string, name, avatarURL *string) error {
	if err := checkProfile(name, avatarURL); err != nil {
		return err
	}
	// Who is registered stays so: between this and the update nothing happens
	// that matters.
	if _, err := d.User(ctx, app, id); err != nil {
		return err
	}
	if name == nil && avatarURL == nil {
		return nil
	}
	return d.store.UpdateUsers(ctx, app.ID, []string{id}, func(u *chat.User) {
		if name != nil {
			u.Name = *name
		}
		if avatarURL != nil {
			u.AvatarURL = *avatarURL
		}
	})
}

func checkProfile(name, avatarURL *string) error {
	if name != nil {
		switch {
		case *name == "":
			return chat.Invalid("name", "is required")
		case len(*name) > MaxName:
			return chat.TooLong("name", MaxName, len(*name), "bytes")
		case !utf8.ValidString(*name):
			return chat.Invalid("name", "must be valid UTF-8")
		}
	}
	if avatarURL != nil {
		switch {
		case len(*avatarURL) > MaxAvatarURL:
			return chat.TooLong("avatarUrl", MaxAvatarURL, len(*avatarURL), "bytes")
		case !utf8.ValidString(*avatarURL):
			return chat.Invalid("avatarUrl", "must be valid UTF-8")
		}
	}
	return nil
}

// checkIDs says whether a call may be about these users.
func checkIDs(field string, limit int, ids []string) error {
	if len(ids) == 0 {
		return chat.Invalid(field, "is required")
	}
	if n := len(ids); n > limit {
		return chat.Invalidf(field, "at most %d items, got %d", limit, n)
	}
	for i, id := range ids {
		if chat.CheckID("", id) != nil {
			return chat.CheckID(field+"["+strconv.Itoa(i)+"]", id)
		}
	}
	return nil
}

// Ban keeps the users out for a time, from now on, whatever was said before.
// They need not be registered. The caller closes live connections.
func (d *Directory) Ban(ctx context.Context, app *chat.App, users []string, minutes int64) error {
	if err := checkIDs("userIds", MaxBan, users); err != nil {
		return err
	}
	if minutes < 1 || minutes > MaxBanMinutes {
		return chat.Invalidf("durationMinutes", "from 1 to %d, got %d", MaxBanMinutes, minutes)
	}
	until := d.now().Add(time.Duration(minutes) * time.Minute).UnixMilli()
	return d.store.UpdateUsers(ctx, app.ID, users, func(u *chat.User) { u.BannedUntil = until })
}

// Unban ends the users' bans.
func (d *Directory) Unban(ctx context.Context, app *chat.App, users []string) error {
	if err := checkIDs("userIds", MaxBan, users); err != nil {
		return err
	}
	return d.store.UpdateUsers(ctx, app.ID, users, func(u *chat.User) { u.BannedUntil = 0 })
}

// Banned is a page of the users who are banned now, those banned for the
// longest first, with the time their ban ends.
func (d *Directory) Banned(ctx context.Context, app *chat.App, skip, limit int) ([]Listed, error) {
	list, _, err := d.store.ListUsers(ctx, app.ID, store.StateBanned, skip, limit)
	return list, err
}

// Mute ends or begins the users' silence in channels of the given types. They
// need not be registered.
func (d *Directory) Mute(ctx context.Context, app *chat.App, users []string, types []chat.ChannelType, mute bool) error {
	if err := checkIDs("userIds", MaxMute, users); err != nil {
		return err
	}
	now := d.now().UnixMilli()
	return d.store.UpdateUsers(ctx, app.ID, users, func(u *chat.User) {
		for _, t := range types {
			switch since := u.MutedSince.In(t); {
			case !mute:
				*since = 0
			case *since == 0: // who is muted already keeps their place in the list
				*since = now
			}
		}
	})
}

// Muted is a page of the users who are muted in channels of a type, in the
// order in which they were, and how many they are in all.
func (d *Directory) Muted(ctx context.Context, app *chat.App, t chat.ChannelType, skip, limit int) ([]Listed, int, error) {
	return d.store.ListUsers(ctx, app.ID, store.StateMuted(t), skip, limit)
}

// Delete soft-deletes users: nothing of theirs goes, but their tokens let
// nobody in until they are restored. All of them must be registered. The caller
// closes live connections.
func (d *Directory) Delete(ctx context.Context, app *chat.App, users []string) error {
	if err := d.checkKnown(ctx, app, users); err != nil {
		return err
	}
	now := d.now().UnixMilli()
	return d.store.UpdateUsers(ctx, app.ID, users, func(u *chat.User) {
		if !u.Deleted() {
			u.DeletedAt = now
		}
	})
}

// Restore takes soft deletions back. All users must be registered.
func (d *Directory) Restore(ctx context.Context, app *chat.App, users []string) error {
	if err := d.checkKnown(ctx, app, users); err != nil {
		return err
	}
	return d.store.UpdateUsers(ctx, app.ID, users, func(u *chat.User) { u.DeletedAt = 0 })
}

// Deleted is a page of the soft-deleted users, in the order of their deletion.
func (d *Directory) Deleted(ctx context.Context, app *chat.App, skip, limit int) ([]Listed, error) {
	list, _, err := d.store.ListUsers(ctx, app.ID, store.StateDeleted, skip, limit)
	return list, err
}

func (d *Directory) checkKnown(ctx context.Context, app *chat.App, users []string) error {
	if err := checkIDs("userIds", MaxDelete, users); err != nil {
		return err
	}
	for i, id := range users {
		if _, err := d.User(ctx, app, id); errors.Is(err, errNoUser) {
			return &chat.Error{Kind: chat.KindNoUser, Field: "userIds[" + strconv.Itoa(i) + "]", Rule: errNoUser.Rule}
		} else if err != nil {
			return err
		}
	}
	return nil
}

// CheckSender says whether the user's clients may send to channels of type t
// now. Of users nothing is known about they may.
func (d *Directory) CheckSender(ctx context.Context, app *chat.App, user string, t chat.ChannelType) error {
	u, err := d.store.User(ctx, app.ID, user)
	if errors.Is(err, &chat.Error{Kind: chat.KindNoUser}) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.keptOut(u); err != nil {
		return err
	}
	switch {
	case !u.Muted(t):
		return nil
	case t == chat.Open:
		return chat.Fail(chat.KindMutedOpen, "you are muted in open channels")
	}
	return chat.Fail(chat.KindMutedDirect, "you are muted in direct channels")
}

// keptOut says why the user may not be connected at all.
func (d *Directory) keptOut(u *chat.User) error {
	if u.Banned(d.now()) {
		return chat.Fail(chat.KindBanned, "the user is banned until "+time.UnixMilli(u.BannedUntil).UTC().Format(time.DateTime)+" UTC")
	}
	if u.Deleted() {
		return chat.Fail(chat.KindDeleted, "the user is deleted")
	}
	return nil
}
