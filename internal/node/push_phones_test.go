package node

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push/pushtest"
)

// A gallery is a tower whose users have phones, of Apple and of Google.
type gallery struct {
	*tower
	apns, fcm, mi *pushtest.Sim
}

func newGallery(t *testing.T) *gallery {
	t.Helper()
	server, err := pushtest.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, server.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	g := &gallery{tower: newTower(t, func(c *Config) { c.PushCA = ca })}
	now := func() time.Time { return time.Now().Add(time.Duration(g.skipped.Load())) }
	o := pushtest.Options{Now: now}
	g.apns, g.fcm, g.mi = pushtest.NewAPNs(o), pushtest.NewFCM(o), pushtest.NewMI(o)
	for _, sim := range []*pushtest.Sim{g.apns, g.fcm, g.mi} {
		address, err := server.Serve(sim, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c := sim.Credential(address)
		if _, err := g.Admin().SetPushCredential(t.Context(), "app", admin.PushKey{Provider: c.Provider.String()}, c.BaseURL, c.Fields, false); err != nil {
			t.Fatal(err)
		}
	}
	g.set("push.withdraw", "true")
	return g
}

// phones gives a user a phone of each make.
func (g *gallery) phones(user string) {
	g.t.Helper()
	for _, sim := range []*pushtest.Sim{g.apns, g.fcm} {
		token := g.phoneOf(user)
		sim.Register(pushtest.Phone{Token: token, Package: "com.example", Environment: environmentOf(sim)})
		g.done("/v4x/push/device/register", fmt.Sprintf(
			`{"userId":%q,"deviceId":"%s-of-%s","provider":%q,"token":%q,"package":"com.example"}`, user, sim.Provider, user, sim.Provider, token))
	}
}

func environmentOf(sim *pushtest.Sim) chat.PushEnvironment {
	if sim.Provider == chat.APNs {
		return chat.Production
	}
	return chat.NoEnvironment
}

func (g *gallery) phoneOf(user string) string {
	return hex.EncodeToString([]byte(fmt.Sprintf("%-32s", user)))
}

// has waits until each of the user's phones was given a notification like that.
func (g *gallery) has(user, what string, like func(*pushtest.Shown) bool) {
	g.t.Helper()
	for _, sim := range []*pushtest.Sim{g.apns, g.fcm} {
		token := g.phoneOf(user)
		there := func() bool {
			return slices.ContainsFunc(sim.Log(token), func(n pushtest.Shown) bool { return like(&n) })
		}
		for end := time.Now().Add(time.Minute); !there(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				g.t.Fatalf("%s has not %s of %s but %+v", user, what, sim.Provider, sim.Log(token))
			}
		}
	}
}

// shows waits until the user's phones were shown the message.
func (g *gallery) shows(user, uid, title, body string) {
	g.t.Helper()
	g.has(user, "been shown "+uid, func(n *pushtest.Shown) bool {
		return !n.Silent && n.Key == uid && n.Removes == "" && n.Title == title && n.Body == body
	})
}

// forgets waits until the user's phones were told to show the message no more.
func (g *gallery) forgets(user, uid string) {
	g.t.Helper()
	g.has(user, "been told to forget "+uid, func(n *pushtest.Shown) bool { return n.Silent && n.Removes == uid && n.Title+n.Body == "" })
}

// alerts is how many notifications the user's phones have shown, each.
func (g *gallery) alerts(user string, want int) {
	g.t.Helper()
	for _, sim := range []*pushtest.Sim{g.apns, g.fcm} {
		log := slices.DeleteFunc(sim.Log(g.phoneOf(user)), func(n pushtest.Shown) bool { return n.Silent })
		if len(log) != want {
			g.t.Errorf("%s has %d alerts of %s, want %d: %+v", user, len(log), sim.Provider, want, log)
		}
	}
}

// A message that is read in the browser goes from the phones that showed it.
func TestPhonesForgetWhatWasRead(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	g.phones("bob")
	first, last := g.say("", "bob")[0], g.say("", "bob")[0]
	g.pass(4 * time.Second)
	g.shows("bob", first, "ann", "hi")
	g.shows("bob", last, "ann", "hi")
	desk := g.connect("bob", `{"deviceId":"desk","platform":"web"}`)
	if _, err := desk.RPC(t.Context(), "message.read", json.RawMessage(`{"channelType":"direct","channelId":"ann","upTo":"`+last+`"}`)); err != nil {
		t.Fatal(err)
	}
	g.pass(4 * time.Second)
	g.forgets("bob", last)
	desk.Close()
	g.until("bob is away", func() bool { return !g.gateway.Foreground(1, "bob") })

	// What is recalled is told of in its place; where that is not to be, it just goes.
	recall := func(more string) (uid string) {
		uid = g.say("", "bob")[0]
		g.pass(4 * time.Second)
		g.shows("bob", uid, "ann", "hi")
		g.done("/v4/message/delete", fmt.Sprintf(`{"fromUserId":"ann","channelType":1,"channelId":"bob","messageUID":%q%s}`, uid, more))
		g.pass(4 * time.Second)
		return uid
	}
	uid := recall("")
	g.has("bob", "been told of the recall", func(n *pushtest.Shown) bool { return !n.Silent && n.Key == uid && n.Removes == uid })
	g.forgets("bob", recall(`,"disablePush":true`))
	g.alerts("bob", 5)
}

