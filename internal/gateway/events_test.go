package gateway

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// happen tells of an event, as the courier does.
func (h *house) happen(ct chat.ChannelType, from, to string, ev *chat.Event) {
	h.t.Helper()
	m := &chat.Message{App: h.app.ID, ChannelType: ct, Flags: chat.Missed, From: from, Echo: true, Event: ev}
	if err := h.store.Append(context.Background(), &store.Append{Message: m, Targets: []string{to}}); err != nil {
		h.t.Fatal(err)
	}
}

// data is the data of the next publication.
func (p *peer) data() string {
	p.t.Helper()
	line := p.line()
	_, data, ok := strings.Cut(line, `"data":`)
	if !ok {
		p.t.Fatalf("no publication: %s", line)
	}
	if i := strings.LastIndex(data, `,"offset":`); i >= 0 {
		return data[:i]
	}
	return strings.TrimSuffix(data, "}}}")
}

// Every kind of event is written as the protocol names it, live and to who comes
// later, from the side of whoever is told.
func TestEventsOnTheWire(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	uid := h.send(chat.Direct, "alice", "hello", "bob")[0]
	bob, _ := h.connect("bob", "")
	alice, _ := h.connect("alice", "")
	cases := []struct {
		ev   chat.Event
		want string // %s is the channel
	}{
		{chat.Event{Kind: chat.EventRecall, UID: uid, Operator: "root", At: 17, Admin: true, Delete: true, Extra: `"x"`},
			`{"event":"recall","messageUID":"` + uid.String() + `","channelType":"direct","channelId":"%s","operatorId":"root","isAdmin":true,"isDelete":true,"extra":"\"x\"","recalledAt":17}`},
		{chat.Event{Kind: chat.EventRecall, UID: uid, Operator: "alice", At: 18},
			`{"event":"recall","messageUID":"` + uid.String() + `","channelType":"direct","channelId":"%s","operatorId":"alice","recalledAt":18}`},
		{chat.Event{Kind: chat.EventUpdate, UID: uid, Operator: "alice", At: 19, Content: "new\n"},
			`{"event":"update","messageUID":"` + uid.String() + `","content":"new\n","updatedAt":19}`},
		{chat.Event{Kind: chat.EventMetadata, UID: uid, Operator: "bob", At: 20, Set: map[string]string{"b": "2", "a": ""}, Removed: []string{"c", "d"}},
			`{"event":"metadata","messageUID":"` + uid.String() + `","set":{"a":"","b":"2"},"removed":["c","d"],"operatorId":"bob","updatedAt":20}`},
		{chat.Event{Kind: chat.EventMetadata, UID: uid, Operator: "bob", At: 21, Removed: []string{"c"}},
			`{"event":"metadata","messageUID":"` + uid.String() + `","removed":["c"],"operatorId":"bob","updatedAt":21}`},
		{chat.Event{Kind: 200, UID: uid}, `{"event":"unknown","messageUID":"` + uid.String() + `"}`},
	}
	told := func(p *peer, channel string) {
		t.Helper()
		for _, c := range cases {
			want := c.want
			if strings.Contains(want, "%s") {
				want = fmt.Sprintf(want, channel)
			}
			if got := p.data(); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
	}
	for _, c := range cases {
		h.happen(chat.Direct, "alice", "bob", &c.ev)
	}
	told(bob, "alice")
	told(alice, "bob")

	late, r := h.connect("bob", `{"from":"oldest"}`)
	if n := len(r.Connect.Subs["me"].Publications); n != 1+len(cases) {
		t.Errorf("%d publications are recovered", n)
	}
	late.send(`{"history":{"channel":"me","limit":100},"id":3}`)
	line := late.line()
	for _, c := range cases[2:] {
		if !strings.Contains(line, c.want) {
			t.Errorf("%s is not in %s", c.want, line)
		}
	}

	// In a room it is the same for everybody, the sender among them.
	alice.send(`{"subscribe":{"channel":"open:hall"},"id":4}`)
	alice.line()
	m := &chat.Message{App: h.app.ID, ChannelType: chat.Open, From: "alice", Echo: true, Event: &cases[1].ev}
	if err := h.store.Append(context.Background(), &store.Append{Message: m, Targets: []string{"hall"}}); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(fmt.Sprintf(cases[1].want, "hall"), `"direct"`, `"open"`, 1)
	if got := alice.data(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
