package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
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

var provider = golden.Provider{
	Sim: pushtest.NewWEB,
	New: func(c *chat.PushCredential, o line.Options, now func() time.Time) (push.Adapter, error) {
		return New(c, o, now)
	},
	Spoil: func(c *chat.PushCredential) {
		c.Fields["publicKey"], c.Fields["privateKey"], _ = chat.NewWebKeys()
	},
	// Push services answer by status, whatever the body says, and what follows from where
	// a browser wants to be called is a strike against its registration alone.
	Otherwise: map[string]golden.Outcome{
		"cut short": {Class: push.Accepted, Code: "200"}, "says nothing": {Class: push.Accepted, Code: "200"},
		"says too much": {Class: push.Accepted, Code: "200"}, "a page of 200": {Class: push.Accepted, Code: "200"},
		"a page of 404": {Class: push.TokenDead, Code: "404"}, "a page of 403": {Class: push.TokenStrike, Code: "403"},
		"a page of 400":  {Class: push.PayloadBad, Code: "400"},
		"sent elsewhere": {Class: push.TokenStrike, Code: "http 301"}, "sent on": {Class: push.TokenStrike, Code: "http 307"},
		"wait": {Class: push.RetryAfter, Code: "429"}, "wait so long": {Class: push.RetryAfter, Code: "429", After: 3 * time.Second},
	},
}

// tell sends the example to the browser with the token.
func tell(r *golden.Rig, t *testing.T, token string, ext string) push.Attempt {
	t.Helper()
	n := golden.With(t, token, ext)
	n.Expires = r.Now().Add(time.Hour)
	return r.Send(t.Context(), []*push.Notification{&n})[0]
}

// What is sent, as the push service has it, is what Render says, encrypted; and the
// browser shows it.
func TestSend(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	n := golden.Example(t, token)
	n.Ext = golden.With(t, token, set(everySetting)).Ext
	a := r.Send(t.Context(), []*push.Notification{&n})[0]
	if a.Class != push.Accepted || a.Code != "201" || a.ID != "1" || a.Cut != 0 {
		t.Fatalf("%s %+v", a.Class, a)
	}
	seen := r.Seen()[0]
	golden.CheckText(t, "received.txt", golden.Received(seen.Request, fmt.Sprintf("<%d bytes>", len(seen.Body)), map[string]string{
		seen.Request.Header.Get("Authorization"): "authorization",
	}))
	screen := r.Sim.Screen(golden.Token)
	if len(screen) != 1 {
		t.Fatalf("%+v", screen)
	}
	want, err := Render(&n, &Options{}, golden.Now)
	if err != nil {
		t.Fatal(err)
	}
	s := screen[0]
	if s.Payload != string(want.Body) || s.Title != n.Title || s.Body != n.Body || s.Key != "alice" || s.Data != n.Data || s.Badge != 5 ||
		s.Collapse != want.Header["Topic"] || !strings.Contains(s.Card, `"tId":"alice"`) || !s.Expires.Equal(n.Expires.Truncate(time.Second)) {
		t.Errorf("%+v\nwant %s", s, want.Body)
	}
	// Nothing is told twice in the same way: each attempt has a key and a salt of its own.
	r.Send(t.Context(), []*push.Notification{&n})
	if again := r.Seen()[1]; again.Body[:21+65] == seen.Body[:21+65] || again.Body[:16] == seen.Body[:16] {
		t.Error("a salt or a key was used twice")
	}
	if got := r.Sim.Screen(golden.Token); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	if p, ok := r.Adapter.(push.PassHolder); !ok {
		t.Error("no pass")
	} else if age, has := p.PassAge(); !has || age != 0 {
		t.Errorf("%s %v", age, has)
	}
}

// The endpoint is as good as a password, so nobody sees all of it.
func TestPreview(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	n := golden.Example(t, token)
	got, err := r.Adapter.(push.Renderer).Render(&n)
	if err != nil || got.Path != "https://fcm.googleapis.com/…-phone" || !strings.HasPrefix(string(got.Body), "{") {
		t.Errorf("%+v, %v", got, err)
	}
	n.To.Token = "x"
	if _, err := r.Adapter.(push.Renderer).Render(&n); err != push.ErrToken {
		t.Errorf("%v", err)
	}
}

