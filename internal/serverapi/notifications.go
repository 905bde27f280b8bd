package serverapi

import (
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// notificationRequest is about the level of a channel, or of a type of them.
type notificationRequest struct {
	courier.OwnChannel
	user        string // under the newer name
	channelType int
	level       *int
}

// levelField is the level under one of its two names.
func levelField(name string) fields.Field[notificationRequest] {
	return fields.Field[notificationRequest]{Name: name, Read: func(r *fields.Reader, q *notificationRequest) error {
		n, err := r.IntOf(-1, 0, 1, 2, 4, 5)
		switch {
		case err != nil:
			return err
		case q.level != nil && *q.level != n:
			return chat.Invalidf("", "noDisturbLevel and notificationLevel are the same, got %d and %d", *q.level, n)
		}
		q.level = &n
		return nil
	}}
}

var (
	// The pages call the user requestId, which has nothing to do with the id of
	// the call.
	notifiedField = fields.Text("requestId", func(q *notificationRequest) *string { return &q.User })
	notifiedUser  = fields.Text("userId", func(q *notificationRequest) *string { return &q.user })
	// It comes as text here and as a number elsewhere; either is taken.
	notifyTypeField = fields.Field[notificationRequest]{Name: "channelType", Read: func(r *fields.Reader, q *notificationRequest) (err error) {
		q.channelType, err = r.IntOf(int64(chat.Direct), int64(chat.Group), int64(chat.System), int64(chat.Community))
		return err
	}}
	notifyChannelField = fields.Text("channelId", func(q *notificationRequest) *string { return &q.Channel })
	notifySubField     = fields.Text("subchannelId", func(q *notificationRequest) *string { return &q.Sub })

	getTypeLevelFields = fields.NewTable(notifyTypeField, notifiedField, notifiedUser)
	setTypeLevelFields = fields.NewTable(notifyTypeField, notifiedField, notifiedUser,
		levelField("noDisturbLevel"), levelField("notificationLevel"))
	getLevelFields = fields.NewTable(notifyTypeField, notifiedField, notifiedUser, notifyChannelField, notifySubField)
	setLevelFields = fields.NewTable(notifyTypeField, notifiedField, notifiedUser, notifyChannelField, notifySubField,
		levelField("noDisturbLevel"), levelField("notificationLevel"))
)

// own is the channel that the request is about, or the type when it names none.
func (q *notificationRequest) own(requestID string, ofChannel bool) (*courier.OwnChannel, error) {
	if q.user != "" && q.User != "" && q.user != q.User {
		return nil, chat.Invalid("userId", "is the same as requestId, got two different users")
	}
	if q.user != "" {
		q.User = q.user
	}
	if err := chat.CheckID("requestId", q.User); err != nil {
		return nil, err
	}
	if q.channelType == 0 {
		return nil, chat.Invalid("channelType", "is required")
	}
	if ofChannel {
		if err := chat.CheckID("channelId", q.Channel); err != nil {
			return nil, err
		}
	}
	q.Type, q.RequestID = chat.ChannelType(q.channelType), requestID
	return &q.OwnChannel, nil
}

// The pages push/set-do-not-disturb-by-id and by-type, and those that get.
func setChannelPushNotification(c *call) error { return setLevel(c, setLevelFields, true) }
func getChannelPushNotification(c *call) error { return getLevel(c, getLevelFields, true) }
func setChannelTypeNotification(c *call) error { return setLevel(c, setTypeLevelFields, false) }
func getChannelTypeNotification(c *call) error { return getLevel(c, getTypeLevelFields, false) }

func setLevel(c *call, t *fields.Table[notificationRequest], ofChannel bool) error {
	var q notificationRequest
	if err := decode(c, t, &q); err != nil {
		return err
	}
	own, err := q.own(c.id, ofChannel)
	if err != nil {
		return err
	}
	if q.level == nil {
		return chat.Invalid("noDisturbLevel", "is required")
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.courier.SetLevel(c.r.Context(), c.app, own, chat.NotifyLevel(*q.level)); err != nil {
		return err
	}
	c.done()
	return nil
}

func getLevel(c *call, t *fields.Table[notificationRequest], ofChannel bool) error {
	var q notificationRequest
	if err := decode(c, t, &q); err != nil {
		return err
	}
	own, err := q.own(c.id, ofChannel)
	if err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	level, err := c.api.courier.Level(c.r.Context(), c.app, own)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"noDisturbLevel":`...)
	b = strconv.AppendInt(b, int64(level), 10)
	b = append(b, `,"notificationLevel":`...)
	b = strconv.AppendInt(b, int64(level), 10)
	c.out = append(b, `}}`...)
	return nil
}
