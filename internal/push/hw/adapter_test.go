package hw

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
	"github.com/parleychat/parley/internal/push/pushtest"
)

var provider = golden.Provider{
	Sim: pushtest.NewHW, New: New, Accepts: `{"code":"80000000"}`, Speaks: true, Badge: true,
	Gone:   `{"code":"80300007"}`,
	Grants: true, Life: 55 * time.Minute, Good: time.Hour, Refusals: golden.OAuth,
	Spoil: func(c *chat.PushCredential) { c.Fields["clientSecret"] = "wrong" },
}

func TestMain(m *testing.M)      { provider.Main(m) }
func BenchmarkSend(b *testing.B) { provider.Bench(b) }

func TestProvider(t *testing.T) { provider.All(t) }

func TestProvoke(t *testing.T) { provider.Provoke(t, classes) }

// The requests as they come in, of an app that has said all that can be said.
func TestReceived(t *testing.T) {
	t.Parallel()
	provider.Received(t, "received.txt", "received-token.txt", golden.Options{
		Sim: pushtest.Options{Seed: "golden"},
		Credential: func(c *chat.PushCredential) {
			c.Fields["category"], c.Fields["badgeClass"], c.Fields["channelId"] = "IM", "com.example.app.MainActivity", "chat"
			c.Fields["intent"], c.Fields["importance"], c.Fields["testMessages"] = "#Intent;S.from=push;end", "LOW", "1"
		},
	}, nil, func(r *golden.Rig) map[string]string {
		return map[string]string{r.Credential.Fields["clientSecret"]: "secret"}
	})
}

// A credential with a project is for devices with HarmonyOS too, and one with a
// client of its own asks as that.
func TestProject(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{Credential: func(c *chat.PushCredential) {
		c.Fields["clientId"], c.Fields["appId"] = c.Fields["appId"], "another"
	}})
	if a := r.Tell(golden.Token); a.Class != push.Accepted {
		t.Fatalf("%s %+v", a.Class, a)
	}
	seen := r.Seen()
	if got, want := seen[len(seen)-1].Request.URL.Path, "/v1/"+r.Credential.Fields["clientId"]+"/messages:send"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	r = provider.Start(t, golden.Options{Credential: func(c *chat.PushCredential) { c.Fields["projectId"] = "17" }})
	if a := r.Tell(golden.Token); a.Class != push.ConfigHalt || a.Code != "80300002" {
		t.Fatalf("%s %+v", a.Class, a)
	}
	seen = r.Seen()
	if got := seen[len(seen)-1].Request.URL.Path; got != "/v2/17/messages:send" {
		t.Errorf("%s", got)
	}
}

// Being asked about the credential, Huawei sends nothing, even to whom it knows.
func TestCheck(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{Sim: pushtest.Options{Strangers: true}})
	if a := r.Check(context.Background()); a.Class != push.Accepted {
		t.Errorf("%s %+v", a.Class, a)
	}
	if s := r.Sim.Stats(); s.Taken != 0 || s.Requests != 1 {
		t.Errorf("%+v", s)
	}
}

// What is wrong with a credential is said by the field, and without its value.
func TestNew(t *testing.T) {
	provider.Fields(t, golden.FieldsOf(map[string]string{"clientSecret": "", "appId": "", "importance": "SECRET", "testMessages": "SECRET", "channelId": "SECRET \n", "unknown": "SECRET"}))
}

func TestTokens(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	r.Sim.Register(pushtest.Phone{Token: "of another app", Package: "com.example.other"})
	r.Sim.Register(pushtest.Phone{Token: "of the app", Package: pushtest.HWPackage})
	r.Sim.Register(pushtest.Phone{Token: "gone"})
	r.Sim.Remove("gone")
	for token, want := range map[string]push.Class{
		"of the app": push.Accepted, "of another app": push.TokenStrike, "gone": push.TokenStrike, "nobody's": push.TokenStrike,
	} {
		if a := r.Tell(token); a.Class != want {
			t.Errorf("%s: %s %+v", token, a.Class, a)
		}
	}
}

