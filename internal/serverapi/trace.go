package serverapi

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
	"github.com/parleychat/parley/internal/trace"
)

// traceRequest holds the fields of a trace.
type traceRequest struct {
	UID, ID   string
	All       bool
	PageToken string
	PageSize  int64
}

// A UID has two names, as in the answers to sends.
var traceFields = fields.NewTable(
	fields.Text("messageUID", func(r *traceRequest) *string { return &r.UID }),
	fields.Text("messageId", func(r *traceRequest) *string { return &r.ID }),
	fields.Switch("all", func(r *traceRequest) *bool { return &r.All }),
	fields.Text("pageToken", func(r *traceRequest) *string { return &r.PageToken }),
	wholeNumber("pageSize", func(r *traceRequest) *int64 { return &r.PageSize }),
)

// uid is the UID that the request names.
func (q *traceRequest) uid() (chat.UID, error) {
	field, text := "messageUID", q.UID
	switch {
	case q.UID == "" && q.ID == "":
		return chat.UID{}, chat.Invalid(field, "is required")
	case q.UID == "":
		field, text = "messageId", q.ID
	case q.ID != "" && q.ID != q.UID:
		return chat.UID{}, chat.Invalid("messageId", "names another message than messageUID; give one of them")
	}
	uid, err := chat.ParseUID(text)
	if err != nil {
		return chat.UID{}, chat.Invalid(field, "is not a message UID")
	}
	return uid, nil
}

func traceMessage(c *call) error {
	q := traceRequest{PageSize: trace.UsualPage}
	if err := decode(c, traceFields, &q); err != nil {
		return err
	}
	uid, err := q.uid()
	if err != nil {
		return err
	}
	if q.PageSize < 1 || q.PageSize > trace.MaxPage {
		return chat.Invalidf("pageSize", "from 1 to %d, got %d", trace.MaxPage, q.PageSize)
	}
	if err := c.spend(); err != nil {
		return err
	}
	r, err := c.api.tracer.Trace(c.r.Context(), c.app, uid, trace.Page{All: q.All, Token: q.PageToken, Size: int(q.PageSize)})
	if chat.KindOf(err) == chat.KindNotFound && uid.ChannelType() == chat.System {
		return c.traceBroadcast(uid, err)
	}
	if err != nil {
		return err
	}
	c.out = appendReport(c.out, r)
	return nil
}

// traceBroadcast tells of a broadcast, or says notFound when it is none either.
func (c *call) traceBroadcast(uid chat.UID, notFound error) error {
	r, err := c.api.courier.BroadcastReport(c.r.Context(), c.app, uid)
	if chat.KindOf(err) == chat.KindNotFound {
		return notFound
	}
	if err != nil {
		return err
	}
	c.out = appendBroadcastReport(c.out, r)
	return nil
}

// appendBroadcastReport appends what became of a broadcast, in the form of a
// message that has no recipients: each of those has a UID of their own.
func appendBroadcastReport(b []byte, r *courier.BroadcastReport) []byte {
	m := r.Message
	if m == nil {
		m = &chat.Message{From: r.From, RequestID: r.RequestID, Type: "RC:RcNtf"} // a recall
	}
	b = appendAbout(b, r.UID, m, chat.System, r.UID.Millis())
	b = append(b, `,"targetCount":0,"deliveriesKept":false,"recipients":[],"leftOut":[],"pageToken":"","broadcast":{"kind":"`...)
	b = append(b, r.Kind.String()...)
	b = append(b, `","until":`...)
	b = strconv.AppendInt(b, r.Until(), 10)
	b = append(b, `,"taken":`...)
	b = strconv.AppendInt(b, int64(r.Taken), 10)
	b = append(b, `,"takenMore":`...)
	b = strconv.AppendBool(b, r.TakenMore)
	if r.RecalledAt != 0 {
		b = append(b, `,"recalledAt":`...)
		b = strconv.AppendInt(b, r.RecalledAt, 10)
	}
	return append(b, `}}}`...)
}

var originNames = [...]string{chat.FromServer: "server", chat.FromClient: "client"}

