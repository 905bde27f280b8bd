package fcm

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/pushtest"
)

// A world is the simulator, served, and the time that it and the adapter go by.
type world struct {
	*pushtest.Sim
	server  *pushtest.Server
	address string
	clock   atomic.Int64 // ms behind golden.Now
}

func (w *world) now() time.Time {
	return golden.Now.Add(time.Duration(w.clock.Load()) * time.Millisecond)
}

func (w *world) pass(d time.Duration) { w.clock.Add(d.Milliseconds()) }

const phone = "fcm-token:APA91bExample"

func newWorld(t testing.TB, o pushtest.Options) *world {
	t.Helper()
	w := &world{}
	if o.Now == nil {
		o.Now = w.now
	}
	w.Sim = pushtest.NewFCM(o)
	var err error
	if w.server, err = pushtest.NewServer(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.server.Close)
	if w.address, err = w.server.Serve(w.Sim, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	w.Register(pushtest.Phone{Token: phone, Package: "com.example.app"})
	return w
}

// adapter is one with the simulator's credential, after these changes to it.
func (w *world) adapter(t testing.TB, change func(*chat.PushCredential), o line.Options) push.Adapter {
	t.Helper()
	c := w.Credential(w.address)
	if change != nil {
		change(&c)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if o.Roots == nil {
		o.Roots = w.server.Roots
	}
	a, err := New(&c, o, w.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// account changes one field of the service account.
func setAccount(name, value string) func(*chat.PushCredential) {
	return func(c *chat.PushCredential) {
		var v map[string]string
		if !push.ReadJSON([]byte(c.Fields["serviceAccount"]), &v) {
			panic("no account")
		}
		v[name] = value
		c.Fields["serviceAccount"] = string(push.JSON(v))
	}
}

func send(t testing.TB, a push.Adapter, n push.Notification) push.Result {
	t.Helper()
	got := a.Send(context.Background(), []*push.Notification{&n})
	if len(got) != 1 {
		t.Fatalf("%d attempts of one notification", len(got))
	}
	return got[0].Result
}

func want(t testing.TB, name string, got push.Result, class push.Class, code string) {
	t.Helper()
	if got.Class != class || got.Code != code {
		t.Errorf("%s: %s %s, want %s %s", name, got.Class, got.Code, class, code)
	}
}

func TestExample(t *testing.T) {
	t.Parallel()
	var seen []string
	w := newWorld(t, pushtest.Options{Seen: func(r *http.Request, body string) {
		hide := map[string]string{}
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			hide[token] = "token"
		}
		if form, err := url.ParseQuery(body); err == nil && form.Has("assertion") {
			hide[form.Get("assertion")] = "assertion"
		}
		if _, project, ok := strings.Cut(r.URL.Path, "/projects/"); ok {
			hide[strings.TrimSuffix(project, "/messages:send")] = "project"
		}
		seen = append(seen, r.Proto+"\n"+golden.Received(r, body, hide))
	}})
	a := w.adapter(t, func(c *chat.PushCredential) { c.Fields["channelId"], c.Fields["showBadge"] = "chat", "1" }, line.Options{})
	n := golden.Example(t, phone)
	got := send(t, a, n)
	want(t, "example", got, push.Accepted, "200")
	if !strings.HasPrefix(got.ID, "projects/parley-") || !strings.Contains(got.ID, "/messages/0:") {
		t.Errorf("%+v", got)
	}
	if len(seen) != 2 {
		t.Fatalf("%d requests", len(seen))
	}
	golden.CheckText(t, "received-token.txt", seen[0])
	golden.CheckText(t, "received.txt", seen[1])

	screen := w.Screen(phone)
	if len(screen) != 1 || screen[0].Title != n.Title || screen[0].Body != n.Body || screen[0].Data != n.Data || screen[0].Badge != 5 ||
		screen[0].Key != n.UID.String() || !screen[0].Expires.Equal(n.Expires) || screen[0].Silent {
		t.Errorf("the phone shows %+v", screen)
	}

	// What is shown stays one: a request whose answer is lost is made again.
	mend := w.Fail(pushtest.Fault{Lost: true})
	want(t, "lost", send(t, a, n), push.Retry, "transport")
	mend()
	n.Body = "the same, later"
	want(t, "again", send(t, a, n), push.Accepted, "200")
	if screen := w.Screen(phone); len(screen) != 1 || screen[0].Body != n.Body || len(w.Log(phone)) != 3 {
		t.Errorf("the phone shows %+v", screen)
	}

	silent := golden.With(t, phone, `{}`)
	silent.Silent, silent.Title, silent.Body = true, "", ""
	want(t, "silent", send(t, a, silent), push.Accepted, "200")
	recall := golden.With(t, phone, `{}`)
	recall.Type, recall.Removes = push.Recall, chat.NewUID(golden.Now.UnixMilli()-60_000, chat.Direct, 1, 7)
	want(t, "recall", send(t, a, recall), push.Accepted, "200")
	long := golden.Example(t, phone)
	long.Body = strings.Repeat("é\"", 3000)
	want(t, "long", send(t, a, long), push.Accepted, "200")
	log := w.Log(phone)
	if last := log[len(log)-2]; last.Removes != recall.Removes.String() || last.Key != last.Removes || !log[len(log)-3].Silent {
		t.Errorf("%+v", log)
	}
	if s := w.Stats(); s.Protocol1 != 0 || s.Conns != 1 || s.Auths != 1 {
		t.Errorf("%+v", s)
	}
}

// TestCodes has each of Google's codes come from the simulator.
func TestCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
	a := w.adapter(t, nil, line.Options{})
	for code, r := range classes {
		mend := w.Fail(pushtest.Fault{Code: code})
		class := r.Class
		if class == push.AuthRefresh {
			class = push.ConfigHalt // the second time
		}
		got := send(t, a, golden.Example(t, phone))
		want(t, code, got, class, code)
		if got.After != r.After || got.Unknown {
			t.Errorf("%s: %+v", code, got)
		}
		mend()
	}
	want(t, "afterwards", send(t, a, golden.Example(t, phone)), push.Accepted, "200")
}

// TestProvoked brings about what can be.
func TestProvoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{Strict: true})
	to := func(name string, a push.Adapter, token string, class push.Class, code string) {
		t.Helper()
		want(t, name, send(t, a, golden.Example(t, token)), class, code)
	}
	a := w.adapter(t, nil, line.Options{})
	to("stranger", a, "nobody:knows", push.TokenDead, "INVALID_ARGUMENT")
	to("no token", a, "not a token", push.TokenDead, "INVALID_ARGUMENT")
	to("none", a, "", push.PayloadBad, "token")
	w.Register(pushtest.Phone{Token: "gone"})
	w.Remove("gone")
	to("removed", a, "gone", push.TokenDead, "UNREGISTERED")
	n := golden.Example(t, phone)
	n.Expires = golden.Now
	want(t, "too late", send(t, a, n), push.PayloadBad, "expired")
	to("another project", w.adapter(t, setAccount("project_id", "other"), line.Options{}), phone, push.ConfigHalt, "http 403")
	to("another account", w.adapter(t, setAccount("client_email", "other@example.com"), line.Options{}), phone, push.ConfigHalt, "oauth invalid_grant")
	to("another key id", w.adapter(t, setAccount("private_key_id", "other"), line.Options{}), phone, push.ConfigHalt, "oauth invalid_grant")
	to("another key", w.adapter(t, setAccount("private_key", pemOf(t, newKey(t))), line.Options{}), phone, push.ConfigHalt, "oauth invalid_grant")

	// Messages with a key are let through a few at a time, and all but so many a
	// minute.
	w.Register(pushtest.Phone{Token: "busy"})
	class := map[push.Class]int{}
	for range 30 {
		class[send(t, a, golden.Example(t, "busy")).Class]++
	}
	w.Register(pushtest.Phone{Token: "storm"})
	for range 250 {
		class[send(t, a, golden.With(t, "storm", `{}`)).Class]++
	}
	if class[push.Accepted] != 20+240 || class[push.RetryAfter] != 10+10 {
		t.Errorf("%v", class)
	}
	w.pass(3 * time.Minute)
	to("later", a, "busy", push.Accepted, "200")
	to("no more", a, "busy", push.RetryAfter, "QUOTA_EXCEEDED")
}

func newKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pemOf(t testing.TB, key *rsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// together are so many notifications at once, each to a phone of its own.
func together(t testing.TB, a push.Adapter, n int) []push.Result {
	t.Helper()
	results := make([]push.Result, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			n := golden.Example(t, fmt.Sprint("phone-", i))
			results[i] = send(t, a, n)
		})
	}
	wg.Wait()
	return results
}

func TestToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{Strangers: true})
	a := w.adapter(t, nil, line.Options{})
	all := func(name string, made int) {
		t.Helper()
		for i, got := range together(t, a, 100) {
			want(t, fmt.Sprint(name, " ", i), got, push.Accepted, "200")
		}
		if s := w.Stats(); s.Auths != made || s.Conns != 1 {
			t.Errorf("%s: %d access tokens, want %d; %d connections", name, s.Auths, made, s.Conns)
		}
	}
	all("at first", 1)
	w.pass(54 * time.Minute)
	all("still good", 1)
	w.pass(time.Minute)
	all("renewed", 2)
	w.Revoke()
	all("revoked", 3)
	w.Fail(pushtest.Fault{Revoke: true, Skip: 30, Times: 1})
	all("revoked meanwhile", 4)
	w.Mend()

	// Who cannot be asked for one is asked again, and so is who is busy.
	down := func(name string, f pushtest.Fault, class push.Class, code string) push.Result {
		t.Helper()
		w.Revoke()
		f.Auth = true
		mend := w.Fail(f)
		defer mend()
		requests := w.Stats().Requests
		got := send(t, a, golden.Example(t, phone))
		want(t, name, got, class, code)
		if n := w.Stats().Requests - requests; n > 1 {
			t.Errorf("%s: %d requests", name, n)
		}
		return got
	}
	down("reset", pushtest.Fault{Reset: true}, push.Retry, "transport")
	down("bad gateway", pushtest.Fault{Status: 502, Body: "<html>"}, push.Retry, "oauth http 502")
	down("empty", pushtest.Fault{Status: 200}, push.Retry, "oauth unreadable")
	down("nothing in it", pushtest.Fault{Status: 200, Body: `{"access_token":""}`}, push.Retry, "oauth unreadable")
	down("what no header takes", pushtest.Fault{Status: 200, Body: `{"access_token":"a\nb"}`}, push.Retry, "oauth unreadable")
	if got := down("busy", pushtest.Fault{Status: 503, Header: map[string]string{"Retry-After": "7"}}, push.RetryAfter, "oauth http 503"); got.After != 7*time.Second {
		t.Errorf("after %s", got.After)
	}
	down("refused", pushtest.Fault{Code: "invalid_grant"}, push.ConfigHalt, "oauth invalid_grant")
	down("refused oddly", pushtest.Fault{Status: 400, Body: `{"error":{"code":400}}`}, push.ConfigHalt, "oauth http 400")
	down("unauthorized", pushtest.Fault{Code: "invalid_client"}, push.ConfigHalt, "oauth invalid_client")
	down("elsewhere", pushtest.Fault{Status: 302, Header: map[string]string{"Location": "/token"}}, push.ConfigHalt, "oauth http 302")
	want(t, "afterwards", send(t, a, golden.Example(t, phone)), push.Accepted, "200")

	// However long it is good for is said, and if nothing is said, one does for all.
	for _, said := range []string{"", `,"expires_in":"3599"`, `,"expires_in":0`, `,"expires_in":null`} {
		w.Revoke()
		w.pass(2 * time.Hour)
		given := w.Stats().Auths
		w.Fail(pushtest.Fault{Auth: true, Status: 200, Body: `{"access_token":"any"` + said + `}`})
		w.Fail(pushtest.Fault{Status: 200, Body: `{"name":"x"}`})
		for range 3 {
			want(t, "for how long"+said, send(t, a, golden.With(t, phone, `{}`)), push.Accepted, "200")
		}
		w.Mend()
		if n := w.Stats().Auths - given; n != 1 {
			t.Errorf("%s: %d access tokens for three", said, n)
		}
	}

	// One that is good for nothing is exchanged at once.
	w.pass(time.Hour)
	given := w.Stats().Auths
	w.Fail(pushtest.Fault{Auth: true, Times: 1, Status: 200, Body: `{"access_token":"void","expires_in":10}`})
	want(t, "void", send(t, a, golden.Example(t, phone)), push.Accepted, "200")
	if n := w.Stats().Auths - given; n != 2 {
		t.Errorf("%d access tokens", n)
	}
}

