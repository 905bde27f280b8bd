package pushtest

import "github.com/parleychat/parley/internal/chat"

// All are the simulators there are: how each is made.
func All() map[chat.PushProvider]func(Options) *Sim {
	return map[chat.PushProvider]func(Options) *Sim{
		chat.APNs:  NewAPNs,
		chat.FCM:   NewFCM,
		chat.HW:    NewHW,
		chat.HONOR: NewHONOR,
		chat.MI:    NewMI,
		chat.OPPO:  NewOPPO,
		chat.VIVO:  NewVIVO,
		chat.OHOS:  NewOHOS,
		chat.MEIZU: NewMEIZU,
		chat.WEB:   NewWEB,
	}
}
