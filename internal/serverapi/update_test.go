package serverapi

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const updateDirectPath = "/v4/direct-channel/message/update"

func init() { archiveTables[updateDirectPath] = contentFields.Names() }

func updateBody(uid, content string) string {
	return fmt.Sprintf(`{"fromUserId":"u1","targetId":"u2","messageUID":%q,"content":%q}`, uid, content)
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.post(direct, `{"fromUserId":"u1","toUserIds":["u2","u3"],"messageType":"RC:TxtMsg","content":"{\"a\":1}","isEchoToSender":1}`)
	for _, body := range []string{
		updateBody(uid, `{"a":2}`), updateBody(uid, `{"a":2}`), // a repeat changes nothing
		strings.NewReplacer("messageUID", "messageId", "targetId", "channelId").Replace(updateBody(uid, `{"a":3}`)),
	} {
		w.call(updateDirectPath, body).want(t, 200, 0, "")
	}
	w.wantTimeline("u2", `in {"a":1}`, "in update "+uid, "in update "+uid)
	w.wantTimeline("u3", `in {"a":1}`)
	w.wantTimeline("u1", `out u2 {"a":1}`, `out u3 {"a":1}`, "out u2 update "+uid, "out u2 update "+uid)
	w.restart()
	for _, c := range []struct{ user, channel, want string }{{"u2", "u1", `{"a":3}`}, {"u1", "u2", `{"a":3}`}, {"u3", "u1", `{"a":1}`}, {"u1", "u3", `{"a":1}`}} {
		if list := w.history(directHistory, w.allOf(c.user, c.channel)); len(list) != 1 || list[0].Content != c.want || list[0].MessageType != "RC:TxtMsg" {
			t.Errorf("%s has %+v, want %s", c.user, list, c.want)
		}
	}

	w.clock.advance(24 * time.Hour)
	w.call(updateDirectPath, updateBody(uid, `{"a":4}`)).want(t, 200, 0, "")
	w.clock.advance(time.Millisecond)
	w.call(updateDirectPath, updateBody(uid, `{"a":5}`)).want(t, 400, 1002, "messageUID: can be changed within 24 hours of being sent")
	w.call(recall, recallBody(uid, "")).want(t, 200, 0, "")
	w.call(updateDirectPath, updateBody(uid, `{"a":6}`)).want(t, 400, 1002, "messageUID: was recalled")
	if list := w.history(directHistory, w.allOf("u2", "u1")); len(list) != 1 || list[0].MessageType != "RC:RcNtf" {
		t.Errorf("%+v", list)
	}
}

func TestUpdateRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.post(direct, sendBody(""))
	sys := w.post(system, sendBody(""))
	for _, c := range []struct {
		body    string
		code    int
		message string
	}{
		{`{}`, 1002, "fromUserId: is required"},
		{`{"fromUserId":"u1"}`, 1002, "targetId: is required"},
		{`{"fromUserId":"u1","targetId":"u2"}`, 1002, "messageUID: is required"},
		{updateBody(uid, ""), 1002, "content: is required"},
		{updateBody(uid, "no object"), 1002, "content: must be a JSON object for built-in type RC:TxtMsg"},
		{updateBody(uid, strings.Repeat("x", 131073)), 1005, "content: at most 131072 bytes, got 131073"},
		{updateBody(sys, "{}"), 1002, "channelType: the message is of a system channel"},
		{strings.Replace(updateBody(uid, "{}"), "u1", "u3", 1), 1002, "fromUserId: did not send this message"},
		{strings.Replace(updateBody(uid, "{}"), "u2", "u3", 1), 1002, "channelId: the message was not sent there"},
	} {
		w.call(updateDirectPath, c.body).want(t, 400, c.code, c.message)
	}
	w.app = w.newApp("other", "other-secret")
	w.call(updateDirectPath, updateBody(uid, "{}")).want(t, 404, 1002, "messageUID: no such message, or not kept any more")
}
