package mi_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/mi"
	"github.com/parleychat/parley/internal/push/pushtest"
)

const token = "regid+/ab="

// A world is a simulator with one phone, and an adapter for it.
type world struct {
	t       *testing.T
	sim     *pushtest.Sim
	address string
	roots   *x509.CertPool
	cred    chat.PushCredential
	adapter push.Adapter

	mu   sync.Mutex
	now  time.Time
	seen []*http.Request
	body []string
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func newWorld(t *testing.T, set func(*world)) *world {
	t.Helper()
	w := &world{t: t, now: golden.Now}
	w.sim = pushtest.NewMI(pushtest.Options{Now: w.clock, Seen: func(r *http.Request, body string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen, w.body = append(w.seen, r), append(w.body, body)
	}})
	server, err := pushtest.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	if w.address, err = server.Serve(w.sim, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	w.sim.Register(pushtest.Phone{Token: token, Package: "com.example.app"})
	w.roots = server.Roots
	w.cred = w.sim.Credential(w.address)
	if set != nil {
		set(w)
	}
	w.adapter = w.connect(line.Options{})
	return w
}

func (w *world) connect(o line.Options) push.Adapter {
	w.t.Helper()
	o.Roots = w.roots
	a, err := mi.New(&w.cred, o, w.clock)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(a.Close)
	return a
}

func (w *world) send(n push.Notification) push.Attempt {
	w.t.Helper()
	return sendBy(w.t, w.adapter, n)
}

func sendBy(t *testing.T, a push.Adapter, n push.Notification) push.Attempt {
	t.Helper()
	list := a.Send(t.Context(), []*push.Notification{&n})
	if len(list) != 1 {
		t.Fatalf("%d attempts", len(list))
	}
	return list[0]
}

func want(t *testing.T, got push.Attempt, class push.Class, code string) {
	t.Helper()
	if got.Class != class || got.Code != code {
		t.Errorf("%s %q, want %s %q: %+v", got.Class, got.Code, class, code, got)
	}
}

// What arrives is what Xiaomi wants, for everything that the sender asks for.
func TestRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.cred.Fields["channelId"] = "default" })
	got := w.send(golden.Example(t, token))
	want(t, got, push.Accepted, "0")
	if got.ID == "" || got.Cut != 0 {
		t.Errorf("%+v", got)
	}
	golden.CheckText(t, "received.txt", golden.Received(w.seen[0], w.body[0], map[string]string{w.cred.Fields["appSecret"]: "secret"}))
	shown := w.sim.Screen(token)
	if len(shown) != 1 || shown[0].Title != "you have a new message." || shown[0].Data != `{"order":17}` || !strings.Contains(shown[0].Card, `"tId":"alice"`) || shown[0].ID != got.ID {
		t.Fatalf("shown %+v", shown)
	}
	if d := shown[0].Expires.Sub(golden.Now); d != 36*time.Hour-10*time.Second {
		t.Errorf("lives for %s", d)
	}
	if s := w.sim.Stats(); s.Taken != 1 || s.Refused != 0 || s.Odd != 0 {
		t.Errorf("%+v", s)
	}
}

// What is sent again takes its own place, and so does a recall that of the message.
func TestOverwrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first, other, recall := golden.Example(t, token), golden.Example(t, token), golden.Example(t, token)
	other.UID = chat.NewUID(golden.Now.UnixMilli(), chat.Direct, 3, 8)
	recall.UID, recall.Removes, recall.Body = chat.NewUID(golden.Now.UnixMilli(), chat.Direct, 3, 9), first.UID, "gone"
	for _, n := range []push.Notification{first, first, other, recall} {
		want(t, w.send(n), push.Accepted, "0")
	}
	if shown := w.sim.Screen(token); len(shown) != 2 || shown[1].Body != "gone" || shown[1].Removes != first.UID.String() {
		t.Errorf("shown %+v", shown)
	}
	silent := first
	silent.Silent, silent.Title, silent.Body = true, "", ""
	want(t, w.send(silent), push.Accepted, "0")
	if log := w.sim.Log(token); len(log) != 5 || !log[4].Silent || len(w.sim.Screen(token)) != 2 {
		t.Errorf("log %+v", log)
	}
}

