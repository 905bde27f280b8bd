package gateway

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// frame is the next object that comes, a ping too.
func (p *peer) frame() string {
	p.t.Helper()
	line, err := p.next(10 * time.Second)
	if err != nil {
		p.t.Fatalf("waiting for a frame: %v", err)
	}
	return line
}

func (h *house) wantCursors(user string, connected bool, want ...push.Cursor) {
	h.t.Helper()
	var list []push.Cursor
	var there bool
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if list, there = h.Cursors(h.app.ID, user); there == connected && reflect.DeepEqual(list, want) {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("cursors of %s are %+v, %t, want %+v", user, list, there, want)
		}
	}
}

// A probe has the client asked for a pong long before it would be, and the pong
// acknowledges what it was given. There is never more than one ping under way.
func TestProbe(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *Options) { o.PingInterval = time.Hour })
	p, _ := h.connect("bob", `{"deviceId":"d","platform":"iOS"}`)
	live := func(offset uint64) push.Cursor { return push.Cursor{Platform: "iOS", Offset: offset, Live: true} }
	noted := func(offset uint64) push.Cursor { return push.Cursor{Platform: "iOS", Offset: offset} }
	h.wantCursors("bob", true, live(0), noted(0))
	h.wantCursors("nobody", false)
	h.send(chat.Direct, "alice", "one", "bob")
	if line := p.frame(); line == "{}" {
		t.Fatal("pinged without a probe")
	}
	h.Probe(h.app.ID, "bob", 1)
	h.Probe(h.app.ID, "bob", 1)
	if line := p.frame(); line != "{}" {
		t.Fatalf("got %s, want a ping", line)
	}
	// What comes behind a ping is acknowledged by the next one, which waits for the
	// pong.
	h.send(chat.Direct, "alice", "two", "bob")
	if line := p.frame(); line == "{}" {
		t.Fatal("a second ping while one is under way")
	}
	h.Probe(h.app.ID, "bob", 1) // that is what the ping under way is for
	h.Probe(h.app.ID, "bob", 2)
	h.wantCursors("bob", true, live(0), noted(0))
	p.send("{}")
	if line := p.frame(); line != "{}" {
		t.Fatalf("got %s, want a ping", line)
	}
	h.wantCursors("bob", true, live(1), noted(1))
	p.send("{}")
	h.wantCursors("bob", true, live(2), noted(2))
	// Nothing is left to ask for.
	h.Probe(h.app.ID, "bob", 2)
	h.Probe(h.app.ID, "nobody", 2)
	h.send(chat.Direct, "alice", "three", "bob")
	if line := p.frame(); line == "{}" {
		t.Error("pinged though everything was acknowledged")
	}
	// A pong that was not asked for is still one too many.
	p.send("{}")
	if code := p.closed(); code != 3501 {
		t.Errorf("closed with %d", code)
	}
	// The cursor outlives the connection, in memory until it is in the store.
	if err := h.cursors.flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	h.wantCursors("bob", false)
	if list, err := h.store.Devices(context.Background(), h.app.ID, "bob"); err != nil || len(list) != 1 || list[0].Platform != "iOS" || list[0].Offset != 2 {
		t.Errorf("stored are %+v, %v", list, err)
	}
}

// A probe that comes while a session has not been given the entry yet has it given
// first: the pong is then about it too.
func TestProbeOfASessionThatMissedAWake(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *Options) { o.PingInterval = time.Hour })
	p, _ := h.connect("bob", "")
	// Straight into the store, so that nobody wakes the session.
	err := h.store.Append(context.Background(), &store.Append{
		Message: &chat.Message{App: h.app.ID, ChannelType: chat.System, Flags: chat.Missed, From: "news", Type: "app:text", Content: "quiet"},
		Targets: []string{"bob"},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Probe(h.app.ID, "bob", 1)
	if line := p.frame(); line == "{}" {
		t.Fatal("the ping came before the entry")
	}
	if line := p.frame(); line != "{}" {
		t.Fatalf("got %s, want a ping", line)
	}
	p.send("{}")
	h.wantCursors("bob", true, push.Cursor{Offset: 1, Live: true})
}
