package courier

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/turn"
)

// OpenChannels are what is known of open channels.
type OpenChannels interface {
	AppByID(chat.AppID) *chat.App
	OpenChannel(ctx context.Context, app chat.AppID, id string) (*chat.OpenChannel, error)
	ChangeOpenChannel(ctx context.Context, app *chat.App, id string, missing bool, change func(*chat.OpenChannel) error) (*chat.OpenChannel, error)
	ListOpenChannels(ctx context.Context, app chat.AppID, kind store.OpenKind, skip, limit int) ([]string, error)
	DropOpenChannel(ctx context.Context, app chat.AppID, id string, only func(*chat.OpenChannel) bool) (*chat.OpenChannel, error)
	TouchOpenChannel(app chat.AppID, id string)
	StoreOpenActivity(ctx context.Context) error
	OpenEnded(ctx context.Context, limit int) (list []store.DueChannel, more bool, err error)
	HasEnded(*chat.OpenChannel) bool
}

// openChannel is what is known of an open channel that is about to be used. One
// that does not exist comes into being, unless the app is strict.
func (c *Courier) openChannel(ctx context.Context, app *chat.App, field, id string) (*chat.OpenChannel, error) {
	ch, err := c.open.OpenChannel(ctx, app.ID, id)
	if ch != nil || err != nil {
		return ch, err
	}
	if app.Settings.OpenStrict {
		return nil, &chat.Error{Kind: chat.KindNoOpenChannel, Field: field, Rule: "no such open channel, and this app has open.strict set"}
	}
	end, err := turn.Take(ctx, c.telling, room.Key{App: app.ID, Channel: id})
	if err != nil {
		return nil, err
	}
	defer end()
	return c.open.ChangeOpenChannel(ctx, app, id, true, func(*chat.OpenChannel) error { return nil })
}