// A channel that does not exist is left out the next time, and its template too.
func TestWithout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.cred.Fields["vendorTemplateId"], w.cred.Fields["vendorTemplateBody"] = "P1", "what"
		w.sim.SetMIRules(pushtest.MIRules{Channels: map[string]bool{"private": true, "public": false}})
	})
	n := golden.Example(t, token)
	got := w.send(n)
	want(t, got, push.ConfigHalt, "27001")
	if got.Without != push.OptionChannel {
		t.Fatalf("without %b", got.Without)
	}
	n.Without = got.Without
	want(t, w.send(n), push.Accepted, "0")
	if body := w.body[1]; strings.Contains(body, "channel_id") || strings.Contains(body, "template") || !strings.Contains(body, "large_icon_uri") {
		t.Error(body)
	}
	n.Without |= push.OptionImage
	want(t, w.send(n), push.Accepted, "0")
	if strings.Contains(w.body[2], "large_icon_uri") {
		t.Error(w.body[2])
	}
	// Whatever is said of a channel that was not named, it is not asked for again.
	w.sim.Fail(pushtest.Fault{Code: "27001"})
	got = w.send(n)
	want(t, got, push.ConfigHalt, "27001")
	if got.Without != 0 {
		t.Errorf("without %b", got.Without)
	}
	w.sim.Mend()

	// A private channel takes templates alone.
	e := golden.With(t, token, `{"pushConfigs":[{"MI":{"channelId":"private"}}]}`)
	want(t, w.send(e), push.Accepted, "0")
	delete(w.cred.Fields, "vendorTemplateBody")
	delete(w.cred.Fields, "vendorTemplateId")
	want(t, sendBy(t, w.connect(line.Options{}), e), push.PayloadBad, "26006")
}

// What the simulator itself refuses, it refuses with Xiaomi's codes.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	n := golden.Example(t, token)
	// What a device says of itself is no reason to tell nobody any more.
	n.To.Package = "com.example.other"
	want(t, w.send(n), push.TokenStrike, "22006")
	w.cred.Package = "com.example.other"
	want(t, sendBy(t, w.connect(line.Options{}), n), push.ConfigHalt, "22006")
	w.cred.Package = ""
	n.To.Package = ""
	want(t, w.send(n), push.PayloadBad, "package")
	stranger := golden.Example(t, "stranger")
	want(t, w.send(stranger), push.TokenStrike, "20301")
	w.sim.Register(pushtest.Phone{Token: "dead"})
	dead := golden.Example(t, "dead")
	want(t, w.send(dead), push.Accepted, "0")
	w.sim.Remove("dead")
	want(t, w.send(dead), push.TokenStrike, "20301")
	late := golden.Example(t, token)
	late.Expires = golden.Now
	want(t, w.send(late), push.PayloadBad, "expired")

	w.sim.SetMIRules(pushtest.MIRules{Daily: w.sim.Stats().Taken + 2})
	for _, code := range []string{"0", "0", "200001"} {
		if got := w.send(golden.Example(t, token)); got.Code != code {
			t.Errorf("%+v, want %s", got, code)
		}
	}
	w.mu.Lock()
	w.now = w.now.Add(24 * time.Hour)
	w.mu.Unlock()
	want(t, w.send(golden.Example(t, token)), push.Accepted, "0")

	w.cred.Fields["appSecret"] = "wrong"
	wrong := w.connect(line.Options{})
	want(t, sendBy(t, wrong, golden.Example(t, token)), push.ConfigHalt, "21301")
	if r := wrong.Check(t.Context()); r.Class != push.ConfigHalt || r.Code != "21301" {
		t.Errorf("checked %+v", r)
	}
	if _, err := wrong.(push.Feedback).Dead(t.Context()); line.ResultOf(err).Class != push.ConfigHalt || strings.Contains(err.Error(), "wrong") {
		t.Errorf("dead: %v", err)
	}
}

