package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push/pushtest"
)

// What a browser is sent is shown by the service worker that the server has ready, in
// a real browser. Only the push service between them is played: it hands on what it
// can read, and real ones cannot.
func TestServiceWorker(t *testing.T) {
	t.Parallel()
	c := &cast{}
	c.simulate(t, chat.WEB)
	s := c.serve(1, "--push-grace", "50ms", "--demo-page", "on")
	browser := c.sims[chat.WEB]
	shown := func(n int) []pushtest.Shown {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			list := browser.Log(c.token(0))
			if len(list) >= n {
				return list
			}
			if time.Now().After(end) {
				t.Fatalf("%d notifications, want %d", len(list), n)
			}
		}
	}
	send := func(text, ext string) string {
		m := textMessage("alice", []string{user(0)}, text)
		m["pushExt"], m["pushData"], m["count"] = ext, `{"order":17}`, 3
		return s.call("/v4/direct-channel/message/send", m).Result.UIDs[0].UID
	}
	uid := send("Are you there? 👋", `{"title":"Alice"}`)
	shown(1)
	// With a tag of the sender's, and then taken back.
	tagged := send("I never liked your cat", `{"title":"Alice","pushConfigs":[{"WEB":{"tag":"alice","link":"https://example.com/alice","requireInteraction":1}}]}`)
	shown(2)
	s.call("/v4/message/delete", object{"fromUserId": "alice", "channelType": 1, "channelId": user(0), "messageUID": tagged})

	var payloads []json.RawMessage
	for _, n := range shown(3) {
		payloads = append(payloads, json.RawMessage(n.Payload))
	}
	text, err := json.Marshal(object{"payloads": payloads, "uids": []string{uid, tagged}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "payloads.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.node("worker.mjs", file)
}
