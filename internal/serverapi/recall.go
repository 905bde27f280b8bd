package serverapi

import (
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// subjectRequest is how requests name a message that was sent before.
type subjectRequest struct {
	uid string
	courier.Subject
}

// read gives what is named.
func (q *subjectRequest) read(requestID string) (*courier.Subject, error) {
	if q.uid == "" {
		return nil, chat.Invalid("messageUID", "is required")
	}
	var err error
	if q.UID, err = chat.ParseUID(q.uid); err != nil {
		return nil, chat.Invalid("messageUID", err.Error())
	}
	q.RequestID = requestID
	return &q.Subject, nil
}

// in is read for calls that also say by whom, in field, and in which channel.
func (q *subjectRequest) in(channelType int, field, requestID string) (*courier.Subject, error) {
	if err := chat.CheckID(field, q.From); err != nil {
		return nil, err
	}
	if channelType == 0 {
		return nil, chat.Invalid("channelType", "is required")
	}
	q.Type = chat.ChannelType(channelType)
	if err := chat.CheckID("channelId", q.Channel); err != nil {
		return nil, err
	}
	return q.read(requestID)
}

type recallRequest struct {
	subjectRequest
	channelType int
	sub         string
	sentAt      int64

	admin, del, disablePush, disableUpdate bool
	extra                                  string
}

var recallFields = fields.NewTable(
	fields.Text("fromUserId", func(q *recallRequest) *string { return &q.From }),
	fields.Field[recallRequest]{Name: "channelType", Read: func(r *fields.Reader, q *recallRequest) (err error) {
		q.channelType, err = r.IntOf(int64(chat.Direct), int64(chat.Open), int64(chat.System))
		return err
	}},
	fields.Text("channelId", func(q *recallRequest) *string { return &q.Channel }),
	fields.Text("subchannelId", func(q *recallRequest) *string { return &q.sub }),
	fields.Text("messageUID", func(q *recallRequest) *string { return &q.uid }),
	fields.Text("messageId", func(q *recallRequest) *string { return &q.uid }),
	// A hint where to look, which a UID does not need.
	fields.Field[recallRequest]{Name: "sentAt", Read: func(r *fields.Reader, q *recallRequest) (err error) {
		q.sentAt, err = r.Int()
		return err
	}},
	fields.Switch("isAdmin", func(q *recallRequest) *bool { return &q.admin }),
	fields.Switch("isDelete", func(q *recallRequest) *bool { return &q.del }),
	fields.Switch("disablePush", func(q *recallRequest) *bool { return &q.disablePush }),
	fields.Text("extra", func(q *recallRequest) *string { return &q.extra }),
	fields.Switch("disableUpdateLastMsg", func(q *recallRequest) *bool { return &q.disableUpdate }),
)

// recallMessage is deleteMessage of the page msgrecall.
func recallMessage(c *call) error {
	var q recallRequest
	if err := decode(c, recallFields, &q); err != nil {
		return err
	}
	subject, err := q.in(q.channelType, "fromUserId", c.id)
	if err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if _, err := c.api.courier.Recall(c.r.Context(), c.app, &courier.RecallRequest{
		Subject: *subject, Admin: q.admin, Delete: q.del, Extra: q.extra,
		DisablePush: q.disablePush, DisableUpdateLast: q.disableUpdate,
	}); err != nil {
		return err
	}
	c.out = append(c.out, `{"code":0}`...)
	return nil
}