// Every code that is in the table comes out as its class.
func TestCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.cred.Package = "com.example.app" })
	for class, codes := range map[push.Class]string{
		push.Retry:       "1 10001 10002 10003 20607 26003 65029",
		push.RetryAfter:  "10027 26004 10030",
		push.QuotaDay:    "10034 200001 channel_exceed_quota",
		push.ConfigHalt:  "21301 21302 22000 22006 22007 22022 10031 10036 27001",
		push.PayloadBad:  "10008 10012 10016 10017 65009 65014 65015 65037 65038 26006 99999",
		push.TokenStrike: "20301",
	} {
		for code := range strings.FieldsSeq(codes) {
			mend := w.sim.Fail(pushtest.Fault{Code: code})
			got := w.send(golden.Example(t, token))
			want(t, got, class, code)
			if got.Unknown != (code == "99999") {
				t.Errorf("%s unknown: %t", code, got.Unknown)
			}
			mend()
		}
	}
}

// What goes wrong on the way is never the token's fault.
func TestTransport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for name, c := range map[string]struct {
		fault pushtest.Fault
		class push.Class
		code  string
		after time.Duration
	}{
		"hangs":           {pushtest.Fault{Hang: true}, push.Retry, "timeout", 0},
		"drips":           {pushtest.Fault{Status: 200, Body: `{"result":"ok","code":0}`, Drip: true}, push.Retry, "timeout", 0},
		"resets":          {pushtest.Fault{Reset: true}, push.Retry, "transport", 0},
		"loses":           {pushtest.Fault{Lost: true}, push.Retry, "transport", 0},
		"truncated":       {pushtest.Fault{Status: 200, Body: `{"result":"ok","co`}, push.Retry, "unreadable", 0},
		"empty":           {pushtest.Fault{Status: 200}, push.Retry, "unreadable", 0},
		"a page":          {pushtest.Fault{Status: 502, Body: "<html>Bad gateway</html>"}, push.Retry, "http 502", 0},
		"a page, 200":     {pushtest.Fault{Status: 200, Body: "<html>Please log in</html>"}, push.Retry, "unreadable", 0},
		"redirected":      {pushtest.Fault{Status: 301, Header: map[string]string{"Location": w.address + "/v3/message/regid"}}, push.ConfigHalt, "http 301", 0},
		"a proxy, 401":    {pushtest.Fault{Status: 401}, push.ConfigHalt, "http 401", 0},
		"not there":       {pushtest.Fault{Status: 404, Body: "404 page not found"}, push.ConfigHalt, "http 404", 0},
		"limited":         {pushtest.Fault{Status: 429, Header: map[string]string{"Retry-After": "7"}}, push.RetryAfter, "http 429", 7 * time.Second},
		"limited by code": {pushtest.Fault{Status: 200, Header: map[string]string{"Retry-After": "3"}, Body: `{"result":"error","code":10027}`}, push.RetryAfter, "10027", 3 * time.Second},
		"busy":            {pushtest.Fault{Status: 503}, push.Retry, "http 503", 0},
	} {
		w, a := w, w.adapter
		if c.code == "timeout" {
			// With a provider of its own: what it gave up may arrive later.
			w = newWorld(t, nil)
			a = w.connect(line.Options{Timeout: 200 * time.Millisecond})
		}
		mend := w.sim.Fail(c.fault)
		before := w.sim.Stats().Requests
		got, sent := sendBy(t, a, golden.Example(t, token)), 1
		for ; c.code == "timeout" && w.sim.Stats().Requests == before && sent < 100; sent++ {
			got = sendBy(t, a, golden.Example(t, token)) // its time was over on the way
		}
		if got.Class != c.class || got.Code != c.code || got.After != c.after {
			t.Errorf("%s: %s %+v, want %s %s", name, got.Class, got, c.class, c.code)
		}
		if n := w.sim.Stats().Requests - before; n < 1 || n > sent {
			t.Errorf("%s: %d requests, sent %d", name, n, sent)
		}
		mend()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := golden.Example(t, token)
	want(t, w.adapter.Send(ctx, []*push.Notification{&n})[0], push.Retry, "timeout")
	want(t, w.send(n), push.Accepted, "0")
}

// Whether the secret is good is known without notifying anybody.
func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
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
		mend := w.sim.Fail(c.fault)
		if r := w.adapter.Check(t.Context()); r.Class != c.class || r.Code != c.code {
			t.Errorf("%s %+v, want %s %s", r.Class, r, c.class, c.code)
		}
		mend()
	}
	if w.sim.Stats().Taken != 0 {
		t.Error("somebody was notified")
	}
}

