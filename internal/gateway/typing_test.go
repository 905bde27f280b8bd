package gateway

import (
	"context"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/chat"
)

func TestTyping(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	alice, _ := h.connect("alice", "")
	bob, _ := h.connect("bob", "")
	tablet, _ := h.connect("bob", "")
	const call, to = "typing", `{"channelType":"direct","channelId":"bob"`
	head, err := h.store.Head(context.Background(), h.app.ID, "bob")
	must(t, err)

	for _, c := range []struct {
		data string
		code uint32
		text string
	}{
		{`{"channelId":"bob"}`, 107, "channelType: is required"},
		{`{"channelType":"direct"}`, 107, "channelId: is required"},
		{`{"channelType":"open","channelId":"hall"}`, 107, `channelType: must be direct, got "open"`},
		{`{"channelType":"group","channelId":"g"}`, 108, "typing is not told to channels of type group"},
		{to + `,"typingContentType":"` + strings.Repeat("x", 33) + `"}`, 107, "typingContentType: at most 32 characters, got 33"},
	} {
		alice.refused(call, c.data, c.code, c.text)
	}
	if got := alice.done(call, to+`,"typingContentType":"RC:TxtMsg"}`); got != "{}" {
		t.Errorf("%s", got)
	}
	alice.done(call, to+`}`)
	for _, p := range []*peer{bob, tablet} {
		for _, want := range []string{
			`{"push":{"channel":"me","pub":{"data":{"event":"typing","channelType":"direct","channelId":"alice","userId":"alice","typingContentType":"RC:TxtMsg"}}}}`,
			`{"push":{"channel":"me","pub":{"data":{"event":"typing","channelType":"direct","channelId":"alice","userId":"alice"}}}}`,
		} {
			if got := p.line(); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
	}
	// Nothing is left of it.
	if now, err := h.store.Head(context.Background(), h.app.ID, "bob"); err != nil || now != head {
		t.Errorf("bob's head moved from %d to %d, %v", head, now, err)
	}
	if line := h.recovered("bob"); strings.Contains(line, "typing") {
		t.Errorf("who was away gets %s", line)
	}

	passed, refused := 0, 0
	carol, _ := h.connect("carol", "")
	for range 20 {
		_, e := carol.ask(call, to+`}`)
		switch {
		case e == nil:
			passed++
		case e.Code == 20604 && e.Temporary && e.Message == "at most one a second on one connection, five at once":
			refused++
		default:
			t.Errorf("%+v", e)
		}
	}
	if passed < 5 || refused == 0 {
		t.Errorf("of 20 at once %d passed and %d were refused", passed, refused)
	}
}

// Who may not send may not say that they are about to.
func TestTypingIsCheckedAsSends(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := context.Background()
	alice, _ := h.connect("alice", "")
	bob, _ := h.connect("bob", "")
	const call, to = "typing", `{"channelType":"direct","channelId":"bob"}`
	must(t, h.dir.Block(ctx, h.app, "bob", "f", []string{"alice"}))
	alice.refused(call, to, 405, "the recipient has blocked you")
	must(t, h.dir.Unblock(ctx, h.app, "bob", "f", []string{"alice"}))
	must(t, h.dir.Mute(ctx, h.app, []string{"alice"}, []chat.ChannelType{chat.Direct}, true))
	alice.refused(call, to, 20106, "you are muted in direct channels")
	must(t, h.dir.Mute(ctx, h.app, []string{"alice"}, []chat.ChannelType{chat.Direct}, false))
	h.set("users.registered-only", "true")
	if _, e := alice.ask(call, `{"channelType":"direct","channelId":"nobody"}`); e == nil || e.Code != 404 {
		t.Errorf("%+v", e)
	}
	alice.done(call, to)
	if line := bob.line(); !strings.Contains(line, `"typing"`) {
		t.Errorf("%s", line)
	}
	// Without a call to Shut, as it is for a moment when users are banned.
	must(t, h.dir.Ban(ctx, h.app, []string{"alice"}, 5))
	alice.send(`{"rpc":{"method":"typing","data":` + to + `},"id":9}`)
	if code := alice.closed(); code != closeBanned.Code {
		t.Errorf("closed with %d", code)
	}
}
