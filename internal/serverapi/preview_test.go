package serverapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/apns"
	"github.com/parleychat/parley/internal/push/meizu"
	"github.com/parleychat/parley/internal/push/vivo"
)

const previewPath = "/v4x/push/preview"

func init() { archiveTables[previewPath] = previewFields.Names() }

// A speller puts notifications in the words of three providers, and must not be
// asked for anything else.
type speller struct {
	push.Adapter
	provider chat.PushProvider
	secret   string
	now      func() time.Time
}

// Check answers by what the secret is.
func (s *speller) Check(context.Context) push.Result {
	switch s.secret {
	case "wrong":
		return push.Result{Class: push.ConfigHalt, Code: "10200"}
	case "away":
		return push.Result{Class: push.Retry, Code: "connect"}
	}
	return push.Result{Class: push.Accepted, Code: "0"}
}

func newSpeller(c *chat.PushCredential, now func() time.Time) (push.Adapter, error) {
	if c.Fields["appId"] == "666" {
		return nil, fmt.Errorf("appId: is of no use")
	}
	return &speller{provider: c.Provider, secret: c.Fields["appSecret"], now: now}, nil
}

func (s *speller) Render(n *push.Notification) (push.Request, error) {
	switch s.provider {
	case chat.APNs:
		return apns.Render(n, &apns.Options{}, s.now())
	case chat.MEIZU:
		return meizu.Render(n, &meizu.Options{AppID: "7"}, s.now())
	}
	return vivo.Render(n, &vivo.Options{AppID: 1}, s.now())
}

func (s *speller) Close() {}

// previewed is an answer of the preview.
type previewed struct {
	Result struct {
		ChannelType string
		Recipients  []struct {
			UserID         string `json:"userId"`
			Connected      bool
			Effect, Reason string
			Devices        []struct {
				DeviceID, Provider, Token, Language string
				Effect, Reason, Title, Body, Error  string
				Credential                          map[string]string
				Cut                                 []string
				Request                             struct {
					Method, Path string
					Headers      map[string]string
					Body         json.RawMessage
					Form         map[string]string
				}
			}
		}
		LeftOut []map[string]string
	}
}

func (w *world) preview(body string) (p previewed, text string) {
	w.t.Helper()
	r := w.call(previewPath, body)
	r.want(w.t, 200, 0, "")
	if err := json.Unmarshal([]byte(r.Body), &p); err != nil {
		w.t.Fatal(err)
	}
	return p, r.Body
}

const anAppleToken = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// pushWorld is a world in which bob has phones of several providers.
func pushWorld(t *testing.T) *world {
	w := newWorld(t)
	w.credential(`{"provider":"VIVO","credential":{"appId":"1","appKey":"k","appSecret":"hush"}}`)
	w.credential(`{"provider":"VIVO","package":"broken","credential":{"appId":"666","appKey":"k","appSecret":"hush"}}`)
	w.credential(`{"provider":"MEIZU","credential":{"appId":"7","appSecret":"hush"}}`)
	w.credential(fmt.Sprintf(`{"provider":"APNs","package":"com.example","credential":{"keyId":"ABCDE12345","teamId":"TEAM567890","p8":%s}}`, quoted(keys().p256)))
	w.call(issue, `{"userId":"alice","name":"Alice"}`).want(t, 200, 0, "")
	w.phone("bob", "a", "APNs", anAppleToken, `"bundle":"com.example","language":"de","hideDetails":1`)
	w.phone("bob", "m", "MEIZU", "meizu#token", `"language":"en"`)
	w.phone("bob", "v", "VIVO", "vivo-token-of-bob", `"quietHours":{"from":"00:00","to":"23:59"}`)
	w.phone("bob", "x", "VIVO", "another-of-bob", `"package":"broken"`)
	w.phone("bob", "z", "MI", "xiaomi-of-bob", `"language":"zh-Hans"`)
	return w
}

func (w *world) credential(body string) {
	w.t.Helper()
	w.call(setCredential, body).want(w.t, 200, 0, "")
}

func (w *world) phone(user, id, provider, token, more string) {
	w.t.Helper()
	w.call(registerPush, fmt.Sprintf(`{"userId":%q,"deviceId":%q,"provider":%q,"token":%q,%s}`, user, id, provider, token, more)).want(w.t, 200, 0, "")
	w.clock.advance(time.Millisecond) // so that they come in order
}

