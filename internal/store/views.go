package store

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
)

// A ViewChange puts a new view of a channel in place of its owner's, in the
// commit of the Append that carries it. Whoever changes a view reads it first:
// changes of one user's views must come one after the other.
type ViewChange struct {
	Channel ChannelRef
	View    *chat.View // the whole new one; nil forgets it
}

// A PreferencesChange puts new preferences in place of a user's, in the commit of
// the Append that carries it. It is made as a ViewChange is.
type PreferencesChange struct {
	App         chat.AppID
	User        string
	Preferences *chat.Preferences // the whole new ones; nil forgets them
}

// A Mark is something that the owner of a channel has made of one message, or
// that was made of it for them. Numbers are stored: never reuse one.
type Mark uint8

const (
	// MarkHidden messages were deleted by the owner for themselves.
	MarkHidden Mark = 1
	// MarkRecalled messages were recalled, and count as unread no more.
	MarkRecalled Mark = 2
	// MarkRead messages were read one by one, before all that were sent earlier.
	MarkRead Mark = 3
)

// A MarkChange puts a mark on one message of a channel, in the commit of the
// Append that carries it. A mark is never taken off; it is dropped with the
// history.
type MarkChange struct {
	Channel ChannelRef
	UID     chat.UID
	Mark    Mark
	At      int64 // Unix ms: when it was put there; 0 where that does not matter
}

// A Marked is a message that has a mark.
type Marked struct {
	UID  chat.UID
	Mark Mark
	At   int64
}

// Views reads what users have made of their channels.
type Views interface {
	// View is nil when the owner has made nothing of the channel.
	View(ctx context.Context, ch ChannelRef) (*chat.View, error)
	// Views are all that the user has, by type and channel.
	Views(ctx context.Context, app chat.AppID, user string) ([]OwnView, error)
	// Preferences is nil when the user has set nothing for all of their channels.
	Preferences(ctx context.Context, app chat.AppID, user string) (*chat.Preferences, error)
	// Marks are those on messages of the channel from one UID to another, both
	// included, in the order of UIDs.
	Marks(ctx context.Context, ch ChannelRef, from, to chat.UID) ([]Marked, error)
}

// An OwnView is a view and what it is of.
type OwnView struct {
	Type    chat.ChannelType
	Channel string
	View    *chat.View
}
