package serverapi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
)

// sentUIDs makes a send and gives its UIDs.
func (w *world) sentUIDs(path, body string) (uids []string) {
	w.t.Helper()
	r := ok[struct {
		MessageUIDs []struct{ MessageUID string }
	}](w.t, w.call(path, body))
	for _, m := range r.MessageUIDs {
		uids = append(uids, m.MessageUID)
	}
	return uids
}

func uidOf(t *testing.T, text string) chat.UID {
	t.Helper()
	uid, err := chat.ParseUID(text)
	if err != nil {
		t.Fatal(err)
	}
	return uid
}

func traceBody(uid, more string) string {
	if more != "" {
		more = "," + more
	}
	return `{"messageUID":"` + uid + `"` + more + `}`
}

type member struct {
	room.Place
	user string
}

func (m *member) User() string                   { return m.user }
func (*member) Deliver(*room.Batch, uint64) bool { return false }

func TestTrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ok[nothing](t, w.call(block, `{"userId":"eve","targetUserIds":["ann"]}`))
	const secret = "TOP-SECRET-CONTENT"
	send := `{"fromUserId":"ann","toUserIds":["bob","eve","dora"],"messageType":"app:text","content":"` + secret + `","verifyBlocklist":1,"isEchoToSender":1}`
	sent := w.call(direct, send, with("X-Request-ID", "order-77"))
	uids := ok[struct {
		MessageUIDs []struct{ MessageUID string }
	}](t, sent).MessageUIDs
	bob, dora := uids[0].MessageUID, uids[1].MessageUID
	at := w.clock.ms.Load()
	sentAt := uidOf(t, bob).Millis()

	head := func(uid string) string {
		return fmt.Sprintf(`{"code":0,"result":{"messageUID":"%s","origin":"server","fromUserId":"ann","requestId":"order-77","channelType":"direct","messageType":"app:text","sentAt":%d,"contentBytes":%d,"targetCount":2,"deliveriesKept":true,"recipients":[`,
			uid, sentAt, len(secret))
	}
	const tail = `],"leftOut":[{"userId":"eve","reason":"blocklist"}],"pageToken":""}}`
	away := func(uid, user string, copyAt int) string {
		return fmt.Sprintf(`{"messageUID":"%s","userId":"%s","offset":1,"sessions":[],"devices":[],"senderCopy":{"userId":"ann","offset":%d,"sessions":[],"devices":[]}}`, uid, user, copyAt)
	}
	want := func(body, answer string) {
		t.Helper()
		if r := w.call(tracePath, body); r.Body != answer {
			t.Errorf("%s:\ngot  %s\nwant %s", body, r.Body, answer)
		}
	}
	want(traceBody(bob, ""), head(bob)+away(bob, "bob", 1)+tail)
	want(`{"messageId":"`+dora+`"}`, head(dora)+away(dora, "dora", 2)+tail)
	want(`{"messageId":"`+dora+`","messageUID":"`+dora+`","all":null}`, head(dora)+away(dora, "dora", 2)+tail)
	want(traceBody(dora, `"all":true`), head(dora)+away(bob, "bob", 1)+","+away(dora, "dora", 2)+tail)
	if r := w.call("//v4x/message/trace", traceBody(bob, "")); r.Body != head(bob)+away(bob, "bob", 1)+tail {
		t.Errorf("with two slashes: %d %s", r.Status, r.Body)
	}
	if all := w.call(tracePath, traceBody(bob, `"all":1`)).Body; strings.Contains(all, secret) {
		t.Error("a trace shows the content:", all)
	}

	// What sessions have left, and what they know only when asked.
	phone := store.Delivery{App: w.app.ID, User: "bob", Session: [16]byte{1, 15: 2}, Device: "phone", Platform: "ios", Kind: store.DeliveryWritten, To: 1, From: at + 5, Until: at + 9}
	tab := store.Delivery{App: w.app.ID, User: "bob", Session: [16]byte{3}, Kind: store.DeliveryWritten, To: 40, From: at + 50, Until: at + 50}
	acked := phone
	acked.Kind, acked.From, acked.Until = store.DeliveryAcked, at+100, at+100
	must(t, w.store.PutDeliveries(t.Context(), []store.Delivery{tab, phone}))
	must(t, w.store.PutDevices(t.Context(), []store.UserDevice{
		{App: w.app.ID, User: "bob", Device: store.Device{ID: "phone", Epoch: w.store.Epoch(), Offset: 1, SeenAt: at + 1}},
		{App: w.app.ID, User: "bob", Device: store.Device{ID: "pad", Epoch: w.store.Epoch(), Offset: 0, SeenAt: at + 2}},
		{App: w.app.ID, User: "bob", Device: store.Device{ID: "old", Epoch: "another life", Offset: 99, SeenAt: at + 3}},
	}))
	var asked []string
	w.said.mu.Lock()
	w.said.settle = func(users []string) error {
		asked = append(asked, users...)
		return w.store.PutDeliveries(t.Context(), []store.Delivery{acked})
	}
	w.said.mu.Unlock()
	reached := fmt.Sprintf(`{"messageUID":"%s","userId":"bob","offset":1,"sessions":[`+
		`{"clientId":"01000000-0000-0000-0000-000000000002","deviceId":"phone","platform":"ios","written":{"from":%d,"until":%d},"acknowledged":{"from":%d,"until":%[4]d}},`+
		`{"clientId":"03000000-0000-0000-0000-000000000000","written":{"from":%[5]d,"until":%[5]d}}],`+
		`"devices":[{"deviceId":"phone","passed":true,"seenAt":%[6]d},{"deviceId":"pad","passed":false,"seenAt":%[7]d},{"deviceId":"old","passed":false,"seenAt":%[8]d}],`+
		`"senderCopy":{"userId":"ann","offset":1,"sessions":[],"devices":[]}}`, bob, at+5, at+9, at+100, at+50, at+1, at+2, at+3)
	want(traceBody(bob, ""), head(bob)+reached+tail)
	if !slices.Contains(asked, "bob") || !slices.Contains(asked, "ann") || slices.Contains(asked, "dora") {
		t.Error("settled:", asked)
	}
	w.restart()
	want(traceBody(bob, ""), head(bob)+reached+tail)

	// A disk that takes nothing any more can still be read.
	w.fs.free.Store(0)
	want(traceBody(bob, ""), head(bob)+reached+tail)
	w.fs.free.Store(1 << 40)

	// Past the time of missed messages the request is still known from history,
	// its delivery is not.
	w.clock.advance(8 * 24 * time.Hour)
	must(t, w.store.Expire(t.Context()))
	r := w.call(tracePath, traceBody(bob, ""))
	if !strings.Contains(r.Body, `"deliveriesKept":false,"recipients":[{"messageUID":"`+bob+`","userId":"bob","offset":1,"sessions":[],"devices":[]`) || !strings.Contains(r.Body, tail) {
		t.Error("after 8 days:", r.Body)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What has happened to the message of each recipient is told with it, and none
// of the content.
func TestTraceOfChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uids := w.sentUIDs(direct, withMeta)
	uid, untouched := uids[0], uids[1]
	want := func(uid, members string) {
		t.Helper()
		all := traceRecipients(t, w, uid)
		if want := `"devices":[]` + members + `,"senderCopy"`; !strings.Contains(all, want) {
			t.Errorf("got %s\nwant %s", all, want)
		}
	}
	want(uid, "")
	w.clock.advance(time.Minute)
	first := w.clock.ms.Load()
	w.call(updateDirectPath, updateBody(uid, "CHANGED")).want(t, 200, 0, "")
	w.call(setMeta, metaBody("u2", uid, `"metadata":{"k":"VALUE"}`)).want(t, 200, 0, "")
	want(uid, fmt.Sprintf(`,"updatedAt":%d,"metadata":{"version":1,"updatedAt":%[1]d,"told":true}`, first))
	w.clock.advance(500 * time.Millisecond)
	second := w.clock.ms.Load()
	w.call(deleteMeta, metaBody("u2", uid, `"keys":["k"]`)).want(t, 200, 0, "")
	want(uid, fmt.Sprintf(`,"updatedAt":%d,"metadata":{"version":2,"updatedAt":%d,"told":false}`, first, second))
	w.clock.advance(2 * time.Second)
	third := w.clock.ms.Load()
	// The pair is gone now, and with it when it went: the event's time stands for it.
	w.wantTold("u1", "map[k:VALUE] [] u2", "map[] [k] u2")
	want(uid, fmt.Sprintf(`,"updatedAt":%d,"metadata":{"version":2,"updatedAt":%d,"told":true}`, first, third))
	want(untouched, "")

	// Nothing lies over a message that is not there any more.
	w.call(recall, recallBody(uid, `,"isAdmin":1,"extra":"EXTRA"`)).want(t, 200, 0, "")
	recalled := fmt.Sprintf(`,"recall":{"operatorId":"u1","isAdmin":true,"isDelete":false,"recalledAt":%d}`, third)
	want(uid, recalled)
	w.restart()
	want(uid, recalled)
	want(untouched, "")
	room := w.post(open, `{"fromUserId":"u1","toChannelIds":["r1"],"messageType":"app:t","content":"x"}`)
	w.call(recall, fmt.Sprintf(`{"fromUserId":"u1","channelType":4,"channelId":"r1","messageUID":%q,"isDelete":1}`, room)).want(t, 200, 0, "")
	if all := traceRecipients(t, w, room); !strings.Contains(all, fmt.Sprintf(`"recall":{"operatorId":"u1","isAdmin":false,"isDelete":true,"recalledAt":%d}}`, uidOf(t, room).Millis())) { // never before it was sent
		t.Error(all)
	}
}

