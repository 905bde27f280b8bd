package meizu

import (
	"errors"
	"net/url"
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
	golden.Check(t, "example.txt", render(t, golden.Example(t, "token"), Options{AppID: "100"}))
	bare := golden.With(t, "token", `{}`)
	bare.Data = ""
	golden.Check(t, "bare.txt", render(t, bare, Options{AppID: "100"}))
}

// What pushExt calls 2 is 0 to Meizu.
func TestKinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ext    string
		public bool
		want   string
	}{
		{`{}`, false, `"noticeMsgType":1`},
		{`{}`, true, `"noticeMsgType":0`},
		{`{"pushConfigs":[{"MEIZU":{"noticeMsgType":1}}]}`, true, `"noticeMsgType":1`},
		{`{"pushConfigs":[{"MEIZU":{"noticeMsgType":"2"}}]}`, false, `"noticeMsgType":0`},
	} {
		r := render(t, golden.With(t, "token", c.ext), Options{Public: c.public})
		if m := r.Form.Get("messageJson"); !strings.Contains(m, c.want) {
			t.Errorf("%s, %t: %s", c.ext, c.public, m)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	n := golden.Example(t, "token")
	n.Title, n.Body = strings.Repeat("é", 32), strings.Repeat("中", 100)
	if r := render(t, n, Options{}); r.Cut != 0 || strings.Contains(r.Form.Get("messageJson"), "noticeExpandInfo") {
		t.Errorf("cut %b, %s", r.Cut, r.Form.Get("messageJson"))
	}
	n.Title, n.Body = strings.Repeat("é", 33), strings.Repeat("中", 101)
	r := render(t, n, Options{})
	if m := r.Form.Get("messageJson"); r.Cut != push.CutTitle || !strings.Contains(m, `"title":"`+strings.Repeat("é", 31)+`…"`) ||
		!strings.Contains(m, `"content":"`+strings.Repeat("中", 99)+`…"`) || !strings.Contains(m, `"noticeExpandType":1,"noticeExpandContent":"`+n.Body+`"`) {
		t.Errorf("cut %b, %s", r.Cut, m)
	}
	n = golden.Example(t, "token")
	n.Data = strings.Repeat("d", 1000)
	if r := render(t, n, Options{}); r.Cut != push.CutData || !strings.Contains(r.Form.Get("messageJson"), n.UID.String()) {
		t.Errorf("cut %b, %s", r.Cut, r.Form.Get("messageJson"))
	}
	n = golden.Example(t, "token")
	for in, want := range map[time.Duration]string{time.Second: "1", 90 * time.Minute: "1", 30 * time.Hour: "30", 1000 * time.Hour: "72"} {
		n.Expires = golden.Now.Add(in)
		if r := render(t, n, Options{}); !strings.Contains(r.Form.Get("messageJson"), `"validTime":`+want+`}`) {
			t.Errorf("%s: %s", in, r.Form.Get("messageJson"))
		}
	}
	n.Expires = golden.Now
	fails(t, n, push.ErrExpired)
	fails(t, golden.Example(t, ""), push.ErrToken)
	fails(t, golden.Example(t, "a,b"), push.ErrToken)
	n = golden.Example(t, "token")
	n.Silent = true
	fails(t, n, push.ErrSilent)
	n = golden.Example(t, "token")
	n.Type = strings.Repeat("t", 2000)
	fails(t, n, push.ErrTooLarge)
	n = golden.Example(t, "token")
	if key := notifyKey(&n); len(key) != 8 {
		t.Errorf("key %q", key)
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	golden.Classes(t, Classify, map[string]golden.Answer{
		"accepted":       {Body: `{"code":"200","message":"","value":{},"redirect":"","msgId":"m"}`, Want: push.Result{Class: push.Accepted, Code: "200", ID: "m"}},
		"a number":       {Body: `{"code":200,"value":"","msgId":7}`, Want: push.Result{Class: push.Accepted, Code: "200", ID: "7"}},
		"empty lists":    {Body: `{"code":"200","value":{"110003":[]}}`, Want: push.Result{Class: push.Accepted, Code: "200"}},
		"codes by token": {Body: `{"code":"200","value":{"token":"110003"}}`, Want: push.Result{Class: push.TokenDead, Code: "110003"}},
		"numbers":        {Body: `{"code":"200","value":{"token":110002}}`, Want: push.Result{Class: push.TokenStrike, Code: "110002"}},
		"as a string":    {Body: `{"code":"200","value":"{\"110003\":[\"token\"]}"}`, Want: push.Result{Class: push.TokenDead, Code: "110003"}},
		"no brackets":    {Body: `{"code":"200","value":{"110003":"token"}}`, Want: push.Result{Class: push.TokenDead, Code: "110003"}},
		"unknown token":  {Body: `{"code":"200","value":{"77":["token"]}}`, Want: push.Result{Class: push.PayloadBad, Code: "77", Unknown: true}},
		"elsewhere":      {Body: `{"code":"300","redirect":"http://example.com"}`, Want: push.Result{Class: push.PayloadBad, Code: "300", Unknown: true}},
		"internal":       {Status: 500, Want: push.Result{Class: push.Retry, Code: "http 500"}},
	})
	golden.Codes(t, Classify, 200, func(code string) string { return `{"code":"` + code + `"}` }, map[push.Class]string{
		push.Accepted:   "200",
		push.Retry:      "1003 1001 500",
		push.RetryAfter: "110010",
		push.QuotaDay:   "110019 110051",
		push.ConfigHalt: "1006 110000 110001 110009 110031 110033",
		push.PayloadBad: "1005 110004 110053",
	})
	golden.Codes(t, Classify, 200, func(code string) string { return `{"code":"200","value":{"` + code + `":["token"]}}` }, map[push.Class]string{
		push.TokenStrike: "110002",
		push.TokenDead:   "110003",
		push.ConfigHalt:  "201",
		push.Retry:       "501 513 519",
		push.RetryAfter:  "518",
		push.UserCap:     "520",
	})
}

func Fuzz(f *testing.F) {
	golden.Fuzz(f, "token", 0, func(n *push.Notification) (push.Request, error) {
		return Render(n, &Options{}, golden.Now)
	}, Classify)
}

// The example that Meizu gives for its signature. What is signed is what stands in
// the form before it is escaped.
func TestSign(t *testing.T) {
	t.Parallel()
	form := url.Values{}
	form.Set("messageJson", `{"title":"title","content":"content","pushTimeInfo":{"offLine":1,"validTime":24}}`)
	form.Set("appId", "10000")
	form.Set("pushIds", "RA50c6348036344485d01776773577c64740465480a6b")
	if got := sign(form, "<APP_SECRET>"); got != "ac076ff25d9900015a681cb5172aa53b" {
		t.Error(got)
	}
}
