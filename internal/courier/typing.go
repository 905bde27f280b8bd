package courier

import (
	"context"
	"unicode/utf8"

	"github.com/parleychat/parley/internal/chat"
)

// A Typing says that a user is writing a message in a direct channel.
type Typing struct {
	User    string
	Channel string // the other user
	Type    string // of the message to come; may be empty
}

// Typing tells the other user's sessions of it, those that there are at this
// moment. It is nothing that happened: it has no UID and passes by the store. Who
// may say it is who may send.
func (c *Courier) Typing(ctx context.Context, app *chat.App, q *Typing) error {
	if err := chat.CheckID("channelId", q.Channel); err != nil {
		return err
	}
	if n := utf8.RuneCountInString(q.Type); n > chat.MaxMessageType {
		return chat.TooLong("typingContentType", chat.MaxMessageType, n, "characters")
	}
	m := &chat.Message{
		App: app.ID, ChannelType: chat.Direct, Origin: chat.FromClient, From: q.User,
		Event: &chat.Event{Kind: chat.EventTyping, Operator: q.User, Extra: q.Type},
	}
	to := []string{q.Channel}
	if app.Settings.RegisteredUsersOnly {
		if err := c.checkRegistered(ctx, app, m, rules[chat.Direct], to); err != nil {
			return err
		}
	}
	if err := c.checkClient(ctx, app, m, to); err != nil {
		return err
	}
	c.deliver.sessions.Whisper(app.ID, q.Channel, m, chat.UID{}, "")
	return nil
}
