package serverapi

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

const (
	clearPath  = "/v4/channel/message/history/delete"
	clearAlias = "/v4/channel/message/history/clean"
)

func init() { archiveTables[clearPath] = clearFields.Names() }

func (w *world) wantHistory(path, user, channel, want string) {
	w.t.Helper()
	if got := strings.Join(contents(w.history(path, w.allOf(user, channel))), " "); got != want {
		w.t.Errorf("%s has of %s %q, want %q", user, channel, got, want)
	}
}

func TestClear(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	say := func(content string) {
		w.post(direct, `{"fromUserId":"u1","toUserIds":["u2"],"messageType":"app:t","content":"`+content+`","isEchoToSender":1}`)
	}
	start := w.clock.ms.Load()
	for i := range 4 {
		say(strconv.Itoa(i))
		w.clock.advance(time.Minute)
	}
	w.wantHistory(directHistory, "u2", "u1", "3 2 1 0")
	body := func(rest string) string {
		return `{"fromUserId":"u2","channelType":1,"channelId":"u1"` + rest + `}`
	}
	minute := func(i int) string { return strconv.FormatInt(start+int64(i)*60_000, 10) }

	// Up to a moment, which is included, for one side.
	for range 2 {
		w.call(clearPath, body(`,"sentAt":"`+minute(1)+`"`)).want(t, 200, 0, "")
		w.wantHistory(directHistory, "u2", "u1", "3 2")
		w.wantHistory(directHistory, "u1", "u2", "3 2 1 0")
		w.restart()
	}
	// Never back, and as a number.
	w.call(clearPath, body(`,"sentAt":`+minute(0))).want(t, 200, 0, "")
	w.wantHistory(directHistory, "u2", "u1", "3 2")
	w.call(clearAlias, body(`,"sentAt":"`+minute(2)+`"`)).want(t, 200, 0, "")
	w.wantHistory(directHistory, "u2", "u1", "3")
	// All there is; what comes in the same moment stays.
	say("4")
	w.call(clearPath, body(`,"sentAt":""`)).want(t, 200, 0, "")
	say("5")
	w.wantHistory(directHistory, "u2", "u1", "5")
	// Not what is not there yet.
	w.call(clearPath, body(`,"sentAt":"`+minute(1000)+`"`)).want(t, 200, 0, "")
	say("6")
	w.wantHistory(directHistory, "u2", "u1", "6")
	w.call(clearPath, body("")).want(t, 200, 0, "")
	w.wantHistory(directHistory, "u2", "u1", "")
	w.wantHistory(directHistory, "u1", "u2", "6 5 4 3 2 1 0")

	// The timeline keeps what waits, and tells once of each change.
	all := w.timeline("u2")
	if events := strings.Count(strings.Join(all, "|"), "in delete"); events != 5 || len(all) != events+7 {
		t.Errorf("%d events: %q", events, all)
	}
	if got := w.timeline("u1"); len(got) != 7 {
		t.Errorf("the other side is told %q", got)
	}

	w.post(system, `{"fromUserId":"u1","toUserIds":["u2","u3"],"messageType":"app:t","content":"sale"}`)
	w.call(clearPath, `{"fromUserId":"u2","channelType":"6","channelId":"u1"}`).want(t, 200, 0, "")
	if n := w.unread("u2", chat.System, "u1"); n != 0 {
		t.Errorf("%d unread after clearing", n)
	}
	if n := w.unread("u3", chat.System, "u1"); n != 1 {
		t.Errorf("the other recipient has %d unread", n)
	}
}

func (w *world) unread(user string, ct chat.ChannelType, channel string) int {
	w.t.Helper()
	ch := store.ChannelRef{App: w.app.ID, Owner: user, Type: ct, Channel: channel}
	v, err := w.store.View(w.t.Context(), ch)
	if err != nil {
		w.t.Fatal(err)
	}
	n, err := w.store.Unread(w.t.Context(), ch, store.KeptRange{After: v.Settled(), Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestClearOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, m := range []string{"a", "b"} {
		w.post(open, `{"fromUserId":"u1","toChannelIds":["r1","r2"],"messageType":"app:t","content":"`+m+`"}`)
	}
	w.call(clearPath, `{"fromUserId":"boss","channelType":4,"channelId":"r1"}`).want(t, 200, 0, "")
	w.post(open, `{"fromUserId":"u1","toChannelIds":["r1"],"messageType":"app:t","content":"c"}`)
	for range 2 {
		w.wantHistory(openHistory, "u1", "r1", "c")
		w.wantHistory(openHistory, "boss", "r1", "c")
		w.wantHistory(openHistory, "u1", "r2", "b a")
		w.restart()
	}
	w.wantTimeline("boss")
	w.wantTimeline("u1")
	w.call(clearPath, `{"fromUserId":"boss","channelType":4,"channelId":"nowhere"}`).want(t, 200, 0, "")
}

func TestClearRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post(direct, `{"fromUserId":"u1","toUserIds":["u2"],"messageType":"app:t","content":"x"}`)
	for _, c := range []struct{ body, message string }{
		{`{}`, "fromUserId: is required"},
		{`{"fromUserId":"u2"}`, "channelType: is required"},
		{`{"fromUserId":"u2","channelType":3}`, "channelType: one of 1, 4, 6, got 3"},
		{`{"fromUserId":"u2","channelType":1}`, "channelId: is required"},
		{`{"fromUserId":"u2","channelType":1,"channelId":"u1","sentAt":"yesterday"}`, `sentAt: must be a time in Unix milliseconds, got "yesterday"`},
		{`{"fromUserId":"u2","channelType":1,"channelId":"u1","sentAt":-1}`, "sentAt: must not be negative"},
		{`{"fromUserId":"u2","channelType":1,"channelId":"u1","sentAt":[]}`, "sentAt: must be a string or a whole number, got an array"},
	} {
		w.call(clearPath, c.body).want(t, 400, 1002, c.message)
	}
	mine := w.app
	w.app = w.newApp("other", "other-secret")
	w.call(clearPath, `{"fromUserId":"u2","channelType":1,"channelId":"u1"}`).want(t, 200, 0, "")
	w.app = mine
	w.wantHistory(directHistory, "u2", "u1", "x")
	w.set("limits.default", "1/h")
	last := `{"fromUserId":"u2","channelType":1,"channelId":"u1","sentAt":"` + fmt.Sprint(w.clock.ms.Load()-1) + `"}`
	w.call(clearPath, last).want(t, 200, 0, "")
	w.call(clearPath, last).want(t, 429, 1008, "")
}
