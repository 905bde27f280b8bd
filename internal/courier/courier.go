// Package courier is the one place that knows what happens to a message, and in
// which order: check, admit, commit, deliver.
//
// It knows neither HTTP nor sockets. The doors hand it requests; the sessions
// of clients are behind an interface.
package courier

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/budget"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/turn"
)

// Sessions are the client connections of this node.
type Sessions interface {
	// Wake tells the user's sessions that their timeline has grown.
	Wake(app chat.AppID, user string)
	// Whisper gives an ephemeral message to the user's sessions. For the
	// sender's own copy out is true and peer names the recipient.
	Whisper(app chat.AppID, user string, m *chat.Message, uid chat.UID, peer string)
	// Connected gives one part of the app's sessions, from 0 on, and how many
	// parts there are. The sessions of a user are in one part, together.
	Connected(app chat.AppID, part int) (list []Session, parts int)
}

// A Session is a client connection, of whom and from what.
type Session struct {
	User string
	chat.Client
	Background bool // its client says that the user does not look at it
}

// Store is what the courier needs of a store.
type Store interface {
	store.Appender
	store.Onces
	Blocked(ctx context.Context, app chat.AppID, user string, others []string) ([]string, error)
	Blockers(ctx context.Context, app chat.AppID, user string, others []string) ([]string, error)
}

// Users says who is registered, and whose clients may send.
type Users interface {
	AppByID(id chat.AppID) *chat.App
	User(ctx context.Context, app *chat.App, id string) (*chat.User, error)
	CheckRegistered(ctx context.Context, app *chat.App, field string, ids ...string) error
	CheckSender(ctx context.Context, app *chat.App, user string, t chat.ChannelType) error
}

// A Reach is told how many members open channel messages were queued for, of
// those that are stored. It must not block.
type Reach interface {
	Queued(uid chat.UID, members int)
}

// Options are what a courier works with.
type Options struct {
	Store    Store
	Archive  Archive
	Users    Users
	Open     OpenChannels
	Rooms    *room.Rooms
	Sessions Sessions
	Reach    Reach // nil when nobody wants to know
	Now      func() time.Time
	Logger   *slog.Logger
	Metrics  prometheus.Registerer // nil for none
}

// A Courier takes messages and gets them there.
type Courier struct {
	store   Store
	archive Archive
	users   Users
	open    OpenChannels
	rooms   *room.Rooms
	intake  *room.Intake
	gone    gone
	now     func() time.Time
	budgets *budget.Book[budgetKey]
	claims  claims
	turns   *turn.Turns // of messages
	owners  *turn.Turns // of users, for what they have made of their channels
	telling *turn.Turns // of open channels that change and tell of it
	began   int64       // Unix ms

	sessions    Sessions
	casts       casts
	castBudgets *budget.Book[castKey]
	visits      *turn.Turns // of users who are given broadcasts

	log     *slog.Logger
	deliver *delivery
	metrics metrics
}

type budgetKey struct {
	app  chat.AppID
	kind chat.ChannelType
}

// New makes a courier. Its OnCommit must be given to the store, and Run must be
// running before the first send.
func New(o Options) *Courier {
	c := &Courier{
		store:   o.Store,
		archive: o.Archive,
		users:   o.Users,
		open:    o.Open,
		rooms:   o.Rooms,
		intake:  room.NewIntake(o.Now),
		now:     o.Now,
		budgets: budget.NewBook[budgetKey](o.Now),
		metrics: newMetrics(o.Metrics),
		turns:   turn.New(),
		owners:  turn.New(),
		telling: turn.New(),
		began:   o.Now().UnixMilli(),
		log:     logger(o.Logger),

		sessions: o.Sessions, visits: turn.New(), castBudgets: budget.NewBook[castKey](o.Now),
	}
	c.casts.init()
	c.claims.open = map[[16]byte]*Claim{}
	c.gone = gone{users: map[room.Key][]string{}, more: make(chan struct{}, 1)}
	o.Rooms.Watch(c)
	c.deliver = newDelivery(o.Rooms, o.Sessions, o.Reach, &c.metrics)
	return c
}

// A Send is a request to send one message.
type Send struct {
	Message *chat.Message // complete but for Flags
	Targets []string      // user or channel ids as given, duplicates allowed
	Claim   *Claim        // when the request came with an idempotency key

	// stream is set when the message is the first chunk of one: its content was made
	// of parts that were checked.
	stream *chat.Stream
}

// A Sent is the outcome of a Send.
type Sent struct {
	Placed   []Placement // in request order, without duplicates and those left out
	SentAt   int64       // Unix ms
	Left     int         // how many recipients were left out because of blocks
	Repeated bool        // whether this is the answer to an earlier, equal request
	Shed     []Shed      // open channels that did not take the message
}

// A Placement is a message's UID for one target.
type Placement struct {
	Target string
	UID    chat.UID
}

// ShedIntake is the reason of a channel that was sent more than its budgets take.
const ShedIntake = "intake"

