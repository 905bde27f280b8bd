package serverapi

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// Channels is what users set on their own channels.
type Channels interface {
	Pin(ctx context.Context, app *chat.App, q *courier.OwnChannel, pinned bool) (at int64, err error)
}

// channelRequest names a channel in a user's list, and what is to be set on it.
type channelRequest struct {
	courier.OwnChannel
	channelType int
	pinned      bool
	hasPinned   bool
}

var (
	ownerField   = fields.Text("userId", func(q *channelRequest) *string { return &q.User })
	ownTypeField = fields.Field[channelRequest]{Name: "channelType", Read: func(r *fields.Reader, q *channelRequest) (err error) {
		q.channelType, err = r.IntOf(int64(chat.Direct), int64(chat.Group), int64(chat.System))
		return err
	}}
	channelIDField = fields.Text("channelId", func(q *channelRequest) *string { return &q.Channel })

	pinFields = fields.NewTable(ownerField, ownTypeField, channelIDField,
		fields.Field[channelRequest]{Name: "isPin", Read: func(r *fields.Reader, q *channelRequest) (err error) {
			q.hasPinned = true
			q.pinned, err = r.Switch()
			return err
		}},
	)
)

// own is the channel that the request is about.
func (q *channelRequest) own(requestID string) (*courier.OwnChannel, error) {
	if q.channelType == 0 {
		return nil, chat.Invalid("channelType", "is required")
	}
	q.Type, q.RequestID = chat.ChannelType(q.channelType), requestID
	return &q.OwnChannel, nil
}

// setChannelPin is the page channel/top.
func setChannelPin(c *call) error {
	var q channelRequest
	if err := decode(c, pinFields, &q); err != nil {
		return err
	}
	if !q.hasPinned {
		return chat.Invalid("isPin", "is required")
	}
	own, err := q.own(c.id)
	if err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if _, err := c.api.courier.Pin(c.r.Context(), c.app, own, q.pinned); err != nil {
		return err
	}
	c.done()
	return nil
}
