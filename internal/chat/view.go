package chat

// A View is what one user has made of one channel: how far they have read it,
// what of it they still keep, and how it stands in their channel list. A View in
// hand is immutable; a change makes a new one.
type View struct {
	ReadUpTo    UID // the user has read it up to here
	ClearedUpTo UID // of its history they keep only what is behind this
	RemovedUpTo UID // it is not in their list until something is behind this

	// When that was done last, in Unix ms.
	ReadAt, ClearedAt, RemovedAt int64

	PinnedAt int64 // Unix ms; 0 when it is not pinned
	Level    NotifyLevel
	Tags     []ViewTag // in the order in which they were put on it
}

// IsZero reports whether the user has made nothing of the channel.
func (v *View) IsZero() bool {
	return v.ReadUpTo.IsZero() && v.ClearedUpTo.IsZero() && v.RemovedUpTo.IsZero() &&
		v.PinnedAt == 0 && v.Level == NotifyUnset && len(v.Tags) == 0
}

// MaxUnread is as far as unread messages are counted: there are so many or more.
// It is as large as the badge goes.
const MaxUnread = MaxBadge

// Settled is up to where nothing of the channel counts as unread: it was read,
// or is not there any more. A nil View is of a channel of which nothing was made.
func (v *View) Settled() UID {
	if v == nil {
		return UID{}
	}
	at := v.ReadUpTo
	for _, uid := range [...]UID{v.ClearedUpTo, v.RemovedUpTo} {
		if uid.Compare(at) > 0 {
			at = uid
		}
	}
	return at
}

// A ViewTag is one of the user's own tags on a channel.
type ViewTag struct {
	ID string
	At int64 // Unix ms: since when
}

// A NotifyLevel says which messages of a channel notify the user
// (notification/do-not-disturb-about).
type NotifyLevel int8

// The levels. NotifyUnset leaves it to what is set for all channels of the type,
// and that to the app.
const (
	NotifyAll           NotifyLevel = -1
	NotifyUnset         NotifyLevel = 0
	NotifyMentions      NotifyLevel = 1
	NotifyMentionsOfMe  NotifyLevel = 2
	NotifyMentionsOfAll NotifyLevel = 4
	NotifyNothing       NotifyLevel = 5
)

// Valid reports whether l is one of the levels.
func (l NotifyLevel) Valid() bool { return l >= NotifyAll && l <= NotifyNothing && l != 3 }