func TestPreviewPush(t *testing.T) {
	t.Parallel()
	w := pushWorld(t)
	w.said.online[strconv.Itoa(int(w.app.ID))+"/bob"] = true
	p, text := w.preview(`{"fromUserId":"alice","toUserIds":["bob","alice","dave","bob"],"messageType":"RC:TxtMsg",
		"content":"{\"content\":\"Hello\"}","pushData":"{\"k\":1}","pushExt":"{\"pushConfigs\":[{\"APNs\":{\"thread-id\":\"t\"}}]}"}`)
	for _, secret := range []string{anAppleToken, "meizu#token", "meizu%23token", "vivo-token-of-bob", "hush", "ABCDE12345"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in the answer: %s", secret, text)
		}
	}
	if n := len(p.Result.Recipients); n != 3 || p.Result.ChannelType != "direct" || len(p.Result.LeftOut) != 0 {
		t.Fatalf("%s", text)
	}
	bob, alice, dave := p.Result.Recipients[0], p.Result.Recipients[1], p.Result.Recipients[2]
	if bob.UserID != "bob" || !bob.Connected || bob.Effect != "alert" || bob.Reason != "away" || len(bob.Devices) != 5 {
		t.Fatalf("%+v", bob)
	}
	if alice.Reason != "copy" || alice.Effect != "none" || dave.Reason != "no_device" || dave.Connected || len(dave.Devices) != 0 {
		t.Errorf("%+v %+v", alice, dave)
	}
	a, m, v, x, z := bob.Devices[0], bob.Devices[1], bob.Devices[2], bob.Devices[3], bob.Devices[4]
	if a.DeviceID != "a" || a.Token != "…abcdef" || a.Credential["package"] != "com.example" || a.Title != "" && a.Title != "Alice" ||
		a.Body == "" || strings.Contains(a.Body, "Hello") || a.Request.Method != "POST" || a.Request.Path != "/3/device/…abcdef" ||
		a.Request.Headers["apns-topic"] != "com.example" || !strings.Contains(string(a.Request.Body), `"thread-id":"t"`) {
		t.Errorf("%+v\n%s", a, a.Request.Body)
	}
	if m.Title != "Alice" || m.Body != "Hello" || m.Request.Form["pushIds"] != "…token" || !strings.Contains(m.Request.Form["messageJson"], "Hello") || m.Request.Body != nil {
		t.Errorf("%+v", m)
	}
	if v.Effect != "none" || v.Reason != "quiet_hours" || v.Title != "" || v.Request.Method != "" {
		t.Errorf("%+v", v)
	}
	if x.Effect != "alert" || x.Error != "appId: is of no use" || x.Credential["package"] != "broken" || x.Body != "Hello" || x.Request.Method != "" {
		t.Errorf("%+v", x)
	}
	if z.Effect != "none" || z.Reason != "no_credential" || z.Language != "zh-Hans" {
		t.Errorf("%+v", z)
	}

	// The reasons are those of a message.
	one := func(change, effect, reason string) {
		t.Helper()
		if !strings.Contains(change, "messageType") {
			change = `,"messageType":"RC:TxtMsg"` + change
		}
		p, text := w.preview(`{"fromUserId":"alice","toUserIds":["bob"],"content":"{\"content\":\"Hello\"}"` + change + `}`)
		if r := p.Result.Recipients[0]; r.Effect != effect || r.Reason != reason {
			t.Errorf("%s: %s", change, text)
		}
	}
	one(`,"disablePush":1,"pushExt":"nonsense"`, "none", "disabled")
	one(`,"messageType":"app:t"`, "none", "no_text")
	one(`,"messageType":"app:t","contentAvailable":1`, "silent", "away")
	one(`,"messageType":"app:t","pushContent":"x"`, "alert", "away")
	one(`,"messageType":"RC:TypSts"`, "none", "ephemeral")
	w.call(setLevelPath, `{"requestId":"bob","channelType":"1","channelId":"alice","noDisturbLevel":5}`).want(t, 200, 0, "")
	one(``, "none", "level")
	one(`,"channelType":6`, "alert", "away")
	w.call(ban, `{"userIds":["bob"],"durationMinutes":5}`).want(t, 200, 0, "")
	one(`,"channelType":6`, "none", "banned")
	w.call(unban, `{"userIds":["bob"]}`).want(t, 200, 0, "")
	w.call(block, `{"userId":"bob","targetUserIds":["alice"]}`).want(t, 200, 0, "")
	p, text = w.preview(`{"fromUserId":"alice","toUserIds":["bob","dave"],"messageType":"RC:TxtMsg","content":"{}","verifyBlocklist":1}`)
	if len(p.Result.Recipients) != 1 || len(p.Result.LeftOut) != 1 || p.Result.LeftOut[0]["userId"] != "bob" {
		t.Errorf("%s", text)
	}
	w.set("push.enabled", "false")
	one(``, "none", "push_off")
}