// checkOpen says whether the message may be sent to these open channels.
func (c *Courier) checkOpen(ctx context.Context, app *chat.App, m *chat.Message, targets []string) error {
	for i, id := range targets {
		ch, err := c.open.OpenChannel(ctx, app.ID, id)
		if ch == nil && err == nil {
			field := "channelId"
			if m.Origin == chat.FromServer {
				field = "toChannelIds[" + strconv.Itoa(i) + "]"
			}
			ch, err = c.openChannel(ctx, app, field, id)
		}
		if err == nil && m.Origin == chat.FromClient {
			err = c.checkSpeaker(ctx, app, ch, m.From)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkSpeaker says whether the user's clients may write to the channel now.
func (c *Courier) checkSpeaker(ctx context.Context, app *chat.App, ch *chat.OpenChannel, user string) error {
	now := c.now()
	if ch.Banned[user].Holds(now) {
		return errBarred()
	}
	if _, ok := ch.Allowed[user]; ok {
		return nil
	}
	if ch.Frozen {
		return chat.Fail(chat.KindMutedOpen, "the open channel is frozen")
	}
	if ch.Muted[user].Holds(now) {
		return chat.Fail(chat.KindMutedOpen, "you are muted in this open channel")
	}
	all, err := c.open.OpenChannel(ctx, app.ID, "")
	if err != nil {
		return err
	}
	if all.Muted[user].Holds(now) {
		return chat.Fail(chat.KindMutedOpen, "you are muted in all open channels")
	}
	return nil
}

func errBarred() error {
	return chat.Fail(chat.KindBannedOpen, "you are banned from this open channel for a time")
}

// An EnterRequest asks for a client's session to be in an open channel.
type EnterRequest struct {
	Channel string
	User    string
	// Session makes the session as a member: a new one each time, since one can be in
	// one room only, and once.
	Session func() room.Member
	From    *room.Position // to recover from, or nil
	Extra   string         // goes with the news that the user came
	Recent  int            // how many of the newest messages to give, at most MaxRecent
	Types   []string       // only messages of these types, when not empty
}

// MaxRecent is how many messages who enters an open channel can ask for.
const MaxRecent = 50

// An Entered is what a session learns on entering an open channel.
type Entered struct {
	room.Entered
	Channel    *chat.OpenChannel
	Muted      bool // the user, here
	MutedInAll bool // the user, in all open channels
	Allowed    bool
	Recent     []HistoryMessage // newest first; none when the session has recovered
}

// Enter puts a client's session into an open channel.
func (c *Courier) Enter(ctx context.Context, app *chat.App, q *EnterRequest) (*Entered, error) {
	key := room.Key{App: app.ID, Channel: q.Channel}
	for {
		ch, err := c.openChannel(ctx, app, "channel", q.Channel)
		if err != nil {
			return nil, err
		}
		if ch.Banned[q.User].Holds(c.now()) {
			return nil, errBarred()
		}
		session := q.Session()
		in := c.rooms.Enter(key, session, q.From, q.Extra)
		if err := c.tidyPairs(ctx, app, q.Channel); err != nil {
			c.rooms.Leave(key, session, false)
			return nil, err
		}
		// Who bans or ends first changes what is known and then looks who is in the
		// room. So whoever entered meanwhile sees it here.
		now, err := c.open.OpenChannel(ctx, app.ID, q.Channel)
		if err != nil {
			c.rooms.Leave(key, session, false)
			return nil, err
		}
		if now == nil || now.CreatedAt != ch.CreatedAt {
			c.rooms.Leave(key, session, false)
			continue
		}
		if now.Banned[q.User].Holds(c.now()) {
			c.rooms.Leave(key, session, false)
			return nil, errBarred()
		}
		return c.entered(ctx, app, q, session, &Entered{Entered: in, Channel: now})
	}
}

func (c *Courier) entered(ctx context.Context, app *chat.App, q *EnterRequest, session room.Member, e *Entered) (*Entered, error) {
	if app.Settings.OpenSingle {
		for _, other := range c.rooms.Elsewhere(room.Key{App: app.ID, Channel: q.Channel}, q.User) {
			c.rooms.Evict(other, room.Elsewhere, q.User)
		}
	}
	c.open.TouchOpenChannel(app.ID, q.Channel)
	now := c.now()
	e.Muted = e.Channel.Muted[q.User].Holds(now)
	_, e.Allowed = e.Channel.Allowed[q.User]
	if all, err := c.open.OpenChannel(ctx, app.ID, ""); err == nil {
		e.MutedInAll = all.Muted[q.User].Holds(now)
	}
	if q.Recent > 0 && !e.Recovered && app.Settings.History {
		page, err := c.History(ctx, app, &HistoryQuery{
			User: q.User, Type: chat.Open, Channel: q.Channel, Limit: q.Recent, Types: q.Types,
			// What was said in an earlier life of the channel is not of this one.
			After: chat.NewUID(e.Channel.CreatedAt, 0, 0, 0),
		})
		if err != nil {
			c.rooms.Leave(room.Key{App: app.ID, Channel: q.Channel}, session, false)
			return nil, err
		}
		e.Recent = page.Messages
	}
	return e, nil
}

// Leave takes a client's session out of an open channel. With lost it may come
// back in time as if nothing had happened.
func (c *Courier) Leave(app chat.AppID, channel string, session room.Member, lost bool) {
	c.rooms.Leave(room.Key{App: app, Channel: channel}, session, lost)
}

// announce tells those in an open channel of ev, in its place among what is said
// there. With end the room ends after it.
func (c *Courier) announce(app chat.AppID, channel string, ev *chat.Event, end chan struct{}) {
	key := room.Key{App: app, Channel: channel}
	if ev.At == 0 {
		ev.At = c.now().UnixMilli()
	}
	ev.Channel, ev.ChannelType = channel, chat.Open
	m := &chat.Message{App: app, ChannelType: chat.Open, Echo: true, Priority: chat.PriorityAllowlisted, Event: ev}
	select {
	case c.deliver.lane(key) <- roomMessage{key: key, m: m, end: end}:
	case <-c.deliver.ended:
	}
}

// changeAndTell changes what is known of an open channel and tells those in it
// what change says they are to know. They are told of changes in the order in
// which these were made, so that the last they hear is how it is.
func (c *Courier) changeAndTell(ctx context.Context, app *chat.App, id string, missing bool, change func(*chat.OpenChannel) ([]*chat.Event, error)) error {
	end, err := turn.Take(ctx, c.telling, room.Key{App: app.ID, Channel: id})
	if err != nil {
		return err
	}
	defer end()
	var events []*chat.Event
	if _, err := c.open.ChangeOpenChannel(ctx, app, id, missing, func(ch *chat.OpenChannel) (err error) {
		events, err = change(ch)
		return err
	}); err != nil {
		return err
	}
	for _, ev := range events {
		c.announce(app.ID, id, ev, nil)
	}
	return nil
}

// EndOpenChannel ends the life of an open channel, and reports whether it had
// one. Everybody is told and taken out; what was known of it is gone. only may say
// no at the last moment.
func (c *Courier) EndOpenChannel(ctx context.Context, app chat.AppID, id string, only func(*chat.OpenChannel) bool) (bool, error) {
	end, err := turn.Take(ctx, c.telling, room.Key{App: app, Channel: id})
	if err != nil {
		return false, err
	}
	defer end()
	old, err := c.open.DropOpenChannel(ctx, app, id, only)
	if err != nil || old == nil {
		return false, err
	}
	// Until the room has ended too, no new life begins: whoever enters that would be
	// taken out with those of the old one.
	ended := make(chan struct{})
	c.announce(app, id, &chat.Event{Kind: chat.EventEnded, Room: &chat.RoomNews{}}, ended)
	select {
	case <-ended:
	case <-c.deliver.ended:
	}
	return true, nil
}

// gone are users who are in rooms no more, until what follows from it is done.
// It is bounded by who was in a room.
type gone struct {
	mu    sync.Mutex // nothing is taken inside
	users map[room.Key][]string
	more  chan struct{} // holds one while there are some
}

// Gone is part of room.Watcher.
func (c *Courier) Gone(key room.Key, users []string) {
	g := &c.gone
	g.mu.Lock()
	defer g.mu.Unlock()
	g.users[key] = append(g.users[key], users...)
	select {
	case g.more <- struct{}{}:
	default:
	}
}

// Stays is part of room.Watcher: those whose messages have priority keep their
// place.
func (c *Courier) Stays(key room.Key, user string) bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // only from memory: a room is locked
	ch, err := c.open.OpenChannel(ctx, key.App, key.Channel)
	if err != nil || ch == nil {
		return false
	}
	_, ok := ch.Priority[user]
	return ok
}

const (
	// openEvery is how often is looked for open channels whose time has come, and
	// openBatch how many of them are ended at a time.
	openEvery = 5 * time.Second
	openBatch = 100
)

// RunOpen does what must be done about open channels without anybody asking,
// until ctx ends: it ends those whose time has come, notes which were in use, and
// leaves out who does not come back. It must have ended before the store is
// closed.
func (c *Courier) RunOpen(ctx context.Context) {
	t := time.NewTicker(openEvery)
	defer t.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-c.gone.more:
			err = c.followGone(ctx)
		case <-t.C:
			err = c.tendOpen(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.log.Error("tending open channels failed and will be tried again", "error", err)
		}
	}
}

func (c *Courier) tendOpen(ctx context.Context) error {
	c.rooms.DropAway(func(id chat.AppID) time.Duration {
		if app := c.open.AppByID(id); app != nil {
			return app.Settings.OpenAway
		}
		return 0
	})
	errs := []error{c.followGone(ctx), c.open.StoreOpenActivity(ctx)}
	for more := true; more && ctx.Err() == nil; {
		list, again, err := c.open.OpenEnded(ctx, openBatch)
		errs = append(errs, err)
		for _, q := range list {
			if _, err := c.EndOpenChannel(ctx, q.App, q.Channel, c.open.HasEnded); err != nil {
				errs, again = append(errs, err), false
			}
		}
		more = again && err == nil
	}
	return errors.Join(errs...)
}

// followGone does what follows from users being gone. What fails is tried again.
func (c *Courier) followGone(ctx context.Context) error {
	g := &c.gone
	g.mu.Lock()
	users := g.users
	g.users = map[room.Key][]string{}
	g.mu.Unlock()
	var errs []error
	for key, list := range users {
		c.open.TouchOpenChannel(key.App, key.Channel)
		app := c.open.AppByID(key.App)
		if app == nil {
			continue
		}
		if err := c.tidyPairs(ctx, app, key.Channel); err != nil {
			errs = append(errs, err)
			g.mu.Lock()
			g.users[key] = append(g.users[key], list...)
			g.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}
