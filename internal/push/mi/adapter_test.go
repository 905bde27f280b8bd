package mi

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/pushtest"
)

const token = "regid+/ab="

var provider = golden.Provider{
	Sim: pushtest.NewMI, New: New, Accepts: `{"result":"ok","code":0}`, Speaks: true,
	Gone:  `{"result":"error","code":20301}`,
	Phone: pushtest.Phone{Token: token, Package: "com.example.app"},
	Spoil: func(c *chat.PushCredential) { c.Fields["appSecret"] = "wrong" },
	Otherwise: map[string]golden.Outcome{
		"wait until":    {Class: push.Retry, Code: "http 503", After: time.Minute},
		"wait for days": {Class: push.Retry, Code: "http 503", After: push.MaxRetryAfter},
	},
}

func TestMain(m *testing.M)      { provider.Main(m) }
func TestProvider(t *testing.T)  { provider.All(t) }
func BenchmarkSend(b *testing.B) { provider.Bench(b) }

// Every code, given by the simulator, is of its class. The package is the credential's:
// what is said of a device's own is said of the device.
func TestProvoke(t *testing.T) {
	p := provider
	p.Set = func(c *chat.PushCredential) { c.Package = "com.example.app" }
	all := maps.Clone(classes)
	delete(all, "0") // which is no refusal
	all["99999"] = push.Result{Class: push.PayloadBad, Unknown: true}
	p.Provoke(t, all)
}

// What arrives is what Xiaomi wants, for everything that the sender asks for.
func TestReceived(t *testing.T) {
	t.Parallel()
	provider.Received(t, "received.txt", "", golden.Options{Credential: func(c *chat.PushCredential) { c.Fields["channelId"] = "default" }}, nil,
		func(r *golden.Rig) map[string]string {
			return map[string]string{r.Credential.Fields["appSecret"]: "secret"}
		})
}

// A wish to be left alone may come with a code.
func TestWait(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	w.Sim.Fail(pushtest.Fault{Status: 200, Header: map[string]string{"Retry-After": "3"}, Body: `{"result":"error","code":10027}`})
	golden.Outcome{Class: push.RetryAfter, Code: "10027", After: 3 * time.Second}.Is(t, "limited", w.Tell(token).Result)
}

// A channel that does not exist is left out the next time, and its template too.
func TestWithout(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{Credential: func(c *chat.PushCredential) {
		c.Fields["vendorTemplateId"], c.Fields["vendorTemplateBody"] = "P1", "what"
	}})
	w.Sim.SetMIRules(pushtest.MIRules{Channels: map[string]bool{"private": true, "public": false}})
	n := golden.Example(t, token)
	got := w.Try(n)
	golden.Want(t, "sent", got.Result, push.ConfigHalt, "27001")
	if got.Without != push.OptionChannel {
		t.Fatalf("without %b", got.Without)
	}
	n.Without = got.Without
	golden.Want(t, "sent", w.Try(n).Result, push.Accepted, "0")
	if body := w.Seen()[1].Body; strings.Contains(body, "channel_id") || strings.Contains(body, "template") || !strings.Contains(body, "large_icon_uri") {
		t.Error(body)
	}
	n.Without |= push.OptionImage
	golden.Want(t, "sent", w.Try(n).Result, push.Accepted, "0")
	if strings.Contains(w.Seen()[2].Body, "large_icon_uri") {
		t.Error(w.Seen()[2].Body)
	}
	// Whatever is said of a channel that was not named, it is not asked for again.
	w.Sim.Fail(pushtest.Fault{Code: "27001"})
	got = w.Try(n)
	golden.Want(t, "sent", got.Result, push.ConfigHalt, "27001")
	if got.Without != 0 {
		t.Errorf("without %b", got.Without)
	}
	w.Sim.Mend()

	// A private channel takes templates alone.
	e := golden.With(t, token, `{"pushConfigs":[{"MI":{"channelId":"private"}}]}`)
	golden.Want(t, "sent", w.Try(e).Result, push.Accepted, "0")
	plain := w.With(t, w.Roots, func(c *chat.PushCredential) {
		delete(c.Fields, "vendorTemplateBody")
		delete(c.Fields, "vendorTemplateId")
	})
	golden.Want(t, "without a template", golden.Try(plain, e).Result, push.PayloadBad, "26006")
}

