package oppo

import (
	"errors"
	"strings"
	"testing"

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
	golden.Check(t, "example.txt", render(t, golden.Example(t, "CN_token"), Options{ChannelID: "x", NotifyLevel: 16}))
	bare := golden.With(t, "CN_token", `{}`)
	bare.Data = ""
	golden.Check(t, "options.txt", render(t, bare, Options{ChannelID: "x", Category: "IM", NotifyLevel: 16, Template: &Template{ID: "P1", Title: "who", Body: "what"}}))
	// Without a category there is no level.
	golden.Check(t, "level.txt", render(t, golden.With(t, "CN_token", `{"pushConfigs":[{"OPPO":{"notify_level":"2"}}]}`), Options{}))
}

func TestLimits(t *testing.T) {
	t.Parallel()
	n := golden.Example(t, "token")
	for body, style := range map[string]string{
		strings.Repeat("中", 50): `"style":1`, strings.Repeat("中", 51): `"style":2`, strings.Repeat("中", 128): `"style":2`,
	} {
		n.Body = body
		if r := render(t, n, Options{}); r.Cut != 0 || !strings.Contains(r.Form.Get("message"), style) {
			t.Errorf("%d: cut %b, %s", len(body)/3, r.Cut, r.Form.Get("message"))
		}
	}
	n.Title, n.Body = strings.Repeat("😀", 51), strings.Repeat("中", 129)
	r := render(t, n, Options{})
	if m := r.Form.Get("message"); r.Cut != push.CutTitle|push.CutBody || !strings.Contains(m, `"`+strings.Repeat("😀", 49)+`…"`) || !strings.Contains(m, `"`+strings.Repeat("中", 127)+`…"`) {
		t.Errorf("cut %b, %s", r.Cut, m)
	}
	n = golden.Example(t, "token")
	n.Data = strings.Repeat("中", 3700)
	if r := render(t, n, Options{}); r.Cut != 0 {
		t.Errorf("cut %b", r.Cut)
	}
	n.Data = strings.Repeat("中", 4000)
	if r := render(t, n, Options{}); r.Cut != push.CutData || !strings.Contains(r.Form.Get("message"), n.UID.String()) {
		t.Errorf("cut %b, %s", r.Cut, r.Form.Get("message"))
	}
	n = golden.Example(t, "token")
	n.Expires = golden.Now.AddDate(1, 0, 0)
	if r := render(t, n, Options{}); !strings.Contains(r.Form.Get("message"), `"off_line_ttl":864000,`) {
		t.Errorf("%s", r.Form.Get("message"))
	}
	n.Expires = golden.Now
	fails(t, n, push.ErrExpired)
	fails(t, golden.Example(t, ""), push.ErrToken)
	n = golden.Example(t, "token")
	n.Silent = true
	fails(t, n, push.ErrSilent)
	n = golden.Example(t, "token")
	n.Type = strings.Repeat("t", 5000)
	fails(t, n, push.ErrTooLarge)
}

func TestClassify(t *testing.T) {
	t.Parallel()
	golden.Classes(t, Classify, map[string]golden.Answer{
		"accepted":       {Body: `{"code":0,"message":"Success","data":{"messageId":"m"}}`, Want: push.Result{Class: push.Accepted, Code: "0", ID: "m"}},
		"in a batch":     {Body: `{"code":0,"data":[{"messageId":"m","registrationId":"token"}]}`, Want: push.Result{Class: push.Accepted, Code: "0", ID: "m"}},
		"not in a batch": {Body: `{"code":0,"data":[{"registrationId":"token","errorCode":10000,"errorMessage":"Invalid"}]}`, Want: push.Result{Class: push.TokenDead, Code: "10000"}},
		"nor alone":      {Body: `{"code":"0","data":{"errorCode":"10000"}}`, Want: push.Result{Class: push.TokenDead, Code: "10000"}},
		"once already":   {Body: `{"code":32}`, Want: push.Result{Class: push.Accepted, Code: "32"}},
		"the level":      {Body: `{"code":67}`, Want: push.Result{Class: push.PayloadBad, Code: "67", Without: push.OptionCategory, Alert: true}},
		"the clock":      {Body: `{"code":18}`, Want: push.Result{Class: push.ConfigHalt, Code: "18", Alert: true}},
		"internal":       {Status: 500, Want: push.Result{Class: push.Retry, Code: "http 500"}},
		"busy":           {Status: 503, Body: "<html>", Want: push.Result{Class: push.Retry, Code: "http 503"}},
		"unknown":        {Body: `{"code":99}`, Want: push.Result{Class: push.PayloadBad, Code: "99", Unknown: true}},
	})
	golden.Codes(t, Classify, 200, func(code string) string { return `{"code":` + code + `,"data":null}` }, map[push.Class]string{
		push.Accepted:    "0 32",
		push.TokenDead:   "10000",
		push.AuthRefresh: "11 29",
		push.ConfigHalt:  "14 15 16 17 26 27 28 30 18 19",
		push.RetryAfter:  "13 55 -2",
		push.Retry:       "-1",
		push.QuotaDay:    "33",
		push.PayloadBad:  "12 20 21 22 23 24 25 31 40 41 51 59 67",
	})
}

func Fuzz(f *testing.F) {
	golden.Fuzz(f, "token", 0, func(n *push.Notification) (push.Request, error) {
		return Render(n, &Options{}, golden.Now)
	}, Classify)
}
