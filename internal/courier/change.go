package courier

import (
	"context"
	"errors"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/turn"
)

// A subject is a message that is to be changed for one of its recipients.
type subject struct {
	uid     chat.UID
	message *chat.Message
	target  string
	history bool
	state   chat.State // as it is, without the text of a stream; the zero of it when nothing has happened yet
}

// sides are the users of the channel; an open channel has none of its own.
func (s *subject) isSide(user string) bool {
	return user == s.message.From || s.message.ChannelType != chat.Open && user == s.target
}

// channelOf is the message's channel as one of its sides sees it.
func (s *subject) channelOf(user string) store.ChannelRef {
	other := s.message.From
	if user != s.target {
		other = s.target
	}
	return store.ChannelRef{App: s.message.App, Owner: user, Type: s.message.ChannelType, Channel: other}
}

// next is a change to the state that st is.
func (s *subject) next(st chat.State, keys ...string) store.StateChange {
	return store.StateChange{UID: s.uid, History: s.history, State: &st, Keys: keys, WasDue: s.state.Due}
}

// tell is the append that makes a change and tells the recipient of ev, and the
// sender where they have a copy. To an open channel it is told as it happens:
// who comes later looks into the history.
func (s *subject) tell(ev *chat.Event, requestID string, change store.StateChange) *store.Append {
	ev.UID = s.uid
	m := &chat.Message{
		App: s.message.App, ChannelType: s.message.ChannelType, Flags: chat.Missed, From: s.message.From,
		RequestID: requestID, Echo: s.message.Echo || s.message.ChannelType == chat.Open, Event: ev,
	}
	return &store.Append{Message: m, Targets: []string{s.target}, States: []store.StateChange{change}}
}

// change finds the message that uid names, lets do say what is to be committed,
// if anything, and commits it. The turn lasts until the store has settled the
// append, also when ctx ends before: a commit under way must not be overtaken.
func (c *Courier) change(ctx context.Context, app chat.AppID, uid chat.UID, do func(*subject) (*store.Append, error)) error {
	end, err := turn.Take(ctx, c.turns, uid)
	if err != nil {
		return err
	}
	a, err := c.prepare(ctx, app, uid, do)
	if err != nil || a == nil {
		end()
		return err
	}
	settled := a.Done
	a.Done = func(err error) {
		end()
		if settled != nil {
			settled(err)
		}
	}
	return c.store.Append(ctx, a)
}

func (c *Courier) prepare(ctx context.Context, app chat.AppID, uid chat.UID, do func(*subject) (*store.Append, error)) (*store.Append, error) {
	s, err := c.subject(ctx, app, uid)
	if err != nil {
		return nil, err
	}
	return do(s)
}

func (c *Courier) subject(ctx context.Context, app chat.AppID, uid chat.UID) (*subject, error) {
	found, err := c.archive.Find(ctx, app, uid)
	if errors.Is(err, &chat.Error{Kind: chat.KindNotFound}) {
		return nil, errNoMessage()
	}
	if err != nil {
		return nil, err
	}
	state, err := c.archive.BareOverlay(ctx, app, uid)
	if err != nil {
		return nil, err
	}
	s := &subject{
		uid: uid, message: found.Message, history: found.History,
		target: found.Targets[uid.IndexIn(found.Placed.First, len(found.Targets))],
	}
	if state != nil {
		s.state = *state
	}
	return s, nil
}

func errNoMessage() error {
	return &chat.Error{Kind: chat.KindNotFound, Field: "messageUID", Rule: "no such message, or not kept any more"}
}

// A Subject names the message of a request to change it, and who asks.
type Subject struct {
	UID       chat.UID
	RequestID string

	// From is the sender as the request names it.
	From string
	// Type and Channel are the channel as the request names it, seen by the
	// sender. Clients name the message alone and leave them out.
	Type    chat.ChannelType
	Channel string
}

// check says whether the message is the one the request speaks of. To clients,
// messages of channels that are not theirs do not exist.
func (q *Subject) check(s *subject) error {
	if q.Type == 0 {
		switch {
		case !s.isSide(q.From):
			return errNoMessage()
		case q.From != s.message.From:
			return &chat.Error{Kind: chat.KindForbidden, Field: "messageUID", Rule: "only its sender can do this"}
		}
		return nil
	}
	switch {
	case q.Type != s.message.ChannelType:
		return chat.Invalidf("channelType", "the message is of a %s channel", s.message.ChannelType)
	case q.Channel != s.target:
		return chat.Invalid("channelId", "the message was not sent there")
	case q.From != s.message.From:
		return chat.Invalid("fromUserId", "did not send this message")
	}
	return nil
}

// after is the time of a change: never before that of the message, whose order
// and time the store gave.
func (c *Courier) after(uid chat.UID) int64 { return max(c.now().UnixMilli(), uid.Millis()) }
