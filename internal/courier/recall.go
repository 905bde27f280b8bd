package courier

import (
	"context"
	"encoding/json"
	"unicode/utf8"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// MaxRecallExtra is the longest extra of a recall, in characters. The page gives
// no limit; it is kept as long as the message.
const MaxRecallExtra = 4096

// A RecallRequest asks for a message to be taken back from one recipient.
type RecallRequest struct {
	Subject
	Admin  bool // in the name of the app
	Delete bool // leave nothing in its place
	Extra  string

	// For what follows the recall: notifications and the channel list.
	DisablePush       bool
	DisableUpdateLast bool
}

// Recall takes a message back, and says since when it is. The other recipients
// of its request keep theirs. What was recalled before stays as it is.
func (c *Courier) Recall(ctx context.Context, app *chat.App, q *RecallRequest) (at int64, err error) {
	if n := utf8.RuneCountInString(q.Extra); n > MaxRecallExtra {
		return 0, chat.TooLong("extra", MaxRecallExtra, n, "characters")
	}
	err = c.change(ctx, app.ID, q.UID, func(s *subject) (*store.Append, error) {
		if err := q.check(s); err != nil {
			return nil, err
		}
		if r := s.state.Recall; r != nil {
			at = r.At
			return nil, nil
		}
		at = c.after(q.UID)
		a := s.recall(&chat.Recall{
			Operator: q.From, At: at, Admin: q.Admin, Delete: q.Delete, Extra: q.Extra, DisableUpdateLast: q.DisableUpdateLast,
		}, q.RequestID)
		a.Message.Push.Disabled, a.Message.DisableUpdateLast = q.DisablePush, q.DisableUpdateLast
		return a, nil
	})
	return at, err
}

// recall is the append that takes the message back.
func (s *subject) recall(r *chat.Recall, requestID string) *store.Append {
	// What lay over the content has nothing to lie over any more, the chunks of a
	// stream among it.
	st := chat.State{ReadAt: s.state.ReadAt, Recall: r}
	change := s.next(st, s.keys()...)
	change.Joined = s.state.Stream != nil && s.state.Stream.Seq > 1
	a := s.tell(&chat.Event{
		Kind: chat.EventRecall, Operator: r.Operator, At: r.At, Admin: r.Admin, Delete: r.Delete, Extra: r.Extra,
	}, requestID, change)
	if s.message.ChannelType != chat.Open {
		a.Marks = []store.MarkChange{{Channel: s.channelOf(s.target), UID: s.uid, Mark: store.MarkRecalled}}
	}
	return a
}

// keys are those of the state's metadata.
func (s *subject) keys() (keys []string) {
	for k := range s.state.Metadata {
		keys = append(keys, k)
	}
	return keys
}

// The type that stands in history where a recalled message was, and its content,
// are those that clients of the platform put there themselves.
const recallNotice = "RC:RcNtf"

type recallContent struct {
	OperatorID string `json:"operatorId"`
	RecallTime int64  `json:"recallTime"`
	Original   string `json:"originalObjectName"`
	Admin      bool   `json:"admin"`
	Delete     bool   `json:"delete"`
	Extra      string `json:"extra,omitempty"`
}

// seen is a message as it is under a state, nil when it is not to be seen.
func seen(m *chat.Message, st *chat.State) *chat.Message {
	if st == nil {
		return m
	}
	now := *m
	if r := st.Recall; r != nil {
		if r.Delete {
			return nil
		}
		// A struct of texts, numbers and truth values has always a JSON form.
		content, _ := json.Marshal(recallContent{r.Operator, r.At, m.Type, r.Admin, r.Delete, r.Extra})
		now.Type, now.Content = recallNotice, string(content)
		now.HasMetadata, now.Metadata, now.NeedReadReceipt = false, nil, false
		now.Push = chat.PushOptions{}
		return &now
	}
	if st.Version > 0 {
		now.Metadata = make(map[string]string, len(st.Metadata))
		for k, p := range st.Metadata {
			if !p.Removed {
				now.Metadata[k] = p.Value
			}
		}
	}
	switch {
	case st.Edit != nil:
		now.Content = st.Edit.Content
	case st.Stream != nil:
		now.Content = st.Stream.Content(m.Content)
	}
	return &now
}
