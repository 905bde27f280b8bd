package serverapi

import (
	"context"
	"strconv"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// OpenChannels is what a backend does with open channels.
type OpenChannels interface {
	CreateOpen(ctx context.Context, app *chat.App, q *courier.OpenSpec) error
	OpenNow(ctx context.Context, app *chat.App, id string) (*chat.OpenChannel, int, error)
	SetOpenEnding(ctx context.Context, app *chat.App, q *courier.OpenSpec) error
	DestroyOpen(ctx context.Context, app *chat.App, ids []string) error
	KeepAlive(ctx context.Context, app *chat.App, ids []string, on bool) error
	KeptAlive(ctx context.Context, app *chat.App) ([]string, error)

	Participants(ctx context.Context, app *chat.App, id string, limit int, newestFirst bool) ([]courier.Participant, int, error)
	Here(ctx context.Context, app *chat.App, id string, users []string) ([]bool, error)

	ChangeOpenList(ctx context.Context, app *chat.App, q *courier.OpenListChange) error
	OpenListed(ctx context.Context, app *chat.App, list courier.OpenList, channel string) ([]courier.OpenListed, error)
	FreezeOpen(ctx context.Context, app *chat.App, channel string, on bool, n courier.Notice) error
	OpenFrozen(ctx context.Context, app *chat.App, channel string) (bool, error)
	FrozenOpen(ctx context.Context, app *chat.App, skip, limit int) ([]string, error)

	BroadcastOpen(ctx context.Context, app *chat.App, s *courier.Send) (*courier.Sent, error)
}

// createFields are those of the page open-channel/create, endingFields those of
// open-channel/set-destroy-type.
var (
	specChannel = fields.Text("channelId", func(q *courier.OpenSpec) *string { return &q.Channel })
	specEnding  = fields.Field[courier.OpenSpec]{Name: "destroyType", Read: func(r *fields.Reader, q *courier.OpenSpec) error {
		n, err := r.IntOf(int64(chat.EndsIdle), int64(chat.EndsFixed))
		ends := chat.Ending(n)
		q.Ends = &ends
		return err
	}}
	specTTL = fields.Field[courier.OpenSpec]{Name: "ttlMinutes", Read: func(r *fields.Reader, q *courier.OpenSpec) error {
		n, err := r.Int()
		q.Minutes = &n
		return err
	}}

	createFields = fields.NewTable(specChannel, specEnding, specTTL,
		fields.Field[courier.OpenSpec]{Name: "shouldFreeze", Read: func(r *fields.Reader, q *courier.OpenSpec) error {
			on, err := r.Switch()
			q.Frozen = &on
			return err
		}},
		fields.Texts("allowedSendersList", courier.MaxOpenAllowed, func(q *courier.OpenSpec) *[]string { return &q.Allowed }),
		fields.Text("metadataOwnerId", func(q *courier.OpenSpec) *string { return &q.Owner }),
		fields.Field[courier.OpenSpec]{Name: "metadata", Read: func(r *fields.Reader, q *courier.OpenSpec) error {
			q.Pairs = map[string]string{}
			return r.Map(func(name, value string) { q.Pairs[name] = value })
		}},
	)
	endingFields = fields.NewTable(specChannel, specEnding, specTTL)
)

func createOpen(c *call) error {
	return specify(c, createFields, c.api.courier.CreateOpen)
}

func setOpenDestroyType(c *call) error {
	return specify(c, endingFields, c.api.courier.SetOpenEnding)
}

func specify(c *call, t *fields.Table[courier.OpenSpec], verb func(context.Context, *chat.App, *courier.OpenSpec) error) error {
	var q courier.OpenSpec
	if err := decode(c, t, &q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := verb(c.r.Context(), c.app, &q); err != nil {
		return err
	}
	c.done()
	return nil
}

// openRequest holds the fields of the other operations about open channels.
type openRequest struct {
	channel  string
	channels []string
	names    []string // users or types

	minutes     int64
	hasDuration bool
	notice      courier.Notice

	size  int64
	order int
}

const usualParticipants = 500

var (
	openChannelID = fields.Text("channelId", func(q *openRequest) *string { return &q.channel })

	openChannelIDs = fields.Texts("channelIds", courier.MaxOpenNamed, func(q *openRequest) *[]string { return &q.channels })

	openOnly          = fields.NewTable(openChannelID)
	destroyFields     = fields.NewTable(openChannelIDs)
	keepAliveFields   = fields.NewTable(openChannelID, openChannelIDs)
	participantFields = fields.NewTable(openChannelID,
		wholeNumber("pageSize", func(q *openRequest) *int64 { return &q.size }),
		fields.Field[openRequest]{Name: "order", Read: func(r *fields.Reader, q *openRequest) (err error) {
			q.order, err = r.IntOf(1, 2)
			return err
		}},
	)
	existFields = fields.NewTable(openChannelID,
		fields.Texts("participantIds", courier.MaxOpenAsked, func(q *openRequest) *[]string { return &q.names }),
	)
	openNotify = fields.Switch("needNotify", func(q *openRequest) *bool { return &q.notice.Wanted })
	openExtra  = fields.Text("extra", func(q *openRequest) *string { return &q.notice.Extra })

	freezeFields = fields.NewTable(openChannelID, openNotify, openExtra)
	noFields     = fields.NewTable[openRequest]()
)

// about reads a call about open channels and counts it.
func (c *call) about(t *fields.Table[openRequest], q *openRequest) error {
	if err := decode(c, t, q); err != nil {
		return err
	}
	return c.spend()
}

func getOpen(c *call) error {
	var q openRequest
	if err := c.about(openOnly, &q); err != nil {
		return err
	}
	ch, participants, err := c.api.courier.OpenNow(c.r.Context(), c.app, q.channel)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"channelId":`...)
	b = appendQuoted(b, ch.ID)
	b = append(b, `,"createdAt":`...)
	b = strconv.AppendInt(b, ch.CreatedAt, 10)
	b = append(b, `,"participantCount":`...)
	b = strconv.AppendInt(b, int64(participants), 10)
	b = append(b, `,"destroyType":`...)
	b = strconv.AppendInt(b, int64(ch.Ends), 10)
	b = append(b, `,"ttlMinutes":`...)
	b = strconv.AppendInt(b, int64(ch.TTL/time.Minute), 10)
	b = append(b, `,"isFrozen":`...)
	b = strconv.AppendBool(b, ch.Frozen)
	c.out = append(b, `}}`...)
	return nil
}

// several are the channels that a call names in either way.
func (q *openRequest) several() []string {
	if q.channel != "" {
		return append(q.channels, q.channel)
	}
	return q.channels
}

func destroyOpen(c *call) error {
	return severally(c, destroyFields, c.api.courier.DestroyOpen)
}

func keepAlive(on bool) func(*call) error {
	return func(c *call) error {
		return severally(c, keepAliveFields, func(ctx context.Context, app *chat.App, ids []string) error {
			return c.api.courier.KeepAlive(ctx, app, ids, on)
		})
	}
}

func severally(c *call, t *fields.Table[openRequest], verb func(context.Context, *chat.App, []string) error) error {
	var q openRequest
	if err := c.about(t, &q); err != nil {
		return err
	}
	if err := verb(c.r.Context(), c.app, q.several()); err != nil {
		return err
	}
	c.done()
	return nil
}

func getKeptAlive(c *call) error {
	var q openRequest
	if err := c.about(noFields, &q); err != nil {
		return err
	}
	list, err := c.api.courier.KeptAlive(c.r.Context(), c.app)
	if err != nil {
		return err
	}
	c.names("channelIds", list)
	return nil
}

// names leaves the answer that is a list of names.
func (c *call) names(key string, list []string) {
	b := append(c.out, `{"code":0,"result":{"`...)
	b = append(append(b, key...), `":[`...)
	for i, name := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, name)
	}
	c.out = append(b, `]}}`...)
}