// traceRecipients is a trace, which must tell no content.
func traceRecipients(t *testing.T, w *world, uid string) string {
	t.Helper()
	r := w.call(tracePath, traceBody(uid, ""))
	for _, secret := range []string{"CHANGED", "VALUE", "EXTRA"} {
		if strings.Contains(r.Body, secret) {
			t.Errorf("a trace shows %s: %s", secret, r.Body)
		}
	}
	return r.Body
}

type herald struct{}

func (herald) PushRules(_ context.Context, app *chat.App) (push.Rules, error) {
	return push.RulesOf(&app.Settings), nil
}
func (herald) PushDecided(int64) bool { return false }

// What a message did to notify its recipients is told with it, in words that never
// change.
func TestTraceOfPush(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tracer.AttachPush(herald{})
	uids := w.sentUIDs(direct, set(sendBody(""), "toUserIds", list("bob", "carl", "dora")))
	want := func(uid, push string) {
		t.Helper()
		if all := w.call(tracePath, traceBody(uid, "")).Body; !strings.Contains(all, `"devices":[],"push":`+push+`}],"leftOut"`) {
			t.Errorf("got %s\nwant %s", all, push)
		}
	}
	want(uids[0], `{"effect":"none","reason":"pending","devices":[]}`)
	ref := uidOf(t, uids[0])
	must(t, w.store.ChangePush(t.Context(), &store.PushChange{
		Reasons: []store.PushReasonsOf{{Ref: ref, Count: 3, Reasons: []uint8{uint8(push.ReasonAway), uint8(push.ReasonNoDevice), uint8(push.ReasonAway)}}},
		Outcomes: []store.PushOutcome{
			{UID: ref, Device: "pad", Provider: chat.OPPO, Class: "token_dead", Code: "10000", Token: "…abc\"", Attempts: 3, At: 17, Cut: uint8(push.CutTitle | push.CutData)},
			{UID: ref, Device: "phone", Provider: chat.APNs, Class: "accepted", ID: "i/1", Token: "…def", Attempts: 1, At: 18},
			{UID: ref, Device: "wrist", Provider: chat.APNs, Kind: store.PushWithdraw, Class: "expired", At: 19},
		},
	}))
	want(uids[0], `{"effect":"alert","reason":"away","devices":[`+
		`{"deviceId":"pad","provider":"OPPO","token":"…abc\"","class":"token_dead","code":"10000","attempts":3,"at":17,"cut":["data","title"]},`+
		`{"deviceId":"phone","provider":"APNs","token":"…def","class":"accepted","id":"i/1","attempts":1,"at":18},`+
		`{"deviceId":"wrist","provider":"APNs","withdrawn":true,"class":"expired","attempts":0,"at":19}]}`)
	want(uids[1], `{"effect":"none","reason":"no_device","devices":[]}`)
	want(uids[2], `{"effect":"alert","reason":"away","devices":[]}`)
	w.set("push.enabled", "false")
	want(w.sentUIDs(direct, sendBody(""))[0], `{"effect":"none","reason":"push_off","devices":[]}`)
}

