package apns

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
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

// provider is one whose credential says what it is for; bare says nothing.
var (
	provider = golden.Provider{
		Sim: pushtest.NewAPNs, New: New, HTTP2: true, Shared: true, Speaks: true, Badge: true,
		Gone: `{"reason":"Unregistered","timestamp":1}`, GoneStatus: 410,
		Phone: pushtest.Phone{Token: token, Package: "com.example.app", Environment: chat.Production}, Many: "%064x",
		Set:   func(c *chat.PushCredential) { c.Environment, c.Package = chat.Production, "com.example.app" },
		Spoil: func(c *chat.PushCredential) { c.Fields["teamId"] = "ABCDE12345" },
		Life:  renewal, Least: least,
		Otherwise: map[string]golden.Outcome{
			// Apple says nothing when all is well.
			"cut short": good, "says nothing": good, "says too much": good, "a page of 200": good,
			// The provider token is new: Apple takes no newer one yet.
			"a page of 403": {Class: push.Retry, Code: "http 403"},
		},
	}
	bare = func() golden.Provider {
		p := provider
		p.Set = nil
		return p
	}()
	good = golden.Outcome{Class: push.Accepted, Code: "200"}
)

func TestMain(m *testing.M)      { provider.Main(m) }
func TestProvider(t *testing.T)  { provider.All(t) }
func TestProvoke(t *testing.T)   { provider.Provoke(t, classes) }
func BenchmarkSend(b *testing.B) { provider.Bench(b) }

// first is the token of the phone that every world has.
func first(t testing.TB) push.Notification {
	n := golden.Example(t, token)
	n.To.Environment = chat.Production
	return n
}

func TestReceived(t *testing.T) {
	t.Parallel()
	w := bare.Received(t, "received.txt", "", golden.Options{}, nil, nil)
	if got := w.Sim.Screen(token)[0]; got.ID != "f178e2e2-5f6d-8bd3-a0c9-b918fa39a4aa" || got.Key != "123456" {
		t.Errorf("the phone shows %+v", got)
	}

	// Everything that the renderings have is taken.
	recall := golden.With(t, token, `{}`)
	recall.Type, recall.Removes, recall.ContentAvailable = push.Recall, chat.NewUID(golden.Now.UnixMilli()-60_000, chat.Direct, 1, 7), true
	good.Is(t, "recall", w.Try(recall).Result)
	for _, level := range []string{"passive", "active", "time-sensitive", "critical"} {
		good.Is(t, level, w.Try(golden.With(t, token, `{"pushConfigs":[{"APNs":{"interruption-level":"`+level+`"}}]}`)).Result)
	}
	long := first(t)
	long.Body = strings.Repeat("é\"", 3000)
	good.Is(t, "long", w.Try(long).Result)
	if w.Sim.Stats().Protocol1 != 0 {
		t.Error("HTTP/1")
	}
}

