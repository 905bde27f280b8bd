package hw

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
	golden.Check(t, "example.txt", render(t, golden.Example(t, "token"), Options{ClientID: "100", Category: "IM", BadgeClass: "com.example.Main"}))
	full := golden.With(t, "token", `{"pushConfigs":[{"HW":{"channelId":"c","importance":"LOW","category":"WORK"}}]}`)
	full.Data, full.Badge = "", 500
	golden.Check(t, "sender.txt", render(t, full, Options{
		ClientID: "100", ProjectID: "200", ChannelID: "x", Importance: "NORMAL", Category: "IM", Intent: "intent://open", BadgeClass: "com.example.Main", Test: true, DryRun: true,
	}))
	silent := golden.With(t, "token", `{}`)
	silent.Silent, silent.Title, silent.Body = true, "", ""
	golden.Check(t, "silent.txt", render(t, silent, Options{ClientID: "100"}))
}

func TestLimits(t *testing.T) {
	t.Parallel()
	n := golden.Example(t, strings.Repeat("t", 130))
	n.Body = strings.Repeat("中", 2000)
	r := render(t, n, Options{})
	if size := len(r.Body) - 130; size > maxPayload || size < maxPayload-8 || r.Cut != push.CutImage|push.CutData|push.CutBody {
		t.Errorf("%d bytes, cut %b", size, r.Cut)
	}
	n = golden.Example(t, "token")
	n.Expires = golden.Now.AddDate(1, 0, 0)
	if r := render(t, n, Options{}); !strings.Contains(string(r.Body), `"ttl":"1296000s"`) {
		t.Errorf("%s", r.Body)
	}
	n.Expires = golden.Now
	fails(t, n, push.ErrExpired)
	fails(t, golden.Example(t, ""), push.ErrToken)
	n = golden.Example(t, "token")
	n.Ext.HW.ChannelID = strings.Repeat("c", 5000)
	fails(t, n, push.ErrTooLarge)
}

func TestClassify(t *testing.T) {
	t.Parallel()
	golden.Classes(t, Classify, map[string]golden.Answer{
		"accepted":       {Body: `{"code":"80000000","msg":"Success","requestId":"r"}`, Want: push.Result{Class: push.Accepted, Code: "80000000", ID: "r"}},
		"a number":       {Body: `{"code":80000000}`, Want: push.Result{Class: push.Accepted, Code: "80000000"}},
		"no such token":  {Body: `{"code":"80300007","msg":"All the tokens are invalid"}`, Want: push.Result{Class: push.TokenStrike, Code: "80300007"}},
		"one such token": {Body: `{"code":"80100000","msg":"{\"success\":0,\"failure\":1,\"illegal_tokens\":[\"token\"]}"}`, Want: push.Result{Class: push.TokenStrike, Code: "80100000"}},
		"of no reason":   {Body: `{"code":"80100000","msg":{"illegalTokens":{"noRight":[]}}}`, Want: push.Result{Class: push.TokenStrike, Code: "80100000"}},
		"no HIGH":        {Status: 400, Body: `{"code":"80300011"}`, Want: push.Result{Class: push.PayloadBad, Code: "80300011", Alert: true}},
		"too many":       {Status: 400, Body: `{"code":"80300010"}`, Want: push.Result{Class: push.PayloadBad, Code: "80300010", Alert: true}},
		"flow control":   {Status: 503, Want: push.Result{Class: push.RetryAfter, Code: "http 503"}},
		"too fast":       {Status: 429, Header: "Retry-After: 2", Want: push.Result{Class: push.RetryAfter, Code: "http 429", After: 2 * time.Second}},
		"internal":       {Status: 500, Want: push.Result{Class: push.Retry, Code: "http 500"}},
		"a gateway":      {Status: 502, Body: "<html>", Want: push.Result{Class: push.Retry, Code: "http 502"}},
		"unknown":        {Status: 400, Body: `{"code":"80999999"}`, Want: push.Result{Class: push.PayloadBad, Code: "80999999", Unknown: true}},
	})
	golden.Codes(t, Classify, 200, func(code string) string { return `{"code":"` + code + `"}` }, map[push.Class]string{
		push.Accepted:    "80000000",
		push.TokenStrike: "80100000 80300007",
		push.AuthRefresh: "80200001 80200003",
		push.Retry:       "80600003 81000001",
		push.ConfigHalt:  "80300002",
		push.PayloadBad:  "80300008 80100001 80100003 80100004 80100013 80100016 80100018 80300011 80300013 80300010 80100002",
	})
	// With a reason it is judged by that.
	golden.Codes(t, Classify, 200, func(reason string) string {
		return `{"code":"80100000","msg":"{\"illegalTokens\":{\"` + reason + `\":[\"token\"]},\"success\":0,\"failure\":1}"}`
	}, map[push.Class]string{
		push.TokenStrike: "tokenFormatError tokenPlatformNotSupport noRight",
		push.ConfigHalt:  "noPushTypeRight disableSendHuaweiMsgBecauseOfPenalty appinfoError",
		push.PayloadBad:  "countryNotSupport",
	})
}

func Fuzz(f *testing.F) {
	golden.Fuzz(f, "token", maxPayload, func(n *push.Notification) (push.Request, error) {
		return Render(n, &Options{}, golden.Now)
	}, Classify)
}