// Whatever reason a trace gives is one that its description knows.
func TestReasonsAreDescribed(t *testing.T) {
	t.Parallel()
	doc, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	known := doc.Components.Schemas["TracePush"].Value.Properties["reason"].Value.Enum
	for _, r := range push.Reasons() {
		if !slices.Contains(known, any(r.String())) {
			t.Errorf("%s is not described", r)
		}
	}
	if len(known) != len(push.Reasons())+1 { // pending
		t.Errorf("%v", known)
	}
}

// A shorter retention of the app's counts for its traces.
func TestTraceRetention(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "missed.days", "1", "history.enabled", "false")
	uid := w.sentUIDs(direct, sendBody(""))[0]
	kept := func() bool {
		t.Helper()
		return strings.Contains(w.call(tracePath, traceBody(uid, "")).Body, `"deliveriesKept":true`)
	}
	if !kept() {
		t.Error("on the day itself")
	}
	w.clock.advance(24 * time.Hour)
	if !kept() {
		t.Error("on the next day")
	}
	w.clock.advance(24 * time.Hour)
	if kept() {
		t.Error("two days later")
	}
	w.clock.advance(7 * 24 * time.Hour)
	must(t, w.store.Expire(t.Context()))
	w.call(tracePath, traceBody(uid, "")).want(t, 404, 1002, "messageUID: no such message, or not kept any more")
}

