package fcm

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/pushtest"
)

const phone = "fcm-token:APA91bExample"

var provider = golden.Provider{
	Sim: pushtest.NewFCM, New: New, Accepts: `{"name":"x"}`, Speaks: true, Badge: true, Shared: true,
	Gone: `{"error":{"code":404,"details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"UNREGISTERED"}]}}`, GoneStatus: 404,
	Phone: pushtest.Phone{Token: phone, Package: "com.example.app"}, Many: "fcm-token-%0140d",
	Spoil:  setAccount("client_email", "other@example.com"),
	Grants: true, Life: 55*time.Minute - time.Second, Good: time.Hour - time.Second, Refusals: golden.OAuth,
}

func TestMain(m *testing.M)      { provider.Main(m) }
func TestProvider(t *testing.T)  { provider.All(t) }
func TestProvoke(t *testing.T)   { provider.Provoke(t, classes) }
func BenchmarkSend(b *testing.B) { provider.Bench(b) }

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

func TestReceived(t *testing.T) {
	t.Parallel()
	r := provider.Received(t, "received.txt", "received-token.txt", golden.Options{
		Credential: func(c *chat.PushCredential) { c.Fields["channelId"], c.Fields["showBadge"] = "chat", "1" },
	}, nil, func(r *golden.Rig) map[string]string {
		seen := r.Seen()
		form, err := url.ParseQuery(seen[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		_, project, _ := strings.Cut(seen[1].Request.URL.Path, "/projects/")
		return map[string]string{
			form.Get("assertion"): "assertion", strings.TrimSuffix(project, "/messages:send"): "project", provider.Token(seen[1]): "token",
		}
	})
	n := golden.Example(t, phone)
	if got := r.Sim.Screen(phone)[0]; got.Key != n.UID.String() || !strings.HasPrefix(got.ID, "projects/parley-") || !strings.Contains(got.ID, "/messages/0:") {
		t.Errorf("the phone shows %+v", got)
	}
	n.Body = strings.Repeat("é\"", 3000)
	golden.Want(t, "long", r.Try(n).Result, push.Accepted, "200")
	recall := golden.With(t, phone, `{}`)
	recall.Type, recall.Removes = push.Recall, chat.NewUID(golden.Now.UnixMilli()-60_000, chat.Direct, 1, 7)
	golden.Want(t, "recall", r.Try(recall).Result, push.Accepted, "200")
	if got := r.Sim.Screen(phone); got[len(got)-1].Key != recall.Removes.String() {
		t.Errorf("the phone shows %+v", got)
	}
	if s := r.Sim.Stats(); s.Protocol1 != 0 || s.Conns != 1 || s.Auths != 1 {
		t.Errorf("%+v", s)
	}
}

// TestProvoked brings about what can be.
func TestProvoked(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{Sim: pushtest.Options{Strict: true}})
	to := func(name string, a push.Adapter, token string, class push.Class, code string) {
		t.Helper()
		golden.Want(t, name, golden.Try(a, golden.Example(t, token)).Result, class, code)
	}
	a := w.Adapter
	to("stranger", a, "nobody:knows", push.TokenDead, "INVALID_ARGUMENT")
	to("no token", a, "not a token", push.TokenDead, "INVALID_ARGUMENT")
	to("none", a, "", push.PayloadBad, "token")
	w.Sim.Register(pushtest.Phone{Token: "gone"})
	w.Sim.Remove("gone")
	to("removed", a, "gone", push.TokenDead, "UNREGISTERED")
	n := golden.Example(t, phone)
	n.Expires = golden.Now
	golden.Want(t, "too late", golden.Try(a, n).Result, push.PayloadBad, "expired")
	to("a key in the older form", w.With(t, w.Roots, func(c *chat.PushCredential) {
		var acc account
		if !push.ReadJSON([]byte(c.Fields["serviceAccount"]), &acc) {
			t.Fatal("no account")
		}
		der := x509.MarshalPKCS1PrivateKey(parseKey(acc.PrivateKey))
		setAccount("private_key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der})))(c)
	}), phone, push.Accepted, "200")
	to("another project", w.With(t, w.Roots, setAccount("project_id", "other")), phone, push.ConfigHalt, "http 403")
	to("another account", w.With(t, w.Roots, setAccount("client_email", "other@example.com")), phone, push.ConfigHalt, "oauth invalid_grant")
	to("another key id", w.With(t, w.Roots, setAccount("private_key_id", "other")), phone, push.ConfigHalt, "oauth invalid_grant")
	to("another key", w.With(t, w.Roots, setAccount("private_key", pemOf(t, newKey(t)))), phone, push.ConfigHalt, "oauth invalid_grant")

	// Messages with a key are let through a few at a time, and all but so many a
	// minute.
	w.Sim.Register(pushtest.Phone{Token: "busy"})
	class := map[push.Class]int{}
	for range 30 {
		class[golden.Try(a, golden.Example(t, "busy")).Class]++
	}
	w.Sim.Register(pushtest.Phone{Token: "storm"})
	for range 250 {
		class[golden.Try(a, golden.With(t, "storm", `{}`)).Class]++
	}
	if class[push.Accepted] != 20+240 || class[push.RetryAfter] != 10+10 {
		t.Errorf("%v", class)
	}
	w.Pass(3 * time.Minute)
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

// However long an access token is good for is said, and if nothing is said, one does
// for all.
func TestToken(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	for _, said := range []string{"", `,"expires_in":"3599"`, `,"expires_in":0`, `,"expires_in":null`} {
		w.Sim.Revoke()
		w.Pass(2 * time.Hour)
		given := w.Sim.Stats().Auths
		w.Sim.Fail(pushtest.Fault{Auth: true, Status: 200, Body: `{"access_token":"any"` + said + `}`})
		w.Sim.Fail(pushtest.Fault{Status: 200, Body: `{"name":"x"}`})
		for range 3 {
			golden.Want(t, "for how long"+said, w.Try(golden.With(t, phone, `{}`)).Result, push.Accepted, "200")
		}
		w.Sim.Mend()
		if n := w.Sim.Stats().Auths - given; n != 1 {
			t.Errorf("%s: %d access tokens for three", said, n)
		}
	}

	// One that is good for nothing is exchanged at once.
	w.Pass(time.Hour)
	given := w.Sim.Stats().Auths
	w.Sim.Fail(pushtest.Fault{Auth: true, Times: 1, Status: 200, Body: `{"access_token":"void","expires_in":10}`})
	golden.Want(t, "void", w.Try(golden.Example(t, phone)).Result, push.Accepted, "200")
	if n := w.Sim.Stats().Auths - given; n != 2 {
		t.Errorf("%d access tokens", n)
	}
}

// TestHTTP1 has a relay that speaks nothing newer, in the clear on this machine.
func TestHTTP1(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{Sim: pushtest.Options{Strangers: true}})
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
	a := w.With(t, w.Roots, func(c *chat.PushCredential) { c.BaseURL = "http://" + ln.Addr().String() + "/" })
	golden.Want(t, "in the clear", golden.Try(a, w.Example(phone)).Result, push.Accepted, "200")
	if s := w.Sim.Stats(); s.Protocol1 != 2 {
		t.Errorf("%+v", s)
	}
}

// TestAway has a phone be off: Google keeps what it was sent until that expires,
// the last of each collapse key, of four keys at most.
func TestAway(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	a := w.Adapter
	tell := func(body, key string, lifetime time.Duration) {
		t.Helper()
		n := golden.With(t, phone, `{}`)
		n.Body, n.Expires, n.Ext.FCM.CollapseKey = body, w.Now().Add(lifetime), key
		golden.Want(t, body, golden.Try(a, n).Result, push.Accepted, "200")
	}
	w.Sim.Disconnect(phone)
	tell("plain", "", time.Hour)
	tell("short", "", time.Minute)
	for i := range 6 {
		tell(fmt.Sprint("key ", i), fmt.Sprint(i), time.Hour)
	}
	tell("key 4 again", "4", time.Hour)
	silent := golden.With(t, phone, `{}`)
	silent.Silent = true
	golden.Want(t, "silent", golden.Try(a, silent).Result, push.Accepted, "200")
	w.Pass(2 * time.Minute)
	w.Sim.Connect(phone)
	var got []string
	for _, n := range w.Sim.Log(phone) {
		got = append(got, n.Body)
	}
	if strings.Join(got, ", ") != "plain, key 2, key 3, key 5, key 4 again" {
		t.Errorf("%q", got)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{Sim: pushtest.Options{Strangers: true}})
	check := func(name string, change func(*chat.PushCredential), class push.Class, code string) {
		t.Helper()
		golden.Want(t, name, w.With(t, w.Roots, change).Check(context.Background()), class, code)
	}
	check("good", nil, push.Accepted, "INVALID_ARGUMENT")
	check("another project", setAccount("project_id", "other"), push.ConfigHalt, "http 403")
	check("another key", setAccount("private_key", pemOf(t, newKey(t))), push.ConfigHalt, "oauth invalid_grant")
	w.Sim.Fail(pushtest.Fault{Code: "SENDER_ID_MISMATCH"})
	check("another sender", nil, push.Accepted, "SENDER_ID_MISMATCH")
	w.Sim.Mend()
	w.Sim.Fail(pushtest.Fault{Code: "UNAVAILABLE"})
	check("unavailable", nil, push.Retry, "UNAVAILABLE")
	for _, q := range w.Seen() {
		if q.Request.URL.Path != "/token" && !strings.Contains(q.Body, `"validate_only":true`) {
			t.Errorf("asked to send %s", q.Body)
		}
	}
	if w.Sim.Stats().Taken != 0 {
		t.Error("somebody was notified")
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	for name, change := range map[string]func(*chat.PushCredential){
		"no JSON":    func(c *chat.PushCredential) { c.Fields["serviceAccount"] = "hush" },
		"no project": setAccount("project_id", ""),
		"no email":   setAccount("client_email", ""),
		"no key":     setAccount("private_key", "hush"),
	} {
		p := w.Sim.Credential(w.Credential.BaseURL)
		change(&p)
		_, err := New(&p, line.Options{}, w.Now)
		e, ok := errors.AsType[*chat.Error](err)
		if !ok || e.Field != "serviceAccount" || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := w.Sim.Credential("")
	a, err := New(&c, line.Options{}, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got := a.(*adapter); got.caller.Address != "https://fcm.googleapis.com" || got.tokens != "https://oauth2.googleapis.com/token" {
		t.Errorf("%s, %s", got.caller.Address, got.tokens)
	}
}

// TestSimulatorRefuses changes one thing of a good request after the other: a
// simulator that takes what Google does not would hide what is wrong with us.
func TestSimulatorRefuses(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{})
	var acc account
	if !push.ReadJSON([]byte(w.Sim.Credential("").Fields["serviceAccount"]), &acc) {
		t.Fatal("no account")
	}
	key := parseKey(acc.PrivateKey)
	do := func(method, path string, header map[string]string, body string) (int, string) {
		t.Helper()
		a := w.Ask(t, push.Request{Method: method, Path: path, Header: header, Body: []byte(body)})
		return a.Status, string(a.Body)
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
	for name, change := range map[string]func(*assertion){"nothing": func(*assertion) {}, "its own address": claim("aud", w.Credential.BaseURL+"/token")} {
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
