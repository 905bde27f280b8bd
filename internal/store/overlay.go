package store

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
)

// A StateChange puts a new state over one message, in the commit of the Append
// that carries it. Whoever changes the state of a message reads it first: changes
// of one message must come one after the other.
type StateChange struct {
	// UID is the message's; zero for the one that the Append itself sends, to its
	// only target.
	UID chat.UID
	// History is what it was in the message's own Append: state lives as long as
	// what it lies over.
	History bool
	// State is the whole new state. Nil takes only WasDue back.
	State *chat.State
	// Keys are those of its Metadata that changed: the others stay as they are
	// stored. A key that Metadata does not have is forgotten.
	Keys []string
	// WasDue is the Due of the state before.
	WasDue int64
	// Chunk is what the text of State's Stream grows by. It is kept on its own,
	// under the Stream's Seq, so that no chunk writes those before it again; the
	// Stream's Text is not looked at. With Joined it takes the place of all that
	// were kept before, also when it is empty.
	Chunk  string
	Joined bool
}

// Overlays reads what lies over messages.
type Overlays interface {
	// Overlays gives the states of messages of one app, in the order asked for:
	// nil for one that nothing has happened to.
	Overlays(ctx context.Context, app chat.AppID, uids []chat.UID) ([]*chat.State, error)
	// BareOverlay is the state of one message without the text of its stream: for
	// changing it, which then costs the same after however many chunks.
	BareOverlay(ctx context.Context, app chat.AppID, uid chat.UID) (*chat.State, error)
	// Due lists up to limit states of all apps whose Due is not above until
	// (Unix ms), earliest first.
	Due(ctx context.Context, until int64, limit int) ([]DueState, error)
}

// A DueState names a state that is due.
type DueState struct {
	App chat.AppID
	UID chat.UID
	Due int64
}
