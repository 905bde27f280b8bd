package meizu_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/meizu"
	"github.com/parleychat/parley/internal/push/pushtest"
)

const token = "token"

func TestMain(m *testing.M) { golden.Main(m) }

// A world is a simulator that is served, and an adapter that knows it.
type world struct {
	*pushtest.Sim
	adapter    push.Adapter
	address    string
	roots      line.Options
	credential chat.PushCredential

	mu  sync.Mutex
	now time.Time
}

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
}

func newWorld(t *testing.T, o pushtest.Options) *world {
	t.Helper()
	w := &world{now: golden.Now}
	o.Now = w.time
	w.Sim = pushtest.NewMEIZU(o)
	w.Register(pushtest.Phone{Token: token})
	server, err := pushtest.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	if w.address, err = server.Serve(w.Sim, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	w.roots = line.Options{Roots: server.Roots}
	w.credential = w.Credential(w.address)
	if err := w.credential.Check(); err != nil {
		t.Fatal(err)
	}
	w.adapter = w.with(t, w.credential, w.roots)
	return w
}

// with is another adapter, of this credential.
func (w *world) with(t *testing.T, c chat.PushCredential, o line.Options) push.Adapter {
	t.Helper()
	a, err := meizu.New(&c, o, w.time)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func send(t *testing.T, a push.Adapter, n push.Notification) push.Attempt {
	t.Helper()
	attempts := a.Send(t.Context(), []*push.Notification{&n})
	if len(attempts) != 1 {
		t.Fatalf("%d attempts", len(attempts))
	}
	return attempts[0]
}

func want(t *testing.T, what string, got push.Result, class push.Class, code string) {
	t.Helper()
	if got.Class != class || got.Code != code {
		t.Errorf("%s: %s %s, want %s %s", what, got.Class, got.Code, class, code)
	}
}

// The request as it arrives, and what the phone makes of it.
func TestExample(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	sim := pushtest.NewMEIZU(pushtest.Options{
		Now: func() time.Time { return golden.Now }, Seed: "meizu",
		Seen: func(r *http.Request, body string) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, golden.Received(r, body, nil))
		},
	})
	sim.Register(pushtest.Phone{Token: token})
	s := httptest.NewUnstartedServer(sim)
	var open atomic.Int32
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	s.StartTLS()
	defer s.Close()
	c := sim.Credential(s.URL)
	a, err := meizu.New(&c, line.Options{Roots: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}, sim.Now)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "the example", send(t, a, golden.Example(t, token)).Result, push.Accepted, "200")
	golden.CheckText(t, "exchange.txt", strings.Join(seen, "\n"))

	screen := sim.Screen(token)
	if len(screen) != 1 {
		t.Fatalf("%d on the screen", len(screen))
	}
	n := screen[0]
	if n.Title != "you have a new message." || n.Body != `1 < 2 & "so" on 👍🏽` || n.Data != `{"order":17}` || !strings.Contains(n.Card, `"fId":"alice"`) ||
		n.Badge != -1 || len(n.Key) != 8 || n.ID != "NS1" || !n.Expires.Equal(golden.Now.Add(35*time.Hour)) {
		t.Errorf("%+v", n)
	}
	// Told again, it takes its own place. What is long is read unfolded, and is
	// signed as it is.
	long := golden.Example(t, token)
	long.Body = strings.Repeat("é&=+% 中", 100)
	want(t, "again", send(t, a, long).Result, push.Accepted, "200")
	if screen := sim.Screen(token); len(screen) != 1 || screen[0].Body != long.Body {
		t.Errorf("%+v", screen)
	}
	// What pushExt calls 2.
	want(t, "public", send(t, a, golden.With(t, token, `{"pushConfigs":[{"MEIZU":{"noticeMsgType":2}}]}`)).Result, push.Accepted, "200")
	mu.Lock()
	if !strings.Contains(seen[len(seen)-1], `"noticeMsgType": 0`) {
		t.Error(seen[len(seen)-1])
	}
	mu.Unlock()
	if open.Load() == 0 {
		t.Error("the connection was not kept")
	}
	a.Close()
	for deadline := time.Now().Add(5 * time.Second); open.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections after Close", open.Load())
		}
	}
}

// Every code, given by the simulator, is of its class.
func TestCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
	for code, class := range map[string]push.Class{
		"1003": push.Retry, "1001": push.Retry, "500": push.Retry, "110010": push.RetryAfter, "110019": push.QuotaDay, "110051": push.QuotaDay,
		"1006": push.ConfigHalt, "110000": push.ConfigHalt, "110001": push.ConfigHalt, "110009": push.ConfigHalt, "110031": push.ConfigHalt, "110033": push.ConfigHalt,
		"1005": push.PayloadBad, "110004": push.PayloadBad, "110053": push.PayloadBad, "77": push.PayloadBad, "300": push.PayloadBad,
		"value 110002": push.TokenStrike, "value 110003": push.TokenDead, "value 201": push.ConfigHalt, "value 501": push.Retry, "value 513": push.Retry,
		"value 519": push.Retry, "value 518": push.RetryAfter, "value 520": push.UserCap, "value 78": push.PayloadBad,
		"token 110002": push.TokenStrike, "token 110003": push.TokenDead, "token 520": push.UserCap,
	} {
		mend := w.Fail(pushtest.Fault{Code: code})
		r := send(t, w.adapter, golden.Example(t, token)).Result
		mend()
		plain := code[strings.IndexByte(code, ' ')+1:]
		want(t, code, r, class, plain)
		if r.Unknown != (plain == "77" || plain == "78" || plain == "300") {
			t.Errorf("%s: unknown is %t", code, r.Unknown)
		}
	}
}

