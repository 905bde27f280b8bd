// Package trace tells what became of a message: who asked for it, when it was
// committed, and for each recipient where it stands in their timeline, which
// sessions it was written to and which of them have acknowledged it, and what
// has happened to the message itself since.
//
// Nothing is written per message and recipient for this. Who asked and when is
// the stored message; offsets are the request's; delivery is looked up in the
// ranges that sessions leave behind (see store.Delivery). What costs a row of
// its own is rare or cheap: who was left out, and how many members an open
// channel message was queued for.
package trace

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// Store is what traces are read from.
type Store interface {
	store.Deliveries
	Find(ctx context.Context, app chat.AppID, uid chat.UID) (*store.Append, error)
	Devices(ctx context.Context, app chat.AppID, user string) ([]store.Device, error)
	Overlays(ctx context.Context, app chat.AppID, uids []chat.UID) ([]*chat.State, error)
	View(ctx context.Context, ch store.ChannelRef) (*chat.View, error)
	PushReasons(ctx context.Context, ref chat.UID) ([]uint8, error)
	PushOutcomes(ctx context.Context, uid chat.UID) ([]store.PushOutcome, error)
	Epoch() string
}

// Sessions are the client connections of this node.
type Sessions interface {
	// Settle stores what the users' sessions know and have not stored yet.
	Settle(ctx context.Context, app chat.AppID, users []string) error
}

// A Tracer tells what became of messages.
type Tracer struct {
	store    Store
	sessions Sessions
	pushes   Pushes // nil: nothing is told of push
	now      func() time.Time
	reach    reach
}

// New makes a tracer. Run must be running for it to know of open channels.
func New(s Store, sessions Sessions, now func() time.Time) *Tracer {
	return &Tracer{store: s, sessions: sessions, now: now}
}

// A Report is what became of a message.
type Report struct {
	UID     chat.UID
	Message *chat.Message
	SentAt  int64 // Unix ms: when it was committed
	Count   int   // how many recipients, or channels, the request had, without those left out

	// Kept reports whether deliveries of its time are still known. Without,
	// recipients have offsets only.
	Kept       bool
	Recipients []Recipient
	Next       string   // what the next page is asked for with; empty on the last
	LeftOut    []string // users left out because of a block
}

// A Recipient is what became of a message for one of those it was sent to.
type Recipient struct {
	UID     chat.UID
	Target  string // user, or channel
	Offset  uint64 // in the user's timeline; 0 for a channel
	Reached Reached
	Changes Changes
	Push    *Push // nil when nothing is known of it

	// Copy is what became of the sender's own copy; nil when there is none.
	Copy *Copy

	// Members is how many members' connections an open channel message was
	// queued for, when that is known.
	Members      int
	MembersKnown bool
}

// A Copy is the sender's own copy of a message.
type Copy struct {
	User   string
	Offset uint64
	Reached
}

// Reached is whom an entry of a timeline has reached.
type Reached struct {
	Sessions []Session
	Devices  []Device
}

// A Session is a connection that an entry was written to or acknowledged by.
type Session struct {
	ID       [16]byte
	Device   string
	Platform string
	Written  Between
	Acked    Between
}

// Between is the times between which something happened; zero when it did not,
// or nobody knows. They are equal when it is known exactly.
type Between struct{ From, Until int64 }

// A Device is one of the user's devices and whether it has come past the entry.
type Device struct {
	ID     string
	Passed bool
	SeenAt int64 // Unix ms
}

// Changes is what has happened to a message for one recipient since it was sent.
// It has no content: who may ask for traces need not be one who may read messages.
type Changes struct {
	Recall   *chat.Recall // nil unless it was recalled
	EditedAt int64        // Unix ms; 0 while its content is the one that was sent

	// ReadAt is when the recipient had read it, where the sender was to know: Unix
	// ms, 0 when not. ReadBefore is when the recipient had last read the channel, up
	// to this message or further.
	ReadAt, ReadBefore int64
	Metadata           Metadata
}

// Metadata is how often a message's metadata was changed and since when it is as
// it is. The zero of it is the metadata that was sent.
type Metadata struct {
	Version uint64
	At      int64 // Unix ms
	Told    bool  // those concerned have been told of this version
}

func changesOf(st *chat.State) (c Changes) {
	if st == nil {
		return c
	}
	c.Recall, c.ReadAt = st.Recall, st.ReadAt
	if st.Edit != nil {
		c.EditedAt = st.Edit.At
	}
	if st.Version > 0 {
		// A key that is gone is forgotten when all know of it: the last change is
		// then as old as the news of it.
		c.Metadata = Metadata{Version: st.Version, At: st.ToldAt, Told: st.Told == st.Version}
		for _, p := range st.Metadata {
			if p.Version == st.Version {
				c.Metadata.At = p.At
			}
		}
	}
	return c
}

