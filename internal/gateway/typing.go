package gateway

import (
	"context"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// typingBurst is how often a connection may say at once that its user is typing,
// beside once a second. Clients say it every few seconds.
const typingBurst = 5

type typingData struct{ channelType, channelID, contentType string }

var typingFields = fields.NewTable(
	fields.Text("channelType", func(d *typingData) *string { return &d.channelType }),
	fields.Text("channelId", func(d *typingData) *string { return &d.channelID }),
	fields.Text("typingContentType", func(d *typingData) *string { return &d.contentType }),
)

// typing is the call typing.
func (c *conn) typing(ctx context.Context, data []byte) ([]byte, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	var d typingData
	if err := typingFields.Decode(data, &d); err != nil {
		return nil, err
	}
	if d.channelType == "" {
		return nil, chat.Invalid("channelType", "is required")
	}
	switch t, _ := chat.ParseChannelType(d.channelType); t {
	case chat.Direct:
	case chat.Group, chat.Community:
		return nil, refuse(codeNotAvailable, "typing is not told to channels of type "+d.channelType)
	default:
		return nil, chat.Invalid("channelType", "must be direct, got "+fields.Quote(d.channelType))
	}
	if !c.typed.take(typingBurst, time.Since(c.g.start)) {
		return nil, chat.Fail(chat.KindTooFast, "at most one a second on one connection, five at once")
	}
	return []byte("{}"), c.g.courier.Typing(ctx, app, &courier.Typing{User: c.user, Channel: d.channelID, Type: d.contentType})
}

// renderTyping goes on with the text of an event after its name.
func renderTyping(b []byte, m *chat.Message, channel string) *body {
	b = append(b, `","channelType":"`...)
	b = append(b, m.ChannelType.String()...)
	b = append(b, `","channelId":`...)
	out := &body{event: true, channel: channel, common: len(b)}
	b = append(b, `,"userId":`...)
	b = appendString(b, m.Event.Operator)
	b = appendText(b, `,"typingContentType":`, m.Event.Extra)
	out.text = append(b, '}')
	return out
}