func TestTransport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
	a := w.adapter(t, nil, line.Options{Timeout: 5 * time.Second})
	// With a provider of its own for each: what it gave up may arrive later.
	slow := func() (*world, push.Adapter) {
		w := newWorld(t, pushtest.Options{})
		return w, w.adapter(t, nil, line.Options{Timeout: 200 * time.Millisecond})
	}
	want(t, "before", send(t, a, golden.Example(t, phone)), push.Accepted, "200")
	dead := `{"error":{"code":404,"details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"UNREGISTERED"}]}}`
	for name, c := range map[string]struct {
		fault pushtest.Fault
		class push.Class
		code  string
		after time.Duration
	}{
		"hang":              {pushtest.Fault{Hang: true}, push.Retry, "timeout", 0},
		"drip":              {pushtest.Fault{Status: 404, Drip: true, Body: dead}, push.Retry, "timeout", 0},
		"reset":             {pushtest.Fault{Reset: true}, push.Retry, "transport", 0},
		"lost":              {pushtest.Fault{Lost: true}, push.Retry, "transport", 0},
		"truncated":         {pushtest.Fault{Status: 404, Body: dead[:len(dead)-4]}, push.ConfigHalt, "http 404", 0},
		"flood":             {pushtest.Fault{Status: 404, Body: strings.Repeat(" ", line.MaxAnswer) + dead}, push.ConfigHalt, "http 404", 0},
		"a path":            {pushtest.Fault{Status: 404, Body: "<html>"}, push.ConfigHalt, "http 404", 0},
		"bad gateway":       {pushtest.Fault{Status: 502, Body: "<html>Bad gateway</html>"}, push.Retry, "http 502", 0},
		"empty 200":         {pushtest.Fault{Status: 200}, push.Retry, "unreadable", 0},
		"truncated 200":     {pushtest.Fault{Status: 200, Body: `{"name":"proj`}, push.Retry, "unreadable", 0},
		"redirect":          {pushtest.Fault{Status: 307, Header: map[string]string{"Location": w.address}}, push.ConfigHalt, "http 307", 0},
		"busy":              {pushtest.Fault{Status: 503, Header: map[string]string{"Retry-After": "7"}, Body: "<html>"}, push.RetryAfter, "http 503", 7 * time.Second},
		"busy until":        {pushtest.Fault{Status: 503, Header: map[string]string{"Retry-After": "Fri, 15 Jan 2027 08:00:30 GMT", "Date": "Fri, 15 Jan 2027 08:00:00 GMT"}}, push.RetryAfter, "http 503", 30 * time.Second},
		"too many, by html": {pushtest.Fault{Status: 429, Body: "<html>"}, push.RetryAfter, "http 429", 0},
		"a wall":            {pushtest.Fault{Status: 403, Body: "<html>"}, push.ConfigHalt, "http 403", 0},
	} {
		w, a := w, a
		if c.code == "timeout" {
			w, a = slow()
		}
		requests := w.Stats().Requests
		mend := w.Fail(c.fault)
		got, sent := send(t, a, golden.Example(t, phone)), 1
		for ; c.code == "timeout" && w.Stats().Requests == requests && sent < 100; sent++ {
			got = send(t, a, golden.Example(t, phone)) // its time was over on the way
		}
		mend()
		want(t, name, got, c.class, c.code)
		if got.After != c.after {
			t.Errorf("%s: after %s", name, got.After)
		}
		least, most := 1, sent
		if name == "a wall" {
			least, most = 2, 2 // with another access token
		}
		if n := w.Stats().Requests - requests; n < least || n > most {
			t.Errorf("%s: %d requests, sent %d", name, n, sent)
		}
	}
	want(t, "afterwards", send(t, a, golden.Example(t, phone)), push.Accepted, "200")
	untrusted := w.adapter(t, nil, line.Options{Roots: x509.NewCertPool()})
	want(t, "somebody else", send(t, untrusted, golden.Example(t, phone)), push.Retry, "certificate")
}