func TestTracePages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var to []string
	for i := range 250 {
		to = append(to, fmt.Sprint("u", i))
	}
	uids := w.sentUIDs(direct, set(sendBody(""), "toUserIds", list(to...)))
	var got []string
	var pages []int
	for token := ""; ; {
		r := ok[struct {
			TargetCount int
			Recipients  []struct{ MessageUID, UserID string }
			PageToken   string
		}](t, w.call(tracePath, traceBody(uids[7], `"all":1,"pageSize":"120","pageToken":"`+token+`"`)))
		if r.TargetCount != 250 {
			t.Errorf("%d targets", r.TargetCount)
		}
		for _, rec := range r.Recipients {
			if rec.MessageUID != uids[len(got)] {
				t.Fatalf("recipient %d is %s", len(got), rec.MessageUID)
			}
			got = append(got, rec.UserID)
		}
		pages = append(pages, len(r.Recipients))
		if token = r.PageToken; token == "" {
			break
		}
	}
	if !slices.Equal(got, to) || !slices.Equal(pages, []int{120, 120, 10}) {
		t.Errorf("%d recipients in pages of %v", len(got), pages)
	}
	if r := ok[struct{ Recipients []nothing }](t, w.call(tracePath, traceBody(uids[0], `"all":1`))); len(r.Recipients) != 100 {
		t.Errorf("a usual page has %d", len(r.Recipients))
	}
}

func TestTraceOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 3 {
		w.rooms.Enter(room.Key{App: w.app.ID, Channel: "lobby"}, &member{user: "m"}, nil, "")
	}
	uids := w.sentUIDs(open, `{"fromUserId":"ann","toChannelIds":["lobby","den"],"messageType":"app:text","content":"x"}`)
	end := time.Now().Add(time.Minute)
	for want := `"recipients":[{"messageUID":"` + uids[0] + `","channelId":"lobby","queuedFor":3},{"messageUID":"` + uids[1] + `","channelId":"den","queuedFor":0}],"leftOut":[],"pageToken":""`; ; {
		r := w.call(tracePath, traceBody(uids[1], `"all":1`))
		if strings.Contains(r.Body, want) {
			break
		}
		if time.Now().After(end) {
			t.Fatal(r.Body)
		}
		time.Sleep(time.Millisecond)
		w.clock.advance(time.Second) // for the rate limit
	}
	// What is never stored has no trace.
	uids = w.sentUIDs(open, `{"fromUserId":"ann","toChannelIds":["lobby"],"messageType":"app:text","content":"x","shouldPersist":0}`)
	w.call(tracePath, traceBody(uids[0], "")).want(t, 404, 1002, "messageUID: no such message; those that are never stored have no trace")
}

func TestTraceRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.sentUIDs(direct, sendBody(""))[0]
	never := uidOf(t, uid).Plus(1).String()
	for _, c := range []struct {
		body    string
		status  int
		message string
	}{
		{`{}`, 400, "messageUID: is required"},
		{`{"messageUID":"","messageId":null}`, 400, "messageUID: is required"},
		{`{"messageUID":7}`, 400, "messageUID: must be a string, got 7"},
		{`{"messageUID":"nonsense"}`, 400, "messageUID: is not a message UID"},
		{`{"messageId":"nonsense"}`, 400, "messageId: is not a message UID"},
		{`{"messageUID":"` + uid + `","messageId":"` + never + `"}`, 400, "messageId: names another message than messageUID; give one of them"},
		{traceBody(uid, `"all":2`), 400, "all: 0 or 1, got 2"},
		{traceBody(uid, `"all":1,"pageSize":0`), 400, "pageSize: from 1 to 200, got 0"},
		{traceBody(uid, `"pageSize":201`), 400, "pageSize: from 1 to 200, got 201"},
		{traceBody(uid, `"all":1,"pageToken":"?"`), 400, "pageToken: is not one that an answer about this message gave"},
		{traceBody(uid, `"all":1,"pageToken":"2s"`), 400, "pageToken: is not one that an answer about this message gave"},
		{traceBody(never, ""), 404, "messageUID: no such message; those that are never stored have no trace"},
		{traceBody(chat.NewUID(1, chat.Direct, 1, 1).String(), ""), 404, "messageUID: no such message, or not kept any more"},
	} {
		w.call(tracePath, c.body).want(t, c.status, 1002, c.message)
	}
	// What another app has looks like what nobody has.
	mine := w.app
	w.app = w.newApp("another-app", "another-secret")
	w.call(tracePath, traceBody(uid, "")).want(t, 404, 1002, "messageUID: no such message; those that are never stored have no trace")
	w.app = mine
	w.set("limits.default", "1/m")
	ok[nothing](t, w.call(tracePath, traceBody(uid, "")))
	w.call(tracePath, traceBody(uid, "")).want(t, 429, 1008, "")
}

func (*member) Evict(room.Reason) {}
