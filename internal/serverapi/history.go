package serverapi

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
	ChangeMetadata(ctx context.Context, app *chat.App, q *courier.MetadataRequest) (at int64, err error)
	Metadata(ctx context.Context, app *chat.App, uid chat.UID) ([]courier.MetadataPair, error)
}

const (
	defaultPage = 10
	maxSpan     = 14 * 24 * 60 * 60 * 1000 // milliseconds
)

// historyRequest asks for a page of history. The platform names the newer bound
// startAt, as it lists the newest message first.
type historyRequest struct {
	userID, channelID        string
	startAt, endAt           int64
	hasStart, hasEnd         bool
	pageSize                 int64
	includeStart, hasInclude bool
	before                   string
}

var historyFields = fields.NewTable(
	fields.Text("userId", func(q *historyRequest) *string { return &q.userID }),
	fields.Text("channelId", func(q *historyRequest) *string { return &q.channelID }),
	fields.Field[historyRequest]{Name: "startAt", Read: func(r *fields.Reader, q *historyRequest) (err error) {
		q.startAt, err = r.Int()
		q.hasStart = true
		return err
	}},
	fields.Field[historyRequest]{Name: "endAt", Read: func(r *fields.Reader, q *historyRequest) (err error) {
		q.endAt, err = r.Int()
		q.hasEnd = true
		return err
	}},
	fields.Field[historyRequest]{Name: "pageSize", Read: func(r *fields.Reader, q *historyRequest) (err error) {
		q.pageSize, err = r.Int()
		return err
	}},
	fields.Field[historyRequest]{Name: "includeStart", Read: func(r *fields.Reader, q *historyRequest) (err error) {
		q.includeStart, err = r.Switch()
		q.hasInclude = true
		return err
	}},
	// Ours: several messages can have been accepted in one millisecond.
	fields.Text("before", func(q *historyRequest) *string { return &q.before }),
)

func listDirectHistory(c *call) error { return listHistory(c, chat.Direct) }
func listOpenHistory(c *call) error   { return listHistory(c, chat.Open) }

func listHistory(c *call, ct chat.ChannelType) error {
	q := historyRequest{pageSize: defaultPage}
	if err := decode(c, historyFields, &q); err != nil {
		return err
	}
	query, err := q.query(ct)
	if err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	page, err := c.api.courier.History(c.r.Context(), c.app, query)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"messages":[`...)
	for i := range page.Messages {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendHistory(b, &page.Messages[i], ct, q.channelID)
	}
	c.out = append(b, `]}}`...)
	return nil
}

// query checks the request and says what it asks for.
func (q *historyRequest) query(ct chat.ChannelType) (*courier.HistoryQuery, error) {
	if err := chat.CheckID("userId", q.userID); err != nil {
		return nil, err
	}
	if err := chat.CheckID("channelId", q.channelID); err != nil {
		return nil, err
	}
	switch {
	case !q.hasStart:
		return nil, chat.Invalid("startAt", "is required")
	case !q.hasEnd:
		return nil, chat.Invalid("endAt", "is required")
	case !q.hasInclude:
		return nil, chat.Invalid("includeStart", "is required")
	case q.startAt < 0:
		return nil, chat.Invalid("startAt", "must not be negative")
	case q.endAt < 0:
		return nil, chat.Invalid("endAt", "must not be negative")
	case q.startAt < q.endAt:
		return nil, chat.Invalid("startAt", "must not be before endAt: it is the newer bound")
	case q.startAt-q.endAt > maxSpan:
		return nil, chat.Invalidf("startAt", "at most 14 days after endAt, got %d ms", q.startAt-q.endAt)
	case q.pageSize < 1 || q.pageSize > courier.MaxHistoryPage:
		return nil, chat.Invalidf("pageSize", "from 1 to %d, got %d", courier.MaxHistoryPage, q.pageSize)
	}
	query := &courier.HistoryQuery{
		User: q.userID, Type: ct, Channel: q.channelID, Limit: int(q.pageSize),
		Before: chat.UIDsBefore(q.startAt),
	}
	if q.includeStart {
		query.Before = chat.UIDsUpTo(q.startAt)
	}
	if q.endAt > 0 {
		query.After = chat.UIDsUpTo(q.endAt - 1)
	}
	if q.before != "" {
		uid, err := chat.ParseUID(q.before)
		if err != nil {
			return nil, chat.Invalid("before", err.Error())
		}
		if uid.Compare(query.Before) < 0 {
			query.Before = uid
		}
	}
	return query, nil
}

// appendHistory appends a record of history: its id under both names.
func appendHistory(b []byte, h *courier.HistoryMessage, ct chat.ChannelType, channel string) []byte {
	m := h.Message
	b = append(b, `{"channelId":`...)
	b = appendQuoted(b, channel)
	b = append(b, `,"fromUserId":`...)
	b = appendQuoted(b, m.From)
	b = append(b, `,"messageUID":"`...)
	b = h.UID.Append(b)
	b = append(b, `","messageId":"`...)
	b = h.UID.Append(b)
	b = append(b, `","sentAt":`...)
	b = strconv.AppendInt(b, h.UID.Millis(), 10)
	b = append(b, `,"messageType":`...)
	b = appendQuoted(b, m.Type)
	b = append(b, `,"content":`...)
	b = appendQuoted(b, m.Content)
	if ct != chat.Open {
		b = append(b, `,"hasMetadata":`...)
		b = strconv.AppendBool(b, m.HasMetadata)
		if len(h.Metadata) > 0 {
			b = append(b, `,"metadata":`...)
			b = appendPairs(b, h.Metadata)
		}
	}
	return append(b, '}')
}

// appendPairs appends metadata as the list that the platform answers with.
func appendPairs(b []byte, list []courier.MetadataPair) []byte {
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"key":`...)
		b = appendQuoted(b, list[i].Key)
		b = append(b, `,"value":`...)
		b = appendQuoted(b, list[i].Value)
		b = append(b, `,"updatedAt":`...)
		b = strconv.AppendInt(b, list[i].UpdatedAt, 10)
		b = append(b, '}')
	}
	return append(b, ']')
}
