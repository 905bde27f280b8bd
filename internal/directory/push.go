package directory

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/parleychat/parley/internal/chat"
)

// RegisterPush registers a device of the user for push. Whoever had its token has
// it no more. The user need not be registered, and may be banned or deleted: what
// is registered then waits, and who reads it looks at the user.
func (d *Directory) RegisterPush(ctx context.Context, app *chat.App, user string, r *chat.PushRegistration) error {
	if err := chat.CheckID("userId", user); err != nil {
		return err
	}
	device, err := r.Device(d.PushWebHosts...)
	if err != nil {
		return err
	}
	now := d.now().UnixMilli()
	device.RegisteredAt, device.SeenAt = now, now
	return d.store.PutPushDevice(ctx, app.ID, user, device)
}

// UnregisterPush forgets what the device has registered. A device that has
// nothing registered is no error.
func (d *Directory) UnregisterPush(ctx context.Context, app *chat.App, user, device string) error {
	if err := chat.CheckID("userId", user); err != nil {
		return err
	}
	if err := chat.CheckID("deviceId", device); err != nil {
		return err
	}
	return d.store.RemovePushDevice(ctx, app.ID, user, device)
}

// PushDevices are the devices that the user has registered for push, longest
// unseen first.
func (d *Directory) PushDevices(ctx context.Context, app *chat.App, user string) ([]chat.PushDevice, error) {
	if err := chat.CheckID("userId", user); err != nil {
		return nil, err
	}
	return d.store.PushDevices(ctx, app.ID, user)
}

// PushCredentials are the app's, by provider, package and environment. They hold
// what is secret.
func (d *Directory) PushCredentials(ctx context.Context, app *chat.App) ([]chat.PushCredential, error) {
	return d.store.PushCredentials(ctx, app.ID)
}

// SetPushCredential checks the credential and puts it in place of the app's for
// the same. One that is there already keeps the time it was set at. byOwner says
// that the server's owner asks for it, who may have it sent anywhere.
func (d *Directory) SetPushCredential(ctx context.Context, app *chat.App, c *chat.PushCredential, byOwner bool) error {
	if err := c.Check(); err != nil {
		return err
	}
	if !byOwner {
		if err := c.CheckReach(); err != nil {
			return err
		}
	}
	d.change.Lock()
	defer d.change.Unlock()
	list, err := d.store.PushCredentials(ctx, app.ID)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(o chat.PushCredential) bool { return c.SameKey(&o) })
	switch {
	case i >= 0 && c.Same(&list[i]):
		return nil
	case i < 0 && len(list) >= chat.MaxPushCredentials:
		return chat.Invalidf("credential", "at most %d of one app", chat.MaxPushCredentials)
	}
	set := *c
	set.Since = d.now().UnixMilli()
	return d.pushChanged(app, d.store.PutPushCredential(ctx, app.ID, &set))
}

// RemovePushCredential forgets the app's credential for the same as c. That there
// is none is no error.
func (d *Directory) RemovePushCredential(ctx context.Context, app *chat.App, c *chat.PushCredential) error {
	d.change.Lock()
	defer d.change.Unlock()
	return d.pushChanged(app, d.store.RemovePushCredential(ctx, app.ID, c))
}

// PushTemplates are the app's, by id.
func (d *Directory) PushTemplates(ctx context.Context, app *chat.App) ([]chat.PushTemplate, error) {
	return d.store.PushTemplates(ctx, app.ID)
}

// SetPushTemplate puts the template in place of the app's with its id. One that is there already keeps the time it was set at.
func (d *Directory) SetPushTemplate(ctx context.Context, app *chat.App, t *chat.PushTemplate) error {
	d.change.Lock()
	defer d.change.Unlock()
	list, err := d.store.PushTemplates(ctx, app.ID)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(o chat.PushTemplate) bool { return t.ID == o.ID })
	switch {
	case i >= 0 && t.Same(&list[i]):
		return nil
	case i < 0 && len(list) >= chat.MaxPushTemplates:
		return chat.Invalidf("templateId", "at most %d templates of one app", chat.MaxPushTemplates)
	}
	set := *t
	set.Since = d.now().UnixMilli()
	return d.pushChanged(app, d.store.PutPushTemplate(ctx, app.ID, &set))
}

// RemovePushTemplate forgets the app's template with the id. That there is none is
// no error.
func (d *Directory) RemovePushTemplate(ctx context.Context, app *chat.App, id string) error {
	if err := chat.CheckTemplateID("templateId", id); err != nil {
		return err
	}
	d.change.Lock()
	defer d.change.Unlock()
	return d.pushChanged(app, d.store.RemovePushTemplate(ctx, app.ID, id))
}

// PushChanges grows whenever credentials or templates of the app change, so that
// who keeps them at hand knows when to read them again.
func (d *Directory) PushChanges(app chat.AppID) uint64 {
	n, ok := d.pushChanges.Load(app)
	if !ok {
		return 0
	}
	return n.(*atomic.Uint64).Load()
}

// pushChanged counts a change, also one that failed: it may be there all the same.
func (d *Directory) pushChanged(app *chat.App, err error) error {
	n, _ := d.pushChanges.LoadOrStore(app.ID, new(atomic.Uint64))
	n.(*atomic.Uint64).Add(1)
	return err
}
