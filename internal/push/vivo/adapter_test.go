package vivo

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/pushtest"
)

var provider = golden.Provider{
	Sim: pushtest.NewVIVO, New: New, Accepts: `{"result":0}`,
	Gone:   `{"result":10302}`,
	Spoil:  func(c *chat.PushCredential) { c.Fields["appSecret"] = "hush" },
	Grants: true, Life: renewal, Good: lifetime,
	Bearer: func(s golden.Seen) string { return s.Request.Header.Get("authToken") },
	Otherwise: map[string]golden.Outcome{
		"wait until":    {Class: push.Retry, Code: "http 503", After: time.Minute},
		"wait for days": {Class: push.Retry, Code: "http 503", After: push.MaxRetryAfter},
	},
	Refusals: map[string]golden.Refusal{
		"down":         {Fault: pushtest.Fault{Reset: true}, Outcome: golden.Outcome{Class: push.Retry, Code: "transport"}},
		"a page":       {Fault: pushtest.Fault{Status: 502, Body: "<html>"}, Outcome: golden.Outcome{Class: push.Retry, Code: "http 502"}},
		"busy":         {Fault: pushtest.Fault{Status: 503, Header: map[string]string{"Retry-After": "7"}}, Outcome: golden.Outcome{Class: push.Retry, Code: "http 503", After: 7 * time.Second}},
		"says nothing": {Fault: pushtest.Fault{Status: 200}, Outcome: golden.Outcome{Class: push.Retry, Code: "unreadable"}},
		"no token":     {Fault: pushtest.Fault{Status: 200, Body: `{"result":0}`}, Outcome: golden.Outcome{Class: push.Retry, Code: "unreadable"}},
		"not a token":  {Fault: pushtest.Fault{Status: 200, Body: `{"result":0,"authToken":"a\nb"}`}, Outcome: golden.Outcome{Class: push.Retry, Code: "unreadable"}},
		"forbidden":    {Fault: pushtest.Fault{Status: 403}, Outcome: golden.Outcome{Class: push.ConfigHalt, Code: "http 403"}},
		"elsewhere":    {Fault: pushtest.Fault{Status: 302, Header: map[string]string{"Location": "https://127.0.0.1:1/"}}, Outcome: golden.Outcome{Class: push.ConfigHalt, Code: "http 302"}},
		"refused":      {Fault: pushtest.Fault{Code: "10000"}, Outcome: golden.Outcome{Class: push.ConfigHalt, Code: "10000"}},
		"too often":    {Fault: pushtest.Fault{Code: "10093"}, Outcome: golden.Outcome{Class: push.RetryAfter, Code: "10093"}},
		"spent":        {Fault: pushtest.Fault{Code: "10070"}, Outcome: golden.Outcome{Class: push.QuotaDay, Code: "10070"}},
		"unheard of":   {Fault: pushtest.Fault{Code: "4711"}, Outcome: golden.Outcome{Class: push.ConfigHalt, Code: "4711"}},
		"of a device":  {Fault: pushtest.Fault{Code: "invalidUser 1"}, Outcome: golden.Outcome{Class: push.ConfigHalt, Code: "invalidUser 1"}},
	},
}

const token = golden.Token

func TestMain(m *testing.M)      { provider.Main(m) }
func TestProvider(t *testing.T)  { provider.All(t) }
func BenchmarkSend(b *testing.B) { provider.Bench(b) }

// Every code, given by the simulator, is of its class.
func TestProvoke(t *testing.T) {
	all := push.Classes{"77": {Class: push.PayloadBad, Unknown: true}, "invalidUser 9": {Class: push.PayloadBad, Unknown: true}}
	maps.Copy(all, classes)
	for status, r := range users {
		all["invalidUser "+status] = r
	}
	provider.Provoke(t, all)
}

// The request as it arrives, and what the phone makes of it.
func TestReceived(t *testing.T) {
	t.Parallel()
	r := provider.Received(t, "received.txt", "received-token.txt", golden.Options{Sim: pushtest.Options{Seed: "vivo"}}, nil, nil)
	if n := r.Sim.Screen(token)[0]; n.ID != "1" || n.Request == "" {
		t.Errorf("%+v", n)
	}
}