// appendReport appends the answer to a trace. The message's content is not in
// it: who may ask for traces need not be one who may read messages.
func appendReport(b []byte, r *trace.Report) []byte {
	m := r.Message
	b = appendAbout(b, r.UID, m, m.ChannelType, r.SentAt)
	b = append(b, `,"targetCount":`...)
	b = strconv.AppendInt(b, int64(r.Count), 10)
	b = append(b, `,"deliveriesKept":`...)
	b = strconv.AppendBool(b, r.Kept)
	b = append(b, `,"recipients":[`...)
	for i := range r.Recipients {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendRecipient(b, m.ChannelType == chat.Open, &r.Recipients[i])
	}
	b = append(b, `],"leftOut":[`...)
	for i, user := range r.LeftOut {
		if i > 0 {
			b = append(b, ',')
		}
		if m.ChannelType == chat.Open {
			b = append(b, `{"channelId":`...)
			b = appendQuoted(b, user)
			b = append(b, `,"reason":"shed"}`...)
			continue
		}
		b = append(b, `{"userId":`...)
		b = appendQuoted(b, user)
		b = append(b, `,"reason":"blocklist"}`...)
	}
	b = append(b, `],"pageToken":`...)
	b = appendQuoted(b, r.Next)
	return append(b, `}}`...)
}

// appendAbout begins the answer with what was asked for, by whom and when.
func appendAbout(b []byte, uid chat.UID, m *chat.Message, t chat.ChannelType, sentAt int64) []byte {
	b = append(b, `{"code":0,"result":{"messageUID":"`...)
	b = uid.Append(b)
	b = append(b, `","origin":"`...)
	b = append(b, originNames[m.Origin]...)
	b = append(b, `","fromUserId":`...)
	b = appendQuoted(b, m.From)
	if m.RequestID != "" {
		b = append(b, `,"requestId":`...)
		b = appendQuoted(b, m.RequestID)
	}
	b = append(b, `,"channelType":"`...)
	b = append(b, t.String()...)
	b = append(b, `","messageType":`...)
	b = appendQuoted(b, m.Type)
	b = append(b, `,"sentAt":`...)
	b = strconv.AppendInt(b, sentAt, 10)
	b = append(b, `,"contentBytes":`...)
	return strconv.AppendInt(b, int64(len(m.Content)), 10)
}

func appendRecipient(b []byte, open bool, r *trace.Recipient) []byte {
	b = append(b, `{"messageUID":"`...)
	b = r.UID.Append(b)
	if open {
		b = append(b, `","channelId":`...)
		b = appendQuoted(b, r.Target)
		if r.MembersKnown {
			b = append(b, `,"queuedFor":`...)
			b = strconv.AppendInt(b, int64(r.Members), 10)
		}
		return append(appendPush(appendChanges(b, &r.Changes), r.Push), '}')
	}
	b = append(b, `","userId":`...)
	b = appendQuoted(b, r.Target)
	b = appendReached(b, r.Offset, &r.Reached)
	b = appendPush(appendChanges(b, &r.Changes), r.Push)
	if r.Copy != nil {
		b = append(b, `,"senderCopy":{"userId":`...)
		b = appendQuoted(b, r.Copy.User)
		b = appendReached(b, r.Copy.Offset, &r.Copy.Reached)
		b = append(b, '}')
	}
	return append(b, '}')
}

