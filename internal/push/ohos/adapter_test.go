package ohos

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	Sim: pushtest.NewOHOS, New: New, Accepts: `{"code":"80000000"}`, Life: 55 * time.Minute, Speaks: true, Badge: true,
	Gone:  `{"code":"80300007"}`,
	Spoil: func(c *chat.PushCredential) { change(c, "key_id", "another") },
}

// change changes a member of the service account's file.
func change(c *chat.PushCredential, name, value string) {
	file := map[string]string{}
	if err := json.Unmarshal([]byte(c.Fields["serviceAccount"]), &file); err != nil {
		panic(err)
	}
	file[name] = value
	text, err := json.Marshal(file)
	if err != nil {
		panic(err)
	}
	c.Fields["serviceAccount"] = string(text)
}

// file is a member of the service account's file.
func file(c *chat.PushCredential, name string) string {
	v := map[string]string{}
	if err := json.Unmarshal([]byte(c.Fields["serviceAccount"]), &v); err != nil {
		panic(err)
	}
	return v[name]
}

func TestMain(m *testing.M)      { provider.Main(m) }
func BenchmarkSend(b *testing.B) { provider.Bench(b) }

func TestProvider(t *testing.T) { provider.All(t) }

func TestProvoke(t *testing.T) {
	all := maps.Clone(reasons)
	for code, r := range classes {
		// What is wrong with tokens is told by reasons alone, or not at all.
		all[code] = r
	}
	provider.Provoke(t, all)
}

// The request as it comes in, of an app that has said all that can be said.
func TestReceived(t *testing.T) {
	t.Parallel()
	bearer := func(r *golden.Rig) string {
		return strings.TrimPrefix(r.Seen()[0].Request.Header.Get("Authorization"), "Bearer ")
	}
	r := provider.Received(t, "received.txt", "", golden.Options{
		Credential: func(c *chat.PushCredential) {
			c.Fields["category"], c.Fields["action"], c.Fields["showBadge"], c.Fields["testMessages"] = "WORK", "com.example.app.open", "1", "1"
		},
	}, nil, func(r *golden.Rig) map[string]string {
		return map[string]string{bearer(r): "JWT", file(&r.Credential, "project_id"): "project"}
	})

	var claims jwt.MapClaims
	token, _, err := jwt.NewParser().ParseUnverified(bearer(r), &claims)
	if err != nil {
		t.Fatal(err)
	}
	now := float64(golden.Now.Unix())
	if h := token.Header; len(h) != 3 || h["alg"] != "PS256" || h["typ"] != "JWT" || h["kid"] != file(&r.Credential, "key_id") {
		t.Errorf("header %v", h)
	}
	if len(claims) != 4 || claims["iss"] != file(&r.Credential, "sub_account") || claims["iat"] != now-60 || claims["exp"] != now+3540 ||
		claims["aud"] != "https://oauth-login.cloud.huawei.com/oauth2/v3/token" {
		t.Errorf("claims %v", claims)
	}

	if got := r.Sim.Screen(golden.Token); got[0].Request != golden.Example(t, "").UID.String() {
		t.Errorf("the phone shows %+v", got)
	}
}

// What is wrong with a credential is said by the field, and without its value.
func TestNew(t *testing.T) {
	provider.Fields(t, map[string]func(*chat.PushCredential){
		"serviceAccount": func(c *chat.PushCredential) {
			change(c, "private_key", "-----BEGIN PRIVATE KEY-----\nSECRETXX\n-----END PRIVATE KEY-----\n")
		},
		"showBadge":    func(c *chat.PushCredential) { c.Fields["showBadge"] = "SECRET" },
		"testMessages": func(c *chat.PushCredential) { c.Fields["testMessages"] = "SECRET" },
		"category":     func(c *chat.PushCredential) { c.Fields["category"] = "SECRET \n" },
		"secret":       func(c *chat.PushCredential) { c.Fields["secret"] = "SECRET" },
	})
	c := pushtest.NewOHOS(pushtest.Options{}).Credential("")
	c.Fields["serviceAccount"] = "{"
	if _, err := New(&c, line.Options{}, nil); err == nil {
		t.Error("half a file is taken")
	}
}

// Huawei is asked about the credential by a test message for nobody.
func TestCheck(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	if a := r.Check(context.Background()); a.Class != push.Accepted || a.Code != "tokenFormatError" {
		t.Errorf("%s %+v", a.Class, a)
	}
	seen := r.Seen()
	if len(seen) != 1 || !strings.Contains(seen[0].Body, `"testMessage":true`) {
		t.Errorf("%+v", seen)
	}
}