func listParticipants(c *call) error {
	q := openRequest{size: usualParticipants, order: 1}
	if err := decode(c, participantFields, &q); err != nil {
		return err
	}
	if q.size < 1 || q.size > usualParticipants {
		return chat.Invalidf("pageSize", "from 1 to %d, got %d", usualParticipants, q.size)
	}
	if err := c.spend(); err != nil {
		return err
	}
	list, total, err := c.api.courier.Participants(c.r.Context(), c.app, q.channel, int(q.size), q.order == 2)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"total":`...)
	b = strconv.AppendInt(b, int64(total), 10)
	b = append(b, `,"participants":[`...)
	for i, p := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendParticipant(b, p.User, "createdAt", p.At)
	}
	c.out = append(b, `]}}`...)
	return nil
}

// appendParticipant appends a user and a time in the form that people read, which
// is that of the platform.
func appendParticipant(b []byte, user, key string, at int64) []byte {
	b = append(b, `{"participantId":`...)
	b = appendQuoted(b, user)
	b = append(append(append(b, `,"`...), key...), `":"`...)
	b = time.UnixMilli(at).UTC().AppendFormat(b, time.DateTime)
	return append(b, `"}`...)
}

func checkParticipants(c *call) error {
	var q openRequest
	if err := c.about(existFields, &q); err != nil {
		return err
	}
	here, err := c.api.courier.Here(c.r.Context(), c.app, q.channel, q.names)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"participants":[`...)
	for i, user := range q.names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"participantId":`...)
		b = appendQuoted(b, user)
		b = append(b, `,"isInOpenChannel":`...)
		if here[i] {
			b = append(b, `1}`...)
		} else {
			b = append(b, `0}`...)
		}
	}
	c.out = append(b, `]}}`...)
	return nil
}

// An openListForm says how calls about a list are made, and answered.
type openListForm struct {
	key   string // of the list in answers, and of what goes into it in calls
	item  string
	until string // of a time, where entries have one
	ofApp bool   // no channel is named
	quiet bool   // nobody is told
}

