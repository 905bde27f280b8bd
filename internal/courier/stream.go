package courier

import (
	"context"
	"errors"
	"strings"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// A StreamChunk is a request to send one chunk of a direct stream.
type StreamChunk struct {
	chat.Chunk
	// UID is the stream's. The first chunk begins one and has none.
	UID chat.UID
	// Message is what the stream's message is to be, complete but for what the
	// chunk says. Of a later chunk only its From and RequestID count.
	Message *chat.Message
	To      string
	Claim   *Claim // when the request came with an idempotency key
}

// SendChunk makes one chunk durable. The first of a stream is sent as messages
// are. The others change the state that lies over it, are whispered to who is
// online, and the last one makes an entry in the timelines of both sides.
//
// Sent has a placement for the first chunk only.
func (c *Courier) SendChunk(ctx context.Context, app *chat.App, q *StreamChunk) (*Sent, error) {
	if q.Seq == 1 {
		return c.beginStream(ctx, app, q)
	}
	if q.Claim.Repeats() {
		c.metrics.repeated.Inc()
		return &Sent{SentAt: q.UID.Millis(), Repeated: true}, nil
	}
	err := c.change(ctx, app.ID, q.UID, func(s *subject) (*store.Append, error) { return c.extend(ctx, s, q) })
	err = renamed(err, "messageUID", "content.messageId")
	q.Claim.settle(err)
	if err != nil {
		c.metrics.refused.WithLabelValues(chat.Direct.String(), chat.KindOf(err).String()).Inc()
		return nil, err
	}
	c.metrics.chunks.Inc()
	if q.Complete {
		c.metrics.streamsBySender.Inc()
	}
	return &Sent{SentAt: q.UID.Millis()}, nil
}

func (c *Courier) beginStream(ctx context.Context, app *chat.App, q *StreamChunk) (*Sent, error) {
	st := q.Begin(q.Message)
	st.LastAt, st.Idle = c.now().UnixMilli(), app.Settings.StreamIdle.Milliseconds()
	sent, err := c.Send(ctx, app, &Send{Message: q.Message, Targets: []string{q.To}, Claim: q.Claim, stream: st})
	if err == nil && !sent.Repeated {
		c.metrics.chunks.Inc()
	}
	return sent, renamed(err, rules[chat.Direct].field, "toUserId")
}

// renamed gives a field the name that requests with chunks have for it.
func renamed(err error, field, name string) error {
	e, ok := errors.AsType[*chat.Error](err)
	if !ok || e.Field != field && !strings.HasPrefix(e.Field, field+"[") {
		return err
	}
	under := *e
	under.Field = name
	return &under
}

// begun is the state that the message of a new stream has from the start.
func begun(s *chat.Stream, history bool) []store.StateChange {
	st := &chat.State{Stream: s}
	st.Due = dueOf(st)
	return []store.StateChange{{History: history, State: st}}
}

// extend is the append that adds a chunk to its stream.
func (c *Courier) extend(ctx context.Context, s *subject, q *StreamChunk) (*store.Append, error) {
	switch {
	case s.message.Type != chat.StreamType || s.message.ChannelType != chat.Direct:
		return nil, chat.Invalid("content.messageId", "is of no direct stream")
	case q.Message.From != s.message.From:
		return nil, chat.Invalid("fromUserId", "did not begin this stream")
	case q.To != s.target:
		return nil, chat.Invalid("toUserId", "the stream goes to another user")
	case s.state.Recall != nil:
		return nil, errRecalled()
	case s.state.Stream == nil:
		return nil, chat.Invalid("content.messageId", "the stream is complete")
	}
	if err := s.state.Stream.CheckNext(&q.Chunk); err != nil {
		return nil, err
	}
	st := s.state
	st.Stream = s.state.Stream.Next(&q.Chunk, c.after(s.uid))
	var a *store.Append
	if st.Stream.Complete {
		var err error
		if a, err = c.endStream(ctx, s, st, q.Text, q.Message.RequestID); err != nil {
			return nil, err
		}
	} else {
		a = s.grow(st, q.Text, q.Message.RequestID)
	}
	q.Claim.carry(a)
	return a, nil
}

// grow is the append that keeps a chunk, and whispers it. When the stream is to
// be looked at for having been left alone stays as it is: a later time is set
// when that one has come, not with every chunk.
func (s *subject) grow(st chat.State, text, requestID string) *store.Append {
	change := s.next(st)
	change.Chunk = text
	a := s.tell(&chat.Event{Kind: chat.EventStream, Seq: st.Stream.Seq, Content: text}, requestID, change)
	a.Message.Flags &^= chat.Missed
	return a
}

// endStream is the append that ends a stream with the state st: its text becomes
// one piece, and both sides are told of the message as a whole.
func (c *Courier) endStream(ctx context.Context, s *subject, st chat.State, last, requestID string) (*store.Append, error) {
	states, err := c.archive.Overlays(ctx, s.message.App, []chat.UID{s.uid})
	if err != nil {
		return nil, err
	}
	if states[0] == nil || states[0].Stream == nil {
		return nil, errNoMessage() // it expires while we read
	}
	st.Due = dueOf(&st)
	change := s.next(st)
	change.Chunk, change.Joined = states[0].Stream.Text+last, s.state.Stream.Seq > 1
	return s.tell(&chat.Event{Kind: chat.EventStreamEnd, Operator: s.message.From, At: c.after(s.uid)}, requestID, change), nil
}

// interrupt is the append that closes a stream that was left alone.
func (c *Courier) interrupt(ctx context.Context, s *subject) (*store.Append, error) {
	st := s.state
	closed := *st.Stream
	closed.Complete, closed.Interrupted = true, true
	st.Stream = &closed
	a, err := c.endStream(ctx, s, st, "", "")
	if err != nil {
		return nil, err
	}
	a.Done = func(err error) {
		if err == nil {
			c.metrics.streamsByTime.Inc()
		}
	}
	return a, nil
}

// Stream gives a stream as it is, to either side of its channel. Its Text is that
// of all chunks, the first one among them.
func (c *Courier) Stream(ctx context.Context, app *chat.App, q *Subject) (*chat.Stream, error) {
	s, err := c.subject(ctx, app.ID, q.UID)
	if err != nil {
		return nil, err
	}
	switch {
	case !s.isSide(q.From):
		return nil, errNoMessage()
	case s.state.Recall != nil:
		return nil, errRecalled()
	case s.state.Stream == nil:
		return nil, chat.Invalid("messageUID", "is of no stream")
	}
	states, err := c.archive.Overlays(ctx, app.ID, []chat.UID{q.UID})
	if err != nil {
		return nil, err
	}
	// It can have been recalled since.
	if states[0] == nil || states[0].Stream == nil {
		return nil, errRecalled()
	}
	whole := *states[0].Stream
	whole.Text = whole.Whole(s.message.Content)
	return &whole, nil
}
