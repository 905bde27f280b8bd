package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// A composed notification, and the lane by which its device is notified now.
type composed struct {
	push.Notification
	lane store.PushLane
}

// compose makes the notification of a job from what is so now, or says how the job
// ends without one. Where what is stored for it cannot be read, no attempt will mend
// that.
func (d *Dispatcher) compose(ctx context.Context, j *store.PushJob) (*composed, *store.PushOutcome, error) {
	n, end, err := d.composed(ctx, j)
	if errors.Is(err, store.ErrRow) {
		d.deciding.passedOver.Inc()
		d.Logger.Error("push: what is stored for a notification cannot be read, and it is passed over", "message", j.UID.String(), "error", err)
		return nil, &store.PushOutcome{Class: push.PayloadBad.String(), Code: "row"}, nil
	}
	return n, end, err
}

func (d *Dispatcher) composed(ctx context.Context, j *store.PushJob) (*composed, *store.PushOutcome, error) {
	end := func(class string) (*composed, *store.PushOutcome, error) {
		return nil, &store.PushOutcome{Class: class, Code: j.Code}, nil
	}
	now := d.Now()
	if j.Expires <= now.UnixMilli() {
		return end("expired")
	}
	app := d.Directory.AppByID(j.Lane.App)
	if app == nil {
		return end("off")
	}
	rules := push.RulesOf(&app.Settings)
	if !rules.Enabled {
		return end("off")
	}
	setup, err := d.setupOf(ctx, app)
	if err != nil {
		return nil, nil, err
	}
	to, err := d.Store.PushDevice(ctx, app.ID, j.User, j.Device)
	if err != nil {
		return nil, nil, err
	}
	if to == nil {
		return end("gone")
	}
	c := setup.credential(to)
	if c == nil {
		return end("gone")
	}
	s, cast, err := d.sends.of(ctx, d.Store, app.ID, j.Ref)
	if chat.KindOf(err) == chat.KindNotFound {
		return end("expired")
	}
	if err != nil {
		return nil, nil, err
	}
	if j.Kind == store.PushMessage {
		class, err := d.overtaken(ctx, app, &rules, j, s, cast, to)
		if err != nil {
			return nil, nil, err
		}
		if class != "" {
			return end(class)
		}
	}

	effect := push.Alert
	if j.Silent {
		effect = push.Silent
	}
	t := &telling{app: app, rules: &rules, setup: setup, send: s}
	n, err := d.note(ctx, t, j.User, j.UID, to, effect, int(j.Held))
	if err != nil {
		return nil, nil, err
	}
	n.Expires = time.UnixMilli(j.Expires)
	n.Without = push.Option(j.Without)
	if j.Kind == store.PushWithdraw {
		n.Data, n.HasBadge = "", false
		if s.Type() != push.Recall { // which says itself what it takes back
			view, err := d.Store.View(ctx, store.ChannelRef{App: app.ID, Owner: j.User, Type: n.ChannelType, Channel: n.Channel})
			if err != nil {
				return nil, nil, err
			}
			n.Removes, n.RemovesBefore = j.UID, view.Settled().Compare(j.UID) >= 0
		}
	}
	return &composed{n, laneOf(app.ID, c, to)}, nil, nil
}

// A telling is a message that is told of, and by what rules and with what.
type telling struct {
	app   *chat.App
	rules *push.Rules
	setup *setup
	send  *push.Send
}

// note is what the message tells one device of a user, in the words of now. more is
// of how many other messages it tells besides.
func (d *Dispatcher) note(ctx context.Context, t *telling, user string, uid chat.UID, to *chat.PushDevice, effect push.Effect, more int) (push.Notification, error) {
	s := t.send
	w := &push.Words{
		Send: s, User: user, Sender: s.Message.From, Provider: to.Provider, Language: to.Language, App: t.rules.Language, Hide: to.HideDetails, More: more,
	}
	if effect == push.Alert {
		var err error
		if w.Sender, err = d.nameOf(ctx, t.app, s.Message.From); err != nil {
			return push.Notification{}, err
		}
		if s.Ext.TemplateID != "" {
			w.Template = t.setup.templates[s.Ext.TemplateID]
		}
		if w.Content, err = d.contentOf(ctx, t, uid); err != nil {
			return push.Notification{}, err
		}
	}
	return s.Notification(t.app.ID, uid, s.Message.From, *to, effect, uid.Time(), t.rules, w), nil
}

