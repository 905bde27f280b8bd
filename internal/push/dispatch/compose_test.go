package dispatch

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// owns changes what a user has made of their channel with alice, and of all channels.
func (w *world) owns(user string, v *chat.View, p *chat.Preferences) {
	w.t.Helper()
	a := &store.Append{
		Message: &chat.Message{App: w.app.ID, ChannelType: chat.Direct, From: user, Flags: chat.Missed, Event: &chat.Event{Kind: chat.EventChannel}},
		Targets: []string{user},
	}
	if v != nil {
		a.Views = []store.ViewChange{{Channel: store.ChannelRef{App: w.app.ID, Owner: user, Type: chat.Direct, Channel: "alice"}, View: v}}
	}
	if p != nil {
		a.Preferences = &store.PreferencesChange{App: w.app.ID, User: user, Preferences: p}
	}
	if err := w.store.Append(w.t.Context(), a); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) user(user string, change func(*chat.User)) {
	w.t.Helper()
	if _, err := w.dir.IssueToken(w.t.Context(), w.app, user, user, ""); err != nil {
		w.t.Fatal(err)
	}
	if err := w.store.UpdateUsers(w.t.Context(), w.app.ID, []string{user}, change); err != nil {
		w.t.Fatal(err)
	}
}

// Messages that are being notified of are kept for those who come next, but not more of
// them than there is room for, however long they are.
func TestSendsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text := strings.Repeat("x", 100<<10)
	var last chat.UID
	for i := range 3 * maxSendBytes / len(text) {
		last = w.message(text+strconv.Itoa(i), "bob")
		for range 2 {
			if s, _, err := w.d.sends.of(t.Context(), w.store, w.app.ID, last); err != nil || !strings.Contains(s.Message.Content, text) {
				t.Fatal(err)
			}
		}
	}
	c := &w.d.sends
	size := 0
	for _, k := range c.list {
		size += len(k.send.Message.Content)
	}
	if _, found := c.list[last]; !found || size > maxSendBytes || c.size < size || c.size > size+len(c.list)*(1<<11) {
		t.Errorf("%d are kept, of %d bytes, counted as %d", len(c.list), size, c.size)
	}
}

// A message that cannot be read any more ends its notification, rather than have it
// tried again until it expires.
func TestNotificationOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.phone("bob", chat.VIVO)
	uid := w.one("bob", chat.VIVO)
	w.d.Store = &flawed{w.store, uid, chat.UID{}}
	w.run()
	if o := w.ends(uid, "payload_bad"); o.Code != "row" {
		t.Errorf("%+v", o)
	}
	if n := testutil.ToFloat64(w.d.deciding.passedOver); n != 1 {
		t.Errorf("%v are counted", n)
	}
}

// A notification that has waited is not given to who is kept out by now, or wants no
// more of it.
func TestWhoWaitedIsAskedAgain(t *testing.T) {
	t.Parallel()
	quiet := &chat.QuietHours{From: 11 * 60, To: 13 * 60, Zone: "UTC", Level: chat.NotifyNothing}
	for name, c := range map[string]struct {
		then func(*world)
		want string
	}{
		"nothing has changed": {func(*world) {}, "accepted"},
		"banned": {func(w *world) {
			w.user("bob", func(u *chat.User) { u.BannedUntil = w.clock().Add(time.Hour).UnixMilli() })
		}, "banned"},
		"banned, but it is over by then": {func(w *world) {
			w.user("bob", func(u *chat.User) { u.BannedUntil = w.clock().Add(time.Second).UnixMilli() })
		}, "accepted"},
		"deleted":           {func(w *world) { w.user("bob", func(u *chat.User) { u.DeletedAt = 1 }) }, "deleted"},
		"the channel muted": {func(w *world) { w.owns("bob", &chat.View{Level: chat.NotifyNothing}, nil) }, "level"},
		"all channels muted": {func(w *world) {
			w.owns("bob", nil, &chat.Preferences{Levels: map[chat.ChannelType]chat.NotifyLevel{chat.Direct: chat.NotifyMentions}})
		}, "level"},
		"their quiet hours": {func(w *world) { w.owns("bob", nil, &chat.Preferences{Quiet: quiet}) }, "quiet_hours"},
		"the device's": {func(w *world) {
			d := &chat.PushDevice{ID: chat.VIVO.String(), Provider: chat.VIVO, Token: "bob@VIVO", RegisteredAt: 1, SeenAt: 1, Quiet: quiet}
			if err := w.store.PutPushDevice(w.t.Context(), w.app.ID, "bob", d); err != nil {
				w.t.Fatal(err)
			}
		}, "quiet_hours"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.phone("bob", chat.VIVO)
			uid := w.one("bob", chat.VIVO)
			c.then(w)
			w.pass(longWait)
			w.run()
			if o := w.ends(uid, c.want); (o.Attempts > 0) != (c.want == "accepted") {
				t.Errorf("%d attempts", o.Attempts)
			}
		})
	}
}
