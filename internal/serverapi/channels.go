package serverapi

import (
	"context"
	"slices"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// Channels is what users set on their own channels.
type Channels interface {
	Pin(ctx context.Context, app *chat.App, q *courier.OwnChannel, pinned bool) (at int64, err error)
	SetLevel(ctx context.Context, app *chat.App, q *courier.OwnChannel, level chat.NotifyLevel) error
	Level(ctx context.Context, app *chat.App, q *courier.OwnChannel) (chat.NotifyLevel, error)
	View(ctx context.Context, app *chat.App, q *courier.OwnChannel) (*chat.View, error)
	Preferences(ctx context.Context, app *chat.App, user string) (*chat.Preferences, error)

	SetTags(ctx context.Context, app *chat.App, q *courier.TagRequest, tags []chat.Tag) error
	RemoveTags(ctx context.Context, app *chat.App, q *courier.TagRequest, ids []string) error
	TagChannels(ctx context.Context, app *chat.App, q *courier.TagRequest) error
	UntagChannels(ctx context.Context, app *chat.App, q *courier.TagRequest) error
	Tagged(ctx context.Context, app *chat.App, q *courier.TagRequest) ([]courier.TaggedChannel, error)
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
	anyOwnTypeField = fields.Field[channelRequest]{Name: "channelType", Read: func(r *fields.Reader, q *channelRequest) (err error) {
		q.channelType, err = r.IntOf(int64(chat.Direct), int64(chat.Group), int64(chat.System), int64(chat.Community))
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
	attributeFields = fields.NewTable(ownerField, anyOwnTypeField, channelIDField)
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

// getChannelAttribute is the page channel/conversation-attr-get. What is not set
// is left out.
func getChannelAttribute(c *call) error {
	var q channelRequest
	if err := decode(c, attributeFields, &q); err != nil {
		return err
	}
	own, err := q.own(c.id)
	if err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	v, err := c.api.courier.View(c.r.Context(), c.app, own)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"channelId":`...)
	b = appendQuoted(b, q.Channel)
	b = append(b, `,"channelType":`...)
	b = strconv.AppendInt(b, int64(q.channelType), 10)
	if v.PinnedAt != 0 {
		b = append(b, `,"pin":{"isPinned":true,"pinnedAt":`...)
		b = strconv.AppendInt(b, v.PinnedAt, 10)
		b = append(b, '}')
	}
	if v.Level != chat.NotifyUnset {
		b = append(b, `,"notification":{"level":`...)
		b = strconv.AppendInt(b, int64(v.Level), 10)
		b = append(b, '}')
	}
	if len(v.Tags) > 0 {
		p, err := c.api.courier.Preferences(c.r.Context(), c.app, q.User)
		if err != nil {
			return err
		}
		b = append(b, `,"tags":[`...)
		b = appendTags(b, p.Tags, false, func(t *chat.Tag) bool {
			return slices.ContainsFunc(v.Tags, func(on chat.ViewTag) bool { return on.ID == t.ID })
		})
		b = append(b, ']')
	}
	c.out = append(b, `}}`...)
	return nil
}
