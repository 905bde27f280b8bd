package serverapi

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

const pin = "/v4/channel/pin/set"

func init() { archiveTables[pin] = pinFields.Names() }

// own is what the user's own devices were told of what they have set.
func (w *world) own(user string) (list []string) {
	w.t.Helper()
	ctx := context.Background()
	entries, err := w.store.Read(ctx, w.app.ID, user, store.Range{Limit: 1000}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		m, err := w.store.Message(ctx, e.Ref)
		if err != nil {
			w.t.Fatal(err)
		}
		if ev := m.Event; ev != nil && ev.Own != nil {
			list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %+v", ev.ChannelType, ev.Channel, *ev.Own)))
		}
	}
	return list
}

func (w *world) wantOwn(user string, n int, last string) {
	w.t.Helper()
	list := w.own(user)
	if len(list) != n || n > 0 && !strings.Contains(list[n-1], last) {
		w.t.Errorf("%s was told %q, want %d, at last %s", user, list, n, last)
	}
}

func TestPin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pinned := func(user string, ct chat.ChannelType, channel string) int64 {
		t.Helper()
		v, err := w.store.View(t.Context(), store.ChannelRef{App: w.app.ID, Owner: user, Type: ct, Channel: channel})
		if err != nil {
			t.Fatal(err)
		}
		if v == nil {
			return 0
		}
		return v.PinnedAt
	}
	at := w.clock.ms.Load()
	for range 2 { // what is so stays so, and is told once
		w.call(pin, `{"userId":"u1","channelType":1,"channelId":"u2","isPin":true}`).want(t, 200, 0, "")
		w.clock.advance(time.Second)
	}
	w.call(pin, `{"userId":"u1","channelType":"3","channelId":"g","isPin":"1"}`).want(t, 200, 0, "")
	w.call(pin, `{"userId":"u1","channelType":6,"channelId":"u3","isPin":0}`).want(t, 200, 0, "")
	w.wantOwn("u1", 2, fmt.Sprintf("group g {Part:1 PinnedAt:%d", at+2000))
	for range 2 {
		if got := pinned("u1", chat.Direct, "u2"); got != at {
			t.Errorf("pinned at %d, want %d", got, at)
		}
		if got := pinned("u2", chat.Direct, "u1"); got != 0 {
			t.Errorf("the other side has it pinned at %d", got)
		}
		w.restart()
	}
	w.call(pin, `{"userId":"u1","channelType":1,"channelId":"u2","isPin":false}`).want(t, 200, 0, "")
	w.wantOwn("u1", 3, "direct u2 {Part:1 PinnedAt:0")
	if got := pinned("u1", chat.Direct, "u2"); got != 0 {
		t.Errorf("unpinned, it is pinned at %d", got)
	}
	w.wantOwn("u2", 0, "")

	for body, message := range map[string]string{
		`{"channelType":1,"channelId":"u2","isPin":true}`:                                         "userId: is required",
		`{"userId":"u 1","channelType":1,"channelId":"u2","isPin":true}`:                          "userId: must not contain spaces or control characters",
		`{"userId":"u1","channelId":"u2","isPin":true}`:                                           "channelType: is required",
		`{"userId":"u1","channelType":4,"channelId":"u2","isPin":true}`:                           "channelType: one of 1, 3, 6, got 4",
		`{"userId":"u1","channelType":1,"isPin":true}`:                                            "channelId: is required",
		`{"userId":"u1","channelType":1,"channelId":"u2"}`:                                        "isPin: is required",
		`{"userId":"u1","channelType":1,"channelId":"u2","isPin":2}`:                              "isPin: 0 or 1, got 2",
		`{"userId":"u1","channelType":1,"isPin":1,"channelId":"` + strings.Repeat("x", 65) + `"}`: "channelId: at most 64 bytes, got 65",
	} {
		w.call(pin, body).want(t, 400, 1002, message)
	}
	w.wantOwn("u1", 3, "")
	w.set("limits.default", "1/h")
	w.call(pin, `{"userId":"u1","channelType":1,"channelId":"u4","isPin":true}`).want(t, 200, 0, "")
	w.call(pin, `{"userId":"u1","channelType":1,"channelId":"u5","isPin":true}`).want(t, 429, 1008, "")
	w.wantOwn("u1", 4, "direct u4")
}
