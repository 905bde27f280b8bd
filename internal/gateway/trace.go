package gateway

import (
	"context"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/fields"
	"github.com/parleychat/parley/internal/trace"
)

// Tracer tells clients what became of their messages.
type Tracer interface {
	TraceOwn(ctx context.Context, app *chat.App, user string, uid chat.UID) (*trace.Report, error)
}

// AttachTracer gives the gateway the tracer, which is made after it. Without,
// clients cannot ask.
func (g *Gateway) AttachTracer(t Tracer) { g.tracer = t }

type traceData struct{ uid string }

var traceFields = fields.NewTable(
	fields.Text("messageUID", func(d *traceData) *string { return &d.uid }),
)

// traceMessage is the call message.trace.
func (c *conn) traceMessage(ctx context.Context, data []byte) ([]byte, error) {
	var d traceData
	if err := traceFields.Decode(data, &d); err != nil {
		return nil, err
	}
	if d.uid == "" {
		return nil, chat.Invalid("messageUID", "is required")
	}
	uid, err := chat.ParseUID(d.uid)
	if err != nil {
		return nil, chat.Invalid("messageUID", "is not a message UID")
	}
	if c.g.tracer == nil {
		return nil, refuse(codeNotAvailable, "")
	}
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	r, err := c.g.tracer.TraceOwn(ctx, app, c.user, uid)
	if err != nil {
		return nil, err
	}
	return appendOwnTrace(make([]byte, 0, 256), r), nil
}

// appendOwnTrace appends what a sender may know. Which devices others have, and
// when they are connected beyond this message, is not theirs to know.
func appendOwnTrace(b []byte, r *trace.Report) []byte {
	b = append(b, `{"messageUID":"`...)
	b = r.UID.Append(b)
	b = append(b, `","channelType":"`...)
	b = append(b, r.Message.ChannelType.String()...)
	b = append(b, `","channelId":`...)
	rec := &r.Recipients[0]
	b = appendString(b, rec.Target)
	b = append(b, `,"messageType":`...)
	b = appendString(b, r.Message.Type)
	b = append(b, `,"sentAt":`...)
	b = strconv.AppendInt(b, r.SentAt, 10)
	if rec.MembersKnown {
		b = append(b, `,"queuedFor":`...)
		b = strconv.AppendInt(b, int64(rec.Members), 10)
	}
	var written, acked trace.Between
	for i := range rec.Reached.Sessions {
		s := &rec.Reached.Sessions[i]
		written, acked = earlier(written, s.Written), earlier(acked, s.Acked)
	}
	b = appendBetween(b, `,"written":`, written)
	b = appendBetween(b, `,"acknowledged":`, acked)
	b = appendChanges(b, &rec.Changes)
	if p := rec.Push; p != nil {
		b = append(b, `,"push":{"effect":"`...)
		b = append(append(b, p.Effect.String()...), '"')
		if p.Reason != "" {
			b = append(append(append(b, `,"reason":"`...), p.Reason...), '"')
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

// appendChanges appends the members about what has happened to a message, as the
// events name them.
func appendChanges(b []byte, c *trace.Changes) []byte {
	if r := c.Recall; r != nil {
		b = append(b, `,"recall":{"operatorId":`...)
		b = appendString(b, r.Operator)
		if r.Admin {
			b = append(b, `,"isAdmin":true`...)
		}
		if r.Delete {
			b = append(b, `,"isDelete":true`...)
		}
		b = append(b, `,"recalledAt":`...)
		b = strconv.AppendInt(b, r.At, 10)
		b = append(b, '}')
	}
	if c.ReadAt != 0 {
		b = append(b, `,"readAt":`...)
		b = strconv.AppendInt(b, c.ReadAt, 10)
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
		if m.Told {
			b = append(b, `,"told":true`...)
		}
		b = append(b, '}')
	}
	return b
}

// earlier is the one that was over first, of those that happened.
func earlier(a, b trace.Between) trace.Between {
	if a.Until == 0 || b.Until != 0 && b.Until < a.Until {
		return b
	}
	return a
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
