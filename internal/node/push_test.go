package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/client"
	"github.com/parleychat/parley/internal/store/pebble"
	"github.com/parleychat/parley/internal/websocket"
)

// A tower is a house whose clock can be moved on, with an app that can push. Nothing
// answers where its pushes go.
type tower struct {
	*house
	skipped *atomic.Int64
}

func newTower(t *testing.T, change ...func(*Config)) *tower {
	t.Helper()
	c := testConfig(t)
	c.Trace = true
	for _, f := range change {
		f(&c)
	}
	w := &tower{skipped: new(atomic.Int64)}
	w.house = startHouse(t, c, w.clock)
	w.set("auth.window", "0")
	w.done("/v4x/push/credential/set", `{"provider":"MEIZU","credential":{"appId":"1","appSecret":"s"}}`)
	return w
}

func (w *tower) clock(o *pebble.Options) {
	o.Now = func() time.Time { return time.Now().Add(time.Duration(w.skipped.Load())) }
}

// pass moves the clock on.
func (w *tower) pass(d time.Duration) { w.skipped.Add(int64(d)) }

func (w *tower) done(path, body string) string {
	w.t.Helper()
	answer := w.call(path, body)
	if !strings.HasPrefix(answer, `{"code":0`) {
		w.t.Fatalf("%s %s: %s", path, body, answer)
	}
	return answer
}

func (w *tower) register(user string) {
	w.t.Helper()
	w.done("/v4x/push/device/register", fmt.Sprintf(`{"userId":%q,"deviceId":"phone","provider":"MEIZU","token":"token-of-%s"}`, user, user))
}

// say sends a text and gives the UIDs.
func (w *tower) say(more string, to ...string) (uids []string) {
	w.t.Helper()
	list, err := json.Marshal(to)
	if err != nil {
		w.t.Fatal(err)
	}
	if !strings.Contains(more, "messageType") {
		more += `,"messageType":"RC:TxtMsg"`
	}
	answer := w.done(sendPath, fmt.Sprintf(`{"fromUserId":"ann","toUserIds":%s,"content":"{\"content\":\"hi\"}"%s}`, list, more))
	var sent struct {
		Result struct {
			MessageUIDs []struct{ MessageUID string }
		}
	}
	if err := json.Unmarshal([]byte(answer), &sent); err != nil || len(sent.Result.MessageUIDs) != len(to) {
		w.t.Fatalf("%v: %s", err, answer)
	}
	for _, u := range sent.Result.MessageUIDs {
		uids = append(uids, u.MessageUID)
	}
	return uids
}

// why is what the trace says of notifying the message's recipient.
func (w *tower) why(uid string) string {
	w.t.Helper()
	var v struct {
		Result struct {
			Recipients []struct {
				Push *struct{ Effect, Reason string }
			}
		}
	}
	answer := w.done("/v4x/message/trace", `{"messageUID":"`+uid+`"}`)
	if err := json.Unmarshal([]byte(answer), &v); err != nil || len(v.Result.Recipients) != 1 {
		w.t.Fatalf("%v: %s", err, answer)
	}
	p := v.Result.Recipients[0].Push
	if p == nil {
		return "nothing is known"
	}
	return p.Effect + " " + p.Reason
}

func (w *tower) want(uid, why string) {
	w.t.Helper()
	got := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got = w.why(uid); got == why {
			return
		}
		if got != "none pending" {
			break
		}
	}
	w.t.Errorf("%s, want %s", got, why)
}

