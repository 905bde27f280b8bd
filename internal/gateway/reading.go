package gateway

import (
	"context"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// Reading is what users make of the messages that they got.
type Reading interface {
	Read(ctx context.Context, app *chat.App, q *courier.ReadRequest) (at int64, left courier.Unread, err error)
	Readers(ctx context.Context, app *chat.App, q *courier.Subject) (*courier.Receipt, error)
	UnreadTotal(ctx context.Context, app *chat.App, user string) (int, error)
	Delete(ctx context.Context, app *chat.App, user, requestID string, uids []chat.UID) (at int64, err error)
	Clear(ctx context.Context, app *chat.App, q *courier.OwnChannel, upTo chat.UID) (at int64, err error)
}

// readData is what calls about some messages of a channel, or all up to one, say.
type readData struct {
	channelType string
	channelID   string
	uid         string
	uids        []string
	upTo        position
}

var (
	readChannelType = fields.Text("channelType", func(d *readData) *string { return &d.channelType })
	readChannelID   = fields.Text("channelId", func(d *readData) *string { return &d.channelID })
	readUIDs        = fields.Texts("messageUIDs", courier.MaxMessageUIDs, func(d *readData) *[]string { return &d.uids })
	readUpTo        = fields.Field[readData]{Name: "upTo", Read: func(r *fields.Reader, d *readData) error { return d.upTo.read(r) }}

	readFields   = fields.NewTable(readChannelType, readChannelID, readUIDs, readUpTo)
	deleteFields = fields.NewTable(readChannelType, readChannelID, readUIDs, readUpTo,
		fields.Text("messageUID", func(d *readData) *string { return &d.uid }))
)

// messages are those that the call names.
func (d *readData) messages() ([]chat.UID, error) {
	uids := make([]chat.UID, len(d.uids))
	for i, text := range d.uids {
		var err error
		if uids[i], err = parseUID("messageUIDs["+strconv.Itoa(i)+"]", text); err != nil {
			return nil, err
		}
	}
	return uids, nil
}

// channel is the one that the call is about. Open channels are everybody's.
func (d *readData) channel(user string) (own courier.OwnChannel, err error) {
	ct, err := keptChannel(d.channelType)
	if err != nil {
		return own, err
	}
	if ct == chat.Open {
		return own, chat.Invalid("channelType", "one of direct, system, got "+fields.Quote(d.channelType))
	}
	return courier.OwnChannel{User: user, Type: ct, Channel: d.channelID}, nil
}

// last is the newest UID that a position takes in.
func (p *position) last() chat.UID {
	if p.uid.IsZero() {
		return chat.UIDsUpTo(p.millis)
	}
	return p.uid
}

// readMessages is the call message.read.
func (c *conn) readMessages(ctx context.Context, data []byte) ([]byte, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	var d readData
	if err := readFields.Decode(data, &d); err != nil {
		return nil, err
	}
	q := &courier.ReadRequest{}
	if q.OwnChannel, err = d.channel(c.user); err != nil {
		return nil, err
	}
	switch {
	case d.upTo.given && len(d.uids) > 0:
		return nil, chat.Invalid("upTo", "not together with messageUIDs")
	case d.upTo.given:
		q.UpTo = d.upTo.last()
	case len(d.uids) == 0:
		return nil, chat.Invalid("messageUIDs", "is required, or upTo")
	}
	if q.UIDs, err = d.messages(); err != nil {
		return nil, err
	}
	at, left, err := c.g.courier.Read(ctx, app, q)
	if err != nil {
		return nil, err
	}
	b := strconv.AppendInt([]byte(`{"readAt":`), at, 10)
	b = append(b, `,"unread":{"channel":`...)
	b = strconv.AppendInt(b, int64(left.Channel), 10)
	b = append(b, `,"total":`...)
	b = strconv.AppendInt(b, int64(left.Total), 10)
	return append(b, "}}"...), nil
}

// deleteMessages is the call message.delete: for the user alone.
func (c *conn) deleteMessages(ctx context.Context, data []byte) ([]byte, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	var d readData
	if err := deleteFields.Decode(data, &d); err != nil {
		return nil, err
	}
	if d.uid != "" {
		d.uids = append(d.uids, d.uid)
	}
	var at int64
	switch {
	case d.upTo.given && len(d.uids) > 0:
		return nil, chat.Invalid("upTo", "not together with messageUIDs")
	case d.upTo.given:
		own, err := d.channel(c.user)
		if err != nil {
			return nil, err
		}
		if at, err = c.g.courier.Clear(ctx, app, &own, d.upTo.last()); err != nil {
			return nil, err
		}
	case len(d.uids) == 0:
		return nil, chat.Invalid("messageUIDs", "is required, or upTo")
	default:
		uids, err := d.messages()
		if err != nil {
			return nil, err
		}
		if at, err = c.g.courier.Delete(ctx, app, c.user, "", uids); err != nil {
			return nil, err
		}
	}
	return append(strconv.AppendInt([]byte(`{"deletedAt":`), at, 10), '}'), nil
}

type readersData struct {
	uid, pageToken string
	pageSize       int64
}

var readersFields = fields.NewTable(
	fields.Text("messageUID", func(d *readersData) *string { return &d.uid }),
	fields.Text("pageToken", func(d *readersData) *string { return &d.pageToken }),
	fields.Field[readersData]{Name: "pageSize", Read: func(r *fields.Reader, d *readersData) (err error) {
		d.pageSize, err = r.Int()
		return err
	}},
)

// messageReaders is the call message.readers. A direct message has one recipient,
// so the first page is the last.
func (c *conn) messageReaders(ctx context.Context, data []byte) ([]byte, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	d := readersData{pageSize: usualPage}
	if err := readersFields.Decode(data, &d); err != nil {
		return nil, err
	}
	uid, err := parseUID("messageUID", d.uid)
	switch {
	case err != nil:
		return nil, err
	case d.pageSize < 1 || d.pageSize > usualPage:
		return nil, chat.Invalidf("pageSize", "from 1 to %d, got %d", usualPage, d.pageSize)
	case d.pageToken != "":
		return nil, chat.Invalid("pageToken", "was not given")
	}
	r, err := c.g.courier.Readers(ctx, app, &courier.Subject{UID: uid, From: c.user})
	if err != nil {
		return nil, err
	}
	b := appendReceipt(make([]byte, 0, 256), r)
	b = append(b[:len(b)-1], `,"read":`...)
	b = appendReaders(b, r.Read)
	b = append(b, `,"unread":[`...)
	for i, u := range r.Unread {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, u)
	}
	return append(b, "]}"...), nil
}

