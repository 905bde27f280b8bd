package serverapi

import (
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/fields"
)

type contentRequest struct {
	subjectRequest
	content string
}

// The page modify-private calls the recipient targetId, every other page
// channelId.
var contentFields = fields.NewTable(
	fields.Text("fromUserId", func(q *contentRequest) *string { return &q.From }),
	fields.Text("targetId", func(q *contentRequest) *string { return &q.Channel }),
	fields.Text("channelId", func(q *contentRequest) *string { return &q.Channel }),
	fields.Text("messageUID", func(q *contentRequest) *string { return &q.uid }),
	fields.Text("messageId", func(q *contentRequest) *string { return &q.uid }),
	fields.Text("content", func(q *contentRequest) *string { return &q.content }),
)

func updateDirect(c *call) error {
	var q contentRequest
	if err := decode(c, contentFields, &q); err != nil {
		return err
	}
	if err := chat.CheckID("fromUserId", q.From); err != nil {
		return err
	}
	if err := chat.CheckID("targetId", q.Channel); err != nil {
		return err
	}
	subject, err := q.read(c.id)
	if err != nil {
		return err
	}
	if q.content == "" {
		return chat.Invalid("content", "is required")
	}
	if err := c.spend(); err != nil {
		return err
	}
	subject.Type = chat.Direct
	if _, err := c.api.courier.Update(c.r.Context(), c.app, subject, q.content); err != nil {
		return err
	}
	c.out = append(c.out, `{"code":0}`...)
	return nil
}