// Whoever is not the account is not let in, whatever it is that differs.
func TestAccount(t *testing.T) {
	t.Parallel()
	other := pushtest.NewOHOS(pushtest.Options{Seed: "another"}).Credential("")
	for name, value := range map[string]string{
		"key_id": "another", "sub_account": "another", "project_id": "17", "private_key": file(&other, "private_key"),
	} {
		r := provider.Start(t, golden.Options{Credential: func(c *chat.PushCredential) { change(c, name, value) }})
		if a := r.Tell(golden.Token); a.Class != push.ConfigHalt || a.Code != "80200001" {
			t.Errorf("%s: %s %+v", name, a.Class, a)
		}
	}
	// The clocks of both must agree, more or less.
	r := provider.Start(t, golden.Options{})
	fast, err := New(&r.Credential, r.Roots, func() time.Time { return golden.Now.Add(55 * time.Second) })
	if err != nil {
		t.Fatal(err)
	}
	defer fast.Close()
	soon := golden.Example(t, golden.Token)
	if got := fast.Send(context.Background(), []*push.Notification{&soon})[0]; got.Class != push.Accepted {
		t.Errorf("%s %+v", got.Class, got)
	}
	a, err := New(&r.Credential, r.Roots, func() time.Time { return golden.Now.Add(-2 * time.Hour) })
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	n := golden.Example(t, golden.Token)
	if got := a.Send(context.Background(), []*push.Notification{&n})[0]; got.Class != push.ConfigHalt || got.Code != "80200005" {
		t.Errorf("%s %+v", got.Class, got)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	r.Sim.Register(pushtest.Phone{Token: "of another app", Package: "com.example.other"})
	r.Sim.Register(pushtest.Phone{Token: "of the app", Package: pushtest.HWPackage})
	r.Sim.Register(pushtest.Phone{Token: "gone"})
	r.Sim.Remove("gone")
	for token, want := range map[string]push.Class{
		"of the app": push.Accepted, "of another app": push.TokenStrike, "gone": push.TokenDead, "nobody's": push.TokenDead,
	} {
		if a := r.Tell(token); a.Class != want {
			t.Errorf("%s: %s %+v", token, a.Class, a)
		}
	}
}

// An image that was not looked at is left out the next time.
func TestImage(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{Sim: pushtest.Options{Images: func(string) bool { return false }}})
	n := golden.Example(t, golden.Token)
	a := r.Send(context.Background(), []*push.Notification{&n})[0]
	if a.Class != push.PayloadBad || a.Code != "80100022" || a.Without != push.OptionImage {
		t.Fatalf("%s %+v", a.Class, a)
	}
	n.Without = a.Without
	if a := r.Send(context.Background(), []*push.Notification{&n})[0]; a.Class != push.Accepted {
		t.Fatalf("%s %+v", a.Class, a)
	}
	r.Sim.Fail(pushtest.Fault{Code: "80100022"})
	if a := r.Send(context.Background(), []*push.Notification{&n})[0]; a.Class != push.PayloadBad || a.Without != 0 {
		t.Errorf("%s %+v", a.Class, a)
	}
}

// An app that may not send silent notifications can still send others.
func TestNoRight(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	r.Sim.Fail(pushtest.Fault{Code: "noPushTypeRight"})
	n := golden.Example(t, golden.Token)
	if a := r.Send(context.Background(), []*push.Notification{&n})[0]; a.Class != push.ConfigHalt {
		t.Errorf("%s %+v", a.Class, a)
	}
	n.Silent, n.Title, n.Body = true, "", ""
	if a := r.Send(context.Background(), []*push.Notification{&n})[0]; a.Class != push.PayloadBad || !a.Alert {
		t.Errorf("%s %+v", a.Class, a)
	}
}