// Without a right to a class, only the first two of a day are shown; they are
// accepted all the same.
func TestAdverts(t *testing.T) {
	provider.Adverts(t, func(n *push.Notification, has bool) { n.Ext.HW.Category = map[bool]string{true: "IM"}[has] })
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 4096)
	many := fmt.Sprintf("[%s%q]", strings.Repeat(`"t",`, 1000), "t")
	n := golden.Example(t, golden.Token)
	provider.Start(t, golden.Options{}).Refuses(t, &n, code, "80000000", map[string]golden.Bad{
		"no bearer":          {Header: map[string]string{"Authorization": ""}, Want: "80200001"},
		"another bearer":     {Header: map[string]string{"Authorization": "Bearer x"}, Want: "80200003"},
		"no word Bearer":     {Header: map[string]string{"Authorization": "x"}, Want: "80200003"},
		"not JSON":           {Header: map[string]string{"Content-Type": "text/plain"}, Want: "80100003"},
		"another app":        {Path: "/v1/1/messages:send", Want: "80300002"},
		"another path":       {Path: "/v1/1/messages:dream", Want: "404"},
		"another method":     {Method: "PUT", Want: "405"},
		"in camel case":      {Change: []string{"click_action", "clickAction"}, Want: "80100003"},
		"an unknown field":   {Change: []string{`"ttl"`, `"x":1,"ttl"`}, Want: "80100003"},
		"one token, no list": {Change: []string{`["` + golden.Token + `"]`, `"` + golden.Token + `"`}, Want: "80100003"},
		"no message":         {Change: []string{`"message"`, `"messages"`}, Want: "80100003"},
		"cut":                {Change: []string{"}}}", "}}"}, Want: "80100003"},
		"a number of ttl":    {Change: []string{`"129590s"`, `129590`}, Want: "80100003"},
		"a number for text":  {Change: []string{`"you have a new message."`, `1`}, Want: "80100003"},
		"a text for number":  {Change: []string{`"type":3`, `"type":"3"`}, Want: "80100003"},
		"data as an object":  {Change: []string{`"data":"`, `"data":{},"topic":"`}, Want: "80100003"},
		"no unit of ttl":     {Change: []string{`"129590s"`, `"129590"`}, Want: "80100004"},
		"a ttl of 16 days":   {Change: []string{`"129590s"`, `"1382400s"`}, Want: "80100004"},
		"no ttl left":        {Change: []string{`"129590s"`, `"0s"`}, Want: "80100004"},
		"too large":          {Change: []string{"you have", long}, Want: "80300008"},
		"no token":           {Change: []string{`"` + golden.Token + `"`, ``}, Want: "80300010"},
		"too many tokens":    {Change: []string{`["` + golden.Token + `"]`, many}, Want: "80300010"},
		"a topic too":        {Change: []string{`"token"`, `"topic":"t","token"`}, Want: "80100001"},
		"no title":           {Change: []string{`"you have a new message."`, `""`}, Want: "80100001"},
		"no click":           {Change: []string{`,"click_action":{"type":3}`, ``}, Want: "80100001"},
		"no such click":      {Change: []string{`"type":3`, `"type":7`}, Want: "80100001"},
		"a click on nothing": {Change: []string{`"type":3`, `"type":1`}, Want: "80100001"},
		"a click on http":    {Change: []string{`"type":3`, `"type":2,"url":"http://example.com"`}, Want: "80100001"},
		"an image by http":   {Change: []string{`https:`, `http:`}, Want: "80100001"},
		"no such importance": {Change: []string{`"NORMAL"`, `"normal"`}, Want: "80100001"},
		"no right to HIGH":   {Change: []string{`"NORMAL"`, `"HIGH"`}, Want: "80300011"},
		"no such category":   {Change: []string{`"ttl"`, `"category":"CHAT","ttl"`}, Want: "80100001"},
		"voice with a text":  {Change: []string{`"ttl"`, `"category":"PLAY_VOICE","ttl"`}, Want: "80100001"},
		"collapse by text":   {Change: []string{`"ttl"`, `"collapse_key":"a","ttl"`}, Want: "80100003"},
		"collapse by 101":    {Change: []string{`"ttl"`, `"collapse_key":101,"ttl"`}, Want: "80100013"},
		"no such user type":  {Change: []string{`"ttl"`, `"target_user_type":2,"ttl"`}, Want: "80100001"},
		"no such urgency":    {Change: []string{`"ttl"`, `"urgency":"LOW","ttl"`}, Want: "80100001"},
		"a badge of nobody":  {Change: []string{`"click_action"`, `"badge":{"set_num":1},"click_action"`}, Want: "80100001"},
		"a badge of 100":     {Change: []string{`"click_action"`, `"badge":{"class":"c","set_num":100},"click_action"`}, Want: "80100001"},
		"a badge plus 0":     {Change: []string{`"click_action"`, `"badge":{"class":"c","add_num":0},"click_action"`}, Want: "80100001"},
		"style 2":            {Change: []string{`"click_action"`, `"style":2,"click_action"`}, Want: "80100001"},
		"style 1, no texts":  {Change: []string{`"click_action"`, `"style":1,"click_action"`}, Want: "80100001"},
		"nobody's token":     {Change: []string{golden.Token, "nobody"}, Want: "80300007"},
	})
}

// code is what an answer says, or its status where it says nothing.
func code(status int, body []byte) string {
	var v struct{ Code string }
	if json.Unmarshal(body, &v) != nil || v.Code == "" {
		return fmt.Sprint(status)
	}
	return v.Code
}

// Of several tokens those that are wrong are named.
func TestSome(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	n := golden.Example(t, golden.Token)
	a := r.Good(&n)(t, golden.Bad{Change: []string{`["`, `["gone","`}})
	var v struct{ Code, Msg string }
	var m struct {
		Success, Failure int
		Tokens           []string `json:"illegal_tokens"`
	}
	if json.Unmarshal(a.Body, &v) != nil || v.Code != "80100000" || json.Unmarshal([]byte(v.Msg), &m) != nil ||
		m.Success != 1 || m.Failure != 1 || len(m.Tokens) != 1 || m.Tokens[0] != "gone" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if r := Classify(a.Status, a.Header, a.Body); r.Class != push.TokenStrike {
		t.Errorf("%s", r.Class)
	}
}
