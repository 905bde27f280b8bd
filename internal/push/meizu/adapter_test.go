package meizu

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
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
	Sim: pushtest.NewMEIZU, New: New, Accepts: `{"code":"200"}`, LifeUnit: time.Hour,
	Gone:  `{"code":"200","value":{"110003":["t"]}}`,
	Spoil: func(c *chat.PushCredential) { c.Fields["appSecret"] = "7" },
}

const token = golden.Token

func TestMain(m *testing.M)      { provider.Main(m) }
func TestProvider(t *testing.T)  { provider.All(t) }
func BenchmarkSend(b *testing.B) { provider.Bench(b) }

// Every code, given by the simulator, is of its class; and so is what is said of a
// device, in either form.
func TestProvoke(t *testing.T) {
	unknown := push.Result{Class: push.PayloadBad, Unknown: true}
	all := push.Classes{"77": unknown, "300": unknown}
	maps.Copy(all, classes)
	for code, r := range users {
		r.Code = code
		all["value "+code], all["token "+code] = r, r
	}
	unknown.Code = "78"
	all["value 78"], all["token 78"] = unknown, unknown
	provider.Provoke(t, all)
}

// The request as it arrives, and what the phone makes of it.
func TestReceived(t *testing.T) {
	t.Parallel()
	r := provider.Received(t, "received.txt", "", golden.Options{Sim: pushtest.Options{Seed: "meizu"}}, nil, nil)
	if n := r.Sim.Screen(token)[0]; n.ID != "NS1" || len(n.Key) != 8 {
		t.Errorf("%+v", n)
	}
	// What is long is read unfolded, and is signed as it is.
	long := r.Example(token)
	long.Body = strings.Repeat("é&=+% 中", 100)
	golden.Want(t, "long", r.Try(long).Result, push.Accepted, "200")
	if screen := r.Sim.Screen(token); len(screen) != 1 || screen[0].Body != long.Body {
		t.Errorf("%+v", screen)
	}
	// What pushExt calls 2.
	golden.Want(t, "public", r.Try(golden.With(t, token, `{"pushConfigs":[{"MEIZU":{"noticeMsgType":2}}]}`)).Result, push.Accepted, "200")
	seen := r.Seen()
	form, err := url.ParseQuery(seen[len(seen)-1].Body)
	if err != nil || !strings.Contains(form.Get("messageJson"), `"noticeMsgType":0`) {
		t.Errorf("%s, %v", form, err)
	}
}

// What the simulator refuses of itself.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{Sim: pushtest.Options{Strict: true, Daily: 12}})
	w.Sim.Register(pushtest.Phone{Token: "off", Off: true})
	w.Sim.Remove("gone")
	golden.Want(t, "a stranger", golden.Try(w.Adapter, golden.Example(t, "stranger")).Result, push.TokenDead, "110003")
	golden.Want(t, "gone", golden.Try(w.Adapter, golden.Example(t, "gone")).Result, push.TokenDead, "110003")
	golden.Want(t, "off", golden.Try(w.Adapter, golden.Example(t, "off")).Result, push.TokenStrike, "110002")
	for range 5 {
		golden.Want(t, "one of five", golden.Try(w.Adapter, golden.Example(t, token)).Result, push.Accepted, "200")
		w.Pass(time.Second)
	}
	golden.Want(t, "the sixth", golden.Try(w.Adapter, golden.Example(t, token)).Result, push.UserCap, "520")
	w.Pass(54 * time.Second)
	golden.Want(t, "the sixth", golden.Try(w.Adapter, golden.Example(t, token)).Result, push.UserCap, "520")
	w.Pass(time.Second)
	golden.Want(t, "a minute later", golden.Try(w.Adapter, golden.Example(t, token)).Result, push.Accepted, "200")
	golden.Want(t, "too many", golden.Try(w.Adapter, golden.Example(t, "off")).Result, push.TokenStrike, "110002")
	golden.Want(t, "too many", golden.Try(w.Adapter, golden.Example(t, "off")).Result, push.QuotaDay, "110051")
	w.Pass(8 * time.Hour) // it is midnight there
	n := golden.Example(t, token)
	n.Expires = time.Time{}
	golden.Want(t, "a new day", golden.Try(w.Adapter, n).Result, push.Accepted, "200")

	fast := provider.Start(t, golden.Options{Sim: pushtest.Options{Strict: true, Strangers: true}})
	for i := range 201 {
		r := golden.Try(fast, golden.Example(t, fmt.Sprintf("phone-%d", i))).Result
		if last := i == 200; last {
			golden.Want(t, "the 201st of a second", r, push.RetryAfter, "110010")
		} else if r.Class != push.Accepted {
			t.Fatalf("%d: %+v", i, r)
		}
	}
	n = golden.Example(t, "a,b")
	golden.Want(t, "two tokens", golden.Try(fast, n).Result, push.PayloadBad, "token")
}

