package honor

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
	// The page's example says nothing of Honor.
	golden.Check(t, "example.txt", render(t, golden.Example(t, "token"), Options{AppID: "100"}))
	full := golden.With(t, "token", `{"pushConfigs":[{"HONOR":{"importance":"NORMAL","image":"https://example.com/image.png"}}]}`)
	full.Badge = 500
	golden.Check(t, "sender.txt", render(t, full, Options{AppID: "100", Importance: "LOW", Intent: "intent://open", BadgeClass: "com.example.Main", Test: true}))
	silent := golden.With(t, "token", `{}`)
	silent.Silent, silent.Title, silent.Body = true, "", ""
	golden.Check(t, "silent.txt", render(t, silent, Options{AppID: "100"}))
}

// What Huawei writes with underscores is not taken.
func TestCase(t *testing.T) {
	t.Parallel()
	n := golden.With(t, "token", `{"pushConfigs":[{"HONOR":{"importance":"NORMAL","image":"https://example.com/image.png"}}]}`)
	n.Data, n.Title, n.Body = "", "t", "b"
	if r := render(t, n, Options{AppID: "100", Intent: "i", BadgeClass: "c", Test: true}); strings.Contains(string(r.Body), "_") {
		t.Errorf("%s", r.Body)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	n := golden.With(t, "token", `{"pushConfigs":[{"HONOR":{"image":"https://example.com/image.png"}}]}`)
	n.Body = strings.Repeat("中", 2000)
	if r := render(t, n, Options{}); len(r.Body) > maxPayload || len(r.Body) < maxPayload-8 || r.Cut != push.CutImage|push.CutData|push.CutBody {
		t.Errorf("%d bytes, cut %b", len(r.Body), r.Cut)
	}
	n.Expires = golden.Now.AddDate(1, 0, 0)
	if r := render(t, n, Options{}); !strings.Contains(string(r.Body), `"ttl":"1296000s"`) {
		t.Errorf("%s", r.Body)
	}
	n.Expires = golden.Now
	fails(t, n, push.ErrExpired)
	fails(t, golden.Example(t, ""), push.ErrToken)
	fails(t, golden.With(t, strings.Repeat("t", 5000), `{}`), push.ErrTooLarge)
}

func TestClassify(t *testing.T) {
	t.Parallel()
	data := func(s string) string { return `{"code":200,"message":"Success","data":{` + s + `}}` }
	golden.Classes(t, Classify, map[string]golden.Answer{
		"accepted":       {Body: data(`"sendResult":true,"requestId":"r","failTokens":[],"expireTokens":[],"msgCode":200`), Want: push.Result{Class: push.Accepted, Code: "200", ID: "r"}},
		"a string":       {Body: `{"code":"200","data":{"sendResult":true}}`, Want: push.Result{Class: push.Accepted, Code: "200"}},
		"no data":        {Body: `{"code":200}`, Want: push.Result{Class: push.Accepted, Code: "200"}},
		"as Huawei":      {Body: `{"code":"80000000"}`, Want: push.Result{Class: push.Accepted, Code: "80000000", Unknown: true}},
		"zero":           {Body: `{"code":0}`, Want: push.Result{Class: push.Accepted, Code: "0", Unknown: true}},
		"dead":           {Body: data(`"sendResult":true,"expireTokens":["token"]`), Want: push.Result{Class: push.TokenDead, Code: "expireTokens"}},
		"failed":         {Body: data(`"sendResult":true,"failTokens":["token"]`), Want: push.Result{Class: push.Retry, Code: "failTokens"}},
		"not sent":       {Body: data(`"sendResult":false,"failTokens":[],"expireTokens":null`), Want: push.Result{Class: push.Retry, Code: "sendResult"}},
		"unauthorised":   {Status: 401, Want: push.Result{Class: push.AuthRefresh, Code: "http 401"}},
		"forbidden":      {Status: 403, Body: "<html>", Want: push.Result{Class: push.AuthRefresh, Code: "http 403"}},
		"401 in a 200":   {Body: `{"code":401}`, Want: push.Result{Class: push.AuthRefresh, Code: "401"}},
		"too fast":       {Status: 429, Header: "Retry-After: 2", Want: push.Result{Class: push.RetryAfter, Code: "http 429", After: 2 * time.Second}},
		"busy":           {Status: 503, Want: push.Result{Class: push.RetryAfter, Code: "http 503"}},
		"internal":       {Status: 500, Want: push.Result{Class: push.Retry, Code: "http 500"}},
		"any other code": {Body: `{"code":8001000,"message":"?"}`, Want: push.Result{Class: push.PayloadBad, Code: "8001000", Unknown: true}},
	})
}

func Fuzz(f *testing.F) {
	golden.Fuzz(f, "token", maxPayload, func(n *push.Notification) (push.Request, error) {
		return Render(n, &Options{}, golden.Now)
	}, Classify)
}
