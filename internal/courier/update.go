package courier

import (
	"context"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// UpdateLife is how long a message's content can be changed (the page
// modify-private).
const UpdateLife = 24 * time.Hour

// Update puts new content in place of what was sent, for one recipient, and says
// since when it is so. Only direct messages can be changed.
func (c *Courier) Update(ctx context.Context, app *chat.App, q *Subject, content string) (at int64, err error) {
	err = c.change(ctx, app.ID, q.UID, func(s *subject) (*store.Append, error) {
		if err := q.check(s); err != nil {
			return nil, err
		}
		if s.message.ChannelType != chat.Direct {
			return nil, chat.Invalid("messageUID", "only direct messages can be changed")
		}
		if err := chat.CheckContent(s.message.Type, content); err != nil {
			return nil, err
		}
		if s.state.Recall != nil {
			return nil, errRecalled()
		}
		if s.state.Stream.Open() {
			return nil, chat.Invalid("messageUID", "is of a stream that is not complete yet")
		}
		at = c.after(q.UID)
		if at-q.UID.Millis() > UpdateLife.Milliseconds() {
			return nil, chat.Invalid("messageUID", "can be changed within 24 hours of being sent")
		}
		// Whoever repeats a call whose answer was lost changes nothing.
		if e := s.state.Edit; e != nil && e.Content == content {
			at = e.At
			return nil, nil
		}
		st := s.state
		st.Edit = &chat.Edit{Content: content, At: at}
		ev := &chat.Event{Kind: chat.EventUpdate, Operator: q.From, At: at, Content: content}
		return s.tell(ev, q.RequestID, s.next(st)), nil
	})
	return at, err
}

func errRecalled() error { return chat.Invalid("messageUID", "was recalled") }