var openListForms = map[courier.OpenList]openListForm{
	courier.MutedHere:       {key: "mutedParticipants", item: "participantIds", until: "muteExpiresAt"},
	courier.BannedHere:      {key: "bannedParticipants", item: "participantIds", until: "banExpiresAt"},
	courier.MutedInAll:      {key: "mutedParticipants", item: "participantIds", until: "muteExpiresAt", ofApp: true},
	courier.AllowedSenders:  {key: "participantIds", item: "participantIds"},
	courier.PrioritySenders: {key: "participantIds", item: "participantIds", quiet: true},
	courier.PriorityTypes:   {key: "messageTypes", item: "messageTypes", ofApp: true, quiet: true},
	courier.LowTypes:        {key: "messageTypes", item: "messageTypes", ofApp: true, quiet: true},
}

// table are the fields of a change of the list.
func (f *openListForm) table(add bool) *fields.Table[openRequest] {
	list := []fields.Field[openRequest]{
		fields.Texts(f.item, courier.MaxOpenListed, func(q *openRequest) *[]string { return &q.names }),
	}
	if !f.ofApp {
		list = append(list, openChannelID)
	}
	if !f.quiet {
		list = append(list, openNotify, openExtra)
	}
	if add && f.until != "" {
		list = append(list, fields.Field[openRequest]{Name: "durationMinutes", Read: func(r *fields.Reader, q *openRequest) (err error) {
			q.minutes, err = r.Int()
			q.hasDuration = true
			return err
		}})
	}
	return fields.NewTable(list...)
}

func addTo(list courier.OpenList) func(*call) error      { return changeOpenList(list, true) }
func removeFrom(list courier.OpenList) func(*call) error { return changeOpenList(list, false) }

func changeOpenList(list courier.OpenList, add bool) func(*call) error {
	form := openListForms[list]
	t := form.table(add)
	return func(c *call) error {
		var q openRequest
		if err := decode(c, t, &q); err != nil {
			return err
		}
		if add && form.until != "" && !q.hasDuration {
			return chat.Invalid("durationMinutes", "is required")
		}
		if err := c.spend(); err != nil {
			return err
		}
		if err := c.api.courier.ChangeOpenList(c.r.Context(), c.app, &courier.OpenListChange{
			List: list, Channel: q.channel, Names: q.names, Add: add, Minutes: q.minutes, Notice: q.notice,
		}); err != nil {
			return err
		}
		c.done()
		return nil
	}
}

func getListed(which courier.OpenList) func(*call) error {
	form, t := openListForms[which], openOnly
	if form.ofApp {
		t = noFields
	}
	return func(c *call) error {
		var q openRequest
		if err := c.about(t, &q); err != nil {
			return err
		}
		list, err := c.api.courier.OpenListed(c.r.Context(), c.app, which, q.channel)
		if err != nil {
			return err
		}
		if form.until == "" {
			names := make([]string, len(list))
			for i, e := range list {
				names[i] = e.Name
			}
			c.names(form.key, names)
			return nil
		}
		b := append(c.out, `{"code":0,"result":{"`...)
		b = append(append(b, form.key...), `":[`...)
		for i, e := range list {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendParticipant(b, e.Name, form.until, e.Until)
		}
		c.out = append(b, `]}}`...)
		return nil
	}
}

func freeze(on bool) func(*call) error {
	return func(c *call) error {
		var q openRequest
		if err := c.about(freezeFields, &q); err != nil {
			return err
		}
		if err := c.api.courier.FreezeOpen(c.r.Context(), c.app, q.channel, on, q.notice); err != nil {
			return err
		}
		c.done()
		return nil
	}
}

func listFrozen(c *call) error {
	skip, limit, err := readPage(c)
	if err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	list, err := c.api.courier.FrozenOpen(c.r.Context(), c.app, skip, limit)
	if err != nil {
		return err
	}
	c.names("channelIds", list)
	return nil
}

func checkFrozen(c *call) error {
	var q openRequest
	if err := c.about(openOnly, &q); err != nil {
		return err
	}
	frozen, err := c.api.courier.OpenFrozen(c.r.Context(), c.app, q.channel)
	if err != nil {
		return err
	}
	if frozen {
		c.out = append(c.out, `{"code":0,"result":{"status":1}}`...)
	} else {
		c.out = append(c.out, `{"code":0,"result":{"status":0}}`...)
	}
	return nil
}

// broadcastOpenFields are those of the page message/send-open-channel-broadcast.
var broadcastOpenFields = fields.NewTable(fromUserID, messageType, content, isEchoToSender, isSyncSender)

func broadcastOpen(c *call) error {
	q := &c.sendRequest
	q.m = &chat.Message{App: c.app.ID, ChannelType: chat.Open, Origin: chat.FromServer, RequestID: c.id}
	if err := decode(c, broadcastOpenFields, q); err != nil {
		return err
	}
	sent, err := c.api.courier.BroadcastOpen(c.r.Context(), c.app, &courier.Send{Message: q.m, Claim: c.claim})
	if err != nil {
		return err
	}
	if sent.Repeated {
		c.w.Header()["Idempotency-Replayed"] = replayed
	}
	c.done()
	return nil
}
