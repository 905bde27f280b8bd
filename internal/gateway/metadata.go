package gateway

import (
	"context"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/fields"
)

var setMetadataFields = fields.NewTable(
	changeUID,
	fields.Field[changeData]{Name: "metadata", Read: func(r *fields.Reader, d *changeData) error {
		d.set = map[string]string{}
		return r.Map(func(name, value string) { d.set[name] = value })
	}},
)

var removeMetadataFields = fields.NewTable(
	changeUID,
	fields.Texts("keys", chat.MaxMetadataPerCall, func(d *changeData) *[]string { return &d.keys }),
)

// setMetadata is the call message.metadata.set.
func (c *conn) setMetadata(ctx context.Context, data []byte) ([]byte, error) {
	return c.changeMetadata(ctx, data, setMetadataFields, func(d *changeData) error {
		if len(d.set) == 0 {
			return chat.Invalid("metadata", "is required")
		}
		if n := len(d.set); n > chat.MaxMetadataPerCall {
			return chat.Invalidf("metadata", "at most %d pairs, got %d", chat.MaxMetadataPerCall, n)
		}
		return chat.CheckMetadata("metadata", d.set)
	})
}

// removeMetadata is the call message.metadata.remove.
func (c *conn) removeMetadata(ctx context.Context, data []byte) ([]byte, error) {
	return c.changeMetadata(ctx, data, removeMetadataFields, func(d *changeData) error {
		if len(d.keys) == 0 {
			return chat.Invalid("keys", "is required")
		}
		return nil
	})
}

func (c *conn) changeMetadata(ctx context.Context, data []byte, t *fields.Table[changeData], check func(*changeData) error) ([]byte, error) {
	app, d, s, err := c.subject(data, t)
	if err != nil {
		return nil, err
	}
	if err := check(d); err != nil {
		return nil, err
	}
	// The user's other devices are to learn of it, so the user's timeline is told.
	at, err := c.g.courier.ChangeMetadata(ctx, app, &courier.MetadataRequest{Subject: s, Set: d.set, Remove: d.keys, Echo: true})
	if err != nil {
		return nil, err
	}
	return append(strconv.AppendInt([]byte(`{"updatedAt":`), at, 10), '}'), nil
}