// Messages of no class that the app may use are advertisements, of which a phone
// shows two a day.
func TestAdverts(t *testing.T) {
	provider.Adverts(t, func(n *push.Notification, has bool) { n.Ext.OHOS.Category = map[bool]string{true: "IM"}[has] })
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	n := golden.Example(t, golden.Token)
	r := provider.Start(t, golden.Options{})
	c := &r.Credential
	key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(file(c, "private_key")))
	if err != nil {
		t.Fatal(err)
	}
	bearer := func(method jwt.SigningMethod, change func(header map[string]any, claims jwt.MapClaims)) string {
		claims := jwt.MapClaims{
			"iss": file(c, "sub_account"), "aud": audience, "iat": golden.Now.Unix(), "exp": golden.Now.Unix() + 3600,
		}
		token := jwt.NewWithClaims(method, claims)
		token.Header["kid"] = file(c, "key_id")
		if change != nil {
			change(token.Header, claims)
		}
		var with any = key
		if method == jwt.SigningMethodHS256 {
			with = []byte(file(c, "private_key"))
		}
		text, err := token.SignedString(with)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	as := func(method jwt.SigningMethod, change func(header map[string]any, claims jwt.MapClaims)) map[string]string {
		return map[string]string{"Authorization": "Bearer " + bearer(method, change)}
	}
	ps := jwt.SigningMethodPS256
	with := func(name string, value any) map[string]string {
		return as(ps, func(_ map[string]any, claims jwt.MapClaims) { claims[name] = value })
	}
	now := golden.Now.Unix()
	many := strings.Repeat(`"t",`, 1000)
	a := r.Good(&n)(t, golden.Bad{Header: as(ps, nil)})
	if got := code(a.Status, a.Body); got != "80000000" {
		t.Fatalf("the bearers made here are refused: %s", got)
	}
	r.Refuses(t, &n, code, "80000000", map[string]golden.Bad{
		"no bearer":       {Header: map[string]string{"Authorization": ""}, Want: "80200001"},
		"no word Bearer":  {Header: map[string]string{"Authorization": bearer(ps, nil)}, Want: "80200001"},
		"not a JWT":       {Header: map[string]string{"Authorization": "Bearer x"}, Want: "80200001"},
		"RS256":           {Header: as(jwt.SigningMethodRS256, nil), Want: "80200001"},
		"PS384":           {Header: as(jwt.SigningMethodPS384, nil), Want: "80200001"},
		"HS256":           {Header: as(jwt.SigningMethodHS256, nil), Want: "80200001"},
		"no key id":       {Header: as(ps, func(h map[string]any, _ jwt.MapClaims) { delete(h, "kid") }), Want: "80200001"},
		"another key id":  {Header: as(ps, func(h map[string]any, _ jwt.MapClaims) { h["kid"] = "x" }), Want: "80200001"},
		"another issuer":  {Header: with("iss", "x"), Want: "80200001"},
		"for another":     {Header: with("aud", "https://oauth2.googleapis.com/token"), Want: "80200001"},
		"not yet made":    {Header: with("iat", now+600), Want: "80200001"},
		"made at no time": {Header: as(ps, func(_ map[string]any, c jwt.MapClaims) { delete(c, "iat") }), Want: "80200001"},
		"without end":     {Header: as(ps, func(_ map[string]any, c jwt.MapClaims) { delete(c, "exp") }), Want: "80200001"},
		"expired":         {Header: with("exp", now-1), Want: "80200005"},
		"for two days":    {Header: with("exp", now+2*86400), Want: "80300036"},

		"another project": {Path: "/v3/1/messages:send", Want: "80200001"},
		"version 1":       {Path: "/v1/1/messages:send", Want: "80200001"},
		"another path":    {Path: "/v3/1/messages", Want: "404"},
		"another method":  {Method: "PUT", Want: "405"},
		"no kind":         {Header: map[string]string{"push-type": ""}, Want: "80100001"},
		"no such kind":    {Header: map[string]string{"push-type": "3"}, Want: "80100001"},
		"another kind":    {Header: map[string]string{"push-type": "6"}, Want: "80100003"},
		"not JSON":        {Header: map[string]string{"Content-Type": "text/plain"}, Want: "80100003"},

		"in snake case":      {Change: []string{"clickAction", "click_action"}, Want: "80100003"},
		"an unknown field":   {Change: []string{`"ttl"`, `"x":1,"ttl"`}, Want: "80100003"},
		"no target":          {Change: []string{`"target":{"token":["` + golden.Token + `"]},`, ``}, Want: "80100003"},
		"a text of ttl":      {Change: []string{`"ttl":129590`, `"ttl":"129590s"`}, Want: "80100003"},
		"a text of a number": {Change: []string{`"actionType":0`, `"actionType":"0"`}, Want: "80100003"},
		"data as a text":     {Change: []string{`"data":{`, `"data":"x","uri":{`}, Want: "80100003"},
		"a ttl of 16 days":   {Change: []string{`"ttl":129590`, `"ttl":1382400`}, Want: "80100004"},
		"no ttl left":        {Change: []string{`"ttl":129590`, `"ttl":0`}, Want: "80100004"},
		"a call for a day":   {Change: []string{`"IM"`, `"VOIP"`}, Want: "80100004"},
		"too large":          {Change: []string{"you have", strings.Repeat("x", 4096)}, Want: "80300008"},
		"no token":           {Change: []string{`"` + golden.Token + `"`, ``}, Want: "80300010"},
		"too many tokens":    {Change: []string{`["`, `[` + many + `"`}, Want: "80300010"},
		"too many for tests": {Change: []string{`["`, `[` + strings.Repeat(`"t",`, 10) + `"`, `"ttl"`, `"testMessage":true,"ttl"`}, Want: "80300030"},
		"no title":           {Change: []string{`"you have a new message."`, `""`}, Want: "80100001"},
		"no body":            {Change: []string{`"body":"`, `"body":"","sound":"`}, Want: "80100001"},
		"no category":        {Change: []string{`"category":"IM",`, ``}, Want: "80100001"},
		"no such category":   {Change: []string{`"IM"`, `"CHAT"`}, Want: "80100001"},
		"voice":              {Change: []string{`"IM"`, `"PLAY_VOICE"`}, Want: "80300007"},
		"no click":           {Change: []string{`,"clickAction":{"actionType":0,"data":` + string(push.JSON(n.Extras(n.Parts()))) + `}`, ``}, Want: "80100001"},
		"no such click":      {Change: []string{`"actionType":0`, `"actionType":2`}, Want: "80100001"},
		"a click on nothing": {Change: []string{`"actionType":0`, `"actionType":1`}, Want: "80100001"},
		"an image by http":   {Change: []string{`https:`, `http:`}, Want: "80100001"},
		"a long message id":  {Change: []string{`"appMessageId":"`, `"appMessageId":"` + strings.Repeat("x", 60)}, Want: "80100001"},
		"an odd message id":  {Change: []string{`"appMessageId":"`, `"appMessageId":"#`}, Want: "80100001"},
		"a long profile":     {Change: []string{`"clickAction"`, `"profileId":"` + strings.Repeat("x", 65) + `","clickAction"`}, Want: "80100001"},
		"style 1":            {Change: []string{`"clickAction"`, `"style":1,"clickAction"`}, Want: "80100001"},
		"collapse by 101":    {Change: []string{`"ttl"`, `"collapseKey":101,"ttl"`}, Want: "80100001"},
		"a badge of 100":     {Change: []string{`"clickAction"`, `"badge":{"setNum":100},"clickAction"`}, Want: "80100001"},
		"a badge plus 0":     {Change: []string{`"clickAction"`, `"badge":{"addNum":0},"clickAction"`}, Want: "80100001"},
		"an empty badge":     {Change: []string{`"clickAction"`, `"badge":{},"clickAction"`}, Want: "80100001"},
		"nobody's token":     {Change: []string{golden.Token, "nobody"}, Want: "80300007"},
	})
}