// What the simulator refuses of itself.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{Strict: true, Daily: 12})
	w.Register(pushtest.Phone{Token: "off", Off: true})
	w.Remove("gone")
	want(t, "a stranger", send(t, w.adapter, golden.Example(t, "stranger")).Result, push.TokenDead, "110003")
	want(t, "gone", send(t, w.adapter, golden.Example(t, "gone")).Result, push.TokenDead, "110003")
	want(t, "off", send(t, w.adapter, golden.Example(t, "off")).Result, push.TokenStrike, "110002")
	for range 5 {
		want(t, "one of five", send(t, w.adapter, golden.Example(t, token)).Result, push.Accepted, "200")
		w.pass(time.Second)
	}
	want(t, "the sixth", send(t, w.adapter, golden.Example(t, token)).Result, push.UserCap, "520")
	w.pass(54 * time.Second)
	want(t, "the sixth", send(t, w.adapter, golden.Example(t, token)).Result, push.UserCap, "520")
	w.pass(time.Second)
	want(t, "a minute later", send(t, w.adapter, golden.Example(t, token)).Result, push.Accepted, "200")
	want(t, "too many", send(t, w.adapter, golden.Example(t, "off")).Result, push.TokenStrike, "110002")
	want(t, "too many", send(t, w.adapter, golden.Example(t, "off")).Result, push.QuotaDay, "110051")
	w.pass(8 * time.Hour) // it is midnight there
	n := golden.Example(t, token)
	n.Expires = time.Time{}
	want(t, "a new day", send(t, w.adapter, n).Result, push.Accepted, "200")

	fast := newWorld(t, pushtest.Options{Strict: true, Strangers: true})
	for i := range 201 {
		r := send(t, fast.adapter, golden.Example(t, fmt.Sprintf("phone-%d", i))).Result
		if last := i == 200; last {
			want(t, "the 201st of a second", r, push.RetryAfter, "110010")
		} else if r.Class != push.Accepted {
			t.Fatalf("%d: %+v", i, r)
		}
	}
	n = golden.Example(t, "a,b")
	want(t, "two tokens", send(t, fast.adapter, n).Result, push.PayloadBad, "token")
	n = golden.Example(t, token)
	n.Silent = true
	want(t, "silent", send(t, fast.adapter, n).Result, push.PayloadBad, "silent")
}

// What is wrong with the credential stops the lane, and Check says so and shows
// nobody anything.
func TestCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{Strangers: true})
	want(t, "good", w.adapter.Check(t.Context()), push.Accepted, "110003")
	for field, code := range map[string]string{"appSecret": "1006", "appId": "110000"} {
		bad := w.credential
		bad.Fields = map[string]string{"appId": w.credential.Fields["appId"], "appSecret": w.credential.Fields["appSecret"]}
		bad.Fields[field] = "7"
		a := w.with(t, bad, w.roots)
		want(t, field, send(t, a, golden.Example(t, token)).Result, push.ConfigHalt, code)
		want(t, field, a.Check(t.Context()), push.ConfigHalt, code)
	}
	mend := w.Fail(pushtest.Fault{Status: 401})
	want(t, "a proxy that wants to know who it is", w.adapter.Check(t.Context()), push.ConfigHalt, "http 401")
	mend()
	if n := w.Stats().Taken; n != 0 {
		t.Errorf("%d were shown", n)
	}
	for _, name := range []string{"appId", "appSecret"} {
		c := chat.PushCredential{Fields: map[string]string{"appId": "1", "appSecret": "2"}}
		delete(c.Fields, name)
		if _, err := meizu.New(&c, line.Options{}, time.Now); err == nil || err.Error() != name+": is required" {
			t.Error(err)
		}
	}
	c := chat.PushCredential{Provider: chat.MEIZU, Fields: map[string]string{"appId": "1", "appSecret": "2", "noticeMsgType": "0"}}
	if err := c.Check(); err == nil || err.Error() != "noticeMsgType: one of 1, 2" {
		t.Error(err)
	}
}

