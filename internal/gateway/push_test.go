package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
)

// registered is what the user has registered for push in the house's app, by
// device: which of two was seen last is a matter of milliseconds here.
func (h *house) registered(user string) (list []string) {
	h.t.Helper()
	devices, err := h.dir.PushDevices(h.t.Context(), h.app, user)
	must(h.t, err)
	for _, d := range devices {
		list = append(list, fmt.Sprintf("%s %s %s %s %s %t", d.ID, d.Provider, d.Token, d.Package, d.Language, d.HideDetails))
	}
	slices.Sort(list)
	return list
}

func TestClientsRegisterForPush(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	phone, _ := h.connect("bob", `{"deviceId":"phone"}`)
	tablet, _ := h.connect("bob", `{"deviceId":"tablet"}`)
	phone.done("device.push", `{"provider":"FCM","token":"t1","package":"p","language":"de","hideDetails":true}`)
	tablet.done("device.push", `{"provider":"HW","token":"t1"}`)
	wantList(t, "bob's", h.registered("bob"), "phone FCM t1 p de true", "tablet HW t1   false")
	// What is registered again leaves nothing of what was.
	tablet.done("device.push", `{"provider":"HW","token":"t2"}`)
	phone.done("device.push", `{"provider":"FCM","token":"t1"}`)
	wantList(t, "bob's", h.registered("bob"), "phone FCM t1   false", "tablet HW t2   false")

	// The phone is alice's now, also where bob never logged out on it; in another
	// app it is still his.
	mine := h.app
	other, err := h.dir.CreateApp(t.Context())
	must(t, err)
	h.app = other
	there, _ := h.connect("bob", `{"deviceId":"phone"}`)
	there.done("device.push", `{"provider":"FCM","token":"t1"}`)
	h.app = mine
	alice, _ := h.connect("alice", `{"deviceId":"phone"}`)
	alice.done("device.push", `{"provider":"FCM","token":"t1"}`)
	wantList(t, "bob's", h.registered("bob"), "tablet HW t2   false")
	wantList(t, "alice's", h.registered("alice"), "phone FCM t1   false")
	h.app = other
	wantList(t, "bob's in the other app", h.registered("bob"), "phone FCM t1   false")
	h.app = mine

	// Logging out, however often; of what is refused nothing is kept.
	alice.refused("device.push", `{"provider":"FCM","token":"a b"}`, 107, "token: must be printable ASCII characters without spaces")
	wantList(t, "alice's", h.registered("alice"), "phone FCM t1   false")
	for _, data := range []string{`{"provider":null}`, `{}`, `{"provider":"FCM","token":""}`} {
		alice.done("device.push", data)
		wantList(t, "alice's", h.registered("alice"))
	}
	tablet.done("device.push", `{"provider":"FCM"}`)
	wantList(t, "bob's", h.registered("bob"))
	nameless, _ := h.connect("bob", "")
	nameless.refused("device.push", `{"provider":"FCM","token":"t"}`, 107, "deviceId: this connection has none: give one in connect.data")
	nameless.refused("device.push", `{}`, 107, "deviceId: this connection has none: give one in connect.data")
	phone.refused("device.push", `{"provider":"APNs","token":"`+strings.Repeat("0", 62)+`"}`, 107, "token: of APNs must be 32 to 100 bytes in hexadecimal, got 31 bytes")
}

// A user is in the foreground as long as one of their sessions is.
func TestForeground(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	want := func(foreground bool, background int) {
		t.Helper()
		if got := h.Foreground(h.app.ID, "bob"); got != foreground {
			t.Errorf("in the foreground: %t", got)
		}
		n := 0
		for part, parts := 0, 1; part < parts; part++ {
			var some []courier.Session
			some, parts = h.Connected(h.app.ID, part)
			for _, s := range some {
				if s.Background {
					n++
				}
			}
		}
		if n != background {
			t.Errorf("%d sessions are in the background, want %d", n, background)
		}
	}
	want(false, 0)
	phone, _ := h.connect("bob", `{"background":true}`)
	want(false, 1)
	if !h.Online(h.app.ID, "bob") {
		t.Error("bob is not online")
	}
	phone.done("device.state", `{"background":false}`)
	want(true, 0)
	browser, _ := h.connect("bob", "")
	phone.done("device.state", `{"background":true}`)
	want(true, 1)
	browser.done("device.state", `{"background":1}`)
	want(false, 2)
	browser.refused("device.state", `{"background":"maybe"}`, 107, `background: 0 or 1, got "maybe"`)
	browser.refused("device.state", `{}`, 107, "background: is required")
	h.connect("alice", "")
	want(false, 2)
	// What is sent comes as before.
	h.send(chat.Direct, "alice", "hello", "bob")
	for _, p := range []*peer{phone, browser} {
		if r := p.reply(); r.Push == nil || r.Push.Pub.Data.Message.Content != "hello" {
			t.Errorf("%+v", r)
		}
	}
}
