package store

import "github.com/parleychat/parley/internal/chat"

// A HistoryRange is a part of a channel's history: the messages strictly
// between After and Before, at most Limit of them, counted from the side where
// reading starts. UIDs need not be of messages: one made of a time stands for
// that moment.
type HistoryRange struct {
	After   chat.UID // zero is no bound
	Before  chat.UID // zero is no bound
	Limit   int      // must be positive
	Forward bool     // oldest first, in place of newest first
}