// Whatever happens on the way is no reason to give up a token or a notification.
func TestTransport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
	o := w.roots
	o.Timeout = 200 * time.Millisecond
	hasty := w.with(t, w.credential, o)
	want(t, "good", send(t, w.adapter, golden.Example(t, token)).Result, push.Accepted, "200")
	for _, c := range []struct {
		fault pushtest.Fault
		class push.Class
		code  string
		after time.Duration
	}{
		{pushtest.Fault{Reset: true}, push.Retry, "transport", 0},
		{pushtest.Fault{Lost: true}, push.Retry, "transport", 0},
		{pushtest.Fault{Status: 200}, push.Retry, "unreadable", 0},
		{pushtest.Fault{Status: 200, Body: `{"code":"200","val`}, push.Retry, "unreadable", 0},
		{pushtest.Fault{Status: 502, Body: "<html>Bad gateway</html>"}, push.Retry, "http 502", 0},
		{pushtest.Fault{Status: 503, Header: map[string]string{"Retry-After": "7"}}, push.RetryAfter, "http 503", 7 * time.Second},
		{pushtest.Fault{Status: 429, Header: map[string]string{"Retry-After": "7"}}, push.RetryAfter, "http 429", 7 * time.Second},
		{pushtest.Fault{Status: 403}, push.ConfigHalt, "http 403", 0},
		{pushtest.Fault{Status: 301, Header: map[string]string{"Location": "/"}}, push.ConfigHalt, "http 301", 0},
		{pushtest.Fault{Status: 307, Header: map[string]string{"Location": "/"}}, push.ConfigHalt, "http 307", 0},
	} {
		before := w.Stats()
		mend := w.Fail(c.fault)
		r := send(t, w.adapter, golden.Example(t, token)).Result
		mend()
		want(t, fmt.Sprintf("%+v", c.fault), r, c.class, c.code)
		if after := w.Stats(); r.After != c.after || after.Requests != before.Requests+1 {
			t.Errorf("%+v: after %s, %d requests", c.fault, r.After, after.Requests-before.Requests)
		}
	}
	// It may run out of time on the way, but not always.
	r := send(t, hasty, golden.Example(t, token)).Result
	for tries := 1; r.Code == "timeout" && tries < 100; tries++ {
		r = send(t, hasty, golden.Example(t, token)).Result
	}
	want(t, "hasty", r, push.Accepted, "200")
	for _, f := range []pushtest.Fault{{Hang: true}, {Status: 200, Drip: true}} {
		mend := w.Fail(f)
		want(t, fmt.Sprintf("%+v", f), send(t, hasty, golden.Example(t, token)).Result, push.Retry, "timeout")
		mend()
	}
	w.Fail(pushtest.Fault{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := golden.Example(t, token)
	if r := w.adapter.Send(ctx, []*push.Notification{&n}); r[0].Class != push.Retry {
		t.Errorf("%+v", r)
	}
	alone := w.with(t, w.credential, line.Options{})
	want(t, "nobody vouches", send(t, alone, n).Result, push.Retry, "certificate")
}

// Many at once do not disturb each other.
func TestMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			n := golden.Example(t, token)
			n.UID = chat.NewUID(golden.Now.UnixMilli(), chat.Direct, 1, uint32(i))
			want(t, "one of many", send(t, w.adapter, n).Result, push.Accepted, "200")
		})
	}
	wg.Wait()
	if n := len(w.Screen(token)); n != 100 {
		t.Errorf("%d on the screen", n)
	}
}

// The simulator knows a bad request from a good one.
func TestSimulator(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
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
		f.Set("appId", w.credential.Fields["appId"])
		f.Set("messageJson", string(push.JSON(m)))
		f.Set("pushIds", token)
		sum := md5.Sum([]byte("appId=" + f.Get("appId") + "messageJson=" + f.Get("messageJson") + "pushIds=" + f.Get("pushIds") + w.credential.Fields["appSecret"]))
		f.Set("sign", hex.EncodeToString(sum[:]))
		change(f)
		return w.post(t, "application/x-www-form-urlencoded", f.Encode())
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
		sum := md5.Sum([]byte("appId=" + f.Get("appId") + "messageJson=" + f.Get("messageJson") + "pushIds=" + f.Get("pushIds") + w.credential.Fields["appSecret"]))
		f.Set("sign", hex.EncodeToString(sum[:]))
	}
	for ids, want := range map[string]string{"": "110004", "a,,b": "1005", strings.Repeat("a,", 1000) + "a": "1005"} {
		if r := post(same, func(f url.Values) { resign(f, "pushIds", ids) }); r["code"] != want {
			t.Errorf("%.20s: %v, want %s", ids, r, want)
		}
	}
	// Of several phones those are listed that were not served.
	w.Register(pushtest.Phone{Token: "off", Off: true})
	r := post(same, func(f url.Values) { resign(f, "pushIds", "x,"+token+",off,y") })
	if got := fmt.Sprint(r["value"]); r["code"] != "200" || got != "map[110002:[off] 110003:[x y]]" {
		t.Errorf("%v", r)
	}
	if r := w.post(t, "application/json", "{}"); r["code"] != "1005" {
		t.Errorf("%v", r)
	}
}

// post sends a body as it is and gives what came of it.
func (w *world) post(t *testing.T, contentType, body string) map[string]any {
	t.Helper()
	l := line.New(w.roots)
	defer l.Close()
	r := push.Request{Method: "POST", Path: "/garcia/api/server/push/varnished/pushByPushId", Header: map[string]string{"Content-Type": contentType}, Body: []byte(body)}
	a, err := l.Do(t.Context(), w.address, &r, nil)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	return v
}
