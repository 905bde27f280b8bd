package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

type listedChannel struct {
	ChannelType, ChannelID, ReadUpTo string
	Last                             *message
	Unread                           int
}

func (l *listedChannel) String() string {
	last := "-"
	if l.Last != nil {
		last = l.Last.Content
	}
	return fmt.Sprintf("%s %s %s %d", l.ChannelType, l.ChannelID, last, l.Unread)
}

type channelPage struct {
	Channels  []listedChannel
	PageToken string
	Unread    *struct{ Total int }
}

func (p *peer) channels(data string) (page channelPage) {
	p.t.Helper()
	raw := p.done("channel.list", data)
	if err := json.Unmarshal([]byte(raw), &page); err != nil {
		p.t.Fatalf("%v in %s", err, raw)
	}
	return page
}

// wantChannels compares the whole list: type, id, content of the last message and
// how many are unread.
func (p *peer) wantChannels(want ...string) {
	p.t.Helper()
	page := p.channels(`{}`)
	total := 0
	var got []string
	for i := range page.Channels {
		got = append(got, page.Channels[i].String())
		total += page.Channels[i].Unread
	}
	if strings.Join(got, "|") != strings.Join(want, "|") || page.PageToken != "" || page.Unread.Total != total {
		p.t.Errorf("got  %q, %+v\nwant %q", got, page.Unread, want)
	}
}

func (h *house) unlimited() *house {
	h.set("limits.client", "0")
	return h
}

func TestChannelList(t *testing.T) {
	t.Parallel()
	h := newHouse(t).unlimited()
	alice, bob, carol := h.peer("alice"), h.peer("bob"), h.peer("carol")
	bob.wantChannels()
	alice.say("bob", "a1", "")
	carol.say("bob", "c1", "")
	h.send(chat.System, "shop", "sale", "bob")
	last := alice.say("bob", "a2", "")
	bob.wantChannels("direct alice a2 2", "system shop sale 1", "direct carol c1 1")
	alice.wantChannels("direct bob a2 0")

	bob.read(`{"channelType":"direct","channelId":"alice","upTo":"`+last+`"}`, 0, 2)
	mine := bob.say("carol", "b1", "")
	bob.wantChannels("direct carol b1 1", "direct alice a2 0", "system shop sale 1")
	page := bob.channels(`{}`)
	c, a := page.Channels[0], page.Channels[1]
	if c.Last.MessageUID != mine || c.Last.Direction != "out" || c.Last.ChannelID != "carol" || c.ReadUpTo != "" {
		t.Errorf("%+v %+v", c, c.Last)
	}
	if a.Last.MessageUID != last || a.Last.Direction != "in" || a.Last.FromUserID != "alice" || a.ReadUpTo != last {
		t.Errorf("%+v %+v", a, a.Last)
	}

	// Asked not to be the last one, a message moves nothing and yet counts.
	quiet := alice.say("bob", "quiet", `,"disableUpdateLastMsg":true`)
	bob.wantChannels("direct carol b1 1", "direct alice a2 1", "system shop sale 1")
	bob.read(`{"channelType":"direct","channelId":"alice","upTo":"`+quiet+`"}`, 0, 2)
	// A message that is not kept in history is the last one all the same.
	passing := alice.say("bob", "passing", `,"shouldPersist":false`)
	bob.wantChannels("direct alice passing 1", "direct carol b1 1", "system shop sale 1")

	// What it was is not always to be seen.
	bob.done("message.delete", `{"messageUID":"`+passing+`"}`)
	bob.wantChannels("direct alice a2 0", "direct carol b1 1", "system shop sale 1")
	alice.done("message.update", `{"messageUID":"`+last+`","content":"a2!"}`)
	bob.wantChannels("direct alice a2! 0", "direct carol b1 1", "system shop sale 1")
	alice.done("message.recall", `{"messageUID":"`+last+`"}`)
	if got := bob.channels(`{}`).Channels[0]; got.Last.MessageType != "RC:RcNtf" || got.Last.MessageUID != last {
		t.Errorf("%+v", got.Last)
	}
	back := alice.say("bob", "back", "")
	alice.done("message.recall", `{"messageUID":"`+back+`","disableUpdateLastMsg":true}`)
	if got := bob.channels(`{}`).Channels[0]; got.Last.MessageUID != last {
		t.Errorf("%+v", got.Last)
	}
	gone := alice.say("bob", "gone", "")
	alice.done("message.recall", `{"messageUID":"`+gone+`","isDelete":true}`)
	bob.done("message.delete", `{"messageUID":"`+last+`"}`)
	bob.wantChannels("direct alice a1 0", "direct carol b1 1", "system shop sale 1")
	bob.done("message.delete", `{"channelType":"direct","channelId":"alice","upTo":9999999999999}`)
	bob.wantChannels("direct alice - 0", "direct carol b1 1", "system shop sale 1")
	raw := bob.done("channel.get", `{"channelType":"direct","channelId":"alice"}`)
	if raw != `{"channelType":"direct","channelId":"alice","unread":0,"readUpTo":"`+quiet+`"}` {
		t.Errorf("%s", raw)
	}
	if raw := bob.done("channel.get", `{"channelType":"direct","channelId":"stranger"}`); raw != `{"channelType":"direct","channelId":"stranger","unread":0}` {
		t.Errorf("%s", raw)
	}
	// Of what is in history the notice is the newest on the other side.
	if got := alice.channels(`{}`).Channels[0]; got.Last.MessageUID != last {
		t.Errorf("%+v", got.Last)
	}

	for data, text := range map[string]string{
		`{"pageSize":0}`:     "pageSize: from 1 to 100, got 0",
		`{"pageSize":101}`:   "pageSize: from 1 to 100, got 101",
		`{"order":2}`:        "order: one of 0, 1, got 2",
		`{"pageToken":"xy"}`: "pageToken: was not given",
	} {
		bob.refused("channel.list", data, 107, text)
	}
	for _, method := range []string{"channel.get", "channel.remove"} {
		bob.refused(method, `{}`, 107, "channelType: is required")
		bob.refused(method, `{"channelType":"direct"}`, 107, "channelId: is required")
		bob.refused(method, `{"channelType":"open","channelId":"hall"}`, 107, `channelType: one of direct, group, system, got "open"`)
	}
}

