package courier

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// gatherMetadata is how long changes of one message's metadata are gathered:
// timelines are told of them at most once in this time.
const gatherMetadata = 2 * time.Second

// A MetadataRequest asks for pairs of a message's metadata to be set and removed.
type MetadataRequest struct {
	// Subject's From is who does it. A Type of 0 means a client, which must be of
	// the channel; Channel is either side of it.
	Subject
	Set    map[string]string
	Remove []string
	// Echo asks for the operator's own timeline to be told too.
	Echo bool
}

// A MetadataPair is one pair of a message's metadata.
type MetadataPair struct {
	Key, Value string
	UpdatedAt  int64 // Unix ms
}

// ChangeMetadata sets and removes pairs, all or none, and says since when they
// are so: whoever repeats a call whose answer was lost changes nothing. It is
// durable when it returns; the timelines of those concerned learn of it at once
// or with what else changes within two seconds.
func (c *Courier) ChangeMetadata(ctx context.Context, app *chat.App, q *MetadataRequest) (at int64, err error) {
	err = c.change(ctx, app.ID, q.UID, func(s *subject) (*store.Append, error) {
		if err := q.check(s); err != nil {
			return nil, err
		}
		at = c.after(q.UID)
		st, keys, err := s.withMetadata(q, at)
		if err != nil {
			return nil, err
		}
		if keys == nil {
			at = s.metadataSince(q)
			return nil, nil
		}
		switch now := c.now().UnixMilli(); {
		// Removed keys are remembered until they are told of; there must not be
		// any number of them.
		case len(st.Metadata) > 2*chat.MaxMetadata:
		// A clock that was set back must not hold the news up.
		case s.state.Told != s.state.Version, now < newsDue(&s.state) && s.state.ToldAt <= now:
			st.Due = dueOf(&st)
			return s.keep(s.next(st, keys...)), nil
		}
		return s.tellMetadata(st, keys, at, q.RequestID), nil
	})
	return at, err
}

func (q *MetadataRequest) check(s *subject) error {
	m := s.message
	switch {
	case q.Type == 0 && !s.isSide(q.From):
		return errNoMessage()
	case q.Type != 0 && q.Type != m.ChannelType:
		return chat.Invalidf("channelType", "the message is of a %s channel", m.ChannelType)
	case q.Type != 0 && !s.isSide(q.Channel):
		return chat.Invalid("channelId", "the message is of another channel")
	}
	return s.checkMetadata()
}

// checkMetadata says whether the message can have metadata.
func (s *subject) checkMetadata() error {
	switch {
	case s.message.ChannelType != chat.Direct || !s.message.HasMetadata:
		return &chat.Error{Kind: chat.KindNoMetadata, Field: "messageUID", Rule: "was sent without hasMetadata"}
	case s.state.Recall != nil:
		return errRecalled()
	}
	return nil
}

// withMetadata is the state with the request's changes made, and which keys
// differ; no keys when nothing changes.
func (s *subject) withMetadata(q *MetadataRequest, at int64) (chat.State, []string, error) {
	st := s.state
	st.Version++
	st.Metadata = make(map[string]chat.Pair, len(s.state.Metadata)+len(q.Set))
	maps.Copy(st.Metadata, s.state.Metadata)
	var keys []string
	if s.state.Version == 0 {
		// From here on the state counts and no longer what it was sent with.
		for k, v := range s.message.Metadata {
			st.Metadata[k] = chat.Pair{Value: v, At: s.uid.Millis()}
			keys = append(keys, k)
		}
	}
	changed := false
	put := func(k string, p chat.Pair) {
		p.At, p.Version = at, st.Version
		st.Metadata[k], changed = p, true
		keys = append(keys, k)
	}
	for k, v := range q.Set {
		if p, there := st.Metadata[k]; !there || p.Removed || p.Value != v {
			put(k, chat.Pair{Value: v})
		}
	}
	for _, k := range q.Remove {
		if p, there := st.Metadata[k]; there && !p.Removed {
			put(k, chat.Pair{Removed: true})
		}
	}
	if !changed {
		return st, nil, nil
	}
	live := 0
	for _, p := range st.Metadata {
		if !p.Removed {
			live++
		}
	}
	if live > chat.MaxMetadata {
		return st, nil, &chat.Error{Kind: chat.KindMetadataFull, Field: "metadata",
			Rule: "at most 300 pairs on one message"}
	}
	// Who need not be told is whoever made all of what is not told yet.
	quiet := ""
	if !q.Echo && (s.state.Told == s.state.Version || s.state.Quiet == q.From) {
		quiet = q.From
	}
	st.Operator, st.Quiet = q.From, quiet
	return st, keys, nil
}