// The list of dead tokens is told once, however long it is.
func TestDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	feedback := w.adapter.(push.Feedback)
	if list, err := feedback.Dead(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	// More than other answers may hold.
	var all []string
	for i := range 1001 {
		all = append(all, fmt.Sprintf("%s%04d", strings.Repeat("x", 90), i))
		w.sim.Remove(all[i])
	}
	list, err := feedback.Dead(t.Context())
	if err != nil || !slices.Equal(list, all[:1000]) {
		t.Fatalf("%d, %v", len(list), err)
	}
	if list, err = feedback.Dead(t.Context()); err != nil || !slices.Equal(list, all[1000:]) {
		t.Fatalf("%v, %v", list, err)
	}
	w.sim.SetMIRules(pushtest.MIRules{Feedback: time.Hour})
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
		mend := w.sim.Fail(c.fault)
		list, err := feedback.Dead(t.Context())
		if r := line.ResultOf(err); err == nil || list != nil || r.Class != c.class || r.Code != c.code {
			t.Errorf("%s: %v, %v", name, list, err)
		}
		mend()
	}
	w.sim.SetMIRules(pushtest.MIRules{Retired: true})
	if list, err := feedback.Dead(t.Context()); err == nil || list != nil || line.ResultOf(err).Class != push.ConfigHalt {
		t.Errorf("retired: %v, %v", list, err)
	}
}

// The simulator is not blind: whatever is wrong with a request is refused.
func TestSimulator(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	want(t, w.send(golden.Example(t, token)), push.Accepted, "0")
	good, err := url.ParseQuery(w.body[0])
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.roots}}}
	t.Cleanup(client.CloseIdleConnections)
	post := func(method, path, key, kind string, form url.Values) (status int, code int) {
		r, err := http.NewRequestWithContext(t.Context(), method, w.address+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", key)
		r.Header.Set("Content-Type", kind)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			Code push.Code `json:"code"`
		}
		push.ReadJSON(text, &v)
		code, _ = strconv.Atoi(string(v.Code))
		return res.StatusCode, code
	}
	const path, kind = "/v3/message/regid", "application/x-www-form-urlencoded;charset=UTF-8"
	key := "key=" + w.cred.Fields["appSecret"]
	if _, code := post("POST", path, key, kind, good); code != 0 {
		t.Fatalf("the good one: %d", code)
	}
	for _, k := range []string{"", "key=x", "Key=" + w.cred.Fields["appSecret"], "Bearer " + w.cred.Fields["appSecret"], w.cred.Fields["appSecret"]} {
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
	before := w.sim.Stats().Odd
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
	if odd := w.sim.Stats().Odd - before; odd != 3 {
		t.Errorf("%d odd ones", odd)
	}
	// Of one job key the first is shown; without a number there is one place.
	plain := url.Values{}
	for name, values := range good {
		plain[name] = values
	}
	plain.Del("notify_id")
	plain.Set("registration_id", "fresh,"+token)
	w.sim.Register(pushtest.Phone{Token: "fresh"})
	for _, title := range []string{"a", "b"} {
		plain.Set("title", title)
		post("POST", path, key, kind, plain)
	}
	plain.Set("extra.jobkey", "job")
	for _, title := range []string{"c", "d"} {
		plain.Set("title", title)
		post("POST", path, key, kind, plain)
	}
	if shown := w.sim.Screen("fresh"); len(shown) != 1 || shown[0].Title != "c" || len(w.sim.Log("fresh")) != 3 {
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
		a, err := mi.New(&c.cred, line.Options{}, time.Now)
		if a != nil || err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// Many at once share the connections, and nothing is left behind by them.
func TestMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			n := golden.Example(t, token)
			n.UID = chat.NewUID(golden.Now.UnixMilli(), chat.Direct, 3, uint32(100+i))
			if got := w.adapter.Send(t.Context(), []*push.Notification{&n, &n}); len(got) != 2 || got[0].Class != push.Accepted || got[1].Class != push.Accepted {
				t.Errorf("%+v", got)
			}
		})
	}
	wg.Wait()
	if s := w.sim.Stats(); s.Taken != 200 || s.Auths != 0 || len(w.sim.Screen(token)) != 100 || s.Odd != 0 {
		t.Errorf("%+v, %d shown", s, len(w.sim.Screen(token)))
	}
	if w.adapter.Batch() != 1 {
		t.Error("batches")
	}
}
