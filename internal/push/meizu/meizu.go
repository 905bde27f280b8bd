// Package meizu puts notifications in the words of Meizu's Flyme Push and reads its
// answers.
package meizu

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/push"
)

// Options are what an app has set for Meizu's devices.
type Options struct {
	AppID  string
	Public bool // messages of which the sender says nothing are public ones
}

const (
	maxTitle = 32  // characters
	maxShort = 100 // characters; longer texts are seen when the notification is unfolded
	maxBody  = 1000
	maxData  = 1000 // bytes that Meizu advises
	minTTL   = time.Hour
	maxTTL   = 72 * time.Hour
)

type message struct {
	Bar      bar       `json:"noticeBarInfo"`
	Expand   *expand   `json:"noticeExpandInfo,omitzero"`
	Click    click     `json:"clickTypeInfo"`
	Time     pushTime  `json:"pushTimeInfo"`
	Advanced *advanced `json:"advanceInfo,omitzero"`
}

type bar struct {
	Title         string `json:"title"`
	Content       string `json:"content"`
	NoticeMsgType int    `json:"noticeMsgType"`
}

type expand struct {
	Type    int    `json:"noticeExpandType"`
	Content string `json:"noticeExpandContent"`
}

type click struct {
	ClickType  int            `json:"clickType"`
	Parameters jsontext.Value `json:"parameters"`
}

type pushTime struct {
	OffLine   int   `json:"offLine"`
	ValidTime int64 `json:"validTime"` // hours
}

type advanced struct {
	NotifyKey string `json:"notifyKey"`
}

// The kinds of message as Meizu numbers them. pushExt counts them from one: its 2
// is Meizu's 0.
const (
	public  = 0
	private = 1

	extPublic = 2
)

// Render puts a notification in Meizu's words. The form lacks sign, which is made
// of the values of its other fields as they stand in Form.
func Render(n *push.Notification, o *Options, now time.Time) (push.Request, error) {
	switch {
	case n.To.Token == "" || strings.Contains(n.To.Token, ","):
		return push.Request{}, push.ErrToken
	case n.Silent:
		return push.Request{}, push.ErrSilent
	}
	ttl, err := n.TTL(now, minTTL, maxTTL)
	if err != nil {
		return push.Request{}, err
	}
	p := n.Parts()
	cut := p.Shorten(maxTitle, maxBody, push.Characters)
	extras, more, err := push.Fit(push.Parts{Data: n.Data}, maxData, func(p push.Parts) []byte {
		return push.JSON(n.Extras(p).Strings())
	}, nil)
	if err != nil {
		return push.Request{}, err
	}
	m := message{
		Bar:      bar{p.Title, push.Truncate(p.Body, maxShort, push.Characters), private},
		Click:    click{Parameters: extras},
		Time:     pushTime{1, int64(ttl / time.Hour)},
		Advanced: &advanced{notifyKey(n)},
	}
	if push.Characters.Length(p.Body) > maxShort {
		m.Expand = &expand{1, p.Body}
	}
	if kind := n.Settings().MEIZU.NoticeMsgType; kind == extPublic || kind == 0 && o.Public {
		m.Bar.NoticeMsgType = public
	}
	form := url.Values{}
	form.Set("appId", o.AppID)
	form.Set("pushIds", n.To.Token)
	form.Set("messageJson", string(push.JSON(m)))
	return push.FormRequest("/garcia/api/server/push/varnished/pushByPushId", form, cut|more), nil
}

// notifyKey is what Meizu knows the notification by: eight characters that a
// repeated one has in common with the first.
func notifyKey(n *push.Notification) string {
	sum := sha256.Sum256([]byte(n.Shown().String()))
	return base64.RawURLEncoding.EncodeToString(sum[:6])
}

// classes are of the answer as a whole.
var classes = push.Classes{
	"200": {Class: push.Accepted},

	"1003": {Class: push.Retry},
	"1001": {Class: push.Retry},
	"500":  {Class: push.Retry},

	"110010": {Class: push.RetryAfter},

	"110019": {Class: push.QuotaDay},
	"110051": {Class: push.QuotaDay},

	"1006":   {Class: push.ConfigHalt},
	"110000": {Class: push.ConfigHalt},
	"110001": {Class: push.ConfigHalt},
	"110009": {Class: push.ConfigHalt},
	"110031": {Class: push.ConfigHalt},
	"110033": {Class: push.ConfigHalt},

	"1005":   {Class: push.PayloadBad},
	"110004": {Class: push.PayloadBad},
	"110053": {Class: push.PayloadBad},
}

// users are what is wrong with a token that was not served.
var users = push.Classes{
	"110002": {Class: push.TokenStrike}, // unsubscribed or switched off, which can change
	"110003": {Class: push.TokenDead},

	"201": {Class: push.ConfigHalt},
	"501": {Class: push.Retry},
	"513": {Class: push.Retry},
	"519": {Class: push.Retry},
	"518": {Class: push.RetryAfter},
	"520": {Class: push.UserCap}, // folded: too many to this device within a minute
}

// Classify reads an answer.
func Classify(status int, header http.Header, body []byte) push.Result {
	var v struct {
		Code  push.Code  `json:"code"`
		Value push.Loose `json:"value"`
		MsgID push.Code  `json:"msgId"`
	}
	if !push.ReadJSON(body, &v) {
		v.Code = ""
	}
	r := classes.Or(string(v.Code), status, push.ParseRetryAfter(header.Get))
	if r.Class != push.Accepted {
		return r
	}
	if code := failure(v.Value); code != "" {
		return users.Of(code)
	}
	r.ID = string(v.MsgID)
	return r
}

// failure is why the request's only token was not served: value lists failures,
// tokens by code. Some servers were seen to list codes by token.
func failure(value push.Loose) string {
	var text string
	if value.Into(&text) {
		value = push.Loose(text)
	}
	var failures map[string]push.Loose
	if !value.Into(&failures) {
		return ""
	}
	for name, v := range failures {
		var tokens []string
		var code push.Code
		switch {
		case v.Into(&tokens):
			if len(tokens) > 0 {
				return name
			}
		case v.Into(&code) && code != "":
			if _, known := users[name]; known {
				return name // a single token without the brackets
			}
			return string(code)
		}
	}
	return ""
}