// connect connects a client that answers pings as it should.
func (w *tower) connect(user, data string) *client.Client {
	w.t.Helper()
	c, err := client.Dial(w.t.Context(), client.Options{URL: w.socket(), Token: w.token(user), Data: json.RawMessage(data)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

func (w *tower) socket() string {
	return "ws" + strings.TrimPrefix(w.base, "http") + "/connection/websocket"
}

func (w *tower) token(user string) string {
	w.t.Helper()
	token, err := w.Admin().IssueToken(w.t.Context(), "app", user, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return token.Token
}

// fall connects a client that falls silent once it is connected.
func (w *tower) fall(user string) {
	w.t.Helper()
	ws, err := websocket.Dial(w.t.Context(), w.socket(), websocket.DialOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ws.Abort() })
	if err := ws.WriteText([]byte(`{"connect":{"token":"` + w.token(user) + `","data":{"deviceId":"silent"}},"id":1}`)); err != nil {
		w.t.Fatal(err)
	}
	if _, b, err := ws.ReadMessage(); err != nil || !strings.Contains(string(b), `"connect"`) {
		w.t.Fatalf("%s, %v", b, err)
	}
}

// Of every recipient the trace says why they are notified or not, from the moment
// the message is sent.
func TestWhyNotified(t *testing.T) {
	t.Parallel()
	w := newTower(t)
	want := []string{
		"ann", "none copy", "away", "alert away", "nobody", "none no_device", "banned", "none banned", "deleted", "none deleted", "muted", "none level",
		"quiet", "none quiet_hours", "read", "none read", "recalled", "none recalled", "phone", "none reached", "desk", "none reached_desktop", "dead", "alert away",
		"foreign", "none no_credential",
	}
	var users []string
	for i := 0; i < len(want); i += 2 {
		users = append(users, want[i])
		w.token(want[i])
		if want[i] != "nobody" && want[i] != "foreign" {
			w.register(want[i])
		}
	}
	w.done("/v4x/push/device/register", `{"userId":"foreign","deviceId":"phone","provider":"HONOR","token":"t"}`)
	w.done("/v4/user/ban", `{"userIds":["banned"],"durationMinutes":60}`)
	w.done("/v4/user/soft-delete", `{"userIds":["deleted"]}`)
	w.done("/v4/channel-type/push/set", `{"userId":"muted","channelType":1,"notificationLevel":5}`)
	quiet := w.connect("quiet", `{}`)
	if _, err := quiet.RPC(t.Context(), "channel.notification", json.RawMessage(`{"quietHours":{"from":"00:00","to":"23:59"}}`)); err != nil {
		t.Fatal(err)
	}
	quiet.Close()
	w.connect("phone", `{"deviceId":"phone","platform":"ios"}`)
	w.connect("desk", `{"deviceId":"desk","platform":"web"}`)
	w.fall("dead")

	uids := w.say("", users...)
	of := func(user string) string { return uids[slices.Index(users, user)] }
	for _, uid := range uids {
		if got := w.why(uid); got != "none pending" {
			t.Errorf("before the grace is over: %s", got)
		}
	}
	// Whoever reads it stays away afterwards, but for the cursor, which is of a
	// device that has no push.
	reader := w.connect("read", `{}`)
	if _, err := reader.RPC(t.Context(), "message.read", json.RawMessage(`{"channelType":"direct","channelId":"ann","upTo":"`+of("read")+`"}`)); err != nil {
		t.Fatal(err)
	}
	reader.Close()
	w.until("nobody is connected any more as read", func() bool { return !w.gateway.Foreground(1, "read") })
	w.done("/v4/message/delete", fmt.Sprintf(`{"fromUserId":"ann","channelType":1,"channelId":"recalled","messageUID":%q}`, of("recalled")))
	// Nobody has answered a ping yet: they are due in 12 seconds at the earliest. So
	// who is connected is asked for a pong, and looked at once more.
	w.pass(4 * time.Second)
	w.want(of("away"), "alert away")
	w.until("the pongs are here", func() bool { return w.acked("phone", "desk") })
	if got := w.why(of("dead")); got != "none pending" {
		t.Errorf("dead, before the patience is over: %s", got)
	}
	w.pass(10 * time.Second)
	for i := 0; i < len(want); i += 2 {
		w.want(of(want[i]), want[i+1])
	}

	// What the message alone decides is said at once.
	for more, want := range map[string]string{
		`,"disablePush":true`:         "none disabled",
		`,"messageType":"RC:CmdMsg"`:  "none no_text",
		`,"messageType":"RC:InfoNtf"`: "none no_text",
	} {
		if got := w.why(w.say(more, "away")[0]); got != want {
			t.Errorf("%s: %s, want %s", more, got, want)
		}
	}
	uid := w.say("", "away")[0]
	w.set("push.enabled", "false")
	if got := w.why(uid); got != "none push_off" {
		t.Errorf("switched off: %s", got)
	}
	if got := w.why(of("away")); got != "alert away" {
		t.Errorf("what was notified before: %s", got)
	}
	w.set("push.enabled", "true")
	w.set("push.lifetime", "1m")
	w.set("push.despite-desktop", "true")
	uids = w.say("", "away", "desk", "phone")
	w.pass(time.Hour)
	w.want(uids[0], "none late")
	w.done("/v4x/push/credential/remove", `{"provider":"MEIZU"}`)
	if got := w.why(w.say("", "away")[0]); got != "none push_off" {
		t.Errorf("without credentials: %s", got)
	}
	w.metrics("parley_push_decisions_total{effect=\"none\",reason=\"reached_desktop\"} 1", "parley_push_decisions_total{effect=\"none\",reason=\"disabled\"} 1")
}

func (w *tower) set(name, value string) {
	w.t.Helper()
	if _, err := w.Admin().SetApp(w.t.Context(), "app", map[string]string{name: value}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *tower) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("waiting in vain: %s", what)
		}
	}
}

// acked reports whether each of the users has acknowledged what they were given on
// the connection that they have.
func (w *tower) acked(users ...string) bool {
	for _, u := range users {
		list, _ := w.gateway.Cursors(1, u)
		if len(list) == 0 || list[0].Offset == 0 {
			return false
		}
	}
	return true
}

func (w *tower) metrics(lines ...string) {
	w.t.Helper()
	for _, line := range lines {
		w.until("/metrics says "+line, func() bool {
			_, body, _ := w.get("/metrics")
			return strings.Contains(body, line+"\n")
		})
	}
}

// After a restart everybody is decided upon who was not before: within the grace as
// well as between two looks.
func TestWhyNotifiedOverRestart(t *testing.T) {
	t.Parallel()
	w := newTower(t)
	w.register("bob")
	w.register("dead")
	w.fall("dead")
	first := w.say("", "dead", "bob")
	w.pass(4 * time.Second)
	w.want(first[1], "alert away")
	second := w.say("", "bob")[0]
	if got := w.why(first[0]) + w.why(second); got != "none pendingnone pending" {
		t.Error(got)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	w.house = startHouse(t, w.config, w.clock)
	w.pass(20 * time.Second)
	w.want(second, "alert away")
	w.want(first[0], "alert away")
	w.want(first[1], "alert away")
}
