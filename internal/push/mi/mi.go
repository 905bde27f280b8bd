// Package mi puts notifications in the words of Xiaomi's Mi Push and reads its
// answers.
package mi

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/parleychat/parley/internal/push"
)

// Options are what an app has set for Xiaomi's devices. Where the sender says
// something too, that is in force.
type Options struct {
	Package   string // in place of the device's
	ChannelID string
	Template  *Template // of the app's private channels, which take nothing else
}

// A Template is one that was registered with Xiaomi. It has nothing to do with
// the templates of pushExt.
type Template struct {
	ID    string
	Title string // the name of its variable for the title; empty when there is none
	Body  string // and for the text
}

const sendPath = "/v3/message/regid"

// Xiaomi wants fewer than 50 and 128 characters.
const (
	maxTitle    = 49
	maxBody     = 127
	maxExtras   = 4096 - 1 // bytes
	maxVariable = 128      // characters
	maxTTL      = 14 * 24 * time.Hour
)

// Render puts a notification in Xiaomi's words.
func Render(n *push.Notification, o *Options, now time.Time) (push.Request, error) {
	if n.To.Token == "" || strings.Contains(n.To.Token, ",") {
		return push.Request{}, push.ErrToken
	}
	pack := cmp.Or(o.Package, n.To.Package)
	if pack == "" {
		return push.Request{}, push.ErrPackage
	}
	ttl, err := n.TTL(now, time.Second, maxTTL)
	if err != nil {
		return push.Request{}, err
	}
	set := &n.Settings().MI
	p := n.Parts()
	cut := p.Shorten(maxTitle, maxBody, push.Characters)
	extras, more, err := push.Fit(push.Parts{Data: n.Data}, maxExtras, func(p push.Parts) []byte { return push.JSON(n.Extras(p)) }, nil)
	if err != nil {
		return push.Request{}, err
	}
	form := url.Values{}
	form.Set("registration_id", n.To.Token)
	form.Set("restricted_package_name", pack)
	form.Set("payload", string(extras))
	form.Set("time_to_live", strconv.FormatInt(ttl.Milliseconds(), 10))
	if n.Silent {
		form.Set("pass_through", "1")
		return push.FormRequest(sendPath, form, cut|more), nil
	}
	form.Set("pass_through", "0")
	form.Set("title", p.Title)
	form.Set("description", p.Body)
	form.Set("notify_type", "-1")
	// Without an id of its own each would take the place of the one before.
	form.Set("notify_id", strconv.Itoa(int(n.NotifyID())))
	form.Set("extra.notify_effect", "1")
	if set.LargeIconURI != "" && n.Without&push.OptionImage == 0 {
		form.Set("extra.notification_large_icon_uri", set.LargeIconURI)
	}
	if n.Without&push.OptionChannel != 0 {
		// Templates are the private channels'. Without any it goes to the default one.
		return push.FormRequest(sendPath, form, cut|more), nil
	}
	if id := cmp.Or(set.ChannelID, o.ChannelID); id != "" {
		form.Set("extra.channel_id", id)
	}
	if t := o.Template; t != nil {
		variables := map[string]string{}
		for name, text := range map[string]string{t.Title: p.Title, t.Body: p.Body} {
			if name != "" {
				variables[name] = variable(text)
			}
		}
		form.Set("extra.template_id", t.ID)
		form.Set("extra.template_param", string(push.JSON(variables)))
	}
	return push.FormRequest(sendPath, form, cut|more), nil
}

// variable is a text as templates take it: without emoji and other symbols of
// their category, and not blank.
func variable(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.Is(unicode.So, r) || unicode.Is(unicode.Sk, r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Me, r) || r >= 0xfe00 && r <= 0xfe0f {
			return -1
		}
		return r
	}, s))
	if s == "" {
		return "…"
	}
	return push.Truncate(s, maxVariable, push.Characters)
}

var classes = push.Classes{
	"0": {Class: push.Accepted},

	"1":     {Class: push.Retry},
	"10001": {Class: push.Retry},
	"10002": {Class: push.Retry},
	"10003": {Class: push.Retry},
	"20607": {Class: push.Retry},
	"26003": {Class: push.Retry},
	"65029": {Class: push.Retry},

	"10027": {Class: push.RetryAfter},
	"26004": {Class: push.RetryAfter},
	"10030": {Class: push.RetryAfter}, // the list of dead tokens was asked for too often

	"10034":  {Class: push.QuotaDay},
	"200001": {Class: push.QuotaDay},

	"21301": {Class: push.ConfigHalt},
	"21302": {Class: push.ConfigHalt},
	"22000": {Class: push.ConfigHalt},
	"22006": {Class: push.ConfigHalt},
	"22007": {Class: push.ConfigHalt},
	"22022": {Class: push.ConfigHalt},
	"10031": {Class: push.ConfigHalt},
	"10036": {Class: push.ConfigHalt},
	"27001": {Class: push.ConfigHalt, Without: push.OptionChannel}, // the channel does not exist

	"10008": {Class: push.PayloadBad},
	"10012": {Class: push.PayloadBad},
	"10016": {Class: push.PayloadBad},
	"10017": {Class: push.PayloadBad},
	"65009": {Class: push.PayloadBad},
	"65014": {Class: push.PayloadBad},
	"65015": {Class: push.PayloadBad},
	"65037": {Class: push.PayloadBad},
	"65038": {Class: push.PayloadBad},
	"26006": {Class: push.PayloadBad},

	// Which tokens are dead is said by a list of the provider's alone.
	"20301": {Class: push.TokenStrike},

	"channel_exceed_quota": {Class: push.QuotaDay},
}

// Classify reads an answer.
func Classify(status int, header http.Header, body []byte) push.Result {
	var v struct {
		Result push.Code  `json:"result"`
		Code   push.Code  `json:"code"`
		Reason push.Code  `json:"reason"`
		Data   push.Loose `json:"data"`
	}
	if !push.ReadJSON(body, &v) {
		v.Code = ""
	}
	code := string(v.Code)
	switch {
	case v.Reason == "channel_exceed_quota":
		code = "channel_exceed_quota"
	case code == "0" && v.Result != "ok":
		code = "result " + string(v.Result)
	}
	r := classes.Or(code, status, push.ParseRetryAfter(header.Get))
	if status >= http.StatusInternalServerError && r.Class == push.RetryAfter {
		r.Class = push.Retry
	}
	if r.Class == push.Accepted {
		var data struct {
			ID push.Code `json:"id"`
		}
		if v.Data.Into(&data) {
			r.ID = string(data.ID)
		}
	}
	return r
}
