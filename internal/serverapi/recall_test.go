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

const recall = "/v4/message/delete"

func init() { archiveTables[recall] = recallFields.Names() }

// timeline is the events and messages of a user's timeline, as texts.
func (w *world) timeline(user string) (list []string) {
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
		side := "in"
		if e.Kind == store.EntryOut {
			side = "out " + e.Peer
		}
		switch {
		case m.Event == nil:
			list = append(list, side+" "+m.Content)
		default:
			list = append(list, fmt.Sprintf("%s %s %s", side, m.Event.Kind, m.Event.UID))
		}
	}
	return list
}

func (w *world) wantTimeline(user string, want ...string) {
	w.t.Helper()
	if got := w.timeline(user); strings.Join(got, "|") != strings.Join(want, "|") {
		w.t.Errorf("timeline of %s:\n got %q\nwant %q", user, got, want)
	}
}

func recallBody(uid, rest string) string {
	return fmt.Sprintf(`{"fromUserId":"u1","channelType":1,"channelId":"u2","messageUID":%q%s}`, uid, rest)
}

func TestRecall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.post(direct, `{"fromUserId":"u1","toUserIds":["u2","u3"],"messageType":"RC:TxtMsg","content":"{\"a\":1}","isEchoToSender":1,"hasMetadata":1,"metadata":{"k":"v"}}`)
	quiet := w.post(direct, `{"fromUserId":"u1","toUserIds":["u2"],"messageType":"app:t","content":"quiet"}`)
	w.clock.advance(time.Second)
	at := w.clock.ms.Load()
	for range 2 { // repeating is harmless
		w.call(recall, recallBody(uid, `,"isAdmin":"1","extra":"why","sentAt":5,"disablePush":true,"disableUpdateLastMsg":false`)).want(t, 200, 0, "")
		w.clock.advance(time.Second)
	}
	w.call(recall, strings.Replace(recallBody(quiet, ""), "messageUID", "messageId", 1)).want(t, 200, 0, "")

	w.wantTimeline("u2", `in {"a":1}`, "in quiet", "in recall "+uid, "in recall "+quiet)
	w.wantTimeline("u3", `in {"a":1}`)
	// The sender has a copy of the one that was echoed, and learns of that one.
	w.wantTimeline("u1", `out u2 {"a":1}`, `out u3 {"a":1}`, "out u2 recall "+uid)

	notice := func(list []record) {
		t.Helper()
		for _, r := range list {
			want := fmt.Sprintf(`{"operatorId":"u1","recallTime":%d,"originalObjectName":"RC:TxtMsg","admin":true,"delete":false,"extra":"why"}`, at)
			if r.MessageUID == uid && (r.MessageType != "RC:RcNtf" || r.Content != want || *r.HasMetadata || r.Metadata != nil || r.FromUserID != "u1") {
				t.Errorf("%+v", r)
			}
		}
	}
	for range 2 {
		list := w.history(directHistory, w.allOf("u2", "u1"))
		if len(list) != 2 || list[1].MessageUID != uid {
			t.Fatalf("%+v", list)
		}
		notice(list)
		notice(w.history(directHistory, w.allOf("u1", "u2")))
		if list := w.history(directHistory, w.allOf("u3", "u1")); len(list) != 1 || list[0].Content != `{"a":1}` || len(list[0].Metadata) != 1 {
			t.Errorf("the other recipient has %+v", list)
		}
		w.restart()
	}

	gone := w.post(direct, `{"fromUserId":"u1","toUserIds":["u9"],"messageType":"app:t","content":"gone"}`)
	w.call(recall, strings.Replace(recallBody(gone, `,"isDelete":1`), `"u2"`, `"u9"`, 1)).want(t, 200, 0, "")
	if list := w.history(directHistory, w.allOf("u9", "u1")); len(list) != 0 {
		t.Errorf("left in its place: %+v", list)
	}
}

func TestRecallElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sys := w.post(system, `{"fromUserId":"shop","toUserIds":["u1","u2"],"messageType":"app:t","content":"sale"}`)
	room := w.post(open, `{"fromUserId":"u1","toChannelIds":["r1","r2"],"messageType":"app:t","content":"hello"}`)
	w.call(recall, fmt.Sprintf(`{"fromUserId":"shop","channelType":"6","channelId":"u1","messageUID":%q}`, sys)).want(t, 200, 0, "")
	w.call(recall, fmt.Sprintf(`{"fromUserId":"u1","channelType":4,"channelId":"r1","messageUID":%q}`, room)).want(t, 200, 0, "")
	w.wantTimeline("u1", "in sale", "in recall "+sys)
	w.wantTimeline("shop")
	if list := w.history(openHistory, w.allOf("x", "r1")); len(list) != 1 || list[0].MessageType != "RC:RcNtf" {
		t.Errorf("%+v", list)
	}
	if list := w.history(openHistory, w.allOf("x", "r2")); len(list) != 1 || list[0].Content != "hello" {
		t.Errorf("%+v", list)
	}
}

func TestRecallRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.post(direct, `{"fromUserId":"u1","toUserIds":["u2","u3"],"messageType":"app:t","content":"x"}`)
	lost := w.post(direct, `{"fromUserId":"u1","toUserIds":["u2"],"messageType":"RC:TypSts","content":"{}"}`)
	unknown := chat.NewUID(w.clock.ms.Load()-5, chat.Direct, 3, 4).String()
	for _, c := range []struct {
		body         string
		status, code int
		message      string
	}{
		{`{}`, 400, 1002, "fromUserId: is required"},
		{`{"fromUserId":"u1"}`, 400, 1002, "channelType: is required"},
		{`{"fromUserId":"u1","channelType":3}`, 400, 1002, "channelType: one of 1, 4, 6, got 3"},
		{`{"fromUserId":"u1","channelType":1}`, 400, 1002, "channelId: is required"},
		{`{"fromUserId":"u1","channelType":1,"channelId":"u2"}`, 400, 1002, "messageUID: is required"},
		{recallBody("x", ""), 400, 1002, "messageUID: not a message UID"},
		{recallBody(uid, `,"messageId":"`+uid+`","extra":"`+strings.Repeat("ü", 4097)+`"`), 400, 1005, "extra: at most 4096 characters, got 4097"},
		{recallBody(unknown, ""), 404, 1002, "messageUID: no such message, or not kept any more"},
		{recallBody(lost, ""), 404, 1002, "messageUID: no such message, or not kept any more"},
		{strings.Replace(recallBody(uid, ""), `"u2"`, `"u3"`, 1), 400, 1002, "channelId: the message was not sent there"},
		{strings.Replace(recallBody(uid, ""), `"u1"`, `"u3"`, 1), 400, 1002, "fromUserId: did not send this message"},
		{strings.Replace(recallBody(uid, ""), `:1`, `:6`, 1), 400, 1002, "channelType: the message is of a direct channel"},
	} {
		w.call(recall, c.body).want(t, c.status, c.code, c.message)
	}
	mine := w.app
	w.app = w.newApp("other", "other-secret")
	w.call(recall, recallBody(uid, "")).want(t, 404, 1002, "messageUID: no such message, or not kept any more")
	w.app = mine
	w.wantTimeline("u2", "in x")
}