// A Shed is a channel that did not take a message, and why.
type Shed struct {
	Channel string
	Reason  string
}

// rule is what differs between the channel types that can be sent to.
type rule struct {
	field      string // of the targets, as requests name it
	maxTargets int
	limit      func(*chat.Settings) chat.Rate
}

var rules = map[chat.ChannelType]rule{
	chat.Direct: {"toUserIds", chat.MaxDirectRecipients, func(s *chat.Settings) chat.Rate { return s.LimitDirect }},
	chat.System: {"toUserIds", chat.MaxSystemRecipients, func(s *chat.Settings) chat.Rate { return s.LimitSystem }},
	chat.Open:   {"toChannelIds", chat.MaxOpenChannels, func(s *chat.Settings) chat.Rate { return s.LimitOpen }},
}

// Send checks the request, admits it, and makes it durable for all its targets
// or none. When it returns without error, nothing that happens to this process
// can take the message back.
func (c *Courier) Send(ctx context.Context, app *chat.App, s *Send) (*Sent, error) {
	sent, err := c.send(ctx, app, s)
	s.Claim.settle(err)
	c.metrics.sent(s.Message, sent, err)
	return sent, err
}

func (c *Courier) send(ctx context.Context, app *chat.App, s *Send) (*Sent, error) {
	m := s.Message
	r, targets, err := targetsOf(s)
	if err != nil {
		return nil, err
	}
	if s.Claim != nil && s.Claim.prior != nil {
		return repeat(m, s.Claim.prior, targets), nil
	}
	to, left, err := c.vet(ctx, app, s, r, targets)
	if err != nil {
		return nil, err
	}
	// Clients have a limit of their own, kept where their connection is. Who is
	// left out counts too: a limit is about what was asked for.
	budget, limit := budgetKey{app.ID, m.ChannelType}, chat.Rate{}
	if m.Origin == chat.FromServer {
		limit = r.limit(&app.Settings)
	}
	if err := c.budgets.Take(budget, limit, len(targets), r.field); err != nil {
		return nil, err
	}

	if m.ChannelType == chat.Open {
		if to, left, err = c.admit(ctx, app, m, targets); err != nil {
			return nil, err
		}
	}
	if len(to) == 0 && s.Claim == nil {
		return outcome(m, c.now().UnixMilli(), nil, left), nil
	}
	a := &store.Append{
		Message: m,
		Targets: to,
		History: m.Persist && app.Settings.History,
		Left:    left,
	}
	if s.stream.Open() {
		a.States = begun(s.stream, a.History)
	}
	if s.Claim != nil {
		s.Claim.once.Left = left
	}
	s.Claim.carry(a)
	if err := c.store.Append(ctx, a); err != nil {
		if chat.KindOf(err) == chat.KindUnavailable {
			// Nothing was kept. Without this, retries against a full disk would
			// end in a rate limit.
			c.budgets.Return(budget, limit, len(targets))
		}
		return nil, err
	}
	if m.ChannelType == chat.Open {
		for _, t := range to {
			c.open.TouchOpenChannel(app.ID, t)
		}
	}
	return placed(m, a.Placed.First, targets, left), nil
}

// Vet checks a request as Send does, and says to whom it would go and who would be
// left out because of blocks. Nothing is sent, and it costs nothing.
func (c *Courier) Vet(ctx context.Context, app *chat.App, s *Send) (to, left []string, err error) {
	r, targets, err := targetsOf(s)
	if err != nil {
		return nil, nil, err
	}
	return c.vet(ctx, app, s, r, targets)
}

// targetsOf are the request's targets, checked, and the rules about them.
func targetsOf(s *Send) (rule, []string, error) {
	r, ok := rules[s.Message.ChannelType]
	if !ok {
		return r, nil, chat.Invalidf("channelType", "messages cannot be sent to channels of type %s", s.Message.ChannelType)
	}
	targets, err := checkTargets(r, s.Targets)
	return r, targets, err
}

// vet is every rule about a request but what it costs.
func (c *Courier) vet(ctx context.Context, app *chat.App, s *Send, r rule, targets []string) (to, left []string, err error) {
	m := s.Message
	if err := check(m, &app.Settings, s.stream != nil); err != nil {
		return nil, nil, err
	}
	if app.Settings.RegisteredUsersOnly {
		if err := c.checkRegistered(ctx, app, m, r, targets); err != nil {
			return nil, nil, err
		}
	}
	if m.Origin == chat.FromClient {
		if err := c.checkClient(ctx, app, m, targets); err != nil {
			return nil, nil, err
		}
	}
	if m.ChannelType == chat.Open {
		if err := c.checkOpen(ctx, app, m, targets); err != nil {
			return nil, nil, err
		}
	}
	return c.leaveOut(ctx, app, m, targets)
}