// A broadcast comes to the phones of those who are away, once, and goes again when it
// is recalled; those who are connected have it there.
func TestPhonesGetBroadcasts(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	for _, user := range []string{"bob", "cy", "dora"} {
		g.phones(user)
	}
	g.done("/v4/user/tag/batch/set", `{"userIds":["dora"],"tags":["red"]}`)
	cy := g.connect("cy", `{"deviceId":"phone","platform":"ios"}`)
	defer cy.Close()
	uidOf := func(answer string) string {
		_, uid, _ := strings.Cut(answer, `"messageUID":"`)
		uid, _, _ = strings.Cut(uid, `"`)
		return uid
	}
	uid := uidOf(g.done("/v4/system-channel/message/broadcast-all",
		`{"fromUserId":"news","messageType":"RC:TxtMsg","content":"{\"content\":\"hear\"}","pushContent":"hear ye","pushExt":"{\"title\":\"News\"}"}`))
	given := func(n int) {
		t.Helper()
		g.until("it is given", func() bool {
			return strings.Contains(g.done("/v4x/message/trace", `{"messageUID":"`+uid+`"}`), fmt.Sprintf(`"taken":%d,`, n))
		})
	}
	given(1) // to cy
	g.pass(4 * time.Second)
	g.shows("bob", uid, "News", "hear ye")
	g.shows("dora", uid, "News", "hear ye")

	// By tags it comes to dora alone, and with its own words.
	g.pass(5 * time.Minute)
	red := uidOf(g.done("/v4/system-channel/tagged-users/send", `{"platform":["ios","android"],"fromUserId":"news","audience":{"tag":["red"]},
		"message":{"messageType":"RC:TxtMsg","content":"{\"content\":\"red\"}"},"notification":{"title":"Red","alert":"to the red"}}`))
	g.pass(4 * time.Second)
	g.shows("dora", red, "Red", "to the red")
	// Who comes late is given it and not notified again.
	bob := g.connect("bob", `{"deviceId":"desk","platform":"web"}`)
	given(2)
	bob.Close()
	g.pass(time.Minute)
	g.done("/v4/system-channel/message/broadcast/delete", `{"fromUserId":"news","messageUID":"`+uid+`"}`)
	g.pass(4 * time.Second)
	g.forgets("dora", uid)
	g.forgets("bob", uid)
	g.alerts("bob", 1)
	g.alerts("dora", 2)
	g.alerts("cy", 0)
}

// Xiaomi tells of the phones from which the app was removed when it is asked, which
// it is once it has taken anything.
func TestPhonesThatAreGone(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	for _, user := range []string{"bob", "cy"} {
		g.mi.Register(pushtest.Phone{Token: "token-of-" + user, Package: "com.example"})
		g.done("/v4x/push/device/register", fmt.Sprintf(
			`{"userId":%q,"deviceId":"phone","provider":"MI","token":"token-of-%s","package":"com.example"}`, user, user))
	}
	g.mi.Remove("token-of-bob")
	devices := func(user string) string { return g.done("/v4x/push/device/list", `{"userId":"`+user+`"}`) }
	for end := time.Now().Add(time.Minute); strings.Contains(devices("bob"), "phone"); {
		if time.Now().After(end) {
			t.Fatal("bob's phone is there")
		}
		g.say("", "cy")
		g.pass(4 * time.Second)
		time.Sleep(20 * time.Millisecond)
		g.pass(time.Minute)
	}
	if !strings.Contains(devices("cy"), "phone") {
		t.Error("cy's phone is gone")
	}
	g.metrics(`parley_push_feedback_total{app="1",provider="MI",result="answered"} 1`, `parley_push_tokens_total{app="1",provider="MI",what="deleted"} 1`)
}

// What a phone shows is what the message says by then: the text that was put in its
// place meanwhile, and of a stream what has come of it.
func TestPhonesShowWhatAMessageSaysByThen(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	g.phones("bob")
	edited := g.say("", "bob")[0]
	g.done("/v4/direct-channel/message/update", `{"fromUserId":"ann","targetId":"bob","messageUID":"`+edited+`","content":"{\"content\":\"sorry, hello\"}"}`)
	const chunk = "/v4/direct-channel/message/stream/send"
	begun := g.done(chunk, `{"fromUserId":"ann","toUserId":"bob","messageType":"RC:StreamMsg","content":{"content":"Once upon","seq":1,"complete":false}}`)
	_, begun, _ = strings.Cut(begun, `"messageUID":"`)
	uid, _, _ := strings.Cut(begun, `"`)
	g.done(chunk, `{"fromUserId":"ann","toUserId":"bob","messageType":"RC:StreamMsg","content":{"content":" a time","seq":2,"complete":false,"messageId":"`+uid+`"}}`)
	g.pass(4 * time.Second)
	g.shows("bob", edited, "ann", "sorry, hello")
	g.shows("bob", uid, "ann", "Once upon a time")
}