// What is wrong with the credential stops the lane, and Check says so and shows
// nobody anything.
func TestCredential(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{Sim: pushtest.Options{Strangers: true}})
	golden.Want(t, "good", w.Adapter.Check(t.Context()), push.Accepted, "110003")
	for field, code := range map[string]string{"appSecret": "1006", "appId": "110000"} {
		a := w.With(t, w.Roots, func(bad *chat.PushCredential) { bad.Fields[field] = "7" })
		golden.Want(t, field, golden.Try(a, golden.Example(t, token)).Result, push.ConfigHalt, code)
		golden.Want(t, field, a.Check(t.Context()), push.ConfigHalt, code)
	}
	mend := w.Sim.Fail(pushtest.Fault{Status: 401})
	golden.Want(t, "a proxy that wants to know who it is", w.Adapter.Check(t.Context()), push.ConfigHalt, "http 401")
	mend()
	if n := w.Sim.Stats().Taken; n != 0 {
		t.Errorf("%d were shown", n)
	}
	for _, name := range []string{"appId", "appSecret"} {
		c := chat.PushCredential{Fields: map[string]string{"appId": "1", "appSecret": "2"}}
		delete(c.Fields, name)
		if _, err := New(&c, line.Options{}, time.Now); err == nil || err.Error() != name+": is required" {
			t.Error(err)
		}
	}
	c := chat.PushCredential{Provider: chat.MEIZU, Fields: map[string]string{"appId": "1", "appSecret": "2", "noticeMsgType": "0"}}
	if err := c.Check(); err == nil || err.Error() != "noticeMsgType: one of 1, 2" {
		t.Error(err)
	}
}

