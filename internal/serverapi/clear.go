package serverapi

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// Cleaner empties the history of channels.
type Cleaner interface {
	Clear(ctx context.Context, app *chat.App, q *courier.OwnChannel, upTo chat.UID) (at int64, err error)
}

type clearRequest struct {
	courier.OwnChannel
	channelType int
	sentAt      int64
	hasSentAt   bool
}

var clearFields = fields.NewTable(
	fields.Text("fromUserId", func(q *clearRequest) *string { return &q.User }),
	fields.Field[clearRequest]{Name: "channelType", Read: func(r *fields.Reader, q *clearRequest) (err error) {
		q.channelType, err = r.IntOf(int64(chat.Direct), int64(chat.Open), int64(chat.System))
		return err
	}},
	fields.Text("channelId", func(q *clearRequest) *string { return &q.Channel }),
	// Here the platform's pages have a text, which can be empty, and numbers
	// everywhere else.
	fields.Field[clearRequest]{Name: "sentAt", Read: func(r *fields.Reader, q *clearRequest) error {
		text, n, isText, err := r.TextOrInt()
		switch {
		case err != nil:
			return err
		case isText && text != "":
			return chat.Invalid("", "must be a time in Unix milliseconds, got "+fields.Quote(text))
		case n < 0:
			return chat.Invalid("", "must not be negative")
		}
		q.sentAt, q.hasSentAt = n, !isText
		return nil
	}},
)

// clearHistory is deleteChannelMessageHistory of the page message/delete.
func clearHistory(c *call) error {
	var q clearRequest
	if err := decode(c, clearFields, &q); err != nil {
		return err
	}
	if err := chat.CheckID("fromUserId", q.User); err != nil {
		return err
	}
	if q.channelType == 0 {
		return chat.Invalid("channelType", "is required")
	}
	if err := chat.CheckID("channelId", q.Channel); err != nil {
		return err
	}
	q.Type, q.RequestID = chat.ChannelType(q.channelType), c.id
	if err := c.spend(); err != nil {
		return err
	}
	var upTo chat.UID
	if q.hasSentAt {
		upTo = chat.UIDsUpTo(q.sentAt)
	}
	if _, err := c.api.courier.Clear(c.r.Context(), c.app, &q.OwnChannel, upTo); err != nil {
		return err
	}
	c.done()
	return nil
}
