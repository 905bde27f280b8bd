package chat

import "time"

// A User is somebody who was issued a token, or about whom something was said:
// that their tokens are void, that they are banned or muted.
type User struct {
	ID         string
	Name       string
	AvatarURL  string
	CreatedAt  time.Time // zero when no token was ever issued
	TokensFrom int64     // Unix ms: tokens issued before are void

	BannedUntil int64 // Unix ms; a ban is over by itself from then on
	DeletedAt   int64 // Unix ms of the soft deletion; 0 when there is none
	MutedSince  Mutes

	Tags []string // sorted; what broadcasts can be addressed by
}

// Registered reports whether the user was ever issued a token.
func (u *User) Registered() bool { return !u.CreatedAt.IsZero() }

// Banned reports whether the user is kept out at the given time.
func (u *User) Banned(now time.Time) bool { return now.UnixMilli() < u.BannedUntil }

// Deleted reports whether the user is soft-deleted: kept out until restored.
func (u *User) Deleted() bool { return u.DeletedAt != 0 }

// Muted reports whether the user's clients may not write to channels of type t.
func (u *User) Muted(t ChannelType) bool {
	since := u.MutedSince.In(t)
	return since != nil && *since != 0
}

// Mutes say since when (Unix ms) a user is muted in channels of a type; 0 is
// not at all. They bind the user's clients, never the app's backend.
type Mutes struct{ Direct, Group, Open int64 }

// MuteTypes are the channel types in which a user can be muted altogether.
var MuteTypes = [...]ChannelType{Direct, Group, Open}

// In is the entry for channels of type t, or nil when there is none.
func (m *Mutes) In(t ChannelType) *int64 {
	switch t {
	case Direct:
		return &m.Direct
	case Group:
		return &m.Group
	case Open:
		return &m.Open
	}
	return nil
}
