package honor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
	"github.com/parleychat/parley/internal/push/pushtest"
)

var provider = golden.Provider{
	Sim: pushtest.NewHONOR, New: New, Accepts: `{"code":200}`, Speaks: true, Badge: true,
	Gone:   `{"code":200,"data":{"expireTokens":["t"]}}`,
	Grants: true, Life: 55 * time.Minute, Good: time.Hour, Refusals: golden.OAuth,
	Spoil: func(c *chat.PushCredential) { c.Fields["clientSecret"] = "wrong" },
}

func TestMain(m *testing.M)      { provider.Main(m) }
func BenchmarkSend(b *testing.B) { provider.Bench(b) }

func TestProvider(t *testing.T) { provider.All(t) }

func TestProvoke(t *testing.T) {
	all := maps.Clone(classes)
	all[expireTokens] = push.Result{Class: push.TokenDead}
	all[failTokens] = push.Result{Class: push.Retry}
	all[notSent] = push.Result{Class: push.Retry}
	provider.Provoke(t, all)
}

// image is what the page's example would say of Honor if it did.
const image = `{"title":"you have a new message.","pushConfigs":[{"HONOR":{"importance":"NORMAL","image":"https://example.com/image.png"}}]}`

// The requests as they come in, of an app that has said all that can be said.
func TestReceived(t *testing.T) {
	t.Parallel()
	for name, ext := range map[string]string{"received.txt": "", "received-sender.txt": image} {
		provider.Received(t, name, "received-token.txt", golden.Options{Credential: func(c *chat.PushCredential) {
			c.Fields["badgeClass"], c.Fields["intent"] = "com.example.app.MainActivity", "#Intent;S.from=push;end"
			c.Fields["importance"], c.Fields["testMessages"] = "LOW", "1"
		}}, func(n *push.Notification) {
			if ext != "" {
				n.Ext = golden.With(t, golden.Token, ext).Ext
			}
		}, func(r *golden.Rig) map[string]string {
			f := r.Credential.Fields
			return map[string]string{f["clientSecret"]: "secret", f["clientId"]: "client", f["appId"]: "app"}
		})
	}
}

// The app's number is another than the client's, and is asked after too.
func TestCheck(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	if a := r.Check(context.Background()); a.Class != push.Accepted || a.Code != failTokens {
		t.Errorf("%s %+v", a.Class, a)
	}
	seen := r.Seen()
	if len(seen) != 2 || !strings.Contains(seen[1].Body, `"targetUserType":1`) {
		t.Errorf("%+v", seen)
	}
	r = provider.Start(t, golden.Options{Credential: func(c *chat.PushCredential) {
		c.Fields["appId"] = c.Fields["clientId"]
	}})
	if a := r.Check(context.Background()); a.Class != push.ConfigHalt || a.Code != "403" {
		t.Errorf("%s %+v", a.Class, a)
	}
}

// What is wrong with a credential is said by the field, and without its value.
func TestNew(t *testing.T) {
	provider.Fields(t, golden.FieldsOf(map[string]string{"clientSecret": "", "appId": "", "clientId": "", "importance": "HIGH SECRET", "testMessages": "SECRET", "intent": "SECRET \n", "channelId": "SECRET"}))
}

func TestTokens(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	r.Sim.Register(pushtest.Phone{Token: "of another app", Package: "com.example.other"})
	r.Sim.Register(pushtest.Phone{Token: "of the app", Package: pushtest.HWPackage})
	r.Sim.Register(pushtest.Phone{Token: "gone"})
	r.Sim.Remove("gone")
	for token, want := range map[string]push.Class{
		"of the app": push.Accepted, "of another app": push.Retry, "gone": push.TokenDead, "nobody's": push.Retry,
	} {
		if a := r.Tell(token); a.Class != want {
			t.Errorf("%s: %s %+v", token, a.Class, a)
		}
	}
}

