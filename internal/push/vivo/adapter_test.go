package vivo_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
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
	"github.com/parleychat/parley/internal/push/pushtest"
	"github.com/parleychat/parley/internal/push/vivo"
)

const token = "token"

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
	w.Sim = pushtest.NewVIVO(o)
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
	a, err := vivo.New(&c, o, w.time)
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
	sim := pushtest.NewVIVO(pushtest.Options{
		Now: func() time.Time { return golden.Now }, Seed: "vivo",
		Seen: func(r *http.Request, body string) {
			mu.Lock()
			defer mu.Unlock()
			hide := map[string]string{}
			if access := r.Header.Get("authToken"); access != "" {
				hide[access] = "access token"
			}
			seen = append(seen, golden.Received(r, body, hide))
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
	a, err := vivo.New(&c, line.Options{Roots: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}, sim.Now)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "the example", send(t, a, golden.Example(t, token)).Result, push.Accepted, "0")
	golden.CheckText(t, "exchange.txt", strings.Join(seen, "\n"))

	screen := sim.Screen(token)
	if len(screen) != 1 {
		t.Fatalf("%d on the screen", len(screen))
	}
	n := screen[0]
	if n.Title != "you have a new message." || n.Body != `1 < 2 & "so" on 👍🏽` || n.Data != `{"order":17}` || !strings.Contains(n.Card, `"fId":"alice"`) ||
		n.Badge != -1 || n.Key == "" || n.Request == "" || n.ID != "1" || !n.Expires.Equal(golden.Now.Add(36*time.Hour-10*time.Second)) {
		t.Errorf("%+v", n)
	}
	// Told again, it takes its own place.
	want(t, "again", send(t, a, golden.Example(t, token)).Result, push.Accepted, "0")
	if screen := sim.Screen(token); len(screen) != 1 || len(sim.Log(token)) != 2 {
		t.Errorf("%d on the screen", len(screen))
	}
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
	want(t, "good", send(t, w.adapter, golden.Example(t, token)).Result, push.Accepted, "0")
	for code, class := range map[string]push.Class{
		"10302": push.TokenDead, "10000": push.ConfigHalt, "10094": push.ConfigHalt, "10200": push.ConfigHalt, "10209": push.ConfigHalt,
		"10070": push.QuotaDay, "10073": push.QuotaDay, "10071": push.UserCap, "10072": push.RetryAfter, "10093": push.RetryAfter,
		"10085": push.PayloadBad, "10104": push.PayloadBad, "77": push.PayloadBad,
		"invalidUser 1": push.TokenDead, "invalidUser 2": push.TokenStrike, "invalidUser 3": push.TokenStrike, "invalidUser 4": push.ConfigHalt,
		"invalidUser 9": push.PayloadBad,
	} {
		mend := w.Fail(pushtest.Fault{Code: code})
		r := send(t, w.adapter, golden.Example(t, token)).Result
		mend()
		want(t, "fault", r, class, code)
		if r.Unknown != (code == "77" || code == "invalidUser 9") {
			t.Errorf("%s: unknown is %t", code, r.Unknown)
		}
		w.pass(time.Second) // so that there may be access tokens again
	}
}

// What the simulator refuses of itself.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{Daily: 3, Strict: true})
	w.Register(pushtest.Phone{Token: "off", Off: true})
	w.Remove("gone")
	operational := func(token string) push.Notification {
		return golden.With(t, token, `{"pushConfigs":[{"VIVO":{"classification":0}}]}`)
	}
	want(t, "a stranger", send(t, w.adapter, golden.Example(t, "stranger")).Result, push.TokenDead, "10302")
	want(t, "gone", send(t, w.adapter, golden.Example(t, "gone")).Result, push.TokenDead, "invalidUser 1")
	want(t, "off", send(t, w.adapter, golden.Example(t, "off")).Result, push.TokenStrike, "invalidUser 2")
	n := golden.With(t, token, `{}`)
	n.Body = "Test"
	want(t, "test text", send(t, w.adapter, n).Result, push.PayloadBad, "10085")
	n.Body = "4711"
	want(t, "no text", send(t, w.adapter, n).Result, push.PayloadBad, "10104")
	n = golden.With(t, token, `{"pushConfigs":[{"VIVO":{"classification":0,"category":"IM"}}]}`)
	want(t, "another category", send(t, w.adapter, n).Result, push.PayloadBad, "10101")

	// Two operational ones a day. vivo takes more, and does not show them.
	for range 3 {
		want(t, "operational", send(t, w.adapter, operational(token)).Result, push.Accepted, "0")
	}
	if n := len(w.Log(token)); n != 2 {
		t.Errorf("%d came through", n)
	}
	want(t, "too many", send(t, w.adapter, operational("stranger")).Result, push.TokenDead, "10302")
	want(t, "too many", send(t, w.adapter, operational(token)).Result, push.QuotaDay, "10070")
	for range 3 {
		want(t, "system", send(t, w.adapter, golden.With(t, token, `{}`)).Result, push.Accepted, "0")
	}
	want(t, "too many", send(t, w.adapter, golden.With(t, token, `{}`)).Result, push.QuotaDay, "10073")
	w.pass(8 * time.Hour) // it is midnight there
	n = operational(token)
	n.Expires = time.Time{}
	want(t, "at night", send(t, w.adapter, n).Result, push.UserCap, "10071")
	n = golden.With(t, token, `{}`)
	n.Expires = time.Time{}
	want(t, "a new day", send(t, w.adapter, n).Result, push.Accepted, "0")

	c := w.credential
	c.Fields = map[string]string{"appId": c.Fields["appId"], "appKey": c.Fields["appKey"], "appSecret": c.Fields["appSecret"], "pushMode": "1"}
	test := w.with(t, c, w.roots)
	want(t, "no device for tests", send(t, test, n).Result, push.ConfigHalt, "invalidUser 4")
	w.Register(pushtest.Phone{Token: "test", Test: true})
	n.To.Token = "test"
	want(t, "one for tests", send(t, test, n).Result, push.Accepted, "0")
}

