package serverapi

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/store"
)

// cast is the answer to a broadcast.
type cast struct {
	ID, MessageUID, MessageID string
	MessageUIDs               []struct{ UserID, MessageUID string }
	MessageIDs                []struct{ UserID, MessageID string }
}

const castBody = `{"fromUserId":"news","messageType":"RC:TxtMsg","content":"{\"content\":\"hi\"}"}`

// comes is what the gateway does for a user who connects.
func (w *world) comes(user string, client ...chat.Client) {
	w.t.Helper()
	u, err := w.store.User(w.t.Context(), w.app.ID, user)
	if chat.KindOf(err) == chat.KindNoUser {
		u = &chat.User{ID: user, CreatedAt: time.UnixMilli(1)}
	} else if err != nil {
		w.t.Fatal(err)
	}
	c := chat.Client{}
	for _, c = range client {
	}
	if _, err := w.courier.Courier.(*courier.Courier).Touch(w.t.Context(), w.app, u, c); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) goOnline(user string, client chat.Client) {
	w.said.mu.Lock()
	defer w.said.mu.Unlock()
	key := strconv.Itoa(int(w.app.ID)) + "/" + user
	w.said.online[key] = true
	if w.said.clients == nil {
		w.said.clients = map[string]chat.Client{}
	}
	w.said.clients[key] = client
}

// given waits until the user's timeline is this.
func (w *world) given(user string, want ...string) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); !slices.Equal(w.timeline(user), want) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	w.wantTimeline(user, want...)
}

// first is the message of the user's first entry.
func (w *world) first(user string) (chat.UID, *chat.Message) {
	w.t.Helper()
	entries, err := w.store.Read(w.t.Context(), w.app.ID, user, store.Range{Limit: 1}, nil)
	if err != nil || len(entries) != 1 {
		w.t.Fatalf("%s has %d entries, %v", user, len(entries), err)
	}
	m, err := w.store.Message(w.t.Context(), entries[0].Ref)
	if err != nil {
		w.t.Fatal(err)
	}
	return entries[0].UID, m
}

func TestBroadcasts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.goOnline("ann", chat.Client{})
	const hi = `in {"content":"hi"}`
	body := strings.TrimSuffix(castBody, "}") + `,"pushContent":"look","pushData":"d","contentAvailable":1,"pushExt":"{\"title\":\"t\"}","disableUpdateLastMsg":true}`
	key := with("Idempotency-Key", "k")
	r := w.call(castAll, body, key, with("X-Request-ID", "order-1"))
	all := ok[cast](t, r)
	if all.MessageUID == "" || all.MessageID != all.MessageUID || all.ID != "" || all.MessageUIDs != nil {
		t.Errorf("%+v", all)
	}
	again := w.call(castAll, body, key)
	if again.Body != r.Body || again.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("repeated: %s, not %s", again.Body, r.Body)
	}
	w.given("ann", hi)
	w.clock.advance(time.Hour)
	w.comes("bob")
	w.given("bob", hi)
	uid, m := w.first("bob")
	if uid.String() == all.MessageUID || uid.Millis() < w.clock.ms.Load() || m.From != "news" || m.ChannelType != chat.System || m.RequestID != "order-1" || !m.DisableUpdateLast ||
		m.Push != (chat.PushOptions{Content: "look", Data: "d", ContentAvailable: true, Ext: `{"title":"t"}`}) {
		t.Errorf("%s %+v", uid, m)
	}

	online := ok[cast](t, w.call(castOnline, castBody))
	w.given("ann", hi, hi)
	w.call(castRecall, `{"fromUserId":"news","messageUID":"`+online.MessageID+`"}`).want(t, 400, 1002, "messageUID: a broadcast to those who are online cannot be recalled")

	// What became of it, by its own UID and by that of one who was given it.
	traced := func() string { return w.call(tracePath, `{"messageUID":"`+all.MessageUID+`"}`).Body }
	if got := traced(); !strings.Contains(got, `"requestId":"order-1"`) || !strings.Contains(got, `"broadcast":{"kind":"all","until":`) || !strings.Contains(got, `"taken":2,"takenMore":false}`) {
		t.Error(got)
	}
	if got := w.call(tracePath, `{"messageUID":"`+uid.String()+`"}`).Body; !strings.Contains(got, `"userId":"bob","offset":1`) {
		t.Error(got)
	}
	w.call(tracePath, `{"messageUID":"`+chat.NewUID(w.clock.ms.Load(), chat.System, 99, 1).String()+`"}`).want(t, 404, 1002, "")

	recallBody := `{"fromUserId":"news","messageId":"` + all.MessageID + `","sentAt":5,"isAdmin":1,"extra":"x","disableUpdateLastMsg":0}`
	for range 2 {
		w.call(castRecall, recallBody).want(t, 200, 0, "")
		w.restart()
	}
	w.goOnline("ann", chat.Client{})
	w.comes("bob")
	w.given("bob", hi, hi, "in recall "+uid.String())
	w.comes("carol")
	w.given("carol", hi) // the one to those online
	if got := traced(); !strings.Contains(got, `"recalledAt":`+strconv.FormatInt(w.clock.ms.Load(), 10)+`}`) {
		t.Error(got)
	}
	if got := w.history(directHistory, w.allOf("bob", "news")); len(got) != 0 {
		t.Errorf("in history: %+v", got)
	}
}

func TestBroadcastsInHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "broadcast.history", "true")
	w.call(castAll, castBody).want(t, 200, 0, "")
	w.comes("bob")
	page, err := w.courier.History(t.Context(), w.app, &courier.HistoryQuery{User: "bob", Type: chat.System, Channel: "news", Limit: 10})
	if err != nil || len(page.Messages) != 1 || page.Messages[0].Message.Content != `{"content":"hi"}` {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestBroadcastsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := ok[cast](t, w.call(castAll, castBody)).MessageUID
	for _, c := range []struct {
		path, body      string
		status, code    int
		message, sample string
	}{
		{path: castAll, body: set(castBody, "fromUserId", ""), status: 400, code: 1002, message: "fromUserId: is required"},
		{path: castAll, body: set(castBody, "messageType", ""), status: 400, code: 1002, message: "messageType: is required"},
		{path: castAll, body: set(castBody, "content", ""), status: 400, code: 1002, message: "content: is required"},
		{path: castAll, body: set(castBody, "messageType", `"RC:TypSts"`), status: 400, code: 1002,
			message: "messageType: messages of this type are never kept, so they can be broadcast only to those who are online"},
		{path: castAll, body: set(castBody, "pushExt", `"{\"title\":1}"`), status: 400, code: 1002, message: "pushExt.title: must be a string, got 1"},
		{path: castOnline, body: set(castBody, "content", `"x"`), status: 400, code: 1002, message: "content: must be a JSON object for built-in type RC:TxtMsg"},
		{path: castRecall, body: `{"messageUID":"` + uid + `"}`, status: 400, code: 1002, message: "fromUserId: is required"},
		{path: castRecall, body: `{"fromUserId":"news"}`, status: 400, code: 1002, message: "messageUID: is required"},
		{path: castRecall, body: `{"fromUserId":"news","messageUID":"x"}`, status: 400, code: 1002, message: "messageUID: not a message UID"},
		{path: castRecall, body: `{"fromUserId":"eve","messageUID":"` + uid + `"}`, status: 400, code: 1002, message: "fromUserId: did not send this message"},
		{path: castRecall, body: `{"fromUserId":"news","messageUID":"F427-NLW2-2J22-2223"}`, status: 404, code: 1002, message: "messageUID: no such broadcast of the last 7 days"},
		{path: castRecall, body: `{"fromUserId":"news","messageUID":"` + uid + `","extra":"` + strings.Repeat("x", 4097) + `"}`, status: 400, code: 1005, message: "extra: at most 4096 characters, got 4097"},
	} {
		w.call(c.path, c.body).want(t, c.status, c.code, c.message)
	}
	other := w.newApp("other", "another-secret")
	w.do(http.MethodPost, castRecall, w.signed(other), `{"fromUserId":"news","messageUID":"`+uid+`"}`).want(t, 404, 1002, "")
	w.do(http.MethodPost, tracePath, w.signed(other), `{"messageUID":"`+uid+`"}`).want(t, 404, 1002, "")

	// The hour has two.
	w.call(castAll, castBody).want(t, 200, 0, "")
	r := w.call(castAll, castBody)
	r.want(t, 429, 1008, "over the limit of 2/h: 1 asked, 0 left")
	if r.Header.Get("Retry-After") != "1800" {
		t.Error(r.Header)
	}
	w.call(byTag, pushBody(`"isToAll":1`)).want(t, 429, 1008, "")
	for range 60 {
		w.call(castOnline, castBody).want(t, 200, 0, "")
	}
	w.call(castOnline, castBody).want(t, 429, 1008, "over the limit of 60/m: 1 asked, 0 left")
	w.clock.advance(time.Hour)
	w.set("users.registered-only", "true")
	w.call(castAll, castBody).want(t, 400, 400, "")
	w.set("broadcast.enabled", "false")
	for _, path := range []string{castAll, castOnline} {
		w.call(path, castBody).want(t, 430, 1009, "broadcasts are switched off for this app (broadcast.enabled)")
	}
	w.call(byTag, pushBody(`"tag":["a"]`)).want(t, 430, 1009, "")
	// A mistake can still be taken back.
	w.call(castRecall, `{"fromUserId":"news","messageUID":"`+uid+`"}`).want(t, 200, 0, "")
}