// No more access tokens are asked for than vivo gives.
func TestAuthRate(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	w.Sim.Fail(pushtest.Fault{Auth: true, Code: "10093"})
	for range 20 {
		if r := w.Tell(token); r.Class != push.RetryAfter {
			t.Errorf("%+v", r)
		}
	}
	if n := w.Sim.Stats().Auths; n != authsPerSecond {
		t.Errorf("asked %d times within a second", n)
	}
}

// What the simulator refuses of itself.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{Sim: pushtest.Options{Daily: 3, Strict: true}})
	w.Sim.Register(pushtest.Phone{Token: "off", Off: true})
	w.Sim.Remove("gone")
	operational := func(token string) push.Notification {
		return golden.With(t, token, `{"pushConfigs":[{"VIVO":{"classification":0}}]}`)
	}
	golden.Want(t, "a stranger", golden.Try(w.Adapter, golden.Example(t, "stranger")).Result, push.TokenDead, "10302")
	golden.Want(t, "gone", golden.Try(w.Adapter, golden.Example(t, "gone")).Result, push.TokenDead, "invalidUser 1")
	golden.Want(t, "off", golden.Try(w.Adapter, golden.Example(t, "off")).Result, push.TokenStrike, "invalidUser 2")
	n := golden.With(t, token, `{}`)
	n.Body = "Test"
	golden.Want(t, "test text", golden.Try(w.Adapter, n).Result, push.PayloadBad, "10085")
	n.Body = "4711"
	golden.Want(t, "no text", golden.Try(w.Adapter, n).Result, push.PayloadBad, "10104")
	n = golden.With(t, token, `{"pushConfigs":[{"VIVO":{"classification":0,"category":"IM"}}]}`)
	golden.Want(t, "another category", golden.Try(w.Adapter, n).Result, push.PayloadBad, "10101")

	// Two operational ones a day. vivo takes more, and does not show them.
	for range 3 {
		golden.Want(t, "operational", golden.Try(w.Adapter, operational(token)).Result, push.Accepted, "0")
	}
	if n := len(w.Sim.Log(token)); n != 2 {
		t.Errorf("%d came through", n)
	}
	golden.Want(t, "too many", golden.Try(w.Adapter, operational("stranger")).Result, push.TokenDead, "10302")
	golden.Want(t, "too many", golden.Try(w.Adapter, operational(token)).Result, push.QuotaDay, "10070")
	for range 3 {
		golden.Want(t, "system", golden.Try(w.Adapter, golden.With(t, token, `{}`)).Result, push.Accepted, "0")
	}
	golden.Want(t, "too many", golden.Try(w.Adapter, golden.With(t, token, `{}`)).Result, push.QuotaDay, "10073")
	w.Pass(8 * time.Hour) // it is midnight there
	n = operational(token)
	n.Expires = time.Time{}
	golden.Want(t, "at night", golden.Try(w.Adapter, n).Result, push.UserCap, "10071")
	n = golden.With(t, token, `{}`)
	n.Expires = time.Time{}
	golden.Want(t, "a new day", golden.Try(w.Adapter, n).Result, push.Accepted, "0")

	test := w.With(t, w.Roots, func(c *chat.PushCredential) {
		c.Fields["pushMode"] = "1"
		delete(c.Fields, "classification")
		delete(c.Fields, "category")
	})
	golden.Want(t, "no device for tests", golden.Try(test, n).Result, push.ConfigHalt, "invalidUser 4")
	w.Sim.Register(pushtest.Phone{Token: "test", Test: true})
	n.To.Token = "test"
	golden.Want(t, "one for tests", golden.Try(test, n).Result, push.Accepted, "0")
}

