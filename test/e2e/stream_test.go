package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The server is killed between the chunks of a stream and while one is under way.
// Each goes on where it was, what was not answered is repeated with its key, and a
// client of the npm package ends with the text, each piece of it once.
func TestStreamOverKill(t *testing.T) {
	t.Parallel()
	s := start(t)
	const path = "/v4/direct-channel/message/stream/send"
	const chunks = 12
	piece := func(seq int) string { return fmt.Sprintf("piece %d; ", seq) }
	text := ""
	for seq := 1; seq <= chunks; seq++ {
		text += piece(seq)
	}
	client := make(chan error, 1)
	go func() { client <- s.tryNode("stream.mjs", text) }()
	online := func() {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if s.call("/v4/user/connection-status/get", object{"userId": "bob"}).Result.Status == "1" {
				return
			}
			if time.Now().After(end) {
				t.Fatal("the client does not come")
			}
		}
	}
	online()

	uid := ""
	body := func(seq int) object {
		content := object{"content": piece(seq), "seq": seq, "complete": seq == chunks}
		if seq > 1 {
			content["messageId"] = uid
		}
		return object{"fromUserId": "bot", "toUserId": "bob", "messageType": "RC:StreamMsg", "content": content}
	}
	key := func(seq int) string { return fmt.Sprintf("chunk-%d", seq) }
	for seq := 1; seq <= chunks; seq++ {
		switch seq {
		case 4: // between two chunks
			s.kill()
			s.up()
		case 7: // while one is under way
			done := make(chan struct{})
			b, err := json.Marshal(body(seq))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				defer close(done)
				_, _ = s.try(path, b, "Idempotency-Key", key(seq)) // its answer may be lost
			}()
			s.kill()
			<-done
			s.up()
		case 10:
			online() // so that what follows is live
		}
		a := s.call(path, body(seq), "Idempotency-Key", key(seq))
		if seq == 1 {
			uid = a.Result.UID
		}
	}
	if err := <-client; err != nil {
		t.Fatal(err)
	}
	now := time.Now().UnixMilli()
	a := s.call("/v4/direct-channel/history-message/list", object{
		"userId": "bob", "channelId": "bot", "startAt": now + 1000, "endAt": now - 3_600_000, "includeStart": true,
	})
	if n := strings.Count(string(a.body), uid); n != 2 || !strings.Contains(string(a.body), text+`\"`) {
		t.Errorf("history: %s", a.body)
	}
}
