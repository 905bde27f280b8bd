// Package oppo puts notifications in the words of OPPO Push and reads its answers.
package oppo

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/push"
)

// Options are what an app has set for OPPO's devices. Where the sender says
// something too, that is in force.
type Options struct {
	ChannelID   string
	Category    string
	NotifyLevel int       // needs a category
	Template    *Template // of the app's private messages, where OPPO wants one
}

// A Template is one that was registered with OPPO. It has nothing to do with the
// templates of pushExt.
type Template struct {
	ID    string
	Title string // the name of its variable for the title; empty when there is none
	Body  string // and for the text
}

// Characters, except where it says otherwise.
const (
	maxTitle  = 50
	maxShort  = 50  // the text of style 1
	maxLong   = 128 // and that of style 2, which folds
	maxExtras = 4000
	maxTTL    = 10 * 24 * time.Hour
)

type message struct {
	TargetType   int          `json:"target_type"`
	TargetValue  string       `json:"target_value"`
	Notification notification `json:"notification"`
	Verify       bool         `json:"verify_registration_id"`
}

type notification struct {
	AppMessageID     string `json:"app_message_id"`
	Style            int    `json:"style"`
	Title            string `json:"title"`
	Content          string `json:"content"`
	ClickActionType  int    `json:"click_action_type"`
	ActionParameters string `json:"action_parameters"`
	OffLine          bool   `json:"off_line"`
	OffLineTTL       int64  `json:"off_line_ttl"`
	NotifyID         int32  `json:"notify_id"`
	ChannelID        string `json:"channel_id,omitzero"`
	Category         string `json:"category,omitzero"`
	NotifyLevel      int    `json:"notify_level,omitzero"`

	TemplateID        string `json:"private_msg_template_id,omitzero"`
	TitleParameters   string `json:"private_title_parameters,omitzero"`
	ContentParameters string `json:"private_content_parameters,omitzero"`
}

// byToken says that target_value is a token.
const byToken = 2

const (
	authPath  = "/server/v1/auth"
	sendPath  = "/server/v1/message/notification/unicast"
	batchPath = "/server/v1/message/notification/unicast_batch"
)

// Render puts a notification in OPPO's words. The form lacks auth_token.
func Render(n *push.Notification, o *Options, now time.Time) (push.Request, error) {
	text, cut, err := compose(n, o, now)
	if err != nil {
		return push.Request{}, err
	}
	form := url.Values{}
	form.Set("message", string(text))
	return push.FormRequest(sendPath, form, cut), nil
}

// compose is the message of a form, or one of a batch's.
func compose(n *push.Notification, o *Options, now time.Time) (text []byte, cut push.Cut, err error) {
	switch {
	case n.To.Token == "":
		return nil, 0, push.ErrToken
	case n.Silent:
		return nil, 0, push.ErrSilent
	}
	ttl, err := n.TTL(now, time.Second, maxTTL)
	if err != nil {
		return nil, 0, err
	}
	set := &n.Settings().OPPO
	p := n.Parts()
	cut = p.Shorten(maxTitle, maxLong, push.Characters)
	extras, more, err := push.Fit(push.Parts{Data: n.Data}, maxExtras, func(p push.Parts) []byte { return push.JSON(n.Extras(p)) }, func(b []byte) int {
		return push.Characters.Length(string(b))
	})
	if err != nil {
		return nil, 0, err
	}
	v := notification{
		AppMessageID: n.UID.String(), Style: 1, Title: p.Title, Content: p.Body, ActionParameters: string(extras),
		OffLine: true, OffLineTTL: int64(ttl / time.Second), NotifyID: n.NotifyID(),
		ChannelID: cmp.Or(set.ChannelID, o.ChannelID),
	}
	if n.Without&push.OptionCategory == 0 {
		v.Category = cmp.Or(set.Category, o.Category)
	}
	if push.Characters.Length(p.Body) > maxShort {
		v.Style = 2
	}
	// Without a category the level is refused.
	if v.Category != "" {
		v.NotifyLevel = cmp.Or(set.NotifyLevel, o.NotifyLevel)
	}
	if t := o.Template; t != nil {
		v.TemplateID = t.ID
		v.TitleParameters = parameters(t.Title, p.Title)
		v.ContentParameters = parameters(t.Body, p.Body)
	}
	return push.JSON(message{byToken, n.To.Token, v, false}), cut | more, nil
}