// What is wrong with the credential stops the lane, and Check says so.
func TestCredential(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	golden.Want(t, "good", w.Adapter.Check(t.Context()), push.Accepted, "0")
	for field, c := range map[string]struct{ value, code string }{
		"appSecret": {"hush", "10206"}, "appKey": {"other", "10201"}, "appId": {"7", "10205"},
	} {
		a := w.With(t, w.Roots, func(bad *chat.PushCredential) { bad.Fields[field] = c.value })
		golden.Want(t, field, golden.Try(a, golden.Example(t, token)).Result, push.ConfigHalt, c.code)
		golden.Want(t, field, a.Check(t.Context()), push.ConfigHalt, c.code)
	}
	late, err := New(&w.Credential, w.Roots, func() time.Time { return golden.Now.Add(11 * time.Minute) })
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	golden.Want(t, "a clock that is wrong", late.Check(t.Context()), push.ConfigHalt, "10207")
	if _, err := New(&chat.PushCredential{Fields: map[string]string{"appId": "x"}}, line.Options{}, time.Now); err == nil || err.Error() != "appId: must be a number" {
		t.Error(err)
	}
	for field, value := range map[string]string{"appId": "x", "classification": "2", "pushMode": "yes"} {
		c := chat.PushCredential{Provider: chat.VIVO, Fields: map[string]string{"appId": "1", "appKey": "2", "appSecret": "3"}}
		c.Fields[field] = value
		if c.Check() == nil {
			t.Errorf("%s=%s is taken", field, value)
		}
	}
}

