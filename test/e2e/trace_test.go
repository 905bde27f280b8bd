package e2e

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/client"
)

type tracedSession struct {
	ClientID, DeviceID, Platform string
	Written, Acknowledged        *struct{ From, Until int64 }
}

// sentTo sends a text from ann to bob and gives its UID.
func (s *server) sentTo(to, text string) string {
	s.t.Helper()
	return s.call("/v4/direct-channel/message/send", textMessage("ann", []string{to}, text)).Result.UIDs[0].UID
}

// sessions are those that a trace tells of.
func (s *server) sessions(uid string) []tracedSession {
	s.t.Helper()
	a := s.call("/v4x/message/trace", object{"messageUID": uid})
	var v struct {
		Result struct {
			Recipients []struct{ Sessions []tracedSession }
		}
	}
	if err := json.Unmarshal(a.body, &v); err != nil || len(v.Result.Recipients) != 1 {
		s.t.Fatalf("%v: %s", err, a.body)
	}
	return v.Result.Recipients[0].Sessions
}

// What a session was given and has acknowledged is told after the server was
// stopped, and after it was killed as far as it was stored. What never happened
// is never told.
func TestTraceOverRestart(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(*server){"stopped": (*server).stop, "killed": (*server).kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A ping would acknowledge what this test does not.
			s := start(t, "--ping-interval", "1h")
			token := s.token("bob")
			phone := s.dial(client.Options{Token: token, Data: json.RawMessage(`{"deviceId":"phone","platform":"ios","from":"oldest"}`)})
			ack := func(offset uint64) {
				t.Helper()
				epoch, _ := phone.Position(client.Me)
				if err := phone.Ack(t.Context(), client.Position{Offset: offset, Epoch: epoch.Epoch}); err != nil {
					t.Fatal(err)
				}
			}
			first := s.sentTo("bob", "first")
			publications(t, phone, 1)
			ack(1)
			// Whoever asks has it stored.
			before := s.sessions(first)
			if len(before) != 1 || before[0].Written == nil || before[0].Acknowledged == nil || before[0].DeviceID != "phone" || before[0].Platform != "ios" {
				t.Fatalf("before: %+v", before)
			}
			second, third, away := s.sentTo("bob", "second"), s.sentTo("bob", "third"), s.sentTo("dora", "away")
			publications(t, phone, 2)
			ack(2)
			phone.Close()
			down(s)
			s.up()

			after := s.sessions(first)
			if len(after) != 1 || *after[0].Written != *before[0].Written || *after[0].Acknowledged != *before[0].Acknowledged {
				t.Errorf("of the first message it is told %+v, before it was %+v", after, before)
			}
			// What was not stored yet is told after a stop, and may be missing
			// after a crash.
			for uid, acked := range map[string]bool{second: true, third: false} {
				all := s.sessions(uid)
				if name == "killed" && len(all) == 0 {
					continue
				}
				if len(all) != 1 || all[0].ClientID != before[0].ClientID || all[0].Written == nil {
					t.Fatalf("sessions %+v", all)
				}
				if told := all[0].Acknowledged != nil; told && !acked || name == "stopped" && told != acked {
					t.Errorf("acknowledged is told: %t; it was: %t", told, acked)
				}
			}
			if all := s.sessions(away); len(all) != 0 {
				t.Errorf("who was away had %+v", all)
			}

			// The next session is another one, and does not hide the first.
			pad := s.dial(client.Options{Token: token, Data: json.RawMessage(`{"deviceId":"pad","from":"oldest"}`)})
			publications(t, pad, 3)
			for end := time.Now().Add(10 * time.Second); len(s.sessions(first)) != 2; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("never two sessions: %+v", s.sessions(first))
				}
			}
			if all := s.sessions(first); all[0] != after[0] && all[0].ClientID != after[0].ClientID || all[1].DeviceID != "pad" || all[1].Acknowledged != nil {
				t.Errorf("after both: %+v", all)
			}
		})
	}
}

