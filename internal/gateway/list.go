package gateway

import (
	"context"
	"strconv"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// Listing is users' channel lists.
type Listing interface {
	ChannelList(ctx context.Context, app *chat.App, q *courier.ChannelQuery) (*courier.ChannelPage, error)
	Channel(ctx context.Context, app *chat.App, q *courier.OwnChannel) (*courier.ListedChannel, error)
	RemoveChannel(ctx context.Context, app *chat.App, q *courier.OwnChannel) (at int64, err error)
}

type listData struct {
	pageToken string
	pageSize  int64
	order     int
}

var listFields = fields.NewTable(
	fields.Text("pageToken", func(d *listData) *string { return &d.pageToken }),
	fields.Field[listData]{Name: "pageSize", Read: func(r *fields.Reader, d *listData) (err error) {
		d.pageSize, err = r.Int()
		return err
	}},
	fields.Field[listData]{Name: "order", Read: func(r *fields.Reader, d *listData) (err error) {
		d.order, err = r.IntOf(0, 1)
		return err
	}},
)

// usualChannels is how many channels a page has when the client does not say.
const usualChannels = 50

// listChannels is the call channel.list.
func (c *conn) listChannels(ctx context.Context, data []byte) ([]byte, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	d := listData{pageSize: usualChannels}
	if err := listFields.Decode(data, &d); err != nil {
		return nil, err
	}
	if d.pageSize < 1 || d.pageSize > courier.MaxChannelPage {
		return nil, chat.Invalidf("pageSize", "from 1 to %d, got %d", courier.MaxChannelPage, d.pageSize)
	}
	q := &courier.ChannelQuery{User: c.user, Size: int(d.pageSize), Order: d.order}
	if d.pageToken != "" {
		if q.After, err = chat.ParseUID(d.pageToken); err != nil || q.After.IsZero() {
			return nil, chat.Invalid("pageToken", "was not given")
		}
	}
	page, err := c.g.courier.ChannelList(ctx, app, q)
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 64+384*len(page.Channels)), `{"channels":[`...)
	for i := range page.Channels {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendListed(b, &page.Channels[i])
	}
	b = append(b, ']')
	if !page.Next.IsZero() {
		b = append(b, `,"pageToken":"`...)
		b = append(page.Next.Append(b), '"')
	}
	if d.pageToken == "" {
		total, err := c.g.courier.UnreadTotal(ctx, app, c.user)
		if err != nil {
			return nil, err
		}
		b = appendTotal(b, total)
	}
	return append(b, '}'), nil
}

// getChannel is the call channel.get.
func (c *conn) getChannel(ctx context.Context, data []byte) ([]byte, error) {
	app, q, err := c.named(data)
	if err != nil {
		return nil, err
	}
	l, err := c.g.courier.Channel(ctx, app, q)
	if err != nil {
		return nil, err
	}
	return appendListed(nil, l), nil
}

// removeChannel is the call channel.remove.
func (c *conn) removeChannel(ctx context.Context, data []byte) ([]byte, error) {
	app, q, err := c.named(data)
	if err != nil {
		return nil, err
	}
	at, err := c.g.courier.RemoveChannel(ctx, app, q)
	if err != nil {
		return nil, err
	}
	return append(strconv.AppendInt([]byte(`{"removedAt":`), at, 10), '}'), nil
}

var namedFields = fields.NewTable(channelTypeField, channelIDField)

// named is the channel of a call that says nothing else.
func (c *conn) named(data []byte) (*chat.App, *courier.OwnChannel, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, nil, err
	}
	var d channelData
	if err := namedFields.Decode(data, &d); err != nil {
		return nil, nil, err
	}
	q, err := c.own(&d)
	return app, q, err
}

// appendListed appends a channel as it stands in the user's list.
func appendListed(b []byte, l *courier.ListedChannel) []byte {
	b = append(b, `{"channelType":"`...)
	b = append(b, l.Type.String()...)
	b = append(b, `","channelId":`...)
	b = appendString(b, l.Channel)
	if l.Last != nil {
		b = append(b, `,"last":`...)
		b = appendRemembered(b, l.Last, l.Channel)
	}
	b = append(b, `,"unread":`...)
	b = strconv.AppendInt(b, int64(l.Unread), 10)
	if !l.View.ReadUpTo.IsZero() {
		b = append(b, `,"readUpTo":"`...)
		b = append(l.View.ReadUpTo.Append(b), '"')
	}
	if l.View.PinnedAt != 0 {
		b = append(b, `,"pinnedAt":`...)
		b = strconv.AppendInt(b, l.View.PinnedAt, 10)
	}
	if l.View.Level != chat.NotifyUnset {
		b = append(b, `,"level":`...)
		b = strconv.AppendInt(b, int64(l.View.Level), 10)
	}
	for i, t := range l.View.Tags {
		if b = append(b, ','); i == 0 {
			b = append(b, `"tagIds":[`...)
		}
		b = appendString(b, t.ID)
	}
	if len(l.View.Tags) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// unreadTimeout is how long connecting waits for the number of unread messages.
const unreadTimeout = time.Second

// appendUnread appends how many messages are unread. Without an answer in time,
// clients that need the number ask for their channels.
func (c *conn) appendUnread(ctx context.Context, b []byte, app *chat.App) []byte {
	ctx, cancel := context.WithTimeout(ctx, unreadTimeout)
	defer cancel()
	total, err := c.g.courier.UnreadTotal(ctx, app, c.user)
	if err != nil {
		return b
	}
	return appendTotal(b, total)
}

func appendTotal(b []byte, total int) []byte {
	b = append(b, `,"unread":{"total":`...)
	return append(strconv.AppendInt(b, int64(total), 10), '}')
}