// TestHTTP1 has a relay that speaks nothing newer, in the clear on this machine.
func TestHTTP1(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{Strangers: true})
	relay := &http.Server{Handler: w.Sim}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = relay.Serve(ln) })
	t.Cleanup(func() {
		relay.Close()
		wg.Wait()
	})
	a := w.adapter(t, func(c *chat.PushCredential) { c.BaseURL = "http://" + ln.Addr().String() + "/" }, line.Options{})
	for i, got := range together(t, a, 100) {
		want(t, fmt.Sprint(i), got, push.Accepted, "200")
	}
	if s := w.Stats(); s.Protocol1 != 101 {
		t.Errorf("%+v", s)
	}
}

// TestAway has a phone be off: Google keeps what it was sent until that expires,
// the last of each collapse key, of four keys at most.
func TestAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
	a := w.adapter(t, nil, line.Options{})
	tell := func(body, key string, lifetime time.Duration) {
		t.Helper()
		n := golden.With(t, phone, `{}`)
		n.Body, n.Expires, n.Ext.FCM.CollapseKey = body, w.now().Add(lifetime), key
		want(t, body, send(t, a, n), push.Accepted, "200")
	}
	w.Disconnect(phone)
	tell("plain", "", time.Hour)
	tell("short", "", time.Minute)
	for i := range 6 {
		tell(fmt.Sprint("key ", i), fmt.Sprint(i), time.Hour)
	}
	tell("key 4 again", "4", time.Hour)
	silent := golden.With(t, phone, `{}`)
	silent.Silent = true
	want(t, "silent", send(t, a, silent), push.Accepted, "200")
	w.pass(2 * time.Minute)
	w.Connect(phone)
	var got []string
	for _, n := range w.Log(phone) {
		got = append(got, n.Body)
	}
	if strings.Join(got, ", ") != "plain, key 2, key 3, key 5, key 4 again" {
		t.Errorf("%q", got)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{Strangers: true, Seen: func(r *http.Request, body string) {
		if r.URL.Path != "/token" && !strings.Contains(body, `"validate_only":true`) {
			t.Errorf("asked to send %s", body)
		}
	}})
	check := func(name string, change func(*chat.PushCredential), class push.Class, code string) {
		t.Helper()
		want(t, name, w.adapter(t, change, line.Options{}).Check(context.Background()), class, code)
	}
	check("good", nil, push.Accepted, "INVALID_ARGUMENT")
	check("another project", setAccount("project_id", "other"), push.ConfigHalt, "http 403")
	check("another key", setAccount("private_key", pemOf(t, newKey(t))), push.ConfigHalt, "oauth invalid_grant")
	w.Fail(pushtest.Fault{Code: "SENDER_ID_MISMATCH"})
	check("another sender", nil, push.Accepted, "SENDER_ID_MISMATCH")
	w.Mend()
	w.Fail(pushtest.Fault{Code: "UNAVAILABLE"})
	check("unavailable", nil, push.Retry, "UNAVAILABLE")
	if w.Stats().Taken != 0 {
		t.Error("somebody was notified")
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
	for name, change := range map[string]func(*chat.PushCredential){
		"no JSON":    func(c *chat.PushCredential) { c.Fields["serviceAccount"] = "hush" },
		"no project": setAccount("project_id", ""),
		"no email":   setAccount("client_email", ""),
		"no key":     setAccount("private_key", "hush"),
	} {
		p := w.Credential(w.address)
		change(&p)
		_, err := New(&p, line.Options{}, w.now)
		e, ok := errors.AsType[*chat.Error](err)
		if !ok || e.Field != "serviceAccount" || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := w.Credential("")
	a, err := New(&c, line.Options{}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got := a.(*adapter); got.caller.Address != "https://fcm.googleapis.com" || got.tokens != "https://oauth2.googleapis.com/token" {
		t.Errorf("%s, %s", got.caller.Address, got.tokens)
	}
	if a.Batch() != 1 {
		t.Error("Google takes one at a time")
	}
}

// TestSimulatorRefuses changes one thing of a good request after the other: a
// simulator that takes what Google does not would hide what is wrong with us.
func TestSimulatorRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pushtest.Options{})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.server.Roots}}}
	t.Cleanup(client.CloseIdleConnections)
	var acc account
	if !push.ReadJSON([]byte(w.Credential("").Fields["serviceAccount"]), &acc) {
		t.Fatal("no account")
	}
	key := parseKey(acc.PrivateKey)
	do := func(method, path string, header map[string]string, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, w.address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range header {
			req.Header.Set(k, v)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}

	// Access tokens.
	type assertion struct {
		method jwt.SigningMethod
		key    any
		kid    string
		claims jwt.MapClaims
		form   url.Values
		media  string
	}
	give := func(change func(*assertion)) (int, string) {
		t.Helper()
		a := assertion{
			jwt.SigningMethodRS256, key, acc.PrivateKeyID, jwt.MapClaims{
				"iss": acc.ClientEmail, "scope": scope, "aud": tokens, "iat": golden.Now.Unix(), "exp": golden.Now.Add(time.Hour).Unix(),
			}, url.Values{"grant_type": {grant}}, "application/x-www-form-urlencoded",
		}
		change(&a)
		j := jwt.NewWithClaims(a.method, a.claims)
		j.Header["kid"] = a.kid
		s, err := j.SignedString(a.key)
		if err != nil {
			t.Fatal(err)
		}
		a.form.Set("assertion", s)
		return do("POST", "/token", map[string]string{"Content-Type": a.media}, a.form.Encode())
	}
	claim := func(name string, value any) func(*assertion) {
		return func(a *assertion) { a.claims[name] = value }
	}
	other := newKey(t)
	for name, c := range map[string]struct {
		change func(*assertion)
		word   string
	}{
		"grant":        {func(a *assertion) { a.form.Set("grant_type", "client_credentials") }, "unsupported_grant_type"},
		"JSON":         {func(a *assertion) { a.media = "application/json" }, "invalid_request"},
		"key":          {func(a *assertion) { a.key = other }, "invalid_grant"},
		"kid":          {func(a *assertion) { a.kid = "other" }, "invalid_grant"},
		"PS256":        {func(a *assertion) { a.method = jwt.SigningMethodPS256 }, "invalid_grant"},
		"HS256":        {func(a *assertion) { a.method, a.key = jwt.SigningMethodHS256, []byte("x") }, "invalid_grant"},
		"issuer":       {claim("iss", "other@example.com"), "invalid_grant"},
		"audience":     {claim("aud", "https://example.com/token"), "invalid_grant"},
		"scope":        {claim("scope", "openid"), "invalid_scope"},
		"longer":       {claim("exp", golden.Now.Add(time.Hour+time.Second).Unix()), "invalid_grant"},
		"over":         {claim("exp", golden.Now.Unix()), "invalid_grant"},
		"future":       {claim("iat", golden.Now.Add(2*time.Minute).Unix()), "invalid_grant"},
		"no beginning": {func(a *assertion) { delete(a.claims, "iat") }, "invalid_grant"},
		"no end":       {func(a *assertion) { delete(a.claims, "exp") }, "invalid_grant"},
	} {
		status, body := give(c.change)
		if status != 400 || !strings.Contains(body, `"error":"`+c.word+`"`) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	for name, change := range map[string]func(*assertion){"nothing": func(*assertion) {}, "its own address": claim("aud", w.address+"/token")} {
		if status, body := give(change); status != 200 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	var pass struct {
		Token   string `json:"access_token"`
		Expires int    `json:"expires_in"`
		Type    string `json:"token_type"`
	}
	if _, body := give(func(*assertion) {}); !push.ReadJSON([]byte(body), &pass) || pass.Token == "" || pass.Expires != 3599 || pass.Type != "Bearer" {
		t.Fatalf("%+v", pass)
	}

	// Messages.
	n := golden.Example(t, phone)
	o := Options{ProjectID: acc.ProjectID, ShowsBadge: true}
	type request struct {
		method, path, body string
		header             map[string]string
	}
	edit := func(from, to string) func(*request) {
		return func(q *request) {
			if !strings.Contains(q.body, from) {
				t.Errorf("there is no %s in %s", from, q.body)
			}
			q.body = strings.Replace(q.body, from, to, 1)
		}
	}
	// fill makes the body so large, the token not counted.
	fill := func(size int) func(*request) {
		return func(q *request) {
			edit(`"appData":"`, `"appData":"`+strings.Repeat("x", size+len(phone)-len(q.body)))(q)
		}
	}
	for name, c := range map[string]struct {
		change func(*request)
		status int
		word   string
		code   string
		field  string
	}{
		"nothing":             {func(*request) {}, 200, "", "", ""},
		"no access token":     {func(q *request) { delete(q.header, "Authorization") }, 401, "UNAUTHENTICATED", "", ""},
		"another":             {func(q *request) { q.header["Authorization"] += "x" }, 401, "UNAUTHENTICATED", "", ""},
		"key":                 {func(q *request) { q.header["Authorization"] = "key=" + pass.Token }, 401, "UNAUTHENTICATED", "", ""},
		"another project":     {func(q *request) { q.path = "/v1/projects/other/messages:send" }, 403, "PERMISSION_DENIED", "", ""},
		"another path":        {func(q *request) { q.path = "/fcm/send" }, 404, "", "", ""},
		"another method":      {func(q *request) { q.method = "PUT" }, 404, "", "", ""},
		"a form":              {func(q *request) { q.header["Content-Type"] = "text/plain" }, 400, "INVALID_ARGUMENT", "", ""},
		"no JSON":             {func(q *request) { q.body = "{" }, 400, "INVALID_ARGUMENT", "", ""},
		"unknown":             {edit(`"ttl"`, `"time_to_live":5,"ttl"`), 400, "INVALID_ARGUMENT", "", "message.android"},
		"camel case":          {edit(`"channel_id"`, `"channelId"`), 400, "INVALID_ARGUMENT", "", "message.android.notification"},
		"unknown outside":     {edit(`{"message"`, `{"dry_run":true,"message"`), 400, "INVALID_ARGUMENT", "", ""},
		"data is no text":     {edit(`"data":{`, `"data":{"n":5,`), 400, "INVALID_ARGUMENT", "", "message.data.n"},
		"reserved":            {edit(`"data":{`, `"data":{"from":"x",`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.data[from]"},
		"reserved, google":    {edit(`"data":{`, `"data":{"google.x":"x",`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.data[google.x]"},
		"reserved, gcm":       {edit(`"data":{`, `"data":{"gcm.x":"x",`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.data[gcm.x]"},
		"ttl is a number":     {edit(`"ttl":"129590s"`, `"ttl":129590`), 400, "INVALID_ARGUMENT", "", "message.android.ttl"},
		"ttl has no unit":     {edit(`"ttl":"129590s"`, `"ttl":"129590"`), 400, "INVALID_ARGUMENT", "", "message.android.ttl"},
		"ttl in hours":        {edit(`"ttl":"129590s"`, `"ttl":"36h"`), 400, "INVALID_ARGUMENT", "", "message.android.ttl"},
		"ttl in parts":        {edit(`"ttl":"129590s"`, `"ttl":"3.500000000s"`), 200, "", "", ""},
		"ttl too long":        {edit(`"ttl":"129590s"`, `"ttl":"2419201s"`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.android.ttl"},
		"longest ttl":         {edit(`"ttl":"129590s"`, `"ttl":"2419200s"`), 200, "", "", ""},
		"priority":            {edit(`"priority":"HIGH"`, `"priority":"high"`), 400, "INVALID_ARGUMENT", "", "message.android.priority"},
		"image":               {edit(`"image":"https:`, `"image":"http:`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.android.notification.image"},
		"count is a text":     {edit(`"notification_count":5`, `"notification_count":"5"`), 400, "INVALID_ARGUMENT", "", "message.android.notification.notification_count"},
		"count below 0":       {edit(`"notification_count":5`, `"notification_count":-5`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.android.notification.notification_count"},
		"title is a number":   {edit(`"title":"you have a new message."`, `"title":5`), 400, "INVALID_ARGUMENT", "", "message.notification.title"},
		"no target":           {edit(`"token":"`+phone+`"`, `"token":""`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message"},
		"two targets":         {edit(`"token"`, `"topic":"x","token"`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message"},
		"no token of a phone": {edit(phone, "a b"), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", ""},
		"a stranger":          {edit(phone, "stranger"), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", ""},
		"another package":     {edit(`"ttl"`, `"restricted_package_name":"com.example.other","ttl"`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.android.restricted_package_name"},
		"4096 bytes":          {fill(4096), 200, "", "", ""},
		"4097 bytes":          {fill(4097), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message"},
	} {
		r, err := Render(&n, &o, golden.Now)
		if err != nil {
			t.Fatal(err)
		}
		q := request{r.Method, r.Path, string(r.Body), maps.Clone(r.Header)}
		q.header["Authorization"] = "Bearer " + pass.Token
		c.change(&q)
		status, body := do(q.method, q.path, q.header, q.body)
		var v answer
		if status != 404 && !push.ReadJSON([]byte(body), &v) {
			t.Errorf("%s: %s", name, body)
		}
		code, field := "", ""
		for _, d := range v.Error.Details {
			if strings.HasSuffix(string(d.Type), "FcmError") {
				code = string(d.ErrorCode)
			}
			for _, f := range d.Violations {
				field = string(f.Field)
			}
		}
		if status != c.status || string(v.Error.Status) != c.word || code != c.code || field != c.field {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}
