package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
)

// event reads until the next publication of an event, and gives its data.
func (p *peer) event(name string) string {
	p.t.Helper()
	line := p.until(`"data":{"event":"` + name + `"`)
	_, data, _ := strings.Cut(line, `"data":`)
	if i := strings.LastIndex(data, `,"offset":`); i >= 0 {
		return data[:i]
	}
	return data
}

func (p *peer) wantEvent(name, want string) {
	p.t.Helper()
	if got := p.event(name); got != want {
		p.t.Errorf("got  %s\nwant %s", got, want)
	}
}

type readAnswer struct {
	ReadAt int64
	Unread struct{ Channel, Total int }
}

func (p *peer) read(data string, channel, total int) readAnswer {
	p.t.Helper()
	raw := p.done("message.read", data)
	var a readAnswer
	if err := json.Unmarshal([]byte(raw), &a); err != nil {
		p.t.Fatal(err)
	}
	if a.Unread.Channel != channel || a.Unread.Total != total || a.ReadAt == 0 {
		p.t.Errorf("%s: %s, want %d and %d", data, raw, channel, total)
	}
	return a
}

// events counts the events of a kind in a user's timeline.
func (h *house) events(user, name string) int {
	h.t.Helper()
	return strings.Count(h.recovered(user), `"event":"`+name+`"`)
}

const wanted = `,"needReadReceipt":true`

func TestReadUpTo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	alice, _ := h.connect("alice", "")
	tablet, _ := h.connect("alice", "")
	bob, _ := h.connect("bob", "")
	phone, _ := h.connect("bob", "")

	first := alice.say("bob", "1", wanted)
	alice.say("bob", "2", "")
	third := alice.say("bob", "3", wanted)
	alice.say("bob", "4", wanted)
	h.send(chat.System, "shop", "sale", "bob")
	upTo := func(at string) string { return `{"channelType":"direct","channelId":"alice","upTo":"` + at + `"}` }
	receipt := func(uid, by, at string) string {
		return `{"event":"receipt","messageUID":"` + uid + `","channelType":"direct","channelId":"` + by +
			`","readCount":1,"unreadCount":0,"totalCount":1,"users":[{"userId":"` + by + `","readAt":` + at + `}]}`
	}

	a := bob.read(upTo(third), 1, 2)
	for _, p := range []*peer{bob, phone} {
		p.wantEvent("read", fmt.Sprintf(`{"event":"read","channelType":"direct","channelId":"alice","upTo":"%s","readAt":%d}`, third, a.ReadAt))
	}
	// The sender's devices get one receipt for each message that wanted one, and
	// nothing of the rest.
	for _, p := range []*peer{alice, tablet} {
		got := map[string]bool{}
		for range 2 {
			data := p.event("receipt")
			for _, uid := range []string{first, third} {
				if _, at, ok := strings.Cut(data, `"readAt":`); ok && data == receipt(uid, "bob", strings.TrimRight(at, "}]")) {
					got[uid] = true
				}
			}
		}
		if len(got) != 2 {
			t.Errorf("receipts of %v", got)
		}
	}
	// Once more, less, and more than there is.
	bob.read(upTo(third), 1, 2)
	bob.read(upTo(first), 1, 2)
	bob.read(`{"channelType":"direct","channelId":"alice","upTo":9999999999999}`, 0, 1)
	bob.read(`{"channelType":"direct","channelId":"alice","upTo":"9999999999999"}`, 0, 1)
	last := alice.say("bob", "5", "")
	bob.read(`{"channelType":"direct","channelId":"alice","upTo":0}`, 1, 2)
	bob.read(upTo(last), 0, 1)
	bob.read(`{"channelType":"system","channelId":"shop","upTo":9999999999999}`, 0, 0)
	if n := h.events("alice", "receipt"); n != 3 {
		t.Errorf("%d receipts, want 3", n)
	}
	if n := h.events("bob", "read"); n != 4 {
		t.Errorf("%d events to the reader, want 4", n)
	}
	if n := h.events("bob", "receipt") + h.events("alice", "read") + h.events("shop", "receipt"); n != 0 {
		t.Errorf("%d events for others", n)
	}

	for _, c := range []struct {
		data string
		code uint32
		text string
	}{
		{`{}`, 107, "channelType: is required"},
		{`{"channelType":"open","channelId":"hall","upTo":1}`, 107, `channelType: one of direct, system, got "open"`},
		{`{"channelType":"group","channelId":"g","upTo":1}`, 108, "there are no channels of type group yet"},
		{`{"channelType":"direct","upTo":1}`, 107, "channelId: is required"},
		{`{"channelType":"direct","channelId":"alice"}`, 107, "messageUIDs: is required, or upTo"},
		{`{"channelType":"direct","channelId":"alice","upTo":"soon"}`, 107, "upTo: must be a messageUID or a time in Unix milliseconds"},
		{`{"channelType":"direct","channelId":"alice","upTo":1,"messageUIDs":["` + first + `"]}`, 107, "upTo: not together with messageUIDs"},
		{`{"channelType":"direct","channelId":"alice","messageUIDs":["x"]}`, 107, "messageUIDs[0]: not a message UID"},
		{`{"channelType":"direct","channelId":"carol","messageUIDs":["` + first + `"]}`, 404, "messageUIDs[0]: no such message, or not kept any more"},
		{`{"channelType":"direct","channelId":"alice","messageUIDs":["` + strings.Repeat(first+`","`, 100) + first + `"]}`, 107, "messageUIDs: at most 100 items, got 101"},
	} {
		bob.refused("message.read", c.data, c.code, c.text)
	}
	// Neither the sender nor a stranger has received it.
	for _, p := range []*peer{alice, h.peer("carol")} {
		p.refused("message.read", `{"channelType":"direct","channelId":"bob","messageUIDs":["`+first+`"]}`, 404, "messageUIDs[0]: no such message, or not kept any more")
	}
}

