package node

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/client"
)

func (h *house) call(path, body string) string {
	h.t.Helper()
	r, err := http.NewRequest(http.MethodPost, h.base+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	sign(r.Header)
	resp, err := h.http.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

// A trace tells of a session that was there before a restart.
func TestTraceOverRestart(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	config.Trace = true
	h := startHouse(t, config, unchanged)
	token, err := h.Admin().IssueToken(t.Context(), "app", "bob", "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(t.Context(), client.Options{URL: "ws" + strings.TrimPrefix(h.base, "http") + "/connection/websocket", Token: token.Token})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var sent struct {
		Result struct {
			MessageUIDs []struct{ MessageUID string }
		}
	}
	if err := json.Unmarshal([]byte(h.call(sendPath, sendBody)), &sent); err != nil || len(sent.Result.MessageUIDs) != 1 {
		t.Fatalf("%v: %+v", err, sent)
	}
	body := `{"messageUID":"` + sent.Result.MessageUIDs[0].MessageUID + `"}`
	written := func() bool {
		return strings.Contains(h.call("/v4x/message/trace", body), `"sessions":[{"clientId":"`)
	}
	for end := time.Now().Add(time.Minute); !written(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(h.call("/v4x/message/trace", body))
		}
	}
	before := h.call("/v4x/message/trace", body)
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	h = startHouse(t, config, unchanged)
	if after := h.call("/v4x/message/trace", body); after != before {
		t.Errorf("before: %s\nafter:  %s", before, after)
	}
	if err := h.stop(); err != nil {
		t.Error(err)
	}
}