// What is wrong with the credential stops the lane, and Check says so.
func TestCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
	want(t, "good", w.adapter.Check(t.Context()), push.Accepted, "0")
	for field, c := range map[string]struct{ value, code string }{
		"appSecret": {"hush", "10206"}, "appKey": {"other", "10201"}, "appId": {"7", "10205"},
	} {
		bad := w.credential
		bad.Fields = map[string]string{}
		for name, v := range w.credential.Fields {
			bad.Fields[name] = v
		}
		bad.Fields[field] = c.value
		a := w.with(t, bad, w.roots)
		want(t, field, send(t, a, golden.Example(t, token)).Result, push.ConfigHalt, c.code)
		want(t, field, a.Check(t.Context()), push.ConfigHalt, c.code)
	}
	w.mu.Lock()
	w.now = golden.Now
	w.mu.Unlock()
	late, err := vivo.New(&w.credential, w.roots, func() time.Time { return golden.Now.Add(11 * time.Minute) })
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	want(t, "a clock that is wrong", late.Check(t.Context()), push.ConfigHalt, "10207")
	if _, err := vivo.New(&chat.PushCredential{Fields: map[string]string{"appId": "x"}}, line.Options{}, time.Now); err == nil || err.Error() != "appId: must be a number" {
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

// What answers in place of vivo's own.
func TestCheckTransport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
	for _, c := range []struct {
		fault pushtest.Fault
		class push.Class
		code  string
	}{
		{pushtest.Fault{Auth: true, Status: 502, Body: "<html>"}, push.Retry, "http 502"},
		{pushtest.Fault{Auth: true, Status: 503, Header: map[string]string{"Retry-After": "7"}}, push.Retry, "http 503"},
		{pushtest.Fault{Auth: true, Status: 200}, push.Retry, "unreadable"},
		{pushtest.Fault{Auth: true, Status: 200, Body: `{"result":0}`}, push.Retry, "unreadable"},
		{pushtest.Fault{Auth: true, Status: 403}, push.ConfigHalt, "http 403"},
		{pushtest.Fault{Auth: true, Code: "10000"}, push.ConfigHalt, "10000"},
		{pushtest.Fault{Auth: true, Code: "10093"}, push.RetryAfter, "10093"},
		{pushtest.Fault{Auth: true, Code: "4711"}, push.ConfigHalt, "4711"},
		{pushtest.Fault{Auth: true, Code: "invalidUser 1"}, push.ConfigHalt, "invalidUser 1"},
	} {
		mend := w.Fail(c.fault)
		r := send(t, w.adapter, golden.Example(t, token)).Result
		mend()
		want(t, fmt.Sprintf("%+v", c.fault), r, c.class, c.code)
		w.pass(time.Second)
	}
	if n := w.Stats().Requests; n != 0 {
		t.Errorf("%d were sent without an access token", n)
	}
	// No more of them are asked for than vivo gives.
	w.Fail(pushtest.Fault{Auth: true, Code: "10093"})
	before := w.Stats().Auths
	for range 20 {
		if r := send(t, w.adapter, golden.Example(t, token)).Result; r.Class != push.RetryAfter {
			t.Errorf("%+v", r)
		}
	}
	if n := w.Stats().Auths - before; n > 10 {
		t.Errorf("asked %d times within a second", n)
	}
}

// One access token does for all, and one more when it is void.
func TestToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
	all := func() {
		t.Helper()
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				n := golden.Example(t, token)
				n.UID = chat.NewUID(golden.Now.UnixMilli(), chat.Direct, 1, uint32(i))
				want(t, "one of many", send(t, w.adapter, n).Result, push.Accepted, "0")
			})
		}
		wg.Wait()
	}
	all()
	w.Revoke()
	all()
	if n := w.Stats().Auths; n != 2 {
		t.Errorf("%d access tokens", n)
	}
	if n := len(w.Screen(token)); n != 100 {
		t.Errorf("%d on the screen", n)
	}
	n := golden.Example(t, token)
	n.Expires = time.Time{}
	w.pass(89 * time.Minute)
	want(t, "soon", send(t, w.adapter, n).Result, push.Accepted, "0")
	if n := w.Stats().Auths; n != 2 {
		t.Errorf("%d access tokens after 89 minutes", n)
	}
	w.pass(time.Minute)
	want(t, "later", send(t, w.adapter, n).Result, push.Accepted, "0")
	if n := w.Stats().Auths; n != 3 {
		t.Errorf("%d access tokens after 90 minutes", n)
	}
}

