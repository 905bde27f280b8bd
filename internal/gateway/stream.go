package gateway

import (
	"context"
	"errors"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/fields"
)

// streamBody is the body of a stream's message, or of the entry that stands for
// it where it ended: with the text so far, read anew for each, and open as long
// as there may be more. It is nil when the message is not kept any more.
//
// A chunk is whispered behind its commit, and a turn writes whispers before it
// reads the timeline: whoever gets a chunk of a message they have not got yet
// finds it in the message.
func (g *Gateway) streamBody(ctx context.Context, ref chat.UID, m *chat.Message) (b *body, open bool, err error) {
	end := m.Event != nil
	uid := ref
	if end {
		// A stream has one recipient, so its UID is that of its body.
		uid = m.Event.UID
		if m, err = g.opts.Store.Message(ctx, uid); err != nil {
			if errors.Is(err, &chat.Error{Kind: chat.KindNotFound}) {
				return nil, false, nil
			}
			return nil, false, err
		}
	}
	states, err := g.opts.Store.Overlays(ctx, m.App, []chat.UID{uid})
	if err != nil {
		return nil, false, err
	}
	now := *m
	// Of one that was recalled there is the first chunk and, behind it, the recall.
	if st := states[0]; st != nil && st.Stream != nil {
		now.Content = st.Stream.Content(m.Content)
		open = st.Stream.Open()
	}
	b = render(&now, uid.Millis(), m.From)
	if end {
		b.of = &uid
	}
	return b, open, nil
}

var streamFields = fields.NewTable(changeUID)

// streamText is the call message.stream: a stream's text so far.
func (c *conn) streamText(ctx context.Context, data []byte) ([]byte, error) {
	app, _, subject, err := c.subject(data, streamFields)
	if err != nil {
		return nil, err
	}
	s, err := c.g.courier.Stream(ctx, app, &subject)
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 96+len(s.Text)+len(s.Text)/8), `{"seq":`...)
	b = strconv.AppendUint(b, s.Seq, 10)
	b = append(b, `,"content":`...)
	b = appendString(b, s.Text)
	b = append(b, `,"complete":`...)
	b = strconv.AppendBool(b, s.Complete)
	if s.Complete && s.HasReason {
		b = append(b, `,"completeReason":`...)
		b = strconv.AppendInt(b, s.Reason, 10)
	}
	b = appendTrue(b, `,"interrupted":`, s.Interrupted)
	return append(b, '}'), nil
}