// The command prints for people what became of a message, and for programs a
// page of the answer a line.
func TestTraceCommand(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.call("/v4/user/blocklist/add", object{"userId": "eve", "targetUserIds": []string{"ann"}})
	send := func(path string, more object, to ...string) string {
		t.Helper()
		body := textMessage("ann", to, "TOP-SECRET")
		for k, v := range more {
			body[k] = v
		}
		return s.call(path, body, "X-Request-ID", "order-77").Result.UIDs[0].UID
	}
	uid := send("/v4/direct-channel/message/send", object{"verifyBlocklist": 1, "isEchoToSender": 1, "hasMetadata": 1}, "bob", "eve", "dora")
	phone := s.dial(client.Options{Token: s.token("bob"), Data: json.RawMessage(`{"deviceId":"phone","platform":"ios","from":"oldest"}`)})
	publications(t, phone, 1)
	epoch, _ := phone.Position(client.Me)
	if err := phone.Ack(t.Context(), client.Position{Offset: 1, Epoch: epoch.Epoch}); err != nil {
		t.Fatal(err)
	}

	// Where the device is, is stored within a second or two.
	for end := time.Now().Add(10 * time.Second); !bytes.Contains(s.call("/v4x/message/trace", object{"messageUID": uid}).body, []byte(`"passed":true`)); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the device never passed the message")
		}
	}

	const at = `\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}`
	want := func(args []string, lines ...string) {
		t.Helper()
		out, errOut, code := s.parley(append([]string{"trace"}, args...)...)
		if code != 0 || errOut != "" {
			t.Fatalf("trace %v: code %d, %s%s", args, code, out, errOut)
		}
		pattern := `^` + strings.Join(lines, `\n`) + `\n$`
		if !regexp.MustCompile(strings.ReplaceAll(pattern, "@time", at)).MatchString(out) {
			t.Errorf("trace %v printed\n%swant\n%s", args, out, strings.Join(lines, "\n"))
		}
		if strings.Contains(out, "TOP-SECRET") || strings.Contains(out, "CHANGED") {
			t.Error("a trace shows the content")
		}
	}
	head := []string{
		`message +` + uid,
		`from +ann, through the server API, request order-77`,
		`what +RC:TxtMsg, direct channel, content of 24 bytes`,
		`committed +@time, for 2 in all`,
		`left out +eve \(blocklist\)`,
	}
	bob := []string{
		`to +bob, offset 1`,
		` +device phone \(ios\): written @time, acknowledged @time`,
	}
	device := ` +device phone is past it, last seen @time`
	off := ` +not notified: push_off \(.+\)`
	rest := []string{
		`copy +ann, offset 1`,
		` +not written to any session yet`,
	}
	dora := []string{
		`to +dora, offset 1`,
		` +not written to any session yet`,
		off,
		`copy +ann, offset 2`,
		` +not written to any session yet`,
	}
	lines := func(parts ...[]string) (all []string) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	want([]string{uid}, lines(head, bob, []string{device, off}, rest)...)
	want([]string{uid, "--all"}, lines(head, bob, []string{device, off}, rest, dora)...)

	s.call("/v4/direct-channel/message/update", object{"fromUserId": "ann", "targetId": "bob", "messageUID": uid, "content": `{"content":"CHANGED"}`})
	s.call("/v4/message/metadata/set", object{"userId": "bob", "channelType": 1, "channelId": "bob", "messageUID": uid, "metadata": object{"k": "v"}})
	want([]string{uid}, lines(head, bob, []string{device, ` +content changed @time`, ` +metadata changed @time, version 1, told`, off}, rest)...)
	s.call("/v4/message/delete", object{"fromUserId": "ann", "channelType": 1, "channelId": "bob", "messageUID": uid, "isAdmin": 1, "isDelete": 1})
	want([]string{uid}, lines(head, bob, []string{device, ` +recalled @time by ann for the app, leaving nothing`, off}, rest)...)

	room := s.call("/v4/open-channel/message/send", object{"fromUserId": "ann", "toChannelIds": []string{"lobby"}, "messageType": "RC:TxtMsg", "content": `{"content":"TOP-SECRET"}`}).Result.UIDs[0].UID
	s.call("/v4/message/delete", object{"fromUserId": "ann", "channelType": 4, "channelId": "lobby", "messageUID": room})
	want([]string{room}, `message +`+room, `from +ann, through the server API, request \S+`, `what +RC:TxtMsg, open channel, content of 24 bytes`,
		`committed +@time, for 1 in all`, `channel +lobby: queued for 0 members`, ` +recalled @time by ann, leaving a notice`)

	// Over several pages.
	var to []string
	for i := range 130 {
		to = append(to, "u"+strings.Repeat("x", i))
	}
	to = to[:60] // ids have at most 64 characters
	for i := range 70 {
		to = append(to, "v"+strings.Repeat("x", i%60)+string(rune('a'+i/60)))
	}
	many := send("/v4/direct-channel/message/send", nil, to...)
	out, _, code := s.parley("trace", many, "--all")
	if n := strings.Count(out, ", offset "); code != 0 || n != len(to) || strings.Count(out, "committed") != 1 {
		t.Errorf("%d recipients were printed, want %d; code %d", n, len(to), code)
	}
	out, _, code = s.parley("trace", many, "--all", "--json")
	pages := strings.Split(strings.TrimSpace(out), "\n")
	for _, page := range pages {
		if !json.Valid([]byte(page)) || !strings.HasPrefix(page, `{"messageUID":"`+many) {
			t.Errorf("not a page: %.200s", page)
		}
	}
	if code != 0 || len(pages) != 2 {
		t.Errorf("%d pages, code %d", len(pages), code)
	}

	for _, c := range []struct {
		uid  string
		want string
	}{{"nonsense", "is not a message UID"}, {uid[:15] + "ZZZZ", "messageUID: no such message"}} {
		if out, _, code := s.parley("trace", c.uid); code != exitRefused || !strings.Contains(out, c.want) {
			t.Errorf("trace %s: code %d, %s", c.uid, code, out)
		}
	}
	if _, errOut, code := s.parley("trace"); code != exitUsage {
		t.Errorf("without a UID: code %d, %s", code, errOut)
	}
	s.stop()
	if _, errOut, code := s.parley("trace", uid); code != exitNoNode {
		t.Errorf("without a node: code %d, %s", code, errOut)
	}
}