// TestChannelPages pages through a list that moves: what did not change is seen
// once.
func TestChannelPages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	from := func(i int) string { return fmt.Sprintf("u%02d", i) }
	for i := range 20 {
		h.send(chat.Direct, from(i), "x", "bob")
	}
	bob := h.peer("bob")
	for _, order := range []int{0, 1} {
		var got []string
		token := ""
		for n := 0; ; n++ {
			page := bob.channels(fmt.Sprintf(`{"pageSize":7,"order":%d,"pageToken":%q}`, order, token))
			if (page.Unread != nil) != (token == "") {
				t.Errorf("page %d has the total %v", n, page.Unread)
			}
			for _, c := range page.Channels {
				got = append(got, c.ChannelID)
			}
			if token = page.PageToken; token == "" {
				break
			}
			// The first page's first and a channel of the next one change, and one
			// more comes.
			h.send(chat.Direct, got[0], "again", "bob")
			h.send(chat.Direct, fmt.Sprintf("new%d-%d", order, n), "x", "bob")
		}
		seen := map[string]int{}
		for _, id := range got {
			seen[id]++
		}
		for i := range 20 {
			if n := seen[from(i)]; n != 1 && from(i) != got[0] {
				t.Errorf("order %d: %s is seen %d times in %v", order, from(i), n, got)
			}
		}
	}
}