func pushBody(audience string) string {
	return `{"platform":["ios","android"],"fromUserId":"news","audience":{` + audience + `},
		"message":{"messageType":"RC:TxtMsg","content":"{\"content\":\"hi\"}","disableUpdateLastMsg":1},
		"notification":{"title":"News","alert":"look","forceShowPushContent":1,"ios":{"badge": 3},"android":{"channelId":"c"},"harmonyOS":null}}`
}

func TestSendByTag(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.broadcast-hour", "0", "limits.broadcast-day", "0")
	const hi = `in {"content":"hi"}`
	w.call(setTags, `{"userIds":["ann","bob"],"tags":["beta","de"]}`).want(t, 200, 0, "")
	w.call(setTags, `{"userIds":["eve"],"tags":["beta"]}`).want(t, 200, 0, "")
	token(t, w.call(issue, `{"userId":"ann","name":"Ann","avatarUrl":""}`))
	w.goOnline("ann", chat.Client{Platform: "web"})
	w.goOnline("eve", chat.Client{})
	sent := ok[cast](t, w.call(byTag, pushBody(`"tag":["beta"],"tagOr":["fr","de"],"userId":[]`)))
	if sent.ID == "" || sent.MessageUID != sent.ID || sent.MessageID != sent.ID || sent.MessageUIDs != nil {
		t.Errorf("%+v", sent)
	}
	w.given("ann", hi)
	w.comes("bob")
	w.comes("bob")
	w.wantTimeline("bob", hi)
	if _, m := w.first("bob"); !m.DisableUpdateLast || m.Push != (chat.PushOptions{
		Content: "look", Ext: `{"title":"News","forceShowPushContent":1}`,
		More: `{"platform":["ios","android"],"ios":{"badge":3},"android":{"channelId":"c"}}`,
	}) {
		t.Errorf("%+v", m)
	}
	w.comes("eve")
	w.wantTimeline("eve")
	w.call(castRecall, `{"fromUserId":"news","messageUID":"`+sent.ID+`"}`).want(t, 400, 1002, "messageUID: only broadcasts to all users can be recalled")

	// By the older path, to all.
	ok[cast](t, w.call("/v4/system-channel/push", pushBody(`"isToAll":true,"tag":["nobody"]`)))
	w.given("eve", hi)

	// To users who are named: at once, and whatever the tags.
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprint("many", i%999) // one twice
	}
	named := ok[cast](t, w.call(byTag, pushBody(`"userId":`+list(many...)+`,"tag":["nobody"]`)))
	if len(named.MessageUIDs) != 999 || len(named.MessageIDs) != 999 || named.MessageUIDs[0].MessageUID != named.ID || named.MessageUIDs[998].UserID != "many998" ||
		named.MessageIDs[998].MessageID != named.MessageUIDs[998].MessageUID {
		t.Errorf("%d, %s", len(named.MessageUIDs), named.ID)
	}
	w.wantTimeline("many998", hi)
	if uid, _ := w.first("many998"); uid.String() != named.MessageUIDs[998].MessageUID {
		t.Error(uid)
	}
	// One message of theirs is recalled as any is.
	w.call("/v4/message/delete", `{"fromUserId":"news","channelType":6,"channelId":"many998","messageUID":"`+named.MessageUIDs[998].MessageUID+`"}`).want(t, 200, 0, "")
	w.comes("many998")
	w.wantTimeline("many998", hi, "in recall "+named.MessageUIDs[998].MessageUID, hi)
}

func TestSendByPackage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const hi = `in {"content":"hi"}`
	w.call(setTags, `{"userIds":["bob"],"tags":["beta"]}`).want(t, 200, 0, "")
	w.goOnline("ann", chat.Client{Platform: "iOS", Package: "com.example.app"})
	w.goOnline("eve", chat.Client{Platform: "ios", Package: "com.example.other"})
	if sent := ok[cast](t, w.call(byPackage, pushBody(`"packageName":"com.example.app","isToAll":false`))); sent.ID == "" || sent.MessageID != sent.ID {
		t.Errorf("%+v", sent)
	}
	w.given("ann", hi)
	w.comes("eve", chat.Client{Platform: "ios", Package: "com.example.other"})
	w.comes("eve", chat.Client{Platform: "web", Package: "com.example.app"})
	w.wantTimeline("eve")
	ok[cast](t, w.call(byPackage, pushBody(`"packageName":"com.example.app","tag":["beta"]`)))
	w.comes("bob", chat.Client{Platform: "android", Package: "com.example.app"})
	w.wantTimeline("bob", hi, hi)
	w.comes("ann", chat.Client{Platform: "ios", Package: "com.example.app"})
	w.wantTimeline("ann", hi)
}

func TestPushRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := pushBody(`"tag":["a"]`)
	manyTags := strings.Replace(ids(21), "[", `"tag":[`, 1)
	for _, c := range []struct {
		path, body string
		code       int
		message    string
	}{
		{byTag, set(good, "platform", ""), 1002, "platform: is required"},
		{byTag, set(good, "platform", "[]"), 1002, "platform: is required"},
		{byTag, set(good, "platform", `"ios"`), 1002, "platform: must be an array of strings, got a string"},
		{byTag, set(good, "platform", `[""]`), 1002, "platform: names of 1 to 32 characters, got one of 0"},
		{byTag, set(good, "fromUserId", ""), 1002, "fromUserId: is required"},
		{byTag, set(good, "audience", ""), 1002, "audience: is required"},
		{byTag, set(good, "message", ""), 1002, "message: is required"},
		{byTag, set(good, "notification", ""), 1002, "notification: is required"},
		{byTag, set(good, "audience", "{}"), 1002, "audience: one of userId, tag, tagOr, packageName and isToAll is required"},
		{byTag, set(good, "audience", `{"isToAll":0,"tags":["a"]}`), 1002, "audience: one of userId, tag, tagOr, packageName and isToAll is required"},
		{byTag, set(good, "audience", `[]`), 1002, "audience: must be a JSON object, got an array"},
		{byTag, pushBody(manyTags), 1002, "audience.tag: at most 20 items, got 21"},
		{byTag, pushBody(strings.Replace(manyTags, "tag", "tagOr", 1)), 1002, "audience.tagOr: at most 20 items, got 21"},
		{byTag, pushBody(`"tag":[""]`), 1002, "audience.tag: must not be empty"},
		{byTag, pushBody(`"userId":` + ids(1001)), 1002, "audience.userId: at most 1000 items, got 1001"},
		{byTag, pushBody(`"userId":["a","b c"]`), 1002, "audience.userId[1]: must not contain spaces or control characters"},
		{byTag, set(good, "message", `{"messageType":"RC:TxtMsg"}`), 1002, "message.content: is required"},
		{byTag, set(good, "message", `{"content":"x"}`), 1002, "message.messageType: is required"},
		{byTag, set(good, "message", `{"messageType":"`+strings.Repeat("x", 33)+`","content":"x"}`), 1005, "message.messageType: at most 32 characters, got 33"},
		{byTag, set(good, "notification", `{"title":"`+strings.Repeat("ü", 51)+`"}`), 1005, "notification.title: at most 50 characters, got 51"},
		{byTag, set(good, "notification", `{"alert":"`+strings.Repeat("x", 16385)+`"}`), 1005, "notification.alert: at most 16384 bytes, got 16385"},
		{byTag, set(good, "notification", `{"forceShowPushContent":2}`), 1002, "notification.forceShowPushContent: 0 or 1, got 2"},
		{byTag, set(good, "notification", `{"ios":"x"}`), 1002, "notification.ios: must be a JSON object, got a string"},
		{byTag, set(good, "notification", `{"ios":{"badge":"many"}}`), 1002, `notification.ios.badge: must be a whole number, got "many"`},
		{byTag, set(good, "notification", `{"android":{"oppo":{"notify_level":3}}}`), 1002, "notification.android.oppo.notify_level: one of 1, 2, 16, got 3"},
		{byTag, set(good, "notification", `{"ios":{"title":"`+strings.Repeat("x", 51)+`"}}`), 1005, "notification.ios.title: at most 50 characters, got 51"},
		{byPackage, set(pushBody(`"packageName":"p"`), "notification", `{"harmonyOS":{"ohos":{"image":"x"}}}`), 1002, "notification.harmonyOS.ohos.image: must be an https URL"},
		{byTag, set(good, "notification", `{"ios":{"a":"`+strings.Repeat("x", 20<<10)+`"},"android":{"a":"`+strings.Repeat("x", 20<<10)+`"}}`), 1005,
			"notification.android: at most 32768 bytes together with the other platforms' objects, got 40976"},
		{byPackage, good, 1002, "audience.packageName: is required"},
		{byPackage, pushBody(`"isToAll":1`), 1002, "audience.packageName: is required"},
		{byPackage, pushBody(`"packageName":"p","userId":["a"]`), 1002, "audience.userId: cannot be given beside packageName"},
		{byPackage, pushBody(`"packageName":"` + strings.Repeat("x", 129) + `"`), 1005, "audience.packageName: at most 128 bytes, got 129"},
	} {
		w.call(c.path, c.body).want(t, 400, c.code, c.message)
	}
	if list, err := w.store.Broadcasts(t.Context(), w.clock.ms.Load()); err != nil || len(list) != 0 {
		t.Errorf("refused calls left %d broadcasts, %v", len(list), err)
	}
	w.call(byTag, set(good, "notification", `{}`)).want(t, 200, 0, "")
}