// contentOf is what the message has as its content where that is not what it was
// sent with any more: it was changed, or is a stream. Only direct messages can be.
func (d *Dispatcher) contentOf(ctx context.Context, t *telling, uid chat.UID) (string, error) {
	m := t.send.Message
	if m.ChannelType != chat.Direct || !t.send.Says() {
		return "", nil
	}
	states, err := d.Store.Overlays(ctx, t.app.ID, []chat.UID{uid})
	if err != nil || len(states) == 0 || states[0] == nil {
		return "", err
	}
	switch st := states[0]; {
	case st.Edit != nil:
		return st.Edit.Content, nil
	case st.Stream != nil:
		return st.Stream.Content(m.Content), nil
	}
	return "", nil
}

// nameOf is the name that a user has, and their id where they have none.
func (d *Dispatcher) nameOf(ctx context.Context, app *chat.App, user string) (string, error) {
	k := nameKey{app.ID, user}
	if name, ok := d.names.get(k, d.Now()); ok {
		return name, nil
	}
	name := user
	switch u, err := d.Directory.User(ctx, app, user); {
	case chat.KindOf(err) == chat.KindNoUser:
	case err != nil:
		return "", err
	case u.Name != "":
		name = u.Name
	}
	d.names.put(k, name, d.Now())
	return name, nil
}

// names keeps senders' names for a moment: of whoever writes to thousands, there
// are thousands of notifications.
type names struct {
	mu   sync.Mutex
	from time.Time
	list map[nameKey]string
}

type nameKey struct {
	app  chat.AppID
	user string
}

const (
	namesLife = 5 * time.Second
	maxNames  = 1024
)

func (n *names) get(k nameKey, now time.Time) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if age := now.Sub(n.from); age < 0 || age > namesLife {
		return "", false
	}
	name, ok := n.list[k]
	return name, ok
}

func (n *names) put(k nameKey, name string, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if age := now.Sub(n.from); age < 0 || age > namesLife || len(n.list) >= maxNames {
		n.list, n.from = map[nameKey]string{}, now
	}
	n.list[k] = name
}

// overtaken says what has made the notification pointless since it was decided
// upon: nothing is worse than to be told of what one has just read.
func (d *Dispatcher) overtaken(ctx context.Context, app *chat.App, rules *push.Rules, j *store.PushJob, s *push.Send, cast bool, to *chat.PushDevice) (string, error) {
	ch := store.ChannelRef{App: app.ID, Owner: j.User, Type: s.Message.ChannelType, Channel: s.Message.From}
	view, err := d.Store.View(ctx, ch)
	if err != nil {
		return "", err
	}
	if view.Settled().Compare(j.UID) >= 0 {
		return "read", nil
	}
	waited := j.Attempts > 0 || d.Now().UnixMilli()-j.MadeAt >= longWait.Milliseconds()
	if waited {
		class, err := d.unwanted(ctx, app, rules, j, s, view, to)
		if err != nil || class != "" {
			return class, err
		}
	}
	if cast {
		gone, err := d.casts.isRecalled(ctx, j.UID)
		if err != nil || gone {
			return "recalled", err
		}
		// Who has been given it has it as a message of their own.
		taken, err := d.Store.Taken(ctx, app.ID, j.UID, j.User)
		if err != nil || !taken.IsZero() {
			return "reached", err
		}
		return "", nil
	}
	marks, err := d.Store.Marks(ctx, ch, j.UID, j.UID)
	if err != nil {
		return "", err
	}
	if len(marks) > 0 {
		if marks[0].Mark == store.MarkRecalled {
			return "recalled", nil
		}
		return "read", nil
	}
	// Who has come back while the job waited has seen the message on their way.
	if j.Offset > 0 && waited {
		reach, err := d.reach(ctx, app.ID, j.User, j.Offset)
		if err != nil {
			return "", err
		}
		if _, enough := reachedBy(reach, rules); enough || reach == push.Desk && j.Lane.Provider == chat.WEB {
			return "reached", nil
		}
	}
	return "", nil
}