func (h *house) peer(user string) *peer {
	p, _ := h.connect(user, "")
	return p
}

func TestReadSome(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	alice, bob, phone := h.peer("alice"), h.peer("bob"), h.peer("bob")
	var uids []string
	for i := range 5 {
		uids = append(uids, alice.say("bob", fmt.Sprint(i), wanted))
	}
	data := func(uids ...string) string {
		return `{"channelType":"direct","channelId":"alice","messageUIDs":["` + strings.Join(uids, `","`) + `"]}`
	}
	a := bob.read(data(uids[3], uids[1], uids[3]), 3, 3)
	phone.wantEvent("read", fmt.Sprintf(`{"event":"read","channelType":"direct","channelId":"alice","messageUIDs":["%s","%s"],"readAt":%d}`, uids[3], uids[1], a.ReadAt))
	bob.read(data(uids[1]), 3, 3)
	a = bob.read(data(uids[1], uids[0]), 2, 2)
	phone.wantEvent("read", fmt.Sprintf(`{"event":"read","channelType":"direct","channelId":"alice","messageUIDs":["%s"],"readAt":%d}`, uids[0], a.ReadAt))
	// What was read on its own gives no second receipt.
	bob.read(`{"channelType":"direct","channelId":"alice","upTo":"`+uids[4]+`"}`, 0, 0)
	bob.read(data(uids...), 0, 0)
	if n := h.events("alice", "receipt"); n != 5 {
		t.Errorf("%d receipts, want 5", n)
	}
	if n := h.events("bob", "read"); n != 3 {
		t.Errorf("%d events to the reader, want 3", n)
	}
}

func TestReceiptsOnlyWhereWanted(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	alice, bob := h.peer("alice"), h.peer("bob")
	var uids []string
	for _, rest := range []string{``, `,"needReadReceipt":true,"shouldPersist":false`, wanted} {
		uids = append(uids, alice.say("bob", "x", rest))
	}
	uids = append(uids, bob.say("bob", "to myself", wanted))
	gone := alice.say("bob", "oops", wanted)
	alice.done("message.recall", `{"messageUID":"`+gone+`"}`)
	m := &chat.Message{ChannelType: chat.System, From: "alice", Type: "app:t", Content: "x", Persist: true, NeedReadReceipt: true}
	h.post(m, "bob")
	bob.read(`{"channelType":"direct","channelId":"alice","upTo":9999999999999}`, 0, 1)
	bob.read(`{"channelType":"direct","channelId":"alice","messageUIDs":["`+uids[0]+`","`+uids[1]+`","`+gone+`"]}`, 0, 1)
	bob.read(`{"channelType":"direct","channelId":"bob","messageUIDs":["`+uids[3]+`"]}`, 0, 1)
	bob.read(`{"channelType":"system","channelId":"alice","upTo":9999999999999}`, 0, 0)
	if n := h.events("alice", "receipt"); n != 1 {
		t.Errorf("%d receipts, want one", n)
	}
	if n := h.events("bob", "receipt"); n != 0 {
		t.Errorf("%d receipts to oneself", n)
	}
	// What was cleared away unread gives none later.
	dave := h.peer("dave")
	h.post(&chat.Message{ChannelType: chat.Direct, From: "alice", Type: "app:t", Content: "x", Persist: true, NeedReadReceipt: true}, "dave")
	dave.done("message.delete", `{"channelType":"direct","channelId":"alice","upTo":9999999999999}`)
	h.post(&chat.Message{ChannelType: chat.Direct, From: "alice", Type: "app:t", Content: "y", Persist: true}, "dave")
	dave.read(`{"channelType":"direct","channelId":"alice","upTo":9999999999999}`, 0, 0)
	if n := h.events("alice", "receipt"); n != 1 {
		t.Errorf("%d receipts, want one", n)
	}
	// An app without history has receipts as long as messages wait.
	h.set("history.enabled", "false")
	alice.say("bob", "later", wanted)
	bob.read(`{"channelType":"direct","channelId":"alice","upTo":9999999999999}`, 0, 0)
	if n := h.events("alice", "receipt"); n != 2 {
		t.Errorf("%d receipts, want two", n)
	}
}