// What the simulator itself refuses, it refuses with Xiaomi's codes.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	n := golden.Example(t, token)
	// What a device says of itself is no reason to tell nobody any more.
	n.To.Package = "com.example.other"
	golden.Want(t, "sent", w.Try(n).Result, push.TokenStrike, "22006")
	other := w.With(t, w.Roots, func(c *chat.PushCredential) { c.Package = "com.example.other" })
	golden.Want(t, "the credential's", golden.Try(other, n).Result, push.ConfigHalt, "22006")
	n.To.Package = ""
	golden.Want(t, "sent", w.Try(n).Result, push.PayloadBad, "package")
	stranger := golden.Example(t, "stranger")
	golden.Want(t, "sent", w.Try(stranger).Result, push.TokenStrike, "20301")
	w.Sim.Register(pushtest.Phone{Token: "dead"})
	dead := golden.Example(t, "dead")
	golden.Want(t, "sent", w.Try(dead).Result, push.Accepted, "0")
	w.Sim.Remove("dead")
	golden.Want(t, "sent", w.Try(dead).Result, push.TokenStrike, "20301")
	w.Sim.SetMIRules(pushtest.MIRules{Daily: w.Sim.Stats().Taken + 2})
	for _, code := range []string{"0", "0", "200001"} {
		if got := w.Try(golden.Example(t, token)); got.Code != code {
			t.Errorf("%+v, want %s", got, code)
		}
	}
	w.Pass(24 * time.Hour)
	golden.Want(t, "sent", w.Try(golden.Example(t, token)).Result, push.Accepted, "0")

	wrong := w.With(t, w.Roots, provider.Spoil)
	golden.Want(t, "another secret", golden.Try(wrong, golden.Example(t, token)).Result, push.ConfigHalt, "21301")
	if r := wrong.Check(t.Context()); r.Class != push.ConfigHalt || r.Code != "21301" {
		t.Errorf("checked %+v", r)
	}
	if _, err := wrong.(push.Feedback).Dead(t.Context()); line.ResultOf(err).Class != push.ConfigHalt || strings.Contains(err.Error(), "wrong") {
		t.Errorf("dead: %v", err)
	}
}

// Whether the secret is good is known without notifying anybody.
func TestCheck(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	for _, c := range []struct {
		fault pushtest.Fault
		class push.Class
		code  string
	}{
		{pushtest.Fault{Times: 1, Skip: 1000}, push.Accepted, "10017"}, // nothing is wrong
		{pushtest.Fault{Status: 200, Body: `{"result":"ok","code":0,"data":{}}`}, push.Accepted, "0"},
		{pushtest.Fault{Code: "99999"}, push.Accepted, "99999"},
		{pushtest.Fault{Code: "21301"}, push.ConfigHalt, "21301"},
		{pushtest.Fault{Code: "10001"}, push.Retry, "10001"},
		{pushtest.Fault{Status: 400, Body: "<html>"}, push.PayloadBad, "http 400"},
		{pushtest.Fault{Status: 502}, push.Retry, "http 502"},
		{pushtest.Fault{Reset: true}, push.Retry, "transport"},
	} {
		mend := w.Sim.Fail(c.fault)
		if r := w.Adapter.Check(t.Context()); r.Class != c.class || r.Code != c.code {
			t.Errorf("%s %+v, want %s %s", r.Class, r, c.class, c.code)
		}
		mend()
	}
	if w.Sim.Stats().Taken != 0 {
		t.Error("somebody was notified")
	}
}

