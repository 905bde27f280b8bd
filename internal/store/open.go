package store

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
)

// OpenChannels keeps what is known of open channels beyond what was said in
// them: small facts, each with a kind and a key. What they say is the
// directory's; the store keeps a channel's facts together, drops them together,
// and lists the channels that have a fact of a kind.
type OpenChannels interface {
	// OpenFacts are all facts of a channel, by kind and key. A channel without any
	// does not exist.
	OpenFacts(ctx context.Context, app chat.AppID, channel string) ([]OpenFact, error)
	// PutOpenFacts durably puts facts in place of those of the same kind and key,
	// all or none. A nil Value takes one away. With Drop everything else of the
	// channel goes in the same step.
	PutOpenFacts(ctx context.Context, app chat.AppID, channel string, change OpenChange) error
	// ListOpen gives up to limit channels that have a fact of the kind, in
	// an order that does not change, from the one behind after.
	ListOpen(ctx context.Context, app chat.AppID, kind OpenKind, after string, limit int) ([]string, error)
	// OpenDue lists up to limit channels of all apps whose Due is not above until
	// (Unix ms), earliest first.
	OpenDue(ctx context.Context, until int64, limit int) ([]DueChannel, error)
}

// An OpenFact is one thing that is known of an open channel.
type OpenFact struct {
	Kind  OpenKind
	Key   string // a user, the key of a pair, or empty where there is one of the kind
	Value []byte
}

// An OpenKind says what a fact is about. Numbers are stored: never reuse one.
type OpenKind uint8

const (
	// OpenLife is the channel itself: since when it is and when it ends.
	OpenLife OpenKind = 1
	// OpenFrozen channels take messages of allowed senders only.
	OpenFrozen OpenKind = 2
	// OpenKeepAlive channels do not end by themselves.
	OpenKeepAlive OpenKind = 3
	// OpenMuted, OpenBanned and OpenAllowed users; those who may write though the
	// channel is frozen.
	OpenMuted   OpenKind = 4
	OpenBanned  OpenKind = 5
	OpenAllowed OpenKind = 6
	// OpenPriority users' messages are never the first to be shed.
	OpenPriority OpenKind = 7
	// OpenPair is a pair of the channel's metadata.
	OpenPair OpenKind = 8
	// OpenPriorityType and OpenLowType are message types of a whole app, kept
	// under the channel without a name, as are users who are muted everywhere.
	OpenPriorityType OpenKind = 9
	OpenLowType      OpenKind = 10
)

// An OpenChange is a change to the facts of one channel.
type OpenChange struct {
	Drop  bool
	Facts []OpenFact
	// WasDue and Due are when the channel was, and now is, due to be looked at
	// (Unix ms); 0 is never.
	WasDue, Due int64
}

// A DueChannel names a channel that is due.
type DueChannel struct {
	App     chat.AppID
	Channel string
	Due     int64
}
