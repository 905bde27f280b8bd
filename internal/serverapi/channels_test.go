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

const (
	setLevelPath     = "/v4/channel/push/set"
	getLevelPath     = "/v4/channel/push/get"
	getLevelAlias    = "/v4/channel/notification/get"
	setTypeLevelPath = "/v4/channel-type/push/set"
	getTypeLevelPath = "/v4/channel-type/push/get"
)

func init() {
	archiveTables[setLevelPath] = setLevelFields.Names()
	archiveTables[getLevelPath] = getLevelFields.Names()
	archiveTables[setTypeLevelPath] = setTypeLevelFields.Names()
	archiveTables[getTypeLevelPath] = getTypeLevelFields.Names()
}

func TestNotificationLevels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	level := func(path, body string, want int) {
		t.Helper()
		r := w.call(path, body)
		if r.Body != fmt.Sprintf(`{"code":0,"result":{"noDisturbLevel":%d,"notificationLevel":%d}}`, want, want) {
			t.Errorf("%s: %s, want %d", body, r.Body, want)
		}
	}
	const one, typ = `{"requestId":"u1","channelType":"1","channelId":"u2"`, `{"requestId":"u1","channelType":"1"`
	level(getLevelPath, one+`}`, 0)
	level(getTypeLevelPath, typ+`}`, 0)
	for _, n := range []int{5, 4, 2, 1, -1} {
		w.call(setLevelPath, fmt.Sprintf(`%s,"noDisturbLevel":%d}`, one, n)).want(t, 200, 0, "")
		w.call(setTypeLevelPath, fmt.Sprintf(`{"userId":"u1","channelType":1,"notificationLevel":"%d"}`, n)).want(t, 200, 0, "")
		level(getLevelPath, one+`}`, n)
		level(getLevelAlias, `{"userId":"u1","requestId":"u1","channelType":1,"channelId":"u2"}`, n)
		level(getTypeLevelPath, typ+`}`, n)
	}
	w.wantOwn("u1", 10, "direct  {Part:2 PinnedAt:0 Level:-1")
	w.call(setLevelPath, one+`,"noDisturbLevel":-1,"notificationLevel":-1,"isMuted":1}`).want(t, 200, 0, "")
	w.call(setTypeLevelPath, typ+`,"noDisturbLevel":-1}`).want(t, 200, 0, "")
	w.wantOwn("u1", 10, "") // nothing has changed

	// What is set for one is not set for others.
	const part = `{"channelType":"10","requestId":"u1","channelId":"c1","subchannelId":"s1"`
	w.call(setLevelPath, part+`,"noDisturbLevel":1}`).want(t, 200, 0, "")
	w.wantOwn("u1", 11, "community c1 s1 {Part:2 PinnedAt:0 Level:1")
	for range 2 {
		level(getLevelPath, part+`}`, 1)
		level(getLevelPath, `{"channelType":"10","requestId":"u1","channelId":"c1"}`, 0)
		level(getLevelPath, `{"channelType":"10","requestId":"u1","channelId":"c1","subchannelId":"s2"}`, 0)
		level(getLevelPath, `{"channelType":"1","requestId":"u2","channelId":"u1"}`, 0)
		level(getTypeLevelPath, `{"channelType":"3","requestId":"u1"}`, 0)
		level(getTypeLevelPath, `{"channelType":"1","requestId":"u2"}`, 0)
		level(getTypeLevelPath, typ+`}`, -1)
		level(getLevelPath, one+`}`, -1)
		w.restart()
	}
	w.call(setLevelPath, one+`,"noDisturbLevel":0}`).want(t, 200, 0, "")
	w.call(setTypeLevelPath, typ+`,"noDisturbLevel":0}`).want(t, 200, 0, "")
	level(getLevelPath, one+`}`, 0)
	level(getTypeLevelPath, typ+`}`, 0)
	w.wantOwn("u1", 13, "direct  {Part:2 PinnedAt:0 Level:0")

	const levels = "one of -1, 0, 1, 2, 4, 5, got "
	for _, c := range [][3]string{
		{setLevelPath, one + `,"noDisturbLevel":3}`, "noDisturbLevel: " + levels + "3"},
		{setLevelPath, one + `,"notificationLevel":6}`, "notificationLevel: " + levels + "6"},
		{setLevelPath, one + `,"noDisturbLevel":1,"notificationLevel":2}`, "notificationLevel: noDisturbLevel and notificationLevel are the same, got 1 and 2"},
		{setLevelPath, one + `}`, "noDisturbLevel: is required"},
		{setLevelPath, typ + `,"noDisturbLevel":1}`, "channelId: is required"},
		{setLevelPath, one + `,"subchannelId":"s1","noDisturbLevel":1}`, "subchannelId: only communities have subchannels"},
		{setLevelPath, `{"channelType":"10","requestId":"u1","channelId":"c1","subchannelId":"s 1","noDisturbLevel":1}`, "subchannelId: must not contain spaces or control characters"},
		{setLevelPath, `{"channelType":"1","channelId":"u2","noDisturbLevel":1}`, "requestId: is required"},
		{setLevelPath, `{"userId":"u2","requestId":"u1","channelType":"1","channelId":"u2","noDisturbLevel":1}`, "userId: is the same as requestId, got two different users"},
		{getLevelPath, `{"requestId":"u1","channelType":"direct","channelId":"u2"}`, `channelType: must be a whole number, got "direct"`},
		{getLevelPath, `{"requestId":"u1","channelType":"4","channelId":"u2"}`, "channelType: one of 1, 3, 6, 10, got 4"},
		{getTypeLevelPath, `{"requestId":"u1"}`, "channelType: is required"},
		{setTypeLevelPath, typ + `}`, "noDisturbLevel: is required"},
	} {
		w.call(c[0], c[1]).want(t, 400, 1002, c[2])
	}
	w.wantOwn("u1", 13, "")
}
