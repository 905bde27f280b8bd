// Package honor puts notifications in the words of HONOR Push and reads its
// answers. What it takes looks like Huawei's and is written otherwise: sharing a
// type with package hw would lose fields without a word.
package honor

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/parleychat/parley/internal/push"
)

// Options are what an app has set for Honor's devices. Where the sender says
// something too, that is in force.
type Options struct {
	AppID      string
	Importance string
	Intent     string // what a tap opens; the app when empty
	BadgeClass string // the activity whose icon shows count; without one none does
	Test       bool   // 1,000 a day for each app
}

const (
	maxPayload = 4096 // bytes
	maxTTL     = 15 * 24 * time.Hour
	maxBadge   = 99
)

type message struct {
	Token   []string `json:"token"`
	Data    string   `json:"data"`
	Android android  `json:"android"`
}

type android struct {
	TTL            string        `json:"ttl"`
	TargetUserType int           `json:"targetUserType,omitzero"`
	Notification   *notification `json:"notification,omitzero"`
}

type notification struct {
	Title       string `json:"title"`
	Body        string `json:"body"`
	Image       string `json:"image,omitzero"`
	Importance  string `json:"importance,omitzero"`
	NotifyID    int32  `json:"notifyId"`
	Badge       *badge `json:"badge,omitzero"`
	ClickAction click  `json:"clickAction"`
}

type badge struct {
	Class  string `json:"badgeClass"`
	SetNum int    `json:"setNum"`
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

// Render puts a notification in Honor's words.
func Render(n *push.Notification, o *Options, now time.Time) (push.Request, error) {
	if n.To.Token == "" {
		return push.Request{}, push.ErrToken
	}
	ttl, err := n.TTL(now, time.Second, maxTTL)
	if err != nil {
		return push.Request{}, err
	}
	set := &n.Settings().HONOR
	body, cut, err := push.Fit(n.Parts(), maxPayload, func(p push.Parts) []byte {
		m := message{Token: []string{n.To.Token}, Data: string(push.JSON(n.Extras(p))), Android: android{TTL: push.Seconds(ttl)}}
		if o.Test {
			m.Android.TargetUserType = 1
		}
		if !n.Silent {
			b := &notification{Title: p.Title, Body: p.Body, NotifyID: n.NotifyID(), Importance: cmp.Or(set.Importance, o.Importance), ClickAction: click{Type: opensApp}}
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
		return push.JSON(m)
	}, nil)
	if err != nil {
		return push.Request{}, err
	}
	r := push.JSONRequest("/api/v1/"+url.PathEscape(o.AppID)+"/sendMessage", body, cut)
	r.Header["timestamp"] = strconv.FormatInt(now.UnixMilli(), 10)
	return r, nil
}

// What little is known of Honor's codes. Servers that speak for Huawei too were
// seen to answer in its words; those are taken and counted as unknown.
var classes = push.Classes{
	"200":      {Class: push.Accepted},
	"0":        {Class: push.Accepted, Unknown: true},
	"80000000": {Class: push.Accepted, Unknown: true},
	"401":      {Class: push.AuthRefresh},
	"403":      {Class: push.AuthRefresh},
	"429":      {Class: push.RetryAfter},
	"503":      {Class: push.RetryAfter},
	"500":      {Class: push.Retry},
	"502":      {Class: push.Retry},
}

// What an answer says beside its code, by the members that say it.
const (
	expireTokens = "expireTokens" // the token is dead
	failTokens   = "failTokens"   // it was not served
	notSent      = "sendResult"   // nothing was
)

// Classify reads an answer.
func Classify(status int, header http.Header, body []byte) push.Result {
	var v struct {
		Code push.Code  `json:"code"`
		Data push.Loose `json:"data"`
	}
	if !push.ReadJSON(body, &v) {
		v.Code = ""
	}
	r := classes.Or(string(v.Code), status, push.ParseRetryAfter(header.Get))
	if r.Class != push.Accepted {
		return r
	}
	var data struct {
		SendResult   *bool      `json:"sendResult"`
		RequestID    push.Code  `json:"requestId"`
		FailTokens   push.Loose `json:"failTokens"`
		ExpireTokens push.Loose `json:"expireTokens"`
	}
	if !v.Data.Into(&data) {
		return r
	}
	// A request has one token.
	switch {
	case some(data.ExpireTokens):
		return push.Result{Class: push.TokenDead, Code: expireTokens}
	case some(data.FailTokens):
		return push.Result{Class: push.Retry, Code: failTokens}
	case data.SendResult != nil && !*data.SendResult:
		return push.Result{Class: push.Retry, Code: notSent}
	}
	r.ID = string(data.RequestID)
	return r
}

func some(l push.Loose) bool {
	var list []string
	return l.Into(&list) && len(list) > 0
}
