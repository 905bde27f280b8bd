package gateway

import (
	"context"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// Archive works on what was sent before.
type Archive interface {
	History(ctx context.Context, app *chat.App, q *courier.HistoryQuery) (*courier.HistoryPage, error)
	Recall(ctx context.Context, app *chat.App, q *courier.RecallRequest) (at int64, err error)
	Update(ctx context.Context, app *chat.App, q *courier.Subject, content string) (at int64, err error)
	Stream(ctx context.Context, app *chat.App, q *courier.Subject) (*chat.Stream, error)
	ChangeMetadata(ctx context.Context, app *chat.App, q *courier.MetadataRequest) (at int64, err error)
}

// defaultHistory is how many messages a page has when the client does not say.
const defaultHistory = 50

type historyData struct {
	channelType   string
	channelID     string
	before, after position
	limit         int64
	types         []string
}

// A position in a channel's history is a moment or a message.
type position struct {
	given  bool
	millis int64
	uid    chat.UID
}

func (p *position) read(r *fields.Reader) error {
	text, n, isText, err := r.TextOrInt()
	if err != nil {
		return err
	}
	p.given, p.millis = true, n
	if isText {
		if p.uid, err = chat.ParseUID(text); err != nil {
			return chat.Invalid("", "must be a messageUID or a time in Unix milliseconds")
		}
	} else if n < 0 {
		return chat.Invalid("", "must not be negative")
	}
	return nil
}

var historyFields = fields.NewTable(
	fields.Text("channelType", func(d *historyData) *string { return &d.channelType }),
	fields.Text("channelId", func(d *historyData) *string { return &d.channelID }),
	fields.Field[historyData]{Name: "before", Read: func(r *fields.Reader, d *historyData) error { return d.before.read(r) }},
	fields.Field[historyData]{Name: "after", Read: func(r *fields.Reader, d *historyData) error { return d.after.read(r) }},
	fields.Field[historyData]{Name: "limit", Read: func(r *fields.Reader, d *historyData) (err error) {
		d.limit, err = r.Int()
		return err
	}},
	fields.Texts("messageTypes", maxTypes, func(d *historyData) *[]string { return &d.types }),
)

// messageHistory is the call message.history: what a channel holds as this user
// sees it. The timeline's own history is a command of the protocol.
func (c *conn) messageHistory(ctx context.Context, data []byte) ([]byte, error) {
	app := c.g.opts.Directory.AppByID(c.app)
	if app == nil {
		return nil, chat.Fail(chat.KindInternal, "app is gone")
	}
	d := historyData{limit: defaultHistory}
	if err := historyFields.Decode(data, &d); err != nil {
		return nil, err
	}
	ct, err := keptChannel(d.channelType)
	if err != nil {
		return nil, err
	}
	if d.before.given && d.after.given {
		return nil, chat.Invalid("after", "not together with before")
	}
	if d.limit < 1 || d.limit > courier.MaxHistoryPage {
		return nil, chat.Invalidf("limit", "from 1 to %d, got %d", courier.MaxHistoryPage, d.limit)
	}
	q := &courier.HistoryQuery{
		User: c.user, Type: ct, Channel: d.channelID, Limit: int(d.limit), Types: d.types,
		Before: d.before.uid, After: d.after.uid, Forward: d.after.given,
	}
	if d.before.given && d.before.uid.IsZero() {
		q.Before = chat.UIDsBefore(d.before.millis)
	}
	if d.after.given && d.after.uid.IsZero() {
		q.After = chat.UIDsUpTo(d.after.millis)
	}
	page, err := c.g.courier.History(ctx, app, q)
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 256+256*len(page.Messages)), `{"messages":`...)
	b = appendMessages(b, page.Messages, d.channelID)
	b = append(b, `,"more":`...)
	if !page.More {
		return append(b, "false}"...), nil
	}
	b = append(b, `true,"next":"`...)
	b = page.Next.Append(b)
	return append(b, `"}`...), nil
}

// appendMessages appends a list of a channel's messages.
func appendMessages(b []byte, list []courier.HistoryMessage, channel string) []byte {
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendRemembered(b, &list[i], channel)
	}
	return append(b, ']')
}

// appendRemembered appends a message of history, with what has become of it.
func appendRemembered(b []byte, h *courier.HistoryMessage, channel string) []byte {
	b = render(h.Message, h.UID.Millis(), channel).appendMessage(b, h.UID, h.Out, channel)
	if h.EditedAt > 0 {
		b = append(b[:len(b)-1], `,"updatedAt":`...)
		b = append(strconv.AppendInt(b, h.EditedAt, 10), '}')
	}
	if h.Receipt != nil {
		b = append(b[:len(b)-1], `,"receipt":`...)
		b = append(appendReceipt(b, h.Receipt), '}')
	}
	return b
}

// keptChannel reads the type of a channel that messages are kept in.
func keptChannel(name string) (chat.ChannelType, error) {
	if name == "" {
		return 0, chat.Invalid("channelType", "is required")
	}
	switch ct, _ := chat.ParseChannelType(name); ct {
	case chat.Direct, chat.System, chat.Open:
		return ct, nil
	case chat.Group, chat.Community:
		return 0, refuse(codeNotAvailable, "there are no channels of type "+name+" yet")
	}
	return 0, chat.Invalid("channelType", "one of direct, system, open, got "+fields.Quote(name))
}