// The list of dead tokens is told once, however long it is.
func TestDead(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	feedback := w.Adapter.(push.Feedback)
	if list, err := feedback.Dead(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	// More than other answers may hold.
	var all []string
	for i := range 1001 {
		all = append(all, fmt.Sprintf("%s%04d", strings.Repeat("x", 90), i))
		w.Sim.Remove(all[i])
	}
	list, err := feedback.Dead(t.Context())
	if err != nil || !slices.Equal(list, all[:1000]) {
		t.Fatalf("%d, %v", len(list), err)
	}
	if list, err = feedback.Dead(t.Context()); err != nil || !slices.Equal(list, all[1000:]) {
		t.Fatalf("%v, %v", list, err)
	}
	w.Sim.SetMIRules(pushtest.MIRules{Feedback: time.Hour})
	for name, c := range map[string]struct {
		fault pushtest.Fault
		class push.Class
		code  string
	}{
		"too often": {pushtest.Fault{Times: 1, Skip: 1000}, push.RetryAfter, "10030"},
		"truncated": {pushtest.Fault{Status: 200, Body: `{"result":"ok","code":0,"data":{"list":["a"`}, push.Retry, "unreadable"},
		"no list":   {pushtest.Fault{Status: 200, Body: `{"result":"ok","code":0,"data":{"list":7}}`}, push.Retry, "unreadable"},
		"reset":     {pushtest.Fault{Reset: true}, push.Retry, "transport"},
	} {
		mend := w.Sim.Fail(c.fault)
		list, err := feedback.Dead(t.Context())
		if r := line.ResultOf(err); err == nil || list != nil || r.Class != c.class || r.Code != c.code {
			t.Errorf("%s: %v, %v", name, list, err)
		}
		mend()
	}
	w.Sim.SetMIRules(pushtest.MIRules{Retired: true})
	if list, err := feedback.Dead(t.Context()); err == nil || list != nil || line.ResultOf(err).Class != push.ConfigHalt {
		t.Errorf("retired: %v, %v", list, err)
	}
}

// The simulator is not blind: whatever is wrong with a request is refused.
func TestSimulator(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	golden.Want(t, "sent", w.Try(golden.Example(t, token)).Result, push.Accepted, "0")
	good, err := url.ParseQuery(w.Seen()[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	post := func(method, path, key, kind string, form url.Values) (status int, code int) {
		a := w.Ask(t, push.Request{
			Method: method, Path: path, Header: map[string]string{"Authorization": key, "Content-Type": kind}, Body: []byte(form.Encode()),
		})
		var v struct {
			Code push.Code `json:"code"`
		}
		push.ReadJSON(a.Body, &v)
		code, _ = strconv.Atoi(string(v.Code))
		return a.Status, code
	}
	const path, kind = "/v3/message/regid", "application/x-www-form-urlencoded;charset=UTF-8"
	key := "key=" + w.Credential.Fields["appSecret"]
	if _, code := post("POST", path, key, kind, good); code != 0 {
		t.Fatalf("the good one: %d", code)
	}
	for _, k := range []string{"", "key=x", "Key=" + w.Credential.Fields["appSecret"], "Bearer " + w.Credential.Fields["appSecret"], w.Credential.Fields["appSecret"]} {
		if _, code := post("POST", path, k, kind, good); code != 21301 {
			t.Errorf("key %.4s: %d", k, code)
		}
	}
	if _, code := post("POST", path, key, "application/json", good); code != 10017 {
		t.Errorf("as JSON: %d", code)
	}
	for _, r := range [][2]string{{"GET", path}, {"POST", "/v4/message/regid"}, {"POST", "/v1/feedback/fetch_invalid_regids"}} {
		if status, _ := post(r[0], r[1], key, kind, good); status != 404 {
			t.Errorf("%s: %d", r, status)
		}
	}
	for change, code := range map[string]int{
		"registration_id=": 10016, "-registration_id": 10016, "-pass_through": 10016, "-title": 10016, "-description": 10016, "-payload": 10016,
		"-restricted_package_name": 22006, "restricted_package_name=": 22006, "restricted_package_name=x": 22006,
		"title=": 10016, "title=  ": 10016, "title=" + strings.Repeat("中", 50): 65009, "title=" + strings.Repeat("中", 49): 0,
		"description=": 10016, "description=" + strings.Repeat("中", 128): 65009, "payload=" + strings.Repeat("x", 4096): 65009,
		"pass_through=2": 10017, "pass_through=true": 10017, "notify_type=8": 10017, "notify_type=all": 10017, "notify_id=-1": 10017, "notify_id=2147483648": 10017,
		"time_to_live=0": 10017, "time_to_live=3600s": 10017, "time_to_live=1.5": 10017, "timeToLive=5000": 10017, "unknown=x": 10017,
		"extra.notify_effect=4": 10017, "extra.notify_effect=2": 10016, "extra.notify_effect=3": 10016,
		"extra.notification_large_icon_uri=http://x": 10017, "extra.jobkey=_x": 10017, "extra.jobkey=abcdefghijklm": 10017, "extra.jobkey=a b": 10017,
		"extra.callback=ftp://x": 65037, "extra.callback=https://" + strings.Repeat("x", 121): 65037, "extra.callback.param=" + strings.Repeat("x", 65): 65038,
		`extra.template_param={"a":"b"}`: 10016, "extra.template_id=": 65015, "extra.other=" + strings.Repeat("x", 1024): 65015, "extra.only_send_once=0": 10017,
	} {
		form := url.Values{}
		for name, values := range good {
			form[name] = values
		}
		if name, ok := strings.CutPrefix(change, "-"); ok {
			form.Del(name)
		} else {
			name, value, _ := strings.Cut(change, "=")
			form.Set(name, value)
		}
		if _, got := post("POST", path, key, kind, form); got != code {
			t.Errorf("%.50s: %d, want %d", change, got, code)
		}
	}
	for param, code := range map[string]int{
		`{"a":"b"}`: 0, `{"a":""}`: 65015, `{"a":" "}`: 65015, `{"a":"😀"}`: 65015, `{"a":7}`: 65015, `[]`: 65015, `x`: 65015, "": 65015,
		`{"a":"` + strings.Repeat("x", 128) + `"}`: 0, `{"a":"` + strings.Repeat("x", 129) + `"}`: 65015,
	} {
		form := url.Values{"extra.template_id": {"P1"}, "extra.template_param": {param}}
		for name, values := range good {
			form[name] = values
		}
		if _, got := post("POST", path, key, kind, form); got != code {
			t.Errorf("%.50s: %d, want %d", param, got, code)
		}
	}
	form := url.Values{}
	for name, values := range good {
		form[name] = append(values, values...)
	}
	if _, code := post("POST", path, key, kind, form); code != 10017 {
		t.Errorf("everything twice: %d", code)
	}
	before := w.Sim.Stats().Odd
	for _, change := range [][2]string{{"time_to_live", "900"}, {"payload", "x"}, {"extra.channelId", "x"}} {
		form := url.Values{}
		for name, values := range good {
			form[name] = values
		}
		form.Set(change[0], change[1])
		if _, code := post("POST", path, key, kind, form); code != 0 {
			t.Errorf("%s: %d", change, code)
		}
	}
	if odd := w.Sim.Stats().Odd - before; odd != 3 {
		t.Errorf("%d odd ones", odd)
	}
	// Of one job key the first is shown; without a number there is one place.
	plain := url.Values{}
	for name, values := range good {
		plain[name] = values
	}
	plain.Del("notify_id")
	plain.Set("registration_id", "fresh,"+token)
	w.Sim.Register(pushtest.Phone{Token: "fresh"})
	for _, title := range []string{"a", "b"} {
		plain.Set("title", title)
		post("POST", path, key, kind, plain)
	}
	plain.Set("extra.jobkey", "job")
	for _, title := range []string{"c", "d"} {
		plain.Set("title", title)
		post("POST", path, key, kind, plain)
	}
	if shown := w.Sim.Screen("fresh"); len(shown) != 1 || shown[0].Title != "c" || len(w.Sim.Log("fresh")) != 3 {
		t.Errorf("%+v", shown)
	}
}

// Credentials that cannot be are refused, without telling what is in them.
func TestNew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cred chat.PushCredential
		want string
	}{
		"another's":   {chat.PushCredential{Provider: chat.OPPO, Fields: map[string]string{"appKey": "a", "masterSecret": "hush"}}, "provider: must be MI"},
		"no secret":   {chat.PushCredential{Provider: chat.MI}, "appSecret: is required for MI"},
		"region":      {chat.PushCredential{Provider: chat.MI, Fields: map[string]string{"appSecret": "hush", "region": "moon"}}, "region: one of cn, global"},
		"no template": {chat.PushCredential{Provider: chat.MI, Fields: map[string]string{"appSecret": "hush", "vendorTemplateBody": "b"}}, "vendorTemplateId: is required with vendorTemplateBody"},
		"a space":     {chat.PushCredential{Provider: chat.MI, Fields: map[string]string{"appSecret": "hush hush"}}, "appSecret: must be printable ASCII characters without spaces"},
	} {
		a, err := New(&c.cred, line.Options{}, time.Now)
		if a != nil || err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
