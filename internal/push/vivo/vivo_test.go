package vivo

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
	golden.Check(t, "example.txt", render(t, golden.Example(t, "token"), Options{AppID: 100, Classification: 1, Category: "IM"}))
	bare := golden.With(t, "token", `{}`)
	bare.Data = ""
	golden.Check(t, "options.txt", render(t, bare, Options{AppID: 100, Classification: 1, Category: "IM", Test: true}))
	golden.Check(t, "sender.txt", render(t, golden.With(t, "token", `{"pushConfigs":[{"VIVO":{"classification":1,"category":"ORDER"}}]}`), Options{AppID: 100}))
}

func TestLimits(t *testing.T) {
	t.Parallel()
	n := golden.Example(t, "token")
	n.Title, n.Body = strings.Repeat("中", 20), strings.Repeat("x", 100)
	if r := render(t, n, Options{}); r.Cut != 0 {
		t.Errorf("cut %b", r.Cut)
	}
	n.Title, n.Body = strings.Repeat("中", 20)+"x", strings.Repeat("中x", 34)
	r := render(t, n, Options{})
	if m := string(r.Body); r.Cut != push.CutTitle|push.CutBody || !strings.Contains(m, `"title":"`+strings.Repeat("中", 19)+`…"`) ||
		!strings.Contains(m, `"content":"`+strings.Repeat("中x", 32)+`中…"`) {
		t.Errorf("cut %b, %s", r.Cut, m)
	}
	n = golden.Example(t, "token")
	n.Data = strings.Repeat("中", 850)
	if r := render(t, n, Options{}); r.Cut != 0 {
		t.Errorf("cut %b", r.Cut)
	}
	n.Data = strings.Repeat("中", 1010)
	if r := render(t, n, Options{}); r.Cut != push.CutData || !strings.Contains(string(r.Body), n.UID.String()) {
		t.Errorf("cut %b, %s", r.Cut, r.Body)
	}
	n = golden.Example(t, "token")
	for in, want := range map[time.Duration]string{time.Second: "60", time.Hour: "3600", 1000 * time.Hour: "604800"} {
		n.Expires = golden.Now.Add(in)
		if r := render(t, n, Options{}); !strings.Contains(string(r.Body), `"timeToLive":`+want+`,`) {
			t.Errorf("%s: %s", in, r.Body)
		}
	}
	n.Expires = golden.Now
	fails(t, n, push.ErrExpired)
	fails(t, golden.Example(t, ""), push.ErrToken)
	n = golden.Example(t, "token")
	n.Silent = true
	fails(t, n, push.ErrSilent)
	n = golden.Example(t, "token")
	n.Type = strings.Repeat("t", 2000)
	fails(t, n, push.ErrTooLarge)
	if id := render(t, golden.Example(t, "token"), Options{}).Body; strings.Contains(string(id), `"requestId":""`) {
		t.Errorf("%s", id)
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	golden.Classes(t, Classify, map[string]golden.Answer{
		"accepted":      {Body: `{"result":0,"desc":"ok","taskId":"m"}`, Want: push.Result{Class: push.Accepted, Code: "0", ID: "m"}},
		"nobody":        {Body: `{"result":0,"taskId":"m","invalidUser":{},"invalidUsers":[]}`, Want: push.Result{Class: push.Accepted, Code: "0", ID: "m"}},
		"unknown user":  {Body: `{"result":0,"invalidUser":{"userid":"token","status":1}}`, Want: push.Result{Class: push.TokenDead, Code: "invalidUser 1"}},
		"in a list":     {Body: `{"result":"0","invalidUsers":[{"userid":"token","status":"1"}]}`, Want: push.Result{Class: push.TokenDead, Code: "invalidUser 1"}},
		"uninstalled":   {Body: `{"result":0,"invalidUser":{"status":2}}`, Want: push.Result{Class: push.TokenStrike, Code: "invalidUser 2"}},
		"long unseen":   {Body: `{"result":0,"invalidUser":{"status":3}}`, Want: push.Result{Class: push.TokenStrike, Code: "invalidUser 3"}},
		"no test":       {Body: `{"result":0,"invalidUser":{"status":4}}`, Want: push.Result{Class: push.ConfigHalt, Code: "invalidUser 4"}},
		"another state": {Body: `{"result":0,"invalidUser":{"status":9}}`, Want: push.Result{Class: push.PayloadBad, Code: "invalidUser 9", Unknown: true}},
		"internal":      {Status: 500, Want: push.Result{Class: push.Retry, Code: "http 500"}},
		"busy":          {Status: 503, Want: push.Result{Class: push.Retry, Code: "http 503"}},
		"unknown":       {Body: `{"result":99}`, Want: push.Result{Class: push.PayloadBad, Code: "99", Unknown: true}},
	})
	golden.Codes(t, Classify, 200, func(code string) string { return `{"result":` + code + `}` }, map[push.Class]string{
		push.Accepted:    "0",
		push.TokenDead:   "10302",
		push.AuthRefresh: "10000",
		push.ConfigHalt:  "10094 10200 10201 10202 10203 10204 10205 10206 10207 10208 10209",
		push.QuotaDay:    "10070 10073",
		push.UserCap:     "10071",
		push.RetryAfter:  "10072 10093",
		push.PayloadBad:  "10085 10104",
	})
}

func Fuzz(f *testing.F) {
	golden.Fuzz(f, "token", 1<<12, func(n *push.Notification) (push.Request, error) {
		return Render(n, &Options{}, golden.Now)
	}, Classify)
}
