package gateway

import (
	"fmt"
	"testing"

	"github.com/parleychat/parley/internal/chat"
)

func TestConnectAndReceive(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p, r := h.connect("bob", "")
	me := r.Connect.Subs["me"]
	if !me.Recoverable || !me.Positioned || me.Epoch != h.store.Epoch() || me.Offset != 0 || me.Recovered {
		t.Fatalf("subscription of me: %+v", me)
	}
	for i := range 5 {
		uid := h.send(chat.Direct, "alice", fmt.Sprint("m", i), "bob")[0]
		got := p.reply().Push
		m := got.Pub.Data.Message
		if got.Channel != "me" || got.Pub.Offset != uint64(i+1) || m.MessageUID != uid.String() || m.Content != fmt.Sprint("m", i) ||
			m.ChannelID != "alice" || m.FromUserID != "alice" || m.Direction != "in" || m.ChannelType != "direct" || m.SentAt != uid.Millis() {
			t.Fatalf("publication %d: %+v", i, got)
		}
	}
	p.send(`{"subscribe":{"channel":"open:lobby","flag":1},"id":2}`)
	s := p.reply()
	if s.ID != 2 || s.Subscribe == nil || !s.Subscribe.Recoverable || s.Subscribe.Positioned {
		t.Fatalf("%+v", s)
	}
	h.send(chat.Open, "alice", "hello", "lobby")
	if got := p.reply().Push; got.Channel != "open:lobby" || got.Pub.Data.Message.Content != "hello" || got.Pub.Data.Message.ChannelID != "lobby" {
		t.Fatalf("%+v", got)
	}
}