// A Page says which of a request's recipients are asked for. The zero of it is
// the one whom the UID names.
type Page struct {
	All   bool
	Token string // from the report before
	Size  int    // UsualPage when 0
}

// How many recipients a report has, with All.
const (
	UsualPage = 100
	MaxPage   = 200
)

// Trace tells what became of a message of the app.
func (t *Tracer) Trace(ctx context.Context, app *chat.App, uid chat.UID, p Page) (*Report, error) {
	a, err := t.find(ctx, app, uid)
	if err != nil {
		return nil, err
	}
	from, to, next, err := p.of(uid, a)
	if err != nil {
		return nil, err
	}
	r := &Report{
		UID: uid, Message: a.Message, SentAt: uid.Millis(), Count: len(a.Targets), Kept: t.keeps(app, uid), Next: next,
	}
	if r.LeftOut, err = t.store.LeftOut(ctx, a.Placed.First); err != nil {
		return nil, err
	}
	if a.Message.ChannelType == chat.Open {
		err = t.channels(ctx, r, a, from, to)
	} else {
		err = t.users(ctx, app, r, a, from, to)
	}
	if err != nil {
		return nil, err
	}
	if err := t.changes(ctx, app.ID, r); err != nil {
		return nil, err
	}
	return r, t.pushed(ctx, app, r, a)
}

func (t *Tracer) changes(ctx context.Context, app chat.AppID, r *Report) error {
	uids := make([]chat.UID, len(r.Recipients))
	for i := range uids {
		uids[i] = r.Recipients[i].UID
	}
	states, err := t.store.Overlays(ctx, app, uids)
	if err != nil {
		return err
	}
	m := r.Message
	for i, st := range states {
		rec := &r.Recipients[i]
		rec.Changes = changesOf(st)
		if m.ChannelType == chat.Open || rec.Changes.ReadAt != 0 {
			continue
		}
		v, err := t.store.View(ctx, store.ChannelRef{App: app, Owner: rec.Target, Type: m.ChannelType, Channel: m.From})
		if err != nil {
			return err
		}
		if v != nil && v.ReadUpTo.Compare(rec.UID) >= 0 {
			rec.Changes.ReadBefore = v.ReadAt
		}
	}
	return nil
}

// TraceOwn is Trace for a sender's own client: the messages of others are not
// found, and who was left out is not told, since that is what others have on
// their blocklists.
func (t *Tracer) TraceOwn(ctx context.Context, app *chat.App, user string, uid chat.UID) (*Report, error) {
	a, err := t.find(ctx, app, uid)
	if err != nil {
		return nil, err
	}
	if a.Message.From != user {
		return nil, t.notFound(uid)
	}
	r, err := t.Trace(ctx, app, uid, Page{})
	if err != nil {
		return nil, err
	}
	r.LeftOut = nil
	for i := range r.Recipients {
		rec := &r.Recipients[i]
		rec.Changes.ReadBefore = 0 // theirs, unless the sender was to know
		// Why somebody is not notified says how they have set their phone, or that
		// they are banned; and which devices they have is nobody else's business.
		if p := rec.Push; p != nil {
			if p.Devices = nil; !p.OfMessage {
				p.Reason = ""
			}
		}
	}
	return r, nil
}

func (t *Tracer) find(ctx context.Context, app *chat.App, uid chat.UID) (*store.Append, error) {
	a, err := t.store.Find(ctx, app.ID, uid)
	if errors.Is(err, &chat.Error{Kind: chat.KindNotFound}) {
		return nil, t.notFound(uid)
	}
	return a, err
}

// missedFor is the longest that missed messages wait.
const missedFor = 7 * 24 * time.Hour

// notFound says why there is no message by the UID, from the UID alone: what
// another app has must look like what nobody has.
func (t *Tracer) notFound(uid chat.UID) error {
	rule := "no such message; those that are never stored have no trace"
	if uid.Time().Before(t.now().Add(-missedFor)) {
		rule = "no such message, or not kept any more"
	}
	return &chat.Error{Kind: chat.KindNotFound, Field: "messageUID", Rule: rule}
}

// keeps reports whether deliveries of a message are still to be told: for as
// many days as the app keeps missed messages.
func (t *Tracer) keeps(app *chat.App, uid chat.UID) bool {
	day := func(ms int64) int64 { return ms / (24 * time.Hour).Milliseconds() }
	return day(uid.Millis()) >= day(t.now().UnixMilli())-int64(app.Settings.MissedDays)
}

