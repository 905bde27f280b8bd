// Package vivo puts notifications in the words of vivo Push and reads its answers.
package vivo

import (
	"net/http"
	"time"

	"github.com/parleychat/parley/internal/push"
)

// Options are what an app has set for vivo's devices. Where the sender says
// something too, that is in force.
type Options struct {
	AppID          int64
	Classification int // 0 operational, 1 system
	Category       string
	Test           bool // reaches test devices only
}

const (
	maxTitle  = 40   // half-width units
	maxBody   = 100  // half-width units
	maxExtras = 1024 // characters, of names and values
	minTTL    = time.Minute
	maxTTL    = 7 * 24 * time.Hour
)

type message struct {
	AppID           int64             `json:"appId"`
	RegID           string            `json:"regId"`
	NotifyType      int               `json:"notifyType"`
	Title           string            `json:"title"`
	Content         string            `json:"content"`
	TimeToLive      int64             `json:"timeToLive"`
	SkipType        int               `json:"skipType"`
	NetworkType     int               `json:"networkType"`
	Classification  int               `json:"classification"`
	Category        string            `json:"category,omitzero"`
	NotifyID        int32             `json:"notifyId"`
	ClientCustomMap map[string]string `json:"clientCustomMap"`
	RequestID       string            `json:"requestId"`
	PushMode        int               `json:"pushMode,omitzero"`
}

const (
	soundAndVibration = 4
	opensApp          = 1
	anyNetwork        = -1
)

// Render puts a notification in vivo's words.
func Render(n *push.Notification, o *Options, now time.Time) (push.Request, error) {
	switch {
	case n.To.Token == "":
		return push.Request{}, push.ErrToken
	case n.Silent:
		return push.Request{}, push.ErrSilent
	}
	ttl, err := n.TTL(now, minTTL, maxTTL)
	if err != nil {
		return push.Request{}, err
	}
	set := &n.Settings().VIVO
	p := n.Parts()
	cut := p.Shorten(maxTitle, maxBody, push.HalfWidths)
	extras := n.Extras(p).Strings()
	if n.Data != "" && size(extras) > maxExtras {
		p.Data = ""
		extras = n.Extras(p).Strings()
		cut |= push.CutData
	}
	if size(extras) > maxExtras {
		return push.Request{}, push.ErrTooLarge
	}
	m := message{
		AppID: o.AppID, RegID: n.To.Token, NotifyType: soundAndVibration, Title: p.Title, Content: p.Body,
		TimeToLive: int64(ttl / time.Second), SkipType: opensApp, NetworkType: anyNetwork,
		Classification: o.Classification, Category: o.Category, NotifyID: n.NotifyID(),
		ClientCustomMap: extras, RequestID: n.RequestID(),
	}
	// A category is one of its classification, so the app's goes with the app's.
	if set.HasClassification && set.Classification != o.Classification {
		m.Classification, m.Category = set.Classification, ""
	}
	if set.Category != "" {
		m.Category = set.Category
	}
	if o.Test {
		m.PushMode = 1
	}
	return push.JSONRequest("/message/send", push.JSON(m), cut), nil
}

func size(m map[string]string) int {
	n := 0
	for k, v := range m {
		n += push.Characters.Length(k) + push.Characters.Length(v)
	}
	return n
}

var classes = push.Classes{
	"0": {Class: push.Accepted},

	"10302": {Class: push.TokenDead},
	"10000": {Class: push.AuthRefresh},

	"10094": {Class: push.ConfigHalt},
	"10200": {Class: push.ConfigHalt},
	"10201": {Class: push.ConfigHalt},
	"10202": {Class: push.ConfigHalt},
	"10203": {Class: push.ConfigHalt},
	"10204": {Class: push.ConfigHalt},
	"10205": {Class: push.ConfigHalt},
	"10206": {Class: push.ConfigHalt},
	"10207": {Class: push.ConfigHalt},
	"10208": {Class: push.ConfigHalt},
	"10209": {Class: push.ConfigHalt},

	"10070": {Class: push.QuotaDay},
	"10073": {Class: push.QuotaDay},
	"10071": {Class: push.UserCap}, // outside the hours in which operational messages may go
	"10072": {Class: push.RetryAfter},
	"10093": {Class: push.RetryAfter}, // too many requests for access tokens

	"10085": {Class: push.PayloadBad},
	"10104": {Class: push.PayloadBad},
}

// users are what is wrong with a token that was not served.
var users = push.Classes{
	"1": {Class: push.TokenDead},
	"2": {Class: push.TokenStrike}, // uninstalled, or notifications are off, which can change
	"3": {Class: push.TokenStrike}, // not seen for 90 days
	"4": {Class: push.ConfigHalt},  // not a test device
}

type user struct {
	Status push.Code `json:"status"`
}

// Classify reads an answer.
func Classify(status int, header http.Header, body []byte) push.Result {
	var v struct {
		Result       push.Code  `json:"result"`
		TaskID       push.Code  `json:"taskId"`
		InvalidUser  push.Loose `json:"invalidUser"`
		InvalidUsers push.Loose `json:"invalidUsers"`
	}
	if !push.ReadJSON(body, &v) {
		v.Result = ""
	}
	r := classes.Or(string(v.Result), status, push.ParseRetryAfter(header.Get))
	if status >= http.StatusInternalServerError && r.Class == push.RetryAfter {
		r.Class = push.Retry
	}
	if r.Class != push.Accepted {
		return r
	}
	for _, l := range [...]push.Loose{v.InvalidUser, v.InvalidUsers} {
		var one user
		var list []user
		if !l.Into(&one) && l.Into(&list) && len(list) > 0 {
			one = list[0]
		}
		if one.Status != "" {
			r = users.Of(string(one.Status))
			r.Code = "invalidUser " + r.Code
			return r
		}
	}
	r.ID = string(v.TaskID)
	return r
}
