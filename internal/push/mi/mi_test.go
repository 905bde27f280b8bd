package mi

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
	"github.com/parleychat/parley/internal/push/line"
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
	golden.Check(t, "example.txt", render(t, golden.Example(t, "token"), Options{ChannelID: "x"}))
	bare := golden.With(t, "token", `{}`)
	bare.Data = ""
	golden.Check(t, "options.txt", render(t, bare, Options{Package: "com.example.other", ChannelID: "x", Template: &Template{ID: "P1", Title: "who", Body: "what"}}))
	silent := golden.With(t, "token", `{}`)
	silent.Silent, silent.Title, silent.Body = true, "", ""
	golden.Check(t, "silent.txt", render(t, silent, Options{}))
}

func TestLimits(t *testing.T) {
	t.Parallel()
	n := golden.Example(t, "token")
	n.Title, n.Body = strings.Repeat("é", 50), strings.Repeat("👍🏽", 64)
	r := render(t, n, Options{})
	if got := r.Form.Get("title"); got != strings.Repeat("é", 48)+"…" {
		t.Errorf("title %q", got)
	}
	if got := r.Form.Get("description"); got != strings.Repeat("👍🏽", 63)+"…" || r.Cut != push.CutTitle|push.CutBody {
		t.Errorf("description %q, cut %b", got, r.Cut)
	}
	n.Title, n.Body = strings.Repeat("é", 49), strings.Repeat("中", 127)
	if r := render(t, n, Options{}); r.Cut != 0 {
		t.Errorf("cut %b", r.Cut)
	}
	n.Data = strings.Repeat("d", 4000)
	if r := render(t, n, Options{}); r.Cut != push.CutData || strings.Contains(r.Form.Get("payload"), "ddd") || !strings.Contains(r.Form.Get("payload"), n.UID.String()) {
		t.Errorf("cut %b, payload %s", r.Cut, r.Form.Get("payload"))
	}
	n = golden.Example(t, "token")
	n.Expires = golden.Now.AddDate(1, 0, 0)
	if got := render(t, n, Options{}).Form.Get("time_to_live"); got != "1209600000" {
		t.Errorf("lives for %s", got)
	}
	n.Expires = golden.Now
	fails(t, n, push.ErrExpired)
	fails(t, golden.Example(t, ""), push.ErrToken)
	fails(t, golden.Example(t, "a,b"), push.ErrToken)
	n = golden.Example(t, "token")
	n.Type = strings.Repeat("t", 5000)
	fails(t, n, push.ErrTooLarge)
}

func TestVariable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Hello": "Hello", "Hello 👍🏽": "Hello", "👩\u200d👧 home": "home", "😀": "…", "": "…", "❤\ufe0f love": "love",
		"1\ufe0f\u20e3": "1", "中文": "中文", strings.Repeat("x", 129): strings.Repeat("x", 127) + "…",
	} {
		if got := variable(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	golden.Classes(t, Classify, map[string]golden.Answer{
		"accepted":      {Body: `{"result":"ok","code":0,"data":{"id":"m"},"trace_id":"t"}`, Want: push.Result{Class: push.Accepted, Code: "0", ID: "m"}},
		"as a string":   {Body: `{"result":"ok","code":"0"}`, Want: push.Result{Class: push.Accepted, Code: "0"}},
		"0 and not ok":  {Body: `{"result":"error","code":0}`, Want: push.Result{Class: push.PayloadBad, Code: "result error", Unknown: true}},
		"no channel":    {Body: `{"result":"error","code":27001}`, Want: push.Result{Class: push.ConfigHalt, Code: "27001", Without: push.OptionChannel}},
		"channel quota": {Body: `{"result":"error","code":10000,"reason":"channel_exceed_quota"}`, Want: push.Result{Class: push.QuotaDay, Code: "channel_exceed_quota"}},
		"too frequent":  {Header: "Retry-After: 4", Body: `{"result":"error","code":10027}`, Want: push.Result{Class: push.RetryAfter, Code: "10027", After: 4 * time.Second}},
		"internal":      {Status: 500, Want: push.Result{Class: push.Retry, Code: "http 500"}},
		"busy":          {Status: 503, Want: push.Result{Class: push.Retry, Code: "http 503"}},
		"unknown":       {Body: `{"result":"error","code":99}`, Want: push.Result{Class: push.PayloadBad, Code: "99", Unknown: true}},
	})
	golden.Codes(t, Classify, 200, func(code string) string { return `{"result":"error","code":` + code + `}` }, map[push.Class]string{
		push.Retry:       "10001 10002 10003 1 20607 26003 65029",
		push.RetryAfter:  "10027 26004 10030",
		push.QuotaDay:    "10034 200001",
		push.ConfigHalt:  "21301 21302 22000 22006 22007 22022 10031 10036 27001",
		push.PayloadBad:  "10008 10012 10016 10017 65009 65014 65015 65037 65038 26006",
		push.TokenStrike: "20301",
	})
}

func Fuzz(f *testing.F) {
	golden.Fuzz(f, "token", 0, func(n *push.Notification) (push.Request, error) {
		return Render(n, &Options{}, golden.Now)
	}, Classify)
}

// Without an address of their own, apps are sent for where their region is.
func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ region, base, send, feedback string }{
		{"", "", "https://api.xmpush.xiaomi.com", "https://feedback.xmpush.xiaomi.com"},
		{"cn", "", "https://api.xmpush.xiaomi.com", "https://feedback.xmpush.xiaomi.com"},
		{"global", "", "https://api.xmpush.global.xiaomi.com", "https://feedback.xmpush.global.xiaomi.com"},
		{"global", "https://relay.example.com/mi/", "https://relay.example.com/mi", "https://relay.example.com/mi"},
	} {
		a, err := New(&chat.PushCredential{Provider: chat.MI, Fields: map[string]string{"appSecret": "x", "region": c.region}, BaseURL: c.base}, line.Options{}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.(*adapter).address; got != (address{c.send, c.feedback}) {
			t.Errorf("%s %s: %+v", c.region, c.base, got)
		}
		a.Close()
	}
}
