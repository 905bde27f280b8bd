package gateway

import (
	"context"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

// changeData is what calls that change a message say, each some of it.
type changeData struct {
	uid           string
	isDelete      bool
	extra         string
	disablePush   bool
	disableUpdate bool
	content       string
	set           map[string]string
	keys          []string
}

var changeUID = fields.Text("messageUID", func(d *changeData) *string { return &d.uid })

var recallFields = fields.NewTable(
	changeUID,
	fields.Switch("isDelete", func(d *changeData) *bool { return &d.isDelete }),
	fields.Text("extra", func(d *changeData) *string { return &d.extra }),
	fields.Switch("disablePush", func(d *changeData) *bool { return &d.disablePush }),
	fields.Switch("disableUpdateLastMsg", func(d *changeData) *bool { return &d.disableUpdate }),
)

// subject reads a call and gives the message that it names.
func (c *conn) subject(data []byte, t *fields.Table[changeData]) (app *chat.App, d *changeData, s courier.Subject, err error) {
	if app = c.g.opts.Directory.AppByID(c.app); app == nil {
		return nil, nil, s, chat.Fail(chat.KindInternal, "app is gone")
	}
	d = &changeData{}
	if err := t.Decode(data, d); err != nil {
		return nil, nil, s, err
	}
	s.From = c.user
	if s.UID, err = parseUID("messageUID", d.uid); err != nil {
		return nil, nil, s, err
	}
	return app, d, s, nil
}

func parseUID(field, text string) (chat.UID, error) {
	if text == "" {
		return chat.UID{}, chat.Invalid(field, "is required")
	}
	uid, err := chat.ParseUID(text)
	if err != nil {
		return uid, chat.Invalid(field, err.Error())
	}
	return uid, nil
}

// recallMessage is the call message.recall.
func (c *conn) recallMessage(ctx context.Context, data []byte) ([]byte, error) {
	app, d, s, err := c.subject(data, recallFields)
	if err != nil {
		return nil, err
	}
	at, err := c.g.courier.Recall(ctx, app, &courier.RecallRequest{
		Subject: s, Delete: d.isDelete, Extra: d.extra, DisablePush: d.disablePush, DisableUpdateLast: d.disableUpdate,
	})
	if err != nil {
		return nil, err
	}
	return append(strconv.AppendInt([]byte(`{"recalledAt":`), at, 10), '}'), nil
}

var updateFields = fields.NewTable(
	changeUID,
	fields.Text("content", func(d *changeData) *string { return &d.content }),
)

// updateMessage is the call message.update.
func (c *conn) updateMessage(ctx context.Context, data []byte) ([]byte, error) {
	app, d, s, err := c.subject(data, updateFields)
	if err != nil {
		return nil, err
	}
	if n := len(d.content); n > chat.MaxContent {
		return nil, &chat.Error{Kind: chat.KindContentTooLarge, Field: "content", Rule: "at most " + strconv.Itoa(chat.MaxContent) + " bytes, got " + strconv.Itoa(n)}
	}
	at, err := c.g.courier.Update(ctx, app, &s, d.content)
	if err != nil {
		return nil, err
	}
	return append(strconv.AppendInt([]byte(`{"updatedAt":`), at, 10), '}'), nil
}
