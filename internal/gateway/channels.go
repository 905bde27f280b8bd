package gateway

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// Channels is what users set on their own channels.
type Channels interface {
	Pin(ctx context.Context, app *chat.App, q *courier.OwnChannel, pinned bool) (at int64, err error)
	SetLevel(ctx context.Context, app *chat.App, q *courier.OwnChannel, level chat.NotifyLevel) error
	Level(ctx context.Context, app *chat.App, q *courier.OwnChannel) (chat.NotifyLevel, error)
	SetQuietHours(ctx context.Context, app *chat.App, user, requestID string, quiet *chat.QuietHours) error
	Preferences(ctx context.Context, app *chat.App, user string) (*chat.Preferences, error)

	SetTags(ctx context.Context, app *chat.App, q *courier.TagRequest, tags []chat.Tag) error
	RemoveTags(ctx context.Context, app *chat.App, q *courier.TagRequest, ids []string) error
	TagChannels(ctx context.Context, app *chat.App, q *courier.TagRequest) error
	UntagChannels(ctx context.Context, app *chat.App, q *courier.TagRequest) error
	Tagged(ctx context.Context, app *chat.App, q *courier.TagRequest) ([]courier.TaggedChannel, error)
}

// appendOwn appends what an event says of the user's own settings.
func appendOwn(b []byte, e *chat.Event) []byte {
	if e.ChannelType != 0 {
		b = append(b, `,"channelType":"`...)
		b = append(b, e.ChannelType.String()...)
		b = append(b, '"')
	}
	channel, sub := chat.CutSubchannel(e.Channel)
	b = appendText(b, `,"channelId":`, channel)
	b = appendText(b, `,"subchannelId":`, sub)
	own := e.Own
	if own == nil {
		return b
	}
	switch own.Part {
	case chat.OwnRemoved:
		b = append(b, `,"removed":true,"upTo":"`...)
		b = append(e.UpTo.Append(b), '"')
	case chat.OwnPin:
		b = append(b, `,"pinned":`...)
		b = strconv.AppendBool(b, own.PinnedAt != 0)
		if own.PinnedAt != 0 {
			b = append(b, `,"pinnedAt":`...)
			b = strconv.AppendInt(b, own.PinnedAt, 10)
		}
	case chat.OwnLevel:
		b = append(b, `,"level":`...)
		b = strconv.AppendInt(b, int64(own.Level), 10)
	case chat.OwnQuiet:
		b = append(b, `,"quietHours":`...)
		b = appendQuietHours(b, own.Quiet)
	case chat.OwnTags:
		b = append(b, `,"channelTags":`...)
		b = appendTags(b, own.Tags)
	case chat.OwnTagged:
		b = appendTagged(b, own)
	}
	return b
}

// appendQuietHours appends quiet hours as the client sets them: none is an empty
// object.
func appendQuietHours(b []byte, q *chat.QuietHours) []byte {
	if q == nil {
		return append(b, "{}"...)
	}
	b = append(b, `{"from":"`...)
	b = append(b, chat.Clock(q.From)...)
	b = append(b, `","to":"`...)
	b = append(b, chat.Clock(q.To)...)
	b = append(b, `","timezone":`...)
	b = appendString(b, q.Zone)
	b = append(b, `,"level":`...)
	return append(strconv.AppendInt(b, int64(q.Level), 10), '}')
}

// channelData names a channel of the user, and what is to be set on it.
type channelData struct {
	channelType string
	channelID   string
	sub         string
	pinned      bool
	hasPinned   bool
	level       int
	hasLevel    bool
	quiet       quietData
}

// quietData are quiet hours, all of it empty for none.
type quietData struct {
	given          bool
	from, to, zone string
	level          int
}

var (
	channelTypeField = fields.Text("channelType", func(d *channelData) *string { return &d.channelType })
	channelIDField   = fields.Text("channelId", func(d *channelData) *string { return &d.channelID })

	pinFields = fields.NewTable(channelTypeField, channelIDField,
		fields.Field[channelData]{Name: "pinned", Read: func(r *fields.Reader, d *channelData) (err error) {
			d.hasPinned = true
			d.pinned, err = r.Switch()
			return err
		}},
	)

	quietFields = fields.NewTable(
		fields.Text("from", func(d *quietData) *string { return &d.from }),
		fields.Text("to", func(d *quietData) *string { return &d.to }),
		fields.Text("timezone", func(d *quietData) *string { return &d.zone }),
		fields.Field[quietData]{Name: "level", Read: func(r *fields.Reader, d *quietData) (err error) {
			d.level, err = r.IntOf(1, 2, 4, 5)
			return err
		}},
	)
	notificationFields = fields.NewTable(channelTypeField, channelIDField,
		fields.Text("subchannelId", func(d *channelData) *string { return &d.sub }),
		fields.Field[channelData]{Name: "level", Read: func(r *fields.Reader, d *channelData) (err error) {
			d.hasLevel = true
			d.level, err = r.IntOf(-1, 0, 1, 2, 4, 5)
			return err
		}},
		fields.Object("quietHours", quietFields, func(d *channelData) *quietData {
			d.quiet.given = true
			return &d.quiet
		}),
	)
)

