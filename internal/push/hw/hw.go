// Package hw puts notifications in the words of Huawei's HMS Push, for Android
// devices, and reads its answers. Devices with HarmonyOS 5 and later are of package
// ohos; their tokens are others.
package hw

import (
	"cmp"
	"net/http"
	"net/url"
	"time"

	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
)

// Options are what an app has set for Huawei's devices. Where the sender says
// something too, that is in force.
type Options struct {
	ClientID   string // what the app is called as a client, which mostly is its number
	ProjectID  string // of projects with HarmonyOS 3 and 4; without one only Android is served
	ChannelID  string
	Importance string
	Category   string
	Intent     string // what a tap opens; the app when empty
	BadgeClass string // the activity whose icon shows count; without one none does
	Test       bool   // 500 a day for each app, and no limit per device
	DryRun     bool
}

const (
	maxPayload = 4096 // bytes, tokens not counted
	maxTTL     = 15 * 24 * time.Hour
	maxBadge   = 99
)

type envelope struct {
	ValidateOnly bool    `json:"validate_only"`
	Message      message `json:"message"`
}

type message struct {
	Token   []string `json:"token"`
	Data    string   `json:"data"`
	Android android  `json:"android"`
}

type android struct {
	Category     string        `json:"category,omitzero"`
	TTL          string        `json:"ttl"`
	TargetUser   int           `json:"target_user_type,omitzero"`
	Notification *notification `json:"notification,omitzero"`
}

type notification struct {
	Title       string `json:"title"`
	Body        string `json:"body"`
	Image       string `json:"image,omitzero"`
	ChannelID   string `json:"channel_id,omitzero"`
	Importance  string `json:"importance,omitzero"`
	NotifyID    int32  `json:"notify_id"`
	Badge       *badge `json:"badge,omitzero"`
	ClickAction click  `json:"click_action"`
}

type badge struct {
	Class  string `json:"class"`
	SetNum int    `json:"set_num"`
}

type click struct {
	Type   int    `json:"type"`
	Intent string `json:"intent,omitzero"`
}

// What a tap does.
const (
	opensIntent = 1
	opensApp    = 3
)

// Render puts a notification in Huawei's words.
func Render(n *push.Notification, o *Options, now time.Time) (push.Request, error) {
	if n.To.Token == "" {
		return push.Request{}, push.ErrToken
	}
	ttl, err := n.TTL(now, time.Second, maxTTL)
	if err != nil {
		return push.Request{}, err
	}
	set := &n.Settings().HW
	body, cut, err := push.Fit(n.Parts(), maxPayload, func(p push.Parts) []byte {
		m := message{
			Token: []string{n.To.Token}, Data: string(push.JSON(n.Extras(p))),
			Android: android{Category: cmp.Or(set.Category, o.Category), TTL: push.Seconds(ttl)},
		}
		if o.Test {
			m.Android.TargetUser = 1
		}
		if !n.Silent {
			b := &notification{
				Title: p.Title, Body: p.Body, NotifyID: n.NotifyID(),
				ChannelID: cmp.Or(set.ChannelID, o.ChannelID), Importance: cmp.Or(set.Importance, o.Importance),
				ClickAction: click{Type: opensApp},
			}
			if p.Image {
				b.Image = set.Image
			}
			if o.Intent != "" {
				b.ClickAction = click{opensIntent, o.Intent}
			}
			if o.BadgeClass != "" && n.HasBadge {
				b.Badge = &badge{o.BadgeClass, min(n.Badge, maxBadge)}
			}
			m.Android.Notification = b
		}
		return push.JSON(envelope{o.DryRun, m})
	}, func(b []byte) int { return len(b) - len(n.To.Token) })
	if err != nil {
		return push.Request{}, err
	}
	path := "/v1/" + url.PathEscape(o.ClientID) + "/messages:send"
	if o.ProjectID != "" {
		path = "/v2/" + url.PathEscape(o.ProjectID) + "/messages:send"
	}
	return push.JSONRequest(path, body, cut), nil
}

var classes = push.Classes{
	"80000000": {Class: push.Accepted},
	// Each request has one token, so that some of its tokens are all of them. That
	// may be the token's fault or that of the app's rights as a whole; see reasons.
	"80100000": {Class: push.TokenStrike},
	"80300007": {Class: push.TokenStrike},

	"80200001": {Class: push.AuthRefresh},
	"80200003": {Class: push.AuthRefresh},

	"80600003": {Class: push.Retry},
	"81000001": {Class: push.Retry},

	"80300002": {Class: push.ConfigHalt},

	"80300008": {Class: push.PayloadBad},
	"80100001": {Class: push.PayloadBad},
	"80100002": {Class: push.PayloadBad},
	"80100003": {Class: push.PayloadBad},
	"80100004": {Class: push.PayloadBad},
	"80100013": {Class: push.PayloadBad},
	"80100016": {Class: push.PayloadBad},
	"80100018": {Class: push.PayloadBad},
	"80300011": {Class: push.PayloadBad, Alert: true},
	"80300013": {Class: push.PayloadBad},
	"80300010": {Class: push.PayloadBad, Alert: true}, // more tokens than we ever send
}

// reasons are why a token was not served, where that is said. What is no fault of
// the token's must not count against it.
var reasons = push.Classes{
	"tokenFormatError":        {Class: push.TokenStrike},
	"tokenPlatformNotSupport": {Class: push.TokenStrike},
	"noRight":                 {Class: push.TokenStrike},

	"noPushTypeRight":                      {Class: push.ConfigHalt},
	"disableSendHuaweiMsgBecauseOfPenalty": {Class: push.ConfigHalt},
	"appinfoError":                         {Class: push.ConfigHalt},
	"countryNotSupport":                    {Class: push.PayloadBad},
}

// Classify reads an answer.
func Classify(status int, header http.Header, body []byte) push.Result {
	return line.Huawei(classes, reasons, status, header, body)
}
