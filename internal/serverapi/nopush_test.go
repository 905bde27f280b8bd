package serverapi

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/dispatch"
	"github.com/parleychat/parley/internal/store"
)

// noPush is as much of a store as has to do with push, and keeps nothing.
type noPush struct{}

func (noPush) PushDevicesOf(_ context.Context, _ chat.AppID, users []string) ([][]chat.PushDevice, error) {
	return make([][]chat.PushDevice, len(users)), nil
}
func (noPush) PushDevices(context.Context, chat.AppID, string) ([]chat.PushDevice, error) {
	return nil, nil
}

func (noPush) PushDevice(context.Context, chat.AppID, string, string) (*chat.PushDevice, error) {
	return nil, nil
}

func (noPush) PushDevicesBehind(context.Context, chat.AppID, string, int) ([]store.PushRegistered, error) {
	return nil, nil
}

func (noPush) PutPushDevice(context.Context, chat.AppID, string, *chat.PushDevice) error { return nil }

func (noPush) RemovePushDevice(context.Context, chat.AppID, string, string) error { return nil }

func (noPush) DropPushToken(context.Context, chat.AppID, chat.PushProvider, string, int64) (bool, error) {
	return false, nil
}

func (noPush) StrikePushToken(context.Context, chat.AppID, chat.PushProvider, string, int64, int64) (bool, error) {
	return false, nil
}

func (noPush) ClearPushStrikes(context.Context, chat.AppID, chat.PushProvider, string, int64) error {
	return nil
}

func (noPush) MovePushToken(context.Context, chat.AppID, chat.PushProvider, string, int64, chat.PushEnvironment, chat.PushEnvironment) (bool, error) {
	return false, nil
}

func (noPush) PushCredentials(context.Context, chat.AppID) ([]chat.PushCredential, error) {
	return nil, nil
}

func (noPush) PutPushCredential(context.Context, chat.AppID, *chat.PushCredential) error { return nil }

func (noPush) RemovePushCredential(context.Context, chat.AppID, *chat.PushCredential) error {
	return nil
}

func (noPush) PushTemplates(context.Context, chat.AppID) ([]chat.PushTemplate, error) {
	return nil, nil
}

func (noPush) PutPushTemplate(context.Context, chat.AppID, *chat.PushTemplate) error { return nil }

func (noPush) RemovePushTemplate(context.Context, chat.AppID, string) error { return nil }

func (noPush) Check(context.Context, *chat.PushCredential) push.Verdict { return push.Verdict{} }

func (noPush) CheckAll(context.Context, *chat.App, func(*chat.PushCredential) bool) ([]push.Checked, error) {
	return nil, nil
}

func (noPush) Preview(_ context.Context, _ *chat.App, _ *chat.Message, users []string) ([]dispatch.Preview, error) {
	return make([]dispatch.Preview, len(users)), nil
}