// metadataSince is since when what the request asks for is so. Keys that all know
// to be gone are forgotten; of these it is when the last news was told.
func (s *subject) metadataSince(q *MetadataRequest) int64 {
	since := s.uid.Millis()
	for k := range q.Set {
		since = max(since, s.state.Metadata[k].At)
	}
	for _, k := range q.Remove {
		if p, there := s.state.Metadata[k]; there {
			since = max(since, p.At)
		} else {
			since = max(since, s.state.ToldAt)
		}
	}
	return since
}

// keep is an append that changes the state and tells nobody.
func (s *subject) keep(change store.StateChange) *store.Append {
	return &store.Append{
		Message: &chat.Message{App: s.message.App, ChannelType: s.message.ChannelType, From: s.message.From},
		States:  []store.StateChange{change},
	}
}

// tellMetadata is the append that tells of all changes that were not told yet,
// with the state they led to.
func (s *subject) tellMetadata(st chat.State, keys []string, at int64, requestID string) *store.Append {
	ev := &chat.Event{Kind: chat.EventMetadata, Operator: st.Operator, At: at}
	told := st
	told.Metadata = make(map[string]chat.Pair, len(st.Metadata))
	for k, p := range st.Metadata {
		switch {
		case p.Removed:
			ev.Removed = append(ev.Removed, k)
			keys = append(keys, k) // forgotten, now that all know
			continue
		case p.Version > st.Told:
			if ev.Set == nil {
				ev.Set = map[string]string{}
			}
			ev.Set[k] = p.Value
		}
		told.Metadata[k] = p
	}
	slices.Sort(ev.Removed)
	told.Told, told.ToldAt, told.Operator, told.Quiet = st.Version, at, "", ""
	told.Due = dueOf(&told)
	change := s.next(told, keys...)

	m := s.message
	toTarget := s.target != st.Quiet
	toSender := m.Echo && m.From != st.Quiet && m.From != s.target
	a := s.tell(ev, requestID, change)
	a.Message.Echo = toSender
	switch {
	case toTarget:
	case toSender:
		// As from the other side, so that the sender's is the only entry.
		a.Message.From, a.Message.Echo, a.Targets = s.target, false, []string{m.From}
	default:
		return s.keep(change)
	}
	return a
}

// Metadata lists the pairs of a message, sorted by key.
func (c *Courier) Metadata(ctx context.Context, app *chat.App, uid chat.UID) ([]MetadataPair, error) {
	s, err := c.subject(ctx, app.ID, uid)
	if err != nil {
		return nil, err
	}
	if err := s.checkMetadata(); err != nil {
		return nil, err
	}
	return pairsOf(s.message, uid, &s.state), nil
}

// pairsOf are a message's pairs under a state, which may be nil.
func pairsOf(m *chat.Message, uid chat.UID, st *chat.State) (list []MetadataPair) {
	if st == nil || st.Version == 0 {
		for k, v := range m.Metadata {
			list = append(list, MetadataPair{k, v, uid.Millis()})
		}
	} else {
		for k, p := range st.Metadata {
			if !p.Removed {
				list = append(list, MetadataPair{k, p.Value, p.At})
			}
		}
	}
	slices.SortFunc(list, func(a, b MetadataPair) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return list
}