// What is too long is cut as it would be, and the badge is that of a send.
func TestPreviewPushCuts(t *testing.T) {
	t.Parallel()
	w := pushWorld(t)
	long := strings.Repeat("x", 40)
	p, _ := w.preview(`{"fromUserId":"alice","toUserIds":["bob"],"messageType":"app:t","content":"c","pushContent":"x","pushExt":"{\"title\":\"` + long + `\"}","pushData":"data"}`)
	if m := p.Result.Recipients[0].Devices[1]; m.Title != long || fmt.Sprint(m.Cut) != "[title]" || strings.Contains(m.Request.Form["messageJson"], long) {
		t.Errorf("%+v", m)
	}
	if a := p.Result.Recipients[0].Devices[0]; len(a.Cut) != 0 {
		t.Errorf("%+v", a)
	}
	for channelType, want := range map[string]bool{"1": true, "6": false} {
		p, _ := w.preview(`{"fromUserId":"alice","toUserIds":["bob"],"messageType":"app:t","content":"c","count":7,"pushContent":"x","channelType":` + channelType + `}`)
		if a := p.Result.Recipients[0].Devices[0]; strings.Contains(string(a.Request.Body), `"badge":7`) != want {
			t.Errorf("type %s: %s", channelType, a.Request.Body)
		}
	}
}

// Whatever a send refuses the preview refuses, in the same words; and it leaves
// nothing behind.
func TestPreviewPushRefused(t *testing.T) {
	t.Parallel()
	w := pushWorld(t)
	for _, body := range []string{
		``, `{}`, `{"fromUserId":"alice"}`,
		`{"fromUserId":"alice","toUserIds":["a b"],"messageType":"RC:TxtMsg","content":"{}"}`,
		`{"fromUserId":"alice","toUserIds":["bob"],"messageType":"RC:TxtMsg","content":"no JSON"}`,
		`{"fromUserId":"alice","toUserIds":["bob"],"messageType":"nobody:knows","content":1}`,
		`{"fromUserId":"alice","toUserIds":["bob"],"messageType":"RC:TxtMsg","content":"{}","count":10000}`,
		`{"fromUserId":"alice","toUserIds":["bob"],"messageType":"RC:TxtMsg","content":"{}","pushContent":"` + strings.Repeat("x", 1<<16) + `"}`,
		`{"fromUserId":"alice","toUserIds":["bob"],"messageType":"RC:TxtMsg","content":"{}","pushExt":"[]"}`,
		`{"fromUserId":"alice","toUserIds":["bob"],"messageType":"RC:TxtMsg","content":"{}","pushExt":"{\"pushConfigs\":[{\"OPPO\":{\"notify_level\":3}}]}"}`,
		`{"fromUserId":"alice","toUserIds":["bob"],"messageType":"RC:TxtMsg","content":"{}","pushExt":"{\"title\":\"` + strings.Repeat("x", 51) + `\"}"}`,
	} {
		sent, previewed := w.call(direct, body), w.call(previewPath, body)
		if sent.Status == 200 || sent.Status != previewed.Status || sent.Body != previewed.Body {
			t.Errorf("%.120s:\nsent      %s\npreviewed %s", body, sent.Body, previewed.Body)
		}
	}
	many := strings.TrimSuffix(strings.Repeat(`"u",`, 101), ",")
	w.call(previewPath, `{"fromUserId":"alice","toUserIds":[`+many+`],"messageType":"RC:TxtMsg","content":"{}"}`).want(t, 400, 1002, "toUserIds: at most 100 items, got 101")
	w.call(previewPath, `{"fromUserId":"alice","toUserIds":["bob"],"messageType":"RC:TxtMsg","content":"{}","channelType":4}`).want(t, 400, 1002, "channelType: one of 1, 6, got 4")

	// As many sends as the limit has are left after any number of previews.
	w.set("limits.direct", "1/m")
	head := w.store.LogHead()
	for range 3 {
		w.preview(`{"fromUserId":"alice","toUserIds":["bob"],"messageType":"RC:TxtMsg","content":"{}"}`)
	}
	if w.store.LogHead() != head {
		t.Error("something was stored")
	}
	w.call(direct, `{"fromUserId":"alice","toUserIds":["bob"],"messageType":"RC:TxtMsg","content":"{}"}`).want(t, 200, 0, "")
	counts, err := w.store.PushLanes(context.Background())
	if err != nil || len(counts) != 0 {
		t.Errorf("%v %v", counts, err)
	}
}
