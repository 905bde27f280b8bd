package gateway

import (
	"context"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// Channels is what users set on their own channels.
type Channels interface {
	Pin(ctx context.Context, app *chat.App, q *courier.OwnChannel, pinned bool) (at int64, err error)
}

// appendOwn appends what an event says of the user's own settings.
func appendOwn(b []byte, e *chat.Event) []byte {
	if e.ChannelType != 0 {
		b = append(b, `,"channelType":"`...)
		b = append(b, e.ChannelType.String()...)
		b = append(b, '"')
	}
	b = appendText(b, `,"channelId":`, e.Channel)
	own := e.Own
	if own == nil {
		return b
	}
	switch own.Part {
	case chat.OwnRemoved:
		b = append(b, `,"removed":true`...)
	case chat.OwnPin:
		b = append(b, `,"pinned":`...)
		b = strconv.AppendBool(b, own.PinnedAt != 0)
		if own.PinnedAt != 0 {
			b = append(b, `,"pinnedAt":`...)
			b = strconv.AppendInt(b, own.PinnedAt, 10)
		}
	}
	return b
}

// ownTypes are the channel types that stand in a user's list.
const ownTypes = "one of direct, group, system, got "

// channelData names a channel of the user, and what is to be set on it.
type channelData struct {
	channelType string
	channelID   string
	pinned      bool
	hasPinned   bool
}

var (
	channelTypeField = fields.Text("channelType", func(d *channelData) *string { return &d.channelType })
	channelIDField   = fields.Text("channelId", func(d *channelData) *string { return &d.channelID })

	pinFields = fields.NewTable(channelTypeField, channelIDField,
		fields.Field[channelData]{Name: "pinned", Read: func(r *fields.Reader, d *channelData) (err error) {
			d.hasPinned = true
			d.pinned, err = r.Switch()
			return err
		}},
	)
)

// own is the channel of a call, which must be one that stands in the user's list.
func (c *conn) own(d *channelData) (*courier.OwnChannel, error) {
	t, err := ownType(d.channelType)
	if err != nil {
		return nil, err
	}
	return &courier.OwnChannel{User: c.user, Type: t, Channel: d.channelID}, nil
}

func ownType(text string) (chat.ChannelType, error) {
	switch t, _ := chat.ParseChannelType(text); {
	case text == "":
		return 0, chat.Invalid("channelType", "is required")
	case t == chat.Direct || t == chat.Group || t == chat.System:
		return t, nil
	}
	return 0, chat.Invalid("channelType", ownTypes+fields.Quote(text))
}

// pinChannel is the call channel.pin.
func (c *conn) pinChannel(ctx context.Context, data []byte) ([]byte, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	var d channelData
	if err := pinFields.Decode(data, &d); err != nil {
		return nil, err
	}
	if !d.hasPinned {
		return nil, chat.Invalid("pinned", "is required")
	}
	q, err := c.own(&d)
	if err != nil {
		return nil, err
	}
	at, err := c.g.courier.Pin(ctx, app, q, d.pinned)
	if err != nil || at == 0 {
		return []byte("{}"), err
	}
	return append(strconv.AppendInt([]byte(`{"pinnedAt":`), at, 10), '}'), nil
}
