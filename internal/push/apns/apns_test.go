package apns

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
)

func render(t *testing.T, n push.Notification, o Options) push.Request {
	t.Helper()
	r, err := Render(&n, &o, golden.Now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func fails(t *testing.T, n push.Notification, want error) {
	t.Helper()
	if _, err := Render(&n, &Options{}, golden.Now); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

const token = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestRender(t *testing.T) {
	t.Parallel()
	golden.Check(t, "example.txt", render(t, golden.Example(t, token), Options{}))

	bare := golden.With(t, token, `{}`)
	bare.HasBadge = false
	bare.Data = ""
	golden.Check(t, "bare.txt", render(t, bare, Options{Topic: "com.example.other", Sound: "bell.caf", Category: "CHAT"}))

	own := *bare.Ext
	own.APNs.Category = "OFFER"
	bare.Ext = &own
	golden.Check(t, "category.txt", render(t, bare, Options{Category: "CHAT"}))

	silent := golden.With(t, token, `{}`)
	silent.Silent, silent.Title, silent.Body = true, "", ""
	golden.Check(t, "silent.txt", render(t, silent, Options{}))

	recall := golden.With(t, token, `{}`)
	recall.Type, recall.Removes, recall.ContentAvailable = push.Recall, chat.NewUID(golden.Now.UnixMilli()-60_000, chat.Direct, 1, 7), true
	recall.HasBadge, recall.Badge = true, 0
	golden.Check(t, "recall.txt", render(t, recall, Options{}))

	for _, level := range []string{"passive", "active", "time-sensitive", "critical"} {
		golden.Check(t, level+".txt", render(t, golden.With(t, token, `{"pushConfigs":[{"APNs":{"interruption-level":"`+level+`"}}]}`), Options{}))
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	const image = `{"pushConfigs":[{"APNs":{"richMediaUri":"https://example.com/image.png"}}]}`
	n := golden.With(t, token, image)
	n.Body = strings.Repeat("é\"", 1500)
	r := render(t, n, Options{})
	if len(r.Body) > maxPayload || len(r.Body) < maxPayload-8 || r.Cut != push.CutImage|push.CutData|push.CutBody {
		t.Errorf("%d bytes, cut %b", len(r.Body), r.Cut)
	}
	if !strings.Contains(string(r.Body), `"id":"`+n.UID.String()) || !strings.Contains(string(r.Body), "…") {
		t.Errorf("%s", r.Body)
	}
	n = golden.With(t, token, image)
	n.Data = strings.Repeat("d", 3900)
	if r := render(t, n, Options{}); len(r.Body) > maxPayload || r.Cut != push.CutImage|push.CutData {
		t.Errorf("%d bytes, cut %b", len(r.Body), r.Cut)
	}
	n.Data = strings.Repeat("d", 3500)
	if r := render(t, n, Options{}); len(r.Body) > maxPayload || r.Cut != 0 {
		t.Errorf("%d bytes, cut %b", len(r.Body), r.Cut)
	}

	for id, want := range map[string]string{
		"chat-1": "chat-1", strings.Repeat("i", 64): strings.Repeat("i", 64),
		strings.Repeat("i", 65): "64", "línea": "64", "a\nb": "64",
	} {
		n := golden.With(t, token, `{}`)
		n.Ext.APNs.CollapseID = id
		got := render(t, n, Options{}).Header["apns-collapse-id"]
		if want == "64" && (len(got) != 64 || got == id) || want != "64" && got != want {
			t.Errorf("%q: %q", id, got)
		}
	}
	n = golden.Example(t, token)
	n.Expires = golden.Now.AddDate(1, 0, 0)
	if got := render(t, n, Options{}).Header["apns-expiration"]; got != "1802592000" {
		t.Errorf("kept until %s", got)
	}
	n.Expires = golden.Now
	fails(t, n, push.ErrExpired)
	for _, bad := range []string{"", "xyz", "abc", "../../4"} {
		fails(t, golden.Example(t, bad), push.ErrToken)
	}
	n = golden.Example(t, token)
	n.Ext.APNs.ThreadID = strings.Repeat("t", 5000)
	fails(t, n, push.ErrTooLarge)
}

func TestClassify(t *testing.T) {
	t.Parallel()
	golden.Classes(t, Classify, map[string]golden.Answer{
		"accepted":     {Header: "Apns-Id: 7", Want: push.Result{Class: push.Accepted, Code: "200", ID: "7"}},
		"dead since":   {Status: 410, Body: `{"reason":"Unregistered","timestamp":1629000000123}`, Want: push.Result{Class: push.TokenDead, Code: "Unregistered", Since: 1629000000123}},
		"dead":         {Status: 410, Body: `{"reason":"ExpiredToken"}`, Want: push.Result{Class: push.TokenDead, Code: "ExpiredToken"}},
		"this device":  {Status: 429, Header: "Retry-After: 3", Body: `{"reason":"TooManyRequests"}`, Want: push.Result{Class: push.RetryAfter, Code: "TooManyRequests", Device: true, After: 3 * time.Second}},
		"new tokens":   {Status: 429, Body: `{"reason":"TooManyProviderTokenUpdates"}`, Want: push.Result{Class: push.Retry, Code: "TooManyProviderTokenUpdates", Alert: true}},
		"unavailable":  {Status: 503, Header: "Retry-After: 30", Body: `{"reason":"ServiceUnavailable"}`, Want: push.Result{Class: push.Retry, Code: "ServiceUnavailable", After: 30 * time.Second}},
		"unknown":      {Status: 400, Body: `{"reason":"BadMood"}`, Want: push.Result{Class: push.PayloadBad, Code: "BadMood", Unknown: true}},
		"unknown, 500": {Status: 500, Body: `{"reason":"BadMood"}`, Want: push.Result{Class: push.Retry, Code: "BadMood", Unknown: true}},
		"a bare 410":   {Status: 410, Want: push.Result{Class: push.PayloadBad, Code: "http 410", Unknown: true}},
		"a proxy":      {Status: 502, Body: `<html>`, Want: push.Result{Class: push.Retry, Code: "http 502"}},
	})
	golden.Codes(t, Classify, 400, func(code string) string { return `{"reason":"` + code + `"}` }, map[push.Class]string{
		push.TokenDead:   "Unregistered ExpiredToken",
		push.TokenStrike: "BadDeviceToken DeviceTokenNotForTopic",
		push.AuthRefresh: "ExpiredProviderToken",
		push.ConfigHalt: "InvalidProviderToken MissingProviderToken Forbidden UnrelatedKeyIdInToken BadEnvironmentKeyIdInToken " +
			"BadCertificate BadCertificateEnvironment BadTopic TopicDisallowed MissingTopic",
		push.PayloadBad: "BadCollapseId BadExpirationDate BadMessageId BadPriority InvalidPushType PayloadEmpty DuplicateHeaders " +
			"MissingDeviceToken BadPath MethodNotAllowed PayloadTooLarge",
		push.RetryAfter: "TooManyRequests",
		push.Retry:      "TooManyProviderTokenUpdates IdleTimeout InternalServerError ServiceUnavailable Shutdown",
	})
}

func Fuzz(f *testing.F) {
	golden.Fuzz(f, token, maxPayload, func(n *push.Notification) (push.Request, error) {
		return Render(n, &Options{}, golden.Now)
	}, Classify)
}