// TestProvoked brings about what can be.
func TestProvoked(t *testing.T) {
	t.Parallel()
	w := bare.Start(t, golden.Options{})
	pass := func(name string, a push.Adapter, change func(*push.Notification), class push.Class, code string) push.Result {
		t.Helper()
		n := first(t)
		if change != nil {
			change(&n)
		}
		got := golden.Try(a, n).Result
		golden.Want(t, name, got, class, code)
		return got
	}
	a := w.With(t, w.Roots, nil)
	to := func(token string) func(*push.Notification) {
		return func(n *push.Notification) { n.To.Token = token }
	}
	other := strings.Repeat("ab", 32)
	pass("stranger", a, to(other), push.TokenStrike, "BadDeviceToken")
	w.Sim.Register(pushtest.Phone{Token: other, Package: "com.example.other"})
	pass("another app's", a, to(other), push.TokenStrike, "DeviceTokenNotForTopic")
	pass("another topic", w.With(t, w.Roots, func(c *chat.PushCredential) { c.Fields["topic"] = "com.example.other" }), to(other), push.Accepted, "200")
	w.Sim.Remove(token)
	if got := pass("removed", a, nil, push.TokenDead, "Unregistered"); got.Since != golden.Now.UnixMilli() {
		t.Errorf("dead since %d", got.Since)
	}
	w.Sim.Register(pushtest.Phone{Token: token})
	// What a device says of itself is no reason to tell nobody any more.
	pass("no topic", a, func(n *push.Notification) { n.To.Package = "" }, push.PayloadBad, "package")
	pass("a topic that is none", a, func(n *push.Notification) { n.To.Package = "com/example" }, push.TokenStrike, "BadTopic")
	mend := w.Sim.Fail(pushtest.Fault{Code: "TopicDisallowed"})
	pass("another team's topic", a, nil, push.TokenStrike, "TopicDisallowed")
	for name, change := range map[string]func(*chat.PushCredential){
		"another team's package": func(c *chat.PushCredential) { c.Package = "com.example.app" },
		"the credential's topic": func(c *chat.PushCredential) { c.Fields["topic"] = "com.example.other" },
	} {
		pass(name, w.With(t, w.Roots, change), nil, push.ConfigHalt, "TopicDisallowed")
	}
	mend()
	pass("no token", a, to("x"), push.PayloadBad, "token")
	pass("too late", a, func(n *push.Notification) { n.Expires = golden.Now }, push.PayloadBad, "expired")

	pass("another team", w.With(t, w.Roots, func(c *chat.PushCredential) { c.Fields["teamId"] = "ABCDE12345" }), nil, push.ConfigHalt, "InvalidProviderToken")
	pass("another key id", w.With(t, w.Roots, func(c *chat.PushCredential) { c.Fields["keyId"] = "ABCDE12345" }), nil, push.ConfigHalt, "InvalidProviderToken")
	pass("another key", w.With(t, w.Roots, func(c *chat.PushCredential) { c.Fields["p8"] = pemOf(t, newKey(t, elliptic.P256())) }), nil, push.ConfigHalt, "InvalidProviderToken")
	w.Pass(55 * time.Second)
	fast := w.With(t, w.Roots, nil)
	w.Sim.Fail(pushtest.Fault{Reset: true, Times: 1})
	pass("a clock that is fast", fast, nil, push.Retry, "transport") // it has signed
	w.Pass(-55 * time.Second)
	pass("a clock that is fast", fast, nil, push.Accepted, "200")
	w.Pass(-5 * time.Minute)
	late := w.With(t, w.Roots, nil)
	pass("before", late, nil, push.Accepted, "200")
	w.Pass(5 * time.Minute)
	pass("after", late, nil, push.Accepted, "200")
}

func TestToken(t *testing.T) {
	t.Parallel()
	w := provider.Start(t, golden.Options{Sim: pushtest.Options{Strangers: true}})
	made := func(name string, want int) {
		t.Helper()
		tokens := map[string]bool{}
		for _, q := range w.Seen() {
			tokens[provider.Token(q)] = true
		}
		if len(tokens) != want {
			t.Errorf("%s: %d tokens, want %d", name, len(tokens), want)
		}
	}
	all := func(name string, want int) {
		t.Helper()
		w.Together(t, 100)
		made(name, want)
	}
	all("at first", 1)
	w.Pass(44 * time.Minute)
	all("still good", 1)
	w.Pass(time.Minute)
	all("renewed", 2)

	// A token that Apple takes no more is not renewed while it is young.
	w.Sim.Revoke()
	w.Pass(19 * time.Minute)
	golden.Want(t, "refused", w.Tell(token).Result, push.Retry, "ExpiredProviderToken")
	w.Pass(time.Minute)
	all("refused", 3)

	// Nor is it while others who use the key were too quick.
	mend := w.Sim.Fail(pushtest.Fault{Code: "TooManyProviderTokenUpdates"})
	w.Pass(30 * time.Minute)
	golden.Want(t, "too many", w.Tell(token).Result, push.Retry, "TooManyProviderTokenUpdates")
	mend()
	all("too many", 3)

	// A new one that is refused too is the credential's trouble.
	w.Sim.Fail(pushtest.Fault{Code: "ExpiredProviderToken"})
	golden.Want(t, "refused twice", w.Tell(token).Result, push.ConfigHalt, "ExpiredProviderToken")
	made("refused twice", 4)
}