// checkClient says whether the sender's own clients may send this. The app's
// backend may always.
func (c *Courier) checkClient(ctx context.Context, app *chat.App, m *chat.Message, targets []string) error {
	if err := c.users.CheckSender(ctx, app, m.From, m.ChannelType); err != nil {
		return err
	}
	if m.ChannelType != chat.Direct {
		return nil
	}
	// One way: who blocks somebody can still write to them.
	for _, t := range targets {
		on, err := c.store.Blocked(ctx, app.ID, t, []string{m.From})
		if err != nil {
			return err
		}
		if len(on) > 0 {
			return chat.Fail(chat.KindBlocked, "the recipient has blocked you")
		}
	}
	return nil
}

// leaveOut parts the targets into those to send to and those between whom and
// the sender there is a block, either way, when the message asks for that. Both
// keep the request's order.
func (c *Courier) leaveOut(ctx context.Context, app *chat.App, m *chat.Message, targets []string) (to, left []string, err error) {
	if !m.VerifyBlocklist || m.ChannelType != chat.Direct {
		return targets, nil, nil
	}
	mine, err := c.store.Blocked(ctx, app.ID, m.From, targets)
	if err != nil {
		return nil, nil, err
	}
	theirs, err := c.store.Blockers(ctx, app.ID, m.From, targets)
	if err != nil {
		return nil, nil, err
	}
	if len(mine)+len(theirs) == 0 {
		return targets, nil, nil
	}
	blocked := make(map[string]struct{}, len(mine)+len(theirs))
	for _, ids := range [...][]string{mine, theirs} {
		for _, id := range ids {
			blocked[id] = struct{}{}
		}
	}
	to = make([]string, 0, len(targets)-len(blocked))
	left = make([]string, 0, len(blocked))
	for _, t := range targets {
		if _, ok := blocked[t]; ok {
			left = append(left, t)
		} else {
			to = append(to, t)
		}
	}
	return to, left, nil
}

// check is every rule about a message that does not depend on where it goes.
func check(m *chat.Message, s *chat.Settings, made bool) error {
	err := error(nil)
	if made {
		err = m.CheckMade(s)
	} else {
		err = m.Check(s)
	}
	if err != nil {
		return err
	}
	// With push disabled its settings are ignored unread.
	if m.Push.Disabled {
		m.Push.Ext = ""
	}
	if m.Push.Ext != "" {
		if _, err := push.ParseExt("pushExt", m.Push.Ext); err != nil {
			return err
		}
	}
	return nil
}

// checkTargets says whether the ids may be sent to, and drops duplicates: the
// first counts.
func checkTargets(r rule, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return nil, chat.Invalid(r.field, "is required")
	}
	if len(ids) > r.maxTargets {
		return nil, chat.Invalidf(r.field, "at most %d items, got %d", r.maxTargets, len(ids))
	}
	for i, id := range ids {
		if err := chat.CheckID("", id); err != nil {
			return nil, chat.CheckID(r.field+"["+strconv.Itoa(i)+"]", id)
		}
	}
	return unique(ids), nil
}

// unique drops all but the first of equal ids. Few ids are compared with each
// other, which needs no map.
func unique(ids []string) []string {
	if len(ids) == 1 {
		return ids
	}
	out := make([]string, 0, len(ids))
	seen := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		if _, dup := seen[id]; !dup {
			seen[id] = struct{}{}
			out = append(out, id)
		}
	}
	return out
}

func (c *Courier) checkRegistered(ctx context.Context, app *chat.App, m *chat.Message, r rule, targets []string) error {
	if err := c.users.CheckRegistered(ctx, app, "fromUserId", m.From); err != nil {
		return err
	}
	if m.ChannelType == chat.Open {
		return nil
	}
	return c.users.CheckRegistered(ctx, app, r.field, targets...)
}

// placed makes the outcome from the first UID, giving the next to each target
// that was not left out.
func placed(m *chat.Message, first chat.UID, targets, left []string) *Sent {
	list := make([]Placement, 0, len(targets)-len(left))
	skip := left
	for _, t := range targets {
		if len(skip) > 0 && t == skip[0] {
			skip = skip[1:]
			continue
		}
		list = append(list, Placement{t, first.Plus(len(list))})
	}
	return outcome(m, first.Millis(), list, left)
}

// outcome says of those left out what they are: of users there was a block, and
// open channels had no room for the message.
func outcome(m *chat.Message, at int64, list []Placement, left []string) *Sent {
	sent := &Sent{SentAt: at, Placed: list}
	if m.ChannelType != chat.Open {
		sent.Left = len(left)
		return sent
	}
	for _, channel := range left {
		sent.Shed = append(sent.Shed, Shed{channel, ShedIntake})
	}
	return sent
}

func repeat(m *chat.Message, prior *store.Once, targets []string) *Sent {
	sent := placed(m, prior.First, targets, prior.Left)
	sent.Repeated = true
	return sent
}

// OnCommit is to be called by the store for every commit.
func (c *Courier) OnCommit(commit *store.Commit) {
	c.casts.note(commit, c.now().UnixMilli())
	c.deliver.enqueue(commit)
}

// Run delivers what was committed until ctx ends and all of it is delivered.
func (c *Courier) Run(ctx context.Context) { c.deliver.run(ctx) }
