package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
)

// openAnswer is the data of the answer to entering.
type openAnswer struct {
	CreatedAt, EnteredAt           int64
	ParticipantCount               int
	Muted, AllMuted, AllowedSender bool
	Frozen                         bool
	Metadata                       map[string]string
	Recent                         []struct{ MessageUID, Content, Direction string }
}

// enter enters an open channel with the given subscribe data.
func (p *peer) enter(channel, data string) (openAnswer, *errorReply) {
	p.t.Helper()
	if data == "" {
		data = "{}"
	}
	p.send(fmt.Sprintf(`{"subscribe":{"channel":"open:%s","data":%s},"id":77}`, channel, data))
	for {
		r := p.reply()
		switch {
		case r.Error != nil:
			return openAnswer{}, r.Error
		case r.Subscribe != nil:
			var a openAnswer
			if err := json.Unmarshal(r.Subscribe.Data, &a); err != nil {
				p.t.Fatal(err)
			}
			return a, nil
		}
	}
}

// put is the next unsubscribe push.
func (p *peer) put(channel string) int {
	p.t.Helper()
	for {
		if r := p.reply(); r.Push != nil && r.Push.Unsubscribe != nil {
			if r.Push.Channel != "open:"+channel {
				p.t.Fatalf("put out of %s, want %s", r.Push.Channel, channel)
			}
			return r.Push.Unsubscribe.Code
		}
	}
}

func (h *house) changeOpen(id string, f func(*chat.OpenChannel)) {
	h.t.Helper()
	if _, err := h.dir.ChangeOpenChannel(h.t.Context(), h.app, id, true, func(c *chat.OpenChannel) error { f(c); return nil }); err != nil {
		h.t.Fatal(err)
	}
}

func TestEnteringTells(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	until := time.Now().Add(time.Hour).UnixMilli()
	h.changeOpen("c", func(c *chat.OpenChannel) {
		c.Frozen = true
		c.Muted["bob"], c.Muted["eve"] = chat.Restriction{Until: until}, chat.Restriction{Until: 1}
		c.Allowed["carol"] = 1
		c.Pairs["k"] = chat.OpenPair{Value: "v\"", Owner: "alice"}
	})
	h.changeOpen("", func(c *chat.OpenChannel) { c.Muted["carol"] = chat.Restriction{Until: until} })
	born := func() int64 {
		c, err := h.dir.OpenChannel(t.Context(), h.app.ID, "c")
		if err != nil {
			t.Fatal(err)
		}
		return c.CreatedAt
	}()
	for i, tt := range []struct {
		user                     string
		muted, allMuted, allowed bool
	}{{"bob", true, false, false}, {"eve", false, false, false}, {"carol", false, true, true}} {
		p, _ := h.connect(tt.user, "")
		a, refused := p.enter("c", "")
		if refused != nil || a.CreatedAt != born || a.EnteredAt < born || a.ParticipantCount != i+1 || !a.Frozen || a.Metadata["k"] != "v\"" ||
			a.Muted != tt.muted || a.AllMuted != tt.allMuted || a.AllowedSender != tt.allowed {
			t.Errorf("%s is told %+v, %v", tt.user, a, refused)
		}
	}
}

func TestRecentOnEntering(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("limits.open", "0")
	h.set("open.intake", "false")
	for i := range 60 {
		h.send(chat.Open, "bob", fmt.Sprint(i), "c")
	}
	h.post(&chat.Message{ChannelType: chat.Open, From: "alice", Type: "app:other", Content: "other", Persist: true}, "c")
	h.post(&chat.Message{ChannelType: chat.Open, From: "alice", Type: "app:text", Content: "not kept"}, "c")
	p, _ := h.connect("bob", "")
	contents := func(a openAnswer) (list []string) {
		for _, m := range a.Recent {
			list = append(list, m.Content)
		}
		return list
	}
	a, _ := p.enter("c", `{"recent":3}`)
	if got := strings.Join(contents(a), " "); got != "other 59 58" || a.Recent[1].Direction != "out" {
		t.Errorf("recent are %q", got)
	}
	leave := func() {
		p.send(`{"unsubscribe":{"channel":"open:c"},"id":78}`)
		for p.reply().Unsubscribe == nil {
		}
	}
	leave()
	if a, _ = p.enter("c", `{"recent":50,"messageTypes":["app:text"]}`); len(a.Recent) != 50 || a.Recent[49].Content != "10" {
		t.Errorf("recent are %q", contents(a))
	}
	leave()
	if a, _ = p.enter("c", ""); a.Recent != nil {
		t.Errorf("not asked for: %q", contents(a))
	}
	// A new life shows nothing of the old one.
	if ended, err := h.courier.EndOpenChannel(t.Context(), h.app.ID, "c", nil); !ended || err != nil {
		t.Fatal(ended, err)
	}
	if code := p.put("c"); code != 2102 {
		t.Errorf("put out with %d", code)
	}
	time.Sleep(time.Millisecond) // of another millisecond than the last message
	if a, _ = p.enter("c", `{"recent":50}`); len(a.Recent) != 0 {
		t.Errorf("a new life begins with %q", contents(a))
	}
	h.send(chat.Open, "alice", "new", "c")
	if got := p.said(); got.Pub.Data.Message.Content != "new" {
		t.Errorf("%+v", got.Pub.Data)
	}
	if _, refused := p.enter("d", `{"recent":51}`); refused == nil || refused.Code != 107 || !strings.Contains(refused.Message, "data.recent") {
		t.Errorf("%+v", refused)
	}
}