// appendChanges appends the members about what has happened to a message; most
// have none.
func appendChanges(b []byte, c *trace.Changes) []byte {
	if r := c.Recall; r != nil {
		b = append(b, `,"recall":{"operatorId":`...)
		b = appendQuoted(b, r.Operator)
		b = append(b, `,"isAdmin":`...)
		b = strconv.AppendBool(b, r.Admin)
		b = append(b, `,"isDelete":`...)
		b = strconv.AppendBool(b, r.Delete)
		b = append(b, `,"recalledAt":`...)
		b = strconv.AppendInt(b, r.At, 10)
		b = append(b, '}')
	}
	if c.ReadAt != 0 {
		b = append(b, `,"readAt":`...)
		b = strconv.AppendInt(b, c.ReadAt, 10)
	}
	if c.ReadBefore != 0 {
		b = append(b, `,"readBefore":`...)
		b = strconv.AppendInt(b, c.ReadBefore, 10)
	}
	if c.EditedAt != 0 {
		b = append(b, `,"updatedAt":`...)
		b = strconv.AppendInt(b, c.EditedAt, 10)
	}
	if m := &c.Metadata; m.Version > 0 {
		b = append(b, `,"metadata":{"version":`...)
		b = strconv.AppendUint(b, m.Version, 10)
		b = append(b, `,"updatedAt":`...)
		b = strconv.AppendInt(b, m.At, 10)
		b = append(b, `,"told":`...)
		b = strconv.AppendBool(b, m.Told)
		b = append(b, '}')
	}
	return b
}

// appendPush appends what the message did to notify its recipient, if anything is
// known of that.
func appendPush(b []byte, p *trace.Push) []byte {
	if p == nil {
		return b
	}
	b = append(b, `,"push":{"effect":"`...)
	b = append(b, p.Effect.String()...)
	b = append(b, `","reason":"`...)
	b = append(append(b, p.Reason...), `","devices":[`...)
	for i := range p.Devices {
		if i > 0 {
			b = append(b, ',')
		}
		d := &p.Devices[i]
		b = append(b, `{"deviceId":`...)
		b = appendQuoted(b, d.Device)
		b = appendKnown(b, `,"provider":`, d.Provider)
		b = appendKnown(b, `,"token":`, d.Token)
		if d.Withdrawn {
			b = append(b, `,"withdrawn":true`...)
		}
		b = appendKnown(b, `,"class":`, d.Class)
		b = appendKnown(b, `,"code":`, d.Code)
		b = appendKnown(b, `,"id":`, d.ID)
		b = append(b, `,"attempts":`...)
		b = strconv.AppendInt(b, int64(d.Attempts), 10)
		b = append(b, `,"at":`...)
		b = strconv.AppendInt(b, d.At, 10)
		if len(d.Cut) > 0 {
			b = append(b, `,"cut":["`...)
			b = append(append(b, strings.Join(d.Cut, `","`)...), `"]`...)
		}
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

func appendReached(b []byte, offset uint64, r *trace.Reached) []byte {
	b = append(b, `,"offset":`...)
	b = strconv.AppendUint(b, offset, 10)
	b = append(b, `,"sessions":[`...)
	for i := range r.Sessions {
		if i > 0 {
			b = append(b, ',')
		}
		s := &r.Sessions[i]
		b = append(b, `{"clientId":"`...)
		for i, part := range [...][]byte{s.ID[:4], s.ID[4:6], s.ID[6:8], s.ID[8:10], s.ID[10:]} {
			if i > 0 {
				b = append(b, '-')
			}
			b = hex.AppendEncode(b, part)
		}
		b = append(b, '"')
		b = appendKnown(b, `,"deviceId":`, s.Device)
		b = appendKnown(b, `,"platform":`, s.Platform)
		b = appendBetween(b, `,"written":`, s.Written)
		b = appendBetween(b, `,"acknowledged":`, s.Acked)
		b = append(b, '}')
	}
	b = append(b, `],"devices":[`...)
	for i, d := range r.Devices {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"deviceId":`...)
		b = appendQuoted(b, d.ID)
		b = append(b, `,"passed":`...)
		b = strconv.AppendBool(b, d.Passed)
		b = append(b, `,"seenAt":`...)
		b = strconv.AppendInt(b, d.SeenAt, 10)
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendKnown(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	return appendQuoted(append(b, name...), text)
}

func appendBetween(b []byte, name string, t trace.Between) []byte {
	if t.Until == 0 {
		return b
	}
	b = append(b, name...)
	b = append(b, `{"from":`...)
	b = strconv.AppendInt(b, t.From, 10)
	b = append(b, `,"until":`...)
	b = strconv.AppendInt(b, t.Until, 10)
	return append(b, '}')
}
