package push

import "github.com/parleychat/parley/internal/chat"

// A Provider is a service that takes notifications to devices. Numbers are stored:
// never reuse one.
type Provider uint8

// The providers.
const (
	ProviderAPNs  Provider = 1
	ProviderFCM   Provider = 2
	ProviderHW    Provider = 3
	ProviderHONOR Provider = 4
	ProviderMI    Provider = 5
	ProviderOPPO  Provider = 6
	ProviderVIVO  Provider = 7
	ProviderOHOS  Provider = 8
	ProviderMEIZU Provider = 9
)

// Silent reports whether messages with contentAvailable wake the app on devices of
// this provider when they show nothing. The API promises it of iOS alone.
func (p Provider) Silent() bool { return p == ProviderAPNs }

// A Device is where a user can be notified, as it registered itself.
type Device struct {
	ID          string
	Provider    Provider
	Token       string
	Package     string           // of the app on it, which Apple calls bundle
	Language    string           // a tag such as zh-Hans-CN; empty when not known
	HideDetails bool             // what a message says is not to be seen on a locked screen
	Quiet       *chat.QuietHours // of this device alone; nil for none
}
