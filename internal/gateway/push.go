package gateway

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/fields"
)

// The calls about push: what this device has registered, and whether its user
// looks at it.

var pushFields = fields.NewTable(
	fields.Text("provider", func(r *chat.PushRegistration) *string { return &r.Provider }),
	fields.TextOrObject("token", func(r *chat.PushRegistration) (*string, *bool) { return &r.Token, &r.TokenObject }),
	fields.Text("bundle", func(r *chat.PushRegistration) *string { return &r.Bundle }),
	fields.Text("package", func(r *chat.PushRegistration) *string { return &r.Package }),
	fields.Text("environment", func(r *chat.PushRegistration) *string { return &r.Environment }),
	fields.Text("language", func(r *chat.PushRegistration) *string { return &r.Language }),
	fields.Switch("hideDetails", func(r *chat.PushRegistration) *bool { return &r.HideDetails }),
	fields.Text("timezone", func(r *chat.PushRegistration) *string { return &r.Zone }),
	fields.Object("quietHours", fields.NewTable(
		fields.Text("from", func(r *chat.PushRegistration) *string { return &r.From }),
		fields.Text("to", func(r *chat.PushRegistration) *string { return &r.To }),
	), func(r *chat.PushRegistration) *chat.PushRegistration {
		r.HasQuiet = true
		return r
	}),
)

// devicePush is the call device.push: without a token the device is registered no
// more.
func (c *conn) devicePush(ctx context.Context, data []byte) ([]byte, error) {
	app, err := c.appNow()
	if err != nil {
		return nil, err
	}
	r := chat.PushRegistration{DeviceID: c.device}
	if err := pushFields.Decode(data, &r); err != nil {
		return nil, err
	}
	if c.device == "" {
		return nil, chat.Invalid("deviceId", "this connection has none: give one in connect.data")
	}
	if r.Clears() {
		return []byte("{}"), c.g.opts.Directory.UnregisterPush(ctx, app, c.user, c.device)
	}
	return []byte("{}"), c.g.opts.Directory.RegisterPush(ctx, app, c.user, &r)
}

type stateData struct {
	background bool
	given      bool
}

var stateFields = fields.NewTable(
	fields.Field[stateData]{Name: "background", Read: func(r *fields.Reader, d *stateData) (err error) {
		d.given = true
		d.background, err = r.Switch()
		return err
	}},
)

// deviceState is the call device.state.
func (c *conn) deviceState(_ context.Context, data []byte) ([]byte, error) {
	var d stateData
	if err := stateFields.Decode(data, &d); err != nil {
		return nil, err
	}
	if !d.given {
		return nil, chat.Invalid("background", "is required")
	}
	c.setBackground(d.background)
	return []byte("{}"), nil
}

func (c *conn) setBackground(is bool) {
	c.mu.Lock()
	c.background = is
	c.mu.Unlock()
}

func (c *conn) inBackground() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.background
}

// Foreground reports whether the user has a session here that they look at: one
// that has not said it is in the background.
func (g *Gateway) Foreground(app chat.AppID, user string) bool {
	found := false
	g.sessions.each(userKey{app, user}, func(c *conn) { found = found || !c.inBackground() })
	return found
}