// Entering one open channel leaves the other, unless the app says otherwise.
func TestOneOpenChannelAtATime(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	phone, _ := h.connect("bob", "")
	tab, _ := h.connect("bob", "")
	phone.enter("a", "")
	tab.enter("a", "")
	if _, refused := tab.enter("b", ""); refused != nil {
		t.Fatal(refused)
	}
	if code := phone.put("a"); code != 2100 {
		t.Errorf("the phone is put out with %d", code)
	}
	h.send(chat.Open, "alice", "in a", "a")
	h.send(chat.Open, "alice", "in b", "b")
	if got := tab.said(); got.Channel != "open:b" {
		t.Errorf("the tab got %+v", got)
	}
	// The seat is free again.
	if _, refused := phone.enter("a", ""); refused != nil {
		t.Error(refused)
	}
	if code := tab.put("b"); code != 2100 {
		t.Errorf("the tab is put out with %d", code)
	}
	h.set("open.single", "false")
	if _, refused := phone.enter("b", ""); refused != nil {
		t.Error(refused)
	}
	if n, m := h.rooms.Count(room.Key{App: h.app.ID, Channel: "a"}), h.rooms.Count(room.Key{App: h.app.ID, Channel: "b"}); n != 1 || m != 1 {
		t.Errorf("%d in a and %d in b", n, m)
	}
}

func TestStrictOpenChannels(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("open.strict", "true")
	p, _ := h.connect("bob", "")
	if _, refused := p.enter("c", ""); refused == nil || refused.Code != 23410 {
		t.Errorf("entering: %+v", refused)
	}
	p.send(`{"rpc":{"method":"message.send","data":{"channelType":"open","channelId":"c","messageType":"app:t","content":"x"}},"id":3}`)
	if r := p.reply(); r.Error == nil || r.Error.Code != 23410 {
		t.Errorf("writing: %+v", r)
	}
	h.changeOpen("c", func(*chat.OpenChannel) {})
	if _, refused := p.enter("c", ""); refused != nil {
		t.Errorf("entering: %+v", refused)
	}
}

// What holds in an open channel holds for what clients write.
func TestWhoMayWrite(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("limits.client", "0")
	until := chat.Restriction{Until: time.Now().Add(time.Hour).UnixMilli()}
	past := chat.Restriction{Until: 1}
	tests := []struct {
		name string
		here func(*chat.OpenChannel)
		all  func(*chat.OpenChannel)
		code uint32
	}{
		{"muted", func(c *chat.OpenChannel) { c.Muted["bob"] = until }, nil, 23408},
		{"muted before", func(c *chat.OpenChannel) { c.Muted["bob"] = past }, nil, 0},
		{"muted and allowed", func(c *chat.OpenChannel) { c.Muted["bob"], c.Allowed["bob"] = until, 1 }, nil, 0},
		{"banned", func(c *chat.OpenChannel) { c.Banned["bob"] = until }, nil, 23409},
		{"banned and allowed", func(c *chat.OpenChannel) { c.Banned["bob"], c.Allowed["bob"] = until, 1 }, nil, 23409},
		{"frozen", func(c *chat.OpenChannel) { c.Frozen = true }, nil, 23408},
		{"frozen and allowed", func(c *chat.OpenChannel) { c.Frozen, c.Allowed["bob"] = true, 1 }, nil, 0},
		{"muted everywhere", nil, func(c *chat.OpenChannel) { c.Muted["bob"] = until }, 23408},
		{"others are muted", func(c *chat.OpenChannel) { c.Muted["eve"] = until }, func(c *chat.OpenChannel) { delete(c.Muted, "bob") }, 0},
	}
	p, _ := h.connect("bob", "")
	for i, tt := range tests {
		id := fmt.Sprint("c", i)
		if tt.here != nil {
			h.changeOpen(id, tt.here)
		}
		if tt.all != nil {
			h.changeOpen("", tt.all)
		}
		p.send(fmt.Sprintf(`{"rpc":{"method":"message.send","data":{"channelType":"open","channelId":"%s","messageType":"app:t","content":"x"}},"id":3}`, id))
		code := uint32(0)
		if r := p.reply(); r.Error != nil {
			code = r.Error.Code
		}
		if code != tt.code {
			t.Errorf("%s: %d, want %d", tt.name, code, tt.code)
		}
		h.send(chat.Open, "bob", "the backend may", id)
	}
	h.changeOpen("c3", func(*chat.OpenChannel) {})
	if _, refused := p.enter("c3", ""); refused == nil || refused.Code != 23409 {
		t.Errorf("entering where banned: %+v", refused)
	}
}

