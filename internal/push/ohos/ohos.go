// Package ohos puts notifications in the words of the Push Kit of HarmonyOS,
// version 3, and reads its answers.
package ohos

import (
	"cmp"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
)

// Options are what an app has set for HarmonyOS.
type Options struct {
	ProjectID  string
	Category   string // where the sender names none; MARKETING, which needs no permission, when empty
	Action     string // the page that a tap opens; the app's first when empty
	ShowsBadge bool   // count is the number on the icon too
	Test       bool
}

const (
	maxPayload = 4096 // bytes, tokens not counted
	maxTTL     = 15 * 24 * time.Hour
	maxBadge   = 99

	// Calls ring for so long.
	minCall = 30 * time.Second
	maxCall = 60 * time.Second
)

type message struct {
	Payload payload `json:"payload"`
	Target  target  `json:"target"`
	Options options `json:"pushOptions"`
}

type payload struct {
	Notification *notification `json:"notification,omitzero"`
	ExtraData    string        `json:"extraData,omitzero"`
}

type notification struct {
	Category     string `json:"category"`
	Title        string `json:"title"`
	Body         string `json:"body"`
	Image        string `json:"image,omitzero"`
	NotifyID     int32  `json:"notifyId"`
	AppMessageID string `json:"appMessageId"`
	Badge        *badge `json:"badge,omitzero"`
	ClickAction  click  `json:"clickAction"`
}

type badge struct {
	SetNum int `json:"setNum"`
}

type click struct {
	ActionType int            `json:"actionType"`
	Action     string         `json:"action,omitzero"`
	Data       jsontext.Value `json:"data"`
}

type target struct {
	Token []string `json:"token"`
}

type options struct {
	TTL         int64 `json:"ttl"`
	TestMessage bool  `json:"testMessage,omitzero"`
}

// Values of the header push-type.
const (
	typeAlert      = "0"
	typeBackground = "6"
)

// Render puts a notification in the Push Kit's words.
func Render(n *push.Notification, o *Options, now time.Time) (push.Request, error) {
	if n.To.Token == "" {
		return push.Request{}, push.ErrToken
	}
	set := &n.Settings().OHOS
	category := cmp.Or(set.Category, o.Category, "MARKETING")
	least, most := time.Second, maxTTL
	if category == "VOIP" && !n.Silent {
		least, most = minCall, maxCall
	}
	ttl, err := n.TTL(now, least, most)
	if err != nil {
		return push.Request{}, err
	}
	body, cut, err := push.Fit(n.Parts(), maxPayload, func(p push.Parts) []byte {
		m := message{
			Target:  target{[]string{n.To.Token}},
			Options: options{int64(ttl / time.Second), o.Test},
		}
		extras := push.JSON(n.Extras(p))
		if n.Silent {
			m.Payload.ExtraData = string(extras)
			return push.JSON(m)
		}
		b := &notification{
			Category: category, Title: p.Title, Body: p.Body,
			NotifyID: n.NotifyID(), AppMessageID: n.UID.String(), ClickAction: click{Data: extras},
		}
		if p.Image && n.Without&push.OptionImage == 0 {
			b.Image = set.Image
		}
		if o.Action != "" {
			b.ClickAction.ActionType, b.ClickAction.Action = 1, o.Action
		}
		if o.ShowsBadge && n.HasBadge {
			b.Badge = &badge{min(n.Badge, maxBadge)}
		}
		m.Payload.Notification = b
		return push.JSON(m)
	}, func(b []byte) int { return len(b) - len(n.To.Token) })
	if err != nil {
		return push.Request{}, err
	}
	r := push.JSONRequest("/v3/"+url.PathEscape(o.ProjectID)+"/messages:send", body, cut)
	r.Header["push-type"] = typeAlert
	if n.Silent {
		r.Header["push-type"] = typeBackground
	}
	return r, nil
}

var classes = push.Classes{
	"80000000": {Class: push.Accepted},
	// What is wrong with the token is said beside these two; see reasons.
	"80100000": {Class: push.TokenStrike},
	"80300007": {Class: push.TokenStrike},

	"80200001": {Class: push.AuthRefresh},
	"80200005": {Class: push.AuthRefresh},
	"80300036": {Class: push.AuthRefresh},

	"80300002": {Class: push.ConfigHalt},
	"80300037": {Class: push.ConfigHalt},

	"80100001": {Class: push.PayloadBad},
	"80100003": {Class: push.PayloadBad},
	"80100004": {Class: push.PayloadBad},
	"80100022": {Class: push.PayloadBad, Without: push.OptionImage}, // the image did not pass review
	"80300008": {Class: push.PayloadBad},
	"80300010": {Class: push.PayloadBad},
	"80300030": {Class: push.PayloadBad},

	"80300029": {Class: push.RetryAfter},
	"81000001": {Class: push.Retry},
}

// noRightToType is of an app without the right to a type of message.
const noRightToType = "noPushTypeRight"

// reasons are why a token was not served. Most are no fault of the token's.
var reasons = push.Classes{
	"tokenFormatError":        {Class: push.TokenDead},
	"tokenPlatformNotSupport": {Class: push.TokenDead},
	"noRight":                 {Class: push.TokenStrike}, // of another project, or the device was upgraded

	// The image passed review for messages of another kind.
	"differentImgVerifyPolicy": {Class: push.PayloadBad, Without: push.OptionImage},

	noRightToType:                            {Class: push.ConfigHalt},
	"disableSendHuaweiMsgBecauseOfPenalty":   {Class: push.ConfigHalt},
	"appinfoError":                           {Class: push.ConfigHalt},
	"countryNotSupport":                      {Class: push.PayloadBad},
	"atomicUnableSendUnsubscribedMsg":        {Class: push.PayloadBad},
	"noRightToSendThisLiveNotificationEvent": {Class: push.PayloadBad},
	"notSupportPlayVoice":                    {Class: push.PayloadBad},
}

// Classify reads an answer.
func Classify(status int, header http.Header, body []byte) push.Result {
	return line.Huawei(classes, reasons, status, header, body)
}