// Whatever happens on the way is no reason to give up a token or a notification.
func TestTransport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
	o := w.roots
	o.Timeout = 200 * time.Millisecond
	hasty := w.with(t, w.credential, o)
	want(t, "good", send(t, w.adapter, golden.Example(t, token)).Result, push.Accepted, "0")
	for _, c := range []struct {
		fault pushtest.Fault
		class push.Class
		code  string
		after time.Duration
	}{
		{pushtest.Fault{Reset: true}, push.Retry, "transport", 0},
		{pushtest.Fault{Lost: true}, push.Retry, "transport", 0},
		{pushtest.Fault{Status: 200}, push.Retry, "unreadable", 0},
		{pushtest.Fault{Status: 200, Body: `{"result":0,"tas`}, push.Retry, "unreadable", 0},
		{pushtest.Fault{Status: 502, Body: "<html>Bad gateway</html>"}, push.Retry, "http 502", 0},
		{pushtest.Fault{Status: 503, Header: map[string]string{"Retry-After": "7"}}, push.Retry, "http 503", 7 * time.Second},
		{pushtest.Fault{Status: 429, Header: map[string]string{"Retry-After": "7"}}, push.RetryAfter, "http 429", 7 * time.Second},
		{pushtest.Fault{Status: 301, Header: map[string]string{"Location": "/message/send"}}, push.ConfigHalt, "http 301", 0},
		{pushtest.Fault{Status: 307, Header: map[string]string{"Location": "/message/send"}}, push.ConfigHalt, "http 307", 0},
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
	want(t, "hasty", r, push.Accepted, "0")
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
	n.Silent = true
	want(t, "silent", send(t, w.adapter, n).Result, push.PayloadBad, "silent")
}

// The simulator knows a bad request from a good one.
func TestSimulator(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
	auth := func(change func(m map[string]any)) map[string]any {
		m := map[string]any{"appId": number(w.credential.Fields["appId"]), "appKey": w.credential.Fields["appKey"], "timestamp": golden.Now.UnixMilli()}
		sum := md5.Sum(fmt.Append(nil, w.credential.Fields["appId"], w.credential.Fields["appKey"], m["timestamp"], w.credential.Fields["appSecret"]))
		m["sign"] = hex.EncodeToString(sum[:])
		change(m)
		return w.post(t, "/message/auth", "", m)
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
		w.pass(time.Second)
		if r := auth(c.change); r["result"] != c.want {
			t.Errorf("%s: %v, want %v", name, r, c.want)
		}
	}
	w.mu.Lock()
	w.now = golden.Now.Add(time.Minute)
	w.mu.Unlock()
	for i := range 11 {
		if r := auth(func(map[string]any) {}); i == 10 && r["result"] != 10093.0 || i < 10 && r["result"] != 0.0 {
			t.Errorf("%d: %v", i, r)
		}
	}

	requests := 0
	message := func(change func(m map[string]any)) map[string]any {
		requests++
		m := map[string]any{
			"appId": number(w.credential.Fields["appId"]), "regId": token, "notifyType": 4, "title": strings.Repeat("中", 20), "content": strings.Repeat("x", 100),
			"timeToLive": 60, "skipType": 1, "networkType": -1, "classification": 1, "category": "IM", "notifyId": 7,
			"clientCustomMap": map[string]any{"a": "b"}, "requestId": strconv.Itoa(requests), "pushMode": 0,
		}
		change(m)
		return w.post(t, "/message/send", access, m)
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
		"app as a text":      {set("appId", w.credential.Fields["appId"]), 10101},
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
	w.Register(pushtest.Phone{Token: "two"})
	message(set("requestId", "same"))
	if r := message(func(m map[string]any) { m["requestId"], m["regId"] = "same", "two" }); r["result"] != 10101.0 {
		t.Errorf("%v", r)
	}
	for _, a := range []string{"", "x"} {
		if r := w.post(t, "/message/send", a, map[string]any{}); r["result"] != 10000.0 {
			t.Errorf("%q: %v", a, r)
		}
	}
	w.pass(24 * time.Hour)
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
func (w *world) post(t *testing.T, path, access string, m map[string]any) map[string]any {
	t.Helper()
	l := line.New(w.roots)
	defer l.Close()
	r := push.JSONRequest(path, push.JSON(m), 0)
	a, err := l.Do(t.Context(), w.address, &r, map[string]string{"authToken": access})
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	return v
}

func TestMain(m *testing.M) { golden.Main(m) }