// LOW ones are advertisements, of which a phone shows two a day.
func TestAdverts(t *testing.T) {
	provider.Adverts(t, func(n *push.Notification, has bool) {
		n.Ext.HONOR.Importance = map[bool]string{true: "NORMAL", false: "LOW"}[has]
	})
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	n := golden.With(t, golden.Token, image)
	stamp := func(d time.Duration) map[string]string {
		return map[string]string{"timestamp": strconv.FormatInt(golden.Now.Add(d).UnixMilli(), 10)}
	}
	provider.Start(t, golden.Options{}).Refuses(t, &n, code, "200", map[string]golden.Bad{
		"no bearer":          {Header: map[string]string{"Authorization": ""}, Want: "401"},
		"another bearer":     {Header: map[string]string{"Authorization": "Bearer x"}, Want: "401"},
		"another app":        {Path: "/api/v1/1/sendMessage", Want: "403"},
		"Huawei's path":      {Path: "/v1/1/messages:send", Want: "404"},
		"another method":     {Method: "PUT", Want: "405"},
		"no time":            {Header: map[string]string{"timestamp": ""}, Want: "400"},
		"a time in seconds":  {Header: map[string]string{"timestamp": strconv.FormatInt(golden.Now.Unix(), 10)}, Want: "400"},
		"an old time":        {Header: stamp(-time.Hour), Want: "400"},
		"a time to come":     {Header: stamp(time.Hour), Want: "400"},
		"not JSON":           {Header: map[string]string{"Content-Type": "text/plain"}, Want: "400"},
		"in snake case":      {Change: []string{"clickAction", "click_action"}, Want: "400"},
		"a message around":   {Change: []string{`{"token"`, `{"message":{"token"`, `}}}`, `}}}}`}, Want: "400"},
		"an unknown field":   {Change: []string{`"ttl"`, `"category":"IM","ttl"`}, Want: "400"},
		"one token, no list": {Change: []string{`["` + golden.Token + `"]`, `"` + golden.Token + `"`}, Want: "400"},
		"no token":           {Change: []string{`"` + golden.Token + `"`, ``}, Want: "400"},
		"too many tokens":    {Change: []string{`["`, `[` + strings.Repeat(`"t",`, 1000) + `"`}, Want: "400"},
		"cut":                {Change: []string{"}}}", "}}"}, Want: "400"},
		"a number of ttl":    {Change: []string{`"129590s"`, `129590`}, Want: "400"},
		"no unit of ttl":     {Change: []string{`"129590s"`, `"129590"`}, Want: "400"},
		"a ttl of 16 days":   {Change: []string{`"129590s"`, `"1382400s"`}, Want: "400"},
		"no such user type":  {Change: []string{`"ttl"`, `"targetUserType":2,"ttl"`}, Want: "400"},
		"no title":           {Change: []string{`"you have a new message."`, `""`}, Want: "400"},
		"no click":           {Change: []string{`,"clickAction":{"type":3}`, ``}, Want: "400"},
		"no such click":      {Change: []string{`"type":3`, `"type":7`}, Want: "400"},
		"a click on nothing": {Change: []string{`"type":3`, `"type":1`}, Want: "400"},
		"a click on http":    {Change: []string{`"type":3`, `"type":2,"url":"http://example.com"`}, Want: "400"},
		"an image by http":   {Change: []string{`https:`, `http:`}, Want: "400"},
		"no such importance": {Change: []string{`"NORMAL"`, `"HIGH"`}, Want: "400"},
		"a badge of nobody":  {Change: []string{`"clickAction"`, `"badge":{"setNum":1},"clickAction"`}, Want: "400"},
		"a badge of 100":     {Change: []string{`"clickAction"`, `"badge":{"badgeClass":"c","setNum":100},"clickAction"`}, Want: "400"},
		"style 1, no texts":  {Change: []string{`"clickAction"`, `"style":1,"clickAction"`}, Want: "400"},
		"four buttons":       {Change: []string{`"clickAction"`, `"buttons":[{},{},{},{}],"clickAction"`}, Want: "400"},
		"too large":          {Change: []string{"you have", strings.Repeat("x", 4096)}, Want: "413"},
		"nobody's token":     {Change: []string{golden.Token, "nobody"}, Want: "200 [nobody] []"},
	})
}

// code is what an answer says, with the tokens that were not served, or its status
// where it says nothing.
func code(status int, body []byte) string {
	var v struct {
		Code int
		Data struct{ FailTokens, ExpireTokens []string }
	}
	if json.Unmarshal(body, &v) != nil || v.Code == 0 {
		return fmt.Sprint(status)
	}
	if len(v.Data.FailTokens)+len(v.Data.ExpireTokens) > 0 {
		return fmt.Sprint(v.Code, " ", v.Data.FailTokens, " ", v.Data.ExpireTokens)
	}
	return fmt.Sprint(v.Code)
}

// Of several tokens those that are wrong are named.
func TestSome(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	r.Sim.Remove("gone")
	n := golden.Example(t, golden.Token)
	a := r.Good(&n)(t, golden.Bad{Change: []string{`["`, `["gone","nobody","`}})
	if got := code(a.Status, a.Body); got != "200 [nobody] [gone]" {
		t.Errorf("%s", got)
	}
	if got := len(r.Sim.Log(golden.Token)); got != 2 {
		t.Errorf("%d were taken", got)
	}
}