// of gives the part of the request's targets that the page is, and the token of
// the next. A request's targets never change, so a token is a place among them.
func (p *Page) of(uid chat.UID, a *store.Append) (from, to int, next string, err error) {
	n := len(a.Targets)
	if !p.All {
		from = uid.IndexIn(a.Placed.First, n)
		return from, from + 1, "", nil
	}
	size := cmp.Or(p.Size, UsualPage)
	if size < 1 || size > MaxPage {
		return 0, 0, "", chat.Invalidf("pageSize", "from 1 to %d, got %d", MaxPage, size)
	}
	if p.Token != "" {
		at, err := strconv.ParseUint(p.Token, 36, 16)
		if err != nil || int(at) >= n {
			return 0, 0, "", chat.Invalid("pageToken", "is not one that an answer about this message gave")
		}
		from = int(at)
	}
	to = min(from+size, n)
	if to < n {
		next = strconv.FormatUint(uint64(to), 36)
	}
	return from, to, next, nil
}

func (t *Tracer) users(ctx context.Context, app *chat.App, r *Report, a *store.Append, from, to int) error {
	users := append([]string{a.Message.From}, a.Targets[from:to]...)
	if r.Kept {
		// A store that takes no writes, of a full disk say, can still be read: the
		// trace then lacks the last seconds.
		if err := t.sessions.Settle(ctx, app.ID, users); err != nil && ctx.Err() != nil {
			return err
		}
	}
	index := make(map[chat.UID]int, to-from)
	for i := from; i < to; i++ {
		uid := a.Placed.First.Plus(i)
		index[uid] = len(r.Recipients)
		r.Recipients = append(r.Recipients, Recipient{UID: uid, Target: a.Targets[i]})
	}
	for i := range a.Placed.Entries {
		e := &a.Placed.Entries[i]
		at, ok := index[e.UID]
		if !ok {
			continue
		}
		reached, err := t.reached(ctx, app.ID, r, e)
		if err != nil {
			return err
		}
		rec := &r.Recipients[at]
		if e.Kind == store.EntryOut {
			rec.Copy = &Copy{User: e.User, Offset: e.Offset, Reached: reached}
		} else {
			rec.Offset, rec.Reached = e.Offset, reached
		}
	}
	return nil
}

func (t *Tracer) reached(ctx context.Context, app chat.AppID, r *Report, e *store.Entry) (out Reached, err error) {
	if !r.Kept {
		return out, nil
	}
	list, err := t.store.Deliveries(ctx, app, e.User, e.Offset, r.SentAt)
	if err != nil {
		return out, err
	}
	at := map[[16]byte]int{}
	for i := range list {
		d := &list[i]
		n, ok := at[d.Session]
		if !ok {
			n = len(out.Sessions)
			at[d.Session] = n
			out.Sessions = append(out.Sessions, Session{ID: d.Session, Device: d.Device, Platform: d.Platform})
		}
		s := &out.Sessions[n]
		switch d.Kind {
		case store.DeliveryWritten:
			s.Written = Between{d.From, d.Until}
		case store.DeliveryAcked:
			s.Acked = Between{d.From, d.Until}
		}
	}
	slices.SortStableFunc(out.Sessions, func(a, b Session) int {
		return cmp.Compare(cmp.Or(a.Written.Until, a.Acked.Until), cmp.Or(b.Written.Until, b.Acked.Until))
	})
	devices, err := t.store.Devices(ctx, app, e.User)
	if err != nil {
		return out, err
	}
	for _, d := range devices {
		out.Devices = append(out.Devices, Device{
			// Cursors of another life of the store say nothing about this one.
			ID: d.ID, Passed: d.Epoch == t.store.Epoch() && d.Offset >= e.Offset, SeenAt: d.SeenAt,
		})
	}
	return out, nil
}

func (t *Tracer) channels(ctx context.Context, r *Report, a *store.Append, from, to int) error {
	if err := t.Flush(ctx); err != nil && ctx.Err() != nil {
		return err
	}
	for i := from; i < to; i++ {
		rec := Recipient{UID: a.Placed.First.Plus(i), Target: a.Targets[i]}
		if r.Kept {
			var err error
			if rec.Members, rec.MembersKnown, err = t.store.Reach(ctx, rec.UID); err != nil {
				return err
			}
		}
		r.Recipients = append(r.Recipients, rec)
	}
	return nil
}
