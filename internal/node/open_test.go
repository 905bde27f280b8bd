package node

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/store/pebble"
)

// A node that was stopped when an open channel's time came ends it once it runs
// again, and knows of the others what it knew.
func TestOpenChannelsOverRestart(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	h := startHouse(t, config, unchanged)
	for path, body := range map[string]string{
		"create":                             `{"channelId":"past","destroyType":1}`,
		"participant/mute-list/add":          `{"channelId":"hall","participantIds":["bob"],"durationMinutes":5}`,
		"participant/ban-list/add":           `{"channelId":"hall","participantIds":["eve"],"durationMinutes":5}`,
		"freeze-list/add":                    `{"channelId":"hall"}`,
		"priority-sender-list/add":           `{"channelId":"hall","participantIds":["ann"]}`,
		"low-priority-message-type-list/add": `{"messageTypes":["app:like"]}`,
	} {
		if got := h.call("/v4/open-channel/"+path, body); got != `{"code":0}` {
			t.Fatalf("%s: %s", path, got)
		}
	}
	picture := func() (all string) {
		for _, path := range []string{"get", "participant/mute-list/get", "participant/ban-list/get", "freeze/check", "priority-sender-list/get", "low-priority-message-type-list/get"} {
			all += h.call("/v4/open-channel/"+path, `{"channelId":"hall"}`) + "\n"
		}
		return all
	}
	was := picture()
	if strings.Contains(was, "errorMessage") || strings.Contains(was, "[]") {
		t.Fatal(was)
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}

	// Two hours go by for one of them.
	s, err := pebble.Open(t.Context(), pebble.Options{Dir: config.Data, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d, err := directory.Open(t.Context(), s, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.ChangeOpenChannel(t.Context(), d.App("app"), "past", false, func(c *chat.OpenChannel) error {
		c.CreatedAt -= 2 * time.Hour.Milliseconds()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	h = startHouse(t, config, unchanged)
	if is := picture(); is != was {
		t.Errorf("before: %s\nafter: %s", was, is)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := h.call("/v4/open-channel/get", `{"channelId":"past"}`)
		if strings.Contains(got, `"code":1003`) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it goes on: %s", got)
		}
	}
	if err := h.stop(); err != nil {
		t.Error(err)
	}
}