// A silent notification is nothing to show.
func TestRefusesSilent(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	n := golden.Example(t, golden.Token)
	n.Silent, n.Title, n.Body = true, "", ""
	again := r.Good(&n)
	for want, b := range map[string]golden.Bad{
		"80000000": {},
		"80100003": {Header: map[string]string{"push-type": "0"}},
		"80100001": {Header: map[string]string{"push-type": "10"}},
	} {
		a := again(t, b)
		if got := code(a.Status, a.Body); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// code is what an answer says, or its status where it says nothing.
func code(status int, body []byte) string {
	var v struct{ Code string }
	if json.Unmarshal(body, &v) != nil || v.Code == "" {
		return fmt.Sprint(status)
	}
	return v.Code
}

// Of several tokens those that are wrong are named, by what is wrong with them.
func TestSome(t *testing.T) {
	t.Parallel()
	r := provider.Start(t, golden.Options{})
	r.Sim.Register(pushtest.Phone{Token: "of another app", Package: "com.example.other"})
	n := golden.Example(t, golden.Token)
	a := r.Good(&n)(t, golden.Bad{Change: []string{`["`, `["gone","of another app","`}})
	var v struct{ Code, Msg string }
	var m struct {
		Success, Failure int
		Illegal          map[string][]string `json:"illegalTokens"`
	}
	if json.Unmarshal(a.Body, &v) != nil || v.Code != "80100000" || json.Unmarshal([]byte(v.Msg), &m) != nil || m.Success != 1 || m.Failure != 2 ||
		!slices.Equal(m.Illegal["tokenFormatError"], []string{"gone"}) || !slices.Equal(m.Illegal["noRight"], []string{"of another app"}) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}