func TestReaders(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	alice, bob := h.peer("alice"), h.peer("bob")
	uid := alice.say("bob", "x", wanted)
	plain := alice.say("bob", "x", "")
	named := `{"messageUID":"` + uid + `"}`
	history := func(p *peer, other string) string {
		return p.done("message.history", `{"channelType":"direct","channelId":"`+other+`"}`)
	}
	if got := alice.done("message.readers", named); got != `{"readCount":0,"unreadCount":1,"totalCount":1,"read":[],"unread":["bob"]}` {
		t.Errorf("%s", got)
	}
	if raw := history(alice, "bob"); strings.Count(raw, `"receipt"`) != 1 || !strings.Contains(raw, `"receipt":{"readCount":0,"unreadCount":1,"totalCount":1}}`) {
		t.Errorf("%s", raw)
	}
	a := bob.read(`{"channelType":"direct","channelId":"alice","messageUIDs":["`+uid+`"]}`, 1, 1)
	var r struct {
		Read []struct {
			UserID string
			ReadAt int64
		}
		Unread []string
	}
	raw := alice.done("message.readers", `{"messageUID":"`+uid+`","pageSize":1}`)
	if err := json.Unmarshal([]byte(raw), &r); err != nil || len(r.Read) != 1 || r.Read[0].UserID != "bob" || len(r.Unread) != 0 ||
		!strings.HasPrefix(raw, `{"readCount":1,"unreadCount":0,"totalCount":1,`) {
		t.Errorf("%s", raw)
	}
	if d := a.ReadAt - r.Read[0].ReadAt; d < 0 {
		t.Errorf("the receipt is %d ms ahead of what was read", -d)
	}
	if raw := history(alice, "bob"); !strings.Contains(raw, `"receipt":{"readCount":1,"unreadCount":0,"totalCount":1}}`) {
		t.Errorf("%s", raw)
	}
	if raw := history(bob, "alice"); strings.Contains(raw, `"receipt"`) {
		t.Errorf("the reader is shown %s", raw)
	}
	for data, want := range map[string]struct {
		p    *peer
		code uint32
		text string
	}{
		named:                            {bob, 403, "messageUID: only its sender can do this"},
		`{"messageUID":"` + uid + `" }`:  {h.peer("carol"), 404, "messageUID: no such message, or not kept any more"},
		`{}`:                             {alice, 107, "messageUID: is required"},
		`{"messageUID":"` + plain + `"}`: {alice, 107, "messageUID: was sent without needReadReceipt"},
		`{"messageUID":"` + uid + `","pageSize":0}`:      {alice, 107, "pageSize: from 1 to 100, got 0"},
		`{"messageUID":"` + uid + `","pageToken":"abc"}`: {alice, 107, "pageToken: was not given"},
	} {
		want.p.refused("message.readers", data, want.code, want.text)
	}
	alice.done("message.recall", named)
	alice.refused("message.readers", named, 107, "messageUID: was recalled")
}