// Everybody has the same pass at one push service, for as long as it is good, and
// another one at another.
func TestPass(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	passes := func() map[string]bool {
		all := map[string]bool{}
		for _, q := range r.Seen() {
			all[q.Request.Header.Get("Authorization")] = true
		}
		return all
	}
	all := func() {
		var wg sync.WaitGroup
		for i := range 100 {
			name := fmt.Sprint("browser-", i)
			r.Sim.Register(pushtest.Phone{Token: name})
			wg.Go(func() {
				if a := r.Tell(name); a.Class != push.Accepted {
					t.Errorf("%s %+v", a.Class, a)
				}
			})
		}
		wg.Wait()
	}
	all()
	if n := len(passes()); n != 1 {
		t.Errorf("%d passes", n)
	}
	r.Pass(passLifetime - passEarly - time.Second)
	all()
	if n := len(passes()); n != 1 {
		t.Errorf("%d passes", n)
	}
	r.Pass(time.Second)
	all()
	if n := len(passes()); n != 2 {
		t.Errorf("%d passes", n)
	}
	s, _, err := chat.ParseWebSubscription(pushtest.MozillaSubscription(golden.Token))
	if err != nil {
		t.Fatal(err)
	}
	if a := tell(r, t, s.Token(), `{}`); a.Class != push.Accepted {
		t.Errorf("%s %+v", a.Class, a)
	}
	if n := len(passes()); n != 3 {
		t.Errorf("%d passes", n)
	}
	// They are bounded, whatever browsers make up.
	a := r.Adapter.(*adapter)
	for i := range 3 * maxOrigins {
		if _, err := a.pass(t.Context(), fmt.Sprintf("https://%d.notify.windows.com", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(a.passes); n > maxOrigins {
		t.Errorf("%d passes are kept", n)
	}
}

// What is the same for all providers. Who is let in is told otherwise here, as it is
// for a credential and a browser together.
func TestProvider(t *testing.T) {
	t.Parallel()
	t.Run("faults", provider.Faults)
	t.Run("shown", provider.Shown)
	t.Run("connections", provider.Connections)
	t.Run("unsent", provider.Unsent)
}

// Every row of the table.
func TestCodes(t *testing.T) {
	t.Parallel()
	t.Run("provoked", func(t *testing.T) { provider.Provoke(t, classes) })
	t.Run("subscriptions", func(t *testing.T) {
		t.Parallel()
		r := provider.Start(t, golden.Options{})
		r.Sim.Remove("gone")
		r.Sim.Register(pushtest.Phone{Token: "off", Off: true})
		for name, want := range map[string]string{"gone": "410", "off": "410", "stranger": "404"} {
			if a := r.Tell(name); a.Class != push.TokenDead || a.Code != want {
				t.Errorf("%s: %s %+v", name, a.Class, a)
			}
		}
	})
	t.Run("another key", func(t *testing.T) {
		t.Parallel()
		r := provider.Start(t, golden.Options{Credential: provider.Spoil})
		// It may be the page that has subscribed with another one, so it is no reason to
		// stop the lane; asked about the credential, it is the answer.
		if a := r.Tell(golden.Token); a.Class != push.TokenStrike || a.Code != "403" || !a.Alert {
			t.Errorf("%s %+v", a.Class, a)
		}
		if a := r.Check(t.Context()); a.Class != push.ConfigHalt || a.Code != "403" {
			t.Errorf("%s %+v", a.Class, a)
		}
		if s := r.Sim.Stats(); s.Taken != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("checked", func(t *testing.T) {
		t.Parallel()
		for _, strangers := range []bool{false, true} {
			r := provider.Start(t, golden.Options{Sim: pushtest.Options{Strangers: strangers}})
			if a := r.Check(t.Context()); a.Class != push.Accepted {
				t.Errorf("%s %+v", a.Class, a)
			}
			if s := r.Sim.Stats(); s.Taken != 0 {
				t.Errorf("somebody was notified")
			}
			r.Sim.Fail(pushtest.Fault{Reset: true})
			if a := r.Check(t.Context()); a.Class != push.Retry {
				t.Errorf("%s %+v", a.Class, a)
			}
		}
	})
}

// Browsers say themselves where they want to be called: only push services are.
func TestHosts(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	own, err := New(&r.Credential, r.Roots, r.Now, "*.push.example.com")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	keys := token[:strings.LastIndexByte(token, ',')+1]
	for _, endpoint := range []string{
		"https://127.0.0.1/fcm/send/token-of-the-phone", "https://localhost/fcm/send/token-of-the-phone", "https://fcm.googleapis.com.example.com/fcm/send/token-of-the-phone",
		"https://evil.com/fcm/send/token-of-the-phone", "https://a.push.example.com/fcm/send/token-of-the-phone", "https://fcm.googleapis.com:8443/fcm/send/token-of-the-phone",
	} {
		if a := tell(r, t, keys+endpoint, `{}`); a.Class != push.PayloadBad || a.Code != "token" {
			t.Errorf("%s: %s %+v", endpoint, a.Class, a)
		}
	}
	if n := len(r.Seen()); n != 0 {
		t.Fatalf("%d requests", n)
	}
	n := golden.Example(t, keys+"https://a.push.example.com/fcm/send/token-of-the-phone")
	if a := own.Send(t.Context(), []*push.Notification{&n})[0]; a.Code == "token" || len(r.Seen()) != 1 {
		t.Errorf("%s %+v", a.Class, a)
	}
	// A host that is not there is the trouble of that browser alone.
	alone, err := New(&chat.PushCredential{Provider: chat.WEB, Fields: r.Credential.Fields}, line.Options{}, r.Now, "nowhere.invalid")
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	n = golden.Example(t, keys+"https://nowhere.invalid/x")
	switch a := alone.Send(t.Context(), []*push.Notification{&n})[0]; {
	case a.Class == push.RetryAfter && a.Device && a.Code == "host" && a.After == time.Minute:
	case a.Class == push.Retry: // names are not resolved here at all, or somebody else does it
		t.Log("no word on a host that is not there: ", a.Code)
	default:
		t.Errorf("%s %+v", a.Class, a)
	}
}

// While a browser is away the push service keeps what has not expired, of one topic
// the newest.
func TestAway(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	r.Sim.Disconnect(golden.Token)
	for i := range 3 {
		n := golden.With(t, token, set(`"tag":"t"`))
		n.Body, n.Expires = fmt.Sprint(i), r.Now().Add(time.Hour)
		if a := r.Send(t.Context(), []*push.Notification{&n})[0]; a.Class != push.Accepted {
			t.Fatalf("%+v", a)
		}
	}
	n := golden.With(t, token, `{}`)
	n.Expires = r.Now().Add(time.Minute)
	r.Send(t.Context(), []*push.Notification{&n})
	r.Pass(30 * time.Minute)
	r.Sim.Connect(golden.Token)
	if got := r.Sim.Log(golden.Token); len(got) != 1 || got[0].Body != "2" {
		t.Errorf("%+v", got)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	good := pushtest.NewWEB(pushtest.Options{}).Credential("https://127.0.0.1:1")
	for field, value := range map[string]string{"publicKey": "x", "privateKey": "secret", "subject": "me", "icon": "http://example.com", "link": "javascript:alert(1)"} {
		c := good
		c.Fields = map[string]string{}
		for k, v := range good.Fields {
			c.Fields[k] = v
		}
		c.Fields[field] = value
		_, err := New(&c, line.Options{}, time.Now)
		if e, ok := err.(*chat.Error); !ok || e.Field != field || strings.Contains(e.Error(), "secret") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// The simulator itself refuses what push services refuse.
func TestSimulator(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	n := golden.With(t, token, set(`"tag":"t","urgency":"low"`))
	n.Expires = r.Now().Add(time.Hour)
	again := r.Good(&n)
	if a := again(t, golden.Bad{}); a.Status != http.StatusCreated || a.Header.Get("Location") == "" {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	auth := r.Seen()[0].Request.Header.Get("Authorization")
	pass, key, _ := strings.Cut(strings.TrimPrefix(auth, "vapid t="), ", k=")
	signed := func(change func(jwt.MapClaims)) string {
		a := r.Adapter.(*adapter)
		claims := jwt.MapClaims{"aud": "https://fcm.googleapis.com", "exp": r.Now().Add(time.Hour).Unix(), "sub": "mailto:a@example.com"}
		change(claims)
		value, err := jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(a.key)
		if err != nil {
			t.Fatal(err)
		}
		return "vapid t=" + value + ", k=" + key
	}
	with := func(name, value string) golden.Bad { return golden.Bad{Header: map[string]string{name: value}} }
	if a := again(t, with("Authorization", signed(func(jwt.MapClaims) {}))); a.Status != http.StatusCreated {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	before := r.Sim.Stats().Taken
	other, _, _ := chat.NewWebKeys()
	for name, c := range map[string]struct {
		golden.Bad
		want int
	}{
		"no TTL":             {with("TTL", ""), 400},
		"TTL with a unit":    {with("TTL", "3600s"), 400},
		"negative TTL":       {with("TTL", "-1"), 400},
		"long topic":         {with("Topic", strings.Repeat("t", 33)), 400},
		"topic of no base64": {with("Topic", "a+b"), 400},
		"urgency":            {with("Urgency", "urgent"), 400},
		"no encoding":        {with("Content-Encoding", ""), 400},
		"encoding of old":    {with("Content-Encoding", "aesgcm"), 400},
		"nobody":             {with("Authorization", ""), 401},
		"bearer":             {with("Authorization", "Bearer "+pass), 401},
		"no key":             {with("Authorization", "vapid t="+pass), 401},
		"no pass":            {with("Authorization", "vapid k="+key), 401},
		"key of somebody":    {with("Authorization", "vapid t="+pass+", k="+other), 401},
		"key of nobody":      {with("Authorization", "vapid t="+pass+", k="+base64.RawURLEncoding.EncodeToString(make([]byte, 65))), 401},
		"for somebody else":  {with("Authorization", signed(func(m jwt.MapClaims) { m["aud"] = "https://updates.push.services.mozilla.com" })), 403},
		"for an address":     {with("Authorization", signed(func(m jwt.MapClaims) { m["aud"] = "https://fcm.googleapis.com/fcm/send/x" })), 403},
		"for nobody":         {with("Authorization", signed(func(m jwt.MapClaims) { delete(m, "aud") })), 403},
		"over":               {with("Authorization", signed(func(m jwt.MapClaims) { m["exp"] = r.Now().Add(-time.Minute).Unix() })), 403},
		"for ever":           {with("Authorization", signed(func(m jwt.MapClaims) { delete(m, "exp") })), 401},
		"for too long":       {with("Authorization", signed(func(m jwt.MapClaims) { m["exp"] = r.Now().Add(24*time.Hour + time.Minute).Unix() })), 403},
		"of nobody":          {with("Authorization", signed(func(m jwt.MapClaims) { delete(m, "sub") })), 403},
		"no browser":         {golden.Bad{Path: "/fcm/send/nobody"}, 404},
		"nowhere":            {golden.Bad{Path: "/"}, 404},
		"another service's":  {golden.Bad{Path: "/wpush/v2/token-of-the-phone"}, 403},
		"asked for":          {golden.Bad{Method: "GET"}, 405},
	} {
		t.Run(name, func(t *testing.T) {
			if a := again(t, c.Bad); a.Status != c.want {
				t.Errorf("%d %s, want %d", a.Status, a.Body, c.want)
			}
		})
	}
	body := r.Seen()[0].Body
	bodies := map[string]struct {
		body string
		want int
	}{
		"nothing": {"", 400}, "too much": {body + strings.Repeat("x", 4097-len(body)), 413},
		// It cannot read these, as the real one cannot. Nothing shows.
		"spoilt": {body[:len(body)-1] + "x", 201}, "cut short": {body[:40], 201}, "no header": {"x", 201}, "for somebody else": {"", 201},
	}
	l := line.New(r.Roots)
	defer l.Close()
	shown := len(r.Sim.Log(golden.Token))
	for name, c := range bodies {
		path, b := "/fcm/send/token-of-the-phone", c.body
		if name == "for somebody else" {
			path, b = "/fcm/send/other", body
			r.Sim.Register(pushtest.Phone{Token: "other"})
		}
		q := push.Request{Method: "POST", Path: path, Body: []byte(b), Header: map[string]string{
			"TTL": "60", "Content-Encoding": "aes128gcm", "Authorization": signed(func(jwt.MapClaims) {}),
		}}
		a, err := l.Do(context.Background(), r.Credential.BaseURL, &q, nil)
		if err != nil || a.Status != c.want {
			t.Errorf("%s: %+v, %v, want %d", name, a, err, c.want)
		}
	}
	if s := r.Sim.Stats(); s.Taken != before || s.Odd != 4 || len(r.Sim.Log(golden.Token)) != shown || len(r.Sim.Log("other")) != 0 {
		t.Errorf("%+v", s)
	}
}

// What a browser gives is what the server takes, and the same browser's each time.
func TestSubscription(t *testing.T) {
	t.Parallel()
	var v struct {
		Endpoint string `json:"endpoint"`
		Keys     map[string]string
	}
	if err := json.Unmarshal([]byte(pushtest.Subscription("ann")), &v); err != nil || v.Endpoint != "https://fcm.googleapis.com/fcm/send/ann" || len(v.Keys) != 2 {
		t.Errorf("%+v, %v", v, err)
	}
	if again := pushtest.Subscription("ann"); !strings.Contains(again, v.Keys["p256dh"]) || pushtest.Registered(chat.WEB, "ann") == pushtest.Registered(chat.WEB, "bob") {
		t.Error("keys change, or do not")
	}
	if got := chat.ShortToken(pushtest.Registered(chat.WEB, "ann-browser")); got != "…rowser" {
		t.Error(got)
	}
}
