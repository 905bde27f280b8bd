package ohos

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
	golden.Check(t, "example.txt", render(t, golden.Example(t, "token"), Options{ProjectID: "100"}))
	full := golden.With(t, "token", `{}`)
	full.Data, full.Badge = "", 500
	golden.Check(t, "options.txt", render(t, full, Options{ProjectID: "100", Category: "WORK", Action: "com.example.open", ShowsBadge: true, Test: true}))
	golden.Check(t, "bare.txt", render(t, golden.With(t, "token", `{}`), Options{ProjectID: "100"}))
	silent := golden.With(t, "token", `{}`)
	silent.Silent, silent.Title, silent.Body = true, "", ""
	golden.Check(t, "silent.txt", render(t, silent, Options{ProjectID: "100"}))
}

func TestLimits(t *testing.T) {
	t.Parallel()
	n := golden.Example(t, strings.Repeat("t", 100))
	n.Body = strings.Repeat("中", 2000)
	r := render(t, n, Options{})
	if size := len(r.Body) - 100; size > maxPayload || size < maxPayload-8 || r.Cut != push.CutImage|push.CutData|push.CutBody {
		t.Errorf("%d bytes, cut %b", size, r.Cut)
	}
	n = golden.Example(t, "token")
	n.Expires = golden.Now.AddDate(1, 0, 0)
	if r := render(t, n, Options{}); !strings.Contains(string(r.Body), `"ttl":1296000`) {
		t.Errorf("%s", r.Body)
	}
	n.Ext.OHOS.Category = "VOIP"
	if r := render(t, n, Options{}); !strings.Contains(string(r.Body), `"ttl":60}`) {
		t.Errorf("%s", r.Body)
	}
	n.Expires = golden.Now.Add(time.Second)
	if r := render(t, n, Options{}); !strings.Contains(string(r.Body), `"ttl":30}`) {
		t.Errorf("%s", r.Body)
	}
	n.Expires = golden.Now
	fails(t, n, push.ErrExpired)
	fails(t, golden.Example(t, ""), push.ErrToken)
	n = golden.Example(t, "token")
	n.Ext.OHOS.Category = strings.Repeat("c", 5000)
	fails(t, n, push.ErrTooLarge)
}

func TestClassify(t *testing.T) {
	t.Parallel()
	golden.Classes(t, Classify, map[string]golden.Answer{
		"accepted":       {Body: `{"code":"80000000","msg":"Success","requestId":"r"}`, Want: push.Result{Class: push.Accepted, Code: "80000000", ID: "r"}},
		"says no more":   {Body: `{"code":"80300007","msg":"All the tokens are invalid"}`, Want: push.Result{Class: push.TokenStrike, Code: "80300007"}},
		"as an object":   {Body: `{"code":"80100000","msg":{"illegalTokens":{"noRight":["token"]}}}`, Want: push.Result{Class: push.TokenStrike, Code: "noRight"}},
		"unknown reason": {Body: `{"code":"80100000","msg":{"illegalTokens":{"badMood":["token"]}}}`, Want: push.Result{Class: push.PayloadBad, Code: "badMood", Unknown: true}},
		"another image":  {Body: `{"code":"80300007","msg":"{\"illegalTokens\":{\"differentImgVerifyPolicy\":[\"token\"]}}"}`, Want: push.Result{Class: push.PayloadBad, Code: "differentImgVerifyPolicy", Without: push.OptionImage}},
		"of nobody":      {Body: `{"code":"80100000","msg":"{\"illegalTokens\":{\"tokenFormatError\":[]}}"}`, Want: push.Result{Class: push.TokenStrike, Code: "80100000"}},
		"the image":      {Status: 400, Body: `{"code":"80100022"}`, Want: push.Result{Class: push.PayloadBad, Code: "80100022", Without: push.OptionImage}},
		"flow control":   {Status: 503, Want: push.Result{Class: push.RetryAfter, Code: "http 503"}},
		"unauthorised":   {Status: 401, Want: push.Result{Class: push.AuthRefresh, Code: "http 401"}},
		"no project":     {Status: 404, Want: push.Result{Class: push.ConfigHalt, Code: "http 404"}},
		"internal":       {Status: 500, Want: push.Result{Class: push.Retry, Code: "http 500"}},
		"a gateway":      {Status: 502, Want: push.Result{Class: push.Retry, Code: "http 502"}},
	})
	golden.Codes(t, Classify, 200, func(code string) string { return `{"code":"` + code + `"}` }, map[push.Class]string{
		push.Accepted:    "80000000",
		push.TokenStrike: "80100000 80300007",
		push.AuthRefresh: "80200001 80200005 80300036",
		push.ConfigHalt:  "80300002 80300037",
		push.PayloadBad:  "80100001 80100003 80100004 80100022 80300008 80300010 80300030",
		push.RetryAfter:  "80300029",
		push.Retry:       "81000001",
	})
	for _, code := range []string{"80100000", "80300007"} {
		golden.Codes(t, Classify, 200, func(reason string) string {
			return `{"code":"` + code + `","msg":"{\"illegalTokens\":{\"` + reason + `\":[\"token\"]},\"success\":0,\"failure\":1}"}`
		}, map[push.Class]string{
			push.TokenDead:   "tokenFormatError tokenPlatformNotSupport",
			push.TokenStrike: "noRight",
			push.ConfigHalt:  "noPushTypeRight disableSendHuaweiMsgBecauseOfPenalty appinfoError",
			push.PayloadBad:  "countryNotSupport atomicUnableSendUnsubscribedMsg noRightToSendThisLiveNotificationEvent notSupportPlayVoice",
		})
	}
}

func Fuzz(f *testing.F) {
	golden.Fuzz(f, "token", maxPayload, func(n *push.Notification) (push.Request, error) {
		return Render(n, &Options{}, golden.Now)
	}, Classify)
}
