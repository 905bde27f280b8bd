// Package fcm puts notifications in the words of Firebase Cloud Messaging, version
// 1 of its HTTP API, and reads its answers.
package fcm

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/push"
)

// Options are what an app has set for Google's service.
type Options struct {
	ProjectID  string
	ChannelID  string // where the sender names none
	ShowsBadge bool   // count is the number on the notification too
	DryRun     bool
}

const (
	maxPayload = 4096 // bytes
	maxTTL     = 28 * 24 * time.Hour
)

type envelope struct {
	ValidateOnly bool    `json:"validate_only,omitzero"`
	Message      message `json:"message"`
}

type message struct {
	Token        string            `json:"token"`
	Notification *notification     `json:"notification,omitzero"`
	Data         map[string]string `json:"data"`
	Android      android           `json:"android"`
}

type notification struct {
	Title string `json:"title"`
	Body  string `json:"body"`
}

type android struct {
	CollapseKey  string  `json:"collapse_key,omitzero"`
	Priority     string  `json:"priority"`
	TTL          string  `json:"ttl"`
	Notification *banner `json:"notification,omitzero"`
}

type banner struct {
	ChannelID string `json:"channel_id,omitzero"`
	Image     string `json:"image,omitzero"`
	Tag       string `json:"tag"`
	Count     int    `json:"notification_count,omitzero"`
}

// Render puts a notification in Google's words.
func Render(n *push.Notification, o *Options, now time.Time) (push.Request, error) {
	if n.To.Token == "" {
		return push.Request{}, push.ErrToken
	}
	ttl, err := n.TTL(now, time.Second, maxTTL)
	if err != nil {
		return push.Request{}, err
	}
	set := &n.Settings().FCM
	body, cut, err := push.Fit(n.Parts(), maxPayload, func(p push.Parts) []byte {
		m := message{
			Token: n.To.Token, Data: n.Extras(p).Strings(),
			Android: android{Priority: "NORMAL", TTL: "0s"}, // silent ones: now or never
		}
		if n.Silent && !n.Removes.IsZero() {
			m.Android.TTL = push.Seconds(ttl) // a phone that is asleep still shows what is to go
		}
		if !n.Silent {
			m.Notification = &notification{p.Title, p.Body}
			m.Android = android{
				// Only when the sender asks: the service lets few through of those
				// that have a key.
				CollapseKey: set.CollapseKey,
				Priority:    "HIGH", TTL: push.Seconds(ttl),
				Notification: &banner{ChannelID: cmp.Or(set.ChannelID, o.ChannelID), Tag: n.Shown().String()},
			}
			b := m.Android.Notification
			if p.Image {
				b.Image = set.ImageURL
			}
			if o.ShowsBadge && n.HasBadge {
				b.Count = n.Badge
			}
		}
		return push.JSON(envelope{o.DryRun, m})
	}, func(b []byte) int { return len(b) - len(n.To.Token) })
	if err != nil {
		return push.Request{}, err
	}
	return push.JSONRequest(path(o), body, cut), nil
}

func path(o *Options) string { return "/v1/projects/" + url.PathEscape(o.ProjectID) + "/messages:send" }

var classes = push.Classes{
	"UNREGISTERED":           {Class: push.TokenDead},
	"SENDER_ID_MISMATCH":     {Class: push.TokenStrike},
	"INVALID_ARGUMENT":       {Class: push.PayloadBad},
	"UNAUTHENTICATED":        {Class: push.AuthRefresh},
	"THIRD_PARTY_AUTH_ERROR": {Class: push.ConfigHalt},
	"QUOTA_EXCEEDED":         {Class: push.RetryAfter},
	"UNAVAILABLE":            {Class: push.Retry},
	"INTERNAL":               {Class: push.Retry},
}

// ofStatus are the general words that are taken for the service's own where it
// says nothing itself. NOT_FOUND is not among them: it may be the project that is
// not found, and the token is fine.
var ofStatus = map[string]bool{"UNAUTHENTICATED": true, "INVALID_ARGUMENT": true, "UNAVAILABLE": true, "INTERNAL": true}

type answer struct {
	Name  string `json:"name"`
	Error struct {
		Status  push.Code `json:"status"`
		Message push.Code `json:"message"`
		Details []struct {
			Type       push.Code `json:"@type"`
			ErrorCode  push.Code `json:"errorCode"`
			Violations []struct {
				Field push.Code `json:"field"`
			} `json:"fieldViolations"`
		} `json:"details"`
	} `json:"error"`
}

// Classify reads an answer.
func Classify(status int, header http.Header, body []byte) push.Result {
	var v answer
	readable := push.ReadJSON(body, &v)
	if status == http.StatusOK && readable && v.Name != "" {
		return push.Result{Class: push.Accepted, Code: "200", ID: v.Name}
	}
	code, ours := "", false // whether the service itself has spoken
	var onToken, onOther bool
	for _, d := range v.Error.Details {
		if strings.HasSuffix(string(d.Type), "google.firebase.fcm.v1.FcmError") {
			code, ours = string(d.ErrorCode), true
		}
		for _, f := range d.Violations {
			onToken = onToken || f.Field == "message.token"
			onOther = onOther || f.Field != "message.token"
		}
	}
	if !readable {
		code = ""
	} else if code == "" && ofStatus[string(v.Error.Status)] {
		code = string(v.Error.Status)
	}
	if code == "INVALID_ARGUMENT" && ours && !onOther &&
		(onToken || strings.Contains(strings.ToLower(string(v.Error.Message)), "registration token")) {
		return push.Result{Class: push.TokenDead, Code: code}
	}
	return classes.Or(code, status, push.ParseRetryAfter(header.Get))
}