// TestOneAtATime has the first requests fail: until one succeeds there is one at a
// time.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	const failing, senders = 20, 50
	var begun, now, failed atomic.Int64
	w := bare.Start(t, golden.Options{Sim: pushtest.Options{Strangers: true}})
	w.Sim.Fail(pushtest.Fault{Code: "InternalServerError", Times: failing})
	counted := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n := begun.Add(1)
		if now.Add(1) > 1 && n <= failing+1 {
			t.Errorf("request %d is not the only one", n)
		}
		defer now.Add(-1) // before the answer goes out
		for range 100 {
			runtime.Gosched() // for others to come, if any do
		}
		w.Sim.ServeHTTP(rw, r)
	}))
	counted.EnableHTTP2 = true
	counted.StartTLS()
	t.Cleanup(counted.Close)
	roots := x509.NewCertPool()
	roots.AddCert(counted.Certificate())
	a := w.With(t, line.Options{Roots: roots}, func(c *chat.PushCredential) { c.BaseURL = counted.URL })
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			n := first(t)
			n.To.Token = fmt.Sprintf("%064x", i+1)
			if got := golden.Try(a, n).Result; got.Class != push.Accepted {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if failed.Load() != failing || begun.Load() != senders {
		t.Errorf("%d failed, %d requests", failed.Load(), begun.Load())
	}

	// Whoever waits for the first gives up when they want.
	b := w.With(t, w.Roots, nil)
	reached := make(chan struct{})
	w.Sim.Mend()
	w.Sim.Fail(pushtest.Fault{Hang: true})
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		n := first(t)
		close(reached)
		golden.Want(t, "hanging", b.Send(ctx, []*push.Notification{&n})[0].Result, push.Retry, "timeout")
	})
	<-reached
	gone, cancel2 := context.WithCancel(ctx)
	cancel2()
	n := first(t)
	golden.Want(t, "waiting", b.Send(gone, []*push.Notification{&n})[0].Result, push.Retry, "timeout")
	cancel()
	wg.Wait()
}

// TestGoAway has the service say goodbye while many requests are under way, and
// give little room to each connection.
func TestGoAway(t *testing.T) {
	t.Parallel()
	w := bare.Start(t, golden.Options{Sim: pushtest.Options{Strangers: true, Streams: 7}})
	w.Sim.Fail(pushtest.Fault{GoAway: true, Skip: 20, Times: 1})
	w.Sim.Fail(pushtest.Fault{GoAway: true, Skip: 60, Times: 1})
	w.Together(t, 100)
	if s := w.Sim.Stats(); s.Faults != 2 || s.Taken != 300 || s.Conns > 6 { // 4 at a time, and 2 that have gone
		t.Errorf("%+v", s)
	}
}

func TestEnvironments(t *testing.T) {
	t.Parallel()
	w := bare.Start(t, golden.Options{})
	const none, production, sandbox = chat.NoEnvironment, chat.Production, chat.Sandbox
	for name, c := range map[string]struct {
		phone, device, credential chat.PushEnvironment
		class                     push.Class
		is                        chat.PushEnvironment
		requests                  int
	}{
		"as it says":               {production, production, none, push.Accepted, none, 1},
		"as it says, sandbox":      {sandbox, sandbox, none, push.Accepted, none, 1},
		"says nothing":             {production, none, none, push.Accepted, production, 1},
		"says nothing, sandbox":    {sandbox, none, none, push.Accepted, sandbox, 2},
		"says the other":           {sandbox, production, none, push.Accepted, sandbox, 2},
		"says the other, back":     {production, sandbox, none, push.Accepted, production, 2},
		"of the credential":        {sandbox, none, sandbox, push.Accepted, sandbox, 1},
		"not of the credential":    {production, none, sandbox, push.Accepted, production, 2},
		"both say so":              {production, production, production, push.Accepted, none, 1},
		"both say so and it's not": {sandbox, production, production, push.TokenStrike, none, 1},
		"neither":                  {9, none, none, push.TokenStrike, none, 2},
	} {
		w.Sim.Register(pushtest.Phone{Token: token, Environment: c.phone})
		a := w.With(t, w.Roots, func(p *chat.PushCredential) { p.Environment = c.credential })
		n := first(t)
		n.To.Environment = c.device
		before := w.Sim.Stats().Requests
		got := golden.Try(a, n).Result
		if got.Class != c.class || got.Environment != c.is || w.Sim.Stats().Requests-before != c.requests {
			t.Errorf("%s: %s %s %q after %d requests", name, got.Class, got.Code, got.Environment, w.Sim.Stats().Requests-before)
		}
	}

	// What the other environment says of a token that it knows counts; that it does
	// not answer, or not with this key, does not make the token worse or better.
	w.Sim.Register(pushtest.Phone{Token: token, Environment: sandbox})
	a := w.With(t, w.Roots, nil)
	for code, class := range map[string]push.Class{
		"Unregistered": push.TokenDead, "InternalServerError": push.Retry, "TooManyRequests": push.RetryAfter,
		"BadEnvironmentKeyIdInToken": push.TokenStrike, "ExpiredProviderToken": push.Retry,
	} {
		mend := w.Sim.Fail(pushtest.Fault{Token: "/sandbox/", Code: code})
		if got := golden.Try(a, first(t)).Result; got.Class != class || got.Environment != none {
			t.Errorf("%s: %s %+v", code, got.Class, got)
		}
		mend()
	}
}

