package store

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
)

// PushDevices keeps which devices are registered for push. A token of a provider
// is one device's of one user in an app: whoever registers it has it, and nobody
// else any more, since a phone changes hands. What is registered says nothing of
// whether its user may be reached at all: readers look at that themselves, as
// users who are banned or deleted keep what they have registered.
type PushDevices interface {
	// PushDevices lists what a user has registered, longest unseen first.
	PushDevices(ctx context.Context, app chat.AppID, user string) ([]chat.PushDevice, error)
	// PushDevicesOf is what each of the users, all different, has registered, in
	// their order and in no order within: the same as PushDevices at a fraction of the cost where there
	// are many users. When devices were on a connection is not looked at.
	PushDevicesOf(ctx context.Context, app chat.AppID, users []string) ([][]chat.PushDevice, error)
	// PushDevice is what the device has registered, nil for nothing. It was seen when
	// it registered: its connections are not looked at.
	PushDevice(ctx context.Context, app chat.AppID, user, device string) (*chat.PushDevice, error)
	// PushDevicesBehind goes through what the users of an app have registered: up to
	// limit users behind one, by the length of their ids and then by these, each with
	// what PushDevicesOf has of them. Users without anything are not among them.
	PushDevicesBehind(ctx context.Context, app chat.AppID, behind string, limit int) ([]PushRegistered, error)
	// PutPushDevice durably registers a device in place of what it had registered,
	// and takes the token away from whoever else had it. Where the user then has
	// more than chat.MaxPushDevices, those longest unseen go.
	PutPushDevice(ctx context.Context, app chat.AppID, user string, d *chat.PushDevice) error
	// RemovePushDevice durably forgets what the device has registered.
	RemovePushDevice(ctx context.Context, app chat.AppID, user, device string) error
	// DropPushToken durably forgets a token that the provider says is dead, and
	// reports whether it did: one that was registered again after the given time
	// (Unix ms) lives.
	DropPushToken(ctx context.Context, app chat.AppID, p chat.PushProvider, token string, registeredBy int64) (bool, error)
	// StrikePushToken notes that on this day the provider said of the token what
	// may mean that it is dead. On the chat.PushStrikes-th day it is dropped as
	// DropPushToken does, and true is reported. Days (of Unix time) that come again
	// or late count once; a registration begins anew.
	StrikePushToken(ctx context.Context, app chat.AppID, p chat.PushProvider, token string, registeredBy, day int64) (bool, error)
	// ClearPushStrikes durably forgets the strikes of a token that the provider has
	// taken a notification for. One that was registered again after the given time
	// stays as it is.
	ClearPushStrikes(ctx context.Context, app chat.AppID, p chat.PushProvider, token string, registeredBy int64) error
	// MovePushToken durably notes that a token is of another environment than was
	// registered, and reports whether it did: not where the registration has another
	// meanwhile, or is newer than the given time.
	MovePushToken(ctx context.Context, app chat.AppID, p chat.PushProvider, token string, registeredBy int64, from, to chat.PushEnvironment) (bool, error)
}

// PushSights reads what decides upon whom a message notifies, of many users at once.
type PushSights interface {
	// PushSights is what decides, besides what is registered, whether each of the
	// users, all different, is notified of a message in a channel of theirs: uids are
	// the users' messages, all of one request. It is the same as Users, Devices and
	// Views give, at a fraction of the cost.
	PushSights(ctx context.Context, app chat.AppID, t chat.ChannelType, channel string, users []string, uids []chat.UID) ([]PushSight, error)
}

// A PushSight is what is known of a user and of what they have made of a message.
type PushSight struct {
	User        *chat.User // nil when nothing is
	Cursors     []Device   // in no order
	View        *chat.View // of the message's channel
	Preferences *chat.Preferences
	Marks       []Marked // on the message
}

// PushRegistered is what a user has registered, at least one device.
type PushRegistered struct {
	User    string
	Devices []chat.PushDevice
}

// PushSettings keeps what an app needs to push with, durably.
type PushSettings interface {
	// PushCredentials are an app's, by provider, package and environment, with
	// what is secret in them.
	PushCredentials(ctx context.Context, app chat.AppID) ([]chat.PushCredential, error)
	// PutPushCredential stores a credential in place of the one for the same.
	PutPushCredential(ctx context.Context, app chat.AppID, c *chat.PushCredential) error
	// RemovePushCredential forgets the one for the same as c.
	RemovePushCredential(ctx context.Context, app chat.AppID, c *chat.PushCredential) error
	// PushTemplates are an app's, by id.
	PushTemplates(ctx context.Context, app chat.AppID) ([]chat.PushTemplate, error)
	// PutPushTemplate stores a template in place of the one with its id.
	PutPushTemplate(ctx context.Context, app chat.AppID, t *chat.PushTemplate) error
	// RemovePushTemplate forgets the one with the id.
	RemovePushTemplate(ctx context.Context, app chat.AppID, id string) error
}
