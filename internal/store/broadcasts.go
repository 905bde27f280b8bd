package store

import (
	"context"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// Broadcasts keeps broadcasts and who has had which. An Append makes one, and
// the Append that gives it to users notes that in the same commit.
type Broadcasts interface {
	// Broadcasts gives those of all apps that are alive at the given time (Unix
	// ms), oldest first, without their messages.
	Broadcasts(ctx context.Context, at int64) ([]*chat.Broadcast, error)
	// BroadcastsBehind lists up to limit of those of all apps that were made after
	// the one named and live for days, oldest first, without their messages:
	// whether they are alive any more does not matter.
	BroadcastsBehind(ctx context.Context, behind chat.UID, limit int) ([]*chat.Broadcast, error)
	// Broadcast is one with its message: KindNotFound when it is not kept or not
	// of this app.
	Broadcast(ctx context.Context, app chat.AppID, uid chat.UID) (*chat.Broadcast, error)

	// Passed is the newest broadcast that the user was passed by, of those that
	// Takings say so of; zero when there was none.
	Passed(ctx context.Context, app chat.AppID, user string) (chat.UID, error)
	// Taken is the UID that the broadcast has for the user; zero when they have
	// not had it.
	Taken(ctx context.Context, app chat.AppID, of chat.UID, user string) (chat.UID, error)
	// CountTaken is how many users have had the broadcast. It stops at most.
	CountTaken(ctx context.Context, app chat.AppID, of chat.UID, most int) (int, error)
}

// A Taking says that the targets of an Append are given a broadcast by it.
type Taking struct {
	Of chat.UID
	// Pass moves what Passed gives on to it.
	Pass bool
}

// KeepBroadcasts is how long broadcasts and who has had them are kept: twice
// their life, so that those who got one on its last day can be told of a recall
// on the last day of that, and a day.
const KeepBroadcasts = 2*chat.BroadcastLife + 24*time.Hour