// TestAway has a phone be off: Apple keeps the last it was sent, until that expires.
func TestAway(t *testing.T) {
	t.Parallel()
	w := bare.Start(t, golden.Options{})
	a := w.With(t, w.Roots, nil)
	tell := func(body string, lifetime time.Duration, silent bool) {
		t.Helper()
		n := golden.With(t, token, `{}`)
		n.UID = chat.NewUID(golden.Now.UnixMilli(), chat.Direct, 3, uint32(len(body)))
		n.Body, n.Expires, n.Silent = body, w.Now().Add(lifetime), silent
		golden.Want(t, body, golden.Try(a, n).Result, push.Accepted, "200")
	}
	w.Sim.Disconnect(token)
	tell("one", time.Hour, false)
	tell("three", time.Hour, false)
	tell("now or never", time.Hour, true)
	if len(w.Sim.Log(token)) != 0 {
		t.Error("it was told while it was off")
	}
	w.Sim.Connect(token)
	if log := w.Sim.Log(token); len(log) != 1 || log[0].Body != "three" {
		t.Errorf("%+v", log)
	}
	w.Sim.Disconnect(token)
	tell("too late", time.Hour, false)
	w.Pass(time.Hour)
	w.Sim.Connect(token)
	tell("in time", time.Hour, false)
	if log := w.Sim.Log(token); len(log) != 2 || log[1].Body != "in time" {
		t.Errorf("%+v", log)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w := bare.Start(t, golden.Options{Sim: pushtest.Options{Strangers: true}})
	check := func(name string, change func(*chat.PushCredential), class push.Class, code string) {
		t.Helper()
		golden.Want(t, name, w.With(t, w.Roots, change).Check(context.Background()), class, code)
	}
	check("good", func(c *chat.PushCredential) { c.Package = "com.example.app" }, push.Accepted, "BadDeviceToken")
	check("good, by topic", func(c *chat.PushCredential) { c.Fields["topic"] = "com.example.app" }, push.Accepted, "BadDeviceToken")
	check("sandbox", func(c *chat.PushCredential) { c.Package, c.Environment = "com.example.app", chat.Sandbox }, push.Accepted, "BadDeviceToken")
	check("without a topic", nil, push.Accepted, "MissingTopic")
	check("another key", func(c *chat.PushCredential) { c.Fields["keyId"] = "ABCDE12345" }, push.ConfigHalt, "InvalidProviderToken")
	w.Sim.Fail(pushtest.Fault{Code: "TopicDisallowed"})
	check("another's topic", func(c *chat.PushCredential) { c.Package = "com.example.app" }, push.ConfigHalt, "TopicDisallowed")
	if w.Sim.Stats().Taken != 0 {
		t.Error("somebody was notified")
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	w := bare.Start(t, golden.Options{})
	for name, c := range map[string]struct {
		change func(*chat.PushCredential)
		field  string
	}{
		"no key":        {func(c *chat.PushCredential) { c.Fields["p8"] = "hush" }, "p8"},
		"another curve": {func(c *chat.PushCredential) { c.Fields["p8"] = pemOf(t, newKey(t, elliptic.P384())) }, "p8"},
		"another kind": {func(c *chat.PushCredential) {
			k, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			c.Fields["p8"] = pemOf(t, k)
		}, "p8"},
		"in the clear": {func(c *chat.PushCredential) { c.BaseURL = "http://127.0.0.1:1" }, "baseUrl"},
	} {
		p := w.Sim.Credential(w.Credential.BaseURL)
		c.change(&p)
		_, err := New(&p, line.Options{}, w.Now)
		e, ok := errors.AsType[*chat.Error](err)
		if !ok || e.Field != c.field || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := w.Sim.Credential("")
	a, err := New(&c, line.Options{}, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got := a.(*adapter).addresses; got[chat.Production] != "https://api.push.apple.com" || got[chat.Sandbox] != "https://api.sandbox.push.apple.com" {
		t.Errorf("%q", got)
	}
}

func newKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pemOf(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// TestSimulatorRefuses changes one thing of a good request after the other: a
// simulator that takes what Apple does not would hide what is wrong with us.
func TestSimulatorRefuses(t *testing.T) {
	t.Parallel()
	w := bare.Start(t, golden.Options{})
	connect := func() *line.Line {
		l := line.New(line.Options{Roots: w.Server.Roots, HTTP2: true})
		t.Cleanup(l.Close)
		return l
	}
	one := connect()
	key, err := parseKey(w.Sim.Credential("").Fields["p8"])
	if err != nil {
		t.Fatal(err)
	}
	fields := w.Sim.Credential("").Fields
	mint := func(method jwt.SigningMethod, key any, kid, iss string, iat time.Time) string {
		t.Helper()
		j := jwt.NewWithClaims(method, jwt.MapClaims{"iss": iss, "iat": iat.Unix()})
		j.Header["kid"] = kid
		s, err := j.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return "bearer " + s
	}
	good := mint(jwt.SigningMethodES256, key, fields["keyId"], fields["teamId"], golden.Now)
	n := first(t)
	type request struct {
		method, path, body string
		header             map[string]string
	}
	do := func(t *testing.T, l *line.Line, change func(*request)) (int, string, http.Header) {
		t.Helper()
		r, err := Render(&n, &Options{}, golden.Now)
		if err != nil {
			t.Fatal(err)
		}
		q := request{r.Method, r.Path, string(r.Body), maps.Clone(r.Header)}
		q.header["authorization"] = good
		change(&q)
		maps.DeleteFunc(q.header, func(_, value string) bool { return value == "" })
		a, err := l.Do(context.Background(), w.Credential.BaseURL, &push.Request{Method: q.method, Path: q.path, Header: q.header, Body: []byte(q.body)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a.Status, strings.TrimSuffix(strings.TrimPrefix(string(a.Body), `{"reason":"`), `"}`), a.Header
	}
	set := func(name, value string) func(*request) {
		return func(q *request) { q.header[name] = value }
	}
	edit := func(from, to string) func(*request) {
		return func(q *request) {
			if !strings.Contains(q.body, from) {
				t.Errorf("there is no %s in %s", from, q.body)
			}
			q.body = strings.Replace(q.body, from, to, 1)
		}
	}
	silently := func(body string) func(*request) {
		return func(q *request) {
			q.header["apns-push-type"], q.header["apns-priority"], q.body = "background", "5", body
		}
	}
	es384 := newKey(t, elliptic.P384())
	for name, c := range map[string]struct {
		change func(*request)
		status int
		reason string
	}{
		"nothing":                {func(*request) {}, 200, ""},
		"get":                    {func(q *request) { q.method = "GET" }, 405, "MethodNotAllowed"},
		"path":                   {func(q *request) { q.path = "/3/devices/" + token }, 404, "BadPath"},
		"path below":             {func(q *request) { q.path += "/x" }, 404, "BadPath"},
		"no token":               {func(q *request) { q.path = "/3/device/" }, 400, "MissingDeviceToken"},
		"short token":            {func(q *request) { q.path = "/3/device/abcd" }, 400, "BadDeviceToken"},
		"odd token":              {func(q *request) { q.path += "a" }, 400, "BadDeviceToken"},
		"no hex":                 {func(q *request) { q.path = q.path[:len(q.path)-1] + "g" }, 400, "BadDeviceToken"},
		"other environment":      {func(q *request) { q.path = "/sandbox" + q.path }, 400, "BadDeviceToken"},
		"other topic":            {set("apns-topic", "com.example.other"), 400, "DeviceTokenNotForTopic"},
		"no topic":               {set("apns-topic", ""), 400, "MissingTopic"},
		"strange topic":          {set("apns-topic", "com/example"), 400, "BadTopic"},
		"no bearer":              {set("authorization", ""), 403, "MissingProviderToken"},
		"key in place of bearer": {set("authorization", "key=x"), 403, "MissingProviderToken"},
		"garbage":                {set("authorization", "bearer x.y.z"), 403, "InvalidProviderToken"},
		"altered":                {set("authorization", good[:len(good)-6]+"AAAAAA"), 403, "InvalidProviderToken"},
		"ASN.1 signature":        {set("authorization", asn1(t, key, good)), 403, "InvalidProviderToken"},
		"ES384":                  {set("authorization", mint(jwt.SigningMethodES384, es384, fields["keyId"], fields["teamId"], golden.Now)), 403, "InvalidProviderToken"},
		"HS256":                  {set("authorization", mint(jwt.SigningMethodHS256, []byte("x"), fields["keyId"], fields["teamId"], golden.Now)), 403, "InvalidProviderToken"},
		"other kid":              {set("authorization", mint(jwt.SigningMethodES256, key, "ABCDE12345", fields["teamId"], golden.Now)), 403, "InvalidProviderToken"},
		"other team":             {set("authorization", mint(jwt.SigningMethodES256, key, fields["keyId"], "ABCDE12345", golden.Now)), 403, "InvalidProviderToken"},
		"an hour old":            {set("authorization", mint(jwt.SigningMethodES256, key, fields["keyId"], fields["teamId"], golden.Now.Add(-61*time.Minute))), 403, "ExpiredProviderToken"},
		"of the future":          {set("authorization", mint(jwt.SigningMethodES256, key, fields["keyId"], fields["teamId"], golden.Now.Add(time.Minute))), 403, "InvalidProviderToken"},
		"changed too soon":       {set("authorization", mint(jwt.SigningMethodES256, key, fields["keyId"], fields["teamId"], golden.Now.Add(-19*time.Minute))), 429, "TooManyProviderTokenUpdates"},
		"changed in time":        {set("authorization", mint(jwt.SigningMethodES256, key, fields["keyId"], fields["teamId"], golden.Now.Add(-21*time.Minute))), 200, ""},
		"no push type":           {set("apns-push-type", ""), 400, "InvalidPushType"},
		"unknown push type":      {set("apns-push-type", "loud"), 400, "InvalidPushType"},
		"background that shows":  {func(q *request) { q.header["apns-push-type"], q.header["apns-priority"] = "background", "5" }, 400, "InvalidPushType"},
		"background":             {silently(`{"aps":{"content-available":1}}`), 200, ""},
		"background for nothing": {silently(`{"aps":{}}`), 400, "InvalidPushType"},
		"background in a hurry": {func(q *request) {
			silently(`{"aps":{"content-available":1}}`)(q)
			q.header["apns-priority"] = "10"
		}, 400, "BadPriority"},
		"alert of nothing":   {func(q *request) { q.body = `{"aps":{"content-available":1}}` }, 400, "InvalidPushType"},
		"voip":               {set("apns-push-type", "voip"), 400, "TopicDisallowed"},
		"priority":           {set("apns-priority", "7"), 400, "BadPriority"},
		"priority 5":         {set("apns-priority", "5"), 200, ""},
		"no priority":        {set("apns-priority", ""), 200, ""},
		"expiration":         {set("apns-expiration", "3600s"), 400, "BadExpirationDate"},
		"expiration in ms":   {set("apns-expiration", "1800000000000"), 400, "BadExpirationDate"},
		"now or never":       {set("apns-expiration", "0"), 200, ""},
		"id":                 {set("apns-id", "17"), 400, "BadMessageId"},
		"id in capitals":     {set("apns-id", "F178E2E2-5F6D-8BD3-A0C9-B918FA39A4AA"), 400, "BadMessageId"},
		"collapse id":        {set("apns-collapse-id", strings.Repeat("c", 65)), 400, "BadCollapseId"},
		"long collapse id":   {set("apns-collapse-id", strings.Repeat("c", 64)), 200, ""},
		"twice":              {func(q *request) { q.header["Apns-Priority"] = "10" }, 400, "DuplicateHeaders"},
		"no payload":         {func(q *request) { q.body = "" }, 400, "PayloadEmpty"},
		"empty payload":      {func(q *request) { q.body = "{}" }, 400, "PayloadEmpty"},
		"4096 bytes":         {func(q *request) { q.body = q.body[:len(q.body)-1] + strings.Repeat(" ", 4096-len(q.body)) + "}" }, 200, ""},
		"4097 bytes":         {func(q *request) { q.body = q.body[:len(q.body)-1] + strings.Repeat(" ", 4097-len(q.body)) + "}" }, 413, "PayloadTooLarge"},
		"no JSON":            {func(q *request) { q.body = "aps" }, 400, pushtest.BadPayload},
		"no aps":             {edit(`"aps"`, `"APS"`), 400, pushtest.BadPayload},
		"aps is a list":      {func(q *request) { q.body = `{"aps":[]}` }, 400, pushtest.BadPayload},
		"unknown in aps":     {edit(`"badge"`, `"Badge"`), 400, pushtest.BadPayload},
		"badge is a string":  {edit(`"badge":5`, `"badge":"5"`), 400, pushtest.BadPayload},
		"badge below 0":      {edit(`"badge":5`, `"badge":-1`), 400, pushtest.BadPayload},
		"level":              {edit(`"badge"`, `"interruption-level":"loud","badge"`), 400, pushtest.BadPayload},
		"a level":            {edit(`"badge"`, `"interruption-level":"time-sensitive","badge"`), 200, ""},
		"critical, no sound": {edit(`"badge"`, `"interruption-level":"critical","badge"`), 400, pushtest.BadPayload},
		"critical":           {edit(`"sound":"default"`, `"interruption-level":"critical","sound":{"critical":1,"name":"default","volume":1}`), 200, ""},
		"sound":              {edit(`"sound":"default"`, `"sound":1`), 400, pushtest.BadPayload},
		"alert":              {func(q *request) { q.body = `{"aps":{"alert":7}}` }, 400, pushtest.BadPayload},
		"alert, plain":       {func(q *request) { q.body = `{"aps":{"alert":"hello"}}` }, 200, ""},
		"title is a number":  {edit(`"title":"you have a new message."`, `"title":7`), 400, pushtest.BadPayload},
		"unknown in alert":   {edit(`"title"`, `"headline"`), 400, pushtest.BadPayload},
		"image and nobody":   {edit(`,"mutable-content":1`, ``), 400, pushtest.BadPayload},
		"content-available":  {edit(`"badge"`, `"content-available":true,"badge"`), 400, pushtest.BadPayload},
	} {
		l := one
		if strings.HasPrefix(name, "changed") {
			l = connect() // a connection of its own: the rule is about what came on it before
			if status, reason, _ := do(t, l, func(*request) {}); status != 200 {
				t.Fatalf("%s: %d %s", name, status, reason)
			}
		}
		status, reason, header := do(t, l, c.change)
		if status != c.status || reason != c.reason {
			t.Errorf("%s: %d %s, want %d %s", name, status, reason, c.status, c.reason)
		}
		if id := header.Get("Apns-Id"); len(id) != 36 || strings.Count(id, "-") != 4 || id != strings.ToLower(id) {
			t.Errorf("%s: apns-id %q", name, id)
		}
	}

	// Over HTTP/1 there is nobody.
	old := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.Server.Roots}, Protocols: new(http.Protocols)}
	old.Protocols.SetHTTP1(true)
	defer old.CloseIdleConnections()
	if res, err := (&http.Client{Transport: old}).Get(w.Credential.BaseURL); err == nil {
		res.Body.Close()
		t.Error("HTTP/1 is spoken")
	}
}

// asn1 is the token with its signature in the form that other protocols have it.
func asn1(t *testing.T, key *ecdsa.PrivateKey, bearer string) string {
	t.Helper()
	unsigned := bearer[len("bearer "):strings.LastIndexByte(bearer, '.')]
	h := jwt.SigningMethodES256.Hash.New()
	h.Write([]byte(unsigned))
	sig, err := ecdsa.SignASN1(rand.Reader, key, h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	return "bearer " + unsigned + "." + jwt.New(jwt.SigningMethodES256).EncodeSegment(sig)
}
