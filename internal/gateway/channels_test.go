package gateway

import (
	"strings"
	"testing"
)

// told is the data of the next event about the user's own channels.
func (p *peer) told() string {
	p.t.Helper()
	line := p.until(`{"event":"channel"`)
	_, data, _ := strings.Cut(line, `"data":`)
	return data[:strings.LastIndex(data, `,"offset":`)]
}

func (p *peer) wantTold(want string) {
	p.t.Helper()
	if got := p.told(); got != want {
		p.t.Errorf("got  %s\nwant %s", got, want)
	}
}

// recovered is what somebody who was away is told, each as its data.
func (h *house) recovered(user string) string {
	h.t.Helper()
	p := h.dial()
	p.send(`{"connect":{"token":"` + h.token(user) + `","data":{"from":"oldest"}},"id":1}`)
	return p.line()
}

func TestClientsPin(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	bob, _ := h.connect("bob", "")
	tablet, _ := h.connect("bob", "")
	alice, _ := h.connect("alice", "")

	bob.refused("channel.pin", `{"channelType":"direct","channelId":"alice"}`, 107, "pinned: is required")
	bob.refused("channel.pin", `{"channelId":"alice","pinned":true}`, 107, "channelType: is required")
	bob.refused("channel.pin", `{"channelType":"open","channelId":"hall","pinned":true}`, 107, `channelType: one of direct, group, system, got "open"`)
	bob.refused("channel.pin", `{"channelType":"direct","pinned":true}`, 107, "channelId: is required")

	if got := bob.done("channel.pin", `{"channelType":"direct","channelId":"alice","pinned":false}`); got != "{}" {
		t.Errorf("%s", got)
	}
	at := bob.done("channel.pin", `{"channelType":"direct","channelId":"alice","pinned":true}`)
	if again := tablet.done("channel.pin", `{"channelType":"direct","channelId":"alice","pinned":1}`); again != at || !strings.HasPrefix(at, `{"pinnedAt":1`) {
		t.Errorf("%s, and again %s", at, again)
	}
	pinned := `{"event":"channel","channelType":"direct","channelId":"alice","pinned":true,` + at[1:]
	unpinned := `{"event":"channel","channelType":"direct","channelId":"alice","pinned":false}`
	bob.done("channel.pin", `{"channelType":"direct","channelId":"alice","pinned":false}`)
	for _, p := range []*peer{bob, tablet} {
		p.wantTold(pinned)
		p.wantTold(unpinned)
	}
	line := h.recovered("bob")
	if strings.Count(line, `"event":`) != 2 || !strings.Contains(line, pinned) || !strings.Contains(line, unpinned) {
		t.Errorf("who was away gets %s", line)
	}
	// Nobody else hears of it.
	bob.say("alice", "hi", "")
	if line := alice.line(); !strings.Contains(line, `"content":"hi"`) {
		t.Errorf("alice is told %s", line)
	}
}