func parameters(name, value string) string {
	if name == "" {
		return ""
	}
	return string(push.JSON(map[string]string{name: value}))
}

var classes = push.Classes{
	"0": {Class: push.Accepted},
	// The message was sent to this device before: every one has an id of its own.
	"32": {Class: push.Accepted},

	"10000": {Class: push.TokenDead},

	"11": {Class: push.AuthRefresh},
	"29": {Class: push.AuthRefresh},

	"14": {Class: push.ConfigHalt},
	"15": {Class: push.ConfigHalt},
	"16": {Class: push.ConfigHalt},
	"17": {Class: push.ConfigHalt},
	"26": {Class: push.ConfigHalt},
	"27": {Class: push.ConfigHalt},
	"28": {Class: push.ConfigHalt},
	"30": {Class: push.ConfigHalt},
	"18": {Class: push.ConfigHalt, Alert: true}, // our clock is wrong
	"19": {Class: push.ConfigHalt, Alert: true},

	"13": {Class: push.RetryAfter},
	"55": {Class: push.RetryAfter},
	"-2": {Class: push.RetryAfter},
	"-1": {Class: push.Retry},
	"33": {Class: push.QuotaDay},

	"12": {Class: push.PayloadBad},
	"20": {Class: push.PayloadBad},
	"21": {Class: push.PayloadBad},
	"22": {Class: push.PayloadBad},
	"23": {Class: push.PayloadBad},
	"24": {Class: push.PayloadBad},
	"25": {Class: push.PayloadBad},
	"31": {Class: push.PayloadBad},
	"40": {Class: push.PayloadBad},
	"41": {Class: push.PayloadBad},
	"51": {Class: push.PayloadBad},
	"59": {Class: push.PayloadBad},
	"67": {Class: push.PayloadBad, Without: push.OptionCategory, Alert: true},
}

// item is what is said of one token; answers to batches have a list of them.
type item struct {
	MessageID push.Code `json:"messageId"`
	Token     push.Code `json:"registrationId"`
	ErrorCode push.Code `json:"errorCode"`
}

// result is what the item means, when the batch as a whole was taken.
func (i *item) result() push.Result {
	code := i.ErrorCode
	if code == "" {
		code = "0"
	}
	r := classes.Of(string(code))
	switch r.Class {
	case push.Accepted:
		r.ID = string(i.MessageID)
	case push.AuthRefresh:
		// The access token was good enough for the batch.
		r.Class = push.Retry
	}
	return r
}

// answer is what an answer says of the request, and what else there is in it.
func answer(status int, header http.Header, body []byte) (r push.Result, data push.Loose) {
	var v struct {
		Code push.Code  `json:"code"`
		Data push.Loose `json:"data"`
	}
	if !push.ReadJSON(body, &v) {
		v.Code = ""
	}
	r = classes.Or(string(v.Code), status, push.ParseRetryAfter(header.Get))
	if status >= http.StatusInternalServerError && r.Class == push.RetryAfter {
		r.Class = push.Retry
	}
	return r, v.Data
}

// Classify reads an answer to what was sent to one token.
func Classify(status int, header http.Header, body []byte) push.Result {
	return oneOf(answer(status, header, body))
}

// oneOf is what came of what was sent to one token.
func oneOf(r push.Result, data push.Loose) push.Result {
	if r.Code != "0" {
		return r
	}
	var one item
	var list []item
	switch {
	case data.Into(&one):
	case data.Into(&list) && len(list) > 0:
		one = list[0]
	}
	return one.result()
}

// eachOf is what came of what was sent to these tokens in one batch that was taken;
// nil is that nothing is said of any of them.
func eachOf(data push.Loose, tokens []string) []push.Result {
	var list []item
	if !data.Into(&list) || len(list) == 0 {
		return nil
	}
	each := make([]push.Result, len(tokens))
	for i, token := range tokens {
		// The list is expected in our order; OPPO does not promise it. Of several for
		// one phone each has an item of its own.
		at := i
		if i >= len(list) || string(list[i].Token) != token {
			at = slices.IndexFunc(list, func(v item) bool { return string(v.Token) == token })
		}
		if at < 0 {
			// Nothing was said of it. What OPPO has already it shows once only.
			each[i] = push.Result{Class: push.Retry, Code: "unreadable"}
			continue
		}
		each[i] = list[at].result()
		list[at].Token = "" // told
	}
	return each
}
