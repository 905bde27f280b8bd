package serverapi

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	directHistory = "/v4/direct-channel/history-message/list"
	openHistory   = "/v4/open-channel/history-message/list"
)

// archiveTables are the fields of the operations on what was sent before.
var archiveTables = map[string][]string{
	directHistory: historyFields.Names(),
	openHistory:   historyFields.Names(),
}

// The manual speaks of their fields as it does of those of sends.
func TestManualHasArchive(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../docs/server-api.md")
	if err != nil {
		t.Fatal(err)
	}
	for path, names := range archiveTables {
		for _, name := range names {
			if !strings.Contains(string(manual), "`"+name+"`") {
				t.Errorf("%s of %s is missing", name, path)
			}
		}
	}
}

// A record is one message of a history.
type record struct {
	ChannelID, FromUserID, MessageUID, MessageID, MessageType, Content string
	SentAt                                                             int64
	HasMetadata                                                        *bool
	Metadata                                                           []metadataPair
}

type metadataPair struct {
	Key, Value string
	UpdatedAt  int64
}

func (w *world) history(path, body string) []record {
	w.t.Helper()
	r := w.call(path, body)
	var v struct{ Result struct{ Messages []record } }
	if err := json.Unmarshal([]byte(r.Body), &v); err != nil || r.Status != 200 {
		w.t.Fatalf("%s %s: %d %s", path, body, r.Status, r.Body)
	}
	return v.Result.Messages
}

// allOf asks for everything that can be asked for at once.
func (w *world) allOf(user, channel string) string {
	now := w.clock.ms.Load()
	return fmt.Sprintf(`{"userId":%q,"channelId":%q,"startAt":%d,"endAt":%d,"includeStart":true,"pageSize":100}`, user, channel, now+1000, now-13*24*3600*1000)
}

func contents(list []record) (out []string) {
	for _, r := range list {
		out = append(out, r.Content)
	}
	return out
}

func (w *world) post(path, body string) string {
	w.t.Helper()
	r := w.call(path, body)
	var v struct {
		Result struct {
			MessageUIDs []struct{ MessageUID string }
		}
	}
	if err := json.Unmarshal([]byte(r.Body), &v); err != nil || r.Status != 200 || len(v.Result.MessageUIDs) == 0 {
		w.t.Fatalf("%s %s: %d %s", path, body, r.Status, r.Body)
	}
	return v.Result.MessageUIDs[0].MessageUID
}

func TestDirectHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	start := w.clock.ms.Load()
	var uids []string
	for i := range 12 {
		uids = append(uids, w.post(direct, fmt.Sprintf(`{"fromUserId":"u1","toUserIds":["u2","u3"],"messageType":"app:t","content":"m%02d","isEchoToSender":%d}`, i, i%2)))
		w.clock.advance(time.Minute)
	}
	w.post(direct, `{"fromUserId":"u1","toUserIds":["u2"],"messageType":"app:t","content":"with","hasMetadata":1,"metadata":{"b":"2","a":"1"}}`)
	w.post(direct, `{"fromUserId":"u1","toUserIds":["u2"],"messageType":"app:t","content":"not kept","shouldPersist":0}`)

	list := w.history(directHistory, w.allOf("u2", "u1"))
	if len(list) != 13 || list[0].Content != "with" || list[12].Content != "m00" {
		t.Fatalf("%d messages: %v", len(list), contents(list))
	}
	first := list[12]
	if first.ChannelID != "u1" || first.FromUserID != "u1" || first.MessageUID != uids[0] || first.MessageID != uids[0] ||
		first.MessageType != "app:t" || first.SentAt != start || first.HasMetadata == nil || *first.HasMetadata || first.Metadata != nil {
		t.Errorf("%+v", first)
	}
	if want := []metadataPair{{"a", "1", list[0].SentAt}, {"b", "2", list[0].SentAt}}; !slices.Equal(list[0].Metadata, want) || !*list[0].HasMetadata {
		t.Errorf("%+v", list[0])
	}
	// The sender has what was echoed, in the channel with each recipient.
	own := w.history(directHistory, w.allOf("u1", "u3"))
	if got := contents(own); !slices.Equal(got, []string{"m11", "m09", "m07", "m05", "m03", "m01"}) || own[0].ChannelID != "u3" || own[0].FromUserID != "u1" {
		t.Errorf("the sender has %v, %+v", got, own[0])
	}

	at := func(i int) int64 { return start + int64(i)*60_000 }
	for _, c := range []struct {
		name, rest string
		want       []string
	}{
		{"ten by default", fmt.Sprintf(`"startAt":%d,"endAt":0`, int64(10*24*3600*1000)), nil},
		{"ten by default", fmt.Sprintf(`"startAt":%d,"endAt":%d,"includeStart":1`, at(11), at(0)), []string{"m11", "m10", "m09", "m08", "m07", "m06", "m05", "m04", "m03", "m02"}},
		{"with its start", fmt.Sprintf(`"startAt":%d,"endAt":%d,"includeStart":true`, at(5), at(3)), []string{"m05", "m04", "m03"}},
		{"without its start", fmt.Sprintf(`"startAt":"%d","endAt":"%d","includeStart":"0"`, at(5), at(3)), []string{"m04", "m03"}},
		{"a page", fmt.Sprintf(`"startAt":%d,"endAt":%d,"includeStart":false,"pageSize":"2"`, at(9), at(3)), []string{"m08", "m07"}},
		{"behind a message", fmt.Sprintf(`"startAt":%d,"endAt":%d,"includeStart":false,"pageSize":2,"before":%q`, at(9), at(3), uids[7]), []string{"m06", "m05"}},
		{"between", fmt.Sprintf(`"startAt":%d,"endAt":%d,"includeStart":true`, at(5)-1, at(4)+1), nil},
	} {
		if !strings.Contains(c.rest, "includeStart") {
			c.rest += `,"includeStart":false`
		}
		if got := contents(w.history(directHistory, `{"userId":"u2","channelId":"u1",`+c.rest+`}`)); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
	// Nobody else has any of it, whatever the app.
	if got := w.history(directHistory, w.allOf("u4", "u1")); len(got) != 0 {
		t.Errorf("a stranger has %v", contents(got))
	}
	mine := w.app
	w.app = w.newApp("other", "other-secret")
	if got := w.history(directHistory, w.allOf("u2", "u1")); len(got) != 0 {
		t.Errorf("another app has %v", contents(got))
	}
	w.app = mine
	w.restart()
	if got := w.history(directHistory, w.allOf("u2", "u1")); len(got) != 13 {
		t.Errorf("%d messages after a restart", len(got))
	}
}

func TestOpenHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uid := w.post(open, `{"fromUserId":"u1","toChannelIds":["room","hall"],"messageType":"RC:TxtMsg","content":"{\"content\":\"hi\"}"}`)
	w.post(open, `{"fromUserId":"u1","toChannelIds":["room"],"messageType":"app:t","content":"x","shouldPersist":0}`)
	list := w.history(openHistory, w.allOf("anybody", "room"))
	if len(list) != 1 || list[0].MessageUID != uid || list[0].ChannelID != "room" || list[0].FromUserID != "u1" || list[0].HasMetadata != nil {
		t.Errorf("%+v", list)
	}
}

func TestHistoryRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := func(rest string) string { return `{"userId":"u1","channelId":"u2"` + rest + `}` }
	for _, c := range []struct{ body, message string }{
		{`{}`, "userId: is required"},
		{`{"userId":"u1"}`, "channelId: is required"},
		{`{"userId":"a b"}`, "userId: must not contain spaces or control characters"},
		{body(``), "startAt: is required"},
		{body(`,"startAt":5`), "endAt: is required"},
		{body(`,"startAt":5,"endAt":4`), "includeStart: is required"},
		{body(`,"startAt":5,"endAt":6,"includeStart":1`), "startAt: must not be before endAt: it is the newer bound"},
		{body(`,"startAt":5,"endAt":-6,"includeStart":1`), "endAt: must not be negative"},
		{body(`,"startAt":1209600001,"endAt":0,"includeStart":1`), "startAt: at most 14 days after endAt, got 1209600001 ms"},
		{body(`,"startAt":5,"endAt":4,"includeStart":2`), `includeStart: 0 or 1, got 2`},
		{body(`,"startAt":5,"endAt":4,"includeStart":1,"pageSize":0`), "pageSize: from 1 to 100, got 0"},
		{body(`,"startAt":5,"endAt":4,"includeStart":1,"pageSize":101`), "pageSize: from 1 to 100, got 101"},
		{body(`,"startAt":5,"endAt":4,"includeStart":1,"before":"x"`), "before: not a message UID"},
		{body(`,"startAt":"soon"`), `startAt: must be a whole number, got "soon"`},
	} {
		for _, path := range []string{directHistory, openHistory} {
			w.call(path, c.body).want(t, 400, 1002, c.message)
		}
	}
	for range 10 {
		w.history(openHistory, w.allOf("u1", "u2"))
	}
	w.call(openHistory, w.allOf("u1", "u2")).want(t, 429, 1008, "")
	w.set("history.enabled", "false")
	w.call(directHistory, w.allOf("u1", "u2")).want(t, 430, 1009, "history is switched off for this app (history.enabled)")
}