// The simulator knows a bad request from a good one.
func TestSimulator(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	auth := func(change func(m map[string]any)) map[string]any {
		m := map[string]any{"appId": number(w.Credential.Fields["appId"]), "appKey": w.Credential.Fields["appKey"], "timestamp": golden.Now.UnixMilli()}
		sum := md5.Sum(fmt.Append(nil, w.Credential.Fields["appId"], w.Credential.Fields["appKey"], m["timestamp"], w.Credential.Fields["appSecret"]))
		m["sign"] = hex.EncodeToString(sum[:])
		change(m)
		return post(t, w, "/message/auth", "", m)
	}
	access, _ := auth(func(map[string]any) {})["authToken"].(string)
	if access == "" {
		t.Fatal("no access token")
	}
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   float64
	}{
		"no app":         {func(m map[string]any) { delete(m, "appId") }, 10205},
		"app as a text":  {func(m map[string]any) { m["appId"] = "1" }, 10101},
		"no key":         {func(m map[string]any) { m["appKey"] = "" }, 10201},
		"in seconds":     {func(m map[string]any) { m["timestamp"] = golden.Now.Unix() }, 10207},
		"old":            {func(m map[string]any) { m["timestamp"] = golden.Now.Add(-11 * time.Minute).UnixMilli() }, 10207},
		"no sign":        {func(m map[string]any) { m["sign"] = "" }, 10206},
		"in capitals":    {func(m map[string]any) { m["sign"] = strings.ToUpper(m["sign"].(string)) }, 10206},
		"unknown member": {func(m map[string]any) { m["x"] = 1 }, 10101},
	} {
		w.Pass(time.Second)
		if r := auth(c.change); r["result"] != c.want {
			t.Errorf("%s: %v, want %v", name, r, c.want)
		}
	}
	w.Pass(golden.Now.Add(time.Minute).Sub(w.Now()))
	for i := range 11 {
		if r := auth(func(map[string]any) {}); i == 10 && r["result"] != 10093.0 || i < 10 && r["result"] != 0.0 {
			t.Errorf("%d: %v", i, r)
		}
	}

	requests := 0
	message := func(change func(m map[string]any)) map[string]any {
		requests++
		m := map[string]any{
			"appId": number(w.Credential.Fields["appId"]), "regId": token, "notifyType": 4, "title": strings.Repeat("中", 20), "content": strings.Repeat("x", 100),
			"timeToLive": 60, "skipType": 1, "networkType": -1, "classification": 1, "category": "IM", "notifyId": 7,
			"clientCustomMap": map[string]any{"a": "b"}, "requestId": strconv.Itoa(requests), "pushMode": 0,
		}
		change(m)
		return post(t, w, "/message/send", access, m)
	}
	set := func(name string, value any) func(map[string]any) {
		return func(m map[string]any) { m[name] = value }
	}
	without := func(name string) func(map[string]any) {
		return func(m map[string]any) { delete(m, name) }
	}
	for name, change := range map[string]func(map[string]any){
		"as it is": func(map[string]any) {}, "no time to live": without("timeToLive"), "no notifyId": without("notifyId"), "no network": without("networkType"),
		"a link": func(m map[string]any) { m["skipType"], m["skipContent"] = 2, "https://example.com" },
		"extras": func(m map[string]any) {
			m["extra"], m["addBadge"] = map[string]any{"callback": "https://example.com"}, true
		},
	} {
		if r := message(change); r["result"] != 0.0 || r["invalidUser"] != nil {
			t.Errorf("%s: %v", name, r)
		}
	}
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   float64
	}{
		"no app":             {without("appId"), 10094},
		"another app":        {set("appId", 7), 10094},
		"app as a text":      {set("appId", w.Credential.Fields["appId"]), 10101},
		"no token":           {without("regId"), 10101},
		"unknown token":      {set("regId", "other"), 10302},
		"no title":           {without("title"), 10101},
		"empty title":        {set("title", ""), 10101},
		"long title":         {set("title", strings.Repeat("中", 20)+"x"), 10101},
		"no content":         {without("content"), 10101},
		"long content":       {set("content", strings.Repeat("中", 51)), 10101},
		"no way to notify":   {without("notifyType"), 10101},
		"unknown way":        {set("notifyType", 5), 10101},
		"a short life":       {set("timeToLive", 59), 10101},
		"a long life":        {set("timeToLive", 604801), 10101},
		"life as a text":     {set("timeToLive", "3600s"), 10101},
		"nothing to open":    {without("skipType"), 10101},
		"opens as of old":    {set("skipType", 3), 10101},
		"opens what":         {set("skipType", 2), 10101},
		"network":            {set("networkType", 2), 10101},
		"classification":     {set("classification", "1"), 10101},
		"no classification":  {set("classification", 2), 10101},
		"operational":        {set("classification", 0), 10101},
		"unknown category":   {set("category", "CHAT"), 10101},
		"notifyId":           {set("notifyId", 1<<31), 10101},
		"notifyId as a text": {set("notifyId", "7"), 10101},
		"no texts":           {set("clientCustomMap", map[string]any{"a": 1}), 10101},
		"long extras":        {set("clientCustomMap", map[string]any{"a": strings.Repeat("中", 1024)}), 10101},
		"no request":         {without("requestId"), 10101},
		"long request":       {set("requestId", strings.Repeat("r", 65)), 10101},
		"pushMode":           {set("pushMode", 2), 10101},
		"snake case":         {set("time_to_live", 60), 10101},
	} {
		if r := message(c.change); r["result"] != c.want {
			t.Errorf("%s: %v, want %v", name, r, c.want)
		}
	}
	// The same name for two phones.
	w.Sim.Register(pushtest.Phone{Token: "two"})
	message(set("requestId", "same"))
	if r := message(func(m map[string]any) { m["requestId"], m["regId"] = "same", "two" }); r["result"] != 10101.0 {
		t.Errorf("%v", r)
	}
	for _, a := range []string{"", "x"} {
		if r := post(t, w, "/message/send", a, map[string]any{}); r["result"] != 10000.0 {
			t.Errorf("%q: %v", a, r)
		}
	}
	w.Pass(24 * time.Hour)
	if r := message(func(map[string]any) {}); r["result"] != 10000.0 {
		t.Errorf("%v", r)
	}
}

// Of the same seed come the same credentials.
func TestSeed(t *testing.T) {
	t.Parallel()
	a, b, c, d := pushtest.NewVIVO(pushtest.Options{Seed: "1"}), pushtest.NewVIVO(pushtest.Options{Seed: "1"}), pushtest.NewVIVO(pushtest.Options{Seed: "2"}), pushtest.NewVIVO(pushtest.Options{})
	of := func(s *pushtest.Sim) *chat.PushCredential { c := s.Credential("https://localhost"); return &c }
	if !of(a).Same(of(b)) || of(a).Same(of(c)) || of(a).Same(of(d)) {
		t.Error("credentials differ where they must not, or do not where they must")
	}
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// post sends JSON as it is and gives what came of it.
func post(t *testing.T, w *golden.Rig, path, access string, m map[string]any) map[string]any {
	t.Helper()
	r := push.JSONRequest(path, push.JSON(m), 0)
	r.Header["authToken"] = access
	a := w.Ask(t, r)
	var v map[string]any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	return v
}