func TestDeleteForMe(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("limits.client", "0")
	alice, bob, phone := h.peer("alice"), h.peer("bob"), h.peer("bob")
	var uids []string
	for i := range 6 {
		uids = append(uids, alice.say("bob", fmt.Sprint(i), ""))
	}
	mine := bob.say("alice", "m", "")
	of := func(uids ...string) string { return `{"messageUIDs":["` + strings.Join(uids, `","`) + `"]}` }
	holds := func(p *peer, other, want string) {
		t.Helper()
		if got := strings.Join(said(p.page(`{"channelType":"direct","channelId":"`+other+`"}`).Messages), ""); got != want {
			t.Errorf("the history with %s is %q, want %q", other, got, want)
		}
	}
	at := bob.done("message.delete", of(uids[2], uids[4], uids[2]))
	phone.wantEvent("delete", `{"event":"delete","channelType":"direct","channelId":"alice","messageUIDs":["`+uids[2]+`","`+uids[4]+`"],`+at[1:])
	bob.done("message.delete", `{"messageUID":"`+mine+`"}`)
	if line := phone.event("delete"); !strings.Contains(line, `"messageUIDs":["`+mine+`"]`) {
		t.Errorf("%s", line)
	}
	bob.done("message.delete", of(uids[2])) // changes nothing
	alice.done("message.delete", of(uids[0]))
	holds(bob, "alice", "5310")
	holds(alice, "bob", "m54321")
	// Pages go past what is not there.
	page := bob.page(`{"channelType":"direct","channelId":"alice","limit":2}`)
	if got := said(page.Messages); strings.Join(got, "") != "53" || !page.More {
		t.Errorf("%v, more %t", got, page.More)
	}
	if got := said(bob.page(`{"channelType":"direct","channelId":"alice","before":"` + page.Next + `"}`).Messages); strings.Join(got, "") != "10" {
		t.Errorf("%v", got)
	}
	bob.read(`{"channelType":"direct","channelId":"alice","upTo":0}`, 4, 4)
	if n := h.events("bob", "delete"); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
	room := h.send(chat.Open, "bob", "x", "hall")[0].String()
	other := h.send(chat.Direct, "carol", "x", "bob")[0].String()
	for _, c := range []struct {
		data string
		code uint32
		text string
	}{
		{`{}`, 107, "messageUIDs: is required, or upTo"},
		{of("x"), 107, "messageUIDs[0]: not a message UID"},
		{of(uids[0], room), 107, "messageUIDs[1]: is of an open channel, where a message is there for all"},
		{of(uids[0], other), 107, "messageUIDs[1]: is of another channel than the first"},
		{`{"channelType":"open","channelId":"hall","upTo":1}`, 107, `channelType: one of direct, system, got "open"`},
		{`{"channelType":"direct","upTo":1}`, 107, "channelId: is required"},
		{`{"channelType":"direct","channelId":"alice","upTo":1,"messageUIDs":["` + uids[0] + `"]}`, 107, "upTo: not together with messageUIDs"},
	} {
		bob.refused("message.delete", c.data, c.code, c.text)
	}
	alice.refused("message.delete", of(uids[0], other), 404, "messageUIDs[1]: no such message, or not kept any more")

	// Up to a place: for the caller alone.
	at = bob.done("message.delete", `{"channelType":"direct","channelId":"alice","upTo":"`+uids[3]+`"}`)
	phone.wantEvent("clear", strings.Replace(`{"event":"clear","channelType":"direct","channelId":"alice","upTo":"`+uids[3]+`",`+at[1:], "deletedAt", "clearedAt", 1))
	holds(bob, "alice", "5")
	holds(alice, "bob", "m54321")
	bob.read(`{"channelType":"direct","channelId":"alice","upTo":0}`, 1, 2)
}

func TestRecallCountsNoMore(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	alice, bob := h.peer("alice"), h.peer("bob")
	alice.say("bob", "stays", "")
	uid := alice.say("bob", "oops", "")
	passing := alice.say("bob", "passing", `,"shouldPersist":false`)
	none := `{"channelType":"direct","channelId":"alice","upTo":0}`
	bob.read(none, 3, 3)
	alice.done("message.recall", `{"messageUID":"`+uid+`"}`)
	bob.read(none, 2, 2)
	alice.done("message.recall", `{"messageUID":"`+passing+`","isDelete":true}`)
	bob.read(none, 1, 1)
}

func TestClear(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.send(chat.Direct, "alice", "a", "bob")
	h.send(chat.Open, "alice", "a", "hall")
	bob := h.peer("bob")
	bob.send(`{"subscribe":{"channel":"open:hall"},"id":4}`)
	bob.line()
	for _, q := range []*courier.OwnChannel{
		{User: "bob", Type: chat.Direct, Channel: "alice"}, {User: "boss", Type: chat.Open, Channel: "hall"},
	} {
		if _, err := h.courier.Clear(t.Context(), h.app, q, chat.UID{}); err != nil {
			t.Fatal(err)
		}
		data := bob.event("clear")
		if !strings.HasPrefix(data, `{"event":"clear","channelType":"`+q.Type.String()+`","channelId":"`+q.Channel+`","upTo":"`) || !strings.Contains(data, `","clearedAt":1`) {
			t.Errorf("%s", data)
		}
		if page := bob.page(`{"channelType":"` + q.Type.String() + `","channelId":"` + q.Channel + `"}`); len(page.Messages) != 0 {
			t.Errorf("%s still holds %v", q.Channel, said(page.Messages))
		}
	}
}