const usualPage = 100

// appendReceipt appends the numbers of a receipt.
func appendReceipt(b []byte, r *courier.Receipt) []byte {
	b = append(b, `{"readCount":`...)
	b = strconv.AppendInt(b, int64(len(r.Read)), 10)
	b = append(b, `,"unreadCount":`...)
	b = strconv.AppendInt(b, int64(r.Total-len(r.Read)), 10)
	b = append(b, `,"totalCount":`...)
	b = strconv.AppendInt(b, int64(r.Total), 10)
	return append(b, '}')
}

func appendReaders(b []byte, list []courier.Reader) []byte {
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"userId":`...)
		b = appendString(b, list[i].User)
		b = append(b, `,"readAt":`...)
		b = strconv.AppendInt(b, list[i].At, 10)
		b = append(b, '}')
	}
	return append(b, ']')
}

// renderReading makes the body of an event about what was read or deleted. A
// receipt goes to the sender alone, as from the reader.
func renderReading(m *chat.Message) *body {
	e := m.Event
	b := append(make([]byte, 0, 256+24*len(e.UIDs)), `{"data":{"event":"`...)
	switch {
	case e.Kind == chat.EventDelete && !e.UpTo.IsZero():
		b = append(b, "clear"...)
	default:
		b = append(b, e.Kind.String()...)
	}
	if e.Kind == chat.EventReceipt {
		b = append(b, `","messageUID":"`...)
		b = e.UID.Append(b)
		b = append(b, `","channelType":"`...)
		b = append(b, m.ChannelType.String()...)
		b = append(b, `","channelId":`...)
		b = appendString(b, m.From)
		r := &courier.Receipt{Read: []courier.Reader{{User: e.Operator, At: e.At}}, Total: 1}
		b = append(b, ',')
		b = append(b, appendReceipt(nil, r)[1:]...)
		b = append(b[:len(b)-1], `,"users":`...)
		b = appendReaders(b, r.Read)
		return &body{event: true, common: -1, text: append(b, '}')}
	}
	b = append(b, `","channelType":"`...)
	b = append(b, e.ChannelType.String()...)
	b = append(b, `","channelId":`...)
	b = appendString(b, e.Channel)
	if e.UpTo.IsZero() {
		b = append(b, `,"messageUIDs":[`...)
		for i, uid := range e.UIDs {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, '"')
			b = uid.Append(b)
			b = append(b, '"')
		}
		b = append(b, ']')
	} else {
		b = append(b, `,"upTo":"`...)
		b = e.UpTo.Append(b)
		b = append(b, '"')
	}
	switch {
	case e.Kind == chat.EventRead:
		b = append(b, `,"readAt":`...)
	case e.UpTo.IsZero():
		b = append(b, `,"deletedAt":`...)
	default:
		b = append(b, `,"clearedAt":`...)
	}
	b = strconv.AppendInt(b, e.At, 10)
	return &body{event: true, common: -1, text: append(b, '}')}
}
