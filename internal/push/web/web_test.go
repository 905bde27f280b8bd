package web

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
	"github.com/parleychat/parley/internal/push/pushtest"
)

// token is that of the browser which the simulators of rigs know.
var token = pushtest.Registered(chat.WEB, golden.Token)

func rendered(t *testing.T, n push.Notification, o Options) push.Request {
	t.Helper()
	r, err := Render(&n, &o, golden.Now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// set is a pushExt with these settings for browsers.
func set(text string) string { return `{"pushConfigs":[{"WEB":{` + text + `}}]}` }

const everySetting = `"icon":"https://example.com/alice.png","image":"https://example.com/cat.png","link":"https://chat.example.com/alice","tag":"alice",` +
	`"urgency":"high","requireInteraction":true`

func TestRender(t *testing.T) {
	t.Parallel()
	app := Options{Icon: "https://example.com/icon.png", Badge: "https://example.com/badge.png", Link: "https://chat.example.com/"}
	golden.Check(t, "example.txt", rendered(t, golden.Example(t, token), Options{}))
	bare := golden.With(t, token, `{}`)
	bare.Data, bare.HasBadge = "", false
	golden.Check(t, "options.txt", rendered(t, bare, app))
	golden.Check(t, "sender.txt", rendered(t, golden.With(t, token, set(everySetting)), app))
	call := golden.With(t, token, `{}`)
	call.Type = "RC:VCInvite"
	if r := rendered(t, call, Options{}); r.Header["Urgency"] != "high" {
		t.Errorf("%v", r.Header)
	}
	recall := golden.With(t, token, `{}`)
	recall.Removes = recall.UID.Plus(1)
	if r := rendered(t, recall, Options{}); !strings.Contains(string(r.Body), `"tag":"`+recall.Removes.String()+`"`) ||
		!strings.Contains(string(r.Body), `"rc-dlt-identifier":"`+recall.Removes.String()+`"`) {
		t.Errorf("%s", r.Body)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	n := golden.With(t, token, set(everySetting))
	whole := len(rendered(t, n, Options{}).Body)
	n.Data += strings.Repeat("x", maxPlain-whole)
	if r := rendered(t, n, Options{}); r.Cut != 0 || len(r.Body) != maxPlain {
		t.Errorf("cut %b of %d bytes", r.Cut, len(r.Body))
	}
	n.Data += "x"
	if r := rendered(t, n, Options{}); r.Cut != push.CutImage || strings.Contains(string(r.Body), "image") || strings.Contains(string(r.Body), "icon") {
		t.Errorf("cut %b of %s", r.Cut, r.Body)
	}
	n.Data = strings.Repeat("x", 4000)
	if r := rendered(t, n, Options{}); r.Cut != push.CutImage|push.CutData || strings.Contains(string(r.Body), "appData") || !strings.Contains(string(r.Body), `"rc":{`) {
		t.Errorf("cut %b of %s", r.Cut, r.Body)
	}
	n.Data, n.Body, n.Title = "", strings.Repeat("é", 3000), strings.Repeat("t", 50)
	if r := rendered(t, n, Options{}); r.Cut != push.CutImage|push.CutBody || len(r.Body) > maxPlain || len(r.Body) < maxPlain-3 {
		t.Errorf("cut %b, %d bytes", r.Cut, len(r.Body))
	}
	n.Title = strings.Repeat("t", 5000)
	if r := rendered(t, n, Options{}); r.Cut != push.CutImage|push.CutBody|push.CutTitle || len(r.Body) != maxPlain {
		t.Errorf("cut %b, %d bytes", r.Cut, len(r.Body))
	}
	n = golden.Example(t, token)
	for in, want := range map[time.Duration]string{time.Millisecond: "1", time.Hour: "3600", 1000 * time.Hour: "2419200"} {
		n.Expires = golden.Now.Add(in)
		if r := rendered(t, n, Options{}); r.Header["TTL"] != want {
			t.Errorf("%s: %v", in, r.Header)
		}
	}
	fails := func(want error, change func(*push.Notification)) {
		t.Helper()
		n := golden.Example(t, token)
		change(&n)
		if _, err := Render(&n, &Options{}, golden.Now); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	fails(push.ErrExpired, func(n *push.Notification) { n.Expires = golden.Now })
	fails(push.ErrSilent, func(n *push.Notification) { n.Silent = true })
	fails(push.ErrTooLarge, func(n *push.Notification) { n.Type = strings.Repeat("t", 4000) })
	for _, none := range []string{"", "token", "a,b", "a,b,c", "a,b,http://fcm.googleapis.com/x", "a,b,https://"} {
		fails(push.ErrToken, func(n *push.Notification) { n.To.Token = none })
	}
}

func TestTopic(t *testing.T) {
	t.Parallel()
	one, other := topic("group 中 1"), topic("group 中 2")
	if one == other || len(one) != 32 || one != topic("group 中 1") || strings.ContainsAny(one, "+/=") {
		t.Errorf("%s, %s", one, other)
	}
}

// TestSeal is the example of RFC 8291, Appendix A.
func TestSeal(t *testing.T) {
	t.Parallel()
	bytesOf := func(text string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key, err := ecdh.P256().NewPrivateKey(bytesOf("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
	if err != nil {
		t.Fatal(err)
	}
	s := &chat.WebSubscription{
		P256dh: "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4", Auth: "BTBZMqHH6r4Tts7J_aSIgg",
	}
	got, err := seal([]byte("When I grow up, I want to be a watermelon"), s, key, bytesOf("DGv6ra1nlYgDCS1FRnbzlw"))
	if err != nil {
		t.Fatal(err)
	}
	want := bytesOf("DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_" +
		"yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN")
	if !bytes.Equal(got, want) {
		t.Errorf("%s", base64.RawURLEncoding.EncodeToString(got))
	}
	for _, bad := range []chat.WebSubscription{{P256dh: "?", Auth: s.Auth}, {P256dh: s.P256dh, Auth: "?"}, {P256dh: s.Auth, Auth: s.Auth}} {
		if _, err := seal(nil, &bad, key, make([]byte, saltSize)); !errors.Is(err, push.ErrToken) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	whole, err := seal(make([]byte, maxPlain), s, key, make([]byte, saltSize))
	if err != nil || len(whole) != recordSize {
		t.Errorf("%d bytes, %v", len(whole), err)
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		header http.Header
		want   push.Result
	}{
		{201, http.Header{"Location": {"https://push.example.com/m/abc"}}, push.Result{Class: push.Accepted, Code: "201", ID: "abc"}},
		{201, http.Header{"Location": {strings.Repeat("x", 100)}}, push.Result{Class: push.Accepted, Code: "201", ID: strings.Repeat("x", 64)}},
		{200, nil, push.Result{Class: push.Accepted, Code: "200"}},
		{202, nil, push.Result{Class: push.Accepted, Code: "202"}},
		{404, nil, push.Result{Class: push.TokenDead, Code: "404"}},
		{410, nil, push.Result{Class: push.TokenDead, Code: "410"}},
		{401, nil, push.Result{Class: push.TokenStrike, Code: "401", Alert: true}},
		{403, nil, push.Result{Class: push.TokenStrike, Code: "403", Alert: true}},
		{400, nil, push.Result{Class: push.PayloadBad, Code: "400"}},
		{413, nil, push.Result{Class: push.PayloadBad, Code: "413"}},
		{429, http.Header{"Retry-After": {"7"}}, push.Result{Class: push.RetryAfter, Code: "429", After: 7 * time.Second}},
		{429, nil, push.Result{Class: push.RetryAfter, Code: "429"}},
		{500, nil, push.Result{Class: push.Retry, Code: "http 500"}},
		{500, http.Header{"Retry-After": {"5"}}, push.Result{Class: push.Retry, Code: "http 500", After: 5 * time.Second}},
		{502, http.Header{"Retry-After": {"9"}}, push.Result{Class: push.Retry, Code: "http 502", After: 9 * time.Second}},
		{503, http.Header{"Retry-After": {"9"}}, push.Result{Class: push.RetryAfter, Code: "http 503", After: 9 * time.Second}},
		// A browser names the path, which may be of anything at the push service.
		{405, nil, push.Result{Class: push.TokenStrike, Code: "http 405", Alert: true}},
		{301, nil, push.Result{Class: push.TokenStrike, Code: "http 301", Alert: true}},
		{418, nil, push.Result{Class: push.PayloadBad, Code: "http 418", Unknown: true}},
	} {
		if got := Classify(c.status, c.header, []byte("<html>")); got != c.want {
			t.Errorf("%d: %s %+v, want %s %+v", c.status, got.Class, got, c.want.Class, c.want)
		}
	}
	// Nothing that a browser can bring about stops the lane.
	for status := 200; status < 600; status++ {
		switch r := Classify(status, http.Header{}, nil); r.Class {
		case push.ConfigHalt, push.AuthRefresh, push.QuotaDay:
			t.Errorf("%d: %s", status, r.Class)
		}
	}
}

func FuzzRender(f *testing.F) {
	f.Add("title", "body", "data")
	f.Add(strings.Repeat("👩\u200d👧", 400), strings.Repeat("\x01\"", 3000), strings.Repeat("中", 4000))
	f.Fuzz(func(t *testing.T, title, body, data string) {
		n := golden.With(t, token, set(everySetting))
		n.Title, n.Body, n.Data = title, body, data
		r, err := Render(&n, &Options{}, golden.Now)
		if err != nil || len(r.Body) > maxPlain {
			t.Fatalf("%d bytes, %v", len(r.Body), err)
		}
	})
}