// An open channel ends by itself, and everybody in it is told.
func TestOpenChannelEnds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p, _ := h.connect("bob", "")
	q, _ := h.connect("carol", "")
	p.enter("c", "")
	q.enter("c", "")
	h.send(chat.Open, "alice", "last words", "c")
	if ended, err := h.courier.EndOpenChannel(context.Background(), h.app.ID, "c", nil); !ended || err != nil {
		t.Fatal(ended, err)
	}
	for _, peer := range []*peer{p, q} {
		if got := peer.said(); got.Pub.Data.Message.Content != "last words" {
			t.Errorf("%+v", got.Pub.Data)
		}
		if got := peer.said(); got.Pub.Data.Event != "destroyed" {
			t.Errorf("%+v", got.Pub.Data)
		}
		if code := peer.put("c"); code != 2102 {
			t.Errorf("put out with %d", code)
		}
	}
	if ended, err := h.courier.EndOpenChannel(context.Background(), h.app.ID, "c", nil); ended || err != nil {
		t.Error(ended, err)
	}
}

// Those in a channel are told what it did not take.
func TestShedIsTold(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("limits.open", "0")
	h.set("limits.client", "0")
	h.set("open.intake.window", "10s")
	h.set("open.intake.shared", "1")
	h.set("open.intake.high", "2")
	h.changeOpen("", func(c *chat.OpenChannel) { c.LowTypes["app:like"] = 1; c.PriorityTypes["app:gift"] = 1 })
	h.changeOpen("c", func(c *chat.OpenChannel) { c.Priority["host"] = 1 })
	in, _ := h.connect("carol", "")
	in.enter("c", "")
	p, _ := h.connect("bob", "")
	send := func(kind string, want bool) {
		t.Helper()
		p.send(fmt.Sprintf(`{"rpc":{"method":"message.send","data":{"channelType":"open","channelId":"c","messageType":"%s","content":"x"}},"id":9}`, kind))
		var a struct{ MessageUID, Shed string }
		if r := p.reply(); r.RPC == nil || json.Unmarshal(r.RPC.Data, &a) != nil {
			t.Fatalf("%+v", r)
		}
		if (a.MessageUID != "") != want || (a.Shed == "intake") == want {
			t.Errorf("%s: %+v", kind, a)
		}
	}
	send("app:like", true)
	send("app:like", false)
	send("app:text", true)
	send("app:text", true)
	send("app:text", false)
	send("app:gift", true) // of what is for allowlisted ones alone
	host := &chat.Message{ChannelType: chat.Open, From: "host", Type: "app:like", Content: "x", Persist: true}
	if uids := h.post(host, "c"); len(uids) != 1 || host.Priority != chat.PriorityAllowlisted {
		t.Errorf("a priority sender's message: %v, %v", uids, host.Priority)
	}
	for seen := 0; seen < 5; {
		if got := in.said(); got.Pub.Data.Event == "message" {
			seen++
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { h.rooms.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	for {
		line := in.line()
		if strings.Contains(line, `"shed"`) {
			if !strings.Contains(line, `"event":"shed","high":1,"low":1,`) {
				t.Errorf("told %s", line)
			}
			break
		}
	}
}

// Who enters while the channel ends is in the new life, or taken out with the old
// one, and never taken out of the new.
func TestEnteringAtTheEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t, patient)
	p, _ := h.connect("bob", "")
	key := room.Key{App: h.app.ID, Channel: "c"}
	for range 150 {
		h.changeOpen("c", func(*chat.OpenChannel) {})
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := h.courier.EndOpenChannel(context.Background(), h.app.ID, "c", nil); err != nil {
				t.Error(err)
			}
		})
		a, refused := p.enter("c", "")
		wg.Wait()
		if refused != nil {
			t.Fatal(refused)
		}
		c, err := h.dir.OpenChannel(t.Context(), h.app.ID, "c")
		if err != nil {
			t.Fatal(err)
		}
		if in := h.rooms.Count(key); in != 0 && c == nil || in != 1 && c != nil && c.CreatedAt == a.CreatedAt {
			t.Fatalf("entered the life of %d; it is %+v, and %d are in the room", a.CreatedAt, c, in)
		}
		p.raw(`{"unsubscribe":{"channel":"open:c"},"id":9}`)
	}
}