// The simulator knows a bad request from a good one.
func TestSimulator(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	type object = map[string]any
	// post sends a form, signed after the change of the message and before that of
	// the form.
	post := func(message func(m object), change func(f url.Values)) object {
		t.Helper()
		m := object{
			"noticeBarInfo":    object{"title": strings.Repeat("中", 32), "content": strings.Repeat("x", 100), "noticeMsgType": 1},
			"noticeExpandInfo": object{"noticeExpandType": 1, "noticeExpandContent": strings.Repeat("x", 1000)},
			"clickTypeInfo":    object{"clickType": 0, "parameters": object{"a": "b"}},
			"pushTimeInfo":     object{"offLine": 1, "validTime": 72},
			"advanceInfo":      object{"notifyKey": "aB-_5678"},
		}
		message(m)
		f := url.Values{}
		f.Set("appId", w.Credential.Fields["appId"])
		f.Set("messageJson", string(push.JSON(m)))
		f.Set("pushIds", token)
		sum := md5.Sum([]byte("appId=" + f.Get("appId") + "messageJson=" + f.Get("messageJson") + "pushIds=" + f.Get("pushIds") + w.Credential.Fields["appSecret"]))
		f.Set("sign", hex.EncodeToString(sum[:]))
		change(f)
		return form(t, w, "application/x-www-form-urlencoded", f.Encode())
	}
	same, signed := func(object) {}, func(url.Values) {}
	in := func(part, name string, value any) func(object) {
		return func(m object) {
			o := m[part].(object)
			if o[name] = value; value == nil {
				delete(o, name)
			}
		}
	}
	for name, message := range map[string]func(object){
		"as it is": same, "bare": func(m object) {
			for name := range m {
				if name != "noticeBarInfo" {
					delete(m, name)
				}
			}
		},
		"public": in("noticeBarInfo", "noticeMsgType", 0), "for who is there": in("pushTimeInfo", "offLine", 0), "no key": in("advanceInfo", "notifyKey", nil),
	} {
		if r := post(message, signed); r["code"] != "200" || len(r["value"].(object)) != 0 {
			t.Errorf("%s: %v", name, r)
		}
	}
	for name, message := range map[string]func(object){
		"no title": in("noticeBarInfo", "title", nil), "empty title": in("noticeBarInfo", "title", ""), "long title": in("noticeBarInfo", "title", strings.Repeat("x", 33)),
		"no content": in("noticeBarInfo", "content", nil), "long content": in("noticeBarInfo", "content", strings.Repeat("x", 101)),
		"the sender's number": in("noticeBarInfo", "noticeMsgType", 2), "kind as a text": in("noticeBarInfo", "noticeMsgType", "1"),
		"unfolds to nothing": in("noticeExpandInfo", "noticeExpandContent", ""), "unfolds to much": in("noticeExpandInfo", "noticeExpandContent", strings.Repeat("x", 1001)),
		"opens as of old": in("clickTypeInfo", "clickType", 3), "parameters as a text": in("clickTypeInfo", "parameters", "{}"), "opens what": in("clickTypeInfo", "clickType", 2),
		"no life": in("pushTimeInfo", "validTime", 0), "a long life": in("pushTimeInfo", "validTime", 73), "life in seconds": in("pushTimeInfo", "validTime", 3600),
		"offLine": in("pushTimeInfo", "offLine", 2), "long key": in("advanceInfo", "notifyKey", "123456789"), "letters": in("advanceInfo", "notifyKey", "a.b"),
		"snake case": in("pushTimeInfo", "valid_time", 1), "unknown part": func(m object) { m["x"] = 1 },
		"long callback": func(m object) { m["extra"] = object{"callback": strings.Repeat("x", 129)} },
	} {
		if r := post(message, signed); r["code"] != "1005" {
			t.Errorf("%s: %v", name, r)
		}
	}
	for name, c := range map[string]struct {
		change func(url.Values)
		want   string
	}{
		"another app":  {func(f url.Values) { f.Set("appId", "7") }, "110000"},
		"no sign":      {func(f url.Values) { f.Del("sign") }, "1006"},
		"in capitals":  {func(f url.Values) { f.Set("sign", strings.ToUpper(f.Get("sign"))) }, "1006"},
		"changed":      {func(f url.Values) { f.Set("messageJson", f.Get("messageJson")+" ") }, "1006"},
		"two messages": {func(f url.Values) { f.Add("messageJson", "{}") }, "1005"},
		"more":         {func(f url.Values) { f.Set("x", "1") }, "1005"},
	} {
		if r := post(same, c.change); r["code"] != c.want {
			t.Errorf("%s: %v, want %s", name, r, c.want)
		}
	}
	resign := func(f url.Values, name, value string) {
		f.Set(name, value)
		sum := md5.Sum([]byte("appId=" + f.Get("appId") + "messageJson=" + f.Get("messageJson") + "pushIds=" + f.Get("pushIds") + w.Credential.Fields["appSecret"]))
		f.Set("sign", hex.EncodeToString(sum[:]))
	}
	for ids, want := range map[string]string{"": "110004", "a,,b": "1005", strings.Repeat("a,", 1000) + "a": "1005"} {
		if r := post(same, func(f url.Values) { resign(f, "pushIds", ids) }); r["code"] != want {
			t.Errorf("%.20s: %v, want %s", ids, r, want)
		}
	}
	// Of several phones those are listed that were not served.
	w.Sim.Register(pushtest.Phone{Token: "off", Off: true})
	r := post(same, func(f url.Values) { resign(f, "pushIds", "x,"+token+",off,y") })
	if got := fmt.Sprint(r["value"]); r["code"] != "200" || got != "map[110002:[off] 110003:[x y]]" {
		t.Errorf("%v", r)
	}
	if r := form(t, w, "application/json", "{}"); r["code"] != "1005" {
		t.Errorf("%v", r)
	}
}

// form sends a body as it is and gives what came of it.
func form(t *testing.T, w *golden.Rig, contentType, body string) map[string]any {
	t.Helper()
	a := w.Ask(t, push.Request{Method: "POST", Path: "/garcia/api/server/push/varnished/pushByPushId", Header: map[string]string{"Content-Type": contentType}, Body: []byte(body)})
	var v map[string]any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	return v
}
