package node

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/client"
)

// hears connects as the user, from the oldest entry on, and gives the contents of
// what comes until there are as many as wanted.
func (h *house) hears(user string, want ...string) {
	h.t.Helper()
	token, err := h.Admin().IssueToken(h.t.Context(), "app", user, "")
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := client.Dial(h.t.Context(), client.Options{
		URL: "ws" + strings.TrimPrefix(h.base, "http") + "/connection/websocket", Token: token.Token, Data: json.RawMessage(`{"from":"oldest"}`),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	var got []string
	for limit := time.After(time.Minute); len(got) < len(want); {
		select {
		case e := <-c.Events():
			p, ok := e.(client.Publication)
			if !ok {
				continue
			}
			var v struct{ Message struct{ Content string } }
			if err := json.Unmarshal(p.Data, &v); err != nil {
				h.t.Fatal(err)
			}
			got = append(got, v.Message.Content)
		case <-limit:
			h.t.Fatalf("%s heard %q, want %q", user, got, want)
		}
	}
	if !slices.Equal(got, want) {
		h.t.Errorf("%s heard %q, want %q", user, got, want)
	}
}

// Broadcasts survive a restart, and so does who has had them. The numbers a node
// tells of itself count them.
func TestBroadcastOverRestart(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	h := startHouse(t, config, unchanged)
	h.hears("ann") // so that ann is known
	const path = "/v4/system-channel/message/broadcast-all"
	if r := h.call(path, `{"fromUserId":"news","messageType":"app:x","content":"one"}`); !strings.HasPrefix(r, `{"code":0`) {
		t.Fatal(r)
	}
	h.hears("ann", "one")
	for range 2 {
		if err := h.stop(); err != nil {
			t.Fatal(err)
		}
		h = startHouse(t, config, unchanged)
		h.hears("ann", "one")
		h.hears("bob", "one")
	}
	if r := h.call(path, `{"fromUserId":"news","messageType":"app:x","content":"two"}`); !strings.HasPrefix(r, `{"code":0`) {
		t.Fatal(r)
	}
	for range 2 {
		h.hears("ann", "one", "two")
		h.hears("bob", "one", "two")
		h.hears("new", "one", "two")
	}
	_, metrics, _ := h.get("/metrics")
	if !strings.Contains(metrics, `parley_broadcasts_accepted_total{kind="all"} 1`) {
		t.Error("broadcasts are not counted")
	}
	if err := h.stop(); err != nil {
		t.Error(err)
	}
}