// longWait is how long a job waits until it is asked again whom it reached, and
// whether they still want to be told.
const longWait = 5 * time.Second

// unwanted is the reason for which somebody is not notified any more for whom the
// notification has waited: they are kept out by now, their quiet hours have come, or
// they have muted the channel. The decision is the same as at first.
func (d *Dispatcher) unwanted(ctx context.Context, app *chat.App, rules *push.Rules, j *store.PushJob, s *push.Send, view *chat.View, to *chat.PushDevice) (string, error) {
	sight := store.PushSight{View: view}
	var err error
	if sight.User, err = d.Directory.User(ctx, app, j.User); err != nil && chat.KindOf(err) != chat.KindNoUser {
		return "", err
	}
	if sight.Preferences, err = d.Store.Preferences(ctx, app.ID, j.User); err != nil {
		return "", err
	}
	now := d.Now()
	r := push.Recipient{ID: j.User, Devices: []chat.PushDevice{*to}}
	(&request{send: s}).fill(&r, j.UID, &sight, now)
	switch reason := push.Decide(s, &r, rules, now, j.UID.Time()).Reason; reason {
	case push.ReasonDeleted, push.ReasonBanned, push.ReasonQuiet, push.ReasonLevel:
		return reason.String(), nil
	}
	return "", nil
}

// reach is where the user has acknowledged the entry at the offset by now.
func (d *Dispatcher) reach(ctx context.Context, app chat.AppID, user string, offset uint64) (push.Reach, error) {
	list, _ := d.Sessions.Cursors(app, user)
	reach := push.ReachOf(offset, list)
	if reach == push.Phone {
		return reach, nil
	}
	devices, err := d.Store.Devices(ctx, app, user)
	if err != nil {
		return 0, err
	}
	list = list[:0:0]
	for i := range devices {
		if devices[i].Epoch == d.Store.Epoch() {
			list = append(list, push.Cursor{Platform: devices[i].Platform, Offset: devices[i].Offset})
		}
	}
	return max(reach, push.ReachOf(offset, list)), nil
}

// sends keeps the messages that are being notified of: one message has many
// recipients, one after the other.
type sends struct {
	mu   sync.Mutex
	list map[chat.UID]kept
	size int // of their texts
}

type kept struct {
	send *push.Send
	cast bool
}

// size is about what it takes in memory.
func (k *kept) size() int {
	m := k.send.Message
	return 1<<10 + len(m.Content) + len(m.Push.Content) + len(m.Push.Data) + 2*(len(m.Push.Ext)+len(m.Push.More))
}

// maxSends and maxSendBytes are how many messages are kept, and how long ones.
const (
	maxSends     = 1024
	maxSendBytes = 16 << 20
)

// of is the message under ref, and whether it is a broadcast.
func (c *sends) of(ctx context.Context, s Store, app chat.AppID, ref chat.UID) (send *push.Send, cast bool, err error) {
	c.mu.Lock()
	v, found := c.list[ref]
	c.mu.Unlock()
	if found {
		return v.send, v.cast, nil
	}
	m, err := s.Message(ctx, ref)
	if chat.KindOf(err) == chat.KindNotFound {
		b, err := s.Broadcast(ctx, app, ref)
		if err != nil {
			return nil, false, err
		}
		if b.Message == nil {
			return nil, false, &chat.Error{Kind: chat.KindNotFound, Rule: "is no message"}
		}
		m, cast = b.Message, true
	} else if err != nil {
		return nil, false, err
	}
	v = kept{push.NewSend(m), cast}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := c.list[ref]; twice {
		return v.send, v.cast, nil
	}
	if size := v.size(); c.list == nil || len(c.list) >= maxSends || c.size+size > maxSendBytes {
		c.list, c.size = make(map[chat.UID]kept), 0
	}
	c.list[ref], c.size = v, c.size+v.size()
	return v.send, v.cast, nil
}