func TestChannelRemove(t *testing.T) {
	t.Parallel()
	h := newHouse(t).unlimited()
	alice, bob, phone := h.peer("alice"), h.peer("bob"), h.peer("bob")
	first := alice.say("bob", "1", "")
	h.send(chat.System, "shop", "sale", "bob")
	const named = `{"channelType":"direct","channelId":"alice"}`
	at := bob.done("channel.remove", named)
	if !strings.HasPrefix(at, `{"removedAt":1`) {
		t.Errorf("%s", at)
	}
	phone.wantTold(`{"event":"channel","channelType":"direct","channelId":"alice","removed":true,"upTo":"` + first + `"}`)
	bob.done("channel.remove", named)
	bob.done("channel.remove", `{"channelType":"direct","channelId":"nobody"}`)
	if n := h.events("bob", "channel"); n != 1 {
		t.Errorf("%d events, want one", n)
	}
	bob.wantChannels("system shop sale 1")
	// It is gone from the list, not its history; what asks not to be the last one
	// does not bring it back.
	if got := said(bob.page(named).Messages); len(got) != 1 {
		t.Errorf("history holds %v", got)
	}
	alice.wantChannels("direct bob 1 0")
	alice.say("bob", "quiet", `,"disableUpdateLastMsg":true`)
	if page := bob.channels(`{}`); len(page.Channels) != 1 {
		t.Errorf("%+v", page)
	}
	alice.say("bob", "2", "")
	bob.wantChannels("direct alice 2 2", "system shop sale 1")
}

func TestUnreadOnConnect(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	unread := func(user string) int {
		t.Helper()
		_, r := h.connect(user, "")
		var v struct{ Unread *struct{ Total int } }
		if err := json.Unmarshal(r.Connect.Data, &v); err != nil || v.Unread == nil {
			t.Fatalf("%v in %s", err, r.Connect.Data)
		}
		return v.Unread.Total
	}
	if n := unread("bob"); n != 0 {
		t.Errorf("%d unread of nothing", n)
	}
	h.send(chat.Direct, "alice", "1", "bob", "carol")
	h.send(chat.System, "shop", "2", "bob")
	h.post(&chat.Message{ChannelType: chat.System, From: "quiet", Type: "app:t", Content: "3", Persist: true, DisableUpdateLast: true}, "bob")
	h.post(&chat.Message{ChannelType: chat.Direct, From: "passing", Type: "app:t", Content: "4"}, "bob")
	h.post(&chat.Message{ChannelType: chat.Direct, From: "passing", Type: "RC:CmdMsg", Content: "{}", Persist: true}, "bob")
	h.send(chat.Direct, "bob", "to myself", "bob")
	if n := unread("bob"); n != 4 {
		t.Errorf("%d unread, want 4", n)
	}
	if n := unread("carol"); n != 1 {
		t.Errorf("%d unread, want 1", n)
	}
}

// A lateIndex has no answer in time.
type lateIndex struct {
	Courier
	t *testing.T
}

func (l lateIndex) UnreadTotal(ctx context.Context, _ *chat.App, _ string) (int, error) {
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > unreadTimeout {
		l.t.Errorf("the look ends at %v", end)
	}
	return 0, context.DeadlineExceeded
}

// TestConnectDoesNotNeedTheIndex sees that a late index keeps nobody out.
func TestConnectDoesNotNeedTheIndex(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.Attach(lateIndex{h.courier, t})
	if _, r := h.connect("bob", ""); strings.Contains(string(r.Connect.Data), "unread") || !strings.Contains(string(r.Connect.Data), `"userId":"bob"`) {
		t.Errorf("%s", r.Connect.Data)
	}
}

// What the user has set on a channel is in their list.
func TestListShowsWhatIsSet(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.send(chat.Direct, "alice", "hi", "bob")
	p, _ := h.connect("bob", "")
	p.done("channel.tag.set", `{"tagId":"w","tagName":"Work"}`)
	p.done("channel.tag.add", `{"tagId":"w","channels":[{"channelType":"direct","channelId":"alice"}]}`)
	p.done("channel.notification", `{"channelType":"direct","channelId":"alice","level":5}`)
	p.done("channel.pin", `{"channelType":"direct","channelId":"alice","pinned":true}`)
	for _, call := range []string{"channel.get", "channel.list"} {
		got := p.done(call, `{"channelType":"direct","channelId":"alice"}`)
		if !strings.Contains(got, `"pinnedAt":1`) || !strings.Contains(got, `"level":5,"tagIds":["w"]}`) {
			t.Errorf("%s: %s", call, got)
		}
	}
}
