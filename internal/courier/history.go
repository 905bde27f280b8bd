package courier

import (
	"context"
	"errors"
	"slices"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// Archive is what the courier needs of a store to work on what was sent before.
type Archive interface {
	store.Messages
	store.Overlays
	store.Views
	store.Broadcasts
	Lists
}

// Lists is what there is in channels. It is an [store.Index] for its readers.
type Lists interface {
	History(ctx context.Context, ch store.ChannelRef, r store.HistoryRange) ([]store.HistoryEntry, error)
	Channels(ctx context.Context, app chat.AppID, user string, limit int) ([]store.ChannelState, error)
	Channel(ctx context.Context, ch store.ChannelRef) (store.ChannelState, error)
	Unread(ctx context.Context, ch store.ChannelRef, r store.KeptRange) (int, error)
	Wanting(ctx context.Context, ch store.ChannelRef, r store.KeptRange) ([]chat.UID, error)
	Newest(ctx context.Context, ch store.ChannelRef) (chat.UID, error)
}

const (
	// MaxHistoryPage is how many messages one page of history has at most.
	MaxHistoryPage = 100
	// maxHistoryScan is how many messages are looked at for one page. Where a
	// filter lets few of them through, the page says where to go on.
	maxHistoryScan = 2000
)

// A HistoryQuery asks for a page of a channel's history. At most one of After
// and Before is what the page starts at; the other bounds it.
type HistoryQuery struct {
	User    string // as whose the channel is seen; no matter in open channels
	Type    chat.ChannelType
	Channel string
	After   chat.UID // only messages behind it, when not zero
	Before  chat.UID // only messages before it, when not zero
	Forward bool     // the page starts at After, in place of at Before
	Limit   int
	Types   []string // only messages of these types, when not empty
}

// A HistoryPage is a page of history, newest message first.
type HistoryPage struct {
	Messages []HistoryMessage
	// More says that there may be more behind this page, and Next where it ends:
	// the Before (or After, forward) of the next one.
	More bool
	Next chat.UID
}

// A HistoryMessage is a message as it is seen now.
type HistoryMessage struct {
	UID      chat.UID
	Out      bool // the user sent it
	Message  *chat.Message
	Metadata []MetadataPair // sorted by key
	EditedAt int64          // Unix ms; 0 when its content is the one that was sent

	// Receipt is what the user is told of a message that they sent and want to
	// know about; nil of all others.
	Receipt *Receipt
}

// History gives a page of a channel's history.
func (c *Courier) History(ctx context.Context, app *chat.App, q *HistoryQuery) (*HistoryPage, error) {
	if !app.Settings.History {
		return nil, chat.Fail(chat.KindFeatureOff, "history is switched off for this app (history.enabled)")
	}
	if err := chat.CheckID("channelId", q.Channel); err != nil {
		return nil, err
	}
	if q.Limit < 1 || q.Limit > MaxHistoryPage {
		return nil, chat.Invalidf("limit", "from 1 to %d, got %d", MaxHistoryPage, q.Limit)
	}
	ch := store.ChannelRef{App: app.ID, Owner: q.User, Type: q.Type, Channel: q.Channel}
	if q.Type == chat.Open {
		ch.Owner = ""
	}
	page := &HistoryPage{}
	r := store.HistoryRange{After: q.After, Before: q.Before, Forward: q.Forward}
	v, err := c.archive.View(ctx, ch)
	if err != nil {
		return nil, err
	}
	if v != nil && v.ClearedUpTo.Compare(r.After) > 0 {
		r.After = v.ClearedUpTo
	}
	for scanned := 0; ; {
		// One more than fits tells whether there is more.
		r.Limit = q.Limit + 1 - len(page.Messages)
		entries, err := c.archive.History(ctx, ch, r)
		if err != nil {
			return nil, err
		}
		states, err := c.archive.Overlays(ctx, app.ID, uidsOf(entries))
		if err != nil {
			return nil, err
		}
		hidden, err := c.hidden(ctx, ch, entries)
		if err != nil {
			return nil, err
		}
		for i := range entries {
			if len(page.Messages) == q.Limit || scanned == maxHistoryScan {
				page.More = true
				break
			}
			scanned++
			page.Next = entries[i].UID
			if hidden[entries[i].UID] {
				continue
			}
			m, err := c.recollect(ctx, &entries[i], states[i], q)
			if err != nil {
				return nil, err
			}
			if m != nil {
				page.Messages = append(page.Messages, *m)
			}
		}
		if page.More || len(entries) < r.Limit {
			break
		}
		if q.Forward {
			r.After = page.Next
		} else {
			r.Before = page.Next
		}
	}
	if q.Forward {
		slices.Reverse(page.Messages)
	}
	return page, nil
}

// recollect is an entry's message as it is seen now, nil when it is not to be
// shown.
func (c *Courier) recollect(ctx context.Context, e *store.HistoryEntry, st *chat.State, q *HistoryQuery) (*HistoryMessage, error) {
	m, err := c.archive.Message(ctx, e.Ref)
	if errors.Is(err, &chat.Error{Kind: chat.KindNotFound}) {
		return nil, nil // it expires while we read
	}
	if err != nil {
		return nil, err
	}
	if m = seen(m, st); m == nil {
		return nil, nil
	}
	if len(q.Types) > 0 && !slices.Contains(q.Types, m.Type) {
		return nil, nil
	}
	out := e.Kind == store.EntryOut || q.Type == chat.Open && m.From == q.User
	h := &HistoryMessage{UID: e.UID, Out: out, Message: m}
	if len(m.Metadata) > 0 {
		h.Metadata = pairsOf(m, e.UID, st)
	}
	if st != nil && st.Edit != nil {
		h.EditedAt = st.Edit.At
	}
	if out && m.WantsReceipt() {
		h.Receipt = receiptOf(st)
	}
	return h, nil
}

// hidden are those of the entries that the channel's owner has deleted for
// themselves. Nothing is hidden from everybody.
func (c *Courier) hidden(ctx context.Context, ch store.ChannelRef, entries []store.HistoryEntry) (map[chat.UID]bool, error) {
	if ch.Owner == "" || len(entries) == 0 {
		return nil, nil
	}
	from, to := entries[0].UID, entries[len(entries)-1].UID
	if from.Compare(to) > 0 {
		from, to = to, from
	}
	marks, err := c.archive.Marks(ctx, ch, from, to)
	if err != nil {
		return nil, err
	}
	var hidden map[chat.UID]bool
	for _, m := range marks {
		if m.Mark == store.MarkHidden {
			if hidden == nil {
				hidden = map[chat.UID]bool{}
			}
			hidden[m.UID] = true
		}
	}
	return hidden, nil
}

func uidsOf(entries []store.HistoryEntry) []chat.UID {
	uids := make([]chat.UID, len(entries))
	for i := range entries {
		uids[i] = entries[i].UID
	}
	return uids
}
