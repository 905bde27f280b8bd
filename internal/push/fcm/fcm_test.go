package fcm

import (
	"errors"
	"strings"
	"testing"
	"time"

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

func TestRender(t *testing.T) {
	t.Parallel()
	o := Options{ProjectID: "my-project", ChannelID: "chat", ShowsBadge: true}
	golden.Check(t, "example.txt", render(t, golden.Example(t, "token"), o))
	bare := golden.With(t, "token", `{}`)
	bare.Data = ""
	golden.Check(t, "bare.txt", render(t, bare, Options{ProjectID: "a/b", ChannelID: "chat", DryRun: true}))
	silent := golden.With(t, "token", `{}`)
	silent.Silent, silent.Title, silent.Body = true, "", ""
	golden.Check(t, "silent.txt", render(t, silent, o))
}

func TestLimits(t *testing.T) {
	t.Parallel()
	n := golden.Example(t, strings.Repeat("t", 300))
	n.Body = strings.Repeat("👍🏽", 900)
	r := render(t, n, Options{})
	if size := len(r.Body) - 300; size > maxPayload || size < maxPayload-12 || r.Cut != push.CutImage|push.CutData|push.CutBody {
		t.Errorf("%d bytes, cut %b", size, r.Cut)
	}
	n = golden.Example(t, "token")
	n.Expires = golden.Now.AddDate(1, 0, 0)
	if r := render(t, n, Options{}); !strings.Contains(string(r.Body), `"ttl":"2419200s"`) {
		t.Errorf("%s", r.Body)
	}
	n.Expires = golden.Now
	fails(t, n, push.ErrExpired)
	fails(t, golden.Example(t, ""), push.ErrToken)
	n = golden.Example(t, "token")
	n.Ext.FCM.ChannelID = strings.Repeat("c", 5000)
	fails(t, n, push.ErrTooLarge)
}

func fault(status, message, code, violations string) string {
	details := ""
	if code != "" {
		details = `{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"` + code + `"}`
	}
	if violations != "" {
		details = strings.TrimPrefix(details+`,{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"`+violations+`"}]}`, ",")
	}
	return `{"error":{"code":400,"status":"` + status + `","message":"` + message + `","details":[` + details + `]}}`
}

func TestClassify(t *testing.T) {
	t.Parallel()
	const complaint = "The registration token is not a valid FCM registration token"
	golden.Classes(t, Classify, map[string]golden.Answer{
		"accepted":              {Body: `{"name":"projects/p/messages/1"}`, Want: push.Result{Class: push.Accepted, Code: "200", ID: "projects/p/messages/1"}},
		"dead":                  {Status: 404, Body: fault("NOT_FOUND", "", "UNREGISTERED", ""), Want: push.Result{Class: push.TokenDead, Code: "UNREGISTERED"}},
		"no such project":       {Status: 404, Body: fault("NOT_FOUND", "", "", ""), Want: push.Result{Class: push.ConfigHalt, Code: "http 404"}},
		"no such path":          {Status: 404, Body: "<html>", Want: push.Result{Class: push.ConfigHalt, Code: "http 404"}},
		"no token":              {Status: 400, Body: fault("INVALID_ARGUMENT", complaint, "INVALID_ARGUMENT", ""), Want: push.Result{Class: push.TokenDead, Code: "INVALID_ARGUMENT"}},
		"no token, by field":    {Status: 400, Body: fault("INVALID_ARGUMENT", "", "INVALID_ARGUMENT", "message.token"), Want: push.Result{Class: push.TokenDead, Code: "INVALID_ARGUMENT"}},
		"another field":         {Status: 400, Body: fault("INVALID_ARGUMENT", "", "INVALID_ARGUMENT", "message.android.ttl"), Want: push.Result{Class: push.PayloadBad, Code: "INVALID_ARGUMENT"}},
		"another field, worded": {Status: 400, Body: fault("INVALID_ARGUMENT", complaint, "INVALID_ARGUMENT", "message.data"), Want: push.Result{Class: push.PayloadBad, Code: "INVALID_ARGUMENT"}},
		"no word of its own":    {Status: 400, Body: fault("INVALID_ARGUMENT", complaint, "", "message.token"), Want: push.Result{Class: push.PayloadBad, Code: "INVALID_ARGUMENT"}},
		"too large":             {Status: 400, Body: fault("INVALID_ARGUMENT", "Message too big", "INVALID_ARGUMENT", ""), Want: push.Result{Class: push.PayloadBad, Code: "INVALID_ARGUMENT"}},
		"another sender":        {Status: 403, Body: fault("PERMISSION_DENIED", "", "SENDER_ID_MISMATCH", ""), Want: push.Result{Class: push.TokenStrike, Code: "SENDER_ID_MISMATCH"}},
		"no access token":       {Status: 401, Body: fault("UNAUTHENTICATED", "", "", ""), Want: push.Result{Class: push.AuthRefresh, Code: "UNAUTHENTICATED"}},
		"a bare 401":            {Status: 401, Want: push.Result{Class: push.AuthRefresh, Code: "http 401"}},
		"Apple's credentials":   {Status: 401, Body: fault("UNAUTHENTICATED", "", "THIRD_PARTY_AUTH_ERROR", ""), Want: push.Result{Class: push.ConfigHalt, Code: "THIRD_PARTY_AUTH_ERROR"}},
		"quota":                 {Status: 429, Body: fault("RESOURCE_EXHAUSTED", "", "QUOTA_EXCEEDED", ""), Want: push.Result{Class: push.RetryAfter, Code: "QUOTA_EXCEEDED"}},
		"quota, with a time":    {Status: 429, Header: "Retry-After: 90", Body: fault("RESOURCE_EXHAUSTED", "", "QUOTA_EXCEEDED", ""), Want: push.Result{Class: push.RetryAfter, Code: "QUOTA_EXCEEDED", After: 90 * time.Second}},
		"a bare 429":            {Status: 429, Want: push.Result{Class: push.RetryAfter, Code: "http 429"}},
		"unavailable":           {Status: 503, Header: "Retry-After: 10", Body: fault("UNAVAILABLE", "", "UNAVAILABLE", ""), Want: push.Result{Class: push.Retry, Code: "UNAVAILABLE", After: 10 * time.Second}},
		"internal":              {Status: 500, Body: fault("INTERNAL", "", "INTERNAL", ""), Want: push.Result{Class: push.Retry, Code: "INTERNAL"}},
		"an empty answer":       {Body: `{}`, Want: push.Result{Class: push.Retry, Code: "unreadable"}},
	})
}

func Fuzz(f *testing.F) {
	golden.Fuzz(f, "token", maxPayload, func(n *push.Notification) (push.Request, error) {
		return Render(n, &Options{}, golden.Now)
	}, Classify)
}