// The channel types that stand in a user's list, and those that notify.
var (
	listTypes   = []chat.ChannelType{chat.Direct, chat.Group, chat.System}
	notifyTypes = []chat.ChannelType{chat.Direct, chat.Group, chat.System, chat.Community}
)

// own is the channel of a call, which must be one that stands in the user's list.
func (c *conn) own(d *channelData) (*courier.OwnChannel, error) { return c.ownOf(d, listTypes) }

// ownOf is the channel of a call, which must be of one of the types.
func (c *conn) ownOf(d *channelData, types []chat.ChannelType) (*courier.OwnChannel, error) {
	if d.channelType == "" {
		return nil, chat.Invalid("channelType", "is required")
	}
	t, _ := chat.ParseChannelType(d.channelType)
	if !slices.Contains(types, t) {
		rule := "one of "
		for _, t := range types {
			rule += t.String() + ", "
		}
		return nil, chat.Invalid("channelType", rule+"got "+fields.Quote(d.channelType))
	}
	return &courier.OwnChannel{User: c.user, Type: t, Channel: d.channelID, Sub: d.sub}, nil
}

// pinChannel is the call channel.pin.
func (c *conn) pinChannel(ctx context.Context, data []byte) ([]byte, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	var d channelData
	if err := pinFields.Decode(data, &d); err != nil {
		return nil, err
	}
	if !d.hasPinned {
		return nil, chat.Invalid("pinned", "is required")
	}
	q, err := c.own(&d)
	if err != nil {
		return nil, err
	}
	at, err := c.g.courier.Pin(ctx, app, q, d.pinned)
	if err != nil || at == 0 {
		return []byte("{}"), err
	}
	return append(strconv.AppendInt([]byte(`{"pinnedAt":`), at, 10), '}'), nil
}

// channelNotification is the call channel.notification: without a level it tells
// what is set.
func (c *conn) channelNotification(ctx context.Context, data []byte) ([]byte, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	var d channelData
	if err := notificationFields.Decode(data, &d); err != nil {
		return nil, err
	}
	if d.quiet.given || d.channelType == "" && d.channelID == "" && d.sub == "" && !d.hasLevel {
		return c.notifications(ctx, app, &d)
	}
	q, err := c.ownOf(&d, notifyTypes)
	if err != nil {
		return nil, err
	}
	level := chat.NotifyLevel(d.level)
	if d.hasLevel {
		err = c.g.courier.SetLevel(ctx, app, q, level)
	} else {
		level, err = c.g.courier.Level(ctx, app, q)
	}
	return append(strconv.AppendInt([]byte(`{"level":`), int64(level), 10), '}'), err
}

// notifications tells what the user has set for all channels, and sets quiet hours
// before when there are any in the call.
func (c *conn) notifications(ctx context.Context, app *chat.App, d *channelData) ([]byte, error) {
	if q := &d.quiet; q.given {
		if d.channelType != "" || d.channelID != "" || d.hasLevel {
			return nil, chat.Invalid("quietHours", "are of all channels: not together with a channel or a level")
		}
		var quiet *chat.QuietHours
		if *q != (quietData{given: true}) {
			var err error
			if quiet, err = chat.ParseQuietHours(q.from, q.to, q.zone, chat.NotifyLevel(q.level)); err != nil {
				return nil, fields.Within("quietHours", err)
			}
		}
		if err := c.g.courier.SetQuietHours(ctx, app, c.user, "", quiet); err != nil {
			return nil, err
		}
	}
	p, err := c.g.courier.Preferences(ctx, app, c.user)
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 128), `{"levels":{`...)
	for i, t := range slices.Sorted(maps.Keys(p.Levels)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, t.String())
		b = append(b, ':')
		b = strconv.AppendInt(b, int64(p.Levels[t]), 10)
	}
	b = append(b, `},"quietHours":`...)
	return append(appendQuietHours(b, p.Quiet), '}'), nil
}
